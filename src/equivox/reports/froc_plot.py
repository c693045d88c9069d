"""The FROC curve as SVG: sensitivity against false positives per patient."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup, escape

from equivox.reports.numbers import Number, number

_LEFT: Final = 46.0
_TOP: Final = 24.0
_WIDTH: Final = 540.0
_PLOT: Final = 482.0
_HEIGHT: Final = 220.0


def froc_plot(froc: Mapping[str, Any], title: str) -> Markup:
    """Return the curve as steps on an axis that doubles, with a mark where the sensitivity is read.

    Between two thresholds there is no operating point, so the curve is level up to the next one. What lies left of the
    first or right of the last point of reading is not drawn.

    Args:
        froc: The part ``froc`` of a summary's lesions.
        title: What a screen reader says first; then come the sensitivities.
    """
    points: Sequence[Number] = froc["points"]
    read: Sequence[Number] = froc["sensitivity"]
    told = ", ".join(f"{number(value, 2)} at {point_text(point)}" for point, value in zip(points, read, strict=True))
    first, last = math.log2(points[0]), math.log2(points[-1])

    def across(rate: Number) -> float:
        return _LEFT + _PLOT * (math.log2(rate) - first) / (last - first)

    def up(value: Number) -> float:
        return _TOP + _HEIGHT * (1 - value)

    parts = ['<text class="label" x="0" y="12">Sensitivity</text>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = f"{up(tick):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT:g}" x2="{_LEFT + _PLOT:g}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 8:g}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:.2f}</text>')
    foot = _TOP + _HEIGHT + 6
    parts.append(f'<line class="axis" x1="{_LEFT:g}" x2="{_LEFT + _PLOT:g}" y1="{foot:g}" y2="{foot:g}"/>')
    for point in points:
        x = f"{across(point):.1f}"
        parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{foot:g}" y2="{foot + 4:g}"/>')
        parts.append(f'<text x="{x}" y="{foot + 19:g}" text-anchor="middle">{point_text(point)}</text>')
    middle = f"{_LEFT + _PLOT / 2:.0f}"
    parts.append(
        f'<text class="label" x="{middle}" y="{foot + 38:g}" text-anchor="middle">False positives per patient</text>'
    )
    before = [value for rate, value in froc["curve"] if rate <= points[0]]
    path = f"M{_LEFT:g} {up(max(before, default=0.0)):.1f}"
    for rate, value in froc["curve"]:
        if points[0] < rate <= points[-1]:
            path += f"H{across(rate):.1f}V{up(value):.1f}"
    parts.append(f'<path class="span" d="{path}H{_LEFT + _PLOT:g}"/>')
    for point, value in zip(points, read, strict=True):
        parts.append(f'<path class="mean" d="M{across(point):.1f} {up(value) - 5:.1f}l5 5-5 5-5-5z"/>')
    return Markup(  # noqa: S704  all text from files is escaped
        f'<svg class="scatter froc" viewBox="0 0 {_WIDTH:g} {foot + 44:.0f}" role="img"><title>{escape(title)}</title>'
        f"<desc>Sensitivity by false positives per patient: {told}.</desc>{''.join(parts)}</svg>"
    )


def point_text(rate: Number) -> str:
    """Write a rate of false positives; below 1 as a fraction where it is one.

    Example:
        >>> point_text(0.125), point_text(2.0), point_text(0.3)
        ('1/8', '2', '0.3')
    """
    if 0 < rate < 1 and (1 / rate).is_integer():
        return f"1/{1 / rate:.0f}"
    return f"{rate:g}"
