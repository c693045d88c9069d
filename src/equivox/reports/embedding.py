"""Data in the page, where nothing in them can be taken for markup."""

import json
import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup


def embedded_json(value: Any) -> Markup:
    r"""Return JSON that can stand inside a script element: nothing in it can end the element or open a comment.

    Example:
        >>> print(embedded_json({"id": "</script><!--"}))
        {"id":"\u003c/script\u003e\u003c!--"}
    """
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  what could end the element was replaced above


def finite(value: Any) -> Any:
    """Return plain values with None where a number is not finite, which JSON cannot say."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
