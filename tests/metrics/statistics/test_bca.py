"""The BCa interval against scipy's, and by hand."""

import numpy as np
import pytest
from scipy import stats

from equivox.metrics.statistics.bca import bca_ends, jackknife_acceleration
from equivox.metrics.statistics.bootstrap import difference_interval, mean_interval


def dice_with_misses(rng: np.random.Generator, patients: int) -> np.ndarray:
    return np.where(rng.random(patients) < 0.1, 0.0, rng.beta(9, 1.5, patients))


@pytest.mark.parametrize("patients", [10, 13, 40])
def test_mean_agrees_with_scipy(patients: int) -> None:
    values = dice_with_misses(np.random.default_rng(patients), patients)
    ours = mean_interval(values, method="bca", draws=19_999)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=19_999, method="BCa", rng=1).confidence_interval
    # The percentiles of 19,999 resamples have a standard error of some hundredth of the interval's width.
    width = theirs.high - theirs.low
    assert ours is not None
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)
    percentile = mean_interval(values, method="percentile", draws=19_999)
    assert percentile is not None
    # The correction is larger than that tolerance, so that leaving it out would be seen.
    if patients == 13:
        assert abs(percentile.low - theirs.low) > 0.05 * width


def test_difference_agrees_with_scipy() -> None:
    rng = np.random.default_rng(2)
    first, second = dice_with_misses(rng, 15), rng.beta(4, 1, 30)
    ours = difference_interval(first, second, method="bca", draws=19_999)
    theirs = stats.bootstrap(
        (first, second),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        n_resamples=19_999,
        method="BCa",
        rng=1,
    ).confidence_interval
    assert ours is not None
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=0.01), pytest.approx(theirs.high, abs=0.01))


def test_acceleration_is_that_of_leaving_out_one_patient_at_a_time() -> None:
    rng = np.random.default_rng(0)
    parts, weights = [rng.beta(9, 1.5, 7), rng.beta(2, 2, 11)], [7 / 18, 11 / 18]

    def statistic(given: list[np.ndarray]) -> float:
        return sum(weight * part.mean() for part, weight in zip(given, weights, strict=True))

    cubes = squares = 0.0
    for index, part in enumerate(parts):
        left_out = [np.delete(part, patient) for patient in range(len(part))]
        values = np.array([statistic([*parts[:index], rest, *parts[index + 1 :]]) for rest in left_out])
        influence = (len(part) - 1) * (values.mean() - values)
        cubes += (influence**3).sum() / len(part) ** 3
        squares += (influence**2).sum() / len(part) ** 2
    centred = [(part - part.mean())[None, :] for part in parts]
    assert jackknife_acceleration(centred, weights)[0] == pytest.approx(cubes / (6 * squares**1.5))


def test_ends_without_bias_and_acceleration_are_the_percentiles() -> None:
    # 41 shifts from -20 to 20, half of the one at 0 below: no bias. The 2.5 % point lies at -20 + .025 * 40 = -19.
    ends = bca_ends(np.arange(-20.0, 21.0)[None, :], np.zeros(1), 0.95)
    assert ends[0] == pytest.approx([-19.0, 19.0])


def test_ends_by_hand_with_bias_and_acceleration() -> None:
    # 30 of 100 shifts lie below 0: z0 = Phi^-1(.3) = -.5244. With a = .05 and z = -+1.96:
    # -.5244 + -2.4844 / (1 + .05 * 2.4844) = -2.7343 -> .003126;
    # -.5244 + 1.4356 / (1 - .05 * 1.4356) = 1.0222 -> .84666
    shifts = np.arange(100.0)[None, :] - 29.5
    ends = bca_ends(shifts, np.array([0.05]), 0.95)
    assert ends[0] == pytest.approx([0.003126 * 99 - 29.5, 0.84666 * 99 - 29.5], abs=0.01)


def test_resamples_that_all_equal_the_sample_give_no_width() -> None:
    assert bca_ends(np.zeros((2, 50)), np.zeros(2), 0.95).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_strong_acceleration_stops_at_the_outermost_resamples() -> None:
    # 1 - a (z0 + z) = 1 - .6 * 1.96 < 0: the correction has passed its pole.
    ends = bca_ends(np.arange(-20.0, 21.0)[None, :], np.array([0.6]), 0.95)
    assert ends[0, 1] == 20.0
    assert ends[0, 0] > -19.0
