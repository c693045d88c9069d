"""The heat maps of `equivox cross-site` as files for papers: SVG and PNG, drawn with matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equivox.reports.cross_site_page import heat_rows, metric_head
from equivox.reports.paper import figure_text, new_figure, save_figure
from equivox.reports.plots import palette


def write_cross_site_figures(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write one heat map a metric, as the page shows it: numbers in the cells, colour by the difference to home.

    Args:
        folder: Made if missing; files of the same names are replaced.
        summary: What `cross_site.json` holds.
    """
    from matplotlib.colors import LinearSegmentedColormap

    better, worse = palette()["c0"][0], palette()["c1"][0]
    colours = LinearSegmentedColormap.from_list("sites", [worse, "#ffffff", better])
    sites = [one["site"] for one in summary["sites"]]
    for place, metric in enumerate(summary["metrics"]):
        rows = heat_rows(summary, place)
        signs = {"better": 1, "worse": -1, "same": 0}
        shares = np.array([[signs[cell.tone] * cell.share / 100 for cell in row.cells] for row in rows])
        figure, (ax,) = new_figure(4 + 2.2 * len(sites), 2.2 + 0.95 * len(rows))
        ax.imshow(shares, cmap=colours, vmin=-1, vmax=1, aspect="auto")
        for down, row in enumerate(rows):
            for across, cell in enumerate(row.cells):
                text = cell.text + (f"\n{cell.against}" if cell.against else "")
                weight = "bold" if cell.home else "normal"
                ax.text(across, down, text, ha="center", va="center", fontsize=7, fontweight=weight)
        ax.set_xticks(range(len(sites)), [figure_text(site, 16) for site in sites], fontsize=7)
        ax.set_yticks(range(len(rows)), [figure_text(row.name) for row in rows], fontsize=7)
        ax.set_xlabel("tested at", fontsize=8)
        ax.set_ylabel("trained on", fontsize=8)
        ax.set_title(figure_text(metric_head(metric), 60), fontsize=8)
        save_figure(figure, folder, f"matrix_{metric['metric']}")
