"""The plots of calibration as SVG: reliability by group, and risk against coverage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from equivox.reports.numbers import Number, number
from equivox.reports.plots import bottom_axis, figure, marker, nice_axis, side_axis, style_class, tick_text

_TICKS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
_LEFT, _TOP = 64.0, 26.0


@dataclass(frozen=True)
class Curve:
    """One line of a reliability diagram.

    Attributes:
        name: The group, or what all patients are called.
        style: Place in the order of groups: chooses colour and shape; None for all patients, a plain line in ink.
        points: Probability and frequency of each bin, from left to right.
    """

    name: str
    style: int | None
    points: Sequence[tuple[Number, Number]]


def reliability_plot(curves: Sequence[Curve], title: str) -> Markup:
    """Return frequency against probability, with the line on which the two are the same.

    Args:
        curves: All patients and the groups; those without a point draw nothing.
        title: What a screen reader says first; then come the ends of each curve.
    """
    side = 330.0
    parts = _square(side, "Share of the voxels that are of the class")
    parts.append(f'<path class="diagonal" d="M{_LEFT:g} {_TOP + side:g}L{_LEFT + side:g} {_TOP:g}"/>')
    told = []
    for curve in curves:
        places = [f"{_LEFT + side * x:.1f} {_TOP + side * (1 - y):.1f}" for x, y in curve.points]
        if not places:
            continue
        colour = "" if curve.style is None else f" {style_class(curve.style)}"
        parts.append(f'<path class="curve{colour}" d="M{"L".join(places)}"/>')
        if curve.style is not None:
            shape = marker(curve.style, 3.4)
            parts.append(f'<path class="dots{colour}" d="{"".join(f"M{place}{shape}" for place in places)}"/>')
        middle = min(curve.points, key=lambda point: abs(point[0] - 0.5))
        told.append(f"{curve.name}: {number(middle[1], 2)} where {number(middle[0], 2)} is expected")
    marks = [(tick, tick_text(tick, 2)) for tick in _TICKS]
    foot = bottom_axis(marks, "Probability", _TOP + side + 6, _LEFT, side)
    return _figure(_TOP + side + 50, _LEFT + side + 16, title, f"{'; '.join(told)}.", "".join(parts) + foot)


def coverage_plot(
    curve: Sequence[Sequence[Number]], random: Number, risk_label: str, title: str, description: str
) -> Markup:
    """Return the mean risk of the most confident patients against their share, and the mean of all as a dashed line.

    Args:
        curve: Coverage and risk, from left to right.
        random: The mean risk of all patients: what a confidence that says nothing would give.
        risk_label: Of the vertical axis; the text is escaped.
        title: What a screen reader says first.
        description: What it says then.
    """
    width, height = 464.0, 230.0
    axis = nice_axis(0.0, max([risk for _, risk in curve] + [random, 0.02]), floor=0.0)
    side = [(axis.share(tick), tick_text(tick, axis.places)) for tick in axis.ticks]
    parts = [side_axis(side, risk_label, _TOP, _LEFT, width, height)]
    level = _TOP + height * (1 - axis.share(random))
    parts.append(f'<path class="diagonal" d="M{_LEFT:g} {level:.1f}H{_LEFT + width:g}"/>')
    places = [f"{_LEFT + width * x:.1f} {_TOP + height * (1 - axis.share(y)):.1f}" for x, y in curve]
    parts.append(f'<path class="curve" d="M{"L".join(places)}"/>')
    if len(places) == 1:
        parts.append(f'<path class="mean" d="M{places[0]}m0-5l5 5-5 5-5-5z"/>')
    marks = [(tick, f"{100 * tick:g} %") for tick in _TICKS]
    foot = bottom_axis(
        marks, "Share of the patients that is kept, the most confident first", _TOP + height + 6, _LEFT, width
    )
    return figure("scatter", _TOP + height + 50, title, description, "".join(parts) + foot)


def _square(side: float, label: str) -> list[str]:
    parts = [side_axis([(tick, tick_text(tick, 2)) for tick in _TICKS], label, _TOP, _LEFT, side, side)]
    for tick in _TICKS:
        x = f"{_LEFT + side * tick:.1f}"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP:g}" y2="{_TOP + side:g}"/>')
    return parts


def _figure(height: float, width: float, title: str, description: str, body: str) -> Markup:
    return Markup(  # noqa: S704  all text from files is escaped
        f'<svg class="scatter reliability" viewBox="0 0 {width:g} {height:.0f}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{body}</svg>"
    )
