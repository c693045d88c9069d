"""The FROC curve as SVG: sensitivity against false positives per patient."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from equivox.reports.numbers import Number, number
from equivox.reports.plots import bottom_axis, figure, side_axis, tick_text

_LEFT: Final = 46.0
_TOP: Final = 24.0
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

    side = [(tick, tick_text(tick, 2)) for tick in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts = [side_axis(side, "Sensitivity", _TOP, _LEFT, _PLOT, _HEIGHT)]
    before = [value for rate, value in froc["curve"] if rate <= points[0]]
    path = f"M{_LEFT:g} {up(max(before, default=0.0)):.1f}"
    for rate, value in froc["curve"]:
        if points[0] < rate <= points[-1]:
            path += f"H{across(rate):.1f}V{up(value):.1f}"
    parts.append(f'<path class="span" d="{path}H{_LEFT + _PLOT:g}"/>')
    for point, value in zip(points, read, strict=True):
        parts.append(f'<path class="mean" d="M{across(point):.1f} {up(value) - 5:.1f}l5 5-5 5-5-5z"/>')
    marks = [((across(point) - _LEFT) / _PLOT, point_text(point)) for point in points]
    parts.append(bottom_axis(marks, "False positives per patient", _TOP + _HEIGHT + 6, _LEFT, _PLOT))
    description = f"Sensitivity by false positives per patient: {told}."
    return figure("scatter froc", _TOP + _HEIGHT + 50, title, description, "".join(parts))


def point_text(rate: Number) -> str:
    """Write a rate of false positives; below 1 as a fraction where it is one.

    Example:
        >>> point_text(0.125), point_text(2.0), point_text(0.3)
        ('1/8', '2', '0.3')
    """
    if 0 < rate < 1 and (1 / rate).is_integer():
        return f"1/{1 / rate:.0f}"
    return f"{rate:g}"
