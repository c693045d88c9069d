"""Where calibration is looked at: near the structure, and at the edge of the reference."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from equivox.errors import InputError
from equivox.metrics.masks.label_maps import Box, check_lengths
from equivox.metrics.masks.surface_search import distance_map

FOREGROUND_MM: Final = 5.0
"""How far the foreground region reaches beyond both masks."""

FOREGROUND_VOXELS: Final = 3.0
"""The same where voxel sizes are not real."""

BOUNDARY_MM: Final = 2.0
"""How far the boundary region reaches from the reference's boundary."""

BOUNDARY_VOXELS: Final = 1.0
"""The same where voxel sizes are not real."""


def near_mask(
    mask: Bool[np.ndarray, "i j k"], spacing_mm: Sequence[float], within_mm: float
) -> Bool[np.ndarray, "i j k"]:
    """Return the voxels whose centre is no further than a distance from that of the nearest voxel of a mask.

    Args:
        mask: An empty one has nothing near it.
        spacing_mm: Voxel sides along i, j, k.
        within_mm: The distance, 0 or more; a voxel exactly so far away is near.

    Raises:
        InputError: If a length is none.

    Example:
        >>> mask = np.zeros((5, 1, 1), dtype=bool)
        >>> mask[1] = True
        >>> near_mask(mask, (2.0, 1.0, 1.0), 4.0)[:, 0, 0].tolist()
        [True, True, True, True, False]
    """
    _check(spacing_mm, within_mm)
    if not mask.any():
        return np.zeros_like(mask)
    # The distance map has the precision of float32.
    near: Bool[np.ndarray, "i j k"] = distance_map(mask, spacing_mm) <= within_mm * (1 + 1e-6)
    return near


def near_boundary(
    reference: Bool[np.ndarray, "i j k"], spacing_mm: Sequence[float], within_mm: float
) -> Bool[np.ndarray, "i j k"]:
    """Return the voxels on both sides of the boundary of a mask.

    These are the voxels that share a face with a voxel on the other side, and those whose centre is no further than a
    distance from that of a voxel on the other side. The first ones are there however thick the slices are. What lies
    outside of the image is not known, so its border is no boundary.

    Args:
        reference: A mask that is empty, or fills the image, has no boundary.
        spacing_mm: Voxel sides along i, j, k.
        within_mm: The distance, 0 or more.

    Raises:
        InputError: If a length is none.

    Example:
        >>> mask = np.zeros((6, 1, 1), dtype=bool)
        >>> mask[:3] = True
        >>> near_boundary(mask, (1.0, 1.0, 1.0), 2.0)[:, 0, 0].tolist()
        [False, True, True, True, True, False]
    """
    _check(spacing_mm, within_mm)
    if not reference.any() or reference.all():
        return np.zeros_like(reference)
    near = np.where(
        reference, near_mask(~reference, spacing_mm, within_mm), near_mask(reference, spacing_mm, within_mm)
    )
    faces = ndimage.generate_binary_structure(3, 1)
    across = ndimage.binary_dilation(reference, faces) & ~ndimage.binary_erosion(reference, faces, border_value=1)
    found: Bool[np.ndarray, "i j k"] = near | across
    return found


def widened(box: Box, shape: tuple[int, ...], spacing_mm: Sequence[float], by_mm: float) -> Box:
    """Return a box that reaches further by a distance and by one voxel or more on each side, within the image.

    Args:
        box: The box.
        shape: Of the image.
        spacing_mm: Voxel sides.
        by_mm: The distance.

    Raises:
        InputError: If the box has another number of axes than the image.
    """
    if len(box) != len(shape):
        msg = f"box: expected {len(shape)} axes, got {len(box)}; give one side for each axis of the image"
        raise InputError(msg)
    more = [1 + math.ceil(by_mm / side) for side in spacing_mm]
    return tuple(
        slice(max(0, side.start - far), min(length, side.stop + far))
        for side, far, length in zip(box, more, shape, strict=True)
    )


def _check(spacing_mm: Sequence[float], within_mm: float) -> None:
    check_lengths(spacing_mm, 0.0)
    if not (math.isfinite(within_mm) and within_mm >= 0):
        msg = f"within_mm: expected a number of at least 0, got {within_mm}; give for example {FOREGROUND_MM:g}"
        raise InputError(msg)
