import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from equivox.errors import InputError
from equivox.parallel import lasting_pool, map_cases


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


def threads(_: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def test_workers_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    outcomes = map_cases(threads, [1, 2], workers=2, description="work")
    assert {outcome.result for outcome in outcomes} == {str(max(1, (os.cpu_count() or 1) // 2))}


def test_threads_give_what_processes_give() -> None:
    outcomes = map_cases(work, [1, 2, 3, 4], workers=2, description="work", threads=True)
    assert [outcome.result for outcome in outcomes] == [10, None, None, 40]
    assert "Traceback" in outcomes[2].details


def test_no_items_give_no_outcomes() -> None:
    assert map_cases(work, [], workers=4, description="work") == []


MANY = """
import os, signal, sys, time
from pathlib import Path
from equivox.parallel import lasting_pool, map_cases

def touch(number: int) -> None:
    time.sleep(0.05)
    (Path(sys.argv[1]) / f"{number}-{os.getpid()}").touch()

if __name__ == "__main__":
    # A shell makes what it starts in the background, such as these tests, deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    map_cases(touch, range(200), workers=2, description="work")
"""


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_leaves_the_cases_to_come_and_its_workers_end(tmp_path: Path, number: int) -> None:
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(MANY)
    out.mkdir()
    with subprocess.Popen([sys.executable, str(script), str(out)], stderr=subprocess.DEVNULL) as process:
        assert wait_for(lambda: len(list(out.iterdir())) >= 2)
        process.send_signal(number)
    workers = {int(path.name.partition("-")[2]) for path in out.iterdir()}
    assert wait_for(lambda: not any(is_alive(worker) for worker in workers))
    assert len(list(out.iterdir())) < 100


def interrupted(_: int) -> tuple[bool, bool]:
    """Tell whether Ctrl-C is ignored here, and whether this process is in a group of its own."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN, not hasattr(os, "setsid") or os.getpgid(0) == os.getpid()


def test_a_lasting_pool_leaves_signals_to_the_process_that_it_works_for() -> None:
    with lasting_pool(1) as pool:
        assert list(pool.map(interrupted, [1, 2])) == [(True, True)] * 2
