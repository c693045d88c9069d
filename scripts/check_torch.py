"""Fail loudly when an installation has replaced torch.

A torchvision that is not pinned asks for a newer torch, and pip then swaps a CPU build for gigabytes of CUDA packages
without a word. `remember` notes the build that is there, `after` compares.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NOTE = Path(sys.prefix) / ".torch-version"


def main(step: str) -> str | None:
    """Run one step; return the complaint, or None."""
    found = _version("torch")
    if step == "before":
        NOTE.unlink(missing_ok=True)
        if found:
            NOTE.write_text(found)
        return None
    if step == "remember":
        before = NOTE.read_text() if NOTE.exists() else found
        if found is None:
            return "torch was not installed; see the messages above"
        if "+cpu" in (before or "") and "+cpu" not in found:
            return f"the CPU build torch {before} was replaced by {found}; check constraints.txt"
        NOTE.write_text(found)
        return None
    expected = NOTE.read_text() if NOTE.exists() else None
    if found != expected:
        return f"torch {expected} was replaced by {found} during the installation; check constraints.txt"
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in {"before", "remember", "after"}:
        sys.exit("usage: check_torch.py before|remember|after")
    sys.exit(main(sys.argv[1]))
