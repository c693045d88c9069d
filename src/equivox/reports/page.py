"""The report as one HTML file that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from equivox.atomic import write_text
from equivox.reports.overlay import OverlayCase


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

    Args:
        path: The HTML file to write.
        summary: What `summary.json` holds.
        cases: What `cases.csv` holds: one row a case and class.
        groups: What `groups.csv` holds.
        overlays: Cases of the gallery: the worst, median and best.
        figures: Folder for the figures as SVG and PNG and the tables as CSV and LaTeX; not written if None.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("equivox.reports"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    template = environment.get_template("report.html.j2")
    write_text(path, template.render(summary=summary, groups=groups.to_dict("records"), overlays=overlays))
