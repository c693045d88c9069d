"""The cases as the page lists and plots them: one row a case, where `cases.csv` has one a case and class."""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from equivox.reports.numbers import METRICS, Number, decimals, metric_unit, number, size_word, unit_text

ATTRIBUTE: Final = "attribute:"
OUTCOMES: Final = {
    "missed": "missed",
    "false_positive": "found where there is none",
    "both_empty": "in neither mask",
    "no_prediction": "without a prediction",
}
"""Outcomes that are not a plain score, in words."""


def metric_column(metric: str, settings: Mapping[str, Any]) -> str:
    """Return the column of `cases.csv` that holds a metric, the unit being part of its name."""
    kind = METRICS[metric].kind
    if kind == "fraction":
        return metric
    return f"{metric}_{settings['distance_unit' if kind == 'distance' else 'volume_unit']}"


def list_cases(cases: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a case, in the order of the table.

    Args:
        cases: What `cases.csv` holds.
        settings: The settings of the summary.

    Returns:
        Columns `case_id`, `patient_id`, `role`, the mean over classes of every metric that the table has under its
        plain name, `volume` (of the reference, all classes together), each of
        `OUTCOMES` (classes), and every `attribute:<name>`.
    """
    frame = cases.copy()
    volume = f"reference_{settings['volume_unit']}"
    frame["_volume"] = pd.to_numeric(frame[volume]) if volume in frame else float("nan")
    for outcome in OUTCOMES:
        frame[f"_{outcome}"] = (frame["outcome"] == outcome).astype(int)
    columns: dict[str, tuple[str, str]] = {"patient_id": ("patient_id", "first")}
    for metric in METRICS:
        column = metric_column(metric, settings)
        if column in frame:
            frame[column] = pd.to_numeric(frame[column])
            columns[metric] = (column, "mean")
    columns["volume"] = ("_volume", "sum")
    columns |= {outcome: (f"_{outcome}", "sum") for outcome in OUTCOMES}
    attributes = [str(column) for column in frame.columns if str(column).startswith(ATTRIBUTE)]
    frame["case_id"] = frame["case_id"].astype(str)
    grouped = frame.groupby(["case_id", "role"], sort=False, dropna=False)
    listed = grouped.agg(**{name: pd.NamedAgg(*how) for name, how in columns.items()})
    for attribute in attributes:
        listed[attribute] = grouped[attribute].first()
    return listed.reset_index()


def hover_lines(listed: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page says about each case: the heads, and for each case its id and the values as text."""
    columns = {f"Reference {size_word(settings)}": [size_text(v, settings) for v in listed["volume"].tolist()]}
    for metric in ("dice", "nsd", "hd95"):
        if metric in listed:
            columns[METRICS[metric].label] = [score_text(metric, v, settings) for v in listed[metric].tolist()]
    return {"id": listed["case_id"].tolist(), "heads": list(columns), "values": list(columns.values())}


def score_text(metric: str, value: Number, settings: Mapping[str, Any]) -> str:
    """Write the score of one case with its unit."""
    if metric == "volume_error":
        return size_text(value, settings)
    text = number(value, decimals(METRICS[metric].kind, value))
    unit = metric_unit(metric, settings)
    return f"{text} {unit}" if unit and pd.notna(value) else text


def size_text(value: Number, settings: Mapping[str, Any]) -> str:
    """Write the volume or area of one structure with its unit."""
    unit = str(settings["volume_unit"])
    text = number(value, 0 if unit == "voxels" else decimals("volume", value))
    return f"{text} {unit_text(unit)}" if pd.notna(value) else text
