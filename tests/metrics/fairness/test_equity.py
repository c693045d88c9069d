"""Measures of spread: published numbers, and what chance alone gives."""

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.fairness.equity import es_std, es_sum, gap, ratio, spread

GROUPS = [[0.80, 0.82, 0.84], [0.70, 0.74], [0.90, 0.88, 0.86, 0.90]]


def test_equity_scaled_scores_of_the_published_code_by_hand() -> None:
    # Group means .82, .72, .885; overall 7.44 / 9 = .826667. Gaps .006667 + .106667 + .058333 = .171667, so
    # .826667 / 1.171667 = .705548. The means' own mean is .808333, their squared distances .000136 + .007803 +
    # .005878 = .013817, the standard deviation sqrt(.013817 / 2) = .083116, so .826667 / 1.083116 = .763230.
    means = [float(np.mean(group)) for group in GROUPS]
    overall = float(np.mean(np.concatenate(GROUPS)))
    assert overall == pytest.approx(0.826667, abs=1e-6)
    assert es_sum(means, overall) == pytest.approx(0.7055476529160738, abs=1e-12)
    assert es_std(means, overall) == pytest.approx(0.7632297679878867, abs=1e-12)


def test_spread_reproduces_them_from_patients() -> None:
    groups = [name for name, values in zip("abc", GROUPS, strict=True) for _ in values]
    found = spread(np.concatenate(GROUPS), groups, draws=999)
    assert found is not None
    assert found.measures["es_sum"].value == pytest.approx(0.705548, abs=1e-6)
    assert found.measures["es_std"].value == pytest.approx(0.763230, abs=1e-6)
    assert found.measures["gap"].value == pytest.approx(0.165)
    assert found.measures["ratio"].value == pytest.approx(0.72 / 0.885)
    assert found.worst_group == "b"


def test_unknown_groups_enter_the_overall_mean_alone() -> None:
    # Overall (0.8 + 0.8 + 0.6 + 0.6 + 0.2) / 5 = .6: gaps .2 and 0, es_sum .6 / 1.2 = .5.
    found = spread(np.array([0.8, 0.8, 0.6, 0.6, 0.2]), ["a", "a", "b", "b", None], draws=99)
    assert found is not None
    assert found.measures["es_sum"].value == pytest.approx(0.5)
    assert found.measures["gap"].value == pytest.approx(0.2)


def test_permutation_mean_by_all_orders() -> None:
    # Values 0, 0, 1, 1 in pairs: of the 6 splits 2 put equal values together (gap 1) and 4 mix them (gap 0).
    found = spread(np.array([0.0, 0.0, 1.0, 1.0]), ["a", "a", "b", "b"], draws=20_000)
    assert found is not None
    assert found.measures["gap"].value == 1.0
    assert found.measures["gap"].permutation_mean == pytest.approx(1 / 3, abs=0.015)
    assert found.measures["gap"].excess == pytest.approx(2 / 3, abs=0.015)
    # ES: overall .5, gaps 0 or .5 + .5: the mean of .5 (4 in 6) and .25 (2 in 6).
    assert found.measures["es_sum"].permutation_mean == pytest.approx(0.5 * 4 / 6 + 0.25 * 2 / 6, abs=0.01)


def test_excess_is_near_zero_without_disparity_though_the_gap_is_not() -> None:
    rng = np.random.default_rng(0)
    groups = ["a"] * 40 + ["b"] * 15 + ["c"] * 5
    found = [spread(rng.beta(9, 1.5, 60), groups, draws=199) for _ in range(60)]
    gaps = [one.measures["gap"] for one in found if one is not None]
    assert np.mean([one.value for one in gaps]) > 0.04
    assert abs(np.mean([one.excess for one in gaps])) < 0.02


def test_adding_groups_lowers_es_sum_without_any_disparity() -> None:
    values = np.random.default_rng(1).beta(9, 1.5, 120)
    few = spread(values, (["a", "b"] * 60), draws=199)
    many = spread(values, list("abcdefghijkl") * 10, draws=199)
    assert few is not None
    assert many is not None
    assert many.measures["es_sum"].permutation_mean < few.measures["es_sum"].permutation_mean - 0.05


def test_one_group_has_no_spread() -> None:
    assert spread(np.array([0.5, 0.6]), ["a", None]) is None
    with pytest.raises(InputError, match="expected two groups or more"):
        es_std([0.5], 0.5)


@pytest.mark.parametrize("wrong", [82.0, -0.1, float("nan")])
def test_percent_and_other_non_fractions_are_refused(wrong: float) -> None:
    with pytest.raises(InputError, match=r"expected fractions in \[0, 1\].*divide percent by 100"):
        es_sum([0.8, wrong], 0.8)
    with pytest.raises(InputError, match=r"expected fractions in \[0, 1\]"):
        spread(np.array([0.8, wrong]), ["a", "b"])


def test_groups_that_all_score_zero_are_equal() -> None:
    assert ratio([0.0, 0.0]) == 1.0
    assert gap([0.0, 0.0]) == 0.0
    assert es_sum([0.0, 0.0], 0.0) == 0.0
