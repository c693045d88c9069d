"""Outputs appear whole or not at all."""

import errno
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from equivox.errors import InputError

_DAY_S = 24 * 3600
# Of other programs that take the same name at the same moment; more of them is something else.
_MOST_RIVALS = 100
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its name only when the block ends well.

    The temporary name keeps every suffix of `path` (`.nii.gz`), as writers choose the format by it. Missing parent
    folders are made. If the block raises, the temporary file is removed and an older `path` stays as it was.

    Args:
        path: The file to write.

    Yields:
        The path to write to.

    Example:
        >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path, path.parent):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-", suffix="-" + path.name)
    os.close(handle)
    temporary = Path(name)
    try:
        with _named(path, temporary):
            yield temporary
        # A file that mkstemp made is for its owner alone: give it the mode that a plain open would have given.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        with _named(path, temporary):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give a temporary folder beside `path` that takes its name only when the block ends well.

    Where several programs do so at once the folder is one of theirs and never a mixture: that of the last to end, or
    without `replace` that of the first.

    Args:
        path: The folder to make.
        replace: Replace what is there then as a whole; else only an empty folder is.

    Yields:
        The folder to fill.

    Raises:
        InputError: Without `replace`, if the folder is there and holds anything when the block has ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path, path.parent):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".partial-" + path.name + "-"))
    try:
        with _named(path, temporary):
            yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        if replace:
            for _ in range(_MOST_RIVALS):
                if _took_place(temporary, path):
                    break
            else:
                raise FileExistsError(errno.EEXIST, "others write there too", str(path))
        else:
            _take_free_name(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_free_name(temporary: Path, path: Path) -> None:
    with suppress(OSError):
        path.rmdir()  # Only an empty folder goes, which not every system lets another replace.
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno not in _IN_THE_WAY:
            raise
        msg = (
            f"{path}: expected a folder that is still new, got one that another run has filled meanwhile; choose "
            "another --out, or add --overwrite to replace it"
        )
        raise InputError(msg) from None


def _took_place(temporary: Path, path: Path) -> bool:
    """Put a folder in the place of another; False where a third program came in between, and all is as it was."""
    if not path.exists():
        try:
            temporary.rename(path)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            return False
        return True
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=".old-" + path.name + "-"))
    try:
        path.rename(old / path.name)
        temporary.rename(path)
    except BaseException as error:
        # Where the old one could not be moved, or nothing took its place, it stays what it was.
        if not path.exists() and (old / path.name).exists():
            (old / path.name).rename(path)
        came_between = isinstance(error, FileNotFoundError) and temporary.exists()
        if not came_between and not (isinstance(error, OSError) and error.errno in _IN_THE_WAY):
            raise
        return False
    finally:
        shutil.rmtree(old)
    return True


@contextmanager
def _named(path: Path, temporary: Path) -> Iterator[None]:
    """Let errors of the system name the file that was meant, and not a temporary one or, as a full disk does, none."""
    try:
        yield
    except OSError as error:
        named = error.filename is not None and not str(error.filename).startswith(str(temporary))
        if error.errno is None or named:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_remains(folder: Path) -> None:
    """Remove what killed programs left half written in a folder: `atomic_path`'s and `atomic_folder`'s temporaries.

    Younger ones than a day may belong to a program that is still at work, and stay.

    Args:
        folder: It need not exist.
    """
    _remove_old((*folder.glob(".partial-*"), *folder.glob(".old-*")))


def remove_remains_of(path: Path) -> None:
    """Remove what killed programs left of one folder that `atomic_folder` was to make, and of no other beside it.

    Younger remains than a day stay, and so does an earlier folder that was moved away where none has its place now.

    Args:
        path: The folder to make; neither it nor the folder that it is to lie in need exist.
    """
    # What tempfile puts behind the name has eight characters.
    own = glob.escape(path.name) + "-" + "?" * 8
    moved = path.parent.glob(f".old-{own}") if path.exists() else ()
    _remove_old((*path.parent.glob(f".partial-{own}"), *moved))


def _remove_old(remains: Iterable[Path]) -> None:
    for one in remains:
        # Another program may clear up at the same time, or they are someone else's.
        with suppress(OSError):
            if one.stat().st_mtime >= time.time() - _DAY_S:
                continue
            if one.is_dir():
                shutil.rmtree(one, ignore_errors=True)
            else:
                one.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be made or written to, before the work whose results go there.

    Args:
        folder: It need not exist.

    Raises:
        InputError: If a file is in the way, or the rights are missing.
    """
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        msg = f"{folder}: expected a folder to write to, got the file {nearest} on the way; choose another --out"
        raise InputError(msg)
    if not os.access(nearest, os.W_OK | os.X_OK):
        msg = f"{folder}: expected a folder to write to, got no permission in {nearest}; choose another --out"
        raise InputError(msg)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
