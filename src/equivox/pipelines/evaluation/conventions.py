"""What other tools would report for the same masks, and why it is not what we report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Integer

from equivox.metrics.conventions.case_values import reported_values
from equivox.metrics.conventions.catalog import CONVENTIONS, Tool
from equivox.metrics.conventions.convention import Convention, ToolMetric, state_of
from equivox.metrics.conventions.reconcile import Reconciliation, reconcile
from equivox.metrics.conventions.value_table import ValueTable
from equivox.metrics.fairness.equity import es_std, es_sum
from equivox.pipelines.columns import GROUP_PREFIX

TOOL_COLUMNS: Final = ("case_id", "tool", "class", "metric", "value", "state")
"""The columns of the rows of `tool_rows`."""

RECONCILE_COLUMNS: Final = (
    *("case_id", "class", "metric", "tool", "outcome", "ours", "theirs", "difference", "reason", "words"),
)
"""The columns of `reconcile.csv`."""

_EQUITY_METRICS: Final = ("dice", "iou")
_MOST_CASES: Final = 10
_STATE_WORDS: Final = {"nan": "NaN", "infinite": "infinite", "error": "error", None: "none"}
_NO_DIFFERENCE: Final = ("equal", "left_out_by_both", "background_scored")


def tool_rows(
    case_id: str,
    reference: Integer[np.ndarray, "i j k"],
    prediction: Integer[np.ndarray, "_ _ _"] | None,
    *,
    classes: Mapping[str, int],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    tools: Sequence[Tool],
) -> list[dict[str, Any]]:
    """Return what each tool reports for one case, as plain rows.

    Args:
        case_id: The case.
        reference: Class indices.
        prediction: Class indices on the same grid; None where it is missing, which gives no rows.
        classes: Class name -> index.
        spacing_mm: Voxel sides in mm; 1, 1, 1 where voxel sizes are not real.
        tolerance_mm: Of NSD, for the tools that leave it to their user.
        tools: Keys of `CONVENTIONS`.

    Returns:
        One row a tool, class and metric: case_id, tool, class, metric, value (NaN where there is no number) and state
        (see `ValueState`).

    Raises:
        InputError: If the masks do not fit together or there is no such tool.
    """
    if prediction is None:
        return []
    values = reported_values(
        reference,
        prediction,
        classes=classes,
        spacing_mm=spacing_mm,
        tolerance_mm=tolerance_mm,
        tools=tools,
    )
    return [
        {
            "case_id": case_id,
            "tool": one.tool,
            "class": one.class_name,
            "metric": one.metric,
            "value": math.nan if one.value is None else one.value,
            "state": state_of(one.value),
        }
        for one in values
    ]


def summarise_tools(
    rows: pd.DataFrame,
    reported: pd.DataFrame,
    *,
    tools: Sequence[Tool],
    length_unit: str,
    with_reasons: bool,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return what each tool would report for all cases and, if asked for, why it is not what we report.

    Args:
        rows: Our scores, one row a case and class: case_id, patient_id, class, outcome, the scores, and
            ``attribute:<name>`` for each attribute. Of one table of the report; what `reported` has of other cases is
            left out.
        reported: The rows of `tool_rows`, of all cases, with the columns `TOOL_COLUMNS`.
        tools: Keys of `CONVENTIONS`.
        length_unit: Of our distances: ``mm`` or ``voxels``.
        with_reasons: Explain every difference.

    Returns:
        What `summary.json` holds under ``compat``, by tool, as plain values (a mean that is no finite number is None
        and told in ``mean_words``); and what `reconcile.csv` holds, empty without `with_reasons`.
    """
    reported = reported[reported["case_id"].isin(rows["case_id"])]
    summary: dict[str, Any] = {}
    cells = []
    for tool in tools:
        own = reported[reported["tool"] == tool]
        convention = CONVENTIONS[tool]
        entry: dict[str, Any] = {
            "title": convention.title,
            "version": convention.version,
            "rules": list(convention.rules),
            "missing_prediction": convention.missing_prediction,
            "averaging": convention.averaging.words,
            "missing_predictions": int(rows.loc[rows["outcome"] == "no_prediction", "case_id"].nunique()),
            "metrics": {
                key: _metric(own[own["metric"] == key], metric, convention, length_unit)
                for key, metric in convention.metrics.items()
            },
        }
        if with_reasons:
            entry["reconciliation"] = {}
            for key in convention.metrics:
                if key in rows:
                    result = reconcile(rows, own[own["metric"] == key], convention, key)
                    entry["reconciliation"][key] = _reconciliation(result)
                    cells.append(result.cells.assign(metric=key, tool=tool))
        if tool == "fairseg":
            entry["equity"] = _equity(rows, own)
        summary[tool] = entry
    table = pd.concat(cells, ignore_index=True) if cells else pd.DataFrame(columns=list(RECONCILE_COLUMNS))
    return summary, table[list(RECONCILE_COLUMNS)]


def _metric(values: pd.DataFrame, metric: ToolMetric, convention: Convention, length_unit: str) -> dict[str, Any]:
    table = ValueTable(values)
    array = table.of(values["value"].to_numpy(dtype=np.float64))
    units = {"fraction": "", "length": length_unit, "voxels": "voxels"}
    by_class = convention.averaging.by_class(array)
    return {
        "label": metric.label,
        "unit": units[metric.unit],
        **_number("mean", convention.averaging.reported(array)),
        "cases": int((~np.isnan(array)).any(axis=1).sum()),
        "by_class": {str(name): _finite(mean) for name, mean in zip(table.classes, by_class, strict=True)},
    }


def _reconciliation(result: Reconciliation) -> dict[str, Any]:
    return {
        "ours": _finite(result.ours),
        **_number("theirs", result.theirs),
        "contributions": [
            {
                "reason": one.reason,
                "words": one.words,
                "structures": one.structures,
                "cases": one.cases,
                **_number("amount", one.amount),
            }
            for one in result.contributions
        ],
        "largest": _largest(result),
    }


def _largest(result: Reconciliation) -> list[dict[str, Any]]:
    """Return the structures that differ most; one that a tool leaves out differs by what it would do to the mean."""
    cells = result.cells[~result.cells["reason"].isin(_NO_DIFFERENCE)]
    size = cells["difference"].abs()
    size = size.fillna((cells["ours"] - result.theirs).abs()).fillna((cells["theirs"] - result.ours).abs())
    chosen = size.fillna(math.inf).sort_values(ascending=False, kind="stable").index[:_MOST_CASES]
    return [
        {
            "case_id": str(row["case_id"]),
            "class": str(row["class"]),
            "ours": _finite(row["ours"]),
            "theirs": _finite(row["theirs"]),
            **({} if row["state"] == "number" else {"theirs_words": _STATE_WORDS[row["state"]]}),
            "reason": row["reason"],
            "words": row["words"],
        }
        for row in cells.loc[chosen].to_dict("records")
    ]


def _equity(rows: pd.DataFrame, reported: pd.DataFrame) -> dict[str, Any]:
    """Return the equity-scaled scores from image means: images of unknown group are in the overall mean alone."""
    result: dict[str, Any] = {}
    cases = rows.drop_duplicates("case_id").set_index("case_id")
    for column in [name for name in map(str, rows.columns) if name.startswith(GROUP_PREFIX)]:
        groups = cases[column]
        result[column.removeprefix(GROUP_PREFIX)] = {
            str(name): {
                metric: _scaled(part.loc[part["metric"] == metric].set_index("case_id")["value"], groups)
                for metric in _EQUITY_METRICS
            }
            for name, part in reported.groupby("class", sort=False)
        }
    return result


def _scaled(values: "pd.Series[float]", groups: "pd.Series[Any]") -> dict[str, Any]:
    overall = float(values.mean())
    means = values.groupby(groups.reindex(values.index).astype(object)).mean()
    several = len(means) > 1
    return {
        "overall": overall,
        "groups": {str(name): float(mean) for name, mean in means.items()},
        "es_sum": es_sum(means.tolist(), overall) if several else None,
        "es_std": es_std(means.tolist(), overall) if several else None,
    }


def _number(name: str, value: float) -> dict[str, Any]:
    """Return a value for JSON, which has no infinity: None with a word beside it where it is not finite."""
    words = {} if math.isfinite(value) else {f"{name}_words": "infinite" if math.isinf(value) else "not defined"}
    return {name: _finite(value), **words}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
