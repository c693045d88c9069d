"""Read cases from a CSV, and join a table of patients to the cases of any source."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from equivox.datasets.cohort import label_columns
from equivox.datasets.import_draft import Draft, DraftCase, ImportOptions, LeftOut
from equivox.datasets.text_table import plain_codes, read_text_table, refuse_lost_zeros
from equivox.datasets.unknown_words import unknown_words
from equivox.datasets.wording import some
from equivox.errors import InputError

# A categorical attribute with more groups than this is more likely a number or an id.
_MANY_GROUPS = 12


def read_csv(source: Path, options: ImportOptions) -> Draft:
    """Read a table of cases: in the form of `cohort.csv`, or with the columns that the options name.

    Args:
        source: The CSV or TSV file; relative paths in it start at its folder.
        options: `images` (channel -> column), `labels` (rater -> column), `key` and `patient`, where the columns do
            not have the names of `cohort.csv`.

    Raises:
        InputError: If a column is missing, or a case id is empty or stands twice.
    """
    table = read_text_table(source)
    columns = [str(column) for column in table.columns]
    images = options.images or {name.removeprefix("image:"): name for name in columns if name.startswith("image:")}
    if not images:
        msg = f"{source}: expected columns 'image:<channel>', got {some(columns, 8)}; add --image <channel>=<column>"
        raise InputError(msg)
    labels = options.labels or label_columns(table)
    key = options.key or "case_id"
    _need_columns(source, columns, [*images.values(), *labels.values(), key])
    table = plain_codes(table, [key, *_attributes_of(columns, options)])
    _need_unique(source, table, key)
    patient = options.patient or ("patient_id" if "patient_id" in columns else None)
    cases = []
    for row in table.to_dict("records"):
        cells = {str(name): str(cell) for name, cell in row.items()}
        cases.append(
            DraftCase(
                cells[key],
                images={name: source.parent / cells[column] for name, column in images.items() if cells[column]},
                labels={rater: source.parent / cells[column] for rater, column in labels.items() if cells[column]},
                patient_id=cells[patient] if patient else None,
            )
        )
    return Draft("csv", source.stem, tuple(images), tuple(cases))


def join_table(draft: Draft, path: Path, options: ImportOptions) -> Draft:
    """Give each case the patient and the attributes that its row in the table holds.

    A row is found by the case id, or by the patient id that the source itself gives (BIDS).

    Args:
        draft: The cases.
        path: CSV or TSV.
        options: `key`, `patient`, `attributes` and `continuous`.

    Returns:
        The draft with patients and attributes. Cases without a row are left out when the patient stands in the
        table (nobody then knows whose they are), and kept with unknown attributes otherwise.

    Raises:
        InputError: If a column is missing, a key stands twice, or no key fits any case.
    """
    table = read_text_table(path)
    columns = [str(column) for column in table.columns]
    key = _key_column(draft, path, columns, options)
    names = _attributes_of(columns, options) if draft.layout == "csv" else _wanted(options)
    _need_columns(path, columns, [key, *([options.patient] if options.patient else []), *names])
    table = plain_codes(table, [key, *([options.patient] if options.patient else []), *names])
    _need_unique(path, table, key)
    table, notes = _blank_unknown(table, names)
    rows = {_row_id(draft, str(row[key])): row for row in table.to_dict("records")}
    refuse_lost_zeros(path, key, rows, [case.case_id for case in draft.cases])
    cases, left_out, used, lonely = [], list(draft.left_out), set(), []
    for case in draft.cases:
        row_id = case.case_id if case.case_id in rows else case.patient_id
        row = rows.get(row_id) if row_id is not None else None
        if row is not None:
            used.add(row_id)
            patient = str(row[options.patient]) if options.patient else case.patient_id
            cases.append(replace(case, patient_id=patient, attributes={name: str(row[name]) for name in names}))
        elif options.patient:
            left_out.append(LeftOut(case.case_id, f"no row in {path.name}, so its patient is unknown"))
        else:
            lonely.append(case.case_id)
            cases.append(replace(case, attributes=dict.fromkeys(names, "")))
    if not used:
        msg = (
            f"{path}: expected column '{key}' to hold ids such as {draft.cases[0].case_id}, "
            f"got {some(rows, 3)}; choose another column with --key"
        )
        raise InputError(msg)
    absent = [row_id for row_id in rows if row_id not in used]
    if absent:
        notes.append(f"{len(absent)} rows of {path.name} have no files: {some(absent)}")
    if lonely:
        notes.append(f"{len(lonely)} cases have no row in {path.name}, their attributes are unknown: {some(lonely)}")
    notes += _note_many_groups(table, names, options)
    return replace(draft, cases=tuple(cases), left_out=tuple(left_out), notes=(*draft.notes, *notes))


def _wanted(options: ImportOptions) -> list[str]:
    return list(dict.fromkeys([*options.attributes, *options.continuous]))


def _attributes_of(columns: Sequence[str], options: ImportOptions) -> list[str]:
    """Return the attributes of a CSV: those asked for, else, in our own form, all columns that are nothing else."""
    wanted = _wanted(options)
    if options.attributes or options.images or options.key:
        return wanted
    own = {"case_id", "patient_id", "label", "fold", *options.labels.values(), options.patient}
    return [name for name in columns if name not in own and not name.startswith(("image:", "label:"))]


def _key_column(draft: Draft, path: Path, columns: Sequence[str], options: ImportOptions) -> str:
    if options.key:
        return options.key
    usual = {"bids": "participant_id"}.get(draft.layout, "case_id")
    if usual in columns:
        return usual
    msg = f"{path}: expected --key to name the column of the case ids, got none; choose from {some(columns, 12)}"
    raise InputError(msg)


def _row_id(draft: Draft, text: str) -> str:
    """BIDS allows participants with and without the prefix of their folder."""
    return f"sub-{text}" if draft.layout == "bids" and not text.startswith("sub-") else text


def _need_columns(path: Path, columns: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in columns]
    if missing:
        msg = f"{path}: expected a column '{missing[0]}', got {some(columns, 30)}; check the name"
        raise InputError(msg)


def _need_unique(path: Path, table: pd.DataFrame, key: str) -> None:
    if (table[key] == "").any():
        row = int((table[key] == "").to_numpy().argmax()) + 1
        msg = f"{path}: expected an id in column '{key}' of each row, got an empty cell in row {row}; fill it in"
        raise InputError(msg)
    doubles = table[key][table[key].duplicated()].unique().tolist()
    if doubles:
        msg = f"{path}: expected each id once in column '{key}', got {some(doubles)} several times; keep one row each"
        raise InputError(msg)


def _blank_unknown(table: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    notes = []
    for name in names:
        words = unknown_words(table[name])
        if words:
            count = sum(words.values())
            are = "values are" if count > 1 else "value is"
            notes.append(f"{name}: {count} {are} taken as unknown, written {some(sorted(words))}")
            table = table.assign(**{name: table[name].mask(table[name].isin(words), "")})
    # A hole in the column may have hidden that the rest are whole numbers.
    return plain_codes(table, names), notes


def _note_many_groups(table: pd.DataFrame, names: Sequence[str], options: ImportOptions) -> list[str]:
    notes = []
    for name in names:
        count = table[name][table[name] != ""].nunique()
        if name not in options.continuous and count > _MANY_GROUPS:
            notes.append(
                f"{name} has {count} different values; if it is a number, add for example --continuous {name}=40,65"
            )
    return notes


def attribute_names(cases: Sequence[DraftCase]) -> list[str]:
    """Return the attributes of the cases, in their order."""
    known: Mapping[str, str] = {name: "" for case in cases for name in case.attributes}
    return list(known)
