"""Intervals for one sample of patients: bootstrap-t for means, percentile for quantiles, Wilson for shares."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

from equivox.errors import InputError

MINIMUM_PATIENTS = 10
"""Below this many patients no interval is given: the resamples of so few patients say too little."""

_CHUNK = 4_000_000
"""Resampled values held in memory at a time: 32 MB."""

_CACHED = 1_000_000
"""Resamples of at most this many indices are kept: the same patients are resampled for every score of a table."""


@dataclass(frozen=True)
class Interval:
    """The ends of a confidence interval.

    Attributes:
        low: Lower end, in the unit of the values.
        high: Upper end; equal to `low` where all patients have the same value.
    """

    low: float
    high: float


def mean_interval(
    values: Float[np.ndarray, " patients"],
    *,
    draws: int = 4999,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval | None:
    r"""Return the bootstrap-t interval of a mean, resampling patients.

    Each resample gives ``t* = (mean* - mean) / se*``, and the interval is ``mean - t*_high se, mean - t*_low se``: the
    skew of Dice, whose low tail is long, is carried over to the two ends. The variance of a resample counts one
    further observation at the sample's variance (ours): a resample of equal values then has a small standard error
    and not none, as one draw of ``t* = infinity`` in forty would make the interval endless.

    The result depends on the values alone and not on their order: they are sorted before they are drawn from.

    Args:
        values: One value a patient, in any unit, none of them missing.
        draws: Resamples.
        seed: The same seed resamples the same patients.
        confidence: Coverage that is aimed at, two-sided and with equal tails.
        minimum: With fewer patients there is no interval.
        bounds: The values that a mean can have; the interval is cut there.

    Returns:
        The interval, of zero width where all patients have the same value, or None with fewer than `minimum` patients.

    Raises:
        InputError: If a value is not finite.

    References:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 12.5.

    Example:
        >>> mean_interval(np.full(12, 0.8))
        Interval(low=0.8, high=0.8)
        >>> mean_interval(np.array([0.7, 0.9])) is None
        True
    """
    ordered = _sorted(values)
    n = len(ordered)
    if n < minimum or n < 2:
        return None
    mean, variance = float(ordered.mean()), float(ordered.var(ddof=1))
    if ordered[0] == ordered[-1]:
        return Interval(float(ordered[0]), float(ordered[0]))

    def studentise(sample: Float[np.ndarray, "draws patients"]) -> Float[np.ndarray, " draws"]:
        spread = (sample.var(axis=1, ddof=1) * (n - 1) + variance) / n
        result: np.ndarray = (sample.mean(axis=1) - mean) / np.sqrt(spread / n)
        return result

    t = _resample(ordered, studentise, draws, seed)
    tail = (1 - confidence) / 2
    low_t, high_t = np.quantile(t, [tail, 1 - tail], method="inverted_cdf")
    error = np.sqrt(variance / n)
    return Interval(
        float(np.clip(mean - high_t * error, *bounds)),
        float(np.clip(mean - low_t * error, *bounds)),
    )


def quantile_interval(
    values: Float[np.ndarray, " patients"],
    quantile: float,
    *,
    draws: int = 4999,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
) -> Interval | None:
    """Return the percentile bootstrap interval of a quantile, resampling patients.

    A quantile has no standard error that could be trusted in a small sample, so it is not studentised. The two order
    statistics that a resample's quantile lies between are drawn themselves, and not the resample that has them: the
    k-th smallest of n uniform numbers is Beta(k, n - k + 1), the next one follows at the smallest of the n - k others.

    Args:
        values: One value a patient, none of them missing.
        quantile: For example 0.5 for the median, interpolated linearly between patients.
        draws: Resamples.
        seed: The same seed resamples the same patients.
        confidence: Coverage that is aimed at.
        minimum: With fewer patients there is no interval.

    Raises:
        InputError: If a value is not finite.
    """
    ordered = _sorted(values)
    if len(ordered) < minimum or len(ordered) < 2:
        return None
    rng = np.random.default_rng(seed)
    n = len(ordered)
    rank, part = divmod(quantile * (n - 1), 1)
    below = rng.beta(rank + 1, n - rank, draws)
    above = below + (1 - below) * (rng.beta(1, n - rank - 1, draws) if rank < n - 1 else 0.0)
    first, second = (ordered[np.minimum((n * place).astype(int), n - 1)] for place in (below, above))
    resampled = (1 - part) * first + part * second
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


def share_interval(
    count: int, patients: int, *, confidence: float = 0.95, minimum: int = MINIMUM_PATIENTS
) -> Interval | None:
    """Return Wilson's interval of a share, such as the failure rate.

    A bootstrap of a share of 0 has no width; this interval then still reaches up to what so few patients leave open.

    Args:
        count: Patients of whom it is true.
        patients: Patients in all.
        confidence: Coverage that is aimed at.
        minimum: With fewer patients there is no interval.

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    Example:
        >>> interval = share_interval(0, 20)
        >>> round(interval.low, 3), round(interval.high, 3)
        (0.0, 0.161)
    """
    if patients < minimum:
        return None
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    middle = (count + z2 / 2) / (patients + z2)
    half = np.sqrt(z2 * (count * (patients - count) / patients + z2 / 4)) / (patients + z2)
    return Interval(max(0.0, float(middle - half)), min(1.0, float(middle + half)))


def _sorted(values: Float[np.ndarray, " patients"]) -> Float[np.ndarray, " patients"]:
    if not np.isfinite(values).all():
        msg = "values: expected one finite number a patient, got a missing one; leave that patient out and count it"
        raise InputError(msg)
    return np.sort(values.astype(np.float64))


def _resample(
    values: Float[np.ndarray, " patients"],
    statistic: Callable[[Float[np.ndarray, "draws patients"]], Float[np.ndarray, " draws"]],
    draws: int,
    seed: int,
) -> Float[np.ndarray, " draws"]:
    n = len(values)
    if n * draws <= _CACHED:
        return statistic(values[_indices(n, draws, seed)])
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // n)
    parts = [
        statistic(values[rng.integers(0, n, (min(rows, draws - start), n), dtype=np.int32)])
        for start in range(0, draws, rows)
    ]
    return np.concatenate(parts)


@lru_cache(maxsize=16)
def _indices(patients: int, draws: int, seed: int) -> Int[np.ndarray, "draws patients"]:
    indices = np.random.default_rng(seed).integers(0, patients, (draws, patients), dtype=np.int32)
    indices.setflags(write=False)
    return indices
