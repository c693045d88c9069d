"""The boundary of a mask, voxel by voxel, and the distances between the boundaries of two masks."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from equivox.metrics.masks.surface_search import distance_map


def boundary_distances(
    reference: Bool[np.ndarray, "..."], prediction: Bool[np.ndarray, "..."], spacing_mm: Sequence[float]
) -> tuple[Float[np.ndarray, " reference_voxels"], Float[np.ndarray, " prediction_voxels"]]:
    """Return the distance from the centre of each boundary voxel to the nearest one of the other mask, in mm.

    Both masks need at least one voxel. The border of the array counts as outside.

    Args:
        reference: Two or three axes.
        prediction: Of the same shape.
        spacing_mm: Voxel sides along the axes, in mm.

    Returns:
        From the reference's boundary to the prediction's, and back; with the precision of float32.

    Example:
        >>> one, other = np.zeros((2, 1, 4), dtype=bool)
        >>> one[0, :2], other[0, 3] = True, True
        >>> [distances.tolist() for distances in boundary_distances(one, other, (1.0, 2.0))]
        [[6.0, 4.0], [4.0]]
    """
    first, second = boundary(reference), boundary(prediction)
    forth: np.ndarray = distance_map(second, spacing_mm)[first].astype(np.float64)
    back: np.ndarray = distance_map(first, spacing_mm)[second].astype(np.float64)
    return forth, back


def boundary(mask: Bool[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Return the voxels of the mask that share a face with a voxel outside or with the array's border."""
    padded = np.pad(mask, 1)
    inner = (slice(1, -1),) * mask.ndim
    buried = np.ones_like(mask)
    for axis in range(mask.ndim):
        for step in (slice(None, -2), slice(2, None)):
            buried &= padded[(*inner[:axis], step, *inner[axis + 1 :])]
    edge: np.ndarray = mask & ~buried
    return edge
