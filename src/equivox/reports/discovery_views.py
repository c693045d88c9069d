"""Where it fails, in the words, digits and plots of the page: slices of patients, and scores against numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from equivox.reports.counted import counted
from equivox.reports.numbers import MISSING, decimals, interval, metric_text, number, p_value, signed
from equivox.reports.scatter import Points, scatter

CONFIRMED: Final = "confirmed on the other half"
NOT_CONFIRMED: Final = "not confirmed"

_MOST_POINTS: Final = 1500
"""More points in a plot of this size lie upon one another."""


@dataclass(frozen=True)
class SliceRow:
    """A slice; `part` says of which other slice it is a part."""

    words: str
    part: str
    found: str
    patients: str
    mean: str
    rest_mean: str
    difference: str
    interval: str
    q: str
    answer: str
    confirmed: bool


@dataclass(frozen=True)
class TrendPlot:
    """The scores, or their residuals, against one number of the patients."""

    title: str
    words: str
    picture: Markup


@dataclass(frozen=True)
class DiscoveryView:
    """The slices, and for each number its plots: the scores as they are and, where there are, their residuals."""

    slices_lead: str
    slices: Sequence[SliceRow]
    slices_note: str
    trends_lead: str
    trends: Sequence[Sequence[TrendPlot]]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    drawn: str


def discovery_view(table: Mapping[str, Any], settings: Mapping[str, Any]) -> DiscoveryView:
    """Work out what the page shows of the slices and the trends of a table.

    Args:
        table: The table, with its `slices` and `residuals`.
        settings: The settings of the summary.
    """
    found, residuals = table["slices"], table["residuals"]
    text = metric_text(settings["primary_endpoint"])
    endpoint = f"mean {text.label}"
    level = f"{100 * settings['confidence']:g} %"
    points = residuals["points"]
    count = len(points["scores"])
    return DiscoveryView(
        slices_lead=_slices_lead(found, endpoint),
        slices=_slice_rows(found["slices"], text.kind),
        slices_note=_slices_note(found, level),
        trends_lead=_trends_lead(residuals, endpoint),
        trends=[_plots(one, residuals, endpoint) for one in residuals["trends"]],
        heads=("Against", "Patients", f"Rank correlation ({level} interval)", "q", *_RESIDUAL_HEADS),
        rows=[_trend_row(one) for one in residuals["trends"]],
        drawn=f"Of {count:,} patients, {_MOST_POINTS:,} are drawn; all of them count." if count > _MOST_POINTS else "",
    )


_RESIDUAL_HEADS: Final = ("Residual: rank correlation", "q of the residual")


def _slices_lead(found: Mapping[str, Any], endpoint: str) -> str:
    if found["reason"] is not None:
        return "Slices were not searched for: each is found on one half of the patients and confirmed on the other."
    return (
        "Are there patients with something in common in whom the model errs more? Slices of them were searched for in "
        f"{found['found_in']:,} patients drawn at random, and looked at in the other {found['confirmed_in']:,}, which "
        f"alone can tell whether a slice holds. The error is 1 minus the {endpoint}; of the slices called confirmed, "
        f"at most {100 * found['level']:g} % are expected to be so by chance. Exploratory."
    )


def _slices_note(found: Mapping[str, Any], level: str) -> str:
    if found["reason"] is not None:
        return f"Nothing was computed: {found['reason']}."
    columns = ", ".join(found["columns"])
    if not found["slices"]:
        return f"No slice with larger errors was found among those by {columns}. That does not say that there is none."
    return (
        f"Searched by {columns}. The half that was searched tells nothing of how bad a slice is, as it was chosen for "
        f"that: means, differences ({level} interval, each for its slice alone) and q are of the other half. A slice "
        "that is not confirmed may be chance. Slices share patients, so one may hold because of another."
    )


def _slice_rows(slices: Sequence[Mapping[str, Any]], kind: Any) -> list[SliceRow]:
    rows = []
    held = [{(pair["column"], pair["value"]) for pair in one["predicates"]} for one in slices]
    for one, own in zip(slices, held, strict=True):
        whole = next((other["words"] for other, its in zip(slices, held, strict=True) if its < own), None)
        places = decimals(kind, one["difference"], one["low"], one["high"])
        rows.append(
            SliceRow(
                words=one["words"],
                part="" if whole is None else f"part of: {whole}",
                found=number(one["found_patients"], 0),
                patients=number(one["patients"], 0),
                mean=number(one["mean"], places),
                rest_mean=number(one["rest_mean"], places),
                difference=signed(one["difference"], places),
                interval=interval(one["low"], one["high"], places, sign=True),
                q=p_value(one["q"]),
                answer=CONFIRMED if one["confirmed"] else NOT_CONFIRMED,
                confirmed=bool(one["confirmed"]),
            )
        )
    return rows


def _trends_lead(residuals: Mapping[str, Any], endpoint: str) -> str:
    words = f"A patient's {endpoint}, as it is"
    if residuals["size"] is not None and any(one["residual"] for one in residuals["trends"]):
        words += (
            f" and as residual: minus the fitted {endpoint} at the same reference volume, since small structures score "
            "lower, whoever has them"
        )
    return f"{words}. Associations only: nothing here says what causes what. q is over all of them. Exploratory."


def _plots(trend: Mapping[str, Any], residuals: Mapping[str, Any], endpoint: str) -> list[TrendPlot]:
    points = residuals["points"]
    name = trend["number"]
    sides = [("raw", "scores", endpoint), ("residual", "residuals", f"residual of the {endpoint}")]
    plots = []
    for key, values, label in sides:
        one = trend[key]
        if one is None:
            continue
        x, y = (np.array(column, dtype=np.float64) for column in (points["numbers"][name], points[values]))
        known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        if not len(known):
            continue
        if len(known) > _MOST_POINTS:
            known = known[np.linspace(0, len(known) - 1, _MOST_POINTS).round().astype(int)]
        title = f"{label[:1].upper()}{label[1:]} against {name}"
        words = _words(one)
        picture = scatter(
            [Points("patients", 0, x[known], y[known])], (name, label), title, words, line=one["line"], height=150.0
        )
        plots.append(TrendPlot(title, words, picture))
    return plots


def _words(one: Mapping[str, Any]) -> str:
    q = p_value(one["q"])
    told = "" if one["q"] is None else f", q {q}" if q.startswith("<") else f", q = {q}"
    return f"Rank correlation {_correlation(one)}, {counted(one['patients'], 'patient')}{told}."


def _correlation(one: Mapping[str, Any]) -> str:
    ends = interval(one["low"], one["high"], 2, sign=True)
    return signed(one["spearman"], 2) + (f" ({ends})" if ends else "")


def _trend_row(trend: Mapping[str, Any]) -> list[str]:
    raw, residual = trend["raw"], trend["residual"]
    cells = [trend["number"], number(raw["patients"], 0), _correlation(raw), p_value(raw["q"])]
    return [*cells, *((_correlation(residual), p_value(residual["q"])) if residual else (MISSING, MISSING))]
