"""The error that a user can mend, and every error in one line."""

import errno


class InputError(ValueError):
    """Something that the user gave cannot be used; the message is one line that says what to do.

    The message has the form ``<file or option>: expected <what was wanted>, got <what came>; <what to do>``.
    The command line prints it and ends with exit code 2. Any other exception is our fault and ends with 1.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: Python's, or torch's on the processor (no error of its own) or a graphics card."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator: " in str(error)
    )


_NO_PERMISSION = "expected a place that you may use, got no permission; change its rights, or choose another place"
_FULL = "expected room to write, got a full disk; free some space, or choose another disk, and run again"
_TOO_MANY = "expected to open one more file, got the system's limit; raise it (ulimit -n 4096), or use fewer --workers"
_SYSTEM_ERRORS = {
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: "expected a place to write to, got a disk that is for reading only; choose another place",
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
    errno.ENOENT: "expected a file or folder, got nothing there; check the path",
    errno.EISDIR: "expected a file, got a folder; check the path",
    errno.ENOTDIR: "expected a folder on the way, got a file; choose another path",
    errno.EEXIST: "expected a folder, got a file in its place; choose another path",
    errno.ELOOP: "expected a file or folder, got a link that leads back to itself; mend the link",
    errno.ENAMETOOLONG: "expected a name that the disk can hold, got one that is too long; shorten it",
}


def one_line(error: BaseException) -> str:
    """Return what went wrong as one line, with what to do where the system's own words do not say it.

    Example:
        >>> one_line(IsADirectoryError(errno.EISDIR, "Is a directory", "plan.yaml"))
        'plan.yaml: expected a file, got a folder; check the path'
    """
    text = " ".join(str(error).split())
    if is_out_of_memory(error):
        # Torch goes on for paragraphs.
        said = text.rpartition("DefaultCPUAllocator: ")[2].partition(". ")[0] or "none left"
        remedy = "use smaller batches, fewer --workers, or a larger machine"
        return f"expected memory enough, got too little ({said}); {remedy}"
    if not isinstance(error, OSError) or error.errno is None:
        return text or type(error).__name__
    path = f"{error.filename}: " if error.filename is not None else ""
    return path + _SYSTEM_ERRORS.get(error.errno, f"{error.strerror}; check the path and the disk, and run again")
