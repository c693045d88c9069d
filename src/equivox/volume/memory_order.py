"""The order of an array's voxels in memory.

NIfTI files hold the first axis fastest and torch wants the last one so. A plain copy from the one order to the other
reads a whole cache line for every voxel; copying small tiles is several times faster.
"""

import itertools

import numpy as np
import numpy.typing as npt

_TILE = 16


def in_c_order(array: np.ndarray, dtype: npt.DTypeLike | None = None) -> np.ndarray:
    """Return an array with its last axis fastest, writable and of one type, copied only where it is not so already.

    Args:
        array: Any shape and order.
        dtype: The type to end with; the array's own where None. Converted as `numpy.ndarray.astype` does.

    Returns:
        The array itself, or a C-contiguous copy of the same values.
    """
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    if array.flags.c_contiguous:
        return array if array.flags.writeable and array.dtype == wanted else array.astype(wanted)
    last = array.ndim - 1
    fastest = min(
        (axis for axis in range(array.ndim) if array.shape[axis] > 1), key=lambda axis: abs(array.strides[axis])
    )
    if fastest == last:
        return array.astype(wanted, order="C")
    copy = np.empty(array.shape, wanted)
    tiles = (range(0, array.shape[axis], _TILE) for axis in (fastest, last))
    for first, second in itertools.product(*tiles):
        tile = [slice(None)] * array.ndim
        tile[fastest], tile[last] = slice(first, first + _TILE), slice(second, second + _TILE)
        copy[tuple(tile)] = array[tuple(tile)]
    return copy
