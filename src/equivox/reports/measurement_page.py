"""The page of `equivox measure`: structures in a table, by group, and against age and the like as plots."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup

from equivox.atomic import write_text
from equivox.reports.counted import counted
from equivox.reports.document import packed_csv, render
from equivox.reports.embedding import embedded_json
from equivox.reports.file_stem import file_stem
from equivox.reports.numbers import MISSING, Number, decimals, interval, number, p_value, signed, unit_text
from equivox.reports.plots import key
from equivox.reports.scatter import Points, scatter

MOST_PLOTS: Final = 12
"""More plots of one attribute and measure would not be looked at; the table has all."""


@dataclass(frozen=True)
class Scatter:
    """One structure against one attribute.

    Attributes:
        title: The structure.
        picture: The plot.
        words: What stands below it.
    """

    title: str
    picture: Markup
    words: str


@dataclass(frozen=True)
class ScatterSet:
    """The plots of one attribute and measure."""

    head: str
    plots: Sequence[Scatter]
    legend: Sequence[tuple[Markup, str]]
    note: str


def write_measurement(path: Path, *, summary: Mapping[str, Any], rows: pd.DataFrame, table: pd.DataFrame) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file to write.
        summary: What `measurements.json` holds.
        rows: One row a case and structure: `case_id, patient_id, class, present, cut_off, size, mean, ...`.
        table: The same as `measurements.csv` has it, to be saved from the page.
    """
    write_text(path, render_measurement(summary, rows, table))


def render_measurement(summary: Mapping[str, Any], rows: pd.DataFrame, table: pd.DataFrame) -> str:
    """Return the page of `write_measurement` as text."""
    sets = list(_scatter_sets(summary, rows))
    contents = [("structures", "Structures")]
    contents += [("associations", "Against numbers")] if summary["associations"] else []
    contents += [("groups", "By group")] if summary["groups"] else []
    contents += [("left-out", "What is left out"), ("methods", "Methods")]
    cohort = summary["cohort"]
    return render(
        "measurement.html.j2",
        version=summary["equivox_version"],
        kind="Measurements",
        title=cohort["name"],
        facts=[
            ("Patients", f"{cohort['patients']:,}"),
            ("Cases", f"{cohort['cases']:,}"),
            ("Structures", f"{len(summary['structures']):,}"),
            ("Intensities", summary["units"]["intensity"] or "in the units of the files"),
            ("Date", str(summary["created"])[:10]),
            ("Software", f"equivox {summary['equivox_version']}"),
        ],
        contents=contents,
        structures=structure_table(summary),
        association_heads=_association_heads(summary),
        association_rows=[_association_row(record, summary) for record in _by_q(summary["associations"])],
        sets=sets,
        group_heads=_group_heads(summary),
        group_rows=[_group_row(record, summary) for record in summary["groups"] if record["patients"]],
        left_out=_left_out(summary),
        methods=methods(summary),
        summary_json=embedded_json(summary),
        cases_gzip=packed_csv(table),
        file_stem=file_stem(cohort["name"], "measurements"),
    )


def measure_label(measure: str, summary: Mapping[str, Any]) -> str:
    """Return the name of a measure with its unit."""
    units = summary["units"]
    if measure == "size":
        word = "Area" if units["size"] == "mm2" else "Volume"
        return f"{word} ({unit_text(units['size'])})"
    return f"Mean intensity ({units['intensity']})" if units["intensity"] else "Mean intensity"


def strongest(summary: Mapping[str, Any], attribute: str, measure: str) -> list[Mapping[str, Any]]:
    """Return the associations of an attribute and measure, the most certain first, those without a number left out."""
    records = [one for one in summary["associations"] if (one["attribute"], one["measure"]) == (attribute, measure)]
    return [one for one in _by_q(records) if one["spearman"] is not None]


def _by_q(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    def certainty(record: Mapping[str, Any]) -> tuple[float, float]:
        return (2.0 if record["q"] is None else record["q"], -abs(record["spearman"] or 0.0))

    return sorted(records, key=certainty)


def structure_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the table of structures."""
    return _structure_heads(summary), [_structure_row(record, summary) for record in summary["structures"]]


def _structure_heads(summary: Mapping[str, Any]) -> list[str]:
    size, mean = measure_label("size", summary), measure_label("mean", summary)
    heads = ["Structure", "Present", "Absent", "Cut off", "Patients compared", f"{size}, mean ± SD"]
    return [*heads, "Median (quartiles)", f"{mean}, mean ± SD", "Median (quartiles)"]


def _structure_row(record: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    counts = [number(record[name], 0) for name in ("present", "absent", "cut_off")]
    cells = [record["structure"], *counts, number(record["size"]["patients"], 0)]
    for measure in ("size", "mean"):
        cells += _spread(record[measure], whole=measure == "size" and summary["units"]["size"] == "voxels")
    return cells


def _spread(one: Mapping[str, Any], *, whole: bool) -> tuple[str, str]:
    if not one["patients"]:
        return MISSING, MISSING
    places = 0 if whole else _places(one["mean"], one["sd"])
    middle = number(one["mean"], places) + (f" ± {number(one['sd'], places)}" if one["sd"] is not None else "")
    quartiles = f"{number(one['q1'], places)} to {number(one['q3'], places)}"
    return middle, f"{number(one['median'], places)} ({quartiles})"


def _places(value: Number, spread: Number | None) -> int:
    size = abs(spread) if spread else abs(value)
    return 0 if size >= 20 else 1 if size >= 2 else 2


def _association_heads(summary: Mapping[str, Any]) -> list[str]:
    level = f"{100 * summary['settings']['confidence']:g} %"
    heads = ["Structure", "Measure", "Against", "Patients", f"Rank correlation ({level} interval)", "Adjusted"]
    return [*heads, f"Slope per 10 units ({level} interval)", "p", "q"]


def _association_row(record: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    ends = interval(record["spearman_low"], record["spearman_high"], 2, sign=True)
    rho = signed(record["spearman"], 2) + (f" ({ends})" if ends else "")
    slope = MISSING
    if record["slope"] is not None:
        value, low, high = (10 * record[name] for name in ("slope", "slope_low", "slope_high"))
        places = decimals("distance", value, low, high)
        slope = f"{signed(value, places)} ({interval(low, high, places, sign=True)})"
    cells = [record["structure"], measure_label(record["measure"], summary), record["attribute"]]
    cells += [number(record["patients"], 0), rho, signed(record["adjusted"], 2), slope]
    return [*cells, p_value(record["p"]), p_value(record["q"])]


def _group_heads(summary: Mapping[str, Any]) -> list[str]:
    level = f"{100 * summary['settings']['confidence']:g} %"
    heads = ["Structure", "Measure", "Attribute", "Group", "Patients", f"Mean ({level} interval)", "Median"]
    return [*heads, "Difference to the rest (simultaneous interval)", "p", "q"]


def _group_row(record: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    places = decimals("distance", record["mean"], record["low"], record["high"])
    ends = interval(record["low"], record["high"], places)
    cells = [record["structure"], measure_label(record["measure"], summary), record["attribute"], record["group"]]
    cells += [number(record["patients"], 0), number(record["mean"], places) + (f" ({ends})" if ends else "")]
    cells.append(number(record["median"], places))
    difference = MISSING
    if record["difference"] is not None:
        low, high = record["difference_low"], record["difference_high"]
        places = decimals("distance", record["difference"], low, high)
        difference = f"{signed(record['difference'], places)} ({interval(low, high, places, sign=True)})"
    return [*cells, difference, p_value(record["p"]), p_value(record["q"])]


def _scatter_sets(summary: Mapping[str, Any], rows: pd.DataFrame) -> Iterator[ScatterSet]:
    colours = next((name for name, kind in summary["attributes"].items() if kind == "categorical"), None)
    for attribute, kind in summary["attributes"].items():
        for measure in ("size", "mean") if kind == "continuous" else ():
            found = strongest(summary, attribute, measure)
            if not found:
                continue
            plots: list[Scatter] = []
            names: list[tuple[str, int | None]] = []
            for record in found[:MOST_PLOTS]:
                groups = points_of(rows, record["structure"], attribute, measure, colours)
                names = list(dict.fromkeys([*names, *((one.name, one.style) for one in groups)]))
                plots.append(_scatter(record, groups, summary))
            more = len(found) - len(plots)
            note = f"{more} further structures are in the table." if more else ""
            legend = [(key(style), name) for name, style in names] if colours else []
            yield ScatterSet(f"{measure_label(measure, summary)} against {attribute}", plots, legend, note)


def points_of(rows: pd.DataFrame, structure: str, attribute: str, measure: str, colours: str | None) -> list[Points]:
    """Return the patients of one plot by group: means over the cases in which the whole structure is seen."""
    kept = rows[(rows["class"] == structure) & rows["present"] & ~rows["cut_off"]]
    column = f"number:{attribute}"
    kept = kept[kept[measure].notna() & kept[column].notna()]
    by_patient = kept.groupby("patient_id", sort=True).agg({measure: "mean", column: "mean"})
    if colours is None:
        x, y = (by_patient[name].to_numpy(np.float64) for name in (column, measure))
        return [Points("patients", 0, x, y)]
    groups = kept.groupby("patient_id", sort=True)[f"attribute:{colours}"].first().reindex(by_patient.index)
    order = sorted({str(one) for one in rows[f"attribute:{colours}"].dropna()})
    points = []
    for style, name in enumerate([*order, None]):
        own = by_patient[groups.isna() if name is None else groups.eq(name)]
        if len(own):
            x, y = own[column].to_numpy(np.float64), own[measure].to_numpy(np.float64)
            points.append(Points(name or "group not known", None if name is None else style, x, y))
    return points


def _scatter(record: Mapping[str, Any], groups: Sequence[Points], summary: Mapping[str, Any]) -> Scatter:
    label = measure_label(record["measure"], summary)
    ends = interval(record["spearman_low"], record["spearman_high"], 2, sign=True)
    words = f"Rank correlation {signed(record['spearman'], 2)}" + (f" ({ends})" if ends else "")
    words += f", {counted(record['patients'], 'patient')}"
    if record["q"] is not None:
        q = p_value(record["q"])
        words += f", q {q}" if q.startswith("<") else f", q = {q}"
    title = f"{label} of {record['structure']} against {record['attribute']}"
    picture = scatter(groups, (record["attribute"], label), title, f"{words}.", line=record["smooth"])
    return Scatter(record["structure"], picture, f"{words}.")


def _left_out(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    left = summary["left_out"]
    items = [
        (
            "Cut off by the image",
            f"{counted(left['cut_off'], 'structure', 'touches', 'touch')} a face of the image: measured, not compared",
        ),
        (
            "Absent",
            f"{counted(left['absent'], 'structure', 'has', 'have')} no voxel in the mask: absent, and not of size 0",
        ),
    ]
    if left["without_image"]:
        items.append(("Without an image", f"{counted(len(left['without_image']), 'case')}: sizes only"))
    items += [(f"Case {one['case_id']}", one["reason"]) for one in left["excluded_cases"]]
    return [*items, *(("Note", note) for note in summary.get("notes", []))]


def methods(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how the numbers were made, as pairs of a head and sentences."""
    settings = summary["settings"]
    level = f"{100 * settings['confidence']:g} %"
    eroded = (
        f"Voxels within {settings['erode_mm']:g} mm of the edge do not count for intensities."
        if settings["erode_mm"]
        else "All voxels of a structure count for its intensities, those at its edge included."
    )
    return [
        ("Unit", "The patient: the mean over the patient's cases in which the whole structure is seen."),
        ("Size", "Voxels times the size of a voxel."),
        ("Intensities", f"Taken from the image as it is, without rounding. {eroded}"),
        (
            "Cut off",
            f"A structure with a voxel in the outer {counted(settings['border_voxels'], 'layer')} of the image: it may "
            "go on outside, so its size is a lower bound. Such structures are flagged and in no comparison.",
        ),
        (
            "Against numbers",
            f"Spearman's rank correlation with its percentile bootstrap interval ({level}, {settings['draws']:,} "
            f"resamples of patients) and p by {settings['draws']:,} permutations. Adjusted: correlation of what the "
            "categorical attributes leave of both ranks. Slope: least squares with the same attributes, interval from "
            "HC3 standard errors. The line in a plot is a local linear fit, for the eye alone.",
        ),
        (
            "By group",
            "Mean with bootstrap-t interval; each group against the rest by permuting patients with a studentised "
            "maximum statistic over the groups of the attribute.",
        ),
        ("Many tests", "q: the share of false discoveries (Benjamini and Hochberg) over all structures at once."),
        (
            "Reading",
            "Associations only. Contrast phase changes HU, the field of view changes what is cut off, and body size "
            "goes with sex and age: none of these is taken out unless it is declared.",
        ),
    ]
