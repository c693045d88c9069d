"""The groups of patients that training looks after."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from equivox.datasets.cohort import Cohort
from equivox.errors import InputError

JOIN = " and "
"""Between the groups of two attributes in the name of their intersection."""


@dataclass(frozen=True, eq=False)
class TrainingGroups:
    """The groups of the training cases.

    Attributes:
        names: Of the groups that have a training case, in the order of their indices.
        of_case: Index of each training case's group, -1 where a value is unknown.
    """

    names: tuple[str, ...]
    of_case: Int[Tensor, " cases"]

    def balanced(self) -> tuple[float, ...]:
        """Return for each case how often it is drawn where every group is drawn alike; the numbers sum to 1.

        Cases of unknown group are drawn as often as they would be without groups.
        """
        known = self.of_case >= 0
        counts = torch.bincount(self.of_case[known], minlength=len(self.names)).double()
        share = known.double().mean() / max(1, len(self.names))
        weights = torch.full((len(self.of_case),), 1 / max(1, len(self.of_case)), dtype=torch.float64)
        weights[known] = share / counts[self.of_case[known]]
        return tuple(weights.tolist())


def training_groups(
    cohort: Cohort, attributes: Sequence[str], case_ids: Sequence[str], *, where: str = "fairness.attribute"
) -> TrainingGroups:
    """Return the group of each training case.

    Args:
        cohort: With the cases' attributes.
        attributes: One, or several whose intersections are the groups.
        case_ids: The training cases in the order of their indices.
        where: The option that names the attributes, for messages.

    Raises:
        InputError: If the cohort has no such attribute, or fewer than two groups are known.
    """
    configs = cohort.config.attributes
    for name in attributes:
        if name not in configs:
            known = ", ".join(configs) or "none"
            msg = f"{where}: expected attributes of the cohort ({known}), got '{name}'; declare it"
            raise InputError(msg)
    values = {case.case_id: case.attributes for case in cohort.cases}
    found: list[str | None] = []
    for case_id in case_ids:
        parts = [configs[name].group_of(values[case_id].get(name)) for name in attributes]
        found.append(None if None in parts else JOIN.join(str(part) for part in parts))
    names = tuple(sorted({name for name in found if name is not None}))
    if len(names) < 2:
        which = JOIN.join(attributes)
        msg = f"{where} {which}: expected two or more groups of training cases, got {len(names)}; leave it out"
        raise InputError(msg)
    index = {name: place for place, name in enumerate(names)}
    return TrainingGroups(names, torch.tensor([-1 if name is None else index[name] for name in found]))
