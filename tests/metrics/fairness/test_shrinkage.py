"""Means of small groups are drawn towards that of all, by hand."""

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.fairness.shrinkage import shrink_groups


def test_estimates_by_hand() -> None:
    # Means .8, .6, .2 of 2, 2, 1 patients; s^2 = (.02 + .02) / (5 - 3) = .02. The mean of all is .6:
    # SS_between = 2 * .04 + 0 + .16 = .24, tau^2 = (.24 - 2 * .02) / (5 - 9 / 5) = .0625.
    # Weights .0625 / (.0625 + .01) = .862069 and .0625 / .0825 = .757576;
    # towards (.8 / .0725 + .6 / .0725 + .2 / .0825) / (2 / .0725 + 1 / .0825) = .547368.
    found = shrink_groups(np.array([0.7, 0.9, 0.5, 0.7, 0.2, 0.0]), ["a", "a", "b", "b", "c", None])
    assert found is not None
    assert found.between_sd == pytest.approx(0.25)
    assert found.within_sd == pytest.approx(np.sqrt(0.02))
    assert found.towards == pytest.approx(0.547368, abs=1e-6)
    assert [one.weight for one in found.groups] == pytest.approx([0.862069, 0.862069, 0.757576], abs=1e-6)
    assert found.of("a").estimate == pytest.approx(0.862069 * 0.8 + 0.137931 * 0.547368, abs=1e-6)
    # The group of one patient borrows the error of a patient elsewhere.
    assert found.of("c").patients == 1
    assert found.of("c").estimate == pytest.approx(0.757576 * 0.2 + 0.242424 * 0.547368, abs=1e-6)


def test_groups_no_further_apart_than_by_chance_have_the_mean_of_all() -> None:
    found = shrink_groups(np.array([0.5, 0.9, 0.6, 0.9, 0.7]), ["a", "a", "b", "b", "b"])
    assert found is not None
    assert found.between_sd == 0.0
    assert [one.estimate for one in found.groups] == pytest.approx([0.72, 0.72])


def test_without_variation_between_patients_nothing_is_shrunken() -> None:
    found = shrink_groups(np.array([0.1, 0.1, 0.1, 0.7]), ["a", "a", "a", "b"])
    assert found is not None
    assert [(one.estimate, one.weight) for one in found.groups] == [(0.1, 1.0), (0.7, 1.0)]
    equal = shrink_groups(np.array([0.1, 0.1, 0.1, 0.1]), ["a", "a", "a", "b"])
    assert equal is not None
    assert (equal.between_sd, equal.towards) == (0.0, 0.1)
    assert [one.estimate for one in equal.groups] == [0.1, 0.1]


@pytest.mark.parametrize("groups", [["a", "a", None], ["a", "b", "c"], [None, None, None]])
def test_no_estimate_where_patients_and_groups_cannot_be_told_apart(groups: list[str | None]) -> None:
    assert shrink_groups(np.array([0.1, 0.2, 0.3]), groups) is None


def test_shrunken_means_lie_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(3)
    raw = shrunken = 0.0
    for _ in range(40):
        truth = rng.normal(0.8, 0.05, 12)
        groups = [f"g{place}" for place in range(12) for _ in range(4)]
        values = np.repeat(truth, 4) + rng.normal(0, 0.15, 48)
        found = shrink_groups(values, groups)
        assert found is not None
        estimates = np.array([found.of(f"g{place}").estimate for place in range(12)])
        means = np.array([found.of(f"g{place}").mean for place in range(12)])
        raw += float(((means - truth) ** 2).sum())
        shrunken += float(((estimates - truth) ** 2).sum())
    # Expected ratio .05^2 / (.05^2 + .15^2 / 4) = .31, somewhat more as the variances are estimated.
    assert shrunken < 0.6 * raw


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(InputError, match="expected one finite number a patient"):
        shrink_groups(np.array([0.1, np.nan]), ["a", "b"])
