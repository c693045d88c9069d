"""Each group against the rest: one family of contrasts, tested by permuting patients."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS

PERMUTATIONS = 9999

_CHUNK = 2_000_000
"""Permuted values held in memory at a time: 16 MB."""

_GAP_DRAWS = 4000
"""Simulated samples behind a detectable gap: their 80th percentile then varies by about 1 % of itself."""


@dataclass(frozen=True)
class Contrast:
    """One group of patients against all other patients whose group is known.

    Attributes:
        attribute: The attribute, such as ``sex``.
        group: The group, such as ``F``.
        patients: Patients of the group.
        rest_patients: Patients of the attribute's other groups.
        difference: Mean of the group minus mean of the rest.
        low: Lower end of the simultaneous interval of the difference.
        high: Upper end.
        p_adjusted: p-value, adjusted for all contrasts of the family.
        detectable_gap: The smallest true difference that this test would find with the stated power.
    """

    attribute: str
    group: str
    patients: int
    rest_patients: int
    difference: float
    low: float
    high: float
    p_adjusted: float
    detectable_gap: float


@dataclass(frozen=True)
class ContrastFamily:
    """All contrasts that were tested together.

    Attributes:
        contrasts: In the order of the attributes and of their groups.
        critical_value: What the largest studentised difference exceeds by chance with probability ``1 - confidence``.
        draws: Permutations.
        confidence: Of the simultaneous intervals; the test's level is one minus it.
        power: Behind the detectable gaps.
    """

    contrasts: tuple[Contrast, ...]
    critical_value: float
    draws: int
    confidence: float
    power: float

    def of(self, attribute: str) -> tuple[Contrast, ...]:
        """Return the contrasts of one attribute."""
        return tuple(contrast for contrast in self.contrasts if contrast.attribute == attribute)


def contrast_family(
    values: Float[np.ndarray, " patients"],
    attributes: Mapping[str, Sequence[str | None]],
    *,
    minimum: int = MINIMUM_PATIENTS,
    draws: int = PERMUTATIONS,
    seed: int = 0,
    confidence: float = 0.95,
    power: float = 0.8,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> ContrastFamily:
    r"""Test each group against the rest, for all attributes as one family.

    The statistic of a contrast is Welch's ``T = (mean_g - mean_rest) / sqrt(s_g^2 / n_g + s_rest^2 / n_rest)``.
    Patients are permuted with all their attributes kept together, and each contrast is compared with the distribution
    of the largest ``|T|`` of the family: ``p = (1 + b) / (1 + B)``, with ``b`` of the ``B`` permutations at least as
    large. Without the studentising the test has the wrong size when a small group also varies more.

    The simultaneous interval inverts that test: ``difference +- q se``, where ``q`` is the smallest value such that
    ``|T| > q`` is the same as ``p < 1 - confidence``. So an interval leaves 0 out exactly when its p-value is below the
    level.

    The detectable gap uses the same test, level and group sizes: both groups are drawn anew from their own centred
    residuals (widened by ``sqrt(n / (n - 1))``), and the gap is the shift at which ``|T| > q`` happens with the
    stated power, in the direction in which it takes more. There ``q`` comes from permuting the residuals of an
    additive model of all attributes. So whatever difference was observed plays no part in it.

    Args:
        values: One value a patient.
        attributes: Attribute -> one group a patient, None where it is not known. A patient whose group is unknown is
            neither in the group nor in the rest.
        minimum: A group, or a rest, of fewer patients is not tested.
        draws: Permutations.
        seed: Of the permutations and of the simulated samples.
        confidence: Of the simultaneous intervals.
        power: Of the detectable gap.
        bounds: The differences that are possible; intervals and gaps are cut there.

    Returns:
        The family; without contrasts where no group is large enough.

    Raises:
        InputError: If a value is missing, or an attribute has another number of patients.

    References:
        Westfall and Young, "Resampling-Based Multiple Testing", 1993 (single-step maximum).
        Janssen, "Studentized permutation tests for non-i.i.d. hypotheses", Statistics & Probability Letters 1997.
    """
    _check(values, attributes)
    keys, members, rests = _memberships(attributes, minimum)
    if not keys:
        return ContrastFamily((), _normal_critical(1, confidence), draws, confidence, power)
    # Only patients that take part in a contrast are permuted.
    known = (members | rests).any(axis=1)
    sample = values[known].astype(np.float64)
    members, rests = members[known], rests[known]
    difference, error = _welch(sample[None, :], members, rests)
    observed = _studentised(difference, error)[0]
    largest = _largest_under_permutation(sample, members, rests, draws, seed)
    critical = _critical_value(largest, confidence)
    residuals = additive_residuals(sample, {name: _select(groups, known) for name, groups in attributes.items()})
    null_largest = _largest_under_permutation(residuals, members, rests, draws, seed)
    null_critical = _critical_value(null_largest, confidence)
    contrasts = []
    for index, (attribute, group) in enumerate(keys):
        d, se = float(difference[0, index]), float(error[0, index])
        half = critical * se if se > 0 else 0.0
        at_least = int((largest >= observed[index] * (1 - 1e-9)).sum())
        in_group, in_rest = sample[members[:, index]], sample[rests[:, index]]
        gap = _detectable_gap(in_group, in_rest, null_critical, power, seed)
        contrasts.append(
            Contrast(
                attribute,
                group,
                len(in_group),
                len(in_rest),
                d,
                max(d - half, bounds[0]),
                min(d + half, bounds[1]),
                (1 + at_least) / (1 + draws),
                min(gap, bounds[1]),
            )
        )
    return ContrastFamily(tuple(contrasts), critical, draws, confidence, power)


def patients_needed(
    values: Float[np.ndarray, " patients"],
    groups: Sequence[str | None],
    group: str,
    *,
    target_gap: float,
    critical_value: float,
    power: float = 0.8,
    minimum: int = MINIMUM_PATIENTS,
) -> int | None:
    """Return how many patients a group needs for a gap of `target_gap` to be detectable, the rest growing alike.

    By the normal approximation ``gap = (q + z_power) * sqrt(s_g^2 / n_g + s_rest^2 / n_rest)`` with the spread of each
    side around its own mean. A group of fewer than `minimum` patients borrows the spread of all patients around
    their groups' means, as its own is hardly known.

    Args:
        values: One value a patient.
        groups: One group a patient, None where it is not known.
        group: The group in question.
        target_gap: The difference to be found.
        critical_value: Of the family, see `ContrastFamily`.
        power: The probability of finding it.
        minimum: The answer is never below this.

    Returns:
        The number, or None where fewer than `minimum` patients (beyond one for each further group) show how widely
        scores vary: a number that rests on the spread of two or three patients would be a guess.
    """
    labels = np.array([label is not None for label in groups])
    inside = np.array([label == group for label in groups])
    names = {label for label in groups if label is not None}
    centred = values.astype(np.float64).copy()
    for name in names:
        here = np.array([label == name for label in groups])
        centred[here] -= centred[here].mean()
    rest = labels & ~inside
    n_group, n_rest = int(inside.sum()), int(rest.sum())
    degrees = int(labels.sum()) - len(names)
    if degrees < minimum - 1:
        return None
    pooled = float((centred[labels] ** 2).sum()) / degrees
    own = float(values[inside].var(ddof=1)) if n_group >= max(minimum, 2) else pooled
    others = float(values[rest].var(ddof=1)) if n_rest >= max(minimum, 2) else pooled
    ratio = n_rest / n_group
    # n_group * error^2 does not change while both sides grow in the same ratio.
    per_patient = own + (others / ratio if ratio else others)
    z = critical_value + NormalDist().inv_cdf(power)
    return max(minimum, math.ceil(per_patient * (z / target_gap) ** 2 - 1e-9))


def smallest_p(
    values: Float[np.ndarray, " patients"],
    attributes: Mapping[str, Sequence[str | None]],
    *,
    minimum: int = MINIMUM_PATIENTS,
    draws: int = PERMUTATIONS,
    seed: int = 0,
) -> float | None:
    """Return the smallest adjusted p-value of the family, as `contrast_family` has it, or None without contrasts."""
    _check(values, attributes)
    keys, members, rests = _memberships(attributes, minimum)
    if not keys:
        return None
    known = (members | rests).any(axis=1)
    sample, members, rests = values[known].astype(np.float64), members[known], rests[known]
    observed = float(_studentised(*_welch(sample[None, :], members, rests)).max())
    largest = _largest_under_permutation(sample, members, rests, draws, seed)
    return (1 + int((largest >= observed * (1 - 1e-9)).sum())) / (1 + draws)


def additive_residuals(
    values: Float[np.ndarray, " patients"], attributes: Mapping[str, Sequence[str | None]]
) -> Float[np.ndarray, " patients"]:
    """Return what is left of the values when the mean of every group of every attribute is fitted and taken away."""
    columns = [np.ones(len(values))]
    for groups in attributes.values():
        columns += [np.array([float(label == name) for label in groups]) for name in dict.fromkeys(groups)]
    design = np.stack(columns, axis=1)
    solution = np.linalg.lstsq(design, values, rcond=None)[0]
    residuals: np.ndarray = values - design @ solution
    return residuals


def permuted(
    values: Float[np.ndarray, " patients"], draws: int, seed: int
) -> Iterator[Float[np.ndarray, "rows patients"]]:
    """Yield the values in random order, many orders at a time and `draws` of them in all."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(1, len(values)))
    for start in range(0, draws, rows):
        yield rng.permuted(np.tile(values, (min(rows, draws - start), 1)), axis=1)


def _check(values: Float[np.ndarray, " patients"], attributes: Mapping[str, Sequence[str | None]]) -> None:
    if not np.isfinite(values).all():
        msg = "values: expected one finite number a patient, got a missing one; leave that patient out and count it"
        raise InputError(msg)
    for name, groups in attributes.items():
        if len(groups) != len(values):
            msg = f"attribute {name}: expected {len(values)} groups, one a patient, got {len(groups)}; align the table"
            raise InputError(msg)


def _memberships(
    attributes: Mapping[str, Sequence[str | None]], minimum: int
) -> tuple[list[tuple[str, str]], Bool[np.ndarray, "patients contrasts"], Bool[np.ndarray, "patients contrasts"]]:
    keys: list[tuple[str, str]] = []
    members, rests = [], []
    for name, groups in attributes.items():
        known = np.array([group is not None for group in groups])
        for group in dict.fromkeys(sorted(label for label in groups if label is not None)):
            inside = np.array([label == group for label in groups])
            rest = known & ~inside
            if inside.sum() >= minimum and rest.sum() >= minimum:
                keys.append((name, group))
                members.append(inside)
                rests.append(rest)
    if not keys:
        empty = np.zeros((0, 0), dtype=bool)
        return [], empty, empty
    return keys, np.stack(members, axis=1), np.stack(rests, axis=1)


def _welch(
    samples: Float[np.ndarray, "draws patients"],
    members: Bool[np.ndarray, "patients contrasts"],
    rests: Bool[np.ndarray, "patients contrasts"],
) -> tuple[Float[np.ndarray, "draws contrasts"], Float[np.ndarray, "draws contrasts"]]:
    """Return the differences of means and their standard errors."""
    # Centring first keeps the sums of squares from cancelling.
    centred = samples - samples[0].mean()
    squares = centred * centred
    total = float(squares[0].sum())
    means, variances = [], []
    for side in (members, rests):
        weights = side.astype(np.float64)
        n = weights.sum(axis=0)
        mean = centred @ weights / n
        spread = np.maximum(squares @ weights - n * mean * mean, 0.0)
        # What rounding leaves of a spread of exactly zero.
        spread[spread <= 1e-13 * total] = 0.0
        means.append(mean)
        variances.append(spread / (n - 1) / n)
    return means[0] - means[1], np.sqrt(variances[0] + variances[1])


def _studentised(
    difference: Float[np.ndarray, "draws contrasts"], error: Float[np.ndarray, "draws contrasts"]
) -> Float[np.ndarray, "draws contrasts"]:
    """Return |T|; two constant sides give 0 where they are equal and infinity where they differ."""
    size = np.abs(difference)
    result = np.where(size > 1e-12, np.inf, 0.0)
    np.divide(size, error, out=result, where=error > 0)
    return result


def _largest_under_permutation(
    values: Float[np.ndarray, " patients"],
    members: Bool[np.ndarray, "patients contrasts"],
    rests: Bool[np.ndarray, "patients contrasts"],
    draws: int,
    seed: int,
) -> Float[np.ndarray, " draws"]:
    parts = [_studentised(*_welch(rows, members, rests)).max(axis=1) for rows in permuted(values, draws, seed)]
    return np.concatenate(parts)


def _critical_value(largest: Float[np.ndarray, " draws"], confidence: float) -> float:
    # |T| > q leaves at most rank - 1 permutations that are as large, so p <= rank / (1 + B) < level.
    draws = len(largest)
    rank = math.ceil((1 - confidence) * (1 + draws) - 1e-9) - 1
    if rank < 1:
        return math.inf
    return float(np.sort(largest)[draws - rank])


def _normal_critical(contrasts: int, confidence: float) -> float:
    return NormalDist().inv_cdf(1 - (1 - confidence) / (2 * contrasts))


def _detectable_gap(
    group: Float[np.ndarray, " patients"],
    rest: Float[np.ndarray, " others"],
    critical: float,
    power: float,
    seed: int,
) -> float:
    """Return the shift that the test finds with the given power.

    A shift of -s is found when ``shift of means - s < -q se``, that is when s exceeds ``d + q se`` of the simulated
    sample; so the gap is a quantile of that quantity, and no search is needed.
    """
    rng = np.random.default_rng(seed)
    means, variances = [], []
    # In a fixed order, so that two groups, each of which is the other's rest, have one gap.
    for side in sorted((group, rest), key=lambda side: (len(side), float(side.sum()))):
        n = len(side)
        residuals = np.sort(side - side.mean()) * math.sqrt(n / (n - 1))
        mean, variance = _resampled_moments(residuals, rng)
        means.append(mean)
        variances.append(variance / n)
    difference = means[0] - means[1]
    error = np.sqrt(variances[0] + variances[1])
    with np.errstate(invalid="ignore"):
        reach = np.where(error > 0, critical * error, 0.0)
    worse = np.quantile(difference + reach, power, method="inverted_cdf")
    better = np.quantile(reach - difference, power, method="inverted_cdf")
    return float(max(worse, better, 0.0))


def _resampled_moments(
    residuals: Float[np.ndarray, " patients"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    n = len(residuals)
    rows = max(1, _CHUNK // n)
    means, variances = [], []
    for start in range(0, _GAP_DRAWS, rows):
        sample = residuals[rng.integers(0, n, (min(rows, _GAP_DRAWS - start), n))]
        means.append(sample.mean(axis=1))
        variances.append(sample.var(axis=1, ddof=1))
    return np.concatenate(means), np.concatenate(variances)


def _select(groups: Sequence[str | None], keep: Bool[np.ndarray, " patients"]) -> list[str | None]:
    return [group for group, kept in zip(groups, keep, strict=True) if kept]
