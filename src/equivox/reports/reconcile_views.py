"""What other tools would report for the same masks, and why: texts and marks, ready for the template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from equivox.definitions import METRICS
from equivox.reports.numbers import MISSING, Number, number, signed, unit_text

REASON_LABELS: Final[dict[str, str]] = {
    "aggregation": "another average of the same values",
    "background_scored": "the background counts as a class",
    "both_empty_scored": "structures in neither mask are scored otherwise",
    "empty_reference_scored": "structures found where there is none are scored otherwise",
    "missed_structure_scored": "missed structures are scored otherwise",
    "definition": "another definition",
    "surface_convention": "another convention of surfaces",
    "voxel_units": "distances are in voxels",
    "other_tolerance": "another tolerance",
    "equal": "rounding",
    "missing_prediction_ignored": "cases without a prediction are left out",
    "both_empty_dropped": "structures in neither mask are left out",
    "empty_reference_dropped": "structures found where there is none drop out",
    "missed_structure_dropped": "missed structures drop out",
    "infinite": "infinite distances",
}
"""Each reason for a difference in a few words."""

_FRACTION_PLACES: Final = 3
_LENGTH_PLACES: Final = 2


@dataclass(frozen=True)
class ToolRow:
    """One line of the overview: a tool with its mean of every metric.

    Attributes:
        title: The tool; "Equivox" for our own.
        cells: One for each metric: the mean, and how far it lies from ours.
    """

    title: str
    cells: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Step:
    """One reason between our mean and the tool's.

    Attributes:
        label: In a few words.
        words: As a sentence.
        structures: Those that it concerns, and their cases.
        amount: What it adds to the mean.
        mark: The same as a bar.
    """

    label: str
    words: str
    structures: str
    amount: str
    mark: Markup


@dataclass(frozen=True)
class MetricView:
    """One metric of a tool, explained.

    Attributes:
        label: The metric.
        sentence: Both means, and the main reason.
        ours: Our mean.
        theirs: The tool's mean.
        marks: Where both lie.
        steps: The reasons; none where there is nothing to explain.
        note: What is said where there is none.
        heads: Of the list of structures.
        rows: The structures that differ most.
    """

    label: str
    sentence: str
    ours: str
    theirs: str
    marks: tuple[Markup, Markup]
    steps: Sequence[Step]
    note: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class ToolView:
    """A tool with its rules and its metrics."""

    title: str
    version: str
    rules: Sequence[str]
    missing: str
    metrics: Sequence[MetricView]
    equity_heads: Sequence[str]
    equity_rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class ReconcileView:
    """The section on other tools.

    Attributes:
        heads: Of the overview.
        rows: Equivox, then each tool.
        tools: Each tool in detail.
        explained: Whether the differences are explained.
    """

    heads: Sequence[str]
    rows: Sequence[ToolRow]
    tools: Sequence[ToolView]
    explained: bool


def reconcile_view(summary: Mapping[str, Any]) -> ReconcileView | None:
    """Work out the section on other tools from the summary's ``compat``; None where it has none.

    Args:
        summary: What `summary.json` holds: ``compat``, the tables (the headline first) and the settings.
    """
    compat = summary.get("compat") or {}
    if not compat:
        return None
    distance_unit = str(summary["settings"]["distance_unit"])
    known = {key: metric["label"] for tool in compat.values() for key, metric in tool["metrics"].items()}
    order = [key for key in METRICS if key in known] + [key for key in known if key not in METRICS]
    overall = summary["tables"][0]["overall"] if summary["tables"] else {}
    ours = {key: overall[key]["mean"] for key in order if key in overall}
    units = {key: distance_unit if _is_length(key) else "" for key in order}
    rows = [ToolRow("Equivox", [(_mean(ours.get(key), None, key), "") for key in order])]
    rows += [
        ToolRow(
            tool["title"], [_overview_cell(tool["metrics"].get(key), ours.get(key), key, units[key]) for key in order]
        )
        for tool in compat.values()
    ]
    heads = ["Mean by", *(f"{known[key]} ({unit_text(units[key])})" if units[key] else known[key] for key in order)]
    tools = [_tool_view(tool, units) for tool in compat.values()]
    return ReconcileView(heads, rows, tools, any(tool.metrics for tool in tools))


def _is_length(key: str) -> bool:
    # Metrics that other tools alone have are distances.
    return key not in METRICS or METRICS[key].kind == "distance"


def _places(key: str) -> int:
    return _LENGTH_PLACES if _is_length(key) else _FRACTION_PLACES


def _mean(value: Number | None, words: str | None, key: str) -> str:
    return words or number(value, _places(key))


def _overview_cell(metric: Mapping[str, Any] | None, ours: Number | None, key: str, unit: str) -> tuple[str, str]:
    if metric is None:
        return MISSING, ""
    text = _mean(metric["mean"], metric.get("mean_words"), key)
    if metric["unit"] != unit:
        return _with_unit(text, metric["unit"]), ""
    if metric["mean"] is None or ours is None:
        return text, ""
    return text, signed(metric["mean"] - ours, _places(key))


def _tool_view(tool: Mapping[str, Any], units: Mapping[str, str]) -> ToolView:
    missing = tool["missing_predictions"]
    told = f"{missing:,} case{' has' if missing == 1 else 's have'} no prediction. {tool['missing_prediction']}"
    return ToolView(
        title=tool["title"],
        version=tool["version"],
        rules=tool["rules"],
        missing=told if missing else "",
        metrics=[
            _metric_view(key, record, tool, units[key]) for key, record in (tool.get("reconciliation") or {}).items()
        ],
        equity_heads=("Attribute", "Class", "Metric", "All images", "With the sum of gaps", "With their deviation"),
        equity_rows=[
            (attribute, name, METRICS[key].label, *(number(one[part], 3) for part in ("overall", "es_sum", "es_std")))
            for attribute, classes in (tool.get("equity") or {}).items()
            for name, metrics in classes.items()
            for key, one in metrics.items()
        ],
    )


def _metric_view(key: str, record: Mapping[str, Any], tool: Mapping[str, Any], unit: str) -> MetricView:
    metric = tool["metrics"][key]
    places = _places(key)
    ours, theirs = record["ours"], record["theirs"]
    own = _with_unit(_mean(ours, None, key), unit)
    other = _with_unit(_mean(theirs, record.get("theirs_words"), key), metric["unit"])
    levels = _levels(record)
    steps = [
        Step(
            label=_capital(REASON_LABELS[one["reason"]]),
            words=one["words"],
            structures=_structures(one),
            amount=one.get("amount_words") or signed(one["amount"], places),
            mark=_bar(before, after, levels),
        )
        for one, (before, after) in zip(record["contributions"], _runs(record), strict=True)
        if _is_shown(one, places)
    ]
    if record["contributions"]:
        note = "Nothing differs."
    else:
        note = "One of the two means is not defined, so there is no difference to split."
    return MetricView(
        label=metric["label"],
        sentence=f"{metric['label']}: {other} by {tool['title']}, {own} by Equivox{_main_reason(record, places)}",
        ours=own,
        theirs=other,
        marks=(_point(ours, levels), _point(theirs, levels)),
        steps=steps,
        note=note,
        heads=("Case", "Class", "Equivox", tool["title"], "Why"),
        rows=[
            (
                one["case_id"],
                one["class"],
                number(one["ours"], places),
                _mean(one["theirs"], one.get("theirs_words"), key),
                one["words"],
            )
            for one in record["largest"]
        ],
    )


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit_text(unit)}" if unit and any(letter.isdigit() for letter in text) else text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _structures(contribution: Mapping[str, Any]) -> str:
    structures, cases = contribution["structures"], contribution["cases"]
    return f"{structures:,} in {cases:,} case{'' if cases == 1 else 's'}"


def _is_shown(contribution: Mapping[str, Any], places: int) -> bool:
    """Tell whether a reason makes a difference in the digits that are shown."""
    amount = contribution["amount"]
    return amount is None or abs(amount) >= 0.5 * 10.0**-places


def _main_reason(record: Mapping[str, Any], places: int) -> str:
    """Return the end of the sentence: the reason that does most, or that there is none."""
    shown = [one for one in record["contributions"] if _is_shown(one, places)]
    if not shown:
        return ": the same." if record["contributions"] else "."
    first = max(shown, key=lambda one: float("inf") if one["amount"] is None else abs(one["amount"]))
    lead = "" if len(shown) == 1 else "mainly, "
    return f": {lead}{REASON_LABELS[first['reason']]}."


def _runs(record: Mapping[str, Any]) -> list[tuple[Number | None, Number | None]]:
    """Return the mean before and after each reason; None where it is not finite."""
    runs: list[tuple[Number | None, Number | None]] = []
    before: Number | None = record["ours"]
    for one in record["contributions"]:
        after = None if before is None or one["amount"] is None else before + one["amount"]
        runs.append((before, after))
        before = after
    return runs


def _levels(record: Mapping[str, Any]) -> tuple[Number, Number]:
    """Return the ends of the axis on which the reasons of one metric stand."""
    values = [record["ours"], record["theirs"], *(end for run in _runs(record) for end in run)]
    finite = [value for value in values if value is not None]
    return (min(finite), max(finite)) if finite else (0.0, 0.0)


def _bar(before: Number | None, after: Number | None, levels: tuple[Number, Number]) -> Markup:
    if before is None or after is None:
        return Markup("")
    left, right = (_percent(end, levels) for end in (min(before, after), max(before, after)))
    return _svg(f'<rect x="{left:g}%" y="4" width="{max(right - left, 0.4):g}%" height="8" style="fill:var(--soft)"/>')


def _point(value: Number | None, levels: tuple[Number, Number]) -> Markup:
    if value is None:
        return Markup("")
    return _svg(f'<circle cx="{_percent(value, levels):g}%" cy="8" r="4" style="fill:var(--ink)"/>')


def _percent(value: Number, levels: tuple[Number, Number]) -> float:
    low, high = levels
    # A rim on both sides keeps the points whole.
    return round(4 + 92 * ((value - low) / (high - low) if high > low else 0.5), 2)


def _svg(inner: str) -> Markup:
    return Markup(f'<svg class="mark" width="100%" height="16" aria-hidden="true">{inner}</svg>')  # noqa: S704  our own
