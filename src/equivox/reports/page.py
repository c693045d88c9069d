"""The report as one HTML file that needs nothing else."""

import base64
import gzip
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from equivox.atomic import write_text
from equivox.reports.case_list import OUTCOMES, hover_lines, list_cases, metric_column, score_text, size_text
from equivox.reports.left_out import empty_masks, ledger
from equivox.reports.numbers import METRICS, metric_text, metric_unit, number, size_word, unit_text
from equivox.reports.overlay import CT_WINDOWS, OverlayCase, Sheet, ct_window_table, make_sheet
from equivox.reports.plots import palette
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
}


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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("equivox.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = _words
    return environment.get_template("report.html.j2").render(**_context(_finite(summary), cases, overlays))


def _context(summary: Mapping[str, Any], cases: pd.DataFrame, overlays: Sequence[OverlayCase]) -> dict[str, Any]:
    settings = summary["settings"]
    listed = list_cases(cases, settings)
    scales = make_scales(summary, listed)
    tables = [table_view(table, summary, listed, scales) for table in summary["tables"] if table["cases"]]
    headline = next((table for table in tables if table.headline), tables[0] if tables else None)
    others = [table for table in tables if table is not headline]
    gallery = [_gallery_case(case, number_, cases, settings) for number_, case in enumerate(overlays, 1)]
    return {
        "summary": summary,
        "page": _page_words(summary),
        "facts": _facts(summary),
        "headline": headline,
        "others": others,
        "verdict_lead": _verdict_lead(settings),
        "gallery": gallery,
        "lowest": _lowest(listed, settings),
        "left_out": ledger(summary["left_out"]),
        "empties": empty_masks(summary),
        "definitions": [_definition(key, settings) for key in METRICS],
        "methods": summary.get("methods") or {},
        "hashes": [(name, str(value)) for name, value in (summary.get("inputs") or {}).items()],
        "cite": _cite(summary),
        "settings_rows": [_setting(key, value, settings) for key, value in settings.items()],
        "contents": _contents(headline, others),
        "file_stem": re.sub(r"[^A-Za-z0-9]+", "-", summary["cohort"]["name"]).strip("-").lower()[:60] or "report",
        "style": _palette() + _asset("report.css"),
        "script": _asset("report.js"),
        "windows": _window_filters() if any(case.windows for case in gallery) else "",
        "hover_json": embedded_json(hover_lines(listed, settings)),
        "summary_json": embedded_json(summary),
        "cases_gzip": _packed(cases),
    }


def embedded_json(value: Any) -> Markup:
    r"""Return JSON that can stand inside a script element: nothing in it can end the element or open a comment.

    Example:
        >>> print(embedded_json({"id": "</script><!--"}))
        {"id":"\u003c/script\u003e\u003c!--"}
    """
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  what could end the element was replaced above


def _finite(value: Any) -> Any:
    """Return plain values with None where a number is not finite, which JSON cannot say."""
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _packed(cases: pd.DataFrame) -> str:
    """Return the case table as gzipped CSV in base64: the script unpacks it when it is saved."""
    text = cases.to_csv(index=False, lineterminator="\n")
    return base64.b64encode(gzip.compress(text.encode("utf-8"), mtime=0)).decode("ascii")


def _asset(name: str) -> Markup:
    return Markup(files("equivox.reports").joinpath("templates", name).read_text(encoding="utf-8"))  # noqa: S704  our own


def _palette() -> Markup:
    light, dark = (
        ":root{" + "".join(f"--{name}:{pair[which]};" for name, pair in palette().items()) + "}" for which in (0, 1)
    )
    return Markup(f"{light}@media screen and (prefers-color-scheme:dark){{{dark}}}\n")  # noqa: S704  our own


def _words(key: str) -> str:
    text = key.replace("_", " ")
    return text[:1].upper() + text[1:]


def _plural(count: int, one: str) -> str:
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def _page_words(summary: Mapping[str, Any]) -> SimpleNamespace:
    settings = summary["settings"]
    primary = settings["primary_endpoint"]
    first = summary["tables"][0]["overall"] if summary["tables"] else {}
    text = metric_text(primary)
    unit = metric_unit(primary, settings)
    return SimpleNamespace(
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


def _definition(key: str, settings: Mapping[str, Any]) -> SimpleNamespace:
    text = METRICS[key]
    name = text.name if text.name.startswith(text.label) else f"{text.name} ({text.label})"
    return SimpleNamespace(name=name, formula=text.formula, unit=metric_unit(key, settings), reference=text.reference)


def _setting(key: str, value: Any, settings: Mapping[str, Any]) -> tuple[str, str]:
    written = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and key != "seed" else str(value)
    if key == "tolerance":
        written += f" {settings['distance_unit']}"
    elif key == "volume_unit":
        written = unit_text(written)
    return _SETTING_WORDS.get(key, _words(key)), written


def _cite(summary: Mapping[str, Any]) -> str:
    subject = summary["model"].get("name") or "a segmentation model"
    return (
        f"Equity report of {subject} on {summary['cohort']['name']}, {str(summary['created'])[:10]}; "
        f"made with equivox {summary['equivox_version']}."
    )


def _contents(headline: TableView | None, others: Sequence[TableView]) -> Iterator[tuple[str, str]]:
    yield "verdict", "Verdict"
    if headline and headline.attributes:
        yield "groups", "By group"
        yield "distributions", "Distributions"
    yield "failures", "Where it fails"
    if headline:
        yield "classes", "By class"
        yield "metrics", "By metric"
    for place, table in enumerate(others, 1):
        yield f"table-{place}", table.words[:1].upper() + table.words[1:]
    yield "left-out", "What is left out"
    yield "methods", "Methods"


def _lowest(listed: pd.DataFrame, settings: Mapping[str, Any]) -> SimpleNamespace:
    primary = settings["primary_endpoint"]
    metrics = [key for key in METRICS if key in listed]
    if not len(listed) or primary not in metrics:
        return SimpleNamespace(title="", heads=(), rows=[])
    rising = metric_text(primary).better == "high"
    ordered = listed.sort_values(primary, ascending=rising, na_position="last", kind="stable").head(_MOST_LISTED)
    roles = len(set(listed["role"])) > 1
    heads = ["Case", *(["Role"] if roles else []), f"Reference {size_word(settings)}"]
    heads += [metric_text(key).label for key in metrics] + ["Not plainly scored"]
    rows = []
    for record in ordered.to_dict("records"):
        notes = [f"{int(record[name])} {words}" for name, words in OUTCOMES.items() if record[name]]
        row = [record["case_id"], *([record["role"].replace("_", " ")] if roles else [])]
        row.append(size_text(record["volume"], settings))
        rows.append([*row, *(score_text(key, record[key], settings) for key in metrics), ", ".join(notes) or "–"])
    whole = len(listed) == len(ordered)
    title = (
        f"Every case, lowest mean {metric_text(primary).label} first ({len(listed):,})"
        if whole
        else f"The {_MOST_LISTED} lowest of {len(listed):,} cases; all are in the case table that can be saved below"
    )
    return SimpleNamespace(title=title, heads=heads, rows=rows)


def _gallery_case(case: OverlayCase, place: int, cases: pd.DataFrame, settings: Mapping[str, Any]) -> SimpleNamespace:
    sheet = make_sheet(case)
    rows = cases[cases["case_id"].astype(str) == case.case_id]
    reference, prediction = (f"{name}_{settings['volume_unit']}" for name in ("reference", "prediction"))
    keys = [key for key in ("dice", "nsd", "hd95") if metric_column(key, settings) in rows]
    scores = []
    for record in rows.to_dict("records"):
        outcome = str(record["outcome"])
        named = str(record["class"]) + ("" if outcome == "scored" else f" ({OUTCOMES.get(outcome, _words(outcome))})")
        row = [named, *(score_text(key, record[metric_column(key, settings)], settings) for key in keys)]
        row += [size_text(record[name], settings) for name in (reference, prediction) if name in record]
        scores.append(row)
    heads = ["Class", *(metric_text(key).label for key in keys)]
    heads += [label for name, label in ((reference, "Reference"), (prediction, "Prediction")) if name in rows]
    words = [f"slice {one.number} of {sheet.axis_length}" for one in sheet.slices]
    views = [[one.left, one.top, sheet.slice_width, sheet.slice_height] for one in sheet.slices]
    return SimpleNamespace(
        number=place,
        case_id=case.case_id,
        rank=case.rank,
        blank=bool(case.image.size and case.image.min() == case.image.max()),
        score=number(case.dice, 2),
        sheet=sheet,
        sides=list(zip(("left", "right", "top", "bottom"), sheet.sides, strict=False)),
        classes=case.classes,
        windows=list(CT_WINDOWS) if case.modality == "CT" else [],
        heads=heads,
        rows=scores,
        slice_words=words,
        slice_json=embedded_json({"views": views, "words": words}),
        description=_describe(sheet),
    )


def _describe(sheet: Sheet) -> str:
    return (
        f"{_plural(len(sheet.slices), 'slice')} of {sheet.axis_length} across axis {sheet.axis}, from slice "
        f"{sheet.slices[0].number} to {sheet.slices[-1].number}. "
        "The contours follow the edges of the voxels. The table below has the scores."
    )


def _window_filters() -> Markup:
    parts = ['<svg width="0" height="0" class="filters" aria-hidden="true">']
    for name, (low, high) in CT_WINDOWS.items():
        table = " ".join(f"{value:g}" for value in ct_window_table(low, high))
        channels = "".join(f'<feFunc{c} type="table" tableValues="{table}"/>' for c in "RGB")
        parts.append(
            f'<filter id="window-{escape(name.replace(" ", "-"))}" color-interpolation-filters="sRGB">'
            f"<feComponentTransfer>{channels}</feComponentTransfer></filter>"
        )
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704  numbers and our own names
