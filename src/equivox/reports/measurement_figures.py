"""The plots of `equivox measure` as files for papers: SVG and PNG, drawn with matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from equivox.reports.file_stem import file_stem
from equivox.reports.measurement_page import MOST_PLOTS, measure_label, points_of, strongest
from equivox.reports.paper import SHAPES, figure_text, new_figure, save_figure
from equivox.reports.plots import palette


def write_measurement_figures(folder: Path, summary: Mapping[str, Any], rows: pd.DataFrame) -> None:
    """Write one scatter plot a structure, continuous attribute and measure: those that the page shows.

    Args:
        folder: Made if missing; files of the same names are replaced.
        summary: What `measurements.json` holds.
        rows: One row a case and structure.
    """
    colours = next((name for name, kind in summary["attributes"].items() if kind == "categorical"), None)
    continuous = [name for name, kind in summary["attributes"].items() if kind == "continuous"]
    shades = [pair[0] for pair in palette().values()]
    for attribute in continuous:
        for measure in ("size", "mean"):
            for place, record in enumerate(strongest(summary, attribute, measure)[:MOST_PLOTS], 1):
                figure, (ax,) = new_figure(9, 7)
                for one in points_of(rows, record["structure"], attribute, measure, colours):
                    style = 0 if one.style is None else one.style
                    shape, shade = SHAPES[style % len(SHAPES)], shades[style % len(SHAPES)]
                    ax.scatter(one.x, one.y, s=12, marker=shape, color=shade, label=figure_text(one.name), linewidths=0)
                if record["smooth"]:
                    ax.plot(*np.array(record["smooth"]).T, color="black", linewidth=1)
                ax.set_xlabel(figure_text(attribute), fontsize=8)
                ax.set_ylabel(figure_text(measure_label(measure, summary)), fontsize=8)
                ax.set_title(figure_text(record["structure"]), fontsize=8)
                if colours is not None:
                    ax.legend(fontsize=7, frameon=False)
                stem = file_stem(f"{attribute}-{measure}-{record['structure']}")
                save_figure(figure, folder, f"{stem}-{place}")
