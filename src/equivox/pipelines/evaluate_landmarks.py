"""Evaluate predicted landmarks against true ones, patient by patient and group by group; tables and a page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from equivox.atomic import atomic_folder
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.pipelines.evaluation.group_checks import groups_by_attribute, without_group
from equivox.pipelines.evaluation.sources import MaskOptions
from equivox.pipelines.landmark_evaluation.cases import EXPECTED, measure_landmarks
from equivox.pipelines.landmark_evaluation.options import LandmarkOptions
from equivox.pipelines.landmark_evaluation.sources import LandmarkSource, landmark_source
from equivox.pipelines.landmark_evaluation.tables import by_group, by_landmark, describe, error_curve, group_rows
from equivox.pipelines.output_folder import prepare_output_folder
from equivox.pipelines.summary_file import summary_head, write_summary
from equivox.reports.embedding import finite
from equivox.reports.landmark_figures import write_landmark_figures
from equivox.reports.landmark_page import write_landmarks

LANDMARKS, CASES, GROUPS, SUMMARY = "landmarks.csv", "cases.csv", "groups.csv", "summary.json"
REPORT, FIGURES = "report.html", "figures"


@dataclass(frozen=True, eq=False)
class LandmarkEvaluation:
    """What an evaluation of landmarks found.

    Attributes:
        folder: Holds `landmarks.csv`, `cases.csv`, `groups.csv`, `summary.json` and `report.html`.
        summary: What `summary.json` holds.
        landmarks: One row a case and landmark.
        cases: One row a case.
    """

    folder: Path
    summary: dict[str, Any]
    landmarks: pd.DataFrame
    cases: pd.DataFrame


def evaluate_landmarks(
    references: Path,
    predictions: Path,
    out: Path,
    *,
    groups: Path | None = None,
    key: str | None = None,
    patient: str | None = None,
    attributes: Sequence[str] = (),
    continuous: Mapping[str, tuple[float, ...]] | None = None,
    options: LandmarkOptions | None = None,
    overwrite: bool = False,
    figures: bool = False,
) -> LandmarkEvaluation:
    """Compare two tables of landmarks, and the patients by group.

    A landmark that the predictions lack is missed: it has no error, is counted beside every mean error and is a failure
    in every success rate. A case that the predictions lack has all its landmarks missed.

    Args:
        references: CSV or TSV of the true landmarks: `case_id, landmark, x, y` and, in 3D, `z`.
        predictions: The same of the predicted ones, in the same unit and frame.
        out: The folder to make; it appears whole or not at all.
        groups: CSV or TSV with a row a case.
        key: Its column of case ids.
        patient: Its column of patients; without it each case is a patient of its own.
        attributes: Its columns to report by.
        continuous: Its columns of numbers to report by, with the inner edges of their groups.
        options: Unit, radii, margin, draws, seed.
        overwrite: Replace an earlier evaluation at `out`.
        figures: Also write the plots as SVG and PNG.

    Raises:
        InputError: If a table cannot be read, or the tables do not fit together.
    """
    options = options or LandmarkOptions()
    files = (LANDMARKS, CASES, GROUPS, SUMMARY, REPORT, FIGURES)
    prepare_output_folder(
        out, what="a landmark evaluation", marks=(LANDMARKS, SUMMARY), files=files, overwrite=overwrite
    )
    patients = MaskOptions(
        groups=groups, key=key, patient=patient, attributes=tuple(attributes), continuous=dict(continuous or {})
    )
    source = landmark_source(references, predictions, patients)
    rows, cases = measure_landmarks(source, options.success_radii)
    if not rows["state"].isin(EXPECTED).any():
        msg = f"{references}: expected a landmark in a case that can be evaluated, got none; check {groups}"
        raise InputError(msg)
    summary = _summary(source, rows, cases, options)
    found = LandmarkEvaluation(out, summary, _with_units(rows, options.unit), _with_units(cases, options.unit))
    _write(found, figures=figures, overwrite=overwrite)
    return found


def _summary(
    source: LandmarkSource, rows: pd.DataFrame, cases: pd.DataFrame, options: LandmarkOptions
) -> dict[str, Any]:
    settings = options.model_dump(mode="json")
    settings |= {"radii": list(options.success_radii), "failure_radius": options.fails_beyond}
    summary = {
        **summary_head(),
        "cohort": {
            "name": source.name,
            "patients": int(cases["patient_id"].nunique()),
            "cases": len(cases),
            "landmarks": int(rows["landmark"].nunique()),
            "dimensions": source.dims,
        },
        "settings": settings,
        "overall": describe(rows, options),
        "curve": error_curve(rows, options),
        "landmarks": by_landmark(rows, source.landmarks, options),
        "attributes": by_group(rows, cases, source.attributes, options),
        "left_out": _left_out(source, rows, cases),
        "notes": list(source.notes),
        "inputs": {path.name: file_sha256(path) for path in source.files},
    }
    plain: dict[str, Any] = finite(summary)
    return plain


def _left_out(source: LandmarkSource, rows: pd.DataFrame, cases: pd.DataFrame) -> dict[str, Any]:
    patients = cases["patient_id"].tolist()
    extra = rows[rows["state"] == "extra"]
    return {
        "excluded_cases": [{"case_id": case_id, "reason": reason} for case_id, reason in source.excluded.items()],
        "missing_predictions": list(source.missing_predictions),
        "extra_predictions": list(source.extra_predictions),
        "without_landmark": cases.loc[cases["state"] == "no_landmark", "case_id"].tolist(),
        "extra_landmarks": extra[["case_id", "landmark"]].to_dict("records"),
        "absent": int((rows["state"] == "absent").sum()),
        **without_group(patients, groups_by_attribute([case.groups for case in source.cases], source.attributes)),
    }


def _with_units(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Return a table as its file has it: the unit of each column is in its name."""
    names = {name: f"{name}_{unit}" for name in ("error", "mean_error", "median_error")}
    radii = [str(name) for name in table.columns if str(name).startswith("within:")]
    names |= {name: re.sub("^within:", "within_", name) + f"_{unit}" for name in radii}
    return table.rename(columns=names)


def _write(found: LandmarkEvaluation, *, figures: bool, overwrite: bool) -> None:
    summary = found.summary
    tables = {
        LANDMARKS: found.landmarks,
        CASES: found.cases,
        GROUPS: group_rows(summary["attributes"], summary["settings"]["unit"]),
    }
    with atomic_folder(found.folder, replace=overwrite) as folder:
        for name, table in tables.items():
            table.to_csv(folder / name, index=False, lineterminator="\n")
        write_summary(folder / SUMMARY, summary)
        write_landmarks(folder / REPORT, summary=summary, cases=found.cases)
        if figures:
            write_landmark_figures(folder / FIGURES, summary)
