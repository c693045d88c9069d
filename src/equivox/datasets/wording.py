"""How lists and sizes are written in messages and tables."""

from collections.abc import Iterable, Sequence


def some(names: Iterable[str], limit: int = 5) -> str:
    """Join the first names, and say how many more there are.

    Example:
        >>> some(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    listed = list(names)
    head = ", ".join(listed[:limit])
    return head if len(listed) <= limit else f"{head} and {len(listed) - limit} more"


def times(sides: Sequence[int] | Sequence[float]) -> str:
    """Write sides as text.

    Example:
        >>> times((256, 256, 20)), times((0.9765625, 0.9765625, 3.27))
        ('256 x 256 x 20', '0.977 x 0.977 x 3.27')
    """
    return " x ".join(f"{side:.3g}" if isinstance(side, float) else f"{side:d}" for side in sides)
