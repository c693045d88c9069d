"""The plots of the page, as SVG that needs no script to be read.

Colours are classes (`c0`, `c1`, ...) that the page's style sheet fills in, so that a plot follows the dark mode.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from markupsafe import Markup, escape

from equivox.reports.numbers import Number

COLOURS: Final = 7
_CUT: Final = 56
_MANY: Final = 1200  # marks are then small and without a rim


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes:
        low: Value at the left or lower end.
        high: Value at the other end.
        ticks: Values to mark.
        places: Decimals of the ticks.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    places: int

    def share(self, value: Number) -> float:
        """Return where a value lies, in [0, 1] for what the axis holds."""
        return (value - self.low) / (self.high - self.low)

    def percent(self, value: Number) -> float:
        """Return where a value lies in percent of the axis, held within it."""
        return round(100 * min(1.0, max(0.0, self.share(value))), 2)


@dataclass(frozen=True, eq=False)
class DotRow:
    """The cases of one group.

    Attributes:
        name: The group, as the table has it.
        style: Place in the order of groups: chooses colour and shape; None for cases of no known group.
        index: Index of each case in the page's list of cases.
        score: The case's score.
        volume: Its reference volume; NaN where unknown.
        mean: Of the group's patients, with interval; None where unknown.
        low: Lower end.
        high: Upper end.
        median: Of the group's patients.
    """

    name: str
    style: int | None
    index: Sequence[int]
    score: Float[np.ndarray, " cases"]
    volume: Float[np.ndarray, " cases"]
    mean: Number | None = None
    low: Number | None = None
    high: Number | None = None
    median: Number | None = None


def nice_axis(
    low: Number, high: Number, *, ticks: int = 5, floor: float | None = None, ceil: float | None = None
) -> Axis:
    """Return an axis with round ticks that holds `low` and `high`, within `floor` and `ceil`.

    Example:
        >>> nice_axis(0.61, 0.93).ticks
        (0.6, 0.7, 0.8, 0.9, 1.0)
    """
    low, high = float(low), float(high)
    if not high > low:
        low, high = low - 0.05, low + 0.05
    raw = (high - low) / max(1, ticks - 1)
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [round(step * k, 10) for k in range(start, stop + 1)]
    if floor is not None:
        marks = [mark for mark in marks if mark >= floor - 1e-9]
    if ceil is not None:
        marks = [mark for mark in marks if mark <= ceil + 1e-9]
    if len(marks) < 2:
        marks = [low, high]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    if not math.isclose(round(step, places), step):
        places += 1
    return Axis(marks[0], marks[-1], tuple(marks), places)


def style_class(style: int | None) -> str:
    """Return the colour class of a group."""
    return "cu" if style is None else f"c{style % COLOURS}"


def marker(style: int | None, radius: Number) -> str:
    """Return a shape around the current point of a path, relative to it."""
    r = f"{radius:g}"
    d = f"{2 * radius:g}"
    shapes = (
        f"m-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0-{d} 0z",  # circle
        f"m-{radius * 0.88:.3g}-{radius * 0.88:.3g}h{radius * 1.76:.3g}v{radius * 1.76:.3g}h-{radius * 1.76:.3g}z",
        f"m0-{radius * 1.2:.3g}l{radius * 1.1:.3g} {radius * 2:.3g}h-{radius * 2.2:.3g}z",  # triangle
        f"m0-{radius * 1.3:.3g}l{radius * 1.2:.3g} {radius * 1.3:.3g}-{radius * 1.2:.3g} {radius * 1.3:.3g}"
        f"-{radius * 1.2:.3g}-{radius * 1.3:.3g}z",  # diamond
        f"m0 {radius * 1.2:.3g}l{radius * 1.1:.3g}-{radius * 2:.3g}h-{radius * 2.2:.3g}z",  # triangle downwards
        f"m-{radius * 0.4:.3g}-{radius * 1.2:.3g}h{radius * 0.8:.3g}v{radius * 0.8:.3g}h{radius * 0.8:.3g}"
        f"v{radius * 0.8:.3g}h-{radius * 0.8:.3g}v{radius * 0.8:.3g}h-{radius * 0.8:.3g}v-{radius * 0.8:.3g}"
        f"h-{radius * 0.8:.3g}v-{radius * 0.8:.3g}h{radius * 0.8:.3g}z",  # plus
        f"m-{radius * 1.2:.3g} 0l{radius * 0.6:.3g}-{radius:.3g}h{radius * 1.2:.3g}l{radius * 0.6:.3g} {radius:.3g}"
        f"-{radius * 0.6:.3g} {radius:.3g}h-{radius * 1.2:.3g}z",  # hexagon
    )
    if style is None:
        a = f"{radius * 0.8:.3g}"
        b = f"{radius * 1.6:.3g}"
        return f"m-{a}-{a}l{b} {b}m0-{b}l-{b} {b}"  # a cross of two lines
    # The shapes shift by one with each round of colours, so that no pair of colour and shape comes twice within 49.
    return shapes[(style + style // COLOURS) % len(shapes)]


def key(style: int | None) -> Markup:
    """Return the mark of a group for a legend or the head of a table's row."""
    return _markup(
        f'<svg class="key {style_class(style)}" width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">'
        f'<path d="M0 0{marker(style, 4.6)}"/></svg>'
    )


def interval_mark(axis: Axis, value: Number | None, low: Number | None, high: Number | None, words: str) -> Markup:
    """Return one row of a forest plot: a point with its interval on an axis that is as wide as the table's cell.

    A point without interval is hollow. What lies beyond the axis ends in an arrow.

    Args:
        axis: Shared by all rows.
        value: The point; nothing is drawn if None.
        low: Lower end of the interval.
        high: Upper end.
        words: What a screen reader says.
    """
    parts = [f'<svg class="mark" role="img" width="100%" height="22"><title>{escape(words)}</title>']
    if value is not None:
        at = axis.percent(value)
        if low is not None and high is not None:
            left, right = axis.percent(low), axis.percent(high)
            parts.append(f'<line class="whisker" x1="{left}%" x2="{right}%" y1="11" y2="11"/>')
            parts.extend(_end(end, axis, place) for end, place in ((low, left), (high, right)))
        shape = "M-4-4h8v8h-8z" if low is not None else "M0-5l5 5-5 5-5-5z"
        kind = "point" if low is not None else "point hollow"
        parts.append(f'<svg x="{at}%" y="11" class="spill"><path class="{kind}" d="{shape}"/></svg>')
    parts.append("</svg>")
    return _markup("".join(parts))


def _end(value: Number, axis: Axis, place: float) -> str:
    if value < axis.low - 1e-9:
        shape = "M7-4l-7 4 7 4"
    elif value > axis.high + 1e-9:
        shape = "M-7-4l7 4-7 4"
    else:
        shape = "M0-4v8"
    return f'<svg x="{place}%" y="11" class="spill"><path class="cap" d="{shape}"/></svg>'


def axis_marks(axis: Axis, *, sign: bool = False) -> Markup:
    """Return the ticks of an axis that is as wide as the table's cell, the labels of its ends held within it.

    Where the labels would run into one another every second one is left out, and 0 keeps its own.
    """
    texts = [tick_text(tick, axis.places, sign) for tick in axis.ticks]
    crowded = sum(len(text) + 1 for text in texts) > _CELL_CHARACTERS
    zero = next((index for index, tick in enumerate(axis.ticks) if tick == 0), 0)
    parts = ['<svg class="ticks" width="100%" height="24" aria-hidden="true"><line x1="0" x2="100%" y1="1" y2="1"/>']
    for index, (tick, text) in enumerate(zip(axis.ticks, texts, strict=True)):
        at = axis.percent(tick)
        anchor = "start" if at < 3 else "end" if at > 97 else "middle"
        parts.append(f'<line x1="{at}%" x2="{at}%" y1="1" y2="5"/>')
        if not crowded or (index - zero) % 2 == 0:
            parts.append(f'<text x="{at}%" y="18" text-anchor="{anchor}">{text}</text>')
    parts.append("</svg>")
    return _markup("".join(parts))


def tick_text(value: float, places: int, sign: bool = False) -> str:
    """Return the label of a tick, with a true minus sign."""
    text = f"{abs(value):.{places}f}"
    if not float(text):
        return "0" if sign else text
    return ("−" if value < 0 else "+" if sign else "") + text


# As many characters, at 11 px, as the narrowest column of a plot holds.
_CELL_CHARACTERS: Final = 21
_WIDTH: Final = 540.0
_LEFT: Final = 8.0
_RIGHT: Final = 12.0


def strip_plot(rows: Sequence[DotRow], axis: Axis, label: str, title: str, description: str) -> Markup:
    """Return every case as a dot, one row a group, and below the dots the mean, interval and median of the patients.

    Args:
        rows: One a group; rows without a case keep their place.
        axis: Of the score.
        label: Of the axis.
        title: What a screen reader says first.
        description: What it says then.
    """
    many = sum(len(row.index) for row in rows) > _MANY
    radius = 1.6 if many else 3.2
    width = _WIDTH - _LEFT - _RIGHT
    body: list[str] = []
    top = 4.0
    for row in rows:
        xs = _LEFT + width * np.clip([axis.share(value) for value in row.score.tolist()], 0, 1)
        offsets = _swarm(xs, 2 * radius + 0.4)
        half = max(11.0, min(38.0, float(np.abs(offsets).max(initial=0.0)) + radius + 2))
        if offsets.size and np.abs(offsets).max() > half - radius:
            offsets = offsets * (half - radius) / np.abs(offsets).max()
        middle = top + 20 + half
        count = f"{len(row.index):,} case{'' if len(row.index) == 1 else 's'}"
        body.append(
            f'<text class="row" x="{_LEFT:g}" y="{top + 13:.0f}">{_short(row.name)}'
            f'<tspan class="n" dx="8">{count}</tspan></text>'
            f'<line class="rule" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
        )
        body.append(_dots(row, xs, middle + offsets, radius))
        body.append(_summary_marks(row, axis, width, middle + half + 5))
        top = middle + half + 15
    grid = "".join(
        f'<line class="grid" x1="{_LEFT + width * axis.share(t):.1f}" x2="{_LEFT + width * axis.share(t):.1f}"'
        f' y1="4" y2="{top:.0f}"/>'
        for t in axis.ticks
    )
    foot = bottom_axis([(axis.share(t), tick_text(t, axis.places)) for t in axis.ticks], label, top, _LEFT, width)
    return figure("strip many" if many else "strip", top + 44, title, description, grid + "".join(body) + foot)


def _summary_marks(row: DotRow, axis: Axis, width: float, level: float) -> str:
    """Return mean, interval and median of a row, below its dots so that they hide none."""
    parts = []
    if row.mean is not None:
        x = _LEFT + width * axis.share(row.mean)
        if row.low is not None and row.high is not None:
            left, right = (_LEFT + width * min(1.0, max(0.0, axis.share(end))) for end in (row.low, row.high))
            parts.append(f'<path class="span" d="M{left:.1f} {level:.1f}H{right:.1f}"/>')
        parts.append(f'<path class="mean" d="M{x:.1f} {level - 5.5:.1f}l4.5 5.5-4.5 5.5-4.5-5.5z"/>')
    if row.median is not None:
        x = _LEFT + width * axis.share(row.median)
        parts.append(f'<path class="median" d="M{x:.1f} {level - 6:.1f}v12"/>')
    return "".join(parts)


def scatter_plot(
    rows: Sequence[DotRow], axis: Axis, labels: tuple[str, str], title: str, description: str, *, height: float = 250.0
) -> Markup:
    """Return score against volume, every case a dot, the volume on a logarithmic axis.

    Cases without a volume above 0 stand in a column of their own at the left.

    Args:
        rows: One a group.
        axis: Of the score.
        labels: Of the volume's and of the score's axis.
        title: What a screen reader says first.
        description: What it says then.
        height: Of the part with the dots.
    """
    many = sum(len(row.index) for row in rows) > _MANY
    radius = 1.6 if many else 3.2
    height = 250.0 if many else height
    left, top = 46.0, 24.0
    volumes = np.concatenate([row.volume for row in rows]) if rows else np.zeros(0)
    held = volumes[np.isfinite(volumes) & (volumes > 0)]
    some_empty = bool(held.size < volumes.size)
    first = left + (38 if some_empty else 8)
    width = _WIDTH - _RIGHT - first
    low, high = (math.log10(held.min()), math.log10(held.max())) if held.size else (0.0, 1.0)
    if high - low < 0.3:
        low, high = low - 0.2, high + 0.2
    ticks = log_ticks(low, high)
    side = [(axis.share(tick), tick_text(tick, axis.places)) for tick in axis.ticks]
    parts = [side_axis(side, labels[1], top, left, _WIDTH - _RIGHT - left, height)]
    for row in rows:
        shares = np.array([axis.share(value) for value in row.score.tolist()])
        ys = top + height * (1 - np.clip(shares, 0, 1))
        known = np.isfinite(row.volume) & (row.volume > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = (np.log10(np.where(known, row.volume, 1.0)) - low) / (high - low)
        xs = np.where(known, first + width * shares, left + 14)
        parts.append(_dots(row, xs, ys, radius))
    marks = [((math.log10(tick) - low) / (high - low), text) for tick, text in ticks]
    foot = bottom_axis(marks, labels[0], top + height + 6, first, width)
    if some_empty:
        foot += f'<text x="{left + 14}" y="{top + height + 26:.0f}" text-anchor="middle">none</text>'
    return figure("scatter many" if many else "scatter", top + height + 50, title, description, "".join(parts) + foot)


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return round values between two powers of ten, with their text.

    Example:
        >>> [text for _, text in log_ticks(0.0, 1.31)]
        ['1', '2', '5', '10', '20']
        >>> [text for _, text in log_ticks(4.14, 4.69)]
        ['15,000', '20,000', '30,000', '40,000']
    """
    width = high - low
    steps: tuple[float, ...] = (1, 1.5, 2, 3, 4, 5, 7) if width < 1 else (1, 2, 5) if width < 2.2 else (1, 3)
    if width >= 3.2:
        steps = (1,)
    values = [digit * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for digit in steps]
    kept = [value for value in values if low - 1e-9 <= math.log10(value) <= high + 1e-9]
    return [(value, f"{value:,.0f}" if value >= 10 else f"{value:g}") for value in kept]


def bottom_axis(marks: Sequence[tuple[float, str]], label: str, top: float, left: float, width: float) -> str:
    """Return a horizontal axis, from its marks (share of the width, text); texts must be safe, the label is escaped."""
    parts = [f'<line class="axis" x1="{left}" x2="{left + width}" y1="{top:.1f}" y2="{top:.1f}"/>']
    for share, text in marks:
        x = left + width * share
        anchor = "end" if share > 0.985 else "start" if share < 0.015 and left < 20 else "middle"
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{top + 4:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + 19:.1f}" text-anchor="{anchor}">{text}</text>')
    parts.append(
        f'<text class="label" x="{left + width / 2:.0f}" y="{top + 38:.0f}" text-anchor="middle">{escape(label)}</text>'
    )
    return "".join(parts)


def side_axis(
    marks: Sequence[tuple[float, str]], label: str, top: float, left: float, width: float, height: float
) -> str:
    """Return a vertical axis as level lines, from its marks (share of the height from below, text); texts must be safe.

    The label stands above the plot and is escaped.
    """
    parts = [f'<text class="label" x="0" y="12">{escape(label)}</text>']
    for share, text in marks:
        y = top + height * (1 - share)
        parts.append(f'<line class="grid" x1="{left:g}" x2="{left + width:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 8:g}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return "".join(parts)


def _dots(row: DotRow, xs: Float[np.ndarray, " n"], ys: Float[np.ndarray, " n"], radius: float) -> str:
    """Return the dots of a group as one path; the script reads where they are from it."""
    if not len(row.index):
        return ""
    shape = marker(row.style, radius)
    path = "".join(f"M{x:.1f} {y:.1f}{shape}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
    cases = " ".join(map(str, row.index))
    return f'<path class="dots {style_class(row.style)}" data-cases="{cases}" d="{path}"/>'


def _swarm(xs: Float[np.ndarray, " n"], size: float) -> Float[np.ndarray, " n"]:
    """Return how far above or below its row's middle each dot stands, so that dots of a like score do not hide."""
    offsets = np.zeros(len(xs))
    bins = np.floor(xs / size).astype(np.int64)
    order = np.lexsort((xs, bins))
    start = 0
    for count in np.unique(bins, return_counts=True)[1].tolist():
        ranks = np.arange(count)
        # 0, +1, -1, +2, -2, ...; an even number of dots is centred as well.
        side = np.where(ranks % 2 == 1, (ranks + 1) // 2, -(ranks // 2)) - (0.5 if count % 2 == 0 else 0.0)
        offsets[order[start : start + count]] = side * size
        start += count
    return offsets


def shortened(text: str, most: int = 40) -> str:
    """Return a text of at most so many characters, with an ellipsis where it was cut.

    Example:
        >>> shortened("a long name", 7)
        'a long…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def _short(name: str) -> str:
    return str(escape(shortened(name, _CUT)))


def figure(kind: str, height: float, title: str, description: str, body: str) -> Markup:
    """Return a plot 540 units wide with what a screen reader says of it; the body must be safe."""
    return _markup(
        f'<svg class="{kind}" viewBox="0 0 {_WIDTH:g} {height:.0f}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{body}</svg>"
    )


def _markup(text: str) -> Markup:
    """Mark SVG as safe; all text from files in it has gone through `escape`."""
    return Markup(text)  # noqa: S704


def palette() -> Mapping[str, tuple[str, str]]:
    """Return the colour of each class in the light and in the dark page.

    These are the colours of Okabe and Ito, darkened or lightened until each has a contrast of 3:1 to its page.
    """
    return {
        "c0": ("#0072b2", "#56b4e9"),
        "c1": ("#d55e00", "#f2873a"),
        "c2": ("#008a66", "#2fc39a"),
        "c3": ("#b3609a", "#dd92bf"),
        "c4": ("#a87400", "#e8b23a"),
        "c5": ("#1590cf", "#8fd0f5"),
        "c6": ("#5b5b5b", "#b4b4b4"),
        "cu": ("#7a7a7a", "#9a9a9a"),
    }
