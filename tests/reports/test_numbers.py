"""Numbers of the report."""

import pytest

from equivox.reports.numbers import decimals, interval, number, signed
from equivox.reports.views import metric_row


@pytest.mark.parametrize(
    ("kind", "ends", "expected"),
    [
        ("fraction", (0.80, 0.88), 2),
        ("fraction", (0.84, 0.855), 3),
        ("fraction", (0.1, 0.9), 2),
        ("distance", (3.10, 3.20), 2),
        ("volume", (0.028, 0.031), 3),
        ("distance", (3.1, 5.9), 1),
        ("distance", (2.0, 40.0), 0),
        ("volume", (-120.0, 340.0), 0),
    ],
)
def test_digits_are_those_that_the_interval_supports(kind, ends, expected) -> None:
    assert decimals(kind, sum(ends) / 2, *ends) == expected


@pytest.mark.parametrize(
    ("value", "ends", "expected"),
    [
        (-0.04, (-0.3, 0.2), 2),
        (0.004, (0.0, 0.5), 3),
        (0.3, (-12.0, 14.0), 1),
        (0.001, (-0.01, 0.014), 3),
        # A digit of the value takes over three decimals, or there is none.
        (0.0001, (-0.3, 0.2), 1),
        (0.0, (-0.3, 0.2), 1),
    ],
)
def test_a_value_does_not_read_as_zero_beside_an_end_that_is_none(value, ends, expected) -> None:
    assert decimals("volume", value, *ends) == expected
    # Scores keep the digits that their intervals support.
    assert decimals("fraction", 0.001, -0.03, 0.02) == 2


def test_the_digits_of_a_signed_error_fit_each_other() -> None:
    record = {
        **{"mean": -0.04, "low": -0.3, "high": 0.2, "median": 0.1304, "median_low": 0.125, "median_high": 0.137},
        **{"worst_decile": 0.21, "worst_decile_low": 0.1, "worst_decile_high": 0.5, "patients": 24},
        **{"cases_used": 24, "cases_both_empty": 0, "cases_penalised": 0},
    }
    row = metric_row("volume_error", "all classes", record, {"volume_unit": "ml"})
    assert (row.mean.text, row.mean.interval) == ("−0.04", "−0.30 to +0.20")
    assert (row.median.text, row.worst_decile.text) == ("+0.130", "±0.21")
    # By its own interval the median has three digits and the worst decile one.
    wide = metric_row("volume_error", "all classes", record | {"mean": -0.14}, {"volume_unit": "ml"})
    assert (wide.mean.text, wide.median.text, wide.worst_decile.text) == ("−0.1", "+0.13", "±0.2")


def test_a_value_that_rounds_to_zero_has_no_sign() -> None:
    assert number(-0.004, 2) == "0.00"
    assert signed(-0.004, 2) == signed(0.004, 2) == "0.00"


def test_what_is_unknown_is_a_dash() -> None:
    assert number(None, 2) == number(float("nan"), 2) == "–"
    assert interval(None, None, 2) == ""


def test_negative_numbers_have_a_true_minus_sign() -> None:
    assert interval(-0.08, -0.01, 2, sign=True) == "−0.08 to −0.01"
