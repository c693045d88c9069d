"""What there is to score: a cohort with its predictions, or two folders of masks and a table of groups."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from equivox.datasets.cohort import AttributeConfig, Case, Cohort, Modality, load_cohort
from equivox.datasets.split import SPLIT_NAME, load_split
from equivox.datasets.text_table import plain_codes, read_text_table, refuse_lost_zeros
from equivox.datasets.unknown_words import unknown_words
from equivox.datasets.wording import some
from equivox.errors import InputError
from equivox.options import parse_options
from equivox.pipelines.evaluation.group_checks import (
    CaseValues,
    check_values,
    refuse_formulas,
    single_groups,
    suffix_too_much,
    unknown_values,
    unmatched_ids,
)
from equivox.pipelines.evaluation.predictions import (
    PREDICTION_LIST,
    images_in,
    listed_mask,
    masks_in,
    read_label_names,
    read_list,
    read_model,
)

Role = Literal["test", "out_of_fold", "all"]

ROLES: dict[Role, str] = {
    "test": "Cases that no network was trained on.",
    "out_of_fold": "Cases that were predicted by the one network that was not trained on them.",
    "all": "All cases that have a reference.",
}
"""The tables of a report, the headline first."""


@dataclass(frozen=True)
class ScoredCase:
    """One case that is to be scored.

    Attributes:
        case_id: Unique among the cases.
        patient_id: The unit of the statistics.
        role: The table that it belongs to.
        reference: File of the reference mask.
        prediction: File of the predicted mask; None where it is missing, which counts as a failure.
        image: File of the first channel, for the gallery; None where there is none.
        groups: Attribute -> group, None where unknown. Of a continuous attribute it is that of the patient's mean, so
            the same for all of a patient's cases.
        numbers: Continuous attribute -> number of this case, None where unknown.
    """

    case_id: str
    patient_id: str
    role: Role
    reference: Path
    prediction: Path | None
    image: Path | None
    groups: Mapping[str, str | None]
    numbers: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationSource:
    """Everything that is known before a mask is opened.

    Attributes:
        name: Of the cohort.
        predictions: The folder of predicted masks.
        classes: Class name -> index; None where the reference masks are to tell.
        reference_values: Value in the reference files -> index; None where the masks are to tell.
        prediction_values: Value in the predicted files -> class name, from `labels.json`; None where there is none.
        attributes: How the values of each attribute make groups.
        nominal_spacing: Nothing in mm or ml may be claimed.
        modality: Of the first channel.
        cases: In the order of the table, or of the file names.
        excluded: Case -> why it is not scored.
        missing_predictions: Cases without a prediction that should have one; they are among `cases`.
        extra_predictions: Predictions without a reference.
        notes: Further things that a reader should know.
        model: Name and run folder of the model, as far as known.
        files: Tables that were read, for their hashes.
        table: The table that gives the groups; None where there is none.
        unknown: Attribute -> the words that were read as unknown values, and how many cells of the table had each.
    """

    name: str
    predictions: Path
    classes: dict[str, int] | None
    reference_values: dict[int, int] | None
    prediction_values: dict[int, str] | None
    attributes: dict[str, AttributeConfig]
    nominal_spacing: bool
    modality: str
    cases: tuple[ScoredCase, ...]
    excluded: dict[str, str]
    missing_predictions: tuple[str, ...]
    extra_predictions: tuple[str, ...]
    notes: tuple[str, ...] = ()
    model: Mapping[str, str | None] = field(default_factory=lambda: {"name": None, "run": None})
    files: tuple[Path, ...] = ()
    table: Path | None = None
    unknown: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupTable:
    """What a table says of the cases that there are.

    Attributes:
        rows: Case -> its row, unknown values as ``""``; also of cases that are not there.
        unknown: Attribute -> the words that were read as unknown values, and how many cells had each.
        notes: Further things that a reader should know.
    """

    rows: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unknown: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaskOptions:
    """What is known of reference masks that no cohort describes.

    Attributes:
        groups: CSV or TSV with one row a case.
        key: Its column of case ids.
        patient: Its column of patients; without it each case is a patient of its own.
        attributes: Its columns to report by.
        continuous: Its columns of numbers to report by, with the inner edges of their groups.
        classes: Value in the masks -> class name; where empty the reference masks tell.
        nominal_spacing: The voxel sizes in the files are not real.
        images: Folder of images named like the masks, to be shown with them; None shows the masks alone.
        modality: Of the images: a CT is shown in windows of HU.
    """

    groups: Path | None = None
    key: str | None = None
    patient: str | None = None
    attributes: tuple[str, ...] = ()
    continuous: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    classes: Mapping[int, str] = field(default_factory=dict)
    nominal_spacing: bool = False
    images: Path | None = None
    modality: Modality = "OTHER"


def cohort_source(folder: Path, predictions: Path) -> EvaluationSource:
    """Pair the cases of a cohort with a folder of predictions.

    The list `predictions.csv` that `equivox predict` writes says which cases no network was trained on. Without it,
    every file named after a case is its prediction, and there is one table of all cases.

    Args:
        folder: The cohort folder.
        predictions: The folder of predicted label maps.

    Raises:
        InputError: If the cohort or the list cannot be read, or no case has both a reference and a prediction.
    """
    cohort = load_cohort(folder)
    table = folder / "cohort.csv"
    values = [CaseValues(case.case_id, case.patient_id, case.attributes) for case in cohort.cases]
    notes = check_values(values, cohort.config.attributes, table, "cohort")
    unknown_values(cohort.unknown, table, "cohort")
    masks, listed = masks_in(predictions), read_list(predictions)
    roles, excluded = _roles(cohort, listed, folder)
    cases, missing = [], []
    for case in cohort.cases:
        if case.label is None:
            excluded[case.case_id] = "no reference mask in the cohort"
        if case.case_id in excluded:
            continue
        prediction = listed_mask(listed.get(case.case_id), case.case_id, predictions, masks)
        if prediction is None:
            missing.append(case.case_id)
        cases.append(_scored_case(cohort, case, roles[case.case_id], prediction, table))
    known = {case.case_id for case in cohort.cases}
    named = {row.get("file", "") for row in listed.values()}
    extra = [stem for stem, path in masks.items() if stem not in known and path.name not in named]
    if not cases:
        msg = f"{folder}: expected a case with a reference mask and a prediction, got none; check {predictions}"
        raise InputError(msg)
    if not masks and len(missing) == len(cases):
        msg = f"{predictions}: expected predicted masks, got none; check the folder"
        raise InputError(msg)
    if len(missing) == len(cases):
        wanted = f"a mask of at least one case of {folder}, such as '{cases[0].case_id}'"
        msg = f"{predictions}: expected {wanted}, got none among {len(masks)} masks; check both folders"
        raise InputError(msg)
    config = cohort.config
    return EvaluationSource(
        name=config.name,
        predictions=predictions,
        classes=dict(config.classes),
        reference_values=config.label_indices,
        prediction_values=read_label_names(predictions),
        attributes=dict(config.attributes),
        nominal_spacing=config.nominal_spacing,
        modality=next(iter(config.channels.values())).modality,
        cases=grouped_by_patient_mean(cases, config.attributes),
        excluded=excluded,
        missing_predictions=tuple(missing),
        extra_predictions=tuple(extra),
        notes=notes + single_groups([case.groups for case in cases], config.attributes),
        model=read_model(predictions),
        files=(table, folder / SPLIT_NAME, predictions / PREDICTION_LIST),
        table=table,
        unknown=cohort.unknown,
    )


def folder_source(references: Path, predictions: Path, options: MaskOptions) -> EvaluationSource:
    """Pair two folders of masks by file name, and look up the patients in a table.

    Args:
        references: Folder of reference masks; the name without its suffix is the case's id.
        predictions: Folder of predicted masks with the same names; the suffixes may differ.
        options: The table of patients, and what the masks do not say themselves.

    Raises:
        InputError: If a folder holds no masks, or the table lacks a column or fits no file.
    """
    reference_files, prediction_files = masks_in(references), masks_in(predictions)
    if references.samefile(predictions):
        msg = f"--predictions {predictions}: expected another folder than --references, got the same; name another"
        raise InputError(msg)
    if not reference_files:
        msg = f"{references}: expected reference masks, got none; check the folder"
        raise InputError(msg)
    if not prediction_files:
        msg = f"{predictions}: expected predicted masks, got none; check the folder"
        raise InputError(msg)
    if not set(reference_files) & set(prediction_files):
        example = f"{next(iter(reference_files))} there and {next(iter(prediction_files))} here"
        msg = f"{predictions}: expected masks named like those in {references}, got {example}; rename them"
        raise InputError(msg)
    groups, patient, classes = options.groups, options.patient, options.classes
    configs = attribute_configs(options)
    refuse_formulas(references, "an id of a case", reference_files)
    table = read_groups(options, configs, set(reference_files))
    rows = table.rows
    images = images_in(options.images) if options.images is not None else {}
    if options.images is not None and not set(images) & set(reference_files):
        msg = f"{options.images}: expected images named like the masks in {references}, got none; check the folder"
        raise InputError(msg)
    cases: list[ScoredCase] = []
    excluded: dict[str, str] = {}
    for case_id, reference in reference_files.items():
        row = rows.get(case_id)
        if row is None and patient is not None and groups is not None:
            excluded[case_id] = f"no row in {groups.name}, so its patient is unknown"
            continue
        values: dict[str, str | None] = {name: (row or {}).get(name) or None for name in configs}
        cases.append(
            ScoredCase(
                case_id,
                row[patient] if row is not None and patient else case_id,
                "all",
                reference,
                prediction_files.get(case_id),
                images.get(case_id),
                {name: group_of(config, values[name], name, groups) for name, config in configs.items()},
                numbers_of(configs, values),
            )
        )
    notes = table.notes
    if groups is not None:
        unknown_values(table.unknown, groups, "groups")
        notes += unmatched_ids(groups, rows, reference_files, excluded=patient is not None)
        notes += single_groups([case.groups for case in cases], configs)
    if patient is None:
        notes += ("No column of patients was given: each case counts as a patient of its own.",)
    return EvaluationSource(
        name=references.resolve().name,
        predictions=predictions,
        classes={name: index for index, name in enumerate(classes.values(), 1)} if classes else None,
        reference_values={0: 0} | {value: index for index, value in enumerate(classes, 1)} if classes else None,
        prediction_values=read_label_names(predictions),
        attributes=configs,
        nominal_spacing=options.nominal_spacing,
        modality=options.modality,
        cases=grouped_by_patient_mean(cases, configs),
        excluded=excluded,
        missing_predictions=tuple(case.case_id for case in cases if case.prediction is None),
        extra_predictions=tuple(sorted(set(prediction_files) - set(reference_files))),
        notes=notes,
        model=read_model(predictions),
        files=(groups,) if groups else (),
        table=groups,
        unknown=table.unknown,
    )


def _scored_case(cohort: Cohort, case: Case, role: Role, prediction: Path | None, table: Path) -> ScoredCase:
    if case.label is None:  # excluded before
        msg = f"case {case.case_id}: expected a reference mask, got none; exclude it"
        raise InputError(msg)
    configs = cohort.config.attributes
    groups = {name: group_of(config, case.attributes.get(name), name, table) for name, config in configs.items()}
    image = next(iter(case.images.values()), None)
    numbers = numbers_of(configs, case.attributes)
    return ScoredCase(case.case_id, case.patient_id, role, case.label, prediction, image, groups, numbers)


def attribute_configs(options: MaskOptions) -> dict[str, AttributeConfig]:
    """Return how the values of each attribute of the table make groups."""
    configs = {name: AttributeConfig() for name in options.attributes}
    return configs | {
        name: parse_options(AttributeConfig, {"kind": "continuous", "bins": tuple(edges)}, f"--continuous {name}")
        for name, edges in options.continuous.items()
    }


def group_of(config: AttributeConfig, value: str | None, name: str, table: Path | None) -> str | None:
    """Return the group of a value.

    Raises:
        InputError: If a continuous attribute's value is no number; the table and its column are named.
    """
    try:
        return config.group_of(value)
    except InputError as error:
        msg = f"{table}: column '{name}': {error}"
        raise InputError(msg) from None


def numbers_of(configs: Mapping[str, AttributeConfig], values: Mapping[str, str | None]) -> dict[str, float | None]:
    """Return the number of each continuous attribute, None where it is unknown; the values were checked before."""
    continuous = [name for name, config in configs.items() if config.kind == "continuous"]
    return {name: None if values.get(name) is None else float(str(values[name])) for name in continuous}


def grouped_by_patient_mean(
    cases: Sequence[ScoredCase], configs: Mapping[str, AttributeConfig]
) -> tuple[ScoredCase, ...]:
    """Put all cases of a patient into the group of the patient's mean of each continuous attribute.

    A patient's age differs from visit to visit and contradicts nothing; yet a patient is in one group.
    """
    known: dict[tuple[str, str], list[float]] = {}
    for case in cases:
        for name, number in case.numbers.items():
            if number is not None:
                known.setdefault((case.patient_id, name), []).append(number)
    groups = {
        (patient, name): configs[name].group_of(repr(math.fsum(numbers) / len(numbers)))
        for (patient, name), numbers in known.items()
    }
    return tuple(
        replace(case, groups={**case.groups, **{name: groups.get((case.patient_id, name)) for name in case.numbers}})
        for case in cases
    )


def _roles(
    cohort: Cohort, listed: Mapping[str, Mapping[str, str]], folder: Path
) -> tuple[dict[str, Role], dict[str, str]]:
    """Return the table of each case, and the cases that belong to none with the reason."""
    if not listed:
        return {case.case_id: "all" for case in cohort.cases}, {}
    roles: dict[str, Role] = {}
    excluded: dict[str, str] = {}
    split = load_split(folder) if (folder / SPLIT_NAME).is_file() else {}
    used = {row["role"] for row in listed.values()}
    for case in cohort.cases:
        row = listed.get(case.case_id)
        if row is None:
            # A case that the list forgets is a missing prediction where cases of its kind were predicted.
            role: Role = "test" if split.get(case.case_id) == "test" else "out_of_fold"
            if case.case_id in split and role in used:
                roles[case.case_id] = role
            else:
                excluded[case.case_id] = f"not in {PREDICTION_LIST}"
        elif row.get("status") == "skipped":
            excluded[case.case_id] = row.get("message") or "skipped by the prediction"
        else:
            roles[case.case_id] = _ROLE_OF[row["role"]]
    return roles, excluded


# A scan is "new" to a run that was trained elsewhere: whether on these patients is not known here.
_ROLE_OF: dict[str, Role] = {"test": "test", "out_of_fold": "out_of_fold", "new": "all"}


def read_groups(options: MaskOptions, configs: Mapping[str, AttributeConfig], case_ids: set[str]) -> GroupTable:
    """Return what the table of groups says of the cases; no rows where there is no table.

    Args:
        options: The table, and its columns of cases and patients.
        configs: The attributes, which are columns of it.
        case_ids: The cases that there are.

    Raises:
        InputError: If the table lacks a column, has a row without an id, names a case twice, fits no case, or a column
            does not hold what it is declared to hold.
    """
    path, key, patient = options.groups, options.key, options.patient
    if path is None:
        if configs or patient or key:
            msg = "--groups: expected a table for --key, --patient and --attribute, got none; name it with --groups"
            raise InputError(msg)
        return GroupTable()
    table = read_text_table(path)
    columns = [str(column) for column in table.columns]
    if key is None:
        key = next((name for name in ("case_id", "participant_id") if name in columns), None)
    if key is None:
        msg = f"{path}: expected a column 'case_id', got {columns}; name the column of the case ids with --key"
        raise InputError(msg)
    wanted = [key, *([patient] if patient else []), *configs]
    missing = [name for name in wanted if name not in columns]
    if missing:
        msg = f"{path}: expected a column '{missing[0]}', got {columns}; correct its name in the command"
        raise InputError(msg)
    is_word = {name: table[name].isin(unknown_words(table[name])) for name in configs}
    blanked = table.assign(**{name: table[name].mask(words, "") for name, words in is_word.items()})
    plain = plain_codes(blanked, wanted)
    for line, case_id in plain[key].items():
        if not case_id:
            msg = f"{path}: expected an id in column '{key}' of each row, got an empty cell in line {line}; fill it in"
            raise InputError(msg)
    is_there = plain[key].isin(case_ids)
    rows: dict[str, dict[str, str]] = {}
    for row in plain.to_dict("records"):
        cells = {str(name): str(cell) for name, cell in row.items()}
        if cells[wanted[0]] in rows:
            msg = f"{path}: expected each case once, got '{cells[wanted[0]]}' twice in '{wanted[0]}'; keep one row"
            raise InputError(msg)
        rows[cells[wanted[0]]] = cells
    refuse_lost_zeros(path, wanted[0], rows, case_ids)
    if not case_ids & set(rows):
        masks, ids = (some((f"'{one}'" for one in names), 3) for names in (sorted(case_ids), rows))
        suffix = suffix_too_much(rows, case_ids)
        todo = f"take the suffix of files, '{suffix}', off the ids" if suffix else "choose another column with --key"
        msg = f"{path}: expected case ids such as {masks} in column '{wanted[0]}', got {ids}; {todo}"
        raise InputError(msg)
    if patient and any(not rows[case_id][patient] for case_id in case_ids & set(rows)):
        msg = f"{path}: expected a patient in each row of '{patient}', got an empty cell; fill it in"
        raise InputError(msg)
    if not configs and not patient:
        msg = f"{path}: expected a column to report by, got none of {columns}; name it with --attribute or --continuous"
        raise InputError(msg)
    cells_of = [
        CaseValues(case_id, row[patient] if patient else case_id, {name: row[name] or None for name in configs})
        for case_id, row in rows.items()
        if case_id in case_ids
    ]
    notes = check_values(cells_of, configs, path, "groups")
    words = {name: Counter(table[name][is_there & found]) for name, found in is_word.items()}
    return GroupTable(rows, {name: dict(counts) for name, counts in words.items() if counts}, notes)
