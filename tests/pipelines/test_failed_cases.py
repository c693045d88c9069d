import logging
from dataclasses import dataclass

import pytest

from equivox.errors import InputError
from equivox.parallel import Outcome
from equivox.pipelines.failed_cases import results_and_failures


@dataclass(frozen=True)
class _Task:
    case_id: str


def _outcomes(**errors: str | None) -> list[Outcome[_Task, int]]:
    return [Outcome(_Task(name), 1 if error is None else None, error) for name, error in errors.items()]


def test_all_results_where_nothing_failed() -> None:
    assert results_and_failures(_outcomes(c0=None, c1=None), done="scored", allow_partial=False) == (
        {"c0": 1, "c1": 1},
        {},
    )


def test_one_failed_case_stops_and_says_how_to_go_on() -> None:
    with pytest.raises(
        InputError, match=r"^case c1: it is torn; or add --allow-partial to leave such cases out and list them$"
    ):
        results_and_failures(_outcomes(c0=None, c1="it is torn"), done="scored", allow_partial=False)


def test_several_failed_cases_are_counted_and_each_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = _outcomes(c0="torn", c1=None, c2="empty")
    with caplog.at_level(logging.ERROR), pytest.raises(InputError) as caught:
        results_and_failures(outcomes, done="scored", allow_partial=False)
    assert str(caught.value).startswith("case c0: torn; ")
    assert str(caught.value).endswith(" (2 of 3 cases have errors, listed above)")
    assert caplog.messages == ["case c0: torn", "case c2: empty"]


def test_an_error_that_is_ours_is_not_called_the_users() -> None:
    outcomes = [Outcome(_Task("c0"), 1), Outcome(_Task("c1"), None, "KeyError: 'x'", "Traceback ...")]
    with pytest.raises(RuntimeError, match=r"case c1: KeyError: 'x'"):
        results_and_failures(outcomes, done="scored", allow_partial=False)


def test_failed_cases_may_be_left_out_with_their_reasons() -> None:
    found = results_and_failures(_outcomes(c0="torn", c1=None), done="measured", allow_partial=True)
    assert found == ({"c1": 1}, {"c0": "could not be measured: torn"})


def test_there_is_nothing_to_go_on_with_where_all_failed() -> None:
    with pytest.raises(InputError, match=r"at least one case that can be measured, got 2 errors"):
        results_and_failures(_outcomes(c0="torn", c1="torn"), done="measured", allow_partial=True)


def test_a_reason_of_many_cases_is_one_line_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = _outcomes(**{f"c{place}": "the worker process died" for place in range(50)}, x="cut short", y=None)
    with caplog.at_level(logging.ERROR):
        results_and_failures(outcomes, done="scored", allow_partial=True)
    assert caplog.messages == ["50 cases (c0, c1, c2 and 47 more): the worker process died", "case x: cut short"]
