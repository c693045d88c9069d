"""The plots of `equivox evaluate-landmarks` as files for papers: SVG and PNG, drawn with matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equivox.reports.landmark_page import landmark_scales
from equivox.reports.paper import figure_text, interval_point, new_figure, save_figure, value_ticks
from equivox.reports.plots import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]


def write_landmark_figures(folder: Path, summary: Record) -> None:
    """Write the curve of errors, and the forest plots of landmarks and of groups where there are any.

    Args:
        folder: Made if missing; files of the same names are replaced.
        summary: What `summary.json` holds.
    """
    scales = landmark_scales(summary)
    save_figure(_curve(summary), folder, "error-curve")
    rows = [(figure_text(one["name"]), one) for one in summary["landmarks"]]
    save_figure(_forest(rows, scales.landmark, summary), folder, "landmarks")
    if summary["attributes"]:
        save_figure(_groups(summary), folder, "groups")


def _curve(summary: Record) -> "Figure":
    unit = summary["settings"]["unit"]
    figure, (ax,) = new_figure(9, 7)
    ax.plot(*zip(*summary["curve"], strict=True), color="black", lw=1.4)
    known = [one for one in summary["overall"]["success"] if one["value"] is not None]
    radii, shares = [one["radius"] for one in known], [one["value"] for one in known]
    ax.plot(radii, shares, "D", mfc="white", mec="black", ms=4)
    ax.spines["left"].set_visible(True)
    ax.set_ylim(0, 1)
    ax.set_xlim(0, summary["curve"][-1][0])
    ax.set_xlabel(f"Distance to the true landmark ({unit})", fontsize=7)
    ax.set_ylabel("Share of landmarks within the distance", fontsize=7)
    return figure


def _forest(rows: Sequence[tuple[str, Record]], axis: Axis, summary: Record) -> "Figure":
    figure, (ax,) = new_figure(10, 1.6 + 0.52 * len(rows))
    for place, (_, record) in enumerate(rows):
        interval_point(ax, place, record, "mean", axis)
    ax.set_yticks(range(len(rows)), [name for name, _ in rows])
    _finish(ax, axis, len(rows), _mean_words(summary))
    return figure


def _groups(summary: Record) -> "Figure":
    settings = summary["settings"]
    entries: list[tuple[str, Record | None]] = []
    for attribute in summary["attributes"]:
        entries.append((figure_text(attribute["name"]), None))
        entries += [
            (f"{figure_text(group['name'])} (n = {group['patients_measured']})", group) for group in attribute["groups"]
        ]
    scales = landmark_scales(summary)
    figure, (left, right) = new_figure(18, 1.6 + 0.52 * len(entries), columns=2)
    for place, (_, group) in enumerate(entries):
        if group is not None:
            interval_point(left, place, group, "mean", scales.mean)
            interval_point(right, place, group["difference"], "difference", scales.difference)
    if settings["margin"] is not None:
        right.axvspan(-settings["margin"], settings["margin"], color="#e7edf3", zorder=0)
    right.axvline(0, color="0.4", lw=0.8)
    left.set_yticks(range(len(entries)), [name for name, _ in entries])
    for tick, (_, group) in zip(left.get_yticklabels(), entries, strict=True):
        tick.set_fontweight("bold" if group is None else "normal")
    _finish(left, scales.mean, len(entries), _mean_words(summary))
    level = f"{100 * settings['confidence']:g} %"
    words = f"Difference to the rest ({settings['unit']}), simultaneous {level} interval"
    _finish(right, scales.difference, len(entries), words)
    return figure


def _mean_words(summary: Record) -> str:
    settings = summary["settings"]
    return f"Mean error ({settings['unit']}), {100 * settings['confidence']:g} % interval"


def _finish(ax: "Axes", axis: Axis, rows: int, words: str) -> None:
    value_ticks(ax, axis)
    ax.set_ylim(rows - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(words, fontsize=7)
