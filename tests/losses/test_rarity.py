"""How rare cases are, by hand, and what they then weigh."""

import numpy as np
import pytest

from equivox.losses.rarity import cell_likelihood, density_ranks, mean_one, rarity_weights


def test_weights_by_hand() -> None:
    # gamma 2, eta 0.5: (0.5 + (1 - p)^2) / 1.5
    found = rarity_weights(np.array([1.0, 0.5, 0.0, np.nan]), gamma=2.0, eta=0.5)
    np.testing.assert_allclose(found[:3], [1 / 3, 0.5, 1.0])
    assert np.isnan(found[3])
    # The mean of those known is 11/18; what is unknown has the mean.
    np.testing.assert_allclose(mean_one(found), [6 / 11, 9 / 11, 18 / 11, 1.0])


def test_weights_fall_with_the_likelihood_and_average_one() -> None:
    likelihood = np.linspace(0, 1, 40)
    weights = mean_one(rarity_weights(likelihood))
    assert weights.mean() == pytest.approx(1.0)
    assert (np.diff(weights) <= 0).all()
    assert weights[0] / weights[-1] == pytest.approx(2.0)


def test_nothing_known_weighs_one() -> None:
    np.testing.assert_array_equal(mean_one(np.array([np.nan, np.nan])), [1.0, 1.0])
    assert mean_one(np.array([])).shape == (0,)


def test_cells_by_hand() -> None:
    np.testing.assert_array_equal(cell_likelihood([2, 0, 0, None, 0, 0]), [0.25, 1, 1, np.nan, 1, 1])
    np.testing.assert_array_equal(cell_likelihood([None]), [np.nan])


def test_a_case_that_is_like_no_other_is_the_rarest() -> None:
    random = np.random.default_rng(0)
    crowd = random.normal(size=(30, 6))
    # Two cases far from all, and far from each other: noise, for a clustering.
    alone = np.array([[40.0, 0, 0, 0, 0, 0], [0, -60.0, 0, 0, 0, 0]])
    found = density_ranks(np.concatenate([alone, crowd]))
    assert sorted(found[:2]) == [0.0, pytest.approx(1 / 31)]
    assert found.min() == 0.0
    assert found.max() == 1.0


def test_units_shifts_and_order_of_cases_change_nothing() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(17, 60)) @ random.normal(size=(60, 60))
    found = density_ranks(rows)
    np.testing.assert_allclose(density_ranks(rows * 10.0 ** random.integers(-6, 7, 60) + 5.0), found)
    np.testing.assert_allclose(density_ranks(rows[::-1])[::-1], found)
    np.testing.assert_allclose(density_ranks(np.c_[rows, np.full(17, 7.0)]), found)


def test_alike_cases_and_single_ones() -> None:
    np.testing.assert_array_equal(density_ranks(np.full((4, 3), 0.1)), [0.5] * 4)
    np.testing.assert_array_equal(density_ranks(np.ones((1, 3))), [1.0])
    assert density_ranks(np.ones((0, 3))).shape == (0,)
    # Of two cases each is as near the other.
    np.testing.assert_array_equal(density_ranks(np.array([[0.0], [1.0]])), [0.5, 0.5])


def test_few_components_see_the_large_differences_alone() -> None:
    # Five features hold the same row of cases and one tells case 3 apart; the first component is that of the five, in
    # which the ends of the row are the farthest from their two neighbours.
    row = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    other = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    rows = np.c_[np.tile(row[:, None], (1, 5)), other]
    ends = density_ranks(rows, components=1, neighbours=2)
    assert sorted(np.argsort(ends)[:2]) == [0, 5]
    assert np.argmin(density_ranks(rows, neighbours=2)) == 3
