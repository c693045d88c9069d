"""Figures for papers: an empty one, its text, its marks, and its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from equivox.atomic import atomic_path
from equivox.reports.numbers import Number
from equivox.reports.plots import Axis, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CENTIMETRE: Final = 1 / 2.54

SHAPES: Final = ("o", "s", "^", "D", "v", "P", "h")
"""Marks of groups, which tell them apart without colour too."""


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


def value_ticks(ax: "Axes", axis: Axis, *, upright: bool = False) -> None:
    """Give a plot the values of one of its axes, those of the page."""
    texts = [f"{tick:.{axis.places}f}".replace("-", "−") for tick in axis.ticks]
    (ax.set_yticks if upright else ax.set_xticks)(axis.ticks, texts)
    (ax.set_ylim if upright else ax.set_xlim)(axis.low, axis.high)


def interval_point(ax: "Axes", row: int, record: Mapping[str, Any] | None, key: str, axis: Axis) -> None:
    """Draw a number with its interval in a row of a forest plot; hollow without an interval, nothing without a number.

    Args:
        ax: The plot.
        row: Its row.
        record: Holds the number, `low` and `high`.
        key: What the number is called there.
        axis: What the interval is cut at.
    """
    if record is None or record.get(key) is None:
        return
    low, high = record.get("low"), record.get("high")
    if low is not None and high is not None:
        ax.plot([max(low, axis.low), min(high, axis.high)], [row, row], color="black", lw=1)
        ax.plot(record[key], row, "s", color="black", ms=3.5)
    else:
        ax.plot(record[key], row, "D", mfc="white", mec="0.4", ms=3.5)


def figure_text(text: str, most: int = 40) -> str:
    """Return text that matplotlib prints as it is: a dollar would open mathematics."""
    return shortened(text, most).replace("$", r"\$")
