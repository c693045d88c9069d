"""Scores against numbers of the patients, with and without what the structure's size explains."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from equivox.errors import InputError
from equivox.metrics.fairness.residuals import residual_trends

FEW: dict[str, Any] = {"draws": 199, "permutations": 199}


def people(patients: int = 80) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    size = rng.normal(1, 1, patients)
    return {"size": size, "age": 50 + 8 * size + rng.normal(0, 4, patients), "thickness": rng.uniform(1, 5, patients)}


def test_a_trend_that_size_explains_is_gone_from_the_residuals() -> None:
    numbers = people()
    scores = 0.6 + 0.1 * numbers["size"] + np.random.default_rng(1).normal(0, 0.02, 80)
    found = residual_trends(scores, numbers, "size", **FEW)
    assert found.raw["age"].spearman == pytest.approx(spearmanr(numbers["age"], scores).statistic)
    assert found.raw["age"].spearman > 0.6
    assert found.raw["age"].q is not None
    assert found.raw["age"].q < 0.05
    assert abs(found.residual["age"].spearman or 0) < 0.3
    assert set(found.residual) == {"age", "thickness"}
    # The fit is the line itself, and the residuals are the noise.
    assert found.residuals.std() == pytest.approx(0.02, abs=0.005)


def test_a_trend_of_its_own_stays_in_the_residuals() -> None:
    numbers = people()
    scores = 0.6 + 0.1 * numbers["size"] - 0.04 * numbers["thickness"]
    found = residual_trends(scores, numbers, "size", **FEW)
    assert found.residual["thickness"].spearman < -0.95
    assert found.residual["thickness"].p == 1 / 200
    interval = found.residual["thickness"].interval
    assert interval is not None
    assert interval.high < -0.9


def test_a_straight_line_by_hand_leaves_nothing() -> None:
    size = np.arange(12.0)
    found = residual_trends(0.3 + 0.05 * size, {"size": size, "age": 60 - size}, "size", **FEW)
    assert found.residuals == pytest.approx(np.zeros(12), abs=1e-12)
    assert found.fit[0] == pytest.approx((0.0, 0.3))
    assert found.fit[-1] == pytest.approx((11.0, 0.85))
    assert found.raw["age"].spearman == pytest.approx(-1.0)


def test_what_is_not_known_of_a_patient_leaves_out_that_patient_alone() -> None:
    numbers = people(40)
    numbers["age"][:5] = np.nan
    numbers["size"][38:] = np.nan
    scores = np.random.default_rng(3).uniform(0.5, 1, 40)
    scores[20] = np.nan
    found = residual_trends(scores, numbers, "size", **FEW)
    assert found.raw["age"].patients == 34
    assert found.residual["age"].patients == 32
    assert np.isnan(found.residuals).sum() == 3


def test_all_trends_share_one_rate_of_false_discoveries() -> None:
    numbers = people()
    scores = np.random.default_rng(4).uniform(0.5, 1, 80)
    found = residual_trends(scores, numbers, "size", **FEW)
    told = [*found.raw.values(), *found.residual.values()]
    assert len(told) == 5
    assert max(one.q or 0 for one in told) == max(one.p or 0 for one in told)
    # Benjamini and Hochberg: the smallest q is the least of m p / rank.
    p_values = sorted(one.p or 0 for one in told)
    expected = min(5 * p / rank for rank, p in enumerate(p_values, 1))
    assert min(one.q or 0 for one in told) == pytest.approx(expected)


def test_few_patients_or_one_value_have_no_test() -> None:
    few = residual_trends(np.linspace(0.5, 0.9, 9), {"size": np.arange(9.0), "age": np.arange(9.0)}, "size", **FEW)
    assert (few.raw["age"].p, few.raw["age"].interval, few.residual, few.fit) == (None, None, {}, ())
    assert few.raw["age"].spearman == pytest.approx(1.0)
    same = residual_trends(np.linspace(0.5, 0.9, 12), {"size": np.full(12, 2.0), "age": np.arange(12.0)}, "size", **FEW)
    assert (same.raw["size"].spearman, same.raw["size"].line) == (None, ())
    # All of one size: the residual is the distance from the mean.
    assert same.residuals == pytest.approx(np.linspace(-0.2, 0.2, 12))
    none = residual_trends(np.zeros(0), {"age": np.zeros(0)}, None, **FEW)
    assert (none.raw["age"].patients, none.residual) == (0, {})


def test_without_a_size_there_are_raw_trends_alone() -> None:
    found = residual_trends(np.linspace(0, 1, 20), {"age": np.arange(20.0)}, None, **FEW)
    assert found.residual == {}
    assert found.raw["age"].q == found.raw["age"].p == 1 / 200
    with pytest.raises(InputError, match=r"size: expected one of \['age'\], got 'volume'"):
        residual_trends(np.zeros(20), {"age": np.arange(20.0)}, "volume")
