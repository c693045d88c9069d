import itertools

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.probabilistic.diversity import best_rater_dice, generalised_energy_distance


def make_masks(count: int, seed: int, shape: tuple[int, ...] = (5, 7, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (count, *shape)).astype(np.uint8)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    either = (one | other).sum()
    return 1 - (one & other).sum() / either if either else 0.0


@pytest.mark.parametrize("form", ["unbiased", "kohl"])
def test_it_is_the_sum_over_pairs(form: str) -> None:
    samples, raters = make_masks(4, 0), make_masks(3, 1)
    wanted = []
    for index in (1, 2):
        s, y = samples == index, raters == index
        between = np.mean([distance(a, b) for a in s for b in y])
        pairs = itertools.permutations if form == "unbiased" else lambda masks, _: itertools.product(masks, masks)
        own, theirs = (np.mean([distance(a, b) for a, b in pairs(list(masks), 2)]) for masks in (s, y))
        wanted.append(2 * between - own - theirs)
    found = generalised_energy_distance(samples, raters, [1, 2], form=form)
    assert found.value == pytest.approx(np.mean(wanted))
    assert list(found.by_class.values()) == pytest.approx(wanted)
    assert found.value == pytest.approx(2 * found.between - found.within_samples - found.within_references)


def test_the_published_form_is_too_high_where_nothing_differs_and_ours_is_not() -> None:
    # Samples and raters of one distribution: voxels drawn with probability 1/2.
    rng = np.random.default_rng(5)
    ours, theirs = [], []
    for _ in range(300):
        masks = (rng.random((7, 6, 4, 1)) < 0.5).astype(np.uint8)
        ours.append(generalised_energy_distance(masks[:4], masks[4:], [1]).value)
        theirs.append(generalised_energy_distance(masks[:4], masks[4:], [1], form="kohl").value)
    error = np.std(ours) / np.sqrt(300)
    assert abs(np.mean(ours)) < 4 * error
    # The distance of two masks is about 2/3, which each of 4 samples and 3 raters lacks to itself: 2/3 (1/4 + 1/3).
    assert np.mean(theirs) == pytest.approx(2 / 3 * (1 / 4 + 1 / 3), abs=0.05)


def test_masks_that_agree_on_nothing_being_there_have_no_distance() -> None:
    empty = np.zeros((2, 3, 4, 1), dtype=np.uint8)
    found = generalised_energy_distance(empty, empty, [1, 2])
    assert (found.value, found.between) == (0.0, 0.0)
    # Class 2 is nowhere: it counts as 0 in the mean of both classes.
    full = np.ones_like(empty)
    assert generalised_energy_distance(full, empty, [1, 2]).value == pytest.approx(1.0)
    assert generalised_energy_distance(full, empty, [1]).by_class == {1: 2.0}


def test_numbers_of_samples_and_raters_may_differ_and_one_is_too_few() -> None:
    masks = make_masks(1, 0)
    with pytest.raises(InputError, match=r"2 samples and raters or more, got 1 and 3; .* form 'kohl'"):
        generalised_energy_distance(masks, make_masks(3, 1), [1])
    assert generalised_energy_distance(masks, masks, [1], form="kohl").value == 0.0
    with pytest.raises(InputError, match="expected the shape of the references"):
        generalised_energy_distance(make_masks(2, 0), make_masks(2, 0, (5, 7, 2)), [1])
    with pytest.raises(InputError, match="classes: expected one or more"):
        generalised_energy_distance(make_masks(2, 0), make_masks(2, 1), [])


def test_the_best_rater_is_found_for_each_class() -> None:
    prediction = np.array([[[1, 1, 2, 0, 0]]])
    raters = np.array([[[[1, 1, 1, 0, 0]]], [[[1, 0, 2, 2, 0]]], [[[0, 0, 0, 0, 0]]]])
    # Class 1: 4/5, 2/3, 0. Class 2: 0, 2/3, 0. Class 3 is in none: they agree.
    assert best_rater_dice(prediction, raters, [1, 2, 3]) == pytest.approx({1: 4 / 5, 2: 2 / 3, 3: 1.0})
    with pytest.raises(InputError, match="references: expected one or more of the shape"):
        best_rater_dice(prediction, raters[:0], [1])
