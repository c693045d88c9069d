"""Plots of the page."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from equivox.reports.plots import (
    COLOURS,
    DotRow,
    axis_marks,
    interval_mark,
    marker,
    nice_axis,
    palette,
    scatter_plot,
    strip_plot,
)


def _row(name: str = "a", count: int = 3, style: int | None = 0) -> DotRow:
    rng = np.random.default_rng(count)
    return DotRow(
        name, style, list(range(count)), rng.uniform(0.3, 0.9, count), rng.uniform(1, 50, count), 0.6, 0.5, 0.7, 0.62
    )


@pytest.mark.parametrize(
    ("low", "high"), [(0.61, 0.93), (0.0, 1.0), (-0.1, 0.1), (0.5, 0.5), (3.0, 240.0), (0.8123, 0.8129)]
)
def test_axis_holds_its_values_between_its_ends(low, high) -> None:
    axis = nice_axis(low, high)
    assert axis.low <= low + 1e-9
    assert axis.high >= high - 1e-9
    assert len(axis.ticks) >= 2
    # Ticks must not read alike.
    assert len({f"{tick:.{axis.places}f}" for tick in axis.ticks}) == len(axis.ticks)


def test_every_case_is_one_mark() -> None:
    rows = [_row("a", 7), _row("b", 5, 1), _row("unknown", 2, None)]
    for svg in (
        strip_plot(rows, nice_axis(0, 1), "Dice", "t", "d"),
        scatter_plot(rows, nice_axis(0, 1), ("v", "Dice"), "t", "d"),
    ):
        paths = re.findall(r'data-cases="([\d ]+)" d="([^"]+)"', str(svg))
        assert [len(cases.split()) for cases, _ in paths] == [7, 5, 2]
        assert [path.count("M") for _, path in paths] == [7, 5, 2]


def test_no_two_of_the_first_49_groups_share_colour_and_shape() -> None:
    assert len({(style % COLOURS, marker(style, 3)) for style in range(49)}) == 49


def test_marks_of_a_swarm_stay_in_their_row_and_keep_their_score() -> None:
    row = DotRow("a", 0, list(range(4000)), np.full(4000, 0.5), np.ones(4000))
    svg = str(strip_plot([row], nice_axis(0, 1), "Dice", "t", "d"))
    height = float(re.search(r'viewBox="0 0 \d+ (\d+)"', svg)[1])
    places = [tuple(map(float, found)) for found in re.findall(r"M([\d.]+) ([\d.]+)m", svg)]
    assert len(places) == 4000
    assert len({x for x, _ in places}) == 1
    assert all(0 < y < height for _, y in places)


def test_interval_beyond_the_axis_ends_in_an_arrow() -> None:
    axis = nice_axis(-0.1, 0.1)
    whole = str(interval_mark(axis, 0.0, -0.05, 0.05, "w"))
    cut = str(interval_mark(axis, 0.0, -0.9, 0.05, "w"))
    assert whole.count("M0-4v8") == 2
    assert cut.count("M0-4v8") == 1
    assert "M7-4l-7 4 7 4" in cut


def test_point_without_interval_is_hollow() -> None:
    assert "hollow" in interval_mark(nice_axis(0, 1), 0.5, None, None, "w")
    assert "path" not in interval_mark(nice_axis(0, 1), None, None, None, "w")


def test_plots_are_well_formed_and_name_themselves_with_hostile_group_names() -> None:
    rows = [_row('<script>"&', 3), _row("x" * 300, 2, 1)]
    for svg in (
        strip_plot(rows, nice_axis(0, 1), "<b>", "<i>&", "d&"),
        scatter_plot(rows, nice_axis(0, 1), ("<", "&"), "<i>", "d"),
    ):
        root = ElementTree.fromstring(str(svg))  # noqa: S314  our own text
        assert root.get("role") == "img"
        assert [child.tag for child in root[:2]] == ["title", "desc"]
        assert not list(root.iter("script"))


def test_cases_without_a_volume_have_a_column_of_their_own() -> None:
    row = DotRow("a", 0, [0, 1, 2], np.array([0.5, 0.6, 0.7]), np.array([0.0, 10.0, np.nan]))
    svg = str(scatter_plot([row], nice_axis(0, 1), ("v", "Dice"), "t", "d"))
    assert ">none</text>" in svg
    xs = [float(x) for x in re.findall(r"M([\d.]+) [\d.]+m", svg)]
    assert xs[0] == xs[2] < xs[1]


def _luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("which", "paper"), [(0, "#ffffff"), (1, "#14171a")])
def test_marks_have_a_contrast_of_three_to_one_to_their_page(which, paper) -> None:
    for pair in palette().values():
        light, dark = sorted((_luminance(pair[which]), _luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3


def test_crowded_tick_labels_leave_every_second_one_out_and_keep_zero() -> None:
    crowded = axis_marks(nice_axis(-0.36, 0.36, ticks=4), sign=True)
    assert re.findall(r">([^<>]+)</text>", crowded) == ["−0.50", "0", "+0.50"]
    assert crowded.count("<line x1=") == 1 + 5
    roomy = axis_marks(nice_axis(-0.1, 0.1, ticks=3), sign=True)
    assert re.findall(r">([^<>]+)</text>", roomy) == ["−0.1", "0", "+0.1"]
