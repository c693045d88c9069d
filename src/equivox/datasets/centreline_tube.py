"""Tubes round the centrelines of a label map, for losses that ask whether these are found."""

from typing import Final

import cc3d
import numpy as np
from jaxtyping import Integer
from scipy import ndimage

from equivox.skeleton import skeleton

TUBE_VERSION: Final = 1
"""Raised whenever the same label map gives other tubes than before: stored ones are then made anew."""
_RADIUS: Final = 2


def centreline_tubes(
    label: Integer[np.ndarray, "i j k"], slice_axis: int | None = None
) -> Integer[np.ndarray, "i j k"]:
    """Return the label map within two voxels (counted along the axes) of its centrelines, 0 elsewhere.

    The centreline is that of all classes as one mask, so that a lesion makes no hole in the one of its organ. A piece
    of a class that it misses has a centreline of its own: every piece of a class has a tube of that class.

    Args:
        label: Class indices, 0 for none.
        slice_axis: Each slice across it has centrelines of its own, as a network sees them that works slice by slice;
            None takes those of the volume.

    Example:
        Of a bar of 3 x 3 x 12 voxels, the middle of each slice and the voxels round it, and no corner of the first.

        >>> label = np.zeros((5, 5, 14), dtype=np.uint8)
        >>> label[1:4, 1:4, 1:13] = 1
        >>> tubes = centreline_tubes(label)
        >>> int(tubes[2, 2, 6]), int(tubes[1, 1, 6]), int(tubes[1, 1, 1])
        (1, 1, 0)

    References:
        Kirchhoff et al., "Skeleton Recall Loss for Connectivity Conserving and Resource Efficient Segmentation of Thin
        Tubular Structures", ECCV 2024. Ours: pieces that the centreline of the whole misses.
    """
    tubes = np.zeros_like(label)
    if slice_axis is None:
        boxes = ndimage.find_objects((label > 0).astype(np.uint8))
        if boxes:
            box = boxes[0]
            tubes[box] = _tubes(label[box])
    else:
        pairs = zip(np.moveaxis(label, slice_axis, 0), np.moveaxis(tubes, slice_axis, 0), strict=True)
        for plane, target in pairs:
            target[...] = _tubes(plane)
    return tubes


def _tubes(label: np.ndarray) -> np.ndarray:
    """Return the tubes of a label map of two or three axes."""
    line = skeleton(label > 0)
    tubes: np.ndarray = np.where(_widened(line), label, 0)
    for index in np.unique(label[label > 0]):
        own = label == index
        pieces, count = cc3d.connected_components(own, connectivity=26 if own.ndim == 3 else 8, return_N=True)
        missed = np.setdiff1d(np.arange(1, count + 1), pieces[line])
        if missed.size:
            tubes[_widened(skeleton(np.isin(pieces, missed))) & own] = index
    return tubes


def _widened(line: np.ndarray) -> np.ndarray:
    widened: np.ndarray = ndimage.binary_dilation(line, iterations=_RADIUS) if line.any() else line
    return widened
