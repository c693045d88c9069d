"""The report as one HTML file that needs nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from equivox.atomic import write_text
from equivox.reports.calibration_views import CalibrationSection, calibration_section
from equivox.reports.case_list import hover_lines, list_cases, lowest_cases
from equivox.reports.discovery_views import DiscoveryView, discovery_view
from equivox.reports.document import packed_csv, render, words
from equivox.reports.embedding import embedded_json, finite
from equivox.reports.file_stem import file_stem
from equivox.reports.gallery import gallery_case, window_filters
from equivox.reports.left_out import empty_masks, ledger
from equivox.reports.lesion_views import LesionSection, lesion_section
from equivox.reports.numbers import formula, metric_text, metric_unit, size_word, unit_text
from equivox.reports.overlay import OverlayCase
from equivox.reports.reconcile_views import reconcile_view
from equivox.reports.simulated_tables import simulated_tables
from equivox.reports.views import TableView, make_scales, table_view

_MOST_LISTED: Final = 200
_SETTING_WORDS: Final = {
    "primary_endpoint": "Primary endpoint",
    "margin": "Margin: the difference that matters",
    "tolerance": "Tolerance τ of NSD",
    "distance_unit": "Unit of distances",
    "volume_unit": "Unit of volumes",
    "empty_policy": "Policy for empty masks",
    "bootstrap_draws": "Bootstrap draws",
    "permutation_draws": "Permutations",
    "seed": "Seed",
    "confidence": "Confidence of intervals",
    "minimum_group": "Smallest group with an interval, in patients",
    "failure_threshold": "A patient fails below",
    "hd95": "Convention of HD95",
    "equity_scale": "Scale s of equity-scaled distances",
    "case_mix": "Case mix that differences are adjusted for, beside the raw ones",
    "intersections": "Attributes crossed",
}


@dataclass(frozen=True)
class PageWords:
    """Words that many parts of the page share."""

    primary: str
    endpoint: str
    endpoint_words: str
    level: str
    margin: str
    minimum_group: int
    failure_words: str
    size_word: str
    metric_keys: Sequence[str]


@dataclass(frozen=True)
class Definition:
    """The definition of a metric."""

    name: str
    formula: str
    unit: str
    details: str
    reference: str
    version: str


def write_report(
    path: Path,
    *,
    summary: dict[str, Any],
    cases: pd.DataFrame,
    groups: pd.DataFrame,
    overlays: Sequence[OverlayCase],
    figures: Path | None = None,
) -> None:
    """Write the report, whole or not at all.

    The page opens from disk without a network: its style, script, data and pictures are in it. All text that comes
    from files is escaped.

    Args:
        path: The HTML file to write.
        summary: What `summary.json` holds.
        cases: What `cases.csv` holds: one row a case and class.
        groups: What `groups.csv` holds.
        overlays: Cases of the gallery: the worst, median and best, in the order to show them.
        figures: Folder for the figures as SVG and PNG and the tables of groups as CSV and LaTeX; not written if None.
    """
    write_text(path, render_report(summary, cases, overlays))
    if figures is not None:
        from equivox.reports.figures import write_figures

        write_figures(figures, summary=summary, cases=cases, groups=groups)


def render_report(summary: Mapping[str, Any], cases: pd.DataFrame, overlays: Sequence[OverlayCase]) -> str:
    """Return the page of `write_report` as text."""
    return render("report.html.j2", **_context(finite(summary), cases, overlays))


def _context(summary: Mapping[str, Any], cases: pd.DataFrame, overlays: Sequence[OverlayCase]) -> dict[str, Any]:
    settings = summary["settings"]
    listed = list_cases(cases, settings)
    scales = make_scales(summary, listed)
    tables = [table_view(table, summary, listed, scales) for table in summary["tables"] if table["cases"]]
    headline = next((table for table in tables if table.headline), tables[0] if tables else None)
    others = [table for table in tables if table is not headline]
    other_tools = reconcile_view(summary)
    lesions = _lesions(summary, headline)
    calibration = _calibration(summary, headline, cases)
    methods = summary.get("methods") or {}
    gallery = [gallery_case(case, place, cases, settings) for place, case in enumerate(overlays, 1)]
    return {
        "version": summary["equivox_version"],
        "kind": "Equity report",
        "title": summary["cohort"]["name"],
        "summary": summary,
        "page": _page_words(summary),
        "facts": _facts(summary),
        "headline": headline,
        "others": others,
        "verdict_lead": _verdict_lead(settings),
        "gallery": gallery,
        "discovery": _discovery(summary, headline),
        "lowest": lowest_cases(listed, settings),
        "other_tools": other_tools,
        "lesions": lesions,
        "calibration": calibration,
        "left_out": ledger(summary["left_out"]),
        "empties": empty_masks(summary),
        "definitions": [_definition(key, settings) for key in _shown_metrics(summary)],
        "methods": {key: value for key, value in methods.items() if key != "simulated_table"},
        "simulated": simulated_tables(methods),
        "hashes": [(name, str(value)) for name, value in (summary.get("inputs") or {}).items()],
        "cite": _cite(summary),
        "settings_rows": [_setting(key, value, settings) for key, value in settings.items()],
        "contents": list(
            _contents(
                headline,
                others,
                calibration=calibration is not None,
                lesions=lesions is not None,
                tools=other_tools is not None,
            )
        ),
        "file_stem": file_stem(summary["cohort"]["name"], "report"),
        "windows": window_filters() if any(case.windows for case in gallery) else "",
        "hover_json": embedded_json(hover_lines(listed, settings)),
        "summary_json": embedded_json(summary),
        "cases_gzip": packed_csv(cases),
    }


def _page_words(summary: Mapping[str, Any]) -> PageWords:
    settings = summary["settings"]
    primary = settings["primary_endpoint"]
    first = summary["tables"][0]["overall"] if summary["tables"] else {}
    text = metric_text(primary)
    unit = metric_unit(primary, settings)
    return PageWords(
        primary=primary,
        endpoint=f"mean {text.label}",
        endpoint_words=f"Mean {text.label} of a patient" + (f", in {unit}" if unit else ", from 0 to 1"),
        level=f"{100 * settings['confidence']:g} %",
        margin=f"{settings['margin']:g}",
        minimum_group=settings["minimum_group"],
        failure_words=f"mean {text.label} below {settings['failure_threshold']:g}",
        size_word=size_word(settings),
        metric_keys=[key for key in ("dice", "nsd", "hd95") if key in first],
    )


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    cohort, model = summary["cohort"], summary["model"]
    classes = [str(name) for name in cohort["classes"]]
    shown = ", ".join(classes) if len(classes) <= 12 else f"{', '.join(classes[:10])} and {len(classes) - 10} more"
    facts = [
        ("Model", model.get("name") or "not stated"),
        ("Patients", f"{cohort['patients']:,}"),
        ("Cases", f"{cohort['cases']:,}"),
        (f"Class{'es' if len(classes) != 1 else ''}", shown),
        ("Date", str(summary["created"])[:10]),
        ("Software", f"equivox {summary['equivox_version']}"),
    ]
    if model.get("run"):
        facts.insert(1, ("Run", str(model["run"])))
    if cohort.get("nominal_spacing"):
        facts.append(("Sizes", "counted in voxels, as the voxel sizes in the files are not real"))
    return facts


def _verdict_lead(settings: Mapping[str, Any]) -> str:
    text = metric_text(settings["primary_endpoint"])
    return (
        f"The rule was fixed before anything was scored: the endpoint is the patient's mean {text.label} over classes, "
        f"the difference that matters is {settings['margin']:g}, and each group is compared with the rest in one "
        f"family of tests over all attributes, with simultaneous {100 * settings['confidence']:g} % intervals."
    )


def _lesions(summary: Mapping[str, Any], headline: TableView | None) -> LesionSection | None:
    """Return the section on lesions of the headline's cases; None where nobody asked for it."""
    for table in summary["tables"]:
        if headline is not None and table["role"] == headline.role and table.get("lesions"):
            return lesion_section(table["lesions"], summary["settings"], table["lesion_sentences"])
    return None


def _discovery(summary: Mapping[str, Any], headline: TableView | None) -> DiscoveryView | None:
    """Return the slices and trends of the headline's cases; None where there are none in the summary."""
    for table in summary["tables"]:
        if headline is not None and table["role"] == headline.role and "slices" in table:
            return discovery_view(table, summary["settings"])
    return None


def _calibration(
    summary: Mapping[str, Any], headline: TableView | None, cases: pd.DataFrame
) -> CalibrationSection | None:
    """Return the section on calibration of the headline's cases; None where there are no maps of probabilities."""
    for table in summary["tables"]:
        if headline is not None and table["role"] == headline.role:
            kinds = {attribute["name"]: attribute["kind"] for attribute in table["attributes"]}
            return calibration_section(table, cases, summary["settings"], kinds)
    return None


def _shown_metrics(summary: Mapping[str, Any]) -> list[str]:
    """Return the metrics that the tables have, in their order."""
    return list(dict.fromkeys(key for table in summary["tables"] for key in table["overall"]))


def _definition(key: str, settings: Mapping[str, Any]) -> Definition:
    text = metric_text(key)
    name = text.title if text.label.lower() in text.title.lower() else f"{text.title} ({text.label})"
    return Definition(
        name, formula(key, settings), metric_unit(key, settings), text.details, text.reference, f"{key}/{text.version}"
    )


def _setting(key: str, value: Any, settings: Mapping[str, Any]) -> tuple[str, str]:
    written = _written(value) if key != "seed" else str(value)
    if key == "tolerance" or (key == "equity_scale" and value is not None):
        written += f" {settings['distance_unit']}"
    elif key == "volume_unit":
        written = unit_text(written)
    return _SETTING_WORDS.get(key, words(key)), written


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{words(str(name)).lower()} {_written(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        # Lists in a list, such as the attributes that are crossed, are kept apart.
        between = "; " if any(isinstance(one, list | tuple) for one in value) else ", "
        return between.join(map(_written, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cite(summary: Mapping[str, Any]) -> str:
    subject = summary["model"].get("name") or "a segmentation model"
    return (
        f"Equity report of {subject} on {summary['cohort']['name']}, {str(summary['created'])[:10]}; "
        f"made with equivox {summary['equivox_version']}."
    )


def _contents(
    headline: TableView | None, others: Sequence[TableView], *, calibration: bool, lesions: bool, tools: bool
) -> Iterator[tuple[str, str]]:
    yield "verdict", "Verdict"
    if headline and headline.attributes:
        yield "groups", "By group"
        yield "distributions", "Distributions"
    if calibration:
        yield "calibration", "Calibration"
    yield "failures", "Where it fails"
    if headline:
        yield "classes", "By class"
        yield "metrics", "By metric"
    if lesions:
        yield "lesions", "Lesions"
    if tools:
        yield "other-tools", "Other tools"
    for place, table in enumerate(others, 1):
        yield f"table-{place}", table.words[:1].upper() + table.words[1:]
    yield "left-out", "What is left out"
    yield "methods", "Methods"
