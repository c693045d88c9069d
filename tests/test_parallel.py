import os
import signal

import pytest

from equivox.errors import InputError
from equivox.parallel import map_cases


def work(number: int) -> int:
    if number == 2:
        raise InputError("two.nii: expected another number,\n got 2; use 3")
    if number == 3:
        raise ZeroDivisionError("by three")
    if number == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * number


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_case_never_stops_the_others(workers: int) -> None:
    outcomes = map_cases(work, [1, 2, 3, 4], workers=workers, description="work")
    assert [outcome.item for outcome in outcomes] == [1, 2, 3, 4]
    assert [outcome.result for outcome in outcomes] == [10, None, None, 40]
    assert outcomes[1].error == "two.nii: expected another number, got 2; use 3"
    assert outcomes[1].details == ""
    assert outcomes[2].error == "ZeroDivisionError: by three"
    assert "Traceback" in outcomes[2].details


def test_a_killed_worker_is_reported_and_not_waited_for() -> None:
    outcomes = map_cases(work, [99, 99], workers=2, description="work")
    assert all("memory ran out" in str(outcome.error) for outcome in outcomes)


def test_no_items_give_no_outcomes() -> None:
    assert map_cases(work, [], workers=4, description="work") == []
