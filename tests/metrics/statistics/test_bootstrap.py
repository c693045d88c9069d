"""Intervals of one sample of patients."""

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import (
    Interval,
    MeanMethod,
    difference_interval,
    mean_interval,
    mean_intervals,
    quantile_interval,
    quantile_intervals,
    share_interval,
)


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


@pytest.mark.parametrize("method", ["bootstrap_t", "bca", "percentile"])
def test_many_samples_at_once_get_the_intervals_that_each_gets_alone(method: MeanMethod) -> None:
    samples = skewed(np.random.default_rng(4), 36).reshape(3, 12)
    together = mean_intervals(samples, method=method, draws=499)
    alone = [mean_interval(sample, method=method, draws=499) for sample in samples]
    assert together.tolist() == [[pytest.approx(one.low), pytest.approx(one.high)] for one in alone if one is not None]
    deciles = quantile_intervals(samples, 0.1, draws=499)
    one = quantile_interval(samples[1], 0.1, draws=499)
    assert one is not None
    assert (one.low, one.high) == tuple(deciles[1])


def test_percentile_interval_is_that_of_the_resampled_means() -> None:
    values = skewed(np.random.default_rng(6), 15)
    resampled = np.random.default_rng(1).choice(values, (40_000, 15)).mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    interval = mean_interval(values, method="percentile", draws=9999)
    assert interval is not None
    assert (interval.low, interval.high) == (pytest.approx(low, abs=0.002), pytest.approx(high, abs=0.002))


def test_one_stratum_is_none_and_several_take_their_differences_out_of_the_interval() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(0.5, 0.02, 40) + np.repeat([0.0, 0.3], 20)
    plain = mean_interval(values)
    assert mean_interval(values, strata=["a"] * 40) == plain
    assert mean_interval(values, strata=[None] * 40) == plain
    by_group = mean_interval(values, strata=["a"] * 20 + ["b"] * 20)
    assert plain is not None
    assert by_group is not None
    # The spread of the whole is sqrt(.02^2 + .15^2), that within the groups .02: a seventh.
    assert by_group.high - by_group.low < (plain.high - plain.low) / 5
    # Normal values in two strata of 20: mean -+ t(38) * sqrt(sum of (1/2)^2 s^2 / 20).
    error = np.sqrt(values[:20].var(ddof=1) / 80 + values[20:].var(ddof=1) / 80)
    assert by_group.high - by_group.low == pytest.approx(2 * 2.024 * error, rel=0.08)


def test_strata_of_single_patients_are_joined() -> None:
    values = skewed(np.random.default_rng(9), 12)
    lonely = mean_interval(values, strata=["a"] * 6 + ["b"] * 4 + ["c", "d"])
    assert lonely == mean_interval(values, strata=["a"] * 6 + ["b"] * 4 + ["z", "z"])
    # A last single patient joins the smallest stratum; the unknown are a stratum too.
    last = mean_interval(values, strata=["a"] * 7 + [None] * 4 + ["c"])
    assert last == mean_interval(values, strata=["a"] * 7 + ["z"] * 5)


def test_strata_that_do_not_align_are_refused() -> None:
    with pytest.raises(InputError, match="expected 12 strata, one a patient, got 11"):
        mean_interval(np.linspace(0, 1, 12), strata=["a"] * 11)


def test_difference_of_two_groups_by_theory() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.8, 0.1, 40), rng.normal(0.7, 0.2, 30)
    interval = difference_interval(first, second)
    assert interval is not None
    difference = first.mean() - second.mean()
    error = np.sqrt(first.var(ddof=1) / 40 + second.var(ddof=1) / 30)
    # Welch's interval has some 40 degrees of freedom: t = 2.02.
    assert interval.low == pytest.approx(difference - 2.02 * error, abs=0.25 * error)
    assert interval.high == pytest.approx(difference + 2.02 * error, abs=0.25 * error)
    assert difference_interval(first, second[:9]) is None
    clipped = difference_interval(first, second, bounds=(-0.1, 0.1))
    assert clipped is not None
    assert clipped.high == 0.1
