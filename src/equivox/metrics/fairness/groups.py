"""Groups of patients: one group a patient and attribute, and two attributes crossed."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Grouping:
    """One attribute's groups, patient by patient.

    Attributes:
        name: The attribute.
        groups: One group a patient, in the order of the patients; None where it is not known.
        order: The groups that have a patient, in the order to show them in.

    Example:
        >>> sex = Grouping("sex", ("F", None, "F"), ("F",))
        >>> sex.sizes, sex.unknown
        ({'F': 2}, 1)
    """

    name: str
    groups: tuple[str | None, ...]
    order: tuple[str, ...]

    @property
    def unknown(self) -> int:
        """Patients whose group is not known."""
        return sum(group is None for group in self.groups)

    @property
    def sizes(self) -> dict[str, int]:
        """Patients of each group, in the order of the groups."""
        return {name: self.groups.count(name) for name in self.order}


def one_group_per_patient(
    patients: Sequence[str], groups: Sequence[str | None]
) -> tuple[dict[str, str | None], list[str]]:
    """Reduce the groups of cases to one group a patient.

    Args:
        patients: The patient of each case.
        groups: The group of each case, None where it is not known.

    Returns:
        The patients' groups in the order of their first case, and the patients whose cases contradict one another:
        their group is None, since a patient counts once and in one group.

    Example:
        >>> one_group_per_patient(["a", "a", "b", "b"], ["F", None, "F", "M"])
        ({'a': 'F', 'b': None}, ['b'])
    """
    seen: dict[str, set[str]] = {}
    for patient, group in zip(patients, groups, strict=True):
        seen.setdefault(patient, set()).update(() if group is None else (group,))
    conflicting = [patient for patient, found in seen.items() if len(found) > 1]
    return {patient: next(iter(found)) if len(found) == 1 else None for patient, found in seen.items()}, conflicting


def cross(first: Grouping, second: Grouping) -> Grouping:
    """Cross two attributes of the same patients.

    A patient with either group unknown has no crossed group.

    Example:
        >>> sex = Grouping("sex", ("F", "M", None), ("F", "M"))
        >>> site = Grouping("site", ("1", "1", "2"), ("1", "2"))
        >>> cross(sex, site).sizes
        {'F & 1': 1, 'M & 1': 1}
    """
    groups = tuple(
        None if a is None or b is None else f"{a} & {b}" for a, b in zip(first.groups, second.groups, strict=True)
    )
    present = set(groups)
    order = tuple(name for name in (f"{a} & {b}" for a in first.order for b in second.order) if name in present)
    return Grouping(f"{first.name} & {second.name}", groups, order)
