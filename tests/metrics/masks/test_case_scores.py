import math
from dataclasses import astuple

import numpy as np
import pytest

from equivox.definitions import METRICS
from equivox.errors import InputError
from equivox.metrics.masks.case_scores import ClassScores, score_case
from equivox.metrics.masks.label_maps import check_maps
from equivox.metrics.masks.surface import HD95_CONVENTIONS, surface_scores

SPACING = (1.0, 2.0, 3.0)


def one_class(reference: np.ndarray, prediction: np.ndarray, **options) -> ClassScores:
    arguments = {"classes": {"lesion": 1}, "spacing_mm": SPACING, "tolerance_mm": 1.0} | options
    (scores,) = score_case(reference.astype(np.int16), prediction.astype(np.int16), **arguments)
    return scores


def blank(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.int16)


def test_counts_volume_and_overlap_by_hand() -> None:
    # 2 and 3 voxels of 1 x 2 x 3 mm, one shared: Dice 2*1/5, IoU 1/4, error one voxel of 6 mm3.
    reference, prediction = blank(4, 3, 5), blank(4, 3, 5)
    reference[1, 1, 1:3] = 1
    prediction[1, 1, 2:5] = 1
    scores = one_class(reference, prediction)
    assert (scores.class_name, scores.outcome, scores.penalised) == ("lesion", "scored", False)
    assert (scores.reference_voxels, scores.prediction_voxels) == (2, 3)
    assert scores.scores["dice"] == pytest.approx(0.4)
    assert scores.scores["iou"] == pytest.approx(0.25)
    assert scores.scores["volume_error"] == pytest.approx(6.0)


def test_sensitivity_precision_and_relative_volume_error_by_hand() -> None:
    # 4 and 2 voxels, one shared: 1/4, 1/2, and (2 - 4) / 4.
    reference, prediction = blank(6, 3, 5), blank(6, 3, 5)
    reference[1:5, 1, 1] = 1
    prediction[4:6, 1, 1] = 1
    scores = one_class(reference, prediction).scores
    assert scores["sensitivity"] == pytest.approx(0.25)
    assert scores["precision"] == pytest.approx(0.5)
    assert scores["relative_volume_error"] == pytest.approx(-0.5)


def test_largest_and_directed_mean_distances_by_hand() -> None:
    # Voxels along i, 1 mm apart: R at 0, P at 0 and 5. From R 0; from P 0 and 5.
    reference, prediction = blank(7, 1, 3), blank(7, 1, 3)
    reference[0, 0, 1] = 1
    prediction[[0, 5], 0, 1] = 1
    scores = one_class(reference, prediction, hd95="monai").scores
    assert scores["hd"] == pytest.approx(5.0)
    assert scores["assd"] == pytest.approx(5 / 3)
    assert scores["masd"] == pytest.approx((0 + 2.5) / 2)


@pytest.mark.parametrize("convention", HD95_CONVENTIONS)
def test_no_percentile_is_above_the_largest_distance(convention: str) -> None:
    masks = np.random.default_rng(4).random((2, 9, 7, 5)) < 0.2
    scores = one_class(*masks, hd95=convention).scores
    assert 0 < scores["masd"] <= scores["hd95"] <= scores["hd"]


def test_what_one_empty_mask_leaves_undefined_is_not_scored() -> None:
    full, empty = np.ones((2, 2, 2)), np.zeros((2, 2, 2))
    missed, false = one_class(full, empty).scores, one_class(empty, full).scores
    assert (missed["sensitivity"], missed["precision"], missed["relative_volume_error"]) == (0.0, None, -1.0)
    assert (false["sensitivity"], false["precision"], false["relative_volume_error"]) == (None, 0.0, None)


def test_only_the_chosen_families_are_computed() -> None:
    masks = np.ones((2, 2, 2)), np.ones((2, 2, 2))
    assert list(one_class(*masks, families=("volume",)).scores) == ["volume_error", "relative_volume_error"]
    assert "hd95" not in one_class(*masks, families=("overlap", "volume")).scores


ALL = ("overlap", "surface", "volume", "centreline", "topology")


def test_topology_of_a_ring_and_its_cut_by_hand() -> None:
    # A ring of 8 voxels in one slice of a 3D image against the same with a gap: one tunnel too few, nothing matched in
    # its place; the piece is there in both. The gap is the eighth voxel of the reference's centreline.
    ring = blank(5, 5, 3)
    ring[1:4, 1:4, 1] = 1
    ring[2, 2, 1] = 0
    cut = ring.copy()
    cut[1, 2, 1] = 0
    scores = one_class(ring, cut, families=ALL).scores
    errors = [scores[f"betti_{dimension}_error"] for dimension in range(3)]
    assert errors == [0.0, 1.0, 0.0]
    assert scores["betti_matching_error"] == 1.0
    assert scores["topology_precision"] == 1.0
    assert 0.7 < scores["topology_sensitivity"] < 1.0


def test_a_window_one_voxel_thick_is_no_2d_image() -> None:
    # Two voxels of a slice that touch at a corner, and a sheet: the same whichever other slices there are.
    flat = blank(6, 6, 1)
    flat[1:4, 1:4, 0] = 1
    thick = np.pad(flat, ((0, 0), (0, 0), (0, 4)))
    scores = [one_class(one, one, families=ALL).scores for one in (flat, thick)]
    assert scores[0]["cldice"] == scores[1]["cldice"] == 1.0
    assert scores[0]["betti_matching_error"] == scores[1]["betti_matching_error"] == 0.0


def test_missed_and_invented_structures_count_all_their_features() -> None:
    two = blank(6, 3, 3)
    two[0, 1, 1] = two[4, 1, 1] = 1
    for masks in ((two, blank(6, 3, 3)), (blank(6, 3, 3), two)):
        scores = one_class(*masks, families=ALL).scores
        assert scores["betti_0_error"] == scores["betti_matching_error"] == 2.0
        assert scores["cldice"] == 0.0
    empty = one_class(blank(6, 3, 3), blank(6, 3, 3), families=ALL).scores
    assert set(empty.values()) == {None}


def test_volume_error_is_signed() -> None:
    reference, prediction = blank(3, 3, 3), blank(3, 3, 3)
    reference[:2, 1, 1] = prediction[0, 1, 1] = 1
    assert one_class(reference, prediction).scores["volume_error"] == pytest.approx(-6.0)


# The diagonal of 4 x 3 x 2 voxels of 1 x 2 x 3 mm is the root of 16 + 36 + 36.
DIAGONAL_MM = math.sqrt(88)


@pytest.mark.parametrize("outcome", ["missed", "false_positive"])
def test_a_structure_in_one_mask_alone_is_penalised(outcome: str) -> None:
    masks = [blank(4, 3, 2), blank(4, 3, 2)]
    masks[outcome == "false_positive"][2, 1, 0] = 1
    for policy in ("penalise", "perfect"):
        scores = one_class(*masks, empty=policy)
        assert (scores.outcome, scores.penalised) == (outcome, True)
        assert (scores.scores["dice"], scores.scores["iou"], scores.scores["nsd"]) == (0.0, 0.0, 0.0)
        assert scores.scores["hd95"] == scores.scores["assd"] == pytest.approx(DIAGONAL_MM)
        assert scores.scores["volume_error"] == (6.0 if outcome == "false_positive" else -6.0)


@pytest.mark.parametrize("outcome", ["missed", "false_positive"])
def test_excluding_leaves_out_only_what_is_not_defined(outcome: str) -> None:
    masks = [blank(4, 3, 2), blank(4, 3, 2)]
    masks[outcome == "false_positive"][2, 1, 0] = 1
    scores = one_class(*masks, empty="exclude")
    assert (scores.outcome, scores.penalised) == (outcome, False)
    assert (scores.scores["dice"], scores.scores["iou"], scores.scores["nsd"]) == (0.0, 0.0, 0.0)
    assert (scores.scores["hd95"], scores.scores["assd"]) == (None, None)


def test_a_structure_in_neither_mask_is_left_out_or_perfect() -> None:
    masks = blank(4, 3, 2), blank(4, 3, 2)
    for policy in ("penalise", "exclude"):
        assert set(one_class(*masks, empty=policy).scores.values()) == {None}
    perfect = one_class(*masks, empty="perfect")
    assert (perfect.reference_voxels, perfect.prediction_voxels, perfect.penalised) == (0, 0, False)
    for key, value in perfect.scores.items():
        assert value == (1.0 if METRICS[key].kind == "fraction" else 0.0), key
    assert one_class(*masks).outcome == "both_empty"


def test_the_diagonal_of_a_2d_image_leaves_out_its_single_slice() -> None:
    # 3 x 4 pixels of 1 x 1 mm: 5 mm, whatever the slice's nominal thickness.
    reference = blank(3, 4, 1)
    reference[0, 0, 0] = 1
    assert one_class(reference, blank(3, 4, 1), spacing_mm=(1.0, 1.0, 7.0)).scores["hd95"] == pytest.approx(5.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_along_any_axis_is_scored_as_a_contour(axis: int) -> None:
    generator = np.random.default_rng(0)
    masks = generator.random((2, 9, 8)) < 0.3
    expected = surface_scores(masks[0], masks[1], (1.0, 2.0), tolerance_mm=1.0)
    spacing = np.insert([1.0, 2.0], axis, 5.0).tolist()
    scores = one_class(*(np.expand_dims(mask, axis) for mask in masks), spacing_mm=spacing)
    keys = ("nsd", "hd95", "hd", "assd", "masd")
    assert [scores.scores[key] for key in keys] == pytest.approx(list(astuple(expected)))


def test_a_line_and_a_single_voxel_image_are_scored_too() -> None:
    line = blank(1, 1, 6)
    line[0, 0, :3] = 1
    assert one_class(line, line).scores["dice"] == 1.0
    shifted = np.roll(line, 3, axis=2)
    assert one_class(line, shifted, hd95="monai").scores["hd95"] == pytest.approx(9.0 - 0.3)  # of 3, 6 and 9 mm
    assert one_class(np.ones((1, 1, 1)), np.ones((1, 1, 1))).scores["hd95"] == 0.0


def test_a_mask_that_fills_the_image_has_the_border_as_its_surface() -> None:
    full, core = np.ones((7, 7, 7)), blank(7, 7, 7)
    core[3, 3, 3] = 1
    assert one_class(full, full).scores["hd95"] == 0.0
    # From the border to the only voxel: the nearest boundary voxels lie 3 x 1 mm away, the corners hypot(3, 6, 9) mm.
    scores = one_class(full, core, hd95="monai")
    assert 3.0 < scores.scores["assd"] < scores.scores["hd95"] < math.hypot(3, 6, 9)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_each_class_is_scored_as_if_it_were_alone(dtype: type, order: str) -> None:
    generator = np.random.default_rng(1)
    maps = [np.asarray(generator.integers(0, 4, (7, 6, 5)), dtype=dtype, order=order) for _ in range(2)]
    maps[0][maps[0] == 3] = 0
    classes = {"c": 3, "a": 1, "b": 2, "d": 77, "background": 0}
    scores = score_case(*maps, classes=classes, spacing_mm=SPACING, tolerance_mm=1.5)
    assert [entry.class_name for entry in scores] == list(classes)
    assert [entry.outcome for entry in scores] == ["false_positive", "scored", "scored", "both_empty", "scored"]
    for entry in scores:
        alone = one_class(*((labels == classes[entry.class_name]).astype(dtype) for labels in maps), tolerance_mm=1.5)
        assert astuple(entry)[1:] == astuple(alone)[1:]


def test_indices_far_outside_of_a_list_are_found() -> None:
    reference, prediction = np.zeros((2, 5, 4, 3), dtype=np.int64)
    reference[1, 1, 1], prediction[2, 1, 1] = -7, -7
    reference[4, 3, 2] = prediction[4, 3, 2] = 10**9
    first, second = score_case(
        reference, prediction, classes={"below": -7, "above": 10**9}, spacing_mm=SPACING, tolerance_mm=1.0, hd95="monai"
    )
    assert (first.scores["dice"], first.scores["hd95"]) == (0.0, 1.0)
    assert (second.scores["dice"], second.scores["hd95"]) == (1.0, 0.0)


@pytest.mark.parametrize("convention", HD95_CONVENTIONS)
def test_what_lies_around_the_class_changes_no_score(convention: str) -> None:
    generator = np.random.default_rng(2)
    reference, prediction = (generator.random((2, 6, 7, 5)) < 0.4).astype(np.int16)
    expected = one_class(reference, prediction, hd95=convention)
    around = [np.pad(labels, ((2, 1), (0, 3), (4, 4))) for labels in (reference, prediction)]
    around[0][0, 0, 0] = around[1][-1, -1, -1] = 9
    found = one_class(*around, hd95=convention)
    assert (found.outcome, found.reference_voxels) == (expected.outcome, expected.reference_voxels)
    assert dict(found.scores) == pytest.approx(dict(expected.scores))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing_mm": (1.0, math.nan, 1.0)}, r"spacing_mm: expected three positive numbers, got \(1.0, nan, 1.0\)"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm"),
        ({"spacing_mm": (1.0, 1.0)}, "spacing_mm"),
        ({"spacing_mm": (1.0, math.inf, 1.0)}, "spacing_mm"),
        ({"tolerance_mm": -1.0}, "tolerance_mm: expected a number of at least 0, got -1.0"),
        ({"tolerance_mm": math.nan}, "tolerance_mm"),
    ],
)
def test_unusable_lengths_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        one_class(np.ones((2, 2, 2)), np.ones((2, 2, 2)), **options)


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected the shape of the reference, \(2, 2, 2\), got \(2, 2, 3\)"):
        one_class(np.ones((2, 2, 2)), np.ones((2, 2, 3)))


def test_maps_that_are_not_labels_or_not_3d_are_refused() -> None:
    labels = blank(2, 2, 2)
    with pytest.raises(InputError, match=r"reference: expected an integer array \(i, j, k\), got float64 of shape"):
        check_maps(np.ones((2, 2, 2)), labels)
    with pytest.raises(InputError, match=r"prediction: .* got int16 of shape \(2, 2\)"):
        check_maps(labels, labels[0])
