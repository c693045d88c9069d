"""How far the groups lie apart, as numbers that papers report, each beside what chance alone would give."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

from equivox.errors import InputError
from equivox.metrics.statistics.permutation import permuted


def gap(group_means: Sequence[float]) -> float:
    """Return the largest minus the smallest group mean.

    Example:
        >>> round(gap([0.82, 0.72, 0.885]), 3)
        0.165
    """
    _check_fractions(group_means)
    return max(group_means) - min(group_means)


def ratio(group_means: Sequence[float]) -> float:
    """Return the smallest over the largest group mean; 1 where all are 0, as they are then equal.

    Example:
        >>> round(ratio([0.6, 0.8]), 6)
        0.75
    """
    _check_fractions(group_means)
    return min(group_means) / max(group_means) if max(group_means) > 0 else 1.0


def es_sum(group_means: Sequence[float], overall: float, alpha: float = 1.0) -> float:
    r"""Return the equity-scaled score with the sum of gaps, ``overall / (1 + alpha * sum_g |mean_g - overall|)``.

    This is the form of the released FairSeg code. It falls as groups are added, so attributes with different numbers
    of groups cannot be compared by it.

    Args:
        group_means: The mean over each group's patients, fractions in [0, 1].
        overall: The mean over all patients, those of unknown group included.
        alpha: How much the gaps weigh.

    Raises:
        InputError: If a value is not a fraction (percent, say), or there is no group.

    References:
        Tian et al., "FairSeg", ICLR 2024 (https://arxiv.org/abs/2311.02189).

    Example:
        >>> round(es_sum([0.82, 0.72, 0.885], 0.8266666666666667), 6)
        0.705548
    """
    _check_fractions([*group_means, overall])
    return overall / (1 + alpha * sum(abs(mean - overall) for mean in group_means))


def es_std(group_means: Sequence[float], overall: float, alpha: float = 1.0) -> float:
    r"""Return the equity-scaled score with the standard deviation, ``overall / (1 + alpha * std_g(mean_g))``.

    This is the form of the FairSeg paper's abstract; the standard deviation is that of a sample (n - 1).

    Args:
        group_means: The mean over each group's patients, fractions in [0, 1]; two groups or more.
        overall: The mean over all patients, those of unknown group included.
        alpha: How much the spread weighs.

    Raises:
        InputError: If a value is not a fraction, or there are fewer than two groups.

    Example:
        >>> round(es_std([0.82, 0.72, 0.885], 0.8266666666666667), 6)
        0.76323
    """
    _check_fractions([*group_means, overall])
    if len(group_means) < 2:
        msg = f"es_std: expected two groups or more, got {len(group_means)}; a single group has no spread"
        raise InputError(msg)
    return overall / (1 + alpha * float(np.std(group_means, ddof=1)))


SPREADS: Final[dict[str, Callable[[Sequence[float], float], float]]] = {
    "gap": lambda means, _overall: gap(means),
    "ratio": lambda means, _overall: ratio(means),
    "es_sum": es_sum,
    "es_std": es_std,
}
"""The measures of spread by name, each a function of the groups' means and of the overall mean."""


@dataclass(frozen=True)
class SpreadValue:
    """One measure of spread and what chance alone would give.

    There is no interval on purpose: a resampled gap is never below 0, so its interval would leave 0 out whether the
    groups differ or not.

    Attributes:
        value: As observed.
        permutation_mean: Its mean when the patients of the attribute's groups are shuffled between the groups.
        excess: `value` minus `permutation_mean`: above 0 for a gap, below 0 for a ratio or an equity-scaled score, when
            the groups lie further apart than by chance.
    """

    value: float
    permutation_mean: float
    excess: float


@dataclass(frozen=True)
class Spread:
    """How far the groups of one attribute lie apart.

    Attributes:
        measures: One entry for each name in `SPREADS`.
        worst_group: The group with the lowest mean.
    """

    measures: dict[str, SpreadValue]
    worst_group: str


def spread(
    values: Float[np.ndarray, " patients"],
    groups: Sequence[str | None],
    *,
    draws: int = 9999,
    seed: int = 0,
) -> Spread | None:
    """Measure how far the groups of one attribute lie apart.

    Args:
        values: One score a patient, fractions in [0, 1], higher is better.
        groups: One group a patient. Patients of unknown group (None) count in the overall mean alone.
        draws: Permutations behind each `SpreadValue.permutation_mean`.
        seed: Of the permutations.

    Returns:
        The measures, or None where fewer than two groups have a patient.

    Raises:
        InputError: If a value is not a fraction.
    """
    _check_fractions(values.tolist())
    known = np.array([group is not None for group in groups], dtype=bool)
    names = sorted({group for group in groups if group is not None})
    if len(names) < 2:
        return None
    weights = np.array([[float(group == name) for name in names] for group in groups if group is not None])
    weights /= weights.sum(axis=0)
    overall = float(values.mean())
    sample = values[known].astype(np.float64)
    observed = (sample @ weights).clip(0, 1)
    shuffled = np.concatenate([rows @ weights for rows in permuted(sample, draws, seed)])
    by_chance = _means_by_chance(shuffled, overall)
    measures = {}
    for name, measure in SPREADS.items():
        value = measure(observed.tolist(), overall)
        measures[name] = SpreadValue(value, by_chance[name], value - by_chance[name])
    return Spread(measures, names[int(observed.argmin())])


def _means_by_chance(means: Float[np.ndarray, "draws groups"], overall: float) -> dict[str, float]:
    """Return the mean of every measure over the draws; the formulas of `SPREADS`, a column of draws at a time."""
    low, high = means.min(axis=1), means.max(axis=1)
    return {
        "gap": float((high - low).mean()),
        "ratio": float(np.divide(low, high, out=np.ones_like(low), where=high > 0).mean()),
        "es_sum": float((overall / (1 + np.abs(means - overall).sum(axis=1))).mean()),
        "es_std": float((overall / (1 + means.std(axis=1, ddof=1))).mean()),
    }


def _check_fractions(values: Sequence[float]) -> None:
    if not values:
        msg = "group means: expected one group or more, got none; check the attribute's column"
        raise InputError(msg)
    outside = [value for value in values if not math.isfinite(value) or not -1e-9 <= value <= 1 + 1e-9]
    if outside:
        msg = (
            f"scores: expected fractions in [0, 1], got {outside[0]:g}; divide percent by 100, as equity-scaled scores "
            "depend on the scale"
        )
        raise InputError(msg)
