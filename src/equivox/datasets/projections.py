"""Which classes lie anywhere along each axis of a label."""

import numpy as np
from jaxtyping import Integer, UInt8

PROJECTION_VERSION = 1
"""Counts up when the same label gives other projections."""


def class_projections(label: Integer[np.ndarray, "i j k"]) -> tuple[UInt8[np.ndarray, "classes a b"], ...]:
    """Return for each axis which classes a ray along it meets.

    Args:
        label: Class indices, 0 for background.

    Returns:
        One array of zeros and ones an axis, the label's other two axes in their order after the class. The classes
        end with the largest index that the label has.

    Example:
        >>> along = class_projections(np.array([[[0, 2]]]))
        >>> [one.shape for one in along], along[2][:, 0, 0].tolist()
        ([(3, 1, 2), (3, 1, 2), (3, 1, 1)], [1, 0, 1])
    """
    count = int(label.max(initial=0)) + 1
    found = [np.zeros((count, *np.delete(label.shape, axis)), dtype=np.uint8) for axis in range(3)]
    for index in range(count):
        mask = label == index
        for axis, one in enumerate(found):
            one[index] = mask.any(axis=axis)
    return tuple(found)
