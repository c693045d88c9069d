"""How far the groups lie apart, as numbers that papers report, each beside what chance alone would give."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float

from equivox.errors import InputError
from equivox.metrics.statistics.permuted_sums import permuted_sums


def gap(group_means: Sequence[float]) -> float:
    """Return the largest minus the smallest group mean, in the unit of the means.

    Example:
        >>> round(gap([0.82, 0.72, 0.885]), 3)
        0.165
    """
    _check_sizes(group_means)
    return float(_gap(np.asarray(group_means)))


def ratio(group_means: Sequence[float]) -> float:
    """Return the smallest over the largest group mean; 1 where all are 0, as they are then equal.

    Example:
        >>> round(ratio([0.6, 0.8]), 6)
        0.75
    """
    _check_sizes(group_means)
    return float(_ratio(np.asarray(group_means)))


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
    return overall / (1 + alpha * float(_sum(np.asarray(group_means), overall)))


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
    _check_two("es_std", group_means)
    return overall / (1 + alpha * float(_std(np.asarray(group_means))))


def es_distance_sum(group_means: Sequence[float], overall: float, scale: float) -> float:
    r"""Return the equity-scaled form of a distance with the sum of gaps, ``overall (1 + sum_g |gap_g| / s)``.

    A group's gap is its mean minus the overall mean. The form is ours: the published one is for fractions, and a
    distance divided by one plus its gaps would fall, and so look better, the further the groups lie apart. Here lower
    is better, and groups that differ raise it.

    Args:
        group_means: The mean over each group's patients, in mm (or voxels).
        overall: The mean over all patients, those of unknown group included, in the same unit.
        scale: The declared s in the same unit: gaps that add up to it double the score. There is no natural value and
            so no default; report it with the number.

    Raises:
        InputError: If a mean is below 0, the scale is not above 0, or there is no group.

    Example:
        >>> es_distance_sum([4.0, 6.0], 5.0, scale=10.0)
        6.0
    """
    _check_scaled(group_means, overall, scale)
    return overall * (1 + float(_sum(np.asarray(group_means), overall)) / scale)


def es_distance_std(group_means: Sequence[float], overall: float, scale: float) -> float:
    r"""Return the equity-scaled form of a distance with the deviation, ``overall (1 + std_g(mean_g) / s)``.

    See `es_distance_sum`; the standard deviation is that of a sample (n - 1).

    Args:
        group_means: The mean over each group's patients, in mm (or voxels); two groups or more.
        overall: The mean over all patients, in the same unit.
        scale: The declared s in the same unit.

    Raises:
        InputError: As `es_distance_sum`, or if there are fewer than two groups.

    Example:
        >>> round(es_distance_std([4.0, 6.0], 5.0, scale=10.0), 6)
        5.707107
    """
    _check_scaled(group_means, overall, scale)
    _check_two("es_distance_std", group_means)
    return overall * (1 + float(_std(np.asarray(group_means))) / scale)


MEASURES: Final = ("gap", "ratio", "es_sum", "es_std")
"""The measures of spread by name. Those that are equity-scaled are there for fractions of which higher is better, and
for distances whose scale is declared."""


@dataclass(frozen=True)
class PatientScore:
    """One score of all patients, and how to read it.

    Attributes:
        values: One value a patient, NaN where it is not defined.
        better: Which values are better. Take the size of a signed error first: its two directions would cancel.
        fraction: Whether the values are fractions in [0, 1].
        scale: Of a distance: the declared scale of `es_distance_sum`, None for no equity-scaled form.
    """

    values: Float[np.ndarray, " patients"]
    better: Literal["high", "low"] = "high"
    fraction: bool = True
    scale: float | None = None


@dataclass(frozen=True)
class SpreadValue:
    """One measure of spread and what chance alone would give.

    There is no interval on purpose: a resampled gap is never below 0, so its interval would leave 0 out whether the
    groups differ or not.

    Attributes:
        value: As observed.
        permutation_mean: Its mean when the patients of the attribute's groups are shuffled between the groups.
        excess: `value` minus `permutation_mean`: above 0 for a gap and for the equity-scaled form of a distance, below
            0 for a ratio and for an equity-scaled fraction, when the groups lie further apart than by chance.
    """

    value: float
    permutation_mean: float
    excess: float


@dataclass(frozen=True)
class Spread:
    """How far the groups of one attribute lie apart.

    Attributes:
        measures: One entry for each of `MEASURES` that is defined for the score.
        worst_group: The group with the lowest mean; the highest one where lower is better.
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
    """Measure how far the groups of one attribute lie apart in a fraction of which higher is better.

    Args:
        values: One score a patient, fractions in [0, 1], none of them missing.
        groups: One group a patient. Patients of unknown group (None) count in the overall mean alone.
        draws: Permutations behind each `SpreadValue.permutation_mean`.
        seed: Of the permutations.

    Returns:
        The measures, or None where fewer than two groups have a patient.

    Raises:
        InputError: If a value is not a fraction.
    """
    _check_fractions(values.tolist())
    return spreads({"score": PatientScore(values)}, groups, draws=draws, seed=seed).get("score")


def spreads(
    scores: Mapping[str, PatientScore], groups: Sequence[str | None], *, draws: int = 9999, seed: int = 0
) -> dict[str, Spread]:
    """Measure how far the groups of one attribute lie apart in several scores, by the same permutations.

    Args:
        scores: Name -> one value a patient.
        groups: One group a patient. Patients of unknown group (None) count in the overall means alone.
        draws: Permutations behind each `SpreadValue.permutation_mean`.
        seed: Of the permutations.

    Returns:
        Name -> the measures, for the scores that are defined in two groups or more. A patient without a value of a
        score plays no part in it.

    Raises:
        InputError: If a value that should be a fraction is none, a size is below 0, or a scale is not above 0.
    """
    known = np.array([group is not None for group in groups], dtype=bool)
    # Scores that are defined for the same patients are shuffled together.
    alike: dict[bytes, list[str]] = {}
    for name, score in scores.items():
        values = score.values
        _check_score(score)
        alike.setdefault((known & ~np.isnan(values)).tobytes(), []).append(name)
    found: dict[str, Spread] = {}
    for together in alike.values():
        found |= _spreads({name: scores[name] for name in together}, groups, draws, seed)
    return {name: found[name] for name in scores if name in found}


def _spreads(
    scores: Mapping[str, PatientScore], groups: Sequence[str | None], draws: int, seed: int
) -> dict[str, Spread]:
    """Return the spreads of scores that are defined for the same patients."""
    first = next(iter(scores.values())).values
    used = np.array([group is not None for group in groups], dtype=bool) & ~np.isnan(first)
    labels = [group for group, kept in zip(groups, used, strict=True) if kept]
    names = sorted({group for group in labels if group is not None})
    if len(names) < 2:
        return {}
    members = np.array([[float(label == name) for name in names] for label in labels])
    sizes = members.sum(axis=0)
    sample = np.column_stack([score.values[used] for score in scores.values()]).astype(np.float64)
    observed = (members.T @ sample) / sizes[:, None]
    totals: list[dict[str, float]] = [{} for _ in scores]
    overall = [float(np.nanmean(score.values)) for score in scores.values()]
    for sums in permuted_sums(sample, members, draws, seed):
        means = sums / sizes[:, None]
        for place, score in enumerate(scores.values()):
            for key, values in _measures(means[:, :, place], overall[place], score).items():
                totals[place][key] = totals[place].get(key, 0.0) + float(values.sum())
    result = {}
    for place, (name, score) in enumerate(scores.items()):
        means = observed[:, place].clip(0, 1) if score.fraction else observed[:, place]
        by_chance = {key: total / draws for key, total in totals[place].items()}
        measures = {
            key: SpreadValue(float(value), by_chance[key], float(value) - by_chance[key])
            for key, value in _measures(means, overall[place], score).items()
        }
        worst = means.argmin() if score.better == "high" else means.argmax()
        result[name] = Spread(measures, names[int(worst)])
    return result


def _measures(means: Float[np.ndarray, "*draws groups"], overall: float, score: PatientScore) -> dict[str, np.ndarray]:
    """Return every measure that is defined for the score, for each draw."""
    measures = {"gap": _gap(means), "ratio": _ratio(means)}
    if score.fraction and score.better == "high":
        measures["es_sum"] = overall / (1 + _sum(means, overall))
        measures["es_std"] = overall / (1 + _std(means))
    elif not score.fraction and score.better == "low" and score.scale is not None:
        measures["es_sum"] = overall * (1 + _sum(means, overall) / score.scale)
        measures["es_std"] = overall * (1 + _std(means) / score.scale)
    return measures


def _gap(means: np.ndarray) -> np.ndarray:
    return np.asarray(means.max(axis=-1) - means.min(axis=-1))


def _ratio(means: np.ndarray) -> np.ndarray:
    low, high = np.asarray(means.min(axis=-1)), np.asarray(means.max(axis=-1))
    shares: np.ndarray = np.divide(low, high, out=np.ones(low.shape), where=high > 0)
    return shares


def _sum(means: np.ndarray, overall: float) -> np.ndarray:
    return np.asarray(np.abs(means - overall).sum(axis=-1))


def _std(means: np.ndarray) -> np.ndarray:
    return np.asarray(means.std(axis=-1, ddof=1))


def _check_score(score: PatientScore) -> None:
    defined = score.values[~np.isnan(score.values)].tolist()
    if defined and score.fraction:
        _check_fractions(defined)
    elif defined:
        _check_sizes(defined)
    if score.scale is not None:
        _check_scale(score.scale)


def _check_two(name: str, values: Sequence[float]) -> None:
    if len(values) < 2:
        msg = f"{name}: expected two groups or more, got {len(values)}; a single group has no spread"
        raise InputError(msg)


def _check_scaled(group_means: Sequence[float], overall: float, scale: float) -> None:
    _check_sizes([*group_means, overall] if group_means else [])
    _check_scale(scale)


def _check_scale(scale: float) -> None:
    if not (math.isfinite(scale) and scale > 0):
        msg = f"equity scale: expected a length above 0, got {scale:g}; declare the gap that should double the score"
        raise InputError(msg)


def _check_sizes(values: Sequence[float]) -> None:
    _check_any(values)
    wrong = [value for value in values if not math.isfinite(value) or value < -1e-9]
    if wrong:
        msg = f"scores: expected finite numbers from 0 up, got {wrong[0]:g}; take the size of a signed error first"
        raise InputError(msg)


def _check_any(values: Sequence[float]) -> None:
    if not values:
        msg = "group means: expected one group or more, got none; check the attribute's column"
        raise InputError(msg)


def _check_fractions(values: Sequence[float]) -> None:
    _check_any(values)
    outside = [value for value in values if not math.isfinite(value) or not -1e-9 <= value <= 1 + 1e-9]
    if outside:
        msg = (
            f"scores: expected fractions in [0, 1], got {outside[0]:g}; divide percent by 100, as equity-scaled scores "
            "depend on the scale"
        )
        raise InputError(msg)
