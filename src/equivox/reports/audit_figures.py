"""The plots of `equivox audit` as files for papers: SVG and PNG, drawn with matplotlib."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equivox.reports.audit_page import card_axis, card_lines, component_label, component_points, first_probes
from equivox.reports.paper import SHAPES, figure_text, new_figure, save_figure
from equivox.reports.plots import palette


def write_audit_figures(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write for each attribute its probe beside the controls, and the plot of two principal components.

    Args:
        folder: Made if missing; files of the same names are replaced.
        summary: What `embedding_audit.json` holds.
    """
    shades = [pair[0] for pair in palette().values()]
    for place, record in enumerate(first_probes(summary), 1):
        stem = re.sub(r"[^A-Za-z0-9]+", "-", record["attribute"]).strip("-").lower()[:50] or "attribute"
        if record["done"]:
            _forest(record, folder, f"probe-{stem}-{place}")
        figure, (ax,) = new_figure(9, 7)
        for one in component_points(summary, record["attribute"]):
            style = len(shades) - 1 if one.style is None else one.style
            shape, shade = SHAPES[style % len(SHAPES)], shades[style % len(shades)]
            ax.scatter(one.x, one.y, s=12, marker=shape, color=shade, label=figure_text(one.name), linewidths=0)
        ax.set_xlabel(component_label(summary, 0), fontsize=8)
        ax.set_ylabel(component_label(summary, 1), fontsize=8)
        ax.set_title(figure_text(record["attribute"]), fontsize=8)
        ax.legend(fontsize=7, frameon=False)
        save_figure(figure, folder, f"components-{stem}-{place}")


def _forest(record: Mapping[str, Any], folder: Path, name: str) -> None:
    lines = card_lines(record)
    axis = card_axis(record)
    figure, (ax,) = new_figure(11, 1.8 + 0.6 * len(lines))
    ax.axvline(record["chance"], color="0.7", linewidth=0.8, linestyle="--")
    for row, (_, score, low, high) in enumerate(lines):
        if low is not None and high is not None:
            ax.plot([low, high], [row, row], color="black", linewidth=1)
        if score is not None:
            ax.plot([score], [row], "s", color="black", markersize=4)
    ax.set_xlim(axis.low, axis.high)
    ax.set_yticks(range(len(lines)), [figure_text(line[0]) for line in lines])
    ax.invert_yaxis()
    ax.set_xlabel(record["score_name"], fontsize=8)
    ax.set_title(figure_text(record["attribute"]), fontsize=8)
    save_figure(figure, folder, name)
