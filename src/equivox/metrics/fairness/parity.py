"""Differences and ratios between groups as fairlearn defines them, and parity in telling a structure's presence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Bool, Float

from equivox.errors import InputError
from equivox.metrics.fairness.equity import SpreadValue
from equivox.metrics.statistics.permuted_sums import permuted_sums

RATES: Final = ("selection_rate", "true_positive_rate", "false_positive_rate")
"""How often a class is predicted: in all cases, where the reference has it, and where it has not."""

PARITIES: Final = (
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equalized_odds_ratio",
)
"""The measures of parity, as fairlearn names them."""


def difference_between_groups(by_group: Sequence[float]) -> float:
    """Return the largest minus the smallest value, `MetricFrame.difference(method="between_groups")`.

    Example:
        >>> round(difference_between_groups([0.8, 0.7]), 6)
        0.1
    """
    values = _finite(by_group)
    return float(values.max() - values.min())


def difference_to_overall(by_group: Sequence[float], overall: float) -> float:
    """Return the largest distance to the overall value, `MetricFrame.difference(method="to_overall")`.

    Args:
        by_group: One value a group.
        overall: The value over all rows, which is not the mean of the groups.

    Example:
        >>> round(difference_to_overall([0.8, 0.7], 0.78), 6)
        0.08
    """
    return float(np.abs(_finite(by_group) - overall).max())


def ratio_between_groups(by_group: Sequence[float]) -> float:
    """Return the smallest over the largest value, `MetricFrame.ratio(method="between_groups")`; NaN where all are 0.

    Example:
        >>> round(ratio_between_groups([0.8, 0.6]), 6)
        0.75
    """
    values = _finite(by_group)
    return float(values.min() / values.max()) if values.max() != 0 else math.nan


def ratio_to_overall(by_group: Sequence[float], overall: float) -> float:
    """Return the smallest ratio to the overall value, each turned to lie below 1.

    This is `MetricFrame.ratio(method="to_overall")`: the minimum over groups of ``min(r, 1 / r)`` with
    ``r = value / overall``. NaN where the overall value is 0 and all groups' are.

    Example:
        >>> round(ratio_to_overall([0.8, 0.6], 0.75), 6)
        0.8
    """
    values = _finite(by_group)
    if overall == 0:
        # A group above an overall value of 0 is infinitely far off; 0 over 0 counts nowhere.
        return 0.0 if (values != 0).any() else math.nan
    ratios = values / overall
    return float(np.where(ratios > 1, 1 / np.where(ratios > 1, ratios, 1.0), ratios).min())


@dataclass(frozen=True)
class PresenceRates:
    """How often a class is predicted in one group.

    Attributes:
        group: The group.
        patients: Its patients.
        present: Cases (or patients) whose reference has the class.
        absent: Those whose reference has it not; of a patient with both kinds of cases, both count.
        selection_rate: Share of cases with the class in the prediction; None without a case, likewise the others.
        true_positive_rate: Share of those with it in the reference.
        false_positive_rate: Share of those without it in the reference.
    """

    group: str
    patients: int
    present: int
    absent: int
    selection_rate: float | None
    true_positive_rate: float | None
    false_positive_rate: float | None


@dataclass(frozen=True)
class PresenceParity:
    """Whether the presence of one class is told alike in all groups.

    Attributes:
        rates: One entry a group, sorted by name.
        demographic_parity_difference: Largest minus smallest selection rate. None where `reason` says why.
        demographic_parity_ratio: Smallest over largest selection rate.
        equalized_odds_difference: The larger of the ranges of true and false positive rates.
        equalized_odds_ratio: The smaller of their ratios, as far as they are defined: where no group has a false
            positive there is none of that rate, 0 over 0. Either ratio is None where it is not defined at all.
        reason: Why the four are not defined, else None.
    """

    rates: tuple[PresenceRates, ...]
    demographic_parity_difference: SpreadValue | None = None
    demographic_parity_ratio: SpreadValue | None = None
    equalized_odds_difference: SpreadValue | None = None
    equalized_odds_ratio: SpreadValue | None = None
    reason: str | None = None


def presence_parity(
    present: Bool[np.ndarray, "cases classes"],
    predicted: Bool[np.ndarray, "cases classes"],
    patients: Sequence[str],
    groups: Sequence[str],
    *,
    unit: Literal["patient", "case"] = "patient",
    draws: int = 999,
    seed: int = 0,
) -> list[PresenceParity]:
    """Compare between groups how often each class is predicted at all, by fairlearn's definitions.

    This is about presence, one yes or no a case, and not about voxels. It is defined only where every group has
    references with the class and without it: else a rate has nothing to count, and a demographic parity would compare
    how often the class is missed and nothing else. Demographic parity differs from 0 whenever the class is truly more
    frequent in one group, however good the model.

    Like every largest difference of several groups these are above 0 by chance, so each stands beside its mean when
    patients are shuffled between the groups, with no interval.

    Args:
        present: Whether the reference of a case has the class.
        predicted: Whether the prediction has it.
        patients: The patient of each case.
        groups: The group of each case; a patient's cases have one group. Leave out what is not to be compared.
        unit: ``case`` counts each case once, as fairlearn would; ``patient`` gives each patient the weight of one: a
            rate is then the mean over patients of the share of their cases.
        draws: Permutations, of whole patients.
        seed: Of the permutations.

    Returns:
        One entry a class.

    Raises:
        InputError: If a patient has two groups.

    References:
        Hardt, Price and Srebro, "Equality of Opportunity in Supervised Learning", NeurIPS 2016.
        Weerts et al., "Fairlearn: Assessing and Improving Fairness of AI Systems", JMLR 2023.
    """
    members = dict(zip(patients, groups, strict=True))
    for patient, group in zip(patients, groups, strict=True):
        if members[patient] != group:
            msg = f"patient {patient}: expected one group, got '{members[patient]}' and '{group}'; choose one"
            raise InputError(msg)
    ids, names = sorted(members), sorted(set(groups))
    place = {patient: row for row, patient in enumerate(ids)}
    rows = np.array([place[patient] for patient in patients], dtype=np.int64)
    inside = np.array([[float(members[patient] == name) for name in names] for patient in ids])
    inside = inside.reshape(len(ids), len(names))
    counts = _counts(present, predicted, rows, len(ids))
    observed = np.einsum("pg,pck->gck", inside, _weighed(counts, unit))
    rates = _rates(observed)
    sizes = inside.sum(axis=0).astype(int)
    found = [
        PresenceParity(
            tuple(
                PresenceRates(
                    name,
                    int(sizes[group]),
                    *(round(float(observed[group, one, side])) for side in (3, 5)),
                    *(None if math.isnan(rate) else float(rate) for rate in rates[group, one]),
                )
                for group, name in enumerate(names)
            ),
            reason=_reason(names, observed[:, one]),
        )
        for one in range(present.shape[1])
    ]
    defined = [one for one, parity in enumerate(found) if parity.reason is None]
    if defined:
        chance = _by_chance(_weighed(counts, unit)[:, defined], inside, draws, seed)
        for at, one in enumerate(defined):
            value = _four(rates[:, one])
            measures: dict[str, Any] = dict(zip(PARITIES, _beside(value, chance[at]), strict=True))
            found[one] = replace(found[one], **measures)
    return found


def _counts(
    present: Bool[np.ndarray, "cases classes"],
    predicted: Bool[np.ndarray, "cases classes"],
    rows: np.ndarray,
    patients: int,
) -> Float[np.ndarray, "patients classes 6"]:
    """Return of each patient the cases predicted and all, then those of present, then those of absent references."""
    every = np.ones_like(present)
    sides = [every, present, ~present]
    pairs = [column for side in sides for column in (side & predicted, side)]
    stacked = np.stack(pairs, axis=2).astype(np.float64)
    counts = np.zeros((patients, *stacked.shape[1:]))
    np.add.at(counts, rows, stacked)
    return counts


def _weighed(counts: Float[np.ndarray, "patients classes 6"], unit: str) -> Float[np.ndarray, "patients classes 6"]:
    if unit == "case":
        return counts
    result = counts.copy()
    for side in (0, 2, 4):
        whole = counts[:, :, side + 1]
        result[:, :, side] = np.divide(counts[:, :, side], whole, out=np.zeros_like(whole), where=whole > 0)
        result[:, :, side + 1] = whole > 0
    return result


def _rates(sums: Float[np.ndarray, "*draws 6"]) -> Float[np.ndarray, "*draws 3"]:
    numerators, wholes = sums[..., 0::2], sums[..., 1::2]
    result: np.ndarray = np.divide(numerators, wholes, out=np.full_like(wholes, np.nan), where=wholes > 0)
    return result


def _reason(names: Sequence[str], sums: Float[np.ndarray, "groups 6"]) -> str | None:
    if len(names) < 2:
        return "there are not two groups to compare"
    for words, side in (("has", 3), ("lacks", 5)):
        missing = [f"'{name}'" for name, count in zip(names, sums[:, side], strict=True) if count == 0]
        if missing:
            more = f" and {len(missing) - 3} more groups" if len(missing) > 3 else ""
            return f"no reference {words} this class in {', '.join(missing[:3])}{more}"
    return None


def _four(rates: Float[np.ndarray, "groups 3 *draws"]) -> Float[np.ndarray, " 4 *draws"]:
    """Return the four measures; a rate of 0 in all groups has no ratio, and the odds have that of the other rate."""
    low, high = rates.min(axis=0), rates.max(axis=0)
    differences = high - low
    ratios = np.divide(low, high, out=np.full_like(high, np.nan), where=high > 0)
    odds = np.fmin(ratios[1], ratios[2])
    return np.stack([differences[0], ratios[0], differences[1:].max(axis=0), odds])


def _by_chance(
    columns: Float[np.ndarray, "patients classes 6"],
    members: Float[np.ndarray, "patients groups"],
    draws: int,
    seed: int,
) -> Float[np.ndarray, "classes 4"]:
    """Return the mean of the four measures over the draws in which they are defined."""
    patients, classes, _ = columns.shape
    totals, used = np.zeros((4, classes)), np.zeros((4, classes))
    for sums in permuted_sums(columns.reshape(patients, classes * 6), members, draws, seed):
        rates = _rates(sums.reshape(*sums.shape[:2], classes, 6))
        four = _four(np.moveaxis(rates, (1, 3), (0, 1)))
        defined = ~np.isnan(four)
        totals += np.where(defined, four, 0.0).sum(axis=1)
        used += defined.sum(axis=1)
    result: np.ndarray = np.divide(totals, used, out=np.full_like(totals, np.nan), where=used > 0)
    return result.T


def _beside(values: Float[np.ndarray, " four"], chance: Float[np.ndarray, " four"]) -> list[SpreadValue | None]:
    return [
        None if math.isnan(value) or math.isnan(mean) else SpreadValue(value, mean, value - mean)
        for value, mean in zip(values.tolist(), chance.tolist(), strict=True)
    ]


def _finite(by_group: Sequence[float]) -> Float[np.ndarray, " groups"]:
    values = np.asarray(by_group, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        msg = f"group values: expected one finite number a group, got {list(by_group)}; leave undefined groups out"
        raise InputError(msg)
    return values
