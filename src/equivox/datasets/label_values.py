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
        # A label map has few values: counting beats sorting. Slab by slab, as the counting takes 8 bytes a voxel.
        counts = np.zeros(high - low + 1, dtype=np.int64)
        for slab in np.atleast_1d(labels):
            counts += np.bincount(np.ravel(slab).astype(np.int64) - low, minlength=counts.size)
        return {low + int(index): int(counts[index]) for index in np.flatnonzero(counts)}
    values, numbers = np.unique(labels, return_counts=True)
    return {int(value): int(number) for value, number in zip(values, numbers, strict=True)}
