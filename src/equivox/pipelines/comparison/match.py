"""Whether evaluations can be compared, and the patients that they share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from equivox.errors import InputError
from equivox.metrics.fairness.groups import Grouping
from equivox.pipelines.columns import GROUP_PREFIX, patient_groups
from equivox.pipelines.comparison.sources import EvaluationFolder

# These say how an evaluation was summarised, and change no score of any case.
_STATISTICS = frozenset(
    (
        *("margin", "failure_threshold", "minimum_group", "confidence", "interval", "strata", "permute_within"),
        *("equity_scale", "case_mix", "intersections"),
        *("bootstrap_draws", "permutation_draws", "simulation_repeats", "seed"),
    )
)
# Families of metrics, of which those that all evaluations have are compared; and what stands beside them: lesions and
# other tools' numbers, which are not compared.
_CHOICES = frozenset(("metrics", "lesions", "compat", "reconcile"))

_MOST_NAMED = 5


@dataclass(frozen=True, eq=False)
class MatchedEvaluations:
    """Evaluations of the same cases, side by side.

    Attributes:
        names: Of the models, in the order of the evaluations: the first is the baseline.
        evaluations: As they were read.
        role: Of the headline table, which is compared.
        patients: Patients that are compared, sorted.
        rows: For each model the rows of these patients, one a case and class.
        units: Metric -> unit, for the metrics that all have.
        classes: In the order of the first evaluation.
        groupings: The attributes of the first evaluation.
        left_out: What is not compared, and why.
        notes: Further things that a reader should know.
    """

    names: tuple[str, ...]
    evaluations: tuple[EvaluationFolder, ...]
    role: str
    patients: tuple[str, ...]
    rows: tuple[pd.DataFrame, ...]
    units: dict[str, str]
    classes: tuple[str, ...]
    groupings: tuple[Grouping, ...]
    left_out: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def primary(self) -> str:
        """The primary endpoint."""
        return self.evaluations[0].primary


def match_evaluations(
    evaluations: Sequence[EvaluationFolder], names: Sequence[str], *, allow_partial: bool = False
) -> MatchedEvaluations:
    """Check that evaluations can be compared, and line them up.

    Args:
        evaluations: Two or more; each is held against the first.
        names: Of their models.
        allow_partial: Compare the patients that all evaluations have with the same cases, and list the others.

    Raises:
        InputError: If they are not of the same references, cases, classes and settings; both sides are named.
    """
    first, *others = evaluations
    for other in others:
        _same_role(first, other)
        _same_settings(first, other)
        _same_classes(first, other)
        _same_patients(first, other)
    patients, lacking = _shared_patients(evaluations)
    for other in others:
        _same_cases(first, other, allow_partial=allow_partial, shared=len(patients))
        _same_references(first, other)
    rows = tuple(
        one.headline[one.headline["patient_id"].isin(set(patients))].reset_index(drop=True) for one in evaluations
    )
    units = {key: unit for key, unit in first.units.items() if all(key in other.units for other in others)}
    left_out = {
        "patients": [
            {"patient_id": patient, "models": [names[place] for place in places]} for patient, places in lacking.items()
        ],
        "metrics": _lone_metrics(evaluations, names, units),
        "excluded_cases": {
            name: list(one.summary.get("left_out", {}).get("excluded_cases", []))
            for name, one in zip(names, evaluations, strict=True)
        },
        "missing_predictions": {
            name: sorted(set(part.loc[part["outcome"] == "no_prediction", "case_id"]))
            for name, part in zip(names, rows, strict=True)
        },
    }
    groupings = tuple(_groupings(first, rows[0], patients))
    left_out["unknown_group"] = {grouping.name: grouping.unknown for grouping in groupings}
    return MatchedEvaluations(
        names=tuple(names),
        evaluations=tuple(evaluations),
        role=first.role,
        patients=patients,
        rows=rows,
        units=units,
        classes=tuple(map(str, first.summary["cohort"]["classes"])),
        groupings=groupings,
        left_out=left_out,
        notes=tuple(_notes(evaluations, names, rows, partial=bool(lacking))),
    )


def _where(first: EvaluationFolder, other: EvaluationFolder) -> str:
    return f"{first.folder} and {other.folder}"


def _same_role(first: EvaluationFolder, other: EvaluationFolder) -> None:
    if first.role != other.role:
        msg = (
            f"{_where(first, other)}: expected headline tables of the same cases, got '{first.role}' and "
            f"'{other.role}'; evaluate both on the same kind of cases"
        )
        raise InputError(msg)


def _same_settings(first: EvaluationFolder, other: EvaluationFolder) -> None:
    ours, theirs = first.summary["settings"], other.summary["settings"]
    unlike = [
        f"{key} {_told(ours.get(key))} and {_told(theirs.get(key))}"
        for key in dict.fromkeys((*ours, *theirs))
        if key not in _STATISTICS | _CHOICES and ours.get(key) != theirs.get(key)
    ]
    spacing = [bool(one.summary["cohort"].get("nominal_spacing")) for one in (first, other)]
    if spacing[0] != spacing[1]:
        unlike.append(f"nominal_spacing {_told(spacing[0])} and {_told(spacing[1])}")
    versions = [
        {key: record.get("version") for key, record in one.summary["metrics"].items()} for one in (first, other)
    ]
    unlike += [
        f"definition {key}/{versions[0][key]} and {key}/{versions[1][key]}"
        for key in versions[0]
        if key in versions[1] and versions[0][key] != versions[1][key]
    ]
    unlike += [
        f"unit of {key} {_told(first.units[key])} and {_told(other.units[key])}"
        for key in first.units
        if key in other.units and first.units[key] != other.units[key]
    ]
    if unlike:
        msg = (
            f"{_where(first, other)}: expected scores with the same settings, got {', '.join(unlike)}; evaluate one of "
            "them again with the settings of the other"
        )
        raise InputError(msg)


def _same_classes(first: EvaluationFolder, other: EvaluationFolder) -> None:
    ours, theirs = ([str(name) for name in one.summary["cohort"]["classes"]] for one in (first, other))
    if set(ours) != set(theirs):
        msg = (
            f"{_where(first, other)}: expected the same classes, got {_only(set(ours), set(theirs), 'classes')}; "
            "evaluate both with the same classes"
        )
        raise InputError(msg)


def _same_patients(first: EvaluationFolder, other: EvaluationFolder) -> None:
    """Refuse a case that belongs to one patient here and to another one there."""
    ours, theirs = (dict(zip(one.rows["case_id"], one.rows["patient_id"], strict=True)) for one in (first, other))
    for case, patient in ours.items():
        if theirs.get(case, patient) != patient:
            msg = (
                f"{_where(first, other)}: expected each case to be of one patient, got '{case}' of '{patient}' and of "
                f"'{theirs[case]}'; evaluate both with the same table of patients"
            )
            raise InputError(msg)


def _structures(evaluation: EvaluationFolder) -> dict[str, frozenset[tuple[str, str]]]:
    """Return patient -> its cases and classes, in the headline table."""
    rows = evaluation.headline
    return {
        str(patient): frozenset(zip(part["case_id"], part["class"], strict=True))
        for patient, part in rows.groupby("patient_id", sort=True)
    }


def _shared_patients(evaluations: Sequence[EvaluationFolder]) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Return the patients that all have with the same cases, and for the others which evaluations have them."""
    held = [_structures(evaluation) for evaluation in evaluations]
    every = sorted(set().union(*held))
    shared = [patient for patient in every if len({one.get(patient) for one in held}) == 1]
    kept = set(shared)
    lacking = {
        patient: [place for place, one in enumerate(held) if patient in one] for patient in every if patient not in kept
    }
    return tuple(shared), lacking


def _same_cases(first: EvaluationFolder, other: EvaluationFolder, *, allow_partial: bool, shared: int) -> None:
    ours, theirs = (set(one.headline["case_id"]) for one in (first, other))
    if ours == theirs and _structures(first) == _structures(other):
        return
    got = _only(ours, theirs, "cases") if ours != theirs else "cases with other classes"
    if not shared:
        msg = f"{_where(first, other)}: expected patients that all evaluations have, got {got}; check the folders"
        raise InputError(msg)
    if not allow_partial:
        msg = (
            f"{_where(first, other)}: expected the same cases, got {got}; evaluate both on the same cases, or add "
            "--allow-partial to compare the patients that all have"
        )
        raise InputError(msg)


def _same_references(first: EvaluationFolder, other: EvaluationFolder) -> None:
    keys = ["case_id", "class"]
    both = first.rows.merge(other.rows, on=keys, suffixes=("", ":other"))
    sizes = both["reference_voxels"], both["reference_voxels:other"]
    unlike = both[~((sizes[0] == sizes[1]) | (sizes[0].isna() & sizes[1].isna()))]
    if len(unlike):
        row = unlike.iloc[0]
        msg = (
            f"{_where(first, other)}: expected the same reference masks, got '{row['class']}' of case "
            f"'{row['case_id']}' with {row['reference_voxels']:g} and {row['reference_voxels:other']:g} voxels; "
            "evaluate both against the same references"
        )
        raise InputError(msg)
    same_cases = set(first.rows["case_id"]) == set(other.rows["case_id"])
    hashes = [str(one.summary["inputs"]["references"]) for one in (first, other)]
    if same_cases and hashes[0] != hashes[1]:
        msg = (
            f"{_where(first, other)}: expected the same reference files, got the hashes {hashes[0][:12]} and "
            f"{hashes[1][:12]}; evaluate both against the same references"
        )
        raise InputError(msg)


def _lone_metrics(
    evaluations: Sequence[EvaluationFolder], names: Sequence[str], units: Iterable[str]
) -> list[dict[str, Any]]:
    kept = set(units)
    found: dict[str, list[str]] = {}
    for name, one in zip(names, evaluations, strict=True):
        for key in (*one.units, *one.unknown_metrics):
            if key not in kept:
                found.setdefault(key, []).append(name)
    return [{"metric": key, "models": holders} for key, holders in found.items()]


def _groupings(first: EvaluationFolder, rows: pd.DataFrame, patients: Sequence[str]) -> Iterable[Grouping]:
    table = next(table for table in first.summary["tables"] if table["headline"])
    cases = rows.drop_duplicates("case_id")
    for attribute in table["attributes"]:
        name = str(attribute["name"])
        if GROUP_PREFIX + name not in cases:
            continue
        by_patient = patient_groups(cases, name)
        groups = tuple(by_patient[patient] for patient in patients)
        known = [str(group["name"]) for group in attribute.get("groups", [])]
        present = [group for group in dict.fromkeys(groups) if group is not None]
        order = [group for group in known if group in present]
        yield Grouping(name, groups, tuple(order + sorted(set(present) - set(order))))


def _notes(
    evaluations: Sequence[EvaluationFolder], names: Sequence[str], rows: Sequence[pd.DataFrame], *, partial: bool
) -> Iterable[str]:
    if any(set(one.rows["case_id"]) != set(evaluations[0].rows["case_id"]) for one in evaluations):
        yield (
            "The evaluations scored different cases in all, so their reference files could not be compared by their "
            "hash; the size of each reference structure is the same in all."
        )
    if partial:
        yield "Only patients that all evaluations have, with the same cases, are compared; the others are listed."
    for (a, first), (b, second) in combinations(enumerate(evaluations), 2):
        hashes = [one.summary["inputs"].get("predictions") for one in (first, second)]
        if hashes[0] is not None and hashes[0] == hashes[1]:
            yield f"'{names[a]}' and '{names[b]}' are evaluations of the same predicted files."
    stratified = [one.summary["settings"].get("strata") for one in evaluations]
    if any(stratified):
        by = ", ".join(dict.fromkeys(f"'{one}'" for one in stratified if one))
        yield (
            f"Intervals of single models are not stratified here, so they differ from those of the evaluations, which "
            f"were stratified by {by}."
        )
    for name, part in zip(names[1:], rows[1:], strict=True):
        unlike = [
            str(column).removeprefix(GROUP_PREFIX)
            for column in rows[0].columns
            if str(column).startswith(GROUP_PREFIX) and not _same_groups(rows[0], part, str(column))
        ]
        if unlike:
            yield f"'{name}' was evaluated with other groups of {', '.join(unlike)}; those of '{names[0]}' are used."


def _same_groups(ours: pd.DataFrame, theirs: pd.DataFrame, column: str) -> bool:
    if column not in theirs:
        return False
    pairs = [part.drop_duplicates("case_id").set_index("case_id")[column].to_dict() for part in (ours, theirs)]
    return all((pairs[0][case] or None) == (pairs[1].get(case) or None) for case in pairs[0])


def _only(ours: set[str], theirs: set[str], what: str) -> str:
    """Say what stands on one side alone, for each side."""
    sides = [
        f"{len(lone)} {what} only in the {place} ({_some(lone)})"
        for place, lone in (("first", ours - theirs), ("second", theirs - ours))
        if lone
    ]
    return " and ".join(sides)


def _some(ids: Iterable[str]) -> str:
    ordered = sorted(ids)
    more = len(ordered) - _MOST_NAMED
    return ", ".join(ordered[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _told(value: Any) -> str:
    return "none" if value is None or value == "" else str(value).lower() if isinstance(value, bool) else str(value)
