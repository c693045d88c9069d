"""Intervals for one sample of patients: bootstrap-t or BCa for means, percentile for quantiles, Wilson for shares."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from jaxtyping import Float

from equivox.errors import InputError
from equivox.metrics.statistics.bca import bca_ends, jackknife_acceleration
from equivox.metrics.statistics.finite import require_finite

MeanMethod = Literal["bootstrap_t", "bca", "percentile"]

MINIMUM_PATIENTS = 10
"""Below this many patients no interval is given: the resamples of so few patients say too little."""

_CHUNK: Final = 4_000_000
"""Resampled values held in memory at a time: 32 MB."""

_CACHED: Final = 1_000_000
"""Resamples of at most this many values are kept: the same patients are resampled for every score of a table."""


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
    method: MeanMethod = "bootstrap_t",
    strata: Sequence[str | None] | None = None,
    draws: int = 4999,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval | None:
    r"""Return the interval of a mean, resampling patients.

    By default it is the bootstrap-t interval: each resample gives ``t* = (mean* - mean) / se*``, and the interval is
    ``mean - t*_high se, mean - t*_low se``: the skew of Dice, whose low tail is long, is carried over to the two ends.
    The variance of a resample counts one further observation at the sample's variance (ours): a resample of equal
    values then has a small standard error and not none, as one draw of ``t* = infinity`` in forty would make the
    interval endless.

    The result depends on the values alone and not on their order: they are sorted before they are drawn from.

    Args:
        values: One value a patient, in any unit, none of them missing. Signed differences of two scores of the same
            patients are such values too.
        method: ``bootstrap_t``; ``bca``, percentiles corrected for bias and acceleration, see `equivox.metrics.
            statistics.bca`; or ``percentile``, uncorrected, which is for comparison: it is too narrow in small samples.
        strata: One stratum a patient, None where it is not known: the patients of each are resampled among themselves,
            as if every new sample had as many of them. Patients of unknown stratum are one stratum; strata of a single
            patient are joined.
        draws: Resamples.
        seed: The same seed resamples the same patients.
        confidence: Coverage that is aimed at, two-sided and with equal tails.
        minimum: With fewer patients there is no interval.
        bounds: The values that a mean can have; the interval is cut there.

    Returns:
        The interval, of zero width where all patients have the same value, or None with fewer than `minimum` patients.

    Raises:
        InputError: If a value is not finite, or there is another number of strata than of patients.

    References:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 12.5 (bootstrap-t) and 14.3 (BCa).

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
    if ordered[0] == ordered[-1]:
        return Interval(float(ordered[0]), float(ordered[0]))
    parts = [ordered] if strata is None else _strata(values, strata)
    shares = [len(part) / n for part in parts]
    ends = _intervals([part[None, :] for part in parts], shares, method, draws, seed, confidence)
    return _interval(ends[0], bounds)


def mean_intervals(
    samples: Float[np.ndarray, "samples patients"],
    *,
    method: MeanMethod = "bootstrap_t",
    draws: int = 4999,
    seed: int = 0,
    confidence: float = 0.95,
) -> Float[np.ndarray, "samples 2"]:
    """Return the lower and upper end of the interval of each sample's mean, as `mean_interval` has them one by one.

    It is what simulations call, so it gives an interval to two patients too, and does not cut it.

    Args:
        samples: One row a sample, of as many patients each; two or more, all finite.
        method: As in `mean_interval`; likewise the others.
        draws: Resamples.
        seed: All samples are resampled alike.
        confidence: Coverage that is aimed at.

    Raises:
        InputError: If a value is not finite.
    """
    return _intervals([_sorted(samples)], [1.0], method, draws, seed, confidence)


def difference_interval(
    first: Float[np.ndarray, " patients"],
    second: Float[np.ndarray, " others"],
    *,
    method: MeanMethod = "bootstrap_t",
    draws: int = 4999,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval | None:
    """Return the interval of the mean of `first` minus the mean of `second`, resampling the patients of each.

    It belongs to one difference alone: several that are read together need the simultaneous intervals of
    `equivox.metrics.statistics.permutation`.

    Args:
        first: One value a patient of a group.
        second: One value a patient of another group.
        method: As in `mean_interval`; likewise the others.
        draws: Resamples.
        seed: The same seed resamples the same patients.
        confidence: Coverage that is aimed at.
        minimum: With fewer patients on either side there is no interval.
        bounds: The differences that are possible; the interval is cut there.

    Raises:
        InputError: If a value is not finite.

    Example:
        >>> round(difference_interval(np.full(12, 0.8), np.full(10, 0.5)).low, 6)
        0.3
    """
    parts = [_sorted(first), _sorted(second)]
    if min(len(part) for part in parts) < max(minimum, 2):
        return None
    ends = _intervals([part[None, :] for part in parts], [1.0, -1.0], method, draws, seed, confidence)
    return _interval(ends[0], bounds)


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
    return _interval(quantile_intervals(ordered[None, :], quantile, draws=draws, seed=seed, confidence=confidence)[0])


def quantile_intervals(
    samples: Float[np.ndarray, "samples patients"],
    quantile: float,
    *,
    draws: int = 4999,
    seed: int = 0,
    confidence: float = 0.95,
) -> Float[np.ndarray, "samples 2"]:
    """Return the lower and upper end of the interval of each sample's quantile, as `quantile_interval` has them.

    Args:
        samples: One row a sample, of as many patients each; two or more, all finite.
        quantile: As in `quantile_interval`; likewise the others.
        draws: Resamples.
        seed: All samples are resampled alike.
        confidence: Coverage that is aimed at.

    Raises:
        InputError: If a value is not finite.
    """
    ordered = _sorted(samples)
    rng = np.random.default_rng(seed)
    n = ordered.shape[1]
    rank, part = divmod(quantile * (n - 1), 1)
    below = rng.beta(rank + 1, n - rank, draws)
    above = below + (1 - below) * (rng.beta(1, n - rank - 1, draws) if rank < n - 1 else 0.0)
    first, second = (np.minimum((n * place).astype(int), n - 1) for place in (below, above))
    tail = (1 - confidence) / 2
    ends = []
    for rows in _row_chunks(ordered, draws):
        resampled = (1 - part) * rows[:, first] + part * rows[:, second]
        ends.append(np.quantile(resampled, [tail, 1 - tail], axis=1, method="inverted_cdf").T)
    return np.concatenate(ends)


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


def _interval(ends: Float[np.ndarray, "2"], bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    low, high = ends.clip(*bounds).tolist()
    return Interval(low, high)


def _sorted(values: Float[np.ndarray, "*samples patients"]) -> Float[np.ndarray, "*samples patients"]:
    require_finite(values)
    return np.sort(values.astype(np.float64), axis=-1)


def _strata(
    values: Float[np.ndarray, " patients"], strata: Sequence[str | None]
) -> list[Float[np.ndarray, " patients_of_one"]]:
    """Return the sorted values of each stratum, none of them of a single patient."""
    if len(strata) != len(values):
        msg = f"strata: expected {len(values)} strata, one a patient, got {len(strata)}; align the table"
        raise InputError(msg)
    names = sorted({stratum for stratum in strata if stratum is not None})
    parts = [values[[stratum == name for stratum in strata]] for name in names]
    parts.append(values[[stratum is None for stratum in strata]])
    # A single patient has no spread to resample.
    single = [part for part in parts if len(part) == 1]
    parts = [part for part in parts if len(part) > 1]
    if single:
        joined = np.concatenate(single)
        if len(joined) == 1:
            smallest = min(range(len(parts)), key=lambda index: len(parts[index]))
            joined = np.concatenate([joined, parts.pop(smallest)])
        parts.append(joined)
    return [_sorted(part) for part in parts]


def _intervals(
    parts: Sequence[Float[np.ndarray, "samples _"]],
    weights: Sequence[float],
    method: MeanMethod,
    draws: int,
    seed: int,
    confidence: float,
) -> Float[np.ndarray, "samples 2"]:
    """Return the ends of the interval of ``sum_k weights_k * mean_k``, the parts being resampled each in itself."""
    observed = sum(weight * part.mean(axis=1) for part, weight in zip(parts, weights, strict=True))
    chunks = zip(*(_row_chunks(part, draws) for part in parts), strict=True)
    ends = [_shifts(chunk, weights, method, draws, seed, confidence) for chunk in chunks]
    low, high = np.concatenate(ends).T
    return np.stack([observed + low, observed + high], axis=1)


def _shifts(
    parts: Sequence[Float[np.ndarray, "samples _"]],
    weights: Sequence[float],
    method: MeanMethod,
    draws: int,
    seed: int,
    confidence: float,
) -> Float[np.ndarray, "samples 2"]:
    """Return how far the two ends lie from the observed value."""
    samples = len(parts[0])
    shift, spread = np.zeros((samples, draws)), np.zeros((samples, draws))
    error = np.zeros(samples)
    centred = [part - part.mean(axis=1, keepdims=True) for part in parts]
    for index, (part, weight) in enumerate(zip(centred, weights, strict=True)):
        n = part.shape[1]
        variance = (part**2).sum(axis=1) / (n - 1)
        error += weight**2 * variance / n
        at = 0
        for counts in _counts(n, draws, seed, index):
            here = slice(at, at + len(counts))
            at += len(counts)
            mean = part @ counts.T / n
            shift[:, here] += weight * mean
            if method == "bootstrap_t":
                squares = np.maximum((part**2) @ counts.T - n * mean**2, 0.0)
                # The sample's own variance counts as one observation more.
                spread[:, here] += weight**2 * (squares + variance[:, None]) / n**2
    tail = (1 - confidence) / 2
    if method == "bca":
        return bca_ends(shift, jackknife_acceleration(centred, weights), confidence)
    if method == "percentile":
        percentiles: np.ndarray = np.quantile(shift, [tail, 1 - tail], axis=1).T
        return percentiles
    t = np.divide(shift, np.sqrt(spread), out=np.zeros_like(shift), where=spread > 0)
    low_t, high_t = np.quantile(t, [tail, 1 - tail], axis=1, method="inverted_cdf")
    return np.stack([-high_t * np.sqrt(error), -low_t * np.sqrt(error)], axis=1)


def _row_chunks(
    samples: Float[np.ndarray, "samples patients"], draws: int
) -> Iterator[Float[np.ndarray, "rows patients"]]:
    rows = max(1, _CHUNK // draws)
    for start in range(0, len(samples), rows):
        yield samples[start : start + rows]


def _counts(patients: int, draws: int, seed: int, part: int) -> Iterator[Float[np.ndarray, "rows patients"]]:
    """Yield how often each patient is in each resample, many resamples at a time and `draws` of them in all."""
    if patients * draws <= _CACHED:
        yield _kept_counts(patients, draws, seed, part)
        return
    rng = _generator(seed, part)
    rows = max(1, _CHUNK // patients)
    for start in range(0, draws, rows):
        yield _drawn_counts(patients, min(rows, draws - start), rng)


@lru_cache(maxsize=16)
def _kept_counts(patients: int, draws: int, seed: int, part: int) -> Float[np.ndarray, "draws patients"]:
    counts = _drawn_counts(patients, draws, _generator(seed, part))
    counts.setflags(write=False)
    return counts


def _drawn_counts(patients: int, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draws patients"]:
    drawn = rng.integers(0, patients, (draws, patients), dtype=np.int32)
    flat = (drawn + patients * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=draws * patients).reshape(draws, patients).astype(np.float64)


def _generator(seed: int, part: int) -> np.random.Generator:
    return np.random.default_rng(seed if part == 0 else [seed, part])
