"""One training at a time works on a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from equivox.errors import InputError

LOCK = ".lock"


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other trainings out of a run folder while the block runs; the system lifts the lock of a killed process.

    Raises:
        InputError: If another training works there.
    """
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        msg = f"{run}: expected a run that nobody works on, got one that another 'equivox train' has open; let it end"
        raise InputError(msg) from None
    try:
        yield
    finally:
        lock.release()
