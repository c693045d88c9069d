"""Overlays: sheets of slices with contours."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from equivox.reports.overlay import (
    LARGEST_SIDE,
    MOST_SLICES,
    OverlayCase,
    ct_window_table,
    grey_levels,
    make_sheet,
    outline,
    window_of,
)


def _case(shape=(20, 16, 6), spacing=(1.0, 2.0, 5.0), orientation: str | None = "LPS", **changes) -> OverlayCase:
    labels = np.zeros(shape, np.int64)
    labels[tuple(slice(n // 3, max(n // 3 + 1, 2 * n // 3)) for n in shape)] = 1
    image = np.random.default_rng(0).normal(0, 1, shape)
    whole = {
        "case_id": "a",
        "rank": "worst",
        "dice": 0.5,
        "image": image,
        "reference": labels,
        "prediction": np.roll(labels, 1, 0),
        "spacing_mm": spacing,
        "modality": "MR",
        "orientation": orientation,
    }
    return OverlayCase(**(whole | changes))


def _picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("L"))


def test_outline_of_one_voxel_is_its_square() -> None:
    mask = np.zeros((3, 3), bool)
    mask[1, 2] = True
    # One to the right, two down.
    assert outline(mask) == "M1 2h1v1h-1z"


def test_outline_of_a_ring_has_two_loops() -> None:
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    # The hole is walked the other way round.
    assert outline(mask) == "M0 0h3v3h-3zM2 1v1h-1v-1z" or outline(mask).count("M") == 2
    assert outline(mask).startswith("M0 0h3v3h-3z")


def test_voxels_that_touch_at_a_corner_have_outlines_of_their_own() -> None:
    assert outline(np.eye(2, dtype=bool)).count("M") == 2


def test_outline_of_nothing_is_empty() -> None:
    assert outline(np.zeros((4, 5), bool)) == ""


def test_outline_encloses_exactly_the_mask() -> None:
    from matplotlib.path import Path as Polygon

    mask = np.random.default_rng(3).random((9, 7)) > 0.5
    centres = np.stack(np.meshgrid(np.arange(9) + 0.5, np.arange(7) + 0.5, indexing="ij"), -1).reshape(-1, 2)
    count = np.zeros(len(centres), int)
    for loop in outline(mask).split("z")[:-1]:
        count += Polygon(_corners(loop)).contains_points(centres)
    # Even-odd: a hole lies in two loops.
    np.testing.assert_array_equal((count % 2 == 1).reshape(9, 7), mask)


def _corners(loop: str) -> list[tuple[float, float]]:
    head, *steps = loop[1:].replace("h", "|h").replace("v", "|v").split("|")
    x, y = map(float, head.split(" "))
    corners = [(x, y)]
    for step in steps:
        x, y = (x + float(step[1:]), y) if step[0] == "h" else (x, y + float(step[1:]))
        corners.append((x, y))
    return corners


def test_slices_run_across_the_thick_axis_and_voxels_keep_their_shape() -> None:
    sheet = make_sheet(_case())
    assert sheet.axis == "k"
    assert (sheet.voxel_width, sheet.voxel_height) == (1.0, 2.0)
    thick_i = make_sheet(_case(shape=(6, 16, 20), spacing=(5.0, 1.0, 2.0)))
    assert thick_i.axis == "i"
    assert (thick_i.voxel_width, thick_i.voxel_height) == (1.0, 2.0)


def test_nearly_cubic_voxels_are_sliced_across_the_body() -> None:
    assert make_sheet(_case(shape=(9, 10, 11), spacing=(1.0, 1.1, 1.2), orientation="SLP")).axis == "i"


@pytest.mark.parametrize("codes", ["LPS", "RAS", "RPI", "PLS", "ARS"])
def test_patients_right_is_on_the_left_and_anterior_on_top_whatever_the_file_order(codes) -> None:
    # A bright spot in the right anterior corner of the patient must come out in the upper left.
    index = [0, 0, 3]
    for axis, code in enumerate(codes[:2]):
        # The axis grows towards `code`: the right (or anterior) end is its last voxel when it grows that way.
        index[axis] = -1 if code in "RA" else 0
    image = np.zeros((16, 16, 6))
    image[tuple(index)] = 100.0
    image[8, 8, :] = 50.0
    labels = np.ones((16, 16, 6), np.int64)
    sheet = make_sheet(
        _case(image=image, reference=labels, prediction=labels, spacing=(1.0, 1.0, 5.0), orientation=codes)
    )
    assert sheet.sides == ("R", "L", "A", "P")
    picture = _picture(sheet.image_uri)
    left, top = round(sheet.slices[3].left), round(sheet.slices[3].top)
    shown = picture[top : top + 16, left : left + 16]
    assert np.unravel_index(shown.argmax(), shown.shape) == (0, 0)


def test_a_two_dimensional_image_is_one_slice() -> None:
    sheet = make_sheet(_case(shape=(40, 30, 1), spacing=(1.0, 1.0, 1.0), orientation=None))
    assert len(sheet.slices) == 1
    assert sheet.sides == ()
    assert sheet.axis_length == 1


def test_a_case_with_two_empty_masks_shows_its_middle() -> None:
    empty = np.zeros((20, 16, 6), np.int64)
    sheet = make_sheet(_case(reference=empty, prediction=empty))
    assert sheet.slices
    assert all(not one.contours for one in sheet.slices)


def test_large_and_long_images_are_thinned_out_but_keep_the_largest_slice() -> None:
    labels = np.zeros((700, 520, 90), np.int64)
    labels[50:640, 40:500, 5:85] = 1
    labels[40:650, 30:510, 37] = 1
    image = np.zeros(labels.shape, np.int16)
    sheet = make_sheet(_case(image=image, reference=labels, prediction=labels, spacing=(1.0, 1.0, 2.0)))
    assert len(sheet.slices) <= MOST_SLICES
    assert sheet.slices[sheet.start].number == 38
    assert max(_picture(sheet.image_uri).shape) <= 6 * (LARGEST_SIDE + 16)


def test_the_first_slice_shown_is_where_the_reference_is_largest_however_large_false_alarms_are() -> None:
    reference, prediction = np.zeros((2, 20, 16, 6), np.int64)
    reference[5:9, 5:9, 1] = reference[5:7, 5:9, 2] = 1
    prediction[:, :, 4] = 1
    sheet = make_sheet(_case(reference=reference, prediction=prediction))
    assert sheet.slices[sheet.start].number == 2
    sheet = make_sheet(_case(reference=np.zeros_like(reference), prediction=prediction))
    assert sheet.slices[sheet.start].number == 5


def test_contours_name_their_mask_and_class() -> None:
    reference = np.zeros((20, 16, 6), np.int64)
    reference[5:9, 5:9, 2] = 3
    sheet = make_sheet(_case(reference=reference, prediction=np.zeros_like(reference)))
    found = [contour[:2] for one in sheet.slices for contour in one.contours]
    assert found == [("reference", 3)]


def test_shapes_that_differ_are_refused() -> None:
    case = _case()
    object.__setattr__(case, "image", case.image[:, :, :5])
    with pytest.raises(
        ValueError, match=r"a: expected image, reference and prediction of one shape, got \(20, 16, 5\)"
    ):
        make_sheet(case)


def test_ct_is_stored_so_that_a_window_can_be_chosen_later() -> None:
    hounsfield = np.array([[-2000.0, -160.0, 40.0, 240.0, 3000.0]])
    stored = grey_levels(hounsfield, "CT", (0.0, 1.0))
    shown = np.array(ct_window_table(-160.0, 240.0))[stored]
    np.testing.assert_allclose(shown, [[0, 0, 0.5, 1, 1]], atol=0.005)


def test_window_leaves_air_and_what_is_not_finite_out() -> None:
    image = np.zeros((30, 30, 30))
    image[10:20, 10:20, 10:20] = np.linspace(100, 200, 1000).reshape(10, 10, 10)
    image[0, 0, 0] = np.nan
    low, high = window_of(image)
    assert low == pytest.approx(101, abs=0.1)
    assert high == pytest.approx(199, abs=0.1)
    assert window_of(np.full((3, 3, 3), np.nan)) == (0.0, 1.0)
    assert window_of(np.zeros((0, 3, 3))) == (0.0, 1.0)


def test_pet_is_shown_dark_on_white() -> None:
    np.testing.assert_array_equal(grey_levels(np.array([[0.0, 4.0, 10.0]]), "PET", (0.0, 10.0)), [[255, 153, 0]])
