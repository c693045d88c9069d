"""The page of `equivox evaluate-landmarks`: errors and success overall, by landmark and by group."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from markupsafe import Markup

import equivox.reports.plots as plots
from equivox.atomic import write_text
from equivox.reports.counted import counted
from equivox.reports.document import packed_csv, render
from equivox.reports.embedding import embedded_json
from equivox.reports.error_curve import error_curve_plot
from equivox.reports.file_stem import file_stem
from equivox.reports.landmark_words import (
    MOST_NAMED,
    Record,
    attribute_sentence,
    error_estimate,
    failure_words,
    level_text,
    methods,
    share_estimate,
)
from equivox.reports.left_out import ledger
from equivox.reports.numbers import MISSING, decimals, number, p_value
from equivox.reports.views import Estimate, estimate

_MOST_CASES: Final = 15


@dataclass(frozen=True)
class ErrorRow:
    """The errors of a group or a landmark, or of all."""

    name: str
    key: Markup
    small: bool
    few: bool
    patients: int
    measured: int
    landmarks: int
    missed: int
    mean: Estimate
    mark: Markup
    median: Estimate
    worst_decile: Estimate
    success: Sequence[Estimate]
    pooled: Sequence[Estimate]
    failure_rate: Estimate | None
    difference: Estimate | None
    difference_mark: Markup
    p_adjusted: str
    detectable_gap: str
    inside_margin: str
    success_difference: Estimate | None
    success_mark: Markup
    success_p: str


@dataclass(frozen=True)
class AttributeView:
    """An attribute: what is said of it, and its groups."""

    name: str
    sentence: str
    rows: Sequence[ErrorRow]
    unknown_words: str


@dataclass(frozen=True)
class LandmarkScales:
    """The axes that the rows of a table share."""

    mean: plots.Axis
    landmark: plots.Axis
    difference: plots.Axis
    success: plots.Axis


def write_landmarks(path: Path, *, summary: Record, cases: pd.DataFrame) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file to write.
        summary: What `summary.json` holds.
        cases: What `cases.csv` holds: one row a case.
    """
    write_text(path, render_landmarks(summary, cases))


def render_landmarks(summary: Record, cases: pd.DataFrame) -> str:
    """Return the page of `write_landmarks` as text."""
    settings, cohort, overall = summary["settings"], summary["cohort"], summary["overall"]
    unit = settings["unit"]
    scales = landmark_scales(summary)
    attributes = [_attribute_view(attribute, summary, scales) for attribute in summary["attributes"]]
    contents = [("overall", "Overall"), ("landmarks", "By landmark")]
    contents += [("groups", "By group")] if attributes else []
    contents += [("cases", "Cases to look at"), ("left-out", "What is left out"), ("methods", "Methods")]
    zero, margin = scales.difference, settings["margin"] or 0.0
    return render(
        "landmarks.html.j2",
        version=summary["equivox_version"],
        kind="Landmarks",
        title=cohort["name"],
        facts=[
            ("Patients", f"{cohort['patients']:,}"),
            ("Cases", f"{cohort['cases']:,}"),
            ("Landmarks", f"{cohort['landmarks']:,} in {cohort['dimensions']}D"),
            ("Distances", f"in {unit}"),
            ("Date", str(summary["created"])[:10]),
            ("Software", f"equivox {summary['equivox_version']}"),
        ],
        contents=contents,
        unit=unit,
        level=level_text(settings),
        minimum_group=settings["minimum_group"],
        radii=[f"{radius:g}" for radius in settings["radii"]],
        failure_words=failure_words(settings),
        margin=settings["margin"] and f"{settings['margin']:g} {unit}",
        overall=_error_row("all", overall, scales.mean, scales, settings),
        failed=f"{overall['failure_rate']['failed']:,} of {counted(overall['failure_rate']['patients'], 'patient')}",
        curve=error_curve_plot(summary["curve"], overall["success"], unit, "Cumulative curve of errors"),
        landmarks=[_error_row(one["name"], one, scales.landmark, scales, settings) for one in summary["landmarks"]],
        landmark_axis=plots.axis_marks(scales.landmark),
        attributes=attributes,
        mean_axis=plots.axis_marks(scales.mean),
        difference_axis=plots.axis_marks(scales.difference, sign=True),
        success_axis=plots.axis_marks(scales.success, sign=True),
        table={
            "marks": {
                "overall": _line(scales.mean, overall),
                "low": zero.percent(-margin),
                "zero": zero.percent(0.0),
                "high": zero.percent(margin),
            }
        },
        success_table={"marks": {"low": 50, "zero": scales.success.percent(0.0), "high": 50}},
        landmark_table={"marks": {"overall": _line(scales.landmark, overall)}},
        case_heads=_case_heads(summary),
        case_rows=list(_case_rows(cases, summary)),
        left_out=[item for item in ledger(summary["left_out"]) if item.label != "Repaired geometry"],
        further=list(_further(summary)),
        methods=methods(summary),
        hashes=list(summary["inputs"].items()),
        summary_json=embedded_json(summary),
        cases_gzip=packed_csv(cases),
        file_stem=file_stem(cohort["name"], "landmarks"),
    )


def landmark_scales(summary: Record) -> LandmarkScales:
    """Return the axes of the page."""
    groups = [group for attribute in summary["attributes"] for group in attribute["groups"]]
    errors = [group["difference"] for group in groups if group["difference"]]
    success = [group["success_difference"] for group in groups if group["success_difference"]]
    widest = max([*_sizes(errors), summary["settings"]["margin"] or 0.0, 1e-3])
    share = max([*_sizes(success), 0.05])
    return LandmarkScales(
        mean=_mean_axis([summary["overall"], *groups]),
        landmark=_mean_axis([summary["overall"], *summary["landmarks"]]),
        difference=plots.nice_axis(-widest, widest, ticks=4),
        success=plots.nice_axis(-share, share, ticks=4, floor=-1.0, ceil=1.0),
    )


def _mean_axis(records: Sequence[Record]) -> plots.Axis:
    ends = [one[key] for one in records for key in ("mean", "low", "high") if one[key] is not None]
    return plots.nice_axis(min(ends, default=0.0), max(ends, default=1.0), ticks=4, floor=0.0)


def _line(axis: plots.Axis, overall: Record) -> float:
    """Return where the line of the overall mean stands, out of sight where there is none."""
    return -1000.0 if overall["mean"] is None else axis.percent(overall["mean"])


def _sizes(contrasts: Sequence[Record]) -> list[float]:
    return [abs(one[key]) for one in contrasts for key in ("difference", "low", "high") if one[key] is not None]


def _attribute_view(attribute: Record, summary: Record, scales: LandmarkScales) -> AttributeView:
    unknown = attribute["unknown_patients"]
    rows = [
        _error_row(group["name"], group, scales.mean, scales, summary["settings"], style=place)
        for place, group in enumerate(attribute["groups"])
    ]
    words = f"{unknown:,} patient{'' if unknown == 1 else 's'} of unknown group: in the overall numbers only."
    return AttributeView(attribute["name"], attribute_sentence(attribute, summary), rows, words if unknown else "")


def _error_row(
    name: str,
    record: Record,
    axis: plots.Axis,
    scales: LandmarkScales,
    settings: Record,
    *,
    style: int | None = None,
) -> ErrorRow:
    mean = error_estimate(record, "mean", "")
    words = f"{name}: mean error {mean.text} {settings['unit']}, interval {mean.interval or 'none'}"
    difference, success = record.get("difference"), record.get("success_difference")
    gap = _contrast("distance", difference)
    share = _contrast("fraction", success)
    inside = difference and difference["inside_margin"]
    return ErrorRow(
        name=name,
        key=Markup() if style is None else plots.key(style),
        small=bool(record.get("small")),
        few=record["patients"] < settings["minimum_group"],
        patients=record["patients"],
        measured=record["patients_measured"],
        landmarks=record["landmarks"],
        missed=record["missed"],
        mean=mean,
        mark=plots.interval_mark(axis, record["mean"], record["low"], record["high"], words),
        median=error_estimate(record, "median", "median_"),
        worst_decile=error_estimate(record, "worst_decile", "worst_decile_"),
        success=[share_estimate(one) for one in record["success"]],
        pooled=[
            estimate("fraction", one["pooled"], one["pooled_low"], one["pooled_high"]) for one in record["success"]
        ],
        failure_rate=share_estimate(record["failure_rate"]) if "failure_rate" in record else None,
        difference=gap,
        difference_mark=_contrast_mark(scales.difference, name, difference, gap),
        p_adjusted=p_value(difference and difference["p_adjusted"]),
        detectable_gap=MISSING
        if gap is None or difference is None
        else number(difference["detectable_gap"], gap.places),
        inside_margin={None: MISSING, True: "yes", False: "no"}[inside],
        success_difference=share,
        success_mark=_contrast_mark(scales.success, name, success, share),
        success_p=p_value(success and success["p_adjusted"]),
    )


def _contrast(kind: Any, contrast: Record | None) -> Estimate | None:
    if contrast is None:
        return None
    return estimate(kind, contrast["difference"], contrast["low"], contrast["high"], sign=True)


def _contrast_mark(axis: plots.Axis, name: str, contrast: Record | None, shown: Estimate | None) -> Markup:
    if contrast is None or shown is None:
        return Markup()
    words = f"{name}: difference to the rest {shown.text}, simultaneous interval {shown.interval or 'none'}"
    return plots.interval_mark(axis, contrast["difference"], contrast["low"], contrast["high"], words)


def _case_heads(summary: Record) -> list[str]:
    settings = summary["settings"]
    unit = settings["unit"]
    heads = ["Case", "Patient", *(attribute["name"] for attribute in summary["attributes"])]
    return [*heads, "Landmarks", "Missed", f"Mean error ({unit})", f"Within {settings['radii'][-1]:g} {unit}", "Note"]


def _case_rows(cases: pd.DataFrame, summary: Record) -> Iterator[list[str]]:
    """Yield the cases in which most goes wrong: the fewest landmarks within the last radius, then the largest error."""
    settings = summary["settings"]
    unit = settings["unit"]
    mean, share = f"mean_error_{unit}", f"within_{settings['radii'][-1]:g}_{unit}"
    listed = cases[cases["landmarks"] > 0].sort_values([share, mean, "case_id"], ascending=[True, False, True])
    for row in listed.head(_MOST_CASES).to_dict("records"):
        groups = [row[f"attribute:{attribute['name']}"] for attribute in summary["attributes"]]
        yield [
            str(row["case_id"]),
            str(row["patient_id"]),
            *(MISSING if pd.isna(group) else str(group) for group in groups),
            number(row["landmarks"], 0),
            number(row["missed"], 0),
            MISSING if pd.isna(row[mean]) else number(row[mean], decimals("distance", row[mean])),
            number(row[share], 2),
            "without a prediction" if row["state"] == "no_prediction" else "",
        ]


def _further(summary: Record) -> Iterator[tuple[str, str]]:
    """Yield what landmarks alone can leave out."""
    overall, left = summary["overall"], summary["left_out"]
    unmeasured = overall["patients"] - overall["patients_measured"]
    yield (
        "Missed landmarks",
        f"{overall['missed']:,} of {overall['landmarks']:,}: without an error, and a failure at every radius",
    )
    yield "Patients without an error", f"{unmeasured:,}: nothing of theirs was found, so they are in no mean error"
    extra = [f"{one['landmark']} in {one['case_id']}" for one in left["extra_landmarks"]]
    shown = ": " + ", ".join(extra[:MOST_NAMED]) + (" and more" if len(extra) > MOST_NAMED else "") if extra else ""
    yield "Extra landmarks", f"{len(extra):,} that the reference of the case does not have{shown}"
    yield "Absent landmarks", f"{left['absent']:,} that neither table has; they count nowhere"
    without = left["without_landmark"]
    if without:
        yield "Cases without a landmark in the reference", ", ".join(without[:MOST_NAMED])
    for note in summary["notes"]:
        yield "Note", note
