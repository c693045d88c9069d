"""The cumulative curve of errors as SVG: the share of landmarks within each distance."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from equivox.reports.numbers import Number, number
from equivox.reports.plots import bottom_axis, figure, nice_axis, side_axis, tick_text

_LEFT: Final = 46.0
_TOP: Final = 24.0
_PLOT: Final = 482.0
_HEIGHT: Final = 220.0


def error_curve_plot(
    curve: Sequence[Sequence[Number]], success: Sequence[Mapping[str, Any]], unit: str, title: str
) -> Markup:
    """Return the curve, with a mark at each radius of success.

    Args:
        curve: Pairs of a distance and the share of landmarks within it, both rising.
        success: The part ``success`` of a record of the summary.
        unit: Of the distances.
        title: What a screen reader says first; then come the shares at the radii.
    """
    told = ", ".join(f"{number(one['value'], 2)} within {one['radius']:g} {unit}" for one in success)
    last = float(curve[-1][0])
    axis = nice_axis(0.0, last, ticks=7, floor=0.0)
    ticks = [tick for tick in axis.ticks if tick <= last]

    def across(distance: Number) -> float:
        return _LEFT + _PLOT * distance / last

    def up(share: Number) -> float:
        return _TOP + _HEIGHT * (1 - share)

    side = [(tick, tick_text(tick, 2)) for tick in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts = [side_axis(side, "Share of landmarks within the distance", _TOP, _LEFT, _PLOT, _HEIGHT)]
    path = "L".join(f"{across(distance):.1f} {up(share):.1f}" for distance, share in curve)
    parts.append(f'<path class="span" d="M{path}"/>')
    known = [(across(one["radius"]), up(one["value"])) for one in success if one["value"] is not None]
    parts += [f'<path class="mean" d="M{x:.1f} {y - 5:.1f}l5 5-5 5-5-5z"/>' for x, y in known]
    marks = [(tick / last, tick_text(tick, axis.places)) for tick in ticks]
    foot = bottom_axis(marks, f"Distance to the true landmark ({unit})", _TOP + _HEIGHT + 6, _LEFT, _PLOT)
    return figure("scatter curve", _TOP + _HEIGHT + 50, title, f"Share of landmarks: {told}.", "".join(parts) + foot)
