import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.lesions.detection import CaseDetection, detect_lesions
from equivox.metrics.lesions.options import LYMPHOMA_CRITERIA, LesionOptions
from equivox.options import load_options, parse_options, save_options

SPACING = (1.0, 2.0, 3.0)


def image_with(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros((20, 16, 7), dtype=bool)
    for box in boxes:
        mask[box] = True
    return mask


def box(i: int, j: int, k: int, *sides: int) -> tuple[slice, slice, slice]:
    return tuple(slice(start, start + side) for start, side in zip((i, j, k), sides, strict=True))


def test_counts_sizes_and_ratios_by_hand() -> None:
    # Lesions: 4 x 3 x 2 voxels (144 mm3; in a slice 4 x 6 mm: 52^.5, and 4 * 52^.5 / 6), and one voxel (6 mm3).
    # Detections: the first two slices' half of the first lesion (12 of 24 voxels: Dice 24/36), and two of nothing.
    reference = image_with(box(2, 2, 1, 4, 3, 2), box(15, 10, 4, 1, 1, 1))
    prediction = image_with(box(2, 2, 1, 2, 3, 2), box(10, 2, 1, 1, 1, 1), box(18, 2, 1, 1, 1, 3))
    case = detect_lesions(reference, prediction, SPACING)
    assert (case.tp, case.fn, case.fp, case.ignored) == (1, 1, 2, 0)
    assert (case.recall, case.precision, case.f1) == pytest.approx((1 / 2, 1 / 3, 2 / 5))
    first, second = case.lesions
    assert (first.outcome, first.voxels, first.volume_mm3, first.detections) == ("found", 24, 144.0, (1,))
    assert (first.long_axis_mm, first.short_axis_mm) == pytest.approx((52**0.5, 4 * 52**0.5 / 6))
    assert first.dice == pytest.approx(2 / 3)
    assert (second.outcome, second.detections, second.dice) == ("missed", (), None)
    assert (second.long_axis_mm, second.short_axis_mm) == pytest.approx((5**0.5, 5**0.5 / 2))
    assert [found.lesions for found in case.detections] == [(1,), (), ()]
    assert [found.outcome for found in case.detections] == ["true_positive", "false_positive", "false_positive"]


def _ratios(case: CaseDetection) -> tuple:
    return case.recall, case.precision, case.f1, case.true_negative


def test_what_is_not_defined_has_no_value() -> None:
    some, none = image_with(box(2, 2, 1, 4, 3, 2)), image_with()
    assert _ratios(detect_lesions(none, none, SPACING)) == (None, None, None, True)
    assert _ratios(detect_lesions(some, none, SPACING)) == (0.0, None, 0.0, False)
    assert _ratios(detect_lesions(none, some, SPACING)) == (None, 0.0, 0.0, False)
    assert _ratios(detect_lesions(some, some, SPACING)) == (1.0, 1.0, 1.0, False)


def test_what_is_too_small_is_removed_and_counted_on_both_sides() -> None:
    # One voxel is 6 mm3. The lesion of one voxel is detected with two: ignored. The detection of one voxel is removed.
    reference = image_with(box(2, 2, 1, 4, 3, 2), box(15, 10, 4, 1, 1, 1))
    prediction = image_with(box(15, 10, 4, 2, 1, 1), box(2, 14, 1, 1, 1, 1))
    case = detect_lesions(reference, prediction, SPACING, LesionOptions(minimum_volume_mm3=12.0))
    assert (case.tp, case.fn, case.fp, case.ignored) == (0, 1, 0, 1)
    assert (case.removed_lesions, case.removed_detections) == (1, 1)
    assert (case.recall, case.precision) == (0.0, None)
    assert [lesion.outcome for lesion in case.lesions] == ["missed", "too_small"]


def test_a_case_with_a_lesion_that_is_too_small_alone_is_a_true_negative() -> None:
    voxel = image_with(box(15, 10, 4, 1, 1, 1))
    case = detect_lesions(voxel, voxel, SPACING, LesionOptions(minimum_volume_mm3=12.0))
    assert case.true_negative
    assert case.recall is None


def test_the_smallest_short_axis_is_that_of_the_reference_alone() -> None:
    # Pixels of 1 x 2 mm: 4 x 2 of them are a square of 4 mm (short axis 32^.5 = 5.7); the small one has 5^.5 / 2.
    # The first is found by a detection that is itself thinner than 5 mm.
    reference = image_with(box(2, 2, 1, 4, 2, 2), box(15, 10, 4, 1, 1, 1))
    prediction = image_with(box(2, 2, 1, 2, 1, 2), box(15, 10, 4, 1, 1, 1))
    case = detect_lesions(reference, prediction, SPACING, LesionOptions(minimum_short_axis_mm=5.0))
    assert [lesion.outcome for lesion in case.lesions] == ["found", "too_small"]
    assert [found.outcome for found in case.detections] == ["true_positive", "ignored"]


def test_the_three_criteria_of_lymphoma_by_hand() -> None:
    # A lesion of 10 voxels, its last the hottest. Found in pieces of 4 and 2 voxels, the second with 3 more outside;
    # neither has an IoU above .5 (4/10, 2/13), nor do they reach the hottest voxel.
    reference, prediction = image_with(box(2, 2, 2, 10, 1, 1)), image_with(box(2, 2, 2, 4, 1, 1))
    prediction |= image_with(box(7, 2, 2, 2, 4, 1))
    uptake = np.zeros(reference.shape)
    uptake[11, 2, 2] = 9.0
    found = {
        key: detect_lesions(reference, prediction, SPACING, rule, uptake) for key, rule in LYMPHOMA_CRITERIA.items()
    }
    assert {key: (case.tp, case.fn, case.fp) for key, case in found.items()} == {
        "C1": (1, 0, 0),
        "C2": (0, 1, 2),
        "C3": (0, 1, 2),
    }
    uptake[2, 2, 2] = 9.5
    assert detect_lesions(reference, prediction, SPACING, LYMPHOMA_CRITERIA["C3"], uptake).tp == 1


def test_a_slice_is_measured_as_an_area() -> None:
    mask = image_with(box(2, 2, 0, 4, 3, 1))[:, :, :1]
    (lesion,) = detect_lesions(mask, mask, (1.0, 2.0, 1.0)).lesions
    assert (lesion.volume_mm3, lesion.long_axis_mm) == pytest.approx((24.0, 52**0.5))


def test_masks_of_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="expected the shape of the reference"):
        detect_lesions(image_with(), image_with()[:5], SPACING)


def test_options_survive_their_file(tmp_path) -> None:
    options = LesionOptions(match="cover", threshold=0.3, policy="merge", connectivity=6, minimum_volume_mm3=30)
    save_options(options, tmp_path / "lesions.yaml")
    assert load_options(LesionOptions, tmp_path / "lesions.yaml") == options


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"match": "any_overlap", "threshold": 0.1}, "no threshold with the rule 'any_overlap', got 0.1"),
        ({"strata_short_axis_mm": [15, 10]}, "rising numbers above 0"),
        ({"connectivity": 8}, "6, 18 or 26"),
        ({"minimum_volume": 10}, "did you mean 'minimum_volume_mm3'"),
    ],
)
def test_options_that_do_not_fit_are_named(values: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        parse_options(LesionOptions, values, "config.yaml")
