"""Figures for papers: an empty one, its text, and its files."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from equivox.atomic import atomic_path
from equivox.reports.numbers import Number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CENTIMETRE: Final = 1 / 2.54


def save_figure(figure: "Figure", folder: Path, name: str) -> None:
    """Write a figure as SVG and PNG; the same numbers give the same files.

    Args:
        figure: What to write.
        folder: Where to.
        name: Of both files, without suffix.
    """
    import matplotlib as mpl

    # Text stays text.
    with mpl.rc_context({"svg.hashsalt": "equivox", "svg.fonttype": "none"}):
        for suffix in ("svg", "png"):
            with atomic_path(folder / f"{name}.{suffix}") as temporary:
                metadata = {"Date": None} if suffix == "svg" else {}
                figure.savefig(temporary, dpi=300, metadata=metadata, bbox_inches="tight")


def new_figure(width_cm: Number, height_cm: Number, columns: int = 1) -> tuple["Figure", list["Axes"]]:
    """Return an empty figure and its plots side by side, in the manner of the page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_cm * _CENTIMETRE, height_cm * _CENTIMETRE), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, sharey=columns > 1, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(labelsize=7, length=2.5)
    return figure, list(axes)


def figure_text(text: str, most: int = 40) -> str:
    """Return text that matplotlib prints as it is: a dollar would open mathematics."""
    short = text if len(text) <= most else text[: most - 1] + "…"
    return short.replace("$", r"\$")
