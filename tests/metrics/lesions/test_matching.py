from itertools import permutations

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.lesions.components import Components, connected_components
from equivox.metrics.lesions.matching import Matching, match_components

SPACING = (1.0, 2.0, 3.0)


def line(length: int, *runs: tuple[int, int]) -> np.ndarray:
    """Return an image of one row with runs of voxels, the end excluded."""
    mask = np.zeros((length, 1, 1), dtype=bool)
    for start, stop in runs:
        mask[start:stop] = True
    return mask


def match(reference: np.ndarray, prediction: np.ndarray, minimum: float = 0.0, **options) -> Matching:
    return match_components(
        connected_components(reference, SPACING, minimum_volume_mm3=minimum),
        connected_components(prediction, SPACING, minimum_volume_mm3=minimum),
        **options,
    )


@pytest.mark.parametrize(
    ("rule", "limit"),
    # A lesion of 4 and a detection of 6 voxels share 2: Dice 4/10, IoU 2/8, covered 2/4.
    [("dice", 0.4), ("iou", 0.25), ("cover", 0.5)],
)
@pytest.mark.parametrize("policy", ["one_to_one", "merge"])
def test_the_threshold_must_be_exceeded(rule: str, limit: float, policy: str) -> None:
    masks = line(12, (0, 4)), line(12, (2, 8))
    at = match(*masks, rule=rule, threshold=limit, policy=policy)
    below = match(*masks, rule=rule, threshold=limit - 1e-6, policy=policy)
    assert (at.partners, at.dice, at.outcomes) == (((),), (None,), ("false_positive",))
    assert (below.partners, below.outcomes) == (((1,),), ("true_positive",))
    assert below.dice == pytest.approx((0.4,))
    assert below.iou == pytest.approx((0.25,))


def test_one_shared_voxel_is_any_overlap() -> None:
    assert match(line(99, (0, 50)), line(99, (49, 99)), rule="any_overlap").partners == ((1,),)
    assert match(line(99, (0, 50)), line(99, (50, 99)), rule="any_overlap").partners == ((),)


def test_the_largest_sum_is_chosen_and_not_the_best_pair_first() -> None:
    # Lesions A = 0-10 and B = 11-20; detections x = 6-17 joins both, y = 18-20 lies in B.
    # A-x: 4 shared, Dice 8/21. B-x: 6 shared, Dice 12/20, the best. B-y: 2 shared, Dice 4/11.
    # Best first would give B-x alone, as A and y do not touch: .6; A-x and B-y give .381 + .364.
    found = match(line(20, (0, 10), (11, 20)), line(20, (6, 17), (18, 20)), rule="any_overlap")
    assert found.partners == ((1,), (2,))
    assert found.dice == pytest.approx((8 / 21, 4 / 11))
    assert found.outcomes == ("true_positive", "true_positive")


def test_a_pair_that_the_rule_refuses_displaces_none() -> None:
    # As above at a threshold of .37: B-y is refused (.364), so B-x (.6) is better than A-x (.381).
    # Summing before refusing would choose A-x and B-y, and keep A-x alone.
    found = match(line(20, (0, 10), (11, 20)), line(20, (6, 17), (18, 20)), rule="dice", threshold=0.37)
    assert found.partners == ((), (1,))
    assert found.outcomes == ("true_positive", "false_positive")


def test_pieces_of_one_lesion_are_joined() -> None:
    # 10 voxels, found as 3 and 4: no piece has a Dice above .6, together 2*7/17.
    masks = line(12, (0, 10)), line(12, (0, 3), (5, 9))
    apart = match(*masks, rule="dice", threshold=0.6)
    joined = match(*masks, rule="dice", threshold=0.6, policy="merge")
    assert (apart.partners, apart.outcomes) == (((),), ("false_positive",) * 2)
    assert (joined.partners, joined.outcomes) == (((1, 2),), ("true_positive",) * 2)
    assert joined.dice == pytest.approx((14 / 17,))


def test_one_detection_may_find_several_lesions_when_merged_only() -> None:
    masks = line(12, (0, 4), (6, 10)), line(12, (0, 11))
    assert match(*masks, rule="any_overlap", policy="merge").partners == ((1,), (1,))
    assert sum(map(len, match(*masks, rule="any_overlap").partners)) == 1


@pytest.mark.parametrize("policy", ["one_to_one", "merge"])
def test_a_detection_of_a_lesion_that_is_too_small_is_neither_right_nor_wrong(policy: str) -> None:
    # Voxels of 6 mm3: lesions of 2, 5 and 1 voxels, detections of 3 on the first, 3 on the second, 4 on nothing, 1.
    reference = line(30, (0, 2), (5, 10), (25, 26))
    prediction = line(30, (0, 3), (6, 9), (15, 19), (25, 26))
    found = match(reference, prediction, minimum=18.0, rule="any_overlap", policy=policy)
    assert found.partners == ((), (2,), ())
    assert found.dice[0] is None
    assert found.outcomes == ("ignored", "true_positive", "false_positive", "too_small")


@pytest.mark.parametrize("policy", ["one_to_one", "merge"])
def test_a_detection_that_finds_a_lesion_is_right_whatever_else_it_touches(policy: str) -> None:
    found = match(line(20, (0, 2), (5, 10)), line(20, (0, 9)), minimum=18.0, rule="any_overlap", policy=policy)
    assert (found.partners, found.outcomes) == (((), (1,)), ("true_positive",))


@pytest.mark.parametrize("policy", ["one_to_one", "merge"])
def test_a_detection_that_is_too_small_finds_nothing(policy: str) -> None:
    found = match(line(20, (0, 6)), line(20, (1, 2)), minimum=18.0, rule="any_overlap", policy=policy)
    assert (found.partners, found.outcomes) == (((),), ("too_small",))


def test_a_detection_too_far_from_a_lesion_that_is_too_small_stays_wrong() -> None:
    # It touches the small lesion, but its Dice of 2*1/13 is not above .2.
    found = match(line(20, (0, 2)), line(20, (1, 12)), minimum=18.0, rule="dice", threshold=0.2)
    assert found.outcomes == ("false_positive",)


def test_the_hottest_voxel_must_be_covered() -> None:
    image = np.zeros((12, 1, 1))
    image[[2, 8], 0, 0] = 7.0, 5.0
    masks = line(12, (0, 4), (6, 10)), line(12, (1, 3), (6, 8))
    found = match(*masks, rule="suvmax", image=image)
    assert found.partners == ((1,), ())
    assert found.dice == (2 * 2 / 6, None)
    assert match(*masks, rule="suvmax", image=image, policy="merge").partners == ((1,), ())


def test_any_of_several_equally_hot_voxels_will_do() -> None:
    image = np.full((12, 1, 1), 3, dtype=np.int16)
    assert match(line(12, (0, 4)), line(12, (3, 4)), rule="suvmax", image=image).partners == ((1,),)


def test_the_hottest_voxel_needs_a_usable_image() -> None:
    masks = line(6, (0, 4)), line(6, (3, 4))
    image = np.zeros((6, 1, 1))
    with pytest.raises(InputError, match=r"image: expected one of shape .* got none"):
        match(*masks, rule="suvmax")
    with pytest.raises(InputError, match=r"got one of shape \(5, 1, 1\)"):
        match(*masks, rule="suvmax", image=image[:5])
    image[0] = np.nan
    with pytest.raises(InputError, match="finite values within the lesions"):
        match(*masks, rule="suvmax", image=image)


def test_masks_of_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected the shape of the reference, \(6, 1, 1\), got \(5, 1, 1\)"):
        match(line(6, (0, 4)), line(5, (0, 4)), rule="iou")


@pytest.mark.parametrize("policy", ["one_to_one", "merge"])
def test_empty_masks_match_nothing(policy: str) -> None:
    some, none = line(6, (0, 4)), line(6)
    assert match(none, none, rule="dice", policy=policy) == Matching((), (), (), ())
    assert match(some, none, rule="dice", policy=policy) == Matching(((),), (None,), (None,), ())
    assert match(none, some, rule="dice", policy=policy) == Matching((), (), (), ("false_positive",))


def _largest_sum(reference: Components, prediction: Components, threshold: float) -> float:
    """Try every assignment."""
    size = max(len(reference), len(prediction))
    table = np.zeros((size, size))
    for a in range(len(reference)):
        for b in range(len(prediction)):
            first, second = reference.labels == a + 1, prediction.labels == b + 1
            iou = (first & second).sum() / (first | second).sum()
            table[a, b] = iou if iou > threshold else 0.0
    return max(sum(table[a, b] for a, b in enumerate(order)) for order in permutations(range(size)))


def test_agrees_with_trying_every_assignment() -> None:
    rng = np.random.default_rng(5)
    tried = 0
    for _ in range(60):
        masks = rng.random((2, 5, 5, 2)) < 0.42
        reference, prediction = (connected_components(mask, SPACING, connectivity=6) for mask in masks)
        if not 2 <= max(len(reference), len(prediction)) <= 6:
            continue
        tried += 1
        found = match_components(reference, prediction, rule="iou", threshold=0.05)
        total = sum(value for value in found.iou if value is not None)
        assert total == pytest.approx(_largest_sum(reference, prediction, 0.05))
        used = [number for partners in found.partners for number in partners]
        assert len(used) == len(set(used)) == found.outcomes.count("true_positive")
    assert tried > 20
