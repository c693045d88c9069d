"""The section on calibration, worked out from the summary and the case table, ready for its template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup

from equivox.reports.calibration_plots import Curve, coverage_plot, reliability_plot
from equivox.reports.numbers import number
from equivox.reports.plots import key
from equivox.reports.scatter import Points, scatter
from equivox.reports.views import Estimate, estimate

# Of the patients, and of the voxels, that a bin must have to be drawn: fewer are noise.
_SHARE: Final = 0.2
_WEIGHT: Final = 0.001
_MEASURES: Final = ("ece", "ace", "boundary_ece", "brier", "whole_ece", "whole_brier", "dice_error", "dice_bias")
_SIGNED: Final = ("dice_bias",)


@dataclass(frozen=True)
class CalibrationRow:
    """The errors of a class or a group; `fewer` has the patients of those that not all of them have."""

    name: str
    key: Markup | None
    small: bool
    patients: int
    measures: Mapping[str, Estimate]
    fewer: Mapping[str, int]


@dataclass(frozen=True)
class AttributeCalibration:
    """The groups of one attribute."""

    name: str
    plot: Markup
    legend: Sequence[tuple[Markup, str]]
    rows: Sequence[CalibrationRow]
    note: str


@dataclass(frozen=True)
class SelectiveView:
    """What the predicted Dice is worth, with its two plots."""

    coverage: Markup
    agreement: Markup | None
    legend: Sequence[tuple[Markup, str]]
    facts: Sequence[tuple[str, str]]
    note: str


@dataclass(frozen=True)
class ClassCalibration:
    """All that is said about the probabilities of one class."""

    overall: CalibrationRow
    plot: Markup | None
    attributes: Sequence[AttributeCalibration]
    selective: SelectiveView | None


@dataclass(frozen=True)
class CalibrationSection:
    """The section."""

    level: str
    minimum_group: int
    near: str
    edge: str
    fewer: bool
    classes: Sequence[ClassCalibration]


def calibration_section(
    table: Mapping[str, Any], cases: pd.DataFrame, settings: Mapping[str, Any], kinds: Mapping[str, str]
) -> CalibrationSection | None:
    """Work out the section on calibration; None where there were no maps of probabilities.

    Args:
        table: A table of the summary.
        cases: What `cases.csv` holds.
        settings: The settings of the summary.
        kinds: Attribute -> categorical or continuous, in their order; marks of patients are coloured by the first
            categorical one.
    """
    calibration = table.get("calibration")
    if not calibration:
        return None
    level = f"{100 * settings['confidence']:g} %"
    rows = cases[cases["role"] == table["role"]]
    colours = next((name for name, kind in kinds.items() if kind == "categorical"), None)
    classes = [
        ClassCalibration(
            overall=_row(name, None, record["overall"], settings),
            plot=_overall_plot(name, record),
            attributes=[
                _attribute(name, attribute, groups, record, settings)
                for attribute, groups in record["groups"].items()
                if groups
            ],
            selective=_selective(name, record, rows, colours, level),
        )
        for name, record in calibration.items()
    ]
    shown = [row for one in classes for row in (one.overall, *(row for a in one.attributes for row in a.rows))]
    return CalibrationSection(
        level=level,
        minimum_group=settings["minimum_group"],
        near="3 voxels" if settings["distance_unit"] == "voxels" else "5 mm",
        edge="1 voxel" if settings["distance_unit"] == "voxels" else "2 mm",
        fewer=any(row.fewer for row in shown),
        classes=classes,
    )


def _row(name: str, mark: Markup | None, record: Mapping[str, Any], settings: Mapping[str, Any]) -> CalibrationRow:
    return CalibrationRow(
        name=name,
        key=mark,
        small=record["patients"] < settings["minimum_group"],
        patients=record["patients"],
        measures={measure: _estimate(measure, record[measure]) for measure in _MEASURES},
        fewer={
            measure: record[measure]["patients"]
            for measure in _MEASURES
            if record[measure]["patients"] < record["patients"]
        },
    )


def _estimate(measure: str, record: Mapping[str, Any]) -> Estimate:
    value, low, high = record["value"], record["low"], record["high"]
    # Errors of a whole image are thousandths.
    places = 3 if value is not None and abs(value) < 0.1 else None
    return estimate("fraction", value, low, high, sign=measure in _SIGNED, places=places)


def _overall_plot(name: str, record: Mapping[str, Any]) -> Markup | None:
    if record["groups"] and any(record["groups"].values()):
        return None
    points = _points(record["reliability"], record["overall"]["patients"])
    return reliability_plot([Curve("all patients", None, points)], f"Reliability of {name}") if points else None


def _points(bins: Sequence[Mapping[str, Any]], patients: int) -> list[tuple[float, float]]:
    return [
        (one["confidence"], one["observed"])
        for one in bins
        if one["patients"] >= _SHARE * patients and one["weight"] >= _WEIGHT
    ]


def _attribute(
    class_name: str,
    attribute: str,
    groups: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> AttributeCalibration:
    curves = [Curve("all patients", None, _points(record["reliability"], record["overall"]["patients"]))]
    curves += [
        Curve(group["name"], style, _points(group["reliability"], group["patients"]))
        for style, group in enumerate(groups)
        if not group["small"]
    ]
    small = [group["name"] for group in groups if group["small"]]
    note = ""
    if small:
        verb = "is" if len(small) == 1 else "are"
        note = f"Fewer than {settings['minimum_group']} patients, so {verb} not drawn: {', '.join(small)}."
    return AttributeCalibration(
        name=attribute,
        plot=reliability_plot(curves, f"Reliability of {class_name} by {attribute}"),
        legend=[(key(curve.style), curve.name) for curve in curves if curve.style is not None],
        rows=[_row(group["name"], key(style), group, settings) for style, group in enumerate(groups)],
        note=note,
    )


def _selective(
    name: str, record: Mapping[str, Any], rows: pd.DataFrame, colours: str | None, level: str
) -> SelectiveView | None:
    found = record["selective"]
    if found is None:
        return None
    area = estimate("fraction", found["aurc"]["value"], found["aurc"]["low"], found["aurc"]["high"], places=3)
    facts = [
        ("Area under the curve (AURC)", _told(area, level)),
        ("Beyond the best order", number(found["excess_aurc"], 3)),
    ]
    facts.append(("Without any order", number(found["aurc_random"], 3)))
    for measure, words in (("pearson", "Correlation with the real Dice"), ("spearman", "Rank correlation")):
        one = found[measure]
        shown = estimate("fraction", one["value"], one["low"], one["high"], sign=True, places=2)
        facts.append((words, _told(shown, level)))
    for measure, words in (("dice_error", "Mean absolute error"), ("dice_bias", "Predicted minus real")):
        facts.append((words, _told(_estimate(measure, record["overall"][measure]), level)))
    points = _patient_points(name, rows, colours)
    note = ""
    if found["empty_predictions"]:
        count = found["empty_predictions"]
        cases = f"{count:,} case{'' if count == 1 else 's'}"
        note = f"{cases} with an empty mask, whose predicted Dice is 0 whatever the probabilities."
    return SelectiveView(
        coverage=coverage_plot(
            found["curve"],
            found["aurc_random"],
            "Mean 1 − Dice of those kept",
            f"Risk and coverage of {name}",
            f"Area under the curve {area.text}, {number(found['aurc_random'], 3)} without any order.",
        ),
        agreement=_agreement_plot(name, points, facts) if points else None,
        legend=[(key(one.style), one.name) for one in points] if colours else [],
        facts=facts,
        note=note,
    )


def _told(value: Estimate, level: str) -> str:
    return f"{value.text} ({level} interval {value.interval})" if value.interval else value.text


def _agreement_plot(name: str, points: Sequence[Points], facts: Sequence[tuple[str, str]]) -> Markup:
    xs, ys = (np.concatenate([getattr(one, axis) for one in points]) for axis in ("x", "y"))
    low, high = float(max(xs.min(), ys.min())), float(min(xs.max(), ys.max()))
    line = [(low, low), (high, high)] if high > low else []
    words = ", ".join(f"{label[0].lower()}{label[1:]} {text}" for label, text in facts[3:])
    return scatter(
        points,
        ("Predicted Dice", "Real Dice"),
        f"Predicted against real Dice of {name}",
        f"{words}.",
        line=line,
        height=230.0,
    )


def _patient_points(name: str, rows: pd.DataFrame, colours: str | None) -> list[Points]:
    """Return the patients by group: means over the cases with both a predicted and a real Dice."""
    kept = rows[(rows["class"] == name) & (rows["outcome"] != "both_empty")]
    kept = kept[kept["predicted_dice"].notna() & kept["dice"].notna()]
    if not len(kept):
        return []
    by_patient = kept.groupby("patient_id", sort=True)[["predicted_dice", "dice"]].mean()
    column = f"attribute:{colours}"
    if colours is None or column not in kept:
        return [Points("patients", 0, by_patient["predicted_dice"].to_numpy(float), by_patient["dice"].to_numpy(float))]
    groups = kept.groupby("patient_id", sort=True)[column].first().reindex(by_patient.index)
    points = []
    for style, group in enumerate([*sorted({str(one) for one in rows[column].dropna()}), None]):
        own = by_patient[groups.isna() if group is None else groups.eq(group)]
        if len(own):
            x, y = own["predicted_dice"].to_numpy(float), own["dice"].to_numpy(float)
            points.append(Points(group or "group not known", None if group is None else style, x, y))
    return points
