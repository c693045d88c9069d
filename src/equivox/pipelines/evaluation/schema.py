"""What `summary.json` holds, as a JSON Schema for programs that read it."""

import json
from importlib.resources import files
from typing import Any

SCHEMA_VERSION = 1
"""Rises when a key goes away or changes its meaning; keys may be added at any time."""


def summary_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `summary.json`.

    Example:
        >>> summary_schema()["properties"]["schema_version"]
        {'const': 1}
    """
    text = files("equivox.pipelines.evaluation").joinpath("summary.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
