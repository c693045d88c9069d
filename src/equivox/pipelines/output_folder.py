"""The folder that a command is to make: refused before any work where it could not be made, or is someone else's."""

import os
from collections.abc import Collection
from pathlib import Path

from equivox.atomic import remove_remains_of, require_writable
from equivox.errors import InputError


def prepare_output_folder(
    out: Path, *, what: str, marks: Collection[str], files: Collection[str], overwrite: bool
) -> None:
    """Refuse a folder in use, unless it is an earlier result of the same kind that may be replaced, and clear remains.

    Only such a result is ever replaced, whatever `overwrite` says, and only where nothing else lies in it. Where the
    folder may be made, what runs that were killed while they wrote it left beside it a day ago or more is removed.

    Args:
        out: The folder to make.
        what: What it holds, with its article, such as ``an evaluation``.
        marks: Files that tell such a result.
        files: All files and folders that it may hold.
        overwrite: Whether an earlier result may be replaced.

    Raises:
        InputError: If it may not be made.
    """
    if out.is_symlink():
        msg = f"{out}: expected a folder, got a link; name the folder that it leads to with --out"
        raise InputError(msg)
    # It takes its name when everything is written, and takes the place of what is there.
    require_writable(out.absolute().parent if out.exists() else out)
    if out.exists():
        _refuse_in_use(out, what, marks, files, overwrite=overwrite)
    remove_remains_of(out.absolute())


def _refuse_in_use(out: Path, what: str, marks: Collection[str], files: Collection[str], *, overwrite: bool) -> None:
    noun = what.partition(" ")[2]
    if out.resolve() == Path.cwd() or os.path.ismount(out):
        got = "the folder that you are in" if out.resolve() == Path.cwd() else "the root of a disk"
        msg = f"{out}: expected a folder that can be replaced, got {got}; name one inside it, {out / noun} say"
        raise InputError(msg)
    held = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    is_earlier = set(marks) <= held
    others = sorted(held - set(files))
    if is_earlier and others:
        msg = f"{out}: expected nothing beside the earlier {noun}, got {others[0]}; move it, or choose another --out"
        raise InputError(msg)
    if is_earlier and not overwrite:
        msg = f"{out}: expected a new folder, got an earlier {noun}; add --overwrite to replace it"
        raise InputError(msg)
    if held and not is_earlier:
        msg = f"{out}: expected a new folder, got one in use by something else; choose another with --out"
        raise InputError(msg)
