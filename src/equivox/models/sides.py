"""Which image sides a network with fixed downsampling can take."""

from collections.abc import Sequence
from math import prod


def side_divisors(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return what each side of the image must be divisible by, given the strides of all stages.

    Example:
        >>> side_divisors([(1, 1, 1), (1, 2, 2), (2, 2, 2)])
        (2, 4, 4)
    """
    return tuple(prod(axis) for axis in zip(*strides, strict=True))


def require_sides(network: str, sides: Sequence[int], divisors: Sequence[int]) -> None:
    """Refuse an image whose sides do not fit, naming the padded sides that would.

    Args:
        network: Name of the network, for the message.
        sides: Spatial sides of the image, in voxels.
        divisors: What each side must be divisible by.

    Raises:
        ValueError: If a side is not divisible.
    """
    if len(sides) != len(divisors):
        msg = f"{network}: expected an image of {len(divisors)} spatial axes, got {len(sides)}: {tuple(sides)}"
        raise ValueError(msg)
    if any(side % divisor for side, divisor in zip(sides, divisors, strict=True)):
        padded = tuple(-(-side // divisor) * divisor for side, divisor in zip(sides, divisors, strict=True))
        msg = f"{network}: expected spatial sides divisible by {tuple(divisors)}, got {tuple(sides)}; pad to {padded}"
        raise ValueError(msg)
