"""The summary of an evaluation: what was scored with what, what came of it, and what was left out."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from equivox.definitions import METRICS
from equivox.hashing import file_sha256
from equivox.pipelines.evaluation.cases import CaseResult
from equivox.pipelines.evaluation.group_checks import groups_by_attribute, without_group
from equivox.pipelines.evaluation.methods import describe_methods
from equivox.pipelines.evaluation.options import EvaluateOptions
from equivox.pipelines.evaluation.schema import SCHEMA_VERSION
from equivox.pipelines.evaluation.sources import EvaluationSource
from equivox.pipelines.summary_file import summary_head
from equivox.reports.embedding import finite


def summarise(
    source: EvaluationSource,
    rows: pd.DataFrame,
    results: Mapping[str, CaseResult],
    tables: Sequence[dict[str, Any]],
    units: Mapping[str, str],
    options: EvaluateOptions,
) -> dict[str, Any]:
    """Return what `summary.json` holds: the tables, and all that a reader needs to judge them, as plain values.

    Args:
        source: Where the cases come from.
        rows: One row a case and class.
        results: The scores of each case.
        tables: One a role, the headline first.
        units: Score -> unit.
        options: The settings.
    """
    settings = options.model_dump(mode="json")
    settings["empty_policy"] = settings.pop("empty")
    settings |= {"distance_unit": units["hd95"], "volume_unit": units["volume_error"]}
    summary = {
        **summary_head(SCHEMA_VERSION),
        "cohort": {
            "name": source.name,
            "classes": list(source.classes or ()),
            "patients": int(rows["patient_id"].nunique()),
            "cases": int(rows["case_id"].nunique()),
            "nominal_spacing": units["hd95"] == "voxels",
        },
        "model": dict(source.model),
        "settings": settings,
        "metrics": {key: asdict(METRICS[key]) | {"unit": units[key]} for key in options.scores},
        "tables": list(tables),
        "left_out": _left_out(source, rows, results),
        "inputs": _hashes(source, results),
        "methods": describe_methods(options, units, tables, source.notes),
    }
    plain: dict[str, Any] = finite(summary)
    return plain


def _left_out(source: EvaluationSource, rows: pd.DataFrame, results: Mapping[str, CaseResult]) -> dict[str, Any]:
    outcomes = {
        outcome: {
            str(name): int((part["outcome"] == outcome).sum()) for name, part in rows.groupby("class", sort=False)
        }
        for outcome in ("both_empty", "missed", "false_positive", "no_prediction")
    }
    patients = [case.patient_id for case in source.cases]
    return {
        "excluded_cases": [{"case_id": case_id, "reason": reason} for case_id, reason in source.excluded.items()],
        "missing_predictions": list(source.missing_predictions),
        "extra_predictions": list(source.extra_predictions),
        **outcomes,
        "repairs": [
            {"case_id": case.case_id, "repair": repair}
            for case in source.cases
            for repair in results[case.case_id].repairs
        ],
        **without_group(patients, groups_by_attribute([case.groups for case in source.cases], source.attributes)),
        "unknown_words": source.unknown,
    }


def _hashes(source: EvaluationSource, results: Mapping[str, CaseResult]) -> dict[str, str]:
    """Return one hash for all references and one for all predictions, and those of the tables."""
    hashes = {path.name: file_sha256(path) for path in source.files if path.is_file()}
    for index, kind in enumerate(("references", "predictions")):
        whole = hashlib.sha256()
        for case_id in sorted(results):
            whole.update(f"{case_id}\0{results[case_id].hashes[index]}\n".encode())
        hashes[kind] = whole.hexdigest()
    maps = [
        f"{case_id}\0{name}\0{digest}\n"
        for case_id in sorted(results)
        for name, digest in results[case_id].probability_hashes.items()
    ]
    if maps:
        hashes["probabilities"] = hashlib.sha256("".join(maps).encode()).hexdigest()
    return hashes
