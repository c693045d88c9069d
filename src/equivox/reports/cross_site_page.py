"""The page of `equivox cross-site`: the matrix as a heat map, a sentence for each contrast, and how it was made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd

from equivox.atomic import write_text
from equivox.reports.counted import counted
from equivox.reports.cross_site_words import (
    KINDS,
    claim,
    explanation,
    findings,
    methods,
    model_note,
    over_all_sites,
    statements,
)
from equivox.reports.document import packed_csv, render
from equivox.reports.embedding import embedded_json
from equivox.reports.file_stem import file_stem
from equivox.reports.numbers import MISSING, Number, decimals, interval, number, p_value, signed, unit_text

Tone = Literal["better", "worse", "same"]

DEEPEST: Final = 55
"""Percent of colour in the cell that is farthest from its site's own; more would take the contrast from the number."""

_LEAST_SCALE: Final = 0.1
"""A difference of a fraction by less than this is never painted in full; of other metrics, by less of the mean."""

_SCOPES: Final = {"all": "all sites", "within": "within sites"}

ROW_WORDS: Final = {
    "own": "{site} alone",
    "pool": "All sites",
    "pool_matched": "All sites, size-matched",
    "leave_out": "All but {site}",
    "leave_out_matched": "All but {site}, size-matched",
}


@dataclass(frozen=True)
class HeatCell:
    """One cell of the heat map.

    Attributes:
        text: The mean.
        against: The difference to the site's own models, with its sign; empty at home and without one.
        tone: Whether it is better or worse than at home.
        share: How strong the colour is, in percent.
        home: The site's own model.
        words: Interval and patients, for those who point at it and for screen readers.
    """

    text: str
    against: str
    tone: Tone
    share: int
    home: bool
    words: str


@dataclass(frozen=True)
class HeatRow:
    """One row of the heat map: the training pool, its cells, macro and micro mean."""

    name: str
    trained: str
    cells: Sequence[HeatCell]
    macro: str
    micro: str


def write_cross_site(path: Path, *, summary: Mapping[str, Any], patients: pd.DataFrame) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file to write.
        summary: What `cross_site.json` holds.
        patients: What `patients.csv` holds, to be saved from the page.
    """
    write_text(path, render_cross_site(summary, patients))


def render_cross_site(summary: Mapping[str, Any], patients: pd.DataFrame) -> str:
    """Return the page of `write_cross_site` as text."""
    cohort, metrics = summary["cohort"], summary["metrics"]
    contents = [("in-short", "In short"), ("matrix", "Trained here, tested there"), ("contrasts", "All contrasts")]
    contents += [("sites", "Sites")]
    contents += [("groups", "Groups within sites")] if summary["groups"] else []
    contents += [("left-out", "What is left out"), ("methods", "Methods")]
    return render(
        "cross_site.html.j2",
        version=summary["equivox_version"],
        kind="Across sites",
        title=cohort["name"],
        facts=[
            ("Patients", f"{cohort['patients']:,}"),
            ("Cases", f"{cohort['cases']:,}"),
            ("Sites", f"{len(summary['sites']):,}"),
            ("Models", f"{sum(row['models'] for row in summary['rows']):,}"),
            ("Endpoint", metrics[0]["label"]),
            ("Date", str(summary["created"])[:10]),
            ("Software", f"equivox {summary['equivox_version']}"),
        ],
        contents=contents,
        claim=claim(summary),
        parts=[
            (head, explanation(name, summary), [one for kind, one in statements(summary, 0) if kind == name])
            for name, (head, _, _, _) in KINDS.items()
        ],
        findings=findings(summary),
        heats=[
            (metric_head(metric), _scale_words(metric), heat_rows(summary, place))
            for place, metric in enumerate(metrics)
        ],
        site_names=[one["site"] for one in summary["sites"]],
        contrast_heads=_contrast_heads(summary),
        contrast_rows=[_contrast_row(metric, one) for metric in metrics for one in metric["contrasts"]],
        over_all=over_all_sites(summary, 0),
        model_note=model_note(summary, 0),
        site_table=_site_table(summary),
        protocol_table=_protocol_table(summary),
        case_mix=_case_mix_table(summary),
        case_mix_note=_case_mix_note(summary),
        group_heads=_group_heads(summary),
        group_rows=[_group_row(one, summary) for one in summary["groups"] if one["patients"]],
        left_out=_left_out(summary),
        methods=methods(summary),
        summary_json=embedded_json(summary),
        cases_gzip=packed_csv(patients),
        file_stem=file_stem(cohort["name"], "sites"),
    )


def metric_head(metric: Mapping[str, Any]) -> str:
    """Return the metric with its unit and which values are better."""
    unit = f" ({unit_text(metric['unit'])})" if metric["unit"] else ""
    return f"{metric['label']}{unit}, {'higher' if metric['better'] == 'high' else 'lower'} is better"


def row_words(row: Mapping[str, Any]) -> str:
    """Return whom a row was trained on."""
    return ROW_WORDS[row["kind"]].format(site=row["site"])


def heat_rows(summary: Mapping[str, Any], place: int) -> list[HeatRow]:
    """Return the heat map of a metric: colours tell the difference to the site's own models, and blue is better."""
    metric = summary["metrics"][place]
    sign = 1.0 if metric["better"] == "high" else -1.0
    sites = [one["site"] for one in summary["sites"]]
    widest = colour_scale(metric)
    trained = {one["row"]: one for one in summary["rows"]}
    found = []
    for row in metric["rows"]:
        cells = [_heat_cell(row, site, metric, sign, widest) for site in sites]
        low, high = trained[row["row"]]["training_patients"]
        size = f"{low}" if low == high else f"{low}–{high}"
        places = decimals(metric["kind"], row["macro"])
        found.append(
            HeatRow(
                row_words(row),
                f"{size} patient{'' if high == 1 else 's'}, {counted(trained[row['row']]['models'], 'model')}",
                cells,
                number(row["macro"], places),
                number(row["micro"], places),
            )
        )
    return found


def colour_scale(metric: Mapping[str, Any]) -> float:
    """Return the difference to the site's own models that is painted in full."""
    cells = [cell for row in metric["rows"] for cell in row["cells"].values()]
    widest = max((abs(cell["against_own"]) for cell in cells if cell["against_own"]), default=0.0)
    size = 1.0 if metric["kind"] == "fraction" else max((abs(cell["mean"]) for cell in cells), default=0.0)
    return max(widest, _LEAST_SCALE * size)


def _scale_words(metric: Mapping[str, Any]) -> str:
    widest = colour_scale(metric)
    unit = f" {unit_text(metric['unit'])}" if metric["unit"] else ""
    return f"The deepest colour is a difference of {number(widest, decimals(metric['kind'], widest))}{unit}."


def _heat_cell(row: Mapping[str, Any], site: str, metric: Mapping[str, Any], sign: float, widest: float) -> HeatCell:
    cell = row["cells"].get(site)
    if cell is None:
        return HeatCell(MISSING, "", "same", 0, home=False, words="no patient with a value")
    places = decimals(metric["kind"], cell["mean"])
    home = row["kind"] == "own" and row["site"] == site
    ends = interval(cell["low"], cell["high"], places)
    words = counted(cell["patients"], "patient") + (f", interval {ends}" if ends else ", no interval")
    against = cell["against_own"]
    if home or against is None:
        return HeatCell(number(cell["mean"], places), "", "same", 0, home=home, words=words)
    text = signed(against, places)
    turned = sign * against
    tone: Tone = "same" if not any(digit in text for digit in "123456789") else "better" if turned > 0 else "worse"
    share = round(DEEPEST * abs(against) / widest) if widest and tone != "same" else 0
    return HeatCell(number(cell["mean"], places), text, tone, share, home=False, words=words)


def matrix_cells(summary: Mapping[str, Any], place: int) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of a metric's matrix as text, for a terminal."""
    heads = ["Trained on", *(one["site"] for one in summary["sites"]), "Macro"]
    return heads, [[row.name, *(cell.text for cell in row.cells), row.macro] for row in heat_rows(summary, place)]


def _contrast_heads(summary: Mapping[str, Any]) -> list[str]:
    level = f"{100 * summary['settings']['confidence']:g} %"
    return [
        "Site",
        "Metric",
        "Contrast",
        "Patients",
        f"Difference ({level} interval), above 0 is better",
        "p",
        "Holm p",
    ]


def _contrast_row(metric: Mapping[str, Any], one: Mapping[str, Any]) -> list[str]:
    cells = [one["site"], metric["label"], KINDS[one["kind"]][0], number(one["patients"], 0)]
    return [*cells, _difference(metric, one), p_value(one["p"]), p_value(one["p_adjusted"])]


def _difference(metric: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    places = decimals(metric["kind"], one["difference"], one["low"], one["high"])
    ends = interval(one["low"], one["high"], places, sign=True)
    return signed(one["difference"], places) + (f" ({ends})" if ends else "")


def _site_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    metric = summary["metrics"][0]
    volume = f"{'Lesion' if summary['settings']['lesion_class'] else 'Labelled'} volume"
    heads = ["Site", "Trained at", "Patients", "Cases", f"{volume}, median (quartiles), {summary['volume_unit']}"]
    heads += ["Slice thickness (mm)", "Own", "External", "Leave-out", "Target difficulty", "Source quality"]
    by_site = {one["site"]: one for one in metric["sites"]}
    rows = []
    for one in summary["sites"]:
        q1, median, q3 = (one["volume"][name] for name in ("q1", "median", "q3"))
        places = 0 if median >= 20 else 1 if median >= 2 else 2
        found = by_site.get(one["site"], {})
        thickness = MISSING if one["thickness_mm"] is None else f"{one['thickness_mm']:.3g}"
        rows.append(
            [
                one["site"],
                "yes" if one["trained"] else "no, tested only",
                number(one["patients"], 0),
                number(one["cases"], 0),
                f"{number(median, places)} ({number(q1, places)} to {number(q3, places)})",
                thickness,
                *(
                    _plain(metric, found.get(key))
                    for key in ("in_domain", "external", "leave_out", "difficulty", "source_quality")
                ),
            ]
        )
    return heads, rows


def _plain(metric: Mapping[str, Any], value: Number | None) -> str:
    return number(value, decimals(metric["kind"], value))


def _case_mix_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]] | None:
    metric = summary["metrics"][0]
    gap, own = metric["case_mix"]["gap"], metric["case_mix"]["in_domain"]
    if gap is None and own is None:
        return None
    heads = ["Site", "Patients", "Gap", "Gap at equal case mix", "Own", "Own at equal case mix"]
    rows = []
    for one in summary["sites"]:
        site = one["site"]
        if not any(mix and site in mix["before"] for mix in (gap, own)):
            continue
        cells = [site, number(next(mix["patients"][site] for mix in (gap, own) if mix and site in mix["patients"]), 0)]
        for mix, write in ((gap, signed), (own, number)):
            for name in ("before", "after"):
                value = None if mix is None else mix[name].get(site)
                cells.append(write(value, decimals(metric["kind"], value)))
        rows.append(cells)
    return heads, rows


def _protocol_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]] | None:
    """Return the gaps at both tolerances, and how each site's references were drawn, as far as either is known."""
    metrics = {one["metric"]: one for one in summary["metrics"]}
    pair = [metrics[key] for key in ("nsd", "nsd_wide") if key in metrics]
    protocols = any(one["label_protocols"] for one in summary["sites"])
    if len(pair) < 2 and not protocols:
        return None
    pair = pair if len(pair) == 2 else []
    heads = ["Site", *(["Label protocol"] if protocols else []), *(f"Gap in {metric['label']}" for metric in pair)]
    rows = []
    for one in summary["sites"]:
        cells = [one["site"], *([", ".join(one["label_protocols"]) or MISSING] if protocols else [])]
        for metric in pair:
            gap = [each for each in metric["contrasts"] if (each["kind"], each["site"]) == ("gap", one["site"])]
            cells.append(_difference(metric, gap[0]) if gap else MISSING)
        rows.append(cells)
    return heads, rows


def _case_mix_note(summary: Mapping[str, Any]) -> str:
    words = {"lesion_volume": "log volume", "slice_thickness": "slice thickness"}
    mixes = [mix for mix in summary["metrics"][0]["case_mix"].values() if mix is not None]
    if not mixes:
        asked = summary["settings"]["case_mix"]
        if not asked:
            return "No adjustment for case mix was asked for."
        return "No adjustment for case mix: a covariate does not vary within a site, or there are too few patients."
    note = f"Adjusted for {' and '.join(words[name] for name in mixes[0]['used'])}, with one slope for all sites."
    note += " The adjusted number stands beside the raw one and does not replace it: volume may lie on the causal path."
    for name, reason in mixes[0]["dropped"].items():
        note += f" Not adjusted for {words[name]}: {reason}."
    return note


def _group_heads(summary: Mapping[str, Any]) -> list[str]:
    label = summary["metrics"][0]["label"]
    return [
        "Attribute",
        "Group",
        "Site",
        "Patients",
        f"Mean {label}",
        "Difference to the rest (interval)",
        "Adjusted p",
    ]


def _group_row(one: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    metric = summary["metrics"][0]
    difference = MISSING
    if one["difference"] is not None:
        places = decimals(metric["kind"], one["difference"], one["low"], one["high"])
        ends = interval(one["low"], one["high"], places, sign=True)
        difference = f"{signed(one['difference'], places)} ({ends})"
    cells = [one["attribute"], one["group"], _SCOPES.get(one["scope"]) or one["site"], number(one["patients"], 0)]
    return [*cells, _plain(metric, one["mean"]), difference, p_value(one["p_adjusted"])]


def _left_out(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    items = [("Note", note) for note in summary["notes"]]
    for metric in summary["metrics"]:
        for site, patients in metric["left_out"].items():
            words = f"{counted(len(patients), 'patient')} without a value in every row, so in no row: "
            words += ", ".join(patients[:8])
            items.append((f"{metric['label']} at {site}", words + (" ..." if len(patients) > 8 else "")))
    items += [(f"Case {one['case_id']}", one["reason"]) for one in summary["excluded_cases"]]
    asked = summary["settings"]["metrics"]
    not_computed = ["lesion-wise detection"] if not any(key.startswith("lesion_") for key in asked) else []
    not_computed += ["calibration"] if "ece" not in asked else []
    not_computed += ["test-time adaptation"]
    words = f"{', '.join(not_computed)}."
    items.append(("Not computed", words[:1].upper() + words[1:]))
    return items
