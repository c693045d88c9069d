"""Each group against the rest: one family of contrasts, tested by permuting patients, within sites where wanted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float

from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS
from equivox.metrics.statistics.contrast_design import (
    Blocks,
    Design,
    Untested,
    check_patients,
    family_design,
    one_contrast,
    studentised,
)
from equivox.metrics.statistics.detectable_gap import detectable_gaps
from equivox.metrics.statistics.permuted_maximum import (
    critical_quantile,
    largest_of_samples,
    largest_under_permutation,
    permuted,
)

PERMUTATIONS = 9999

SHARED = 50
"""Simulated samples that are resampled alike: all of them alike would share the chance error of one set of draws."""


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
    check_patients(values, attributes, blocks)
    design, untested = family_design(attributes, blocks, minimum)
    if not design.keys:
        normal = NormalDist().inv_cdf(1 - (1 - confidence) / 2)
        return ContrastFamily((), normal, draws, confidence, power, untested)
    # Only patients that take part in a contrast are permuted.
    known = design.known
    sample, design = values[known].astype(np.float64), design.of(known)
    largest = largest_under_permutation(sample, design, draws, seed)
    critical = critical_quantile(largest, confidence)
    adjusted = {name: list(compress(groups, known)) for name, groups in attributes.items()}
    if blocks is not None:
        adjusted["blocks"] = list(compress(blocks.groups, known))
    gaps = detectable_gaps(sample, design, adjusted, draws=draws, seed=seed, confidence=confidence, power=power)
    contrasts = _contrasts(sample, design, largest, critical, gaps, blocks, bounds)
    return ContrastFamily(contrasts, critical, draws, confidence, power, untested)


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
    check_patients(values, {"group": groups}, None)
    if min(int(inside.sum()), int((~inside).sum())) < max(minimum, 2):
        return None
    one = one_contrast(groups, "in")

    def signed(rows: Float[np.ndarray, "draws patients"]) -> Float[np.ndarray, " draws"]:
        difference, error = one.welch(rows)
        statistic: np.ndarray = (np.sign(difference) * studentised(difference, error))[:, 0]
        return statistic

    sample = values.astype(np.float64)
    observed = float(signed(sample[None, :])[0])
    # A little less, so that rounding does not part equal statistics.
    threshold = observed - 1e-9 * abs(observed) if math.isfinite(observed) else observed
    at_least = sum(int((signed(rows) >= threshold).sum()) for rows in permuted(sample, draws, seed))
    return (1 + at_least) / (1 + draws)


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
    check_patients(samples[0], attributes, blocks)
    design, _ = family_design(attributes, blocks, minimum)
    if not design.keys:
        return None
    known = design.known
    design = design.of(known)
    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, len(samples), SHARED):
        some = samples[start : start + SHARED, known].astype(np.float64)
        observed = studentised(*design.welch(some)).max(axis=1, keepdims=True)
        largest = largest_of_samples(some, design, draws, int(rng.integers(2**31)))
        found.append((1 + (largest >= observed * (1 - 1e-9)).sum(axis=1)) / (1 + draws))
    return np.concatenate(found)


def _contrasts(
    sample: Float[np.ndarray, " patients"],
    design: Design,
    largest: Float[np.ndarray, " draws"],
    critical: float,
    gaps: Sequence[float],
    blocks: Blocks | None,
    bounds: tuple[float, float],
) -> tuple[Contrast, ...]:
    """Return each contrast with its interval and p-value, by the largest statistics of the family."""
    difference, error = design.welch(sample[None, :])
    observed = studentised(difference, error)[0]
    contrasts = []
    for index, (attribute, group) in enumerate(design.keys):
        d, se = float(difference[0, index]), float(error[0, index])
        half = critical * se if se > 0 else 0.0
        at_least = int((largest >= observed[index] * (1 - 1e-9)).sum())
        one = design.contrast(index)
        within = None if blocks is None or design.free[index] else blocks.attribute
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
                (1 + at_least) / (1 + len(largest)),
                min(gaps[index], bounds[1]),
                d if within is None else float(sample[members].mean() - sample[rests].mean()),
                within,
            )
        )
    return tuple(contrasts)
