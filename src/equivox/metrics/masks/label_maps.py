"""Label maps as scores take them: what is refused, and the boxes to which the work on each class can be cropped."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage

from equivox.errors import InputError

Box = tuple[slice, ...]

# ndimage.find_objects makes a list as long as the largest index; larger ones are looked for one by one.
_LARGEST_LISTED_INDEX: Final = 65_535


def check_maps(reference: np.ndarray, prediction: np.ndarray) -> None:
    """Refuse what is no pair of label maps.

    Raises:
        InputError: If they are not integer arrays (i, j, k) of one shape.
    """
    for what, labels in (("reference", reference), ("prediction", prediction)):
        if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
            msg = (
                f"{what}: expected an integer array (i, j, k), got {labels.dtype} of shape {labels.shape}; "
                "round the labels, and give a 2D image one voxel along k"
            )
            raise InputError(msg)
    if reference.shape != prediction.shape:
        msg = (
            f"prediction: expected the shape of the reference, {reference.shape}, got {prediction.shape}; "
            "resample it to the reference's grid"
        )
        raise InputError(msg)


def check_lengths(spacing_mm: Sequence[float], tolerance_mm: float) -> None:
    """Refuse voxel sides that are not three positive numbers, and a tolerance below 0.

    Raises:
        InputError: If one of them is.
    """
    if len(spacing_mm) != 3 or not all(math.isfinite(side) and side > 0 for side in spacing_mm):
        msg = (
            f"spacing_mm: expected three positive numbers, got {tuple(spacing_mm)}; mend the header, or give 1, 1, 1 "
            "for distances in voxels"
        )
        raise InputError(msg)
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        msg = f"tolerance_mm: expected a number of at least 0, got {tolerance_mm}; give for example 2"
        raise InputError(msg)


def extended_axes(shape: tuple[int, ...]) -> list[int]:
    """Return the axes along which the image has an extent: those of more than one voxel, but at least two."""
    by_size = sorted(range(3), key=lambda axis: (shape[axis] == 1, axis))
    return sorted(by_size[: max(2, sum(side > 1 for side in shape))])


def class_boxes(labels: Integer[np.ndarray, "i j k"], indices: Sequence[int]) -> dict[int, Box | None]:
    """Return the bounding box of each class, or None for a class that the label map lacks."""
    boxes: dict[int, Box | None] = dict.fromkeys(indices)
    listed = [index for index in indices if 1 <= index <= _LARGEST_LISTED_INDEX]
    foreground = _bounding_box(labels)
    if listed and foreground is not None:
        # It walks along the last axis; files are stored with the first one running fastest.
        turned = labels.flags.f_contiguous and not labels.flags.c_contiguous
        part = labels[foreground].T if turned else labels[foreground]
        for index, box in enumerate(ndimage.find_objects(part, max_label=listed[-1]), 1):
            if index in boxes:
                boxes[index] = _shift(box if box is None or not turned else box[::-1], foreground)
    for index in set(indices) - set(listed):
        boxes[index] = _bounding_box(labels == index)
    return boxes


def union(boxes: Sequence[Box]) -> Box:
    """Return the smallest box that holds all of one or more boxes."""
    sides = zip(*boxes, strict=True)
    return tuple(slice(min(side.start for side in axis), max(side.stop for side in axis)) for axis in sides)


def _bounding_box(
    values: Integer[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k"],
) -> Box | None:
    """Return the smallest box that holds every value other than 0, or None if there is none."""
    plane: Bool[np.ndarray, "i j"] = np.asarray(values.any(axis=2))
    if not plane.any():
        return None
    first, second = _extent(plane, 1), _extent(plane, 0)
    return first, second, _extent(values[first, second], (0, 1))


def _extent(values: Integer[np.ndarray, "..."] | Bool[np.ndarray, "..."], across: int | tuple[int, ...]) -> slice:
    """Return the first to the last place along the one axis that `across` leaves where a value is not 0."""
    hits = np.flatnonzero(np.asarray(values.any(axis=across)))
    return slice(int(hits[0]), int(hits[-1]) + 1)


def _shift(box: Box | None, origin: Box) -> Box | None:
    if box is None:
        return None
    pairs = zip(box, origin, strict=True)
    return tuple(slice(side.start + start.start, side.stop + start.start) for side, start in pairs)
