"""What is wrong with the groups that a table gives to the cases, said before anything is scored."""

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from equivox.datasets.cohort import AttributeConfig
from equivox.datasets.wording import some
from equivox.errors import InputError
from equivox.metrics.fairness.groups import one_group_per_patient
from equivox.volume.formats import suffix_of

logger = logging.getLogger(__name__)

_MOST_GROUPS: Final = 20
"""A column of more values than these, most of them of one patient alone, is no column of groups."""

_MOSTLY: Final = 0.8
"""From this share of numbers on, the words in a column are taken for slips and not for groups."""

_SEVERAL: Final = 5
"""So many different numbers, most of them of one patient alone, are measurements and no groups, whatever words are
among them."""

_LETTERS: Final = 24
"""Of a cell that a message shows."""

TableKind = Literal["groups", "cohort"]
"""Where the columns are declared: in the command beside the table of groups, or in the cohort."""


@dataclass(frozen=True)
class CaseValues:
    """What a table says of one case.

    Attributes:
        case_id: The case.
        patient_id: Its patient.
        values: Attribute -> the cell as text, None where it is not known.
    """

    case_id: str
    patient_id: str
    values: Mapping[str, str | None]


def check_values(
    cases: Sequence[CaseValues], configs: Mapping[str, AttributeConfig], table: Path | None, kind: TableKind
) -> tuple[str, ...]:
    """Check that each column holds what it is declared to hold.

    The cells are also written into tables that people open in a spreadsheet: what it would run as a formula is refused.

    Args:
        cases: The cases.
        configs: How the values of each attribute make groups.
        table: The table, to be named.
        kind: Which remedy to name.

    Returns:
        As sentences that are also logged as warnings: groups that are spelled almost alike, and those that a
        spreadsheet would take for a formula although a table may well have them, such as ``+ve``.

    Raises:
        InputError: If a continuous attribute has a cell that is no number; if a categorical one has a few words among
            numbers, or fewer words than measurements; if it has more than 20 values of which more than half of the
            patients have one of their own; or if an id or a group begins with ``=`` or ``@``.
    """
    refuse_formulas(table, "an id of a case", (case.case_id for case in cases))
    refuse_formulas(table, "an id of a patient", (case.patient_id for case in cases))
    notes: list[str] = []
    for name, config in configs.items():
        known = [(case, cell) for case in cases if (cell := case.values.get(name)) is not None]
        if config.kind == "continuous":
            _refuse_words(known, name, table)
        else:
            named = [(case, config.names.get(cell, cell)) for case, cell in known]
            _refuse_mixture(named, name, table, kind)
            refuse_formulas(table, f"a group of '{name}'", (cell for _, cell in named))
            _refuse_free_text(named, name, table, kind)
            notes += _spelled_alike([cell for _, cell in named], name)
            notes += _like_formulas([cell for _, cell in named], name)
    return _warned(notes)


def refuse_formulas(where: Path | None, what: str, cells: Iterable[str]) -> None:
    """Refuse an id or a group that a spreadsheet would run as a formula when it opens a table that has it.

    Args:
        where: The table or the folder, to be named.
        what: What the cells are, such as ``a group of 'sex'``.
        cells: The ids or groups.

    Raises:
        InputError: If one begins with ``=``, ``@``, a tab or a carriage return.
    """
    for cell in cells:
        if cell.startswith(("=", "@", "\t", "\r")):
            msg = (
                f"{where}: expected {what} that a spreadsheet reads as text, got {cell!a}, which it would run as a "
                "formula; rename it"
            )
            raise InputError(msg)


def unknown_values(unknown: Mapping[str, Mapping[str, int]], table: Path, kind: TableKind) -> tuple[str, ...]:
    """Return, as sentences that are also logged as warnings, which words were read as unknown values.

    Args:
        unknown: Attribute -> word -> cells.
        table: The table, to be named.
        kind: Which remedy to name.
    """
    remedy = {
        "groups": "write another word where one of them is a group",
        "cohort": "where one of them is a group, give it a name in cohort.yaml",
    }
    notes = []
    for name, words in unknown.items():
        count = sum(words.values())
        told = some(f"'{word}' ({n})" for word, n in words.items())
        cells = f"{count} cell{'' if count == 1 else 's'} of '{name}' in {table.name}"
        notes.append(f"{cells} {'is' if count == 1 else 'are'} read as unknown: {told}; {remedy[kind]}.")
    return _warned(notes)


def unmatched_ids(
    table: Path, row_ids: Collection[str], mask_ids: Collection[str], *, excluded: bool, what: str = "mask"
) -> tuple[str, ...]:
    """Return, as sentences that are also logged as warnings, which ids are in the table or among the masks alone.

    Args:
        table: The table, to be named.
        row_ids: The ids of its rows.
        mask_ids: The ids of the masks.
        excluded: Whether a mask without a row is excluded; else its group is unknown.
        what: What the ids are of.
    """
    rowless = [one for one in mask_ids if one not in row_ids]
    maskless = [one for one in row_ids if one not in mask_ids]
    whose = "its patient is" if len(rowless) == 1 else "their patients are"
    fate = f"excluded, as {whose} unknown" if excluded else "of unknown group"
    notes = []
    if rowless:
        have, are = ("has", "is") if len(rowless) == 1 else ("have", "are")
        lead = f"{len(rowless)} of {len(mask_ids)} {what}s {have}"
        notes.append(f"{lead} no row in {table.name} and {are} {fate}: {some(rowless)}.")
    if maskless:
        have = "has" if len(maskless) == 1 else "have"
        suffix = suffix_too_much(maskless, mask_ids)
        hint = f"; these ids seem to have the suffix of files, '{suffix}': take it off" if suffix else ""
        notes.append(
            f"{len(maskless)} of {len(row_ids)} rows of {table.name} {have} no {what}: {some(maskless)}{hint}."
        )
    return _warned(notes)


def suffix_too_much(row_ids: Iterable[str], mask_ids: Collection[str]) -> str:
    """Return the suffix of a file that ids of a table have where those of the masks have none; else ``""``.

    Example:
        >>> suffix_too_much(["b", "a.nii.gz"], {"a": 1, "b": 2})
        '.nii.gz'
    """
    for one in row_ids:
        suffix = suffix_of(Path(one))
        if suffix and one[: -len(suffix)] in mask_ids:
            return suffix
    return ""


def single_groups(groups: Sequence[Mapping[str, str | None]], names: Iterable[str]) -> tuple[str, ...]:
    """Return, as sentences that are also logged as warnings, the attributes by which nobody can be compared.

    Args:
        groups: Attribute -> group, of each case.
        names: The attributes.
    """
    notes = []
    for name in names:
        found = {group for one in groups if (group := one.get(name)) is not None}
        if len(found) < 2:
            what = f"is '{next(iter(found))}' wherever it is known" if found else "is not known for any case"
            notes.append(f"'{name}' {what}: there are no groups of it to compare.")
    return _warned(notes)


def refuse_contradictions(
    patients: Sequence[str],
    groups: Mapping[str, Sequence[str | None]],
    table: Path | None,
) -> None:
    """Refuse cases that put one patient into several groups of an attribute.

    Args:
        patients: The patient of each case.
        groups: Attribute -> the group of each case.
        table: The table, to be named.

    Raises:
        InputError: If there is such a patient; up to five are named with their groups.
    """
    for name, own in groups.items():
        _, conflicting = one_group_per_patient(patients, own)
        if not conflicting:
            continue
        told = [
            f"{' and '.join(_quoted(sorted(_groups_of(patient, patients, own))[:3]))} for {patient}"
            for patient in conflicting
        ]
        msg = (
            f"{table}: column '{name}': expected one group for each patient, got {some(told)}; mend the rows, or add "
            "--allow-partial to count such patients as of unknown group and list them"
        )
        raise InputError(msg)


def groups_by_attribute(
    groups: Sequence[Mapping[str, str | None]], names: Iterable[str]
) -> dict[str, list[str | None]]:
    """Turn attribute -> group of each case into attribute -> the group of each case, None where it is not known."""
    return {name: [one.get(name) for one in groups] for name in names}


def without_group(patients: Sequence[str], groups: Mapping[str, Sequence[str | None]]) -> dict[str, Any]:
    """Return, as a summary lists them, how many patients have no group, and those whose cases contradict one another.

    Args:
        patients: The patient of each case.
        groups: Attribute -> the group of each case.

    Example:
        >>> without_group(["p", "q", "q"], {"sex": [None, "F", "M"]})
        {'unknown_group': {'sex': 2}, 'conflicting_groups': {'sex': ['q']}}
    """
    unknown, conflicts = {}, {}
    for name, own in groups.items():
        by_patient, conflicting = one_group_per_patient(patients, own)
        unknown[name] = sum(group is None for group in by_patient.values())
        if conflicting:
            conflicts[name] = conflicting
    return {"unknown_group": unknown, "conflicting_groups": conflicts}


def _groups_of(patient: str, patients: Sequence[str], groups: Sequence[str | None]) -> set[str]:
    return {group for one, group in zip(patients, groups, strict=True) if one == patient and group is not None}


def _refuse_words(known: Sequence[tuple[CaseValues, str]], name: str, table: Path | None) -> None:
    words = [(case, cell) for case, cell in known if not _is_number(cell)]
    if words:
        msg = (
            f"{table}: column '{name}': expected a number in each cell, got {_where(words)}; mend the cells, or leave "
            "them empty where the value is unknown"
        )
        raise InputError(msg)


def _refuse_mixture(known: Sequence[tuple[CaseValues, str]], name: str, table: Path | None, kind: TableKind) -> None:
    # A code such as 02 is a name.
    words = [(case, cell) for case, cell in known if not _is_number(cell) or _is_code(cell)]
    numbers = [(case, cell) for case, cell in known if _is_number(cell) and not _is_code(cell)]
    measured = 2 * len(numbers) > len(known) and _are_measurements(numbers)
    if not words or (len(numbers) < _MOSTLY * len(known) and not measured):
        return
    remedy = {
        ("groups", False): ", or give the other groups words too",
        ("cohort", False): ", or give the codes names in cohort.yaml",
        ("groups", True): f"; then give the numbers as --continuous {name}=<edges>",
        ("cohort", True): "; then declare the numbers in cohort.yaml as {kind: continuous, bins: [...]}",
    }
    msg = (
        f"{table}: column '{name}': expected either numbers or words, got {_where(words)} among "
        f"{len(numbers)} numbers; mend the cells or leave them empty where the value is "
        f"unknown{remedy[kind, measured]}"
    )
    raise InputError(msg)


def _refuse_free_text(known: Sequence[tuple[CaseValues, str]], name: str, table: Path | None, kind: TableKind) -> None:
    patients = {case.patient_id for case, _ in known}
    holders = _holders(known)
    if len(holders) <= _MOST_GROUPS or not _mostly_of_one(known):
        return
    numbers = all(map(_is_number, holders))
    got = f"{len(holders)} different {'numbers' if numbers else 'texts'} of {len(patients)} patients"
    remedy = {
        ("groups", True): f"give it as --continuous {name}=<edges>, or choose another column",
        ("groups", False): "choose another column with --attribute, or write one of a few words into each cell",
        ("cohort", True): "declare it in cohort.yaml as {kind: continuous, bins: [...]}",
        ("cohort", False): "take it out of the attributes in cohort.yaml, or write one of a few words into each cell",
    }
    msg = (
        f"{table}: column '{name}': expected groups of patients, got {got}, such as "
        f"{', '.join(_quoted(list(holders)[:3]))}; {remedy[kind, numbers]}"
    )
    raise InputError(msg)


def _are_measurements(numbers: Sequence[tuple[CaseValues, str]]) -> bool:
    return len({float(cell) for _, cell in numbers}) >= _SEVERAL and _mostly_of_one(numbers)


def _mostly_of_one(known: Sequence[tuple[CaseValues, str]]) -> bool:
    """Return whether more than half of the patients have a value that no other patient has."""
    holders = _holders(known)
    alone = {case.patient_id for case, cell in known if holders[cell] == 1}
    return 2 * len(alone) > len({case.patient_id for case, _ in known})


def _holders(known: Sequence[tuple[CaseValues, str]]) -> Counter[str]:
    """Return value -> how many patients have it."""
    return Counter(cell for _, cell in dict.fromkeys((case.patient_id, cell) for case, cell in known))


def _spelled_alike(cells: Sequence[str], name: str) -> list[str]:
    """Return a sentence for spellings that differ in capitals, spaces or the way a number is written alone."""
    spellings: dict[str | float, Counter[str]] = {}
    for cell in cells:
        alike = float(cell) if _is_number(cell) else " ".join(cell.split()).casefold()
        spellings.setdefault(alike, Counter())[cell] += 1
    return [
        f"'{name}' is written {' and '.join(f'{_quoted([cell])[0]} ({n})' for cell, n in sorted(one.items()))}, which "
        f"are counted as {len(one)} groups: write them alike where they are one."
        for one in spellings.values()
        if len(one) > 1
    ]


def _like_formulas(cells: Sequence[str], name: str) -> list[str]:
    found = {cell for cell in cells if len(cell) > 1 and cell[0] in "+-" and not _is_number(cell)}
    if not found:
        return []
    told = some(_quoted(sorted(found)), 3)
    return [f"'{name}' has {told}, which a spreadsheet takes for a formula: open the tables there as text."]


def _where(cells: Sequence[tuple[CaseValues, str]]) -> str:
    """Return the cells that do not fit, each word once, with the first cases that have it."""
    cases: dict[str, list[str]] = {}
    for case, cell in cells:
        cases.setdefault(cell, []).append(case.case_id)
    return some(f"{_quoted([cell])[0]} ({some(ids, 3)})" for cell, ids in cases.items())


def _quoted(cells: Sequence[str]) -> list[str]:
    return [f"'{cell}'" if len(cell) <= _LETTERS else f"'{cell[: _LETTERS - 3].rstrip()}...'" for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _is_code(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == "0" and cell[1].isdigit()


def _warned(notes: Sequence[str]) -> tuple[str, ...]:
    for note in notes:
        logger.warning("%s", note)
    return tuple(notes)
