"""One command at a time works on a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from equivox.errors import InputError

LOCK = ".lock"


@contextmanager
def locked(folder: Path, command: str = "equivox train") -> Iterator[None]:
    """Keep others out of a folder while the block runs; the system lifts the lock of a killed process.

    Args:
        folder: The run, or another folder that a command fills.
        command: Which one, for the message.

    Raises:
        InputError: If the same command works there already.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        noun = "run" if command == "equivox train" else "folder"
        msg = f"{folder}: expected a {noun} that nobody works on, got one that another '{command}' has open; let it end"
        raise InputError(msg) from None
    try:
        yield
    finally:
        lock.release()
