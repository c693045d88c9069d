"""A scatter plot with linear axes and a smooth line, as SVG that needs no script to be read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from equivox.reports.plots import Axis, bottom_axis, figure, marker, nice_axis, side_axis, style_class, tick_text


@dataclass(frozen=True, eq=False)
class Points:
    """The points of one group.

    Attributes:
        name: The group.
        style: Place in the order of groups: chooses colour and shape; None for no known group.
        x: One number a point.
        y: One number a point.
    """

    name: str
    style: int | None
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]


def scatter(
    groups: Sequence[Points],
    labels: tuple[str, str],
    title: str,
    description: str,
    *,
    line: Sequence[Sequence[float]] = (),
    height: float = 210.0,
) -> Markup:
    """Return a scatter plot; points outside of no axis, as the axes hold them all.

    Args:
        groups: One or more groups with a point.
        labels: Of the horizontal and of the vertical axis.
        title: What a screen reader says first.
        description: What it says then.
        line: Points of a smooth line.
        height: Of the plot without its axis.
    """
    xs, ys = (np.concatenate([getattr(one, name) for one in groups]) for name in ("x", "y"))
    across, up = nice_axis(float(xs.min()), float(xs.max()), ticks=6), nice_axis(float(ys.min()), float(ys.max()))
    left, top, width = 64.0, 22.0, 464.0
    side = [(up.share(tick), tick_text(tick, up.places)) for tick in up.ticks]
    parts = [side_axis(side, labels[1], top, left, width, height)]

    def place(x: float, y: float) -> str:
        return f"{left + width * across.share(x):.1f} {top + height * (1 - up.share(y)):.1f}"

    radius = 1.8 if len(xs) > 600 else 3.2
    for one in groups:
        shape = marker(one.style, radius)
        path = "".join(f"M{place(x, y)}{shape}" for x, y in zip(one.x.tolist(), one.y.tolist(), strict=True))
        parts.append(f'<path class="dots {style_class(one.style)}" d="{path}"/>')
    held = [place(x, y) for x, y in line if _within(up, y)]
    if len(held) > 1:
        parts.append(f'<path class="smooth" d="M{"L".join(held)}"/>')
    marks = [(across.share(tick), tick_text(tick, across.places)) for tick in across.ticks]
    foot = bottom_axis(marks, labels[0], top + height + 6, left, width)
    return figure("scatter", top + height + 50, title, description, "".join(parts) + foot)


def _within(axis: Axis, value: float) -> bool:
    return axis.low <= value <= axis.high
