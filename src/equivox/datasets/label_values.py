"""Which values a label map holds, and how often."""

import numpy as np
from jaxtyping import Integer

_SMALL_RANGE = 2**16


def count_values(labels: Integer[np.ndarray, "*shape"]) -> dict[int, int]:
    """Return value -> number of voxels, in rising order of the values.

    Example:
        >>> count_values(np.array([0, 255, 255]))
        {0: 1, 255: 2}
    """
    if labels.size == 0:
        return {}
    low, high = int(labels.min()), int(labels.max())
    if high - low < _SMALL_RANGE:
        # A label map has few values: counting beats sorting all voxels.
        shifted = labels.ravel() if low == 0 else labels.ravel().astype(np.int64) - low
        counts = np.bincount(shifted)
        return {low + int(index): int(counts[index]) for index in np.flatnonzero(counts)}
    values, numbers = np.unique(labels, return_counts=True)
    return {int(value): int(number) for value, number in zip(values, numbers, strict=True)}
