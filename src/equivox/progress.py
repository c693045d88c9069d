"""A progress bar with an ETA for long work; silent where nobody watches."""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")

console = Console(stderr=True)
"""Where bars and messages go: standard error, so that standard output stays for results. `-q` makes it quiet."""


@contextmanager
def progress_bar(*extra_columns: str) -> Iterator[Progress]:
    """Show a bar with count, elapsed and remaining time while the block runs.

    Args:
        extra_columns: Rich column formats shown after the times, for example ``"loss {task.fields[loss]:.3f}"``.

    Yields:
        The `rich.progress.Progress` to add tasks to. It draws only on a terminal.
    """
    columns = [
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        *(TextColumn(column) for column in extra_columns),
    ]
    with Progress(*columns, console=console, disable=not console.is_terminal or console.quiet) as progress:
        yield progress


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
