"""Two masks on one grid, cut down to where they are."""

import numpy as np
from jaxtyping import Bool

from equivox.errors import InputError
from equivox.metrics.masks.label_maps import extended_axes


def without_flat_axis(mask: Bool[np.ndarray, "..."], what: str = "mask") -> Bool[np.ndarray, "..."]:
    """Return a mask of two or three axes; one of three axes that is one voxel thick along one of them becomes 2D.

    Args:
        mask: Two or three axes. Of several axes with one voxel, the last one is dropped.
        what: What the mask is, for the error.

    Raises:
        InputError: If it is not a boolean array of two or three axes.

    Example:
        >>> without_flat_axis(np.ones((4, 1, 5), dtype=bool)).shape
        (4, 5)
    """
    if mask.dtype != np.bool_ or mask.ndim not in (2, 3):
        msg = (
            f"{what}: expected a boolean array of two or three axes, got {mask.dtype} of shape {mask.shape}; "
            "compare the labels with one class"
        )
        raise InputError(msg)
    if mask.ndim == 2 or not mask.size:
        return mask
    axes = extended_axes(mask.shape)
    return mask.squeeze(tuple(axis for axis in range(3) if axis not in axes))


def cropped_pair(
    reference: Bool[np.ndarray, "..."], prediction: Bool[np.ndarray, "..."]
) -> tuple[Bool[np.ndarray, "..."], Bool[np.ndarray, "..."]]:
    """Return both masks without a flat axis, cut to the smallest box that holds the voxels of either, as copies.

    If both are empty, the box holds no voxel.

    Raises:
        InputError: If they are not boolean arrays of one shape with two or three axes.

    Example:
        >>> one, other = np.zeros((2, 6, 7), dtype=bool)
        >>> one[2, 3], other[4, 4] = True, True
        >>> [mask.shape for mask in cropped_pair(one, other)]
        [(3, 2), (3, 2)]
    """
    if reference.shape != prediction.shape:
        msg = (
            f"prediction: expected the shape of the reference, {reference.shape}, got {prediction.shape}; "
            "resample it to the reference's grid"
        )
        raise InputError(msg)
    first, second = without_flat_axis(reference, "reference"), without_flat_axis(prediction, "prediction")
    box = _bounding_box(first | second)
    return np.ascontiguousarray(first[box]), np.ascontiguousarray(second[box])


def _bounding_box(mask: Bool[np.ndarray, "..."]) -> tuple[slice, ...]:
    box: list[slice] = []
    for axis in range(mask.ndim):
        # Each axis is looked at within the extent already found, so that the later ones are quick.
        rest = tuple(other for other in range(mask.ndim) if other != axis)
        hits = np.flatnonzero(mask[tuple(box)].any(axis=rest))
        box.append(slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, 0))
    return tuple(box)
