"""Two models on the same patients: the mean paired difference, tested by flipping the signs of patients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, mean_interval

FLIPS = 9999

ENUMERATED_PATIENTS = 13
"""Up to this many patients all 2^n patterns of signs are gone through; 2^13 is 8,192."""

_CHUNK = 2_000_000
"""Signs held in memory at a time: 16 MB."""

_GAP_DRAWS = 4000
"""Simulated samples behind a detectable difference, as behind a detectable gap between groups."""


@dataclass(frozen=True)
class PairedDifference:
    """The differences of one score between two models, patient by patient.

    Attributes:
        patients: Patients that have the score from both models.
        left_out: Patients that lack it from one of the two, or from both.
        mean: Mean of second minus first, in the unit of the score; None without a patient, as for what follows.
        low: Lower end of its interval; None with too few patients.
        high: Upper end.
        median: Median of second minus first.
        greater: Patients whose score from the second model is the greater one.
        smaller: Patients whose score from the first model is the greater one.
        equal: Patients with twice the same score.
        p_value: Of the sign-flip test, two-sided.
    """

    patients: int
    left_out: int
    mean: float | None
    low: float | None
    high: float | None
    median: float | None
    greater: int
    smaller: int
    equal: int
    p_value: float | None


def paired_difference(
    first: Float[np.ndarray, " patients"],
    second: Float[np.ndarray, " same"],
    *,
    flips: int = FLIPS,
    draws: int = 4999,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
) -> PairedDifference:
    """Compare two models on the same patients.

    Args:
        first: One value a patient, from the first model; NaN where it has none.
        second: One value a patient in the same order, from the second model.
        flips: Patterns of signs drawn for the test, see `sign_flip_p`.
        draws: Resamples behind the bootstrap-t interval of the mean difference.
        seed: Of both.
        confidence: Of the interval.
        minimum: With fewer patients there is no interval.

    Raises:
        InputError: If the two have another number of patients.

    Example:
        >>> found = paired_difference(np.array([0.6, 0.7, np.nan]), np.array([0.7, 0.7, 0.9]))
        >>> found.patients, found.left_out, round(found.mean, 6), found.greater, found.equal, found.p_value
        (2, 1, 0.05, 1, 1, 1.0)
    """
    if len(first) != len(second):
        msg = f"values: expected {len(first)} of both models, one a patient, got {len(second)}; align the patients"
        raise InputError(msg)
    change = second.astype(np.float64) - first.astype(np.float64)
    difference = change[np.isfinite(change)]
    n = len(difference)
    if not n:
        return PairedDifference(0, len(change), None, None, None, None, 0, 0, 0, None)
    # What rounding leaves of a difference of exactly zero favours nobody.
    difference[np.abs(difference) <= _rounding(first, second)] = 0.0
    interval = mean_interval(difference, draws=draws, seed=seed, confidence=confidence, minimum=minimum)
    return PairedDifference(
        patients=n,
        left_out=len(change) - n,
        mean=float(np.clip(difference.mean(), difference.min(), difference.max())),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        median=float(np.median(difference)),
        greater=int((difference > 0).sum()),
        smaller=int((difference < 0).sum()),
        equal=int((difference == 0).sum()),
        p_value=sign_flip_p(difference, flips=flips, seed=seed),
    )


def sign_flip_p(differences: Float[np.ndarray, " patients"], *, flips: int = FLIPS, seed: int = 0) -> float:
    r"""Return the two-sided p-value of the mean paired difference, by flipping the signs of patients.

    Were the two models alike, each patient's difference could as well have come with the other sign. The statistic is
    ``T = m / (s / sqrt(n))``, m being the mean. Flips leave the sum of squares ``Q`` as it is, so that
    ``T^2 = n (n - 1) m^2 / (Q - n m^2)`` rises with ``|m|``: the studentised and the raw mean order the flips alike and
    give one and the same p-value. What studentising mends elsewhere, groups of unequal sizes and spreads, does not
    arise in pairs.

    With at most `ENUMERATED_PATIENTS` patients all ``2^n`` patterns are gone through and p is the exact share of those
    at least as far from 0, the observed one among them. With more, ``p = (1 + b) / (1 + B)``, where ``b`` of ``B``
    drawn patterns are. Patients without a difference stay in and change nothing.

    The result depends on the differences alone, and not on the order of the patients or on which model comes first.

    Args:
        differences: One a patient, in any unit, none missing.
        flips: Patterns that are drawn where not all are gone through.
        seed: The same seed draws the same patterns.

    Returns:
        The p-value: 1 where all differences are 0.

    Raises:
        InputError: If there is no patient, or a difference is missing.

    References:
        Fisher, "The Design of Experiments", 1935, section 21; Good, "Permutation, Parametric and Bootstrap Tests of
        Hypotheses", 2005, section 3.2.

    Example:
        >>> sign_flip_p(np.array([0.1, 0.2, 0.3]))  # 2 of 8 patterns: all positive, all negative
        0.25
    """
    sizes = _sizes(differences)
    n = len(sizes)
    total = float(sizes.sum())
    if total == 0:
        return 1.0
    # Patterns with the same sum tie, whatever the order in which they were added up.
    least = abs(float(differences.sum())) - 1e-9 * total
    if n <= ENUMERATED_PATIENTS:
        return float((np.abs(_all_signs(n) @ sizes) >= least).mean())
    at_least = int((_flipped_sums(sizes, flips, seed) >= least).sum())
    return (1 + at_least) / (1 + flips)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for all tests of a family, by Holm's step-down method.

    The k-th smallest of m is multiplied by ``m - k + 1``, none is smaller than one before it, and none exceeds 1.

    Args:
        p_values: Of the family, each in [0, 1], in any order.

    Returns:
        The adjusted ones, in the same order; none for no test.

    Raises:
        InputError: If a value is missing or not in [0, 1].

    References:
        Holm, "A simple sequentially rejective multiple test procedure", Scand J Statist 1979.

    Example:
        >>> [round(p, 6) for p in holm([0.03, 0.01, 0.04])]
        [0.06, 0.03, 0.06]
    """
    for p in p_values:
        if not 0 <= p <= 1:
            msg = f"p_values: expected numbers from 0 to 1, got {p}; leave out what was not tested"
            raise InputError(msg)
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def smallest_sign_flip_p(patients: int, *, flips: int = FLIPS) -> float:
    """Return the smallest p-value that the sign-flip test of so many patients can give.

    Example:
        >>> smallest_sign_flip_p(10), smallest_sign_flip_p(40)
        (0.001953125, 0.0001)
    """
    return 2.0 ** (1 - patients) if patients <= ENUMERATED_PATIENTS else 1 / (1 + flips)


@dataclass(frozen=True)
class PairedPower:
    """What a comparison of two models could have seen.

    Attributes:
        detectable: The smallest true mean difference that the test finds with the stated power.
        patients_needed: How many patients it takes to find the target, by the normal approximation.
    """

    detectable: float
    patients_needed: int


def paired_power(
    differences: Float[np.ndarray, " patients"],
    *,
    target: float,
    flips: int = FLIPS,
    seed: int = 0,
    level: float = 0.05,
    power: float = 0.8,
    minimum: int = MINIMUM_PATIENTS,
) -> PairedPower | None:
    """Return the smallest mean paired difference that the sign-flip test could have seen.

    Patients are drawn anew from the centred differences (widened by ``sqrt(n / (n - 1))``), and the answer is the
    shift at which ``|T| > q`` happens with the stated power, in the direction in which it takes more. ``q`` comes from
    flipping the signs of the centred differences. So whatever mean was observed plays no part in it.

    Args:
        differences: One a patient, none missing.
        target: A difference that matters, above 0, for `patients_needed`.
        flips: Patterns of signs behind ``q``.
        seed: Of the patterns and of the simulated samples.
        level: Of the test. Where a difference is one of ``k`` contrasts under Holm, ``level / k`` is what the smallest
            p-value is held against.
        power: The probability of finding the difference.
        minimum: With fewer patients there is no answer, and `patients_needed` is never below it.

    Returns:
        The answer, or None with fewer than `minimum` patients.
    """
    n = len(differences)
    if n < minimum or n < 2:
        return None
    residuals = np.sort(differences.astype(np.float64) - differences.mean()) * math.sqrt(n / (n - 1))
    critical = _critical_t(residuals, flips, seed, level)
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // n)
    reaches = []
    for start in range(0, _GAP_DRAWS, rows):
        sample = residuals[rng.integers(0, n, (min(rows, _GAP_DRAWS - start), n))]
        error = sample.std(axis=1, ddof=1) / math.sqrt(n)
        reach = np.where(error > 0, critical * error, 0.0) if math.isfinite(critical) else np.full(len(sample), np.inf)
        reaches.append(np.stack([reach - sample.mean(axis=1), reach + sample.mean(axis=1)]))
    ends = np.quantile(np.concatenate(reaches, axis=1), power, axis=1, method="inverted_cdf")
    spread = float(residuals.var(ddof=1)) * (n - 1) / n
    z = NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(power)
    needed = max(minimum, math.ceil(spread * (z / target) ** 2 - 1e-9))
    return PairedPower(float(max(ends.max(), 0.0)), needed)


def _critical_t(residuals: Float[np.ndarray, " patients"], flips: int, seed: int, level: float) -> float:
    """Return what |T| exceeds under flips with a probability below the level; infinite where the test cannot."""
    n = len(residuals)
    sizes = _sizes(residuals)
    if not sizes.any():
        return 0.0
    sums = np.abs(_all_signs(n) @ sizes) if n <= ENUMERATED_PATIENTS else _flipped_sums(sizes, flips, seed)
    # One drawn pattern stands for the observed one, as in p = (1 + b) / (1 + B).
    spare = 0 if n <= ENUMERATED_PATIENTS else 1
    rank = math.ceil(level * (len(sums) + spare) - 1e-9) - 1 - spare
    if rank < 0 or level < smallest_sign_flip_p(n, flips=flips):
        return math.inf
    mean = float(np.sort(sums)[len(sums) - 1 - rank]) / n
    variance = (float(sizes @ sizes) - n * mean * mean) / (n - 1)
    return mean / math.sqrt(variance / n) if variance > 1e-15 * float(sizes @ sizes) else math.inf


def _sizes(differences: Float[np.ndarray, " patients"]) -> Float[np.ndarray, " patients"]:
    if not len(differences) or not np.isfinite(differences).all():
        msg = (
            "differences: expected one finite number a patient, got a missing one; leave that patient out and count it"
        )
        raise InputError(msg)
    return np.sort(np.abs(differences.astype(np.float64)))


def _rounding(first: Float[np.ndarray, " patients"], second: Float[np.ndarray, " same"]) -> float:
    largest = np.nanmax(np.abs(np.concatenate([first, second])))
    return 1e-12 * float(largest)


def _flipped_sums(sizes: Float[np.ndarray, " patients"], flips: int, seed: int) -> Float[np.ndarray, " flips"]:
    n = len(sizes)
    if n * flips <= _CHUNK:
        sums: np.ndarray = np.abs(_drawn_signs(n, flips, seed) @ sizes)
        return sums
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // n)
    parts = [np.abs(_signs(rng, min(rows, flips - start), n) @ sizes) for start in range(0, flips, rows)]
    return np.concatenate(parts)


@lru_cache(maxsize=8)
def _drawn_signs(patients: int, flips: int, seed: int) -> Float[np.ndarray, "flips patients"]:
    signs = _signs(np.random.default_rng(seed), flips, patients)
    signs.setflags(write=False)
    return signs


def _signs(rng: np.random.Generator, rows: int, patients: int) -> Float[np.ndarray, "rows patients"]:
    signs: np.ndarray = 2.0 * rng.integers(0, 2, (rows, patients), dtype=np.int8) - 1.0
    return signs


@lru_cache(maxsize=ENUMERATED_PATIENTS)
def _all_signs(patients: int) -> Float[np.ndarray, "patterns patients"]:
    bits = (np.arange(2**patients)[:, None] >> np.arange(patients)[None, :]) & 1
    signs: np.ndarray = 2.0 * bits - 1.0
    signs.setflags(write=False)
    return signs
