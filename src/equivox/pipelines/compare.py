"""Compare models by their evaluations on the same cases: paired tests, rankings, groups, and a page."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from equivox.atomic import atomic_folder
from equivox.definitions import METRICS
from equivox.errors import InputError
from equivox.pipelines.comparison.match import MatchedEvaluations, match_evaluations
from equivox.pipelines.comparison.methods import describe_methods
from equivox.pipelines.comparison.options import CompareOptions
from equivox.pipelines.comparison.sources import EvaluationFolder, model_names, read_evaluation
from equivox.pipelines.comparison.tables import (
    ALL_CLASSES,
    families,
    group_differences,
    model_records,
    pair_tests,
    patient_table,
    primary_powers,
    ranking_rows,
    rankings,
    value_table,
)
from equivox.pipelines.comparison.verdict import pair_verdict
from equivox.pipelines.output_folder import prepare_output_folder
from equivox.pipelines.summary_file import summary_head, write_summary
from equivox.reports.comparison_figures import write_comparison_figures
from equivox.reports.comparison_page import write_comparison
from equivox.reports.embedding import finite

SUMMARY, TESTS, RANKING, PATIENTS = "comparison.json", "comparison.csv", "ranking.csv", "patients.csv"
REPORT, FIGURES = "report.html", "figures"

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison found.

    Attributes:
        folder: Holds `comparison.json`, `comparison.csv`, `ranking.csv`, `patients.csv` and `report.html`.
        summary: What `comparison.json` holds.
        tests: What `comparison.csv` holds: one row a pair, metric and class.
        ranking: What `ranking.csv` holds: one row a metric, view and model.
        patients: What `patients.csv` holds: one row a patient, with the primary endpoint from each model.
    """

    folder: Path
    summary: dict[str, Any]
    tests: pd.DataFrame
    ranking: pd.DataFrame
    patients: pd.DataFrame

    @property
    def report(self) -> Path:
        """The page, to be opened in a browser."""
        return self.folder / REPORT


def compare(
    out: Path,
    *,
    evaluations: Sequence[Path],
    names: Sequence[str] = (),
    options: CompareOptions | None = None,
    allow_partial: bool = False,
    overwrite: bool = False,
    figures: bool = False,
) -> Comparison:
    """Compare two models or more by folders that `evaluate` wrote, patient by patient, and write a page.

    The evaluations must be of the same references, cases, classes and settings. The first is the baseline: the verdicts
    are about each other model against it, in the primary endpoint. Nothing is written unless everything is.

    Args:
        out: The folder to make.
        evaluations: Two folders or more.
        names: One a model, in place of the names that the evaluations know.
        options: Margin, draws, seed.
        allow_partial: Compare the patients that all evaluations have, and list the others.
        overwrite: Replace an earlier comparison at `out`.
        figures: Also write the figures as SVG and PNG.

    Raises:
        InputError: If a folder is no evaluation or a damaged one, or the evaluations cannot be compared; what differs
            is named on both sides.
    """
    options = options or CompareOptions()
    files = (SUMMARY, TESTS, RANKING, PATIENTS, REPORT, FIGURES)
    prepare_output_folder(out, what="a comparison", marks=(SUMMARY, TESTS), files=files, overwrite=overwrite)
    _check_folders(evaluations)
    read = [read_evaluation(folder) for folder in evaluations]
    matched = match_evaluations(read, model_names(read, names), allow_partial=allow_partial)
    comparison = _comparison(out, matched, options)
    _write(comparison, figures=figures, overwrite=overwrite)
    return comparison


def _check_folders(evaluations: Sequence[Path]) -> None:
    if len(evaluations) < 2:
        msg = f"evaluations: expected two folders or more, got {len(evaluations)}; name those to compare"
        raise InputError(msg)
    seen: dict[Path, Path] = {}
    for folder in evaluations:
        resolved = folder.resolve()
        if resolved in seen:
            msg = f"{folder}: expected each evaluation once, got the same folder twice; leave one out"
            raise InputError(msg)
        seen[resolved] = folder


def _comparison(out: Path, matched: MatchedEvaluations, options: CompareOptions) -> Comparison:
    values = value_table(matched)
    tests = pair_tests(matched, values, options)
    powers = primary_powers(matched, values, options)
    ranked = rankings(matched, values, options)
    found = families(tests, options)
    judged = [
        test
        for test in tests
        if test["first"] == matched.names[0] and test["metric"] == matched.primary and test["class"] == ALL_CLASSES
    ]
    first: EvaluationFolder = matched.evaluations[0]
    summary = {
        **summary_head(SCHEMA_VERSION),
        "cohort": {
            "name": str(first.summary["cohort"].get("name") or first.folder.name),
            "classes": list(matched.classes),
            "role": matched.role,
            "patients": len(matched.patients),
            "cases": int(matched.rows[0]["case_id"].nunique()),
            "nominal_spacing": bool(first.summary["cohort"].get("nominal_spacing")),
        },
        "models": model_records(matched, values, options),
        "settings": options.model_dump(mode="json") | {"primary_endpoint": matched.primary},
        "evaluation_settings": dict(first.summary["settings"]),
        "metrics": {key: asdict(METRICS[key]) | {"unit": unit} for key, unit in matched.units.items()},
        "families": found,
        "verdicts": [
            {key: test[key] for key in ("first", "second", "metric")}
            | pair_verdict(test, powers[test["second"]], options)
            for test in judged
        ],
        "tests": tests,
        "ranking": ranked,
        "groups": group_differences(matched, values, options),
        "left_out": matched.left_out,
        "methods": describe_methods(matched, found, options),
    }
    return Comparison(
        folder=out,
        summary=finite(summary),
        tests=pd.DataFrame(tests),
        ranking=ranking_rows(matched, ranked),
        patients=patient_table(matched, values),
    )


def _write(comparison: Comparison, *, figures: bool, overwrite: bool) -> None:
    with atomic_folder(comparison.folder, replace=overwrite) as folder:
        comparison.tests.to_csv(folder / TESTS, index=False, lineterminator="\n")
        comparison.ranking.to_csv(folder / RANKING, index=False, lineterminator="\n")
        comparison.patients.to_csv(folder / PATIENTS, index=False, lineterminator="\n")
        write_summary(folder / SUMMARY, comparison.summary)
        write_comparison(
            folder / REPORT, summary=comparison.summary, tests=comparison.tests, patients=comparison.patients
        )
        if figures:
            write_comparison_figures(folder / FIGURES, summary=comparison.summary, patients=comparison.patients)


__all__ = ["CompareOptions", "Comparison", "compare"]
