"""A progress bar with an ETA for long work; silent where nobody watches."""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Final, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")

console = Console(stderr=True)
"""Where bars and messages go: standard error, so that standard output stays for results. `-q` makes it quiet."""

# One item may take minutes: rich would forget it after half a minute, and never have two to tell a speed from.
_REMEMBERED_SECONDS: Final = 24 * 3600.0

_shown: list[Progress] = []


@contextmanager
def progress_bar(*extra_columns: str) -> Iterator[Progress]:
    """Show a bar with count, elapsed and remaining time while the block runs.

    Bars may be nested: that of an inner block stands below the outer one, and is gone when its block ends.

    Args:
        extra_columns: Rich column formats shown after the times, for example ``"loss {task.fields[loss]:.3f}"``.

    Yields:
        The `rich.progress.Progress` to add tasks to. It draws only on a terminal.

    Example:
        >>> with progress_bar() as models, progress_bar() as steps:
        ...     task = models.add_task("Models", total=3)
        ...     models.advance(task)
        >>> models.tasks[task].completed
        1
    """
    columns = [
        # Names of cases and sites are no markup.
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        *(TextColumn(column) for column in extra_columns),
    ]
    silent = not console.is_terminal or console.quiet
    progress = Progress(*columns, console=console, disable=silent, speed_estimate_period=_REMEMBERED_SECONDS)
    if silent:
        yield progress
        return
    _shown.append(progress)
    try:
        if len(_shown) > 1:
            yield progress
            return
        # The terminal has room for one live display: it shows all bars that are there.
        with Live(get_renderable=_bars, console=console, refresh_per_second=10):
            yield progress
    finally:
        _shown.remove(progress)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items while a progress bar counts them.

    Args:
        items: What to go through.
        description: The words before the bar.
        total: How many there are, where `items` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar() as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _bars() -> Group:
    return Group(*(progress.get_renderable() for progress in _shown))
