"""Each patient under one model against the same patient under another, as SVG that needs no script to be read."""

from typing import Final

import numpy as np
from jaxtyping import Float
from markupsafe import Markup, escape

from equivox.reports.plots import Axis, bottom_axis, figure, marker, style_class, tick_text

FIRST_BETTER: Final = 1
SECOND_BETTER: Final = 0
"""Styles of the marks; a patient with twice the same score has a cross."""

_LEFT, _TOP, _SIDE = 64.0, 26.0, 400.0
_MANY: Final = 1200


def paired_plot(
    first: Float[np.ndarray, " patients"],
    second: Float[np.ndarray, " patients"],
    ahead: Float[np.ndarray, " patients"],
    axis: Axis,
    labels: tuple[str, str],
    title: str,
    description: str,
) -> Markup:
    """Return every patient as a mark, on two axes of one scale with the line of equal scores.

    Args:
        first: One value a patient, from the first model; NaN for none, as for the second: such a patient has no mark.
        second: From the second model.
        ahead: Above 0 where the second model is the better one, below where the first is, 0 where neither.
        axis: Of both.
        labels: Of the horizontal axis, the first model, and of the vertical one.
        title: What a screen reader says first.
        description: What it says then.
    """
    radius = 1.8 if len(first) > _MANY else 3.4
    parts = [f'<text class="label" x="0" y="13">{escape(labels[1])}</text>']
    for tick in axis.ticks:
        share = axis.share(tick)
        x, y = _LEFT + _SIDE * share, _TOP + _SIDE * (1 - share)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _SIDE}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + _SIDE}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick_text(tick, axis.places)}</text>')
    parts.append(f'<path class="diagonal" d="M{_LEFT} {_TOP + _SIDE}L{_LEFT + _SIDE} {_TOP}"/>')
    known = np.isfinite(first) & np.isfinite(second)
    for style, inside in ((None, ahead == 0), (FIRST_BETTER, ahead < 0), (SECOND_BETTER, ahead > 0)):
        places = np.flatnonzero(known & inside)
        if not len(places):
            continue
        shape = marker(style, radius)
        path = "".join(
            f"M{_LEFT + _SIDE * _within(axis, first[place]):.1f} "
            f"{_TOP + _SIDE * (1 - _within(axis, second[place])):.1f}{shape}"
            for place in places
        )
        cases = " ".join(map(str, places.tolist()))
        parts.append(f'<path class="dots {style_class(style)}" data-cases="{cases}" d="{path}"/>')
    marks = [(axis.share(tick), tick_text(tick, axis.places)) for tick in axis.ticks]
    foot = bottom_axis(marks, labels[0], _TOP + _SIDE + 6, _LEFT, _SIDE)
    return figure("scatter", _TOP + _SIDE + 50, title, description, "".join(parts) + foot)


def _within(axis: Axis, value: float) -> float:
    return axis.percent(float(value)) / 100
