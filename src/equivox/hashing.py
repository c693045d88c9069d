"""The hash that names a file's contents."""

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal.

    Args:
        path: A file, or a folder such as a DICOM series: then the hash covers the names and contents of its files.
    """
    if path.is_dir():
        whole = hashlib.sha256()
        for inner in sorted(p for p in path.rglob("*") if p.is_file()):
            whole.update(f"{inner.relative_to(path).as_posix()}\0{file_sha256(inner)}\n".encode())
        return whole.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
