"""Repair what a check found repairable, in copies: the sources are never touched."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd

from equivox.atomic import atomic_path
from equivox.datasets.check import CheckResult
from equivox.datasets.check_case import Problem, Repair, describe_distance
from equivox.datasets.cohort import TABLE_NAME, Cohort, row_faults, save_cohort, stored_path
from equivox.datasets.text_table import read_text_table
from equivox.errors import InputError
from equivox.parallel import map_cases
from equivox.volume import axis_codes, read_grid, read_label_map, reorient, write_label_map

FIXED_FOLDER, REPAIRS_NAME = "fixed", "repairs.csv"


@dataclass(frozen=True)
class RepairRecord:
    """One repaired label, as a row of `repairs.csv`.

    Attributes:
        case_id: The case.
        column: The column of `cohort.csv` that now names the copy.
        repair: What was done, in words.
        source: The file as it was, untouched.
        fixed: The copy.
    """

    case_id: str
    column: str
    repair: str
    source: str
    fixed: str


@dataclass(frozen=True)
class _Job:
    case_id: str
    column: str
    repair: Repair
    source: Path
    reference: Path
    target: Path
    nominal: bool


def fix_cohort(
    cohort: Cohort, result: CheckResult, workers: int = 1
) -> tuple[Cohort, tuple[RepairRecord, ...], tuple[str, ...]]:
    """Mend every repairable problem in a copy, and point the cohort to the copies.

    The copies lie in `fixed/`; what was done is added to `repairs.csv`; `cohort.csv` names the copies from then on.

    Args:
        cohort: The cohort that was checked.
        result: What the check found.
        workers: Processes to use.

    Returns:
        The cohort as saved, what was done, and one line for each repair that failed.

    Raises:
        InputError: If a row of the table is faulty: then it is not sure which file belongs to whom.
    """
    faults = row_faults(cohort)
    if faults:
        msg = f"{cohort.folder / TABLE_NAME}: {faults[0].what}; {faults[0].todo} before files are repaired"
        raise InputError(msg)
    jobs = [_job(cohort, problem) for problem in result.problems if problem.repair is not None]
    outcomes = map_cases(_repair, jobs, workers=workers, description="Repairing")
    table = cohort.table.copy()
    records, failures = [], []
    for outcome in outcomes:
        if outcome.result is None:
            failures.append(str(outcome.error))
            continue
        job = outcome.item
        fixed_path = stored_path(job.target, cohort.folder)
        table.loc[table["case_id"] == job.case_id, job.column] = fixed_path
        records.append(RepairRecord(job.case_id, job.column, outcome.result, str(job.source), fixed_path))
    if not records:
        return cohort, (), tuple(failures)
    _append(cohort.folder / REPAIRS_NAME, records)
    fixed = replace(cohort, table=table)
    save_cohort(fixed)
    return fixed, tuple(records), tuple(failures)


def load_repairs(folder: Path) -> tuple[RepairRecord, ...]:
    """Read what was repaired in a cohort; empty where nothing was."""
    path = folder / REPAIRS_NAME
    if not path.is_file():
        return ()
    table = read_text_table(path)
    wanted = [field.name for field in fields(RepairRecord)]
    if list(table.columns) != wanted:
        msg = f"{path}: expected the columns {', '.join(wanted)}, got {list(table.columns)}; mend or move the file"
        raise InputError(msg)
    return tuple(
        RepairRecord(**{str(name): str(value) for name, value in row.items()}) for row in table.to_dict("records")
    )


def _job(cohort: Cohort, problem: Problem) -> _Job:
    case, column = cohort.case(str(problem.case_id)), str(problem.column)
    return _Job(
        case_id=case.case_id,
        column=column,
        repair=problem.repair or "copy_geometry",
        source=case.labels[column.removeprefix("label").removeprefix(":")],
        reference=case.images[next(iter(cohort.config.channels))],
        target=cohort.folder / FIXED_FOLDER / f"{case.case_id}_{column.replace(':', '_').replace(' ', '_')}.nii.gz",
        nominal=cohort.config.nominal_spacing,
    )


def _repair(job: _Job) -> str:
    """Write the mended copy and say in words what was done."""
    if job.target == job.source:
        msg = f"{job.source}: expected a file that was not repaired before, got a copy of ours; mend it by hand"
        raise InputError(msg)
    label, grid = read_label_map(job.source), read_grid(job.reference)
    if job.repair == "turn_axes":
        codes = axis_codes(grid.affine)
        write_label_map(reorient(label, codes).array[0], job.reference, job.target)
        return f"axes turned from {axis_codes(label.affine)} to {codes}"
    off = describe_distance(label.grid, grid, nominal=job.nominal)
    write_label_map(label.array[0], job.reference, job.target)
    return f"geometry of {job.reference.name} copied; the corners were {off} off"


def _append(path: Path, records: Sequence[RepairRecord]) -> None:
    rows = pd.DataFrame([vars(record) for record in [*load_repairs(path.parent), *records]])
    with atomic_path(path) as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n")
