"""Numbers of the report."""

import pytest

from equivox.reports.numbers import decimals, interval, number, signed


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


def test_a_value_that_rounds_to_zero_has_no_sign() -> None:
    assert number(-0.004, 2) == "0.00"
    assert signed(-0.004, 2) == signed(0.004, 2) == "0.00"


def test_what_is_unknown_is_a_dash() -> None:
    assert number(None, 2) == number(float("nan"), 2) == "–"
    assert interval(None, None, 2) == ""


def test_negative_numbers_have_a_true_minus_sign() -> None:
    assert interval(-0.08, -0.01, 2, sign=True) == "−0.08 to −0.01"
