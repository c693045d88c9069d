"""Folders that `equivox evaluate` wrote, read back and checked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from equivox.datasets.text_table import read_text_table
from equivox.definitions import METRICS
from equivox.errors import InputError
from equivox.pipelines.columns import GROUP_PREFIX
from equivox.pipelines.evaluation.schema import SCHEMA_VERSION

CASES, SUMMARY = "cases.csv", "summary.json"

_COLUMNS = ("case_id", "patient_id", "role", "class", "outcome", "reference_voxels")

_PARTS = {"settings": dict, "cohort": dict, "model": dict, "metrics": dict, "inputs": dict, "tables": list}


@dataclass(frozen=True, eq=False)
class EvaluationFolder:
    """One evaluation, as it was written.

    Attributes:
        folder: Where it lies.
        summary: What `summary.json` holds.
        role: Of the headline table: ``test``, ``out_of_fold`` or ``all``.
        units: Metric -> unit, for those that are known to this version and have a column.
        unknown_metrics: Metrics of the summary that are not compared.
        rows: What `cases.csv` holds, with the metrics under their names and None for an unknown group.
    """

    folder: Path
    summary: dict[str, Any]
    role: str
    units: dict[str, str]
    unknown_metrics: tuple[str, ...]
    rows: pd.DataFrame

    @property
    def headline(self) -> pd.DataFrame:
        """The rows behind the headline table."""
        return self.rows[self.rows["role"] == self.role]

    @property
    def primary(self) -> str:
        """The primary endpoint."""
        return str(self.summary["settings"]["primary_endpoint"])


def read_evaluation(folder: Path) -> EvaluationFolder:
    """Read an evaluation back.

    Raises:
        InputError: If the folder is no evaluation, a file of it is damaged, or another version of Equivox wrote it.
    """
    for name in (SUMMARY, CASES):
        if not (folder / name).is_file():
            got = f"no {name} in it" if folder.is_dir() else "a file" if folder.exists() else "nothing there"
            msg = f"{folder}: expected a folder that 'equivox evaluate' wrote, got {got}; check the path"
            raise InputError(msg)
    summary = _summary(folder / SUMMARY)
    table = next(table for table in summary["tables"] if table["headline"])
    columns = {key: f"{key}_{record['unit']}" if record["unit"] else key for key, record in table["overall"].items()}
    rows = _cases(folder / CASES, summary, columns)
    known = [key for key in columns if key in METRICS and key in rows]
    return EvaluationFolder(
        folder=folder,
        summary=summary,
        role=str(table["role"]),
        units={key: str(table["overall"][key]["unit"] or "") for key in known},
        unknown_metrics=tuple(key for key in columns if key not in known),
        rows=rows,
    )


def model_names(evaluations: Sequence[EvaluationFolder], names: Sequence[str]) -> list[str]:
    """Return a name for each model, all different.

    Those that the user gave; else those that the evaluations know; else, where one is missing or two are alike, the
    names of the folders, with as much of the path before them as tells them apart.

    Raises:
        InputError: If there is another number of names than of evaluations, or two are alike.
    """
    if names:
        given = [name.strip() for name in names]
        if len(given) != len(evaluations) or not all(given):
            msg = (
                f"--name: expected one for each, {len(evaluations)} in all, got {len([n for n in given if n])}; "
                "give it once for each, in their order"
            )
            raise InputError(msg)
        if len(set(given)) < len(given):
            double = next(name for name in given if given.count(name) > 1)
            msg = f"--name: expected another name for each evaluation, got '{double}' twice; change one"
            raise InputError(msg)
        return given
    known = [str(evaluation.summary["model"].get("name") or "").strip() for evaluation in evaluations]
    if all(known) and len(set(known)) == len(known):
        return known
    parts = [evaluation.folder.resolve().parts for evaluation in evaluations]
    for depth in range(1, max(map(len, parts)) + 1):
        tails = ["/".join(path[-depth:]) for path in parts]
        if len(set(tails)) == len(tails):
            return tails
    return ["/".join(path) for path in parts]


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        msg = f"{path}: expected JSON, got {error}; evaluate again"
        raise InputError(msg) from None
    version = summary.get("schema_version") if isinstance(summary, dict) else None
    if version != SCHEMA_VERSION:
        msg = (
            f"{path}: expected the summary of an evaluation with schema_version {SCHEMA_VERSION}, got "
            f"{'none' if version is None else version}; evaluate again with the equivox that compares"
        )
        raise InputError(msg)
    for name, kind in _PARTS.items():
        if not isinstance(summary.get(name), kind):
            _damaged(path, name)
    headlines = [table for table in summary["tables"] if isinstance(table, dict) and table.get("headline")]
    if len(headlines) != 1 or not _is_table(headlines[0]):
        _damaged(path, "tables")
    primary = summary["settings"].get("primary_endpoint")
    if not isinstance(primary, str) or primary not in headlines[0]["overall"] or primary not in METRICS:
        _damaged(path, "settings: primary_endpoint")
    if not isinstance(summary["inputs"].get("references"), str):
        _damaged(path, "inputs: references")
    if not isinstance(summary["cohort"].get("classes"), list):
        _damaged(path, "cohort: classes")
    if not _are_records(list(summary["metrics"].values())):
        _damaged(path, "metrics")
    left_out = summary.get("left_out", {})
    if not isinstance(left_out, dict) or not _are_records(left_out.get("excluded_cases", [])):
        _damaged(path, "left_out: excluded_cases")
    result: dict[str, Any] = summary
    return result


def _is_table(table: Mapping[str, Any]) -> bool:
    overall = table.get("overall")
    return (
        isinstance(table.get("role"), str)
        and isinstance(overall, dict)
        and all(isinstance(record, dict) and "unit" in record for record in overall.values())
        and isinstance(table.get("attributes"), list)
    )


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(record, dict) for record in value)


def _no_number(name: str) -> None:
    msg = f"{name}, which JSON does not know"
    raise ValueError(msg)


def _damaged(path: Path, part: str) -> None:
    msg = f"{path}: expected a summary with '{part}' as 'equivox evaluate' writes it, got none; evaluate again"
    raise InputError(msg)


def _cases(path: Path, summary: Mapping[str, Any], columns: Mapping[str, str]) -> pd.DataFrame:
    table = read_text_table(path)
    primary = str(summary["settings"]["primary_endpoint"])
    missing = [name for name in (*_COLUMNS, columns[primary]) if name not in table]
    if missing:
        msg = f"{path}: expected a column '{missing[0]}', got none; evaluate again"
        raise InputError(msg)
    rows = table.rename(columns={column: key for key, column in columns.items() if column in table})
    for key in ("reference_voxels", *(key for key in columns if key in rows)):
        rows[key] = _numbers(path, rows[key], columns.get(key, key))
    for name in rows.columns:
        if str(name).startswith(GROUP_PREFIX):
            # Of type object, as a column of text would hold NaN, which is no unknown group, in place of None.
            rows[name] = pd.Series([value or None for value in rows[name]], index=rows.index, dtype=object)
    double = rows.duplicated(["case_id", "class"])
    if double.any():
        case, structure = rows.loc[double, ["case_id", "class"]].iloc[0]
        msg = f"{path}: expected one row a case and class, got two of '{case}', '{structure}'; evaluate again"
        raise InputError(msg)
    expected, got = summary["cohort"].get("cases"), int(rows["case_id"].nunique())
    if expected != got:
        msg = f"{path}: expected {expected} cases as {SUMMARY} beside it says, got {got}; evaluate again"
        raise InputError(msg)
    return rows


def _numbers(path: Path, texts: "pd.Series[str]", column: str) -> "pd.Series[float]":
    numbers: pd.Series[float] = pd.to_numeric(texts.replace("", "nan"), errors="coerce").astype(np.float64)
    wrong = texts[numbers.isna() & ~texts.str.lower().isin(("", "nan"))]
    if len(wrong):
        msg = f"{path}: expected numbers in column '{column}', got '{wrong.iloc[0]}'; evaluate again"
        raise InputError(msg)
    is_fraction = column in METRICS and METRICS[column].kind == "fraction"
    beyond = numbers.notna() & (~numbers.between(0, 1) if is_fraction else np.isinf(numbers))
    if beyond.any():
        wanted = "fractions from 0 to 1" if is_fraction else "finite numbers"
        msg = f"{path}: expected {wanted} in column '{column}', got '{texts[beyond].iloc[0]}'; evaluate again"
        raise InputError(msg)
    return numbers
