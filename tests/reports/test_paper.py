"""Figures for papers."""

import pytest

from equivox.reports.paper import figure_text, interval_point, new_figure, value_ticks
from equivox.reports.plots import Axis

AXIS = Axis(0.5, 1.0, (0.5, 0.75, 1.0), 2)


def test_point_has_its_interval_cut_at_the_axis() -> None:
    _, (ax,) = new_figure(9, 7)
    interval_point(ax, 3, {"mean": 0.7, "low": 0.2, "high": 0.9}, "mean", AXIS)
    line, point = ax.get_lines()
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.5, 0.9], [3, 3])
    assert (list(point.get_xdata()), point.get_marker()) == ([0.7], "s")


def test_point_without_an_interval_is_another_mark_and_no_number_draws_nothing() -> None:
    _, (ax,) = new_figure(9, 7)
    interval_point(ax, 0, {"mean": 0.7, "low": None, "high": None}, "mean", AXIS)
    assert [line.get_marker() for line in ax.get_lines()] == ["D"]
    interval_point(ax, 1, {"mean": None}, "mean", AXIS)
    interval_point(ax, 2, None, "mean", AXIS)
    assert len(ax.get_lines()) == 1


@pytest.mark.parametrize("upright", [True, False])
def test_ticks_are_those_of_the_page_with_a_true_minus(upright: bool) -> None:
    _, (ax,) = new_figure(9, 7)
    value_ticks(ax, Axis(-0.5, 0.5, (-0.5, 0.0, 0.5), 1), upright=upright)
    labels, limits = (ax.get_yticklabels(), ax.get_ylim()) if upright else (ax.get_xticklabels(), ax.get_xlim())
    assert [label.get_text() for label in labels] == ["−0.5", "0.0", "0.5"]
    assert limits == (-0.5, 0.5)


def test_text_is_cut_and_no_dollar_opens_mathematics() -> None:
    assert figure_text("a long name of $5", 12) == "a long name…"
    assert figure_text("$5") == r"\$5"
