import io
import time

import pytest
from rich.console import Console

from equivox import progress
from equivox.progress import progress_bar, track


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=shown, force_terminal=True, width=100, legacy_windows=False))
    return shown


def frame_with(shown: io.StringIO, text: str) -> str:
    """Wait until a frame has the text, and return the frame up to it."""
    for _ in range(500):
        before, found, _ = shown.getvalue().partition(text)
        if found:
            return before.rpartition("\x1b[2K")[2] + found
        time.sleep(0.01)
    pytest.fail(f"nothing showed {text!r} but {shown.getvalue()!r}")


def test_an_inner_bar_stands_below_the_outer_one_and_goes_when_it_is_done(terminal) -> None:
    with progress_bar() as models:
        task = models.add_task("Models", total=3)
        for _ in track([1, 2], "Steps"):
            assert "Models" in frame_with(terminal, "Steps")
        models.advance(task)
        assert progress._shown == [models]
    assert progress._shown == []
    last = terminal.getvalue().rpartition("\x1b[2K")[2]
    assert "Models" in last
    assert "1/3" in last
    assert "Steps" not in last


def test_a_bar_that_fails_leaves_none_behind(terminal) -> None:
    with pytest.raises(KeyError), progress_bar(), progress_bar():
        raise KeyError("x")
    assert progress._shown == []
    with progress_bar() as again:
        again.add_task("Again", total=1)
    assert "Again" in terminal.getvalue()


def test_names_are_no_markup_and_nothing_to_do_is_no_error(terminal) -> None:
    with progress_bar() as bar:
        bar.add_task("Site [/b] of [red]", total=0)
    assert "Site [/b] of [red]" in terminal.getvalue()


def test_items_that_take_minutes_have_a_remaining_time(terminal) -> None:
    clock = [0.0]
    with progress_bar() as bar:
        bar.get_time = lambda: clock[0]
        task = bar.add_task("Models", total=3)
        bar.advance(task, 0)
        clock[0] = 600.0
        bar.advance(task)
        assert bar.tasks[task].time_remaining == 1200.0


def test_nothing_is_drawn_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=shown))
    assert list(track([1, 2], "Steps")) == [1, 2]
    assert shown.getvalue() == ""
