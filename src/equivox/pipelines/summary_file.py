"""The JSON file that says what a command found: how it begins, and how it is written."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equivox import __version__
from equivox.atomic import write_text


def summary_head(schema_version: int = 1) -> dict[str, Any]:
    """Return what every summary begins with: its version, that of Equivox, and when it was made."""
    return {
        "schema_version": schema_version,
        "equivox_version": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary of plain values, as people may read it.

    Raises:
        ValueError: If a number is not finite, which JSON cannot say.
    """
    write_text(path, json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
