"""What a test of a group against the rest could have found: the gap at these sizes, the patients for a given gap."""

import math
from collections.abc import Mapping, Sequence
from itertools import compress
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from equivox.metrics.statistics.additive_residuals import additive_residuals
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS
from equivox.metrics.statistics.contrast_design import Blocks, Design, one_contrast
from equivox.metrics.statistics.permuted_maximum import critical_quantile, largest_under_permutation

_CHUNK = 2_000_000
"""Simulated values held in memory at a time: 16 MB."""

_GAP_DRAWS = 4000
"""Simulated samples behind a detectable gap: their 80th percentile then varies by about 1 % of itself."""


def detectable_gaps(
    sample: Float[np.ndarray, " patients"],
    design: Design,
    adjusted: Mapping[str, Sequence[str | None]],
    *,
    draws: int,
    seed: int,
    confidence: float,
    power: float,
) -> list[float]:
    """Return the smallest true difference that the family's test would find, for each contrast of the family.

    See `equivox.metrics.statistics.permutation.contrast_family` for what it rests on.

    Args:
        sample: One value a patient, of those that take part in a contrast.
        design: Their contrasts.
        adjusted: The groups whose means are taken away before the critical value is found.
        draws: Permutations behind that.
        seed: Of the permutations and of the simulated samples.
        confidence: One minus the level of the test.
        power: The probability of finding it.
    """
    residuals = additive_residuals(sample, adjusted)
    critical = critical_quantile(largest_under_permutation(residuals, design, draws, seed), confidence)
    gaps: dict[frozenset[bytes], float] = {}
    found = []
    for index in range(len(design.keys)):
        one = design.contrast(index)
        # Two groups, each of which is the other's rest, have one gap.
        sides = frozenset((one.members.tobytes(), one.rests.tobytes()))
        if sides not in gaps:
            gaps[sides] = _detectable_gap(sample[one.known], one.of(one.known), critical, power, seed)
        found.append(gaps[sides])
    return found


def patients_needed(
    values: Float[np.ndarray, " patients"],
    groups: Sequence[str | None],
    group: str,
    *,
    target_gap: float,
    critical_value: float,
    blocks: Blocks | None = None,
    power: float = 0.8,
    minimum: int = MINIMUM_PATIENTS,
) -> int | None:
    """Return how many patients a group needs for a gap of `target_gap` to be detectable, the rest growing alike.

    By the normal approximation ``gap = (q + z_power) * sqrt(s_g^2 / n_g + s_rest^2 / n_rest)`` with the spread of each
    side around its own mean. A group of fewer than `minimum` patients borrows the spread of all patients around
    their groups' means, as its own is hardly known. Within blocks the standard error is that of the contrast within
    blocks, and all blocks grow alike.

    Args:
        values: One value a patient.
        groups: One group a patient, None where it is not known.
        group: The group in question.
        target_gap: The difference to be found.
        critical_value: Of the family, see `ContrastFamily`.
        blocks: As in `contrast_family`, for a contrast that is tested within them.
        power: The probability of finding it.
        minimum: The answer is never below this.

    Returns:
        The number, or None where fewer than `minimum` patients (beyond one for each further group) show how widely
        scores vary: a number that rests on the spread of two or three patients would be a guess. Also None where no
        block has patients on both sides.
    """
    if blocks is None:
        per_patient = _free_per_patient(values, groups, group, minimum)
    else:
        per_patient = _within_per_patient(values, groups, group, blocks, minimum)
    if per_patient is None:
        return None
    z = critical_value + NormalDist().inv_cdf(power)
    return max(minimum, math.ceil(per_patient * (z / target_gap) ** 2 - 1e-9))


def _detectable_gap(
    sample: Float[np.ndarray, " patients"], design: Design, critical: float, power: float, seed: int
) -> float:
    """Return the shift that the test of one contrast finds with the given power.

    A shift of -s is found when ``shift of means - s < -q se``, that is when s exceeds ``d + q se`` of the simulated
    sample; so the gap is a quantile of that quantity, and no search is needed.
    """
    residuals = _widened_residuals(sample, design)
    rng = np.random.default_rng(seed)
    members, rests = design.members[:, 0], design.rests[:, 0]
    # In a fixed order, so that the gap does not depend on which side is called the group.
    sides = sorted((members, rests), key=lambda side: (int(side.sum()), float(sample[side].sum())))
    own = [np.sort(residuals[side]) for side in sides]
    design = design.of(np.concatenate([np.flatnonzero(side) for side in sides]))
    parts = []
    rows = max(1, _CHUNK // len(sample))
    for start in range(0, _GAP_DRAWS, rows):
        count = min(rows, _GAP_DRAWS - start)
        drawn = [side[rng.integers(0, len(side), (count, len(side)), dtype=np.int32)] for side in own]
        parts.append(np.stack([moment[:, 0] for moment in design.welch(np.concatenate(drawn, axis=1))]))
    difference, error = np.concatenate(parts, axis=1)
    with np.errstate(invalid="ignore"):
        reach = np.where(error > 0, critical * error, 0.0)
    worse = np.quantile(difference + reach, power, method="inverted_cdf")
    better = np.quantile(reach - difference, power, method="inverted_cdf")
    return float(max(worse, better, 0.0))


def _widened_residuals(sample: Float[np.ndarray, " patients"], design: Design) -> Float[np.ndarray, " patients"]:
    """Return each patient's residual from group and block, over the root of one minus its leverage.

    Each side's mean is taken away, so that nothing of the observed difference is left.
    """
    members, rests = design.members[:, 0], design.rests[:, 0]
    difference = float(design.welch(sample[None, :])[0][0, 0])
    centred, reach = sample.copy(), members.astype(np.float64)
    for block in np.unique(design.blocks):
        here = design.blocks == block
        centred[here] -= centred[here].mean()
        reach[here] -= reach[here].mean()
    sizes = np.bincount(design.blocks)[design.blocks]
    residuals: np.ndarray = (centred - difference * reach) / np.sqrt(1 - 1 / sizes - reach**2 / (reach**2).sum())
    for side in (members, rests):
        residuals[side] -= residuals[side].mean()
    return residuals


def _free_per_patient(
    values: Float[np.ndarray, " patients"], groups: Sequence[str | None], group: str, minimum: int
) -> float | None:
    """Return the squared standard error of a contrast, times the patients of the group."""
    known = np.array([label is not None for label in groups])
    inside = np.array([label == group for label in groups])
    names = {label for label in groups if label is not None}
    centred = values.astype(np.float64).copy()
    for name in names:
        here = np.array([label == name for label in groups])
        centred[here] -= centred[here].mean()
    rest = known & ~inside
    n_group, n_rest = int(inside.sum()), int(rest.sum())
    degrees = int(known.sum()) - len(names)
    if degrees < minimum - 1:
        return None
    pooled = float((centred[known] ** 2).sum()) / degrees
    own = float(values[inside].var(ddof=1)) if n_group >= max(minimum, 2) else pooled
    others = float(values[rest].var(ddof=1)) if n_rest >= max(minimum, 2) else pooled
    ratio = n_rest / n_group
    # n_group * error^2 does not change while both sides grow in the same ratio.
    return own + (others / ratio if ratio else others)


def _within_per_patient(
    values: Float[np.ndarray, " patients"],
    groups: Sequence[str | None],
    group: str,
    blocks: Blocks,
    minimum: int,
) -> float | None:
    """Return the squared standard error of a contrast within blocks, times the patients of the group."""
    one = one_contrast(groups, group, blocks)
    counted = one.known
    if not counted.any():
        return None
    known = np.array([label is not None for label in groups])
    patients = sum(label == group for label in groups)
    sample, one = values[counted].astype(np.float64), one.of(counted)
    compared = min(int(one.members.sum()), int(one.rests.sum()))
    if compared >= max(minimum, 2):
        return patients * float(one.welch(sample[None, :])[1][0, 0]) ** 2
    adjusted = {"group": list(compress(groups, known)), "block": list(compress(blocks.groups, known))}
    degrees = int(known.sum()) - len(set(adjusted["group"])) - len(set(adjusted["block"])) + 1
    if degrees < minimum - 1:
        return None
    variance = float((additive_residuals(values[known].astype(np.float64), adjusted) ** 2).sum()) / degrees
    information = 0.0
    for block in np.unique(one.blocks):
        here = one.blocks == block
        n_group, n_rest = int(one.members[here].sum()), int(one.rests[here].sum())
        information += n_group * n_rest / (n_group + n_rest)
    return patients * variance / information
