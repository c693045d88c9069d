"""How one number of the patients goes with another: rank and linear correlation, adjusted, and the slope."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, Interval

_CHUNK: Final = 1_000_000
"""Resampled values held in memory at a time: 8 MB, and several such at once."""


@dataclass(frozen=True)
class Association:
    """How a measure goes with a number of the patients.

    Attributes:
        patients: Patients with both.
        spearman: Rank correlation; None where either has a single value, and so for the others.
        spearman_interval: None with too few patients.
        pearson: Linear correlation.
        pearson_interval: None with too few patients.
        p: Of no association, by permuting the ranks; None with too few patients.
        adjusted: Rank correlation of what the covariates leave of both ranks; None without covariates, or with too few
            patients for them.
        slope: Of the measure per unit of the number, by least squares with the covariates.
        slope_interval: From standard errors that allow for unequal variances (HC3); None with too few patients.
    """

    patients: int
    spearman: float | None
    spearman_interval: Interval | None
    pearson: float | None
    pearson_interval: Interval | None
    p: float | None
    adjusted: float | None
    slope: float | None
    slope_interval: Interval | None


def associate(
    number: Float[np.ndarray, " patients"],
    measure: Float[np.ndarray, " patients"],
    covariates: Sequence[Sequence[str | float | None]] = (),
    *,
    draws: int = 1999,
    permutations: int = 1999,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
) -> Association:
    """Describe how a measure goes with a number of the patients.

    An association only: nothing is said about causes.

    Args:
        number: One a patient, such as age; NaN where it is not known.
        measure: One a patient, such as a volume; NaN where it is not known.
        covariates: Further things of the patients to adjust for: words make groups, numbers stay numbers. A patient
            of whom one is None is left out of what is adjusted.
        draws: Resamples of patients behind the intervals, which are percentile intervals.
        permutations: Behind `p`.
        seed: Of both.
        confidence: Of the intervals.
        minimum: With fewer patients there is no interval, no `p` and no adjustment.

    Raises:
        InputError: If the lengths differ.
    """
    if len(number) != len(measure) or any(len(one) != len(measure) for one in covariates):
        got = sorted({len(number), *map(len, covariates)})
        msg = f"association: expected {len(measure)} values of each, got {got}; align the table"
        raise InputError(msg)
    known = np.isfinite(number) & np.isfinite(measure)
    x, y = number[known].astype(np.float64), measure[known].astype(np.float64)
    n = len(x)
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Association(n, None, None, None, None, None, None, None, None)
    ranks = average_ranks(x), average_ranks(y)
    enough = n >= minimum
    settings = (draws, seed, confidence)
    design = _design([[one[place] for place in np.flatnonzero(known).tolist()] for one in covariates], n)
    slope, slope_interval = slope_hc3(x, y, *design, confidence=confidence) if enough else (None, None)
    return Association(
        patients=n,
        spearman=correlation(*ranks),
        spearman_interval=_interval(x, y, *settings, by_rank=True) if enough else None,
        pearson=correlation(x, y),
        pearson_interval=_interval(x, y, *settings, by_rank=False) if enough else None,
        p=permutation_p(*ranks, draws=permutations, seed=seed) if enough else None,
        adjusted=partial_correlation(*ranks, *design) if enough and covariates else None,
        slope=slope,
        slope_interval=slope_interval,
    )


def average_ranks(values: Float[np.ndarray, "*draws patients"]) -> Float[np.ndarray, "*draws patients"]:
    """Return ranks from 1 along the last axis; equal values share the mean of their ranks."""
    from scipy.stats import rankdata

    ranks: np.ndarray = rankdata(values, axis=-1)
    return ranks


def correlation(x: Float[np.ndarray, " patients"], y: Float[np.ndarray, " patients"]) -> float | None:
    """Return Pearson's correlation, None where either has a single value. Of ranks it is Spearman's.

    Example:
        >>> correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
        0.5
    """
    a, b = x - x.mean(), y - y.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / size, -1, 1)) if size > 0 else None


def permutation_p(
    x: Float[np.ndarray, " patients"], y: Float[np.ndarray, " patients"], *, draws: int = 1999, seed: int = 0
) -> float:
    """Return p of no association: how often shuffled pairs correlate as strongly, ``(1 + b) / (1 + B)``."""
    rng = np.random.default_rng(seed)
    a, b = x - x.mean(), y - y.mean()
    observed = abs(float(a @ b))
    at_least = 0
    rows = max(1, _CHUNK // len(b))
    for start in range(0, draws, rows):
        shuffled = rng.permuted(np.tile(b, (min(rows, draws - start), 1)), axis=1)
        at_least += int((np.abs(shuffled @ a) >= observed * (1 - 1e-9)).sum())
    return (1 + at_least) / (1 + draws)


def partial_correlation(
    x: Float[np.ndarray, " patients"],
    y: Float[np.ndarray, " patients"],
    design: Float[np.ndarray, "known columns"],
    rows: Int[np.ndarray, " known"],
) -> float | None:
    """Return the correlation of what covariates leave of both; None with fewer than 5 patients for each column.

    Args:
        x: One value a patient.
        y: One value a patient.
        design: Covariates of the patients in `rows`, the intercept among them.
        rows: Patients of whom all covariates are known.
    """
    if len(rows) < 5 * (design.shape[1] + 1):
        return None
    left = [values[rows] - design @ np.linalg.lstsq(design, values[rows], rcond=None)[0] for values in (x, y)]
    # Rounding must not be taken for what is left.
    if any(float(one @ one) <= 1e-12 * float(values @ values) for one, values in zip(left, (x, y), strict=True)):
        return None
    return correlation(*left)


def slope_hc3(
    x: Float[np.ndarray, " patients"],
    y: Float[np.ndarray, " patients"],
    design: Float[np.ndarray, "known columns"],
    rows: Int[np.ndarray, " known"],
    *,
    confidence: float = 0.95,
) -> tuple[float | None, Interval | None]:
    """Return the slope of y on x by least squares with covariates, and its interval from HC3 standard errors.

    Args:
        x: One value a patient.
        y: One value a patient.
        design: Covariates of the patients in `rows`, the intercept among them.
        rows: Patients of whom all covariates are known.
        confidence: Of the interval, from Student's t.

    Returns:
        Both None where the covariates tell x, or there are fewer than 5 patients for each column.

    References:
        MacKinnon and White, "Some heteroskedasticity-consistent covariance matrix estimators with improved finite
        sample properties", Journal of Econometrics 1985.
    """
    matrix = np.column_stack([x[rows], design])
    n, columns = matrix.shape
    if n < 5 * columns or np.linalg.matrix_rank(matrix) < columns:
        return None, None
    inverse = np.linalg.inv(matrix.T @ matrix)
    weights = inverse @ matrix.T @ y[rows]
    residuals = y[rows] - matrix @ weights
    leverage = np.einsum("ij,jk,ik->i", matrix, inverse, matrix)
    # A patient alone in a group is fitted exactly and tells nothing of the spread.
    scaled = np.divide(residuals, 1 - leverage, out=np.zeros(n), where=leverage < 1 - 1e-9)
    bread = matrix @ inverse[0]
    error = float(np.sqrt(((bread * scaled) ** 2).sum()))
    half = float(stdtrit(n - columns, 0.5 + confidence / 2)) * error
    slope = float(weights[0])
    return slope, Interval(slope - half, slope + half)


def false_discovery(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the q-value of each p by Benjamini and Hochberg; what has no p has no q and does not count.

    Example:
        >>> false_discovery([0.01, None, 0.04])
        [0.02, None, 0.04]
    """
    from scipy.stats import false_discovery_control

    known = [p for p in p_values if p is not None]
    found = iter(false_discovery_control(known).tolist() if known else [])
    return [None if p is None else float(next(found)) for p in p_values]


def _design(
    covariates: Sequence[Sequence[str | float | None]], patients: int
) -> tuple[Float[np.ndarray, "known columns"], Int[np.ndarray, " known"]]:
    """Return intercept and covariates of the patients of whom all are known, columns that tell nothing left out."""
    rows = np.array([p for p in range(patients) if all(one[p] is not None for one in covariates)], dtype=np.int64)
    columns = [np.ones(len(rows))]
    for one in covariates:
        values = [one[row] for row in rows]
        if all(isinstance(value, int | float) for value in values):
            columns.append(np.array(values, dtype=np.float64))
        else:
            columns += [np.array([float(value == name) for value in values]) for name in sorted(set(map(str, values)))]
    kept: list[np.ndarray] = []
    for column in columns:
        if np.linalg.matrix_rank(np.column_stack([*kept, column])) > len(kept):
            kept.append(column)
    return (np.column_stack(kept) if kept else np.ones((0, 1))), rows


def _interval(
    x: Float[np.ndarray, " patients"],
    y: Float[np.ndarray, " patients"],
    draws: int,
    seed: int,
    confidence: float,
    *,
    by_rank: bool,
) -> Interval | None:
    rng = np.random.default_rng(seed)
    n = len(x)
    rows = max(1, _CHUNK // n)
    parts = []
    for start in range(0, draws, rows):
        drawn = rng.integers(0, n, (min(rows, draws - start), n))
        flat = (drawn + n * np.arange(len(drawn))[:, None]).ravel()
        counts = np.bincount(flat, minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        a, b = (_resampled_ranks(one, counts) if by_rank else one[None, :] for one in (x, y))
        parts.append(_resampled_correlations(a, b, counts))
    found = np.concatenate(parts)
    if len(found) < draws / 2:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


def _resampled_ranks(
    values: Float[np.ndarray, " patients"], counts: Float[np.ndarray, "draws patients"]
) -> Float[np.ndarray, "draws patients"]:
    """Return the average rank of each patient's value in each resample, told by how often each patient is in it.

    Nothing is sorted again: the ranks of equal values are the mean of the places that they take among all.
    """
    _, codes = np.unique(values, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(codes.max() + 1))
    taken = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks: np.ndarray = (taken.cumsum(axis=1) - (taken - 1) / 2)[:, codes]
    return ranks


def _resampled_correlations(
    a: Float[np.ndarray, "rows patients"],
    b: Float[np.ndarray, "others patients"],
    counts: Float[np.ndarray, "draws patients"],
) -> Float[np.ndarray, " correlated"]:
    """Return the correlation in each resample; those in which either has a single value are left out."""
    n = counts.shape[1]
    a, b = (one - ((counts * one).sum(axis=1) / n)[:, None] for one in (a, b))
    weighted = counts * a
    size = np.sqrt((weighted * a).sum(axis=1) * (counts * b * b).sum(axis=1))
    found: np.ndarray = (weighted * b).sum(axis=1)[size > 0] / size[size > 0]
    return found
