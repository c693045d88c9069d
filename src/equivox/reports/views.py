"""What each part of the page shows, worked out from the summary: texts, marks and plots, ready for the template."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup

import equivox.reports.plots as plots
from equivox.definitions import MetricKind
from equivox.reports.case_list import ATTRIBUTE
from equivox.reports.counted import counted, patients_and_cases
from equivox.reports.fairness_views import FairnessView, fairness_view, shrunk_mean
from equivox.reports.numbers import (
    Number,
    decimals,
    interval,
    metric_text,
    metric_unit,
    number,
    p_value,
    shown_places,
    signed,
    size_word,
    unit_text,
)

ROLES: Final = {
    "test": "held-out test cases",
    "out_of_fold": "out-of-fold predictions",
    "all": "all cases",
}
_WIDEST_DIFFERENCE: Final = 0.5


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, as text; `value` sorts it."""

    value: Number | None
    text: str
    interval: str
    places: int


@dataclass(frozen=True)
class GroupRow:
    """One group in the tables of an attribute."""

    name: str
    key: Markup
    small: bool
    patients: int
    cases: int
    mean: Estimate
    mark: Markup
    median: str
    worst_decile: str
    missed: str
    failure_rate: str
    difference: Estimate | None
    difference_mark: Markup
    p_adjusted: str
    detectable_gap: str


@dataclass(frozen=True)
class SpreadRow:
    """A measure of spread over groups beside what chance alone gives."""

    label: str
    value: str
    chance: str
    excess: str


@dataclass(frozen=True)
class AttributeView:
    """An attribute: its verdict, its groups and its plots."""

    name: str
    within: str
    anchor: str
    answer: str
    words: str
    sentence: str
    rows: Sequence[GroupRow]
    card_rows: Sequence[GroupRow]
    unknown_patients: int
    unknown_words: str
    spread: Sequence[SpreadRow]
    worst_group: str
    fairness: FairnessView
    strip: Markup | None
    scatter: Markup | None
    legend: Sequence[tuple[Markup, str]]
    unplotted: int
    unplotted_words: str


@dataclass(frozen=True)
class MetricRow:
    """A metric of one class, or of all together, with the counts behind its mean."""

    metric: str
    unit: str
    class_name: str
    mean: Estimate
    median: Estimate
    worst_decile: Estimate
    patients: int
    used: int
    both_empty: int
    undefined: int
    penalised: int


@dataclass(frozen=True)
class ClassRow:
    """A class with its metrics and how well its presence is told."""

    name: str
    metrics: Mapping[str, MetricRow]
    sensitivity: str
    specificity: str
    present: str
    absent: str


@dataclass(frozen=True)
class IntersectionRow:
    """A group of an intersection of attributes."""

    attribute: str
    group: str
    small: bool
    patients: int
    cases: int
    mean: Estimate
    mark: Markup
    shrunk: str
    median: str
    worst_decile: str


@dataclass(frozen=True)
class TableView:
    """All that is said about the cases of one role."""

    role: str
    words: str
    headline: bool
    patients: int
    cases: int
    patients_words: str
    overall: Mapping[str, MetricRow]
    failure_rate: Estimate
    failed: str
    attributes: Sequence[AttributeView]
    intersections: Sequence[IntersectionRow]
    classes: Sequence[ClassRow]
    metrics: Sequence[MetricRow]
    mean_axis: Markup
    difference_axis: Markup
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scales:
    """The axes that all rows of a page share, so that groups can be compared across attributes."""

    kind: MetricKind
    mean: plots.Axis
    difference: plots.Axis
    score: plots.Axis
    margin: float


def make_scales(summary: Mapping[str, Any], listed: pd.DataFrame) -> Scales:
    """Return the axes of the page."""
    settings = summary["settings"]
    primary = settings["primary_endpoint"]
    kind = metric_text(primary).kind
    ends: list[float] = []
    differences = [2.0 * settings["margin"]]
    for table in summary["tables"]:
        records = [table["overall"][primary], *(g for a in table["attributes"] for g in a["groups"])]
        # Points of small groups must be seen; wide intervals of intersections may end in arrows.
        ends += [g["mean"] for one in table.get("intersections", []) for g in one["groups"] if g["mean"] is not None]
        ends += [r[k] for r in records for k in ("mean", "low", "high") if r.get(k) is not None]
        contrasts = [c for a in table["attributes"] for c in a["contrasts"]]
        differences += [abs(c[k]) for c in contrasts for k in ("difference", "low", "high") if c.get(k) is not None]
    top = 1.0 if kind == "fraction" else None
    widest = max(differences)
    if kind == "fraction":
        widest = min(widest, _WIDEST_DIFFERENCE)
    scores = listed[primary].dropna() if primary in listed else pd.Series(dtype=float)
    lowest = min([*ends, float(scores.min())]) if len(scores) else min(ends, default=0.0)
    highest = max([*ends, float(scores.max())]) if len(scores) else max(ends, default=1.0)
    return Scales(
        kind=kind,
        mean=plots.nice_axis(min(ends, default=0.0), max(ends, default=1.0), ticks=4, floor=0.0, ceil=top),
        difference=plots.nice_axis(-widest, widest, ticks=4),
        score=plots.nice_axis(lowest, highest, ticks=6, floor=0.0, ceil=top),
        margin=float(settings["margin"]),
    )


def table_view(
    table: Mapping[str, Any],
    summary: Mapping[str, Any],
    listed: pd.DataFrame,
    scales: Scales,
) -> TableView:
    """Work out one role's part of the page.

    Args:
        table: One of the summary's tables.
        summary: The whole summary.
        listed: One row a case, of every role.
        scales: The axes of the page.
    """
    settings = summary["settings"]
    role = str(table["role"])
    mine = listed if role == "all" else listed[listed["role"] == role]
    primary = settings["primary_endpoint"]
    overall = {key: metric_row(key, "all classes", record, settings) for key, record in table["overall"].items()}
    failure = table["failure_rate"]
    classes = [_class_row(name, record, settings) for name, record in table["by_class"].items()]
    flat = list(overall.values())
    for one in classes if len(classes) > 1 else []:
        flat += one.metrics.values()
    order = {key: place for place, key in enumerate(overall)}
    margin = scales.margin
    return TableView(
        role=role,
        words=ROLES.get(role, role),
        headline=bool(table["headline"]),
        patients=table["patients"],
        cases=table["cases"],
        patients_words=patients_and_cases(table),
        overall=overall,
        failure_rate=estimate("fraction", failure["value"], failure.get("low"), failure.get("high")),
        failed=""
        if failure.get("failed") is None
        else f"{failure['failed']:,} of {counted(failure['patients'], 'patient')}",
        attributes=[
            _attribute_view(attribute, table, summary, mine, scales, place)
            for place, attribute in enumerate(table["attributes"])
        ],
        intersections=_intersections(table, settings, scales),
        classes=classes,
        metrics=sorted(flat, key=lambda row: order.get(_key_of(row, overall), 99)),
        mean_axis=plots.axis_marks(scales.mean),
        difference_axis=plots.axis_marks(scales.difference, sign=True),
        marks={
            "overall": scales.mean.percent(table["overall"][primary]["mean"] or 0.0),
            "low": scales.difference.percent(-margin),
            "zero": scales.difference.percent(0.0),
            "high": scales.difference.percent(margin),
        },
    )


def _key_of(row: MetricRow, overall: Mapping[str, MetricRow]) -> str:
    return next((key for key, one in overall.items() if one.metric == row.metric), "")


def estimate(
    kind: MetricKind,
    value: Number | None,
    low: Number | None = None,
    high: Number | None = None,
    *,
    sign: bool = False,
    places: int | None = None,
) -> Estimate:
    """Write a number with its interval in the digits that the interval supports."""
    digits = decimals(kind, value, low, high) if places is None else places
    write = signed if sign else number
    return Estimate(value, write(value, digits), interval(low, high, digits, sign=sign), digits)


def metric_row(key: str, class_name: str, record: Mapping[str, Any], settings: Mapping[str, Any]) -> MetricRow:
    """Work out a metric's row; a median without an interval of its own has the digits of the mean.

    Those of a signed error differ by one digit at most, or one would read as 0.0 beside another's 0.130.
    """
    text = metric_text(key)
    sign = text.better == "zero"
    mean = estimate(text.kind, record["mean"], record.get("low"), record.get("high"), sign=sign)
    median = record.get("median_low"), record.get("median_high")
    decile = record.get("worst_decile_low"), record.get("worst_decile_high")

    def beside(value: Number | None, low: Number | None, high: Number | None) -> int:
        if low is None:
            return mean.places
        places = decimals(text.kind, value, low, high)
        return shown_places(value, min(max(places, mean.places), mean.places + 1)) if sign else places

    worst = estimate(text.kind, record["worst_decile"], *decile, places=beside(record["worst_decile"], *decile))
    return MetricRow(
        metric=text.label,
        unit=metric_unit(key, settings),
        class_name=class_name,
        mean=mean,
        median=estimate(text.kind, record["median"], *median, sign=sign, places=beside(record["median"], *median)),
        # The worst decile of a signed error is that of its size.
        worst_decile=replace(worst, text=f"±{worst.text}") if sign and worst.value is not None else worst,
        patients=record["patients"],
        used=record["cases_used"],
        both_empty=record.get("cases_all_empty", record["cases_both_empty"]),
        undefined=record.get("cases_undefined", 0),
        penalised=record["cases_penalised"],
    )


def _class_row(name: str, record: Mapping[str, Any], settings: Mapping[str, Any]) -> ClassRow:
    presence = record.get("presence") or {}
    return ClassRow(
        name=name,
        metrics={key: metric_row(key, name, one, settings) for key, one in record["metrics"].items()},
        sensitivity=number(presence.get("sensitivity"), 2),
        specificity=number(presence.get("specificity"), 2),
        present=number(presence.get("present"), 0),
        absent=number(presence.get("absent"), 0),
    )


def _attribute_view(
    attribute: Mapping[str, Any],
    table: Mapping[str, Any],
    summary: Mapping[str, Any],
    listed: pd.DataFrame,
    scales: Scales,
    place: int,
) -> AttributeView:
    settings = summary["settings"]
    contrasts = {one["group"]: one for one in attribute["contrasts"]}
    rows = [
        _group_row(group, contrasts.get(group["name"]), scales, style)
        for style, group in enumerate(attribute["groups"])
    ]
    verdict = attribute["verdict"]
    dots, unplotted = dot_rows(attribute, listed, settings["primary_endpoint"])
    contrasted = [row for row in rows if row.difference]
    named = [row for row in contrasted if row.name == verdict.get("group")]
    strip, scatter = (
        _plots(attribute["name"], dots, scales, settings) if any(len(d.index) for d in dots) else (None, None)
    )
    words = answer_words(verdict["answer"], scales.margin)
    worst = attribute["spread"].get("worst_group") if attribute.get("spread") else None
    return AttributeView(
        name=attribute["name"],
        within=next((str(one["within"]) for one in attribute["contrasts"] if one.get("within")), ""),
        anchor=f"{table['role']}-{place}",
        answer=verdict["answer"],
        words=words,
        sentence=_sentence(verdict["sentence"], words, [group["name"] for group in attribute["groups"]]),
        rows=rows,
        card_rows=contrasted if len(contrasted) <= 4 else named,
        unknown_patients=attribute["unknown_patients"],
        unknown_words=counted(attribute["unknown_patients"], "patient", "has no known group", "have no known group"),
        spread=_spread_rows(attribute.get("spread") or {}, scales.kind),
        worst_group=worst or "",
        fairness=fairness_view(attribute, settings),
        strip=strip,
        scatter=scatter,
        legend=[(plots.key(dot.style), dot.name) for dot in dots if len(dot.index)],
        unplotted=unplotted,
        unplotted_words=counted(unplotted, "case", "has no score and is not shown", "have no score and are not shown")
        + ".",
    )


def answer_words(answer: str, margin: float) -> str:
    """Return one of the four answers in the words that the page uses everywhere."""
    return {
        "difference": "Evidence of a difference",
        "ruled_out": f"A difference larger than {margin:g} is ruled out",
        "no_evidence": "No evidence of a difference",
        "cannot_say": "Cannot say",
    }[answer]


def _sentence(sentence: str, words: str, groups: Sequence[str]) -> str:
    """Return a verdict's sentence without the words that already stand above it, and with true minus signs."""
    rest = sentence.removeprefix(words).removeprefix(": ")
    # The names of groups stay as the table has them.
    names = "|".join(re.escape(name) for name in sorted(groups, key=len, reverse=True) if name)
    pieces = re.split(f"({names})", rest) if names else [rest]
    pieces[::2] = [re.sub(r"(?<![\w.])-(?=\d)", "−", piece) for piece in pieces[::2]]
    whole = "".join(pieces)
    return whole[:1].upper() + whole[1:]


def _group_row(group: Mapping[str, Any], contrast: Mapping[str, Any] | None, scales: Scales, style: int) -> GroupRow:
    low, high = group.get("low"), group.get("high")
    mean = estimate(scales.kind, group["mean"], low, high)
    words = f"{group['name']}: mean {mean.text}" + (f", interval {mean.interval}" if mean.interval else ", no interval")
    difference, difference_mark, p_adjusted, gap = None, Markup(""), "–", "–"
    if contrast is not None:
        ends = contrast.get("low"), contrast.get("high")
        difference = estimate(scales.kind, contrast["difference"], *ends, sign=True)
        said = f"{group['name']} to the rest: {difference.text}"
        said += f", simultaneous interval {difference.interval}" if difference.interval else ", no interval"
        difference_mark = plots.interval_mark(scales.difference, contrast["difference"], *ends, said)
        p_adjusted = p_value(contrast.get("p_adjusted"))
        found = contrast.get("detectable_gap")
        gap = number(found, difference.places)
    return GroupRow(
        name=group["name"],
        key=plots.key(style),
        small=bool(group["small"]),
        patients=group["patients"],
        cases=group["cases"],
        mean=mean,
        mark=plots.interval_mark(scales.mean, group["mean"], low, high, words),
        median=number(group.get("median"), mean.places),
        worst_decile=number(group.get("worst_decile"), mean.places),
        missed=number(group.get("missed"), 0),
        failure_rate=number(group.get("failure_rate"), 2),
        difference=difference,
        difference_mark=difference_mark,
        p_adjusted=p_adjusted,
        detectable_gap=gap,
    )


def _spread_rows(spread: Mapping[str, Any], kind: MetricKind) -> list[SpreadRow]:
    labels = {
        "gap": "Largest minus smallest group mean",
        "ratio": "Smallest over largest group mean",
        "es_sum": "Equity-scaled score, sum form (es_sum)",
        "es_std": "Equity-scaled score, deviation form (es_std)",
    }
    rows = []
    for key, label in labels.items():
        one = spread.get(key)
        if one is None:
            continue
        # A digit more than the means have, so that value, chance and excess add up to the eye.
        places = decimals("fraction" if key == "ratio" else kind, one.get("value")) + 1
        rows.append(
            SpreadRow(
                label,
                number(one.get("value"), places),
                number(one.get("permutation_mean"), places),
                signed(one.get("excess"), places),
            )
        )
    return rows


def dot_rows(attribute: Mapping[str, Any], listed: pd.DataFrame, primary: str) -> tuple[list[plots.DotRow], int]:
    """Return the dots of each group, those of no known group last, and how many cases have no score."""
    column = f"{ATTRIBUTE}{attribute['name']}"
    if column not in listed or primary not in listed:
        return [], 0
    scored = listed[listed[primary].notna()]
    names = [group["name"] for group in attribute["groups"]]
    values = scored[column].astype(object)
    of_group = values.map(lambda value: None if pd.isna(value) else str(value))
    rows = []
    for style, group in enumerate(attribute["groups"]):
        rows.append(_dot_row(scored[of_group == group["name"]], group["name"], style, primary, group))
    rest = scored[~of_group.isin(names)]
    if len(rest):
        rows.append(_dot_row(rest, "group not known", None, primary, {}))
    return rows, len(listed) - len(scored)


def _dot_row(part: pd.DataFrame, name: str, style: int | None, primary: str, group: Mapping[str, Any]) -> plots.DotRow:
    return plots.DotRow(
        name=name,
        style=style,
        index=[int(i) for i in part.index],
        score=part[primary].to_numpy(np.float64),
        volume=part["volume"].to_numpy(np.float64),
        mean=group.get("mean"),
        low=group.get("low"),
        high=group.get("high"),
        median=group.get("median"),
    )


def _plots(
    name: str, dots: Sequence[plots.DotRow], scales: Scales, settings: Mapping[str, Any]
) -> tuple[Markup, Markup]:
    primary = settings["primary_endpoint"]
    unit = metric_unit(primary, settings)
    score = metric_text(primary).label + (f" ({unit})" if unit else "")
    counts = ", ".join(f"{dot.name}: {len(dot.index)}" for dot in dots)
    strip = plots.strip_plot(
        dots,
        scales.score,
        f"{score} of the case, mean over classes",
        f"{score} of every case by {name}",
        f"One dot a case, one row a group. Cases by group: {counts}. The table above has the means and intervals.",
    )
    scatter = plots.scatter_plot(
        dots,
        scales.score,
        (
            f"Reference {size_word(settings)} ({unit_text(settings['volume_unit'])}, log scale), all classes together",
            score,
        ),
        f"{score} against the reference's {size_word(settings)}, by {name}",
        f"One dot a case; the axis of the {size_word(settings)} is logarithmic. Cases by group: {counts}.",
        # About as high as the plot beside it.
        height=min(250.0, max(150.0, 52.0 * len(dots) - 26.0)),
    )
    return strip, scatter


def _intersections(table: Mapping[str, Any], settings: Mapping[str, Any], scales: Scales) -> list[IntersectionRow]:
    kind = metric_text(settings["primary_endpoint"]).kind
    rows = []
    for crossing in table.get("intersections", []):
        for group in crossing["groups"]:
            ends = group.get("low"), group.get("high")
            mean = estimate(kind, group["mean"], *ends)
            words = f"{group['name']}: mean {mean.text}, interval {mean.interval or 'none'}"
            rows.append(
                IntersectionRow(
                    attribute=crossing["name"],
                    group=group["name"],
                    small=bool(group["small"]),
                    patients=group["patients"],
                    cases=group["cases"],
                    mean=mean,
                    mark=plots.interval_mark(scales.mean, group["mean"], *ends, words),
                    shrunk=shrunk_mean(group, mean.places),
                    median=number(group.get("median"), mean.places),
                    worst_decile=number(group.get("worst_decile"), mean.places),
                )
            )
    return rows
