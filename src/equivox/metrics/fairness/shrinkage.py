"""Means of small groups, drawn towards the mean of all by as much as chance may have moved them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from equivox.metrics.statistics.finite import require_finite
from equivox.metrics.statistics.patient_means import bounded_mean


@dataclass(frozen=True)
class ShrunkMean:
    """One group's mean beside its shrunken form.

    Attributes:
        group: The group.
        patients: Its patients.
        mean: As observed.
        weight: What the group's own mean weighs in `estimate`, from 0 to 1; the rest is `Shrinkage.towards`.
        estimate: The shrunken mean, between `mean` and `Shrinkage.towards`.
    """

    group: str
    patients: int
    mean: float
    weight: float
    estimate: float


@dataclass(frozen=True)
class Shrinkage:
    """The shrunken means of the groups of one attribute.

    Attributes:
        groups: One entry a group, sorted by name.
        towards: The mean that the groups are drawn to.
        between_sd: Standard deviation of the groups' true means; 0 where the observed ones lie no further apart than
            chance would put them.
        within_sd: Standard deviation of patients within a group, one number for all groups.
    """

    groups: tuple[ShrunkMean, ...]
    towards: float
    between_sd: float
    within_sd: float

    def of(self, group: str) -> ShrunkMean:
        """Return the entry of one group."""
        return next(one for one in self.groups if one.group == group)


def shrink_groups(values: Float[np.ndarray, " patients"], groups: Sequence[str | None]) -> Shrinkage | None:
    r"""Return empirical-Bayes estimates of the groups' means, to stand beside the raw ones.

    The model is normal-normal: the mean of a group of n patients varies by ``s^2 / n`` around its true mean, and true
    means by ``tau^2`` around one another. ``tau^2`` is the moment estimate of DerSimonian and Laird, which with one
    ``s^2`` for all groups reads ``max(0, (SS_between - (G - 1) s^2) / (N - sum n^2 / N))``. A group's own mean then
    weighs ``tau^2 / (tau^2 + s^2 / n)``, and the rest is the mean of all groups, each weighing
    ``1 / (tau^2 + s^2 / n)``.

    ``s^2`` is pooled over the groups (ours): two patients with equal scores would otherwise have no error at all. So a
    group of one patient has an estimate too, with the error that one patient of the other groups would have. Where the
    groups lie no further apart than by chance, ``tau^2`` is 0 and every estimate is the mean of all patients of known
    group. Where no patient differs from the own group's mean, nothing is shrunken and every weight is 1. With two or
    three groups ``tau^2`` itself is very uncertain.

    Args:
        values: One value a patient, in any unit, none of them missing.
        groups: One group a patient; patients of unknown group (None) play no part.

    Returns:
        The estimates, or None with fewer than two groups, or where no group has two patients: the variation between
        patients cannot then be told from that between groups.

    Raises:
        InputError: If a value is not finite.

    References:
        Morris, "Parametric empirical Bayes inference: theory and applications", JASA 1983.
        DerSimonian and Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 1986.

    Example:
        >>> found = shrink_groups(np.array([0.7, 0.9, 0.5, 0.7, 0.2]), ["a", "a", "b", "b", "c"])
        >>> [round(one.estimate, 3) for one in found.groups]
        [0.765, 0.593, 0.284]
    """
    require_finite(values)
    names = sorted({group for group in groups if group is not None})
    samples = [
        np.array([value for value, group in zip(values.tolist(), groups, strict=True) if group == name])
        for name in names
    ]
    sizes = np.array([len(sample) for sample in samples], dtype=np.float64)
    total = sizes.sum()
    if len(names) < 2 or total == len(names):
        return None
    means = np.array([bounded_mean(sample) for sample in samples])
    within = float(sum(((sample - mean) ** 2).sum() for sample, mean in zip(samples, means, strict=True)))
    within /= total - len(names)
    overall = float(sizes @ means / total)
    between = float(sizes @ (means - overall) ** 2) - (len(names) - 1) * within
    between = max(0.0, between / float(total - (sizes**2).sum() / total))
    if within == 0:
        weights, towards = np.ones(len(names)), overall if between == 0 else float(means.mean())
    else:
        errors = between + within / sizes
        weights, towards = between / errors, float((means / errors).sum() / (1 / errors).sum())
    estimates = weights * means + (1 - weights) * towards
    return Shrinkage(
        tuple(
            ShrunkMean(name, int(size), float(mean), float(weight), float(estimate))
            for name, size, mean, weight, estimate in zip(names, sizes, means, weights, estimates, strict=True)
        ),
        towards,
        float(np.sqrt(between)),
        float(np.sqrt(within)),
    )
