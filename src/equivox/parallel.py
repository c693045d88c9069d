"""One function over many cases, in processes; one failing case never stops the others."""

import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Generic, TypeVar

from equivox.errors import InputError, is_out_of_memory, one_line
from equivox.progress import progress_bar

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of one item: a result, or the reason why there is none.

    Attributes:
        item: What was worked on.
        result: What the function returned; None where it failed.
        error: One line for the user; None where it worked.
        details: The traceback of an unexpected error, for the log; empty where the error was the user's.
    """

    item: Item
    result: Result | None
    error: str | None = None
    details: str = ""


def map_cases(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, description: str
) -> list[Outcome[Item, Result]]:
    """Apply `function` to each item and return the outcomes in the order of the items.

    Args:
        function: A plain picklable function.
        items: Picklable things, one a case.
        workers: Processes to use; 0 or 1 works in this process, which is always valid.
        description: The words before the progress bar.

    Returns:
        One outcome for each item. A worker that the system killed (out of memory, say) is an outcome too.
    """
    outcomes: dict[int, Outcome[Item, Result]] = {}
    with progress_bar() as progress:
        task = progress.add_task(description, total=len(items))
        if workers <= 1 or len(items) <= 1:
            for index, item in enumerate(items):
                outcomes[index] = _attempt(function, item)
                progress.advance(task)
        else:
            # spawn: a forked child of a process that has run torch or ITK threads can hang.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(
                min(workers, len(items)), mp_context=context, initializer=_end_with_parent
            ) as pool:
                futures = {pool.submit(_attempt, function, item): index for index, item in enumerate(items)}
                try:
                    for future in as_completed(futures):
                        index = futures[future]
                        outcomes[index] = _collect(future, items[index])
                        progress.advance(task)
                except BaseException:
                    # Ctrl-C, say: leaving the pool would first wait for every case that is still to come.
                    pool.shutdown(cancel_futures=True)
                    raise
    for outcome in outcomes.values():
        if outcome.details:
            logger.debug("%s", outcome.details)
    return [outcomes[index] for index in range(len(items))]


def _end_with_parent() -> None:
    """Let a worker end when the process that it works for is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def _attempt(function: Callable[[Item], Result], item: Item) -> Outcome[Item, Result]:
    try:
        return Outcome(item, function(item))
    except Exception as error:  # noqa: BLE001 - one bad case must not stop the cohort; the traceback goes to the log
        if isinstance(error, (InputError, OSError)) or is_out_of_memory(error):
            return Outcome(item, None, one_line(error))
        return Outcome(item, None, f"{type(error).__name__}: {one_line(error)}", traceback.format_exc())


def _collect(future: "Future[Outcome[Item, Result]]", item: Item) -> Outcome[Item, Result]:
    try:
        return future.result()
    except BrokenProcessPool:
        message = (
            "the worker process died, most often because memory ran out: try again with fewer workers (--workers 1); "
            "or because a script of yours that starts workers has no 'if __name__ == \"__main__\":'"
        )
        return Outcome(item, None, message)
