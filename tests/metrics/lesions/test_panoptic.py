import numpy as np
import pytest

from equivox.metrics.lesions.components import connected_components
from equivox.metrics.lesions.panoptic import PanopticQuality, panoptic_quality

SPACING = (1.0, 2.0, 3.0)


def quality(reference: np.ndarray, prediction: np.ndarray, threshold: float = 0.5) -> PanopticQuality:
    lesions, found = (connected_components(mask, SPACING) for mask in (reference, prediction))
    return panoptic_quality(lesions, found, threshold=threshold)


def line(*runs: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((40, 1, 1), dtype=bool)
    for start, stop in runs:
        mask[start:stop] = True
    return mask


def test_by_hand() -> None:
    # IoU 4/5, 3/6 (not above one half) and 6/8; one lesion and one detection more.
    # TP 2, FP 2, FN 2: SQ (.8 + .75) / 2, RQ 2 / (2 + 1 + 1), PQ 1.55 / 4.
    reference = line((0, 5), (7, 11), (15, 23), (30, 32))
    prediction = line((0, 4), (8, 13), (15, 21), (36, 38))
    found = quality(reference, prediction)
    assert (found.tp, found.fp, found.fn) == (2, 2, 2)
    assert (found.sq, found.rq, found.pq) == pytest.approx((0.775, 0.5, 0.3875))


def test_a_lower_threshold_takes_the_largest_sum_of_pairs() -> None:
    # As above: 3/6 counts as well at .4.
    found = quality(line((0, 5), (7, 11), (15, 23), (30, 32)), line((0, 4), (8, 13), (15, 21), (36, 38)), 0.4)
    assert (found.tp, found.fp, found.fn) == (3, 1, 1)
    assert found.pq == pytest.approx((0.8 + 0.5 + 0.75) / 4)


def test_what_is_too_small_takes_no_part() -> None:
    # Voxels of 6 mm3: the lesion of one voxel is set apart, its detection of two ignored, that of one voxel removed.
    masks = line((0, 5), (10, 11)), line((0, 5), (10, 12), (20, 21))
    lesions, found = (connected_components(mask, SPACING, minimum_volume_mm3=12.0) for mask in masks)
    assert panoptic_quality(lesions, found, threshold=0.4) == PanopticQuality(tp=1, fp=0, fn=0, iou_sum=1.0)


def test_empty_masks() -> None:
    some, none = line((3, 9)), line()
    assert [getattr(quality(none, none), key) for key in ("pq", "sq", "rq")] == [None, None, None]
    assert [getattr(quality(some, none), key) for key in ("pq", "sq", "rq")] == [0.0, None, 0.0]
    assert [getattr(quality(none, some), key) for key in ("pq", "sq", "rq")] == [0.0, None, 0.0]
    assert quality(some, some).pq == 1.0


def test_above_one_half_every_pair_counts_without_any_choice() -> None:
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(30):
        reference = rng.random((6, 6, 3)) < 0.25
        prediction = reference ^ (rng.random((6, 6, 3)) < 0.06)
        lesions, found = (connected_components(mask, SPACING, connectivity=6) for mask in (reference, prediction))
        overlaps = []
        for a in range(1, len(lesions) + 1):
            for b in range(1, len(found) + 1):
                first, second = lesions.labels == a, found.labels == b
                overlaps.append((first & second).sum() / (first | second).sum())
        pairs = [value for value in overlaps if value > 0.5]
        result = panoptic_quality(lesions, found)
        assert (result.tp, result.fn, result.fp) == (len(pairs), len(lesions) - len(pairs), len(found) - len(pairs))
        assert result.iou_sum == pytest.approx(sum(pairs))
        seen += len(pairs)
    assert seen > 50
