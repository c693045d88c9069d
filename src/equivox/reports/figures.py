"""The figures of the page as files for papers: SVG and PNG, drawn with matplotlib."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import equivox.reports.plots as plots
from equivox.reports.case_list import list_cases
from equivox.reports.file_stem import file_stem
from equivox.reports.numbers import metric_text, metric_unit, size_word, unit_text
from equivox.reports.paper import SHAPES, figure_text, interval_point, new_figure, save_figure, value_ticks
from equivox.reports.tables import write_group_tables
from equivox.reports.views import Scales, dot_rows, make_scales

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_figures(folder: Path, *, summary: Mapping[str, Any], cases: pd.DataFrame, groups: pd.DataFrame) -> None:
    """Write the forest plot, and for each attribute the distribution and the scatter plot, of the headline table.

    Also the tables of groups, see `write_group_tables`.

    Args:
        folder: Made if missing; files of the same names are replaced.
        summary: What `summary.json` holds.
        cases: What `cases.csv` holds.
        groups: What `groups.csv` holds.
    """
    settings = summary["settings"]
    write_group_tables(folder, groups, settings)
    table = next((one for one in summary["tables"] if one["headline"]), None)
    if table is None or not table["attributes"]:
        return
    listed = list_cases(cases, settings)
    scales = make_scales(summary, listed)
    mine = listed if table["role"] == "all" else listed[listed["role"] == table["role"]]
    save_figure(_forest(table, settings, scales), folder, "forest")
    for place, attribute in enumerate(table["attributes"], 1):
        rows, _ = dot_rows(attribute, mine, settings["primary_endpoint"])
        if not any(len(row.index) for row in rows):
            continue
        stem = file_stem(attribute["name"], "attribute", 40)
        save_figure(_distribution(rows, settings, scales), folder, f"distribution-{place}-{stem}")
        save_figure(_scatter(rows, settings, scales), folder, f"scatter-{place}-{stem}")


def _label(settings: Mapping[str, Any]) -> str:
    primary = settings["primary_endpoint"]
    unit = metric_unit(primary, settings)
    return metric_text(primary).label + (f" ({unit})" if unit else "")


def _forest(table: Mapping[str, Any], settings: Mapping[str, Any], scales: Scales) -> "Figure":
    entries: list[tuple[str, Mapping[str, Any] | None, Mapping[str, Any] | None]] = []
    for attribute in table["attributes"]:
        entries.append((figure_text(attribute["name"]), None, None))
        contrasts = {one["group"]: one for one in attribute["contrasts"]}
        for group in attribute["groups"]:
            name = f"{figure_text(group['name'])} (n = {group['patients']})"
            entries.append((name, group, contrasts.get(group["name"])))
    figure, (left, right) = new_figure(18, 1.6 + 0.52 * len(entries), columns=2)
    for row, (_, group, contrast) in enumerate(entries):
        interval_point(left, row, group, "mean", scales.mean)
        interval_point(right, row, contrast, "difference", scales.difference)
    left.axvline(table["overall"][settings["primary_endpoint"]]["mean"] or 0.0, color="0.5", lw=0.8, ls=":")
    right.axvspan(-scales.margin, scales.margin, color="#e7edf3", zorder=0)
    right.axvline(0, color="0.4", lw=0.8)
    left.set_yticks(range(len(entries)), [name for name, _, _ in entries])
    for tick, (_, group, _) in zip(left.get_yticklabels(), entries, strict=True):
        tick.set_fontweight("bold" if group is None else "normal")
    left.set_ylim(len(entries) - 0.4, -0.6)
    level = f"{100 * settings['confidence']:g} %"
    for ax, axis, words in (
        (left, scales.mean, f"Mean {_label(settings)}, {level} interval"),
        (right, scales.difference, f"Difference to the rest, simultaneous {level} interval"),
    ):
        value_ticks(ax, axis)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel(words, fontsize=7)
    return figure


def _distribution(rows: Sequence[plots.DotRow], settings: Mapping[str, Any], scales: Scales) -> "Figure":
    figure, (ax,) = new_figure(9, 1.8 + 1.1 * len(rows))
    random = np.random.default_rng(0)
    for place, row in enumerate(rows):
        heights = place + random.uniform(-0.28, 0.28, len(row.index))
        _marks(ax, row, row.score, heights)
        if row.mean is not None:
            if row.low is not None and row.high is not None:
                ax.plot([row.low, row.high], [place, place], color="black", lw=1.6)
            ax.plot(row.mean, place, "D", mfc="white", mec="black", ms=4)
    ax.set_yticks(range(len(rows)), [f"{figure_text(row.name)}\n(n = {len(row.index)})" for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    value_ticks(ax, scales.score)
    ax.set_xlabel(f"{_label(settings)} of the case, mean over classes", fontsize=7)
    return figure


def _scatter(rows: Sequence[plots.DotRow], settings: Mapping[str, Any], scales: Scales) -> "Figure":
    figure, (ax,) = new_figure(9, 7)
    for row in rows:
        held = np.isfinite(row.volume) & (row.volume > 0)
        if held.any():
            _marks(ax, row, row.volume[held], row.score[held], label=figure_text(row.name, 24))
    held = np.concatenate([row.volume[np.isfinite(row.volume) & (row.volume > 0)] for row in rows])
    if held.size:
        ax.set_xscale("log")
        low, high = math.log10(held.min()) - 0.06, math.log10(held.max()) + 0.06
        marks = plots.log_ticks(low, high)
        ax.set_xlim(10**low, 10**high)
        ax.set_xticks([value for value, _ in marks], [text for _, text in marks])
        ax.set_xticks([], minor=True)
        ax.legend(fontsize=6.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3)
    ax.spines["left"].set_visible(True)
    value_ticks(ax, scales.score, upright=True)
    ax.set_xlabel(f"Reference {size_word(settings)} ({unit_text(settings['volume_unit'])})", fontsize=7)
    ax.set_ylabel(_label(settings), fontsize=7)
    return figure


def _marks(ax: "Axes", row: plots.DotRow, xs: np.ndarray, ys: np.ndarray, label: str | None = None) -> None:
    colour = plots.palette()[plots.style_class(row.style)][0]
    shape = "x" if row.style is None else SHAPES[(row.style + row.style // plots.COLOURS) % len(SHAPES)]
    size = 9 if len(row.index) <= 400 else 3
    edge = 0.6 if row.style is None else 0.0
    ax.scatter(xs, ys, s=size, c=colour, marker=shape, linewidths=edge, alpha=0.8, label=label, clip_on=False)
