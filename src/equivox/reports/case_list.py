"""The cases as the page lists and plots them: one row a case, where `cases.csv` has one a case and class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from equivox.definitions import METRICS
from equivox.reports.numbers import (
    MISSING,
    Number,
    decimals,
    metric_text,
    metric_unit,
    number,
    signed,
    size_word,
)

ATTRIBUTE: Final = "attribute:"
_MOST_LISTED: Final = 200
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
    if kind not in ("distance", "volume"):
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
    sizes = [_with_unit(size_text(value, settings), "volume_error", settings) for value in listed["volume"]]
    columns = {f"Reference {size_word(settings)}": sizes}
    for metric in ("dice", "nsd", "hd95"):
        if metric in listed:
            texts = (score_text(value, metric, settings) for value in listed[metric])
            columns[METRICS[metric].label] = [_with_unit(text, metric, settings) for text in texts]
    return {"id": listed["case_id"].tolist(), "heads": list(columns), "values": list(columns.values())}


def score_text(value: Number, metric: str, settings: Mapping[str, Any]) -> str:
    """Write the score of one case, an error with its sign; its unit stands in the head, see `score_head`."""
    if METRICS[metric].kind == "volume":
        return signed(value, _size_decimals(value, settings))
    if METRICS[metric].kind == "count":
        # A mean over classes need not be whole.
        return number(value, 0 if float(value).is_integer() else 1)
    write = signed if METRICS[metric].better == "zero" else number
    return write(value, decimals(METRICS[metric].kind, value))


def size_text(value: Number, settings: Mapping[str, Any]) -> str:
    """Write the volume or area of a structure; its unit stands in the head, see `score_head`."""
    return number(value, _size_decimals(value, settings))


def _size_decimals(value: Number, settings: Mapping[str, Any]) -> int:
    return 0 if settings["volume_unit"] == "voxels" else decimals("volume", value)


def score_head(label: str, metric: str, settings: Mapping[str, Any]) -> str:
    """Return the head of a column of scores, with the unit."""
    unit = metric_unit(metric, settings)
    return f"{label} ({unit})" if unit else label


def _with_unit(text: str, metric: str, settings: Mapping[str, Any]) -> str:
    unit = metric_unit(metric, settings)
    return f"{text} {unit}" if unit and text != MISSING else text


@dataclass(frozen=True)
class CaseListing:
    """Cases as a table.

    Attributes:
        title: What is listed.
        heads: Of the columns.
        rows: One a case.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def lowest_cases(listed: pd.DataFrame, settings: Mapping[str, Any]) -> CaseListing:
    """Return every case, the worst first; of many, only the worst.

    Args:
        listed: One row a case, see `list_cases`.
        settings: The settings of the summary.
    """
    primary = settings["primary_endpoint"]
    metrics = [key for key in METRICS if key in listed]
    if not len(listed) or primary not in metrics:
        return CaseListing("", (), ())
    label = metric_text(primary).label
    rising = metric_text(primary).better == "high"
    ordered = listed.sort_values(primary, ascending=rising, na_position="last", kind="stable").head(_MOST_LISTED)
    roles = len(set(listed["role"])) > 1
    heads = ["Case", *(["Role"] if roles else [])]
    heads.append(score_head(f"Reference {size_word(settings)}", "volume_error", settings))
    heads += [score_head(metric_text(key).label, key, settings) for key in metrics] + ["Not plainly scored"]
    rows = []
    for record in ordered.to_dict("records"):
        notes = [f"{int(record[name])} {words}" for name, words in OUTCOMES.items() if record[name]]
        row = [record["case_id"], *([record["role"].replace("_", " ")] if roles else [])]
        row.append(size_text(record["volume"], settings))
        rows.append([*row, *(score_text(record[key], key, settings) for key in metrics), ", ".join(notes) or "–"])
    title = f"Every case, {'lowest' if rising else 'highest'} mean {label} first ({len(listed):,})"
    if len(ordered) < len(listed):
        title = f"The {_MOST_LISTED} worst of {len(listed):,} cases; all are in the case table that can be saved below"
    return CaseListing(title, heads, rows)
