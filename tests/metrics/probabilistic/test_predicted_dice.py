import itertools

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.probabilistic.predicted_dice import predicted_dice


def test_sure_probabilities_expect_the_dice_with_themselves() -> None:
    mask = np.zeros((3, 5, 1), dtype=bool)
    mask[1, 1:4] = True
    assert predicted_dice(mask.astype(np.float32), mask) == 1.0
    # Two of three voxels kept, of three that are expected: 4 / 5.
    less = mask.copy()
    less[1, 1] = False
    assert predicted_dice(mask.astype(np.float32), less) == pytest.approx(4 / 5)


def test_empty_masks() -> None:
    nothing = np.zeros((2, 2, 1), dtype=bool)
    assert predicted_dice(np.zeros((2, 2, 1)), nothing) is None
    assert predicted_dice(np.full((2, 2, 1), 0.3), nothing) == 0.0
    assert predicted_dice(np.zeros((2, 2, 1)), ~nothing) == 0.0


def test_it_is_near_the_mean_dice_of_independent_voxels() -> None:
    # Exactly, over all 2**12 truths.
    probability = np.array([0.95] * 5 + [0.7] * 3 + [0.2] * 4)
    mask = probability > 0.5
    mean = 0.0
    for truth in itertools.product([False, True], repeat=12):
        drawn = np.array(truth)
        weight = float(np.prod(np.where(drawn, probability, 1 - probability)))
        mean += weight * 2 * (mask & drawn).sum() / (mask.sum() + drawn.sum())
    assert predicted_dice(probability, mask) == pytest.approx(mean, abs=0.005)


def test_it_is_too_high_for_a_structure_that_may_be_missing_as_a_whole() -> None:
    # There as a whole with probability .6, else not at all: .6 on average, where 2 * .6 / 1.6 is expected.
    assert predicted_dice(np.full(50, 0.6), np.ones(50, dtype=bool)) == pytest.approx(0.75)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        predicted_dice(np.array([1.2]), np.array([True]))
