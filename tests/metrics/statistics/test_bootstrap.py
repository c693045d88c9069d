"""Intervals of one sample of patients."""

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import Interval, mean_interval, quantile_interval, share_interval


def skewed(rng: np.random.Generator, patients: int) -> np.ndarray:
    """Dice-like: most patients around 0.86, a long tail below."""
    return rng.beta(9, 1.5, patients)


@pytest.mark.parametrize(("patients", "repeats"), [(12, 400), (30, 400)])
def test_bootstrap_t_covers_the_mean_of_skewed_dice(patients: int, repeats: int) -> None:
    # Nominal .95; 400 repeats have a standard error of .011, so .92 lies 2.7 of them below.
    truth = 9 / 10.5
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(repeats):
        interval = mean_interval(skewed(rng, patients), draws=999)
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / repeats <= 0.98


def test_interval_leans_towards_the_long_tail() -> None:
    values = skewed(np.random.default_rng(1), 40)
    interval = mean_interval(values)
    assert interval is not None
    assert values.mean() - interval.low > interval.high - values.mean()


def test_equal_values_give_an_interval_of_no_width() -> None:
    assert mean_interval(np.full(15, 0.7)) == Interval(0.7, 0.7)
    assert quantile_interval(np.full(15, 0.7), 0.1) == Interval(0.7, 0.7)


def test_nearly_equal_values_give_a_finite_interval() -> None:
    # A third of the resamples of this sample are all ones: without care their t would be infinite.
    values = np.array([1.0] * 11 + [0.5])
    interval = mean_interval(values)
    assert interval is not None
    assert 0.6 < interval.low < values.mean() < interval.high < 1.1
    clipped = mean_interval(values, bounds=(0.0, 1.0))
    assert clipped is not None
    assert clipped.high <= 1.0


@pytest.mark.parametrize("patients", [0, 1, 9])
def test_no_interval_under_ten_patients(patients: int) -> None:
    values = np.linspace(0.5, 0.9, patients)
    assert mean_interval(values) is None
    assert quantile_interval(values, 0.5) is None
    assert share_interval(0, patients) is None


def test_order_of_patients_does_not_matter_and_the_seed_does() -> None:
    values = skewed(np.random.default_rng(2), 20)
    assert mean_interval(values) == mean_interval(values[::-1].copy())
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_many_patients_are_resampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).normal(0, 1, 3000)
    interval = mean_interval(values, draws=1500)
    assert interval is not None
    # By the normal approximation.
    half = 1.96 * values.std(ddof=1) / 3000**0.5
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_missing_value_is_refused() -> None:
    with pytest.raises(InputError, match="expected one finite number a patient"):
        mean_interval(np.array([0.5] * 11 + [np.nan]))


def test_wilson_by_hand() -> None:
    # 2 of 20, z^2 = 3.8415: middle (2 + 1.92) / 23.84 = .1644, half sqrt(3.8415 * (1.8 + .9604)) / 23.84 = .1366
    interval = share_interval(2, 20)
    assert interval is not None
    assert interval.low == pytest.approx(0.0279, abs=1e-3)
    assert interval.high == pytest.approx(0.3010, abs=1e-3)


def test_quantile_interval_covers_the_median() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        interval = quantile_interval(rng.normal(0, 1, 40), 0.5, draws=499)
        assert interval is not None
        covered += interval.low <= 0 <= interval.high
    # Nominal .95, standard error .015.
    assert covered / 200 > 0.90


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9, 1.0])
def test_drawn_order_statistics_are_those_of_resamples(quantile: float) -> None:
    values = np.random.default_rng(3).beta(9, 1.5, 23)
    interval = quantile_interval(values, quantile, draws=40_000, confidence=0.9)
    rng = np.random.default_rng(4)
    resampled = np.quantile(values[rng.integers(0, 23, (40_000, 23))], quantile, axis=1)
    low, high = np.quantile(resampled, [0.05, 0.95])
    assert interval is not None
    assert interval.low == pytest.approx(low, abs=0.006)
    assert interval.high == pytest.approx(high, abs=0.006)
