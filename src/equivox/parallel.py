"""One function over many cases, in processes; one failing case never stops the others."""

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
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
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, description: str, threads: bool = False
) -> list[Outcome[Item, Result]]:
    """Apply `function` to each item and return the outcomes in the order of the items.

    Args:
        function: A plain picklable function.
        items: Picklable things, one a case.
        workers: Processes to use; 0 or 1 works in this process, which is always valid.
        description: The words before the progress bar.
        threads: Use threads of this process instead. They start at once, where a process first imports for a second:
            for work that takes less than that, and spends its time where Python lets others run (reading, unpacking).

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
            count = min(workers, len(items))
            with ThreadPoolExecutor(count) if threads else _processes(count, _start_worker) as pool:
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


def lasting_pool(workers: int) -> ProcessPoolExecutor:
    """Return processes that wait for work as long as this one lives, for small work that comes again and again.

    Ctrl-C and a scheduler's signals are left to this process: it may need them to finish what it is at.
    """
    return _processes(workers, _start_lasting_worker)


def leave_signals_to_parent() -> None:
    """Let the process that this one works for decide what Ctrl-C and a scheduler's signals to the whole group mean.

    A SIGTERM of its own, by which the parent ends it, still ends this process.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start_lasting_worker(workers: int) -> None:
    leave_signals_to_parent()
    _start_worker(workers)


def _processes(workers: int, start: Callable[[int], None]) -> ProcessPoolExecutor:
    # spawn: a forked child of a process that has run torch or ITK threads can hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=start, initargs=(workers,))


def _start_worker(workers: int) -> None:
    """Make a worker ready: it shares the processors with the others, and ends with the process that it works for."""
    # Read by the libraries when they are loaded, which is later. Without it each worker would start as many threads as
    # there are processors.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    # A worker whose parent is killed would wait for work for ever.
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
