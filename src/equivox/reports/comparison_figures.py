"""The figures of `equivox compare` as files for papers: SVG and PNG, drawn with matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from equivox.reports.comparison_page import pair_values, value_axis
from equivox.reports.file_stem import file_stem
from equivox.reports.numbers import metric_text, unit_text
from equivox.reports.paired_plot import FIRST_BETTER, SECOND_BETTER
from equivox.reports.paper import figure_text, new_figure, save_figure
from equivox.reports.plots import palette, style_class

_ACROSS: Final = 4
"""Metrics side by side: as many as the width of a paper's page holds."""

_MARKS: Final = {SECOND_BETTER: "o", FIRST_BETTER: "s", None: "x"}


def write_comparison_figures(folder: Path, *, summary: Mapping[str, Any], patients: pd.DataFrame) -> None:
    """Write for each model against the first its patients and its differences, and the ranking as a heat map.

    Args:
        folder: Made if missing; files of the same names are replaced.
        summary: What `comparison.json` holds.
        patients: What `patients.csv` holds.
    """
    for place, verdict in enumerate(summary["verdicts"], 1):
        stem = file_stem(verdict["second"], "model", 40)
        _paired(folder, f"paired-{place}-{stem}", summary, patients, (verdict["first"], verdict["second"]))
        _forest(folder, f"differences-{place}-{stem}", summary, (verdict["first"], verdict["second"]))
    _heat_map(folder, summary)


def _paired(folder: Path, name: str, summary: Mapping[str, Any], patients: pd.DataFrame, pair: tuple[str, str]) -> None:
    primary = summary["settings"]["primary_endpoint"]
    label = metric_text(primary).label
    axis = value_axis(patients, [model["name"] for model in summary["models"]], primary)
    if axis is None:
        return
    first, second, ahead = pair_values(patients, *pair, primary)
    figure, (ax,) = new_figure(9, 9)
    ax.plot([axis.low, axis.high], [axis.low, axis.high], color="0.5", lw=0.8, ls="--")
    words = {SECOND_BETTER: f"{pair[1]} is better", FIRST_BETTER: f"{pair[0]} is better", None: "the same"}
    for style, inside in ((None, ahead == 0), (FIRST_BETTER, ahead < 0), (SECOND_BETTER, ahead > 0)):
        if inside.any():
            colour = palette()[style_class(style)][0]
            ax.scatter(
                first[inside],
                second[inside],
                s=12,
                c=colour,
                marker=_MARKS[style],
                linewidths=0.6 if style is None else 0,
                label=figure_text(words[style], 30),
                clip_on=False,
            )
    texts = [f"{tick:.{axis.places}f}" for tick in axis.ticks]
    ax.set_xticks(axis.ticks, texts)
    ax.set_yticks(axis.ticks, texts)
    ax.set_xlim(axis.low, axis.high)
    ax.set_ylim(axis.low, axis.high)
    ax.set_aspect("equal")
    ax.spines["left"].set_visible(True)
    ax.set_xlabel(figure_text(f"{label} under {pair[0]}", 60), fontsize=7)
    ax.set_ylabel(figure_text(f"{label} under {pair[1]}", 60), fontsize=7)
    ax.legend(fontsize=6.5, frameon=False, loc="upper left")
    save_figure(figure, folder, name)


def _forest(folder: Path, name: str, summary: Mapping[str, Any], pair: tuple[str, str]) -> None:
    """Draw the differences of all classes together: each metric on an axis of its own, as units differ."""
    tests = [
        test
        for test in summary["tests"]
        if (test["first"], test["second"]) == pair and test["class"] == "all classes" and test["difference"] is not None
    ]
    for page, start in enumerate(range(0, len(tests), _ACROSS), 1):
        _forest_page(folder, f"{name}-{page}", tests[start : start + _ACROSS], pair)


def _forest_page(folder: Path, name: str, tests: Sequence[Mapping[str, Any]], pair: tuple[str, str]) -> None:
    figure, axes = new_figure(18, 3.2, columns=_ACROSS)
    for ax in axes[len(tests) :]:
        ax.set_visible(False)
    for ax, test in zip(axes, tests, strict=False):
        text, unit = metric_text(test["metric"]), unit_text(test["unit"])
        if test["low"] is not None:
            ax.plot([test["low"], test["high"]], [0, 0], color="black", lw=1.2)
        ax.plot(test["difference"], 0, "s" if test["low"] is not None else "D", color="black", ms=4)
        ax.axvline(0, color="0.4", lw=0.8)
        ax.set_yticks([])
        ax.set_ylim(-1, 1)
        ax.margins(x=0.2)
        ax.set_xlabel(f"{text.label}{f' ({unit})' if unit else ''}", fontsize=7)
    figure.suptitle(figure_text(f"{pair[1]} minus {pair[0]}", 70), fontsize=8)
    save_figure(figure, folder, name)


def _heat_map(folder: Path, summary: Mapping[str, Any]) -> None:
    primary = summary["settings"]["primary_endpoint"]
    record = next(one for one in summary["ranking"] if one["metric"] == primary and one["view"] == "mean")
    if not record["probabilities"]:
        return
    order = sorted(range(len(summary["models"])), key=lambda place: record["ranks"][place])
    shares = np.array([record["probabilities"][place] for place in order])
    figure, (ax,) = new_figure(5 + 1.6 * len(order), 2.4 + 0.9 * len(order))
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(shares.shape):
        dark = shares[row, column] > 0.6
        ax.text(
            column,
            row,
            f"{shares[row, column]:.2f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else "black",
        )
    ax.set_xticks(range(len(order)), [str(rank + 1) for rank in range(len(order))])
    ax.set_yticks(range(len(order)), [figure_text(summary["models"][place]["name"], 30) for place in order])
    ax.tick_params(length=0)
    ax.set_xlabel(f"Rank by mean {metric_text(primary).label}: share of resamples", fontsize=7)
    save_figure(figure, folder, "ranking")
