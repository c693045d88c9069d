"""Each group against the rest: one family of contrasts, tested by permuting patients, within sites where wanted."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS

PERMUTATIONS = 9999

SHARED = 50
"""Simulated samples that are resampled alike: all of them alike would share the chance error of one set of draws."""

_CHUNK = 2_000_000
"""Permuted values held in memory at a time: 16 MB."""

_GAP_DRAWS = 4000
"""Simulated samples behind a detectable gap: their 80th percentile then varies by about 1 % of itself."""


@dataclass(frozen=True)
class Blocks:
    """The blocks that patients are permuted within, such as the sites.

    Attributes:
        attribute: What the blocks are, such as ``site``.
        groups: One block a patient; those of unknown block (None) are a block of their own.
    """

    attribute: str
    groups: tuple[str | None, ...]


@dataclass(frozen=True)
class Contrast:
    """One group of patients against all other patients whose group is known.

    Attributes:
        attribute: The attribute, such as ``sex``.
        group: The group, such as ``F``.
        patients: Patients of the group that are compared: within blocks, those whose block also has patients of the
            rest.
        rest_patients: Patients of the attribute's other groups, likewise.
        difference: Mean of the group minus mean of the rest; within blocks the weighted mean of the blocks'
            differences.
        low: Lower end of the simultaneous interval of the difference.
        high: Upper end.
        p_adjusted: p-value, adjusted for all contrasts of the family.
        detectable_gap: The smallest true difference that this test would find with the stated power.
        raw_difference: Mean of the group minus mean of the rest over all patients, whatever their blocks; the same as
            `difference` without blocks.
        within: What the patients were permuted within, None where they were permuted freely.
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
    raw_difference: float | None = None
    within: str | None = None


@dataclass(frozen=True)
class Untested:
    """A group that is large enough but too much alone in its blocks to be compared within them.

    Attributes:
        attribute: The attribute.
        group: The group.
        patients: Patients of the group.
        compared: Those of them whose block also has patients of the rest.
        rest_compared: Patients of the rest whose block also has patients of the group.
        within: What the blocks are.
    """

    attribute: str
    group: str
    patients: int
    compared: int
    rest_compared: int
    within: str


@dataclass(frozen=True)
class ContrastFamily:
    """All contrasts that were tested together.

    Attributes:
        contrasts: In the order of the attributes and of their groups.
        critical_value: What the largest studentised difference exceeds by chance with probability ``1 - confidence``.
        draws: Permutations.
        confidence: Of the simultaneous intervals; the test's level is one minus it.
        power: Behind the detectable gaps.
        untested: Groups that blocks leave nothing to compare with.
    """

    contrasts: tuple[Contrast, ...]
    critical_value: float
    draws: int
    confidence: float
    power: float
    untested: tuple[Untested, ...] = ()

    def of(self, attribute: str) -> tuple[Contrast, ...]:
        """Return the contrasts of one attribute."""
        return tuple(contrast for contrast in self.contrasts if contrast.attribute == attribute)


def contrast_family(
    values: Float[np.ndarray, " patients"],
    attributes: Mapping[str, Sequence[str | None]],
    *,
    blocks: Blocks | None = None,
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

    With `blocks`, patients are permuted inside their block alone, so that a difference between sites is no evidence of
    one between sexes that the sites have in different shares. The statistic is then that of the regression on the
    group and the blocks: ``D = sum_k w_k (mean_gk - mean_restk) / sum_k w_k`` with ``w_k = n_gk n_restk / n_k``, over
    its standard error for unequal variances (HC2). For one block that is Welch's statistic, for blocks of two patients
    that of the paired t test. A block without patients on both sides adds nothing; `ContrastFamily.untested` has the
    groups for which too few patients remain. The interval is about ``D``, the mean difference inside a block, and not
    about the raw difference, which stands beside it.

    The groups of the blocking attribute itself cannot be tested inside themselves. They stay in the family with
    Welch's statistic, and their null distribution comes from permuting all patients freely. Each draw of the family's
    largest ``|T|`` joins one permutation of either kind, drawn independently: permuting within blocks leaves the
    blocks' contents as they are, and these fix the statistics of the blocks themselves. Whichever of the two null
    hypotheses fails, the other's contrasts are compared with more than their own maximum, so the family keeps its
    level.

    The simultaneous interval inverts that test: ``difference +- q se``, where ``q`` is the smallest value such that
    ``|T| > q`` is the same as ``p < 1 - confidence``. So an interval leaves 0 out exactly when its p-value is below the
    level.

    The detectable gap uses the same test, level and group sizes: both groups are drawn anew from their own centred
    residuals (of the regression, each over ``sqrt(1 - leverage)``; without blocks, widened by ``sqrt(n / (n - 1))``),
    and the gap is the shift at which ``|T| > q`` happens with the stated power, in the direction in which it takes
    more. There ``q`` comes from permuting the residuals of an additive model of all attributes. So whatever difference
    was observed plays no part in it.

    Args:
        values: One value a patient.
        attributes: Attribute -> one group a patient, None where it is not known. A patient whose group is unknown is
            neither in the group nor in the rest.
        blocks: What to permute patients within, None to permute them freely.
        minimum: A group, or a rest, of fewer patients is not tested.
        draws: Permutations.
        seed: Of the permutations and of the simulated samples.
        confidence: Of the simultaneous intervals.
        power: Of the detectable gap.
        bounds: The differences that are possible; intervals and gaps are cut there.

    Returns:
        The family; without contrasts where no group is large enough.

    Raises:
        InputError: If a value is missing, or an attribute or the blocks have another number of patients.

    References:
        Westfall and Young, "Resampling-Based Multiple Testing", 1993 (single-step maximum).
        Janssen, "Studentized permutation tests for non-i.i.d. hypotheses", Statistics & Probability Letters 1997.
        MacKinnon and White, "Some heteroskedasticity-consistent covariance matrix estimators with improved finite
        sample properties", Journal of Econometrics 1985 (HC2).
    """
    _check(values, attributes, blocks)
    design, untested = _design(attributes, blocks, minimum)
    if not design.keys:
        return ContrastFamily((), _normal_critical(1, confidence), draws, confidence, power, untested)
    # Only patients that take part in a contrast are permuted.
    known = design.known
    sample, design = values[known].astype(np.float64), design.of(known)
    difference, error = design.welch(sample[None, :])
    observed = _studentised(difference, error)[0]
    largest = _largest_under_permutation(sample, design, draws, seed)
    critical = _critical_value(largest, confidence)
    adjusted = {name: _select(groups, known) for name, groups in attributes.items()}
    if blocks is not None:
        adjusted["blocks"] = _select(blocks.groups, known)
    residuals = additive_residuals(sample, adjusted)
    null_critical = _critical_value(_largest_under_permutation(residuals, design, draws, seed), confidence)
    contrasts: list[Contrast] = []
    gaps: dict[frozenset[bytes], float] = {}
    for index, (attribute, group) in enumerate(design.keys):
        d, se = float(difference[0, index]), float(error[0, index])
        half = critical * se if se > 0 else 0.0
        at_least = int((largest >= observed[index] * (1 - 1e-9)).sum())
        one = design.contrast(index)
        # Two groups, each of which is the other's rest, have one gap.
        sides = frozenset((one.members.tobytes(), one.rests.tobytes()))
        if sides not in gaps:
            gaps[sides] = _detectable_gap(sample[one.known], one.of(one.known), null_critical, power, seed)
        within = blocks.attribute if blocks is not None and attribute != blocks.attribute else None
        members, rests = design.members[:, index], design.rests[:, index]
        contrasts.append(
            Contrast(
                attribute,
                group,
                int(one.members.sum()),
                int(one.rests.sum()),
                d,
                max(d - half, bounds[0]),
                min(d + half, bounds[1]),
                (1 + at_least) / (1 + draws),
                min(gaps[sides], bounds[1]),
                d if within is None else float(sample[members].mean() - sample[rests].mean()),
                within,
            )
        )
    return ContrastFamily(tuple(contrasts), critical, draws, confidence, power, untested)


def larger_mean_p(
    values: Float[np.ndarray, " patients"],
    inside: Bool[np.ndarray, " patients"],
    *,
    minimum: int = MINIMUM_PATIENTS,
    draws: int = PERMUTATIONS,
    seed: int = 0,
) -> float | None:
    """Return the one-sided p-value of no larger mean inside than outside, by permuting patients.

    The statistic is Welch's with its sign, as in `contrast_family` for one group; ``p = (1 + b) / (1 + B)`` with ``b``
    of the ``B`` permutations at least as large. It is for a direction that was fixed on other patients.

    Args:
        values: One value a patient.
        inside: Which patients are in the group; all others are the rest.
        minimum: With fewer patients on either side there is no p-value.
        draws: Permutations.
        seed: Of the permutations.

    Raises:
        InputError: If a value is missing, or the groups have another number of patients.

    Example:
        >>> values, inside = np.arange(24.0), np.arange(24) >= 12
        >>> larger_mean_p(values, inside, draws=199), larger_mean_p(values, ~inside, draws=199)
        (0.005, 1.0)
    """
    groups = ["in" if member else "out" for member in inside]
    _check(values, {"group": groups}, None)
    if min(int(inside.sum()), int((~inside).sum())) < max(minimum, 2):
        return None
    design, _ = _design({"group": groups}, None, minimum)
    one = design.contrast(design.keys.index(("group", "in")))

    def signed(rows: Float[np.ndarray, "draws patients"]) -> Float[np.ndarray, " draws"]:
        difference, error = one.welch(rows)
        statistic: np.ndarray = (np.sign(difference) * _studentised(difference, error))[:, 0]
        return statistic

    sample = values.astype(np.float64)
    observed = float(signed(sample[None, :])[0])
    # A little less, so that rounding does not part equal statistics.
    threshold = observed - 1e-9 * abs(observed) if math.isfinite(observed) else observed
    at_least = sum(int((signed(rows) >= threshold).sum()) for rows in permuted(sample, draws, seed))
    return (1 + at_least) / (1 + draws)


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
    z = critical_value + NormalDist().inv_cdf(power)
    if blocks is not None:
        per_patient = _within_per_patient(values, groups, group, blocks, minimum)
        return None if per_patient is None else max(minimum, math.ceil(per_patient * (z / target_gap) ** 2 - 1e-9))
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
    return max(minimum, math.ceil(per_patient * (z / target_gap) ** 2 - 1e-9))


def smallest_ps(
    samples: Float[np.ndarray, "samples patients"],
    attributes: Mapping[str, Sequence[str | None]],
    *,
    blocks: Blocks | None = None,
    minimum: int = MINIMUM_PATIENTS,
    draws: int = PERMUTATIONS,
    seed: int = 0,
) -> Float[np.ndarray, " samples"] | None:
    """Return the smallest adjusted p-value of each sample's family, as `contrast_family` has it, for simulations.

    Args:
        samples: One row a sample, of values of the same patients.
        attributes: As in `contrast_family`; likewise the others.
        blocks: What to permute patients within.
        minimum: A group, or a rest, of fewer patients is not tested.
        draws: Permutations, drawn anew for every `SHARED` samples.
        seed: Of the permutations.

    Returns:
        The p-values, or None where there is nothing to test.

    Raises:
        InputError: If a value is missing, or an attribute or the blocks have another number of patients.
    """
    _check(samples[0], attributes, blocks)
    design, _ = _design(attributes, blocks, minimum)
    if not design.keys:
        return None
    known = design.known
    design = design.of(known)
    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, len(samples), SHARED):
        some = samples[start : start + SHARED, known].astype(np.float64)
        observed = _studentised(*design.welch(some)).max(axis=1, keepdims=True)
        largest = _largest_of_samples(some, design, draws, int(rng.integers(2**31)))
        found.append((1 + (largest >= observed * (1 - 1e-9)).sum(axis=1)) / (1 + draws))
    return np.concatenate(found)


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
    values: Shaped[np.ndarray, " patients"],
    draws: int,
    seed: int,
    blocks: Int[np.ndarray, " patients"] | None = None,
) -> Iterator[Shaped[np.ndarray, "rows patients"]]:
    """Yield the values in random order, many orders at a time and `draws` of them in all.

    Args:
        values: One value a patient.
        draws: Orders.
        seed: Of the orders.
        blocks: One number a patient: values stay among the patients of one number.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(1, len(values)))
    places = [] if blocks is None else [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    for start in range(0, draws, rows):
        tiled = np.tile(values, (min(rows, draws - start), 1))
        if len(places) < 2:
            yield rng.permuted(tiled, axis=1)
            continue
        for place in places:
            tiled[:, place] = rng.permuted(tiled[:, place], axis=1)
        yield tiled


@dataclass(frozen=True)
class _Design:
    """The contrasts of a family as arrays.

    Attributes:
        keys: Attribute and group of each contrast.
        members: Which patients are in the group.
        rests: Which are in the rest.
        blocks: One number a patient.
        free: Which contrasts are not within blocks.
    """

    keys: list[tuple[str, str]]
    members: Bool[np.ndarray, "patients contrasts"]
    rests: Bool[np.ndarray, "patients contrasts"]
    blocks: Int[np.ndarray, " patients"]
    free: Bool[np.ndarray, " contrasts"]

    @property
    def known(self) -> Bool[np.ndarray, " patients"]:
        """Which patients take part in a contrast."""
        result: np.ndarray = (self.members | self.rests).any(axis=1)
        return result

    def of(self, patients: Bool[np.ndarray, " patients"] | Int[np.ndarray, " chosen"]) -> "_Design":
        """Return the contrasts among these patients, in their order."""
        return _Design(self.keys, self.members[patients], self.rests[patients], self.blocks[patients], self.free)

    def contrast(self, index: int) -> "_Design":
        """Return one contrast and the patients that count in it: those in blocks with patients on both sides."""
        one = _Design(
            [self.keys[index]],
            self.members[:, [index]],
            self.rests[:, [index]],
            np.zeros_like(self.blocks) if self.free[index] else self.blocks,
            self.free[[index]],
        )
        shared = _shared(one.members[:, 0], one.rests[:, 0], one.blocks)[:, None]
        return replace(one, members=one.members & shared, rests=one.rests & shared)

    def welch(
        self, samples: Float[np.ndarray, "draws patients"]
    ) -> tuple[Float[np.ndarray, "draws contrasts"], Float[np.ndarray, "draws contrasts"]]:
        """Return the differences, within blocks where they are so tested, and their standard errors."""
        difference = np.empty((len(samples), len(self.keys)))
        error = np.empty_like(difference)
        for free in (True, False):
            chosen = self.free == free
            if chosen.any():
                blocks = np.zeros_like(self.blocks) if free else self.blocks
                found = _within_blocks(samples, self.members[:, chosen], self.rests[:, chosen], blocks)
                difference[:, chosen], error[:, chosen] = found
        return difference, error


def _check(
    values: Float[np.ndarray, " patients"], attributes: Mapping[str, Sequence[str | None]], blocks: Blocks | None
) -> None:
    if not np.isfinite(values).all():
        msg = "values: expected one finite number a patient, got a missing one; leave that patient out and count it"
        raise InputError(msg)
    given = {f"attribute {name}": groups for name, groups in attributes.items()}
    if blocks is not None:
        given[f"blocks of {blocks.attribute}"] = blocks.groups
    for name, groups in given.items():
        if len(groups) != len(values):
            msg = f"{name}: expected {len(values)} groups, one a patient, got {len(groups)}; align the table"
            raise InputError(msg)


def _design(
    attributes: Mapping[str, Sequence[str | None]], blocks: Blocks | None, minimum: int
) -> tuple[_Design, tuple[Untested, ...]]:
    """Return the contrasts that are tested, and the groups that blocks leave too few patients of."""
    patients = len(next(iter(attributes.values()), ()))
    codes = np.zeros(patients, dtype=np.int64) if blocks is None else _codes(blocks.groups)
    keys: list[tuple[str, str]] = []
    members, rests, free, untested = [], [], [], []
    for name, groups in attributes.items():
        known = np.array([group is not None for group in groups], dtype=bool)
        for group in sorted({label for label in groups if label is not None}):
            inside = np.array([label == group for label in groups])
            rest = known & ~inside
            if inside.sum() < minimum or rest.sum() < minimum:
                continue
            within = blocks is not None and name != blocks.attribute
            if blocks is not None and within:
                shared = _shared(inside, rest, codes)
                compared, rest_compared = int((inside & shared).sum()), int((rest & shared).sum())
                if min(compared, rest_compared) < minimum:
                    n = int(inside.sum())
                    untested.append(Untested(name, group, n, compared, rest_compared, blocks.attribute))
                    continue
            keys.append((name, group))
            members.append(inside)
            rests.append(rest)
            free.append(not within)
    sides = [np.stack(side, axis=1) if side else np.zeros((patients, 0), dtype=bool) for side in (members, rests)]
    return _Design(keys, sides[0], sides[1], codes, np.array(free, dtype=bool)), tuple(untested)


def _codes(groups: Sequence[str | None]) -> Int[np.ndarray, " patients"]:
    numbers = {name: number for number, name in enumerate(sorted({name for name in groups if name is not None}), 1)}
    return np.array([0 if name is None else numbers[name] for name in groups], dtype=np.int64)


def _shared(
    members: Bool[np.ndarray, " patients"], rests: Bool[np.ndarray, " patients"], blocks: Int[np.ndarray, " patients"]
) -> Bool[np.ndarray, " patients"]:
    """Return which patients are in a block with patients on both sides."""
    result: np.ndarray = np.isin(blocks, np.intersect1d(blocks[members], blocks[rests]))
    return result


def _within_blocks(
    samples: Float[np.ndarray, "draws patients"],
    members: Bool[np.ndarray, "patients contrasts"],
    rests: Bool[np.ndarray, "patients contrasts"],
    blocks: Int[np.ndarray, " patients"],
) -> tuple[Float[np.ndarray, "draws contrasts"], Float[np.ndarray, "draws contrasts"]]:
    """Return the differences within blocks and their HC2 standard errors; for one block, those of Welch.

    A patient's residual is that of the regression on group and blocks: its distance from the mean of the own side of
    the block, and how far the block's difference lies from that of all blocks.
    """
    names = np.unique(blocks)
    # A slice for a single block, as masks copy what they take.
    places = [slice(None)] if len(names) == 1 else [blocks == block for block in names]
    # Centring first keeps the sums of squares from cancelling; a shift of a whole block changes nothing.
    centred = samples.astype(np.float64)
    for place in places:
        centred[:, place] -= samples[:, place].mean(axis=1, keepdims=True)
    squares = centred * centred
    total = squares.sum(axis=1)[:, None, None]
    counts = [np.stack([side[place].sum(axis=0) for place in places]).astype(float) for side in (members, rests)]
    n_group, n_rest = counts
    n_block = n_group + n_rest
    weights = np.divide(n_group * n_rest, n_block, out=np.zeros_like(n_group), where=n_block > 0)
    whole = weights.sum(axis=0)
    apart, spreads = [], []
    for side, n in zip((members, rests), counts, strict=True):
        used = np.maximum(n, 1.0)
        cells = [side[place].astype(np.float64) for place in places]
        mean = np.stack([centred[:, place] @ cell for place, cell in zip(places, cells, strict=True)], axis=1) / used
        square = np.stack([squares[:, place] @ cell for place, cell in zip(places, cells, strict=True)], axis=1)
        apart.append(mean)
        spreads.append(np.maximum(square - n * mean * mean, 0.0))
    by_block = apart[0] - apart[1]
    difference = (weights * by_block).sum(axis=1) / whole
    variance = np.zeros_like(difference)
    for n, other, spread in zip(counts, counts[::-1], spreads, strict=True):
        # What a patient's side lies from the block's mean, per unit of difference.
        reach = np.divide(other, n_block, out=np.zeros_like(other), where=n_block > 0)
        leverage = np.divide(1.0, n_block, out=np.zeros_like(n_block), where=n_block > 0) + reach**2 / whole
        residual = spread + n * (reach * (by_block - difference[:, None])) ** 2
        # What rounding leaves of a spread of exactly zero.
        residual[residual <= 1e-13 * total] = 0.0
        free = np.where(weights > 0, 1 - leverage, 1.0)
        variance += ((weights > 0) * (reach / whole) ** 2 * residual / free).sum(axis=1)
    return difference, np.sqrt(variance)


def _studentised(
    difference: Float[np.ndarray, "draws contrasts"], error: Float[np.ndarray, "draws contrasts"]
) -> Float[np.ndarray, "draws contrasts"]:
    """Return |T|; two constant sides give 0 where they are equal and infinity where they differ."""
    size = np.abs(difference)
    result = np.where(size > 1e-12, np.inf, 0.0)
    np.divide(size, error, out=result, where=error > 0)
    return result


def _largest_under_permutation(
    values: Float[np.ndarray, " patients"], design: _Design, draws: int, seed: int
) -> Float[np.ndarray, " draws"]:
    """Return the family's largest statistic in each draw: contrasts within blocks and free ones, each permuted so."""
    largest = np.zeros(draws)
    for number, free in enumerate((True, False)):
        chosen = design.free == free
        if not chosen.any():
            continue
        blocks = np.zeros_like(design.blocks) if free else design.blocks
        members, rests = design.members[:, chosen], design.rests[:, chosen]
        own_seed = seed if chosen.all() else int(np.random.default_rng([seed, number]).integers(2**31))
        at = 0
        for rows in permuted(values, draws, own_seed, blocks):
            here = slice(at, at + len(rows))
            at += len(rows)
            found = _studentised(*_within_blocks(rows, members, rests, blocks)).max(axis=1)
            largest[here] = np.maximum(largest[here], found)
    return largest


def _largest_of_samples(
    samples: Float[np.ndarray, "samples patients"], design: _Design, draws: int, seed: int
) -> Float[np.ndarray, "samples draws"]:
    """Return what `_largest_under_permutation` returns for each sample, with the same permutations for all of them.

    To permute the groups is to permute the values; the groups of a draw are then made once for all samples.
    """
    largest = np.zeros((len(samples), draws))
    places = np.arange(samples.shape[1])
    for number, free in enumerate((True, False)):
        chosen = design.free == free
        if not chosen.any():
            continue
        blocks = np.zeros_like(design.blocks) if free else design.blocks
        at = 0
        for orders in permuted(places, draws, int(np.random.default_rng([seed, number]).integers(2**31)), blocks):
            here = slice(at, at + len(orders))
            at += len(orders)
            # One column a draw and contrast.
            columns = [np.moveaxis(side[:, chosen][orders], 1, 0) for side in (design.members, design.rests)]
            members, rests = (side.reshape(len(places), -1) for side in columns)
            found = _studentised(*_within_blocks(samples, members, rests, blocks))
            found = found.reshape(len(samples), len(orders), -1).max(axis=2)
            largest[:, here] = np.maximum(largest[:, here], found)
    return largest


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
    sample: Float[np.ndarray, " patients"], design: _Design, critical: float, power: float, seed: int
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


def _widened_residuals(sample: Float[np.ndarray, " patients"], design: _Design) -> Float[np.ndarray, " patients"]:
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


def _within_per_patient(
    values: Float[np.ndarray, " patients"],
    groups: Sequence[str | None],
    group: str,
    blocks: Blocks,
    minimum: int,
) -> float | None:
    """Return the squared standard error of a contrast within blocks, times the patients of the group."""
    known = np.array([label is not None for label in groups])
    inside = np.array([label == group for label in groups])
    codes = _codes(blocks.groups)
    whole = _Design([("", group)], inside[:, None], (known & ~inside)[:, None], codes, np.zeros(1, dtype=bool))
    one = whole.contrast(0)
    counted = one.known
    if not counted.any():
        return None
    sample, one = values[counted].astype(np.float64), one.of(counted)
    compared = min(int(one.members.sum()), int(one.rests.sum()))
    if compared >= max(minimum, 2):
        return int(inside.sum()) * float(one.welch(sample[None, :])[1][0, 0]) ** 2
    adjusted = {"group": _select(groups, known), "block": _select(blocks.groups, known)}
    degrees = int(known.sum()) - len(set(adjusted["group"])) - len(set(adjusted["block"])) + 1
    if degrees < minimum - 1:
        return None
    variance = float((additive_residuals(values[known].astype(np.float64), adjusted) ** 2).sum()) / degrees
    information = 0.0
    for block in np.unique(one.blocks):
        here = one.blocks == block
        n_group, n_rest = int(one.members[here].sum()), int(one.rests[here].sum())
        information += n_group * n_rest / (n_group + n_rest)
    return int(inside.sum()) * variance / information


def _select(groups: Sequence[str | None], keep: Bool[np.ndarray, " patients"]) -> list[str | None]:
    return [group for group, kept in zip(groups, keep, strict=True) if kept]
