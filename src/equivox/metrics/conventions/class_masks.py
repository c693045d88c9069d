"""One class of one case, measured once for every tool whose convention is asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from equivox.metrics.masks.boundary import boundary_distances
from equivox.metrics.masks.empty import Outcome, outcome_of
from equivox.metrics.masks.label_maps import class_boxes, extended_axes, union


class VoxelCounts(NamedTuple):
    """The voxels of a class in the reference, in the prediction, and in both."""

    reference: int
    prediction: int
    both: int


class BoundaryDistances(NamedTuple):
    """The distance from each boundary voxel to the nearest one of the other mask."""

    from_reference: Float[np.ndarray, " reference_voxels"]
    from_prediction: Float[np.ndarray, " prediction_voxels"]


@dataclass(frozen=True, eq=False)
class ClassMasks:
    """The two masks of one class, cropped to what they cover together.

    Attributes:
        class_name: The class.
        reference: Two or three axes; without a voxel where both masks are empty.
        prediction: Of the same shape.
        spacing_mm: Voxel sides along these axes, in mm.
    """

    class_name: str
    reference: Bool[np.ndarray, "..."]
    prediction: Bool[np.ndarray, "..."]
    spacing_mm: tuple[float, ...]

    @cached_property
    def counts(self) -> VoxelCounts:
        """The voxels of either mask and of both."""
        masks = self.reference, self.prediction, self.reference & self.prediction
        return VoxelCounts(*(int(np.count_nonzero(mask)) for mask in masks))

    @property
    def outcome(self) -> Outcome:
        """In both masks, in one, or in neither."""
        return outcome_of(self.counts.reference, self.counts.prediction)

    @cached_property
    def distances(self) -> BoundaryDistances:
        """The distances between the boundaries in mm, with the precision of float32; neither mask may be empty."""
        return BoundaryDistances(*boundary_distances(self.reference, self.prediction, self.spacing_mm))

    @cached_property
    def in_voxels(self) -> "ClassMasks":
        """The same masks with voxels of side 1."""
        ones = (1.0,) * len(self.spacing_mm)
        return self if self.spacing_mm == ones else replace(self, spacing_mm=ones)


def class_masks(
    reference: Integer[np.ndarray, "i j k"],
    prediction: Integer[np.ndarray, "i j k"],
    *,
    classes: Mapping[str, int],
    spacing_mm: Sequence[float],
) -> Iterator[ClassMasks]:
    """Yield the two masks of each class, in the order of `classes`.

    An image with one voxel along an axis is 2D: that axis is left out.

    Args:
        reference: Class indices, as `score_case` takes them.
        prediction: Class indices on the same grid.
        classes: Name to index.
        spacing_mm: Voxel sides along i, j, k in mm.
    """
    indices = sorted(set(classes.values()))
    boxes = class_boxes(reference, indices), class_boxes(prediction, indices)
    axes = extended_axes(reference.shape)
    flat = tuple(axis for axis in range(3) if axis not in axes)
    spacing = tuple(float(spacing_mm[axis]) for axis in axes)
    for name, index in classes.items():
        found = [box for box in (boxes[0][index], boxes[1][index]) if box is not None]
        if found:
            window = union(found)
            masks = [np.ascontiguousarray(labels[window] == index).squeeze(flat) for labels in (reference, prediction)]
        else:
            masks = [np.zeros((0,) * len(axes), dtype=bool)] * 2
        yield ClassMasks(name, masks[0], masks[1], spacing)


def background_counts(
    reference: Integer[np.ndarray, "i j k"], prediction: Integer[np.ndarray, "i j k"], indices: Sequence[int]
) -> VoxelCounts:
    """Return the voxels that are of no class, in the reference, in the prediction, and in both.

    Args:
        reference: Class indices.
        prediction: Class indices on the same grid.
        indices: Those of the classes.
    """
    outside = np.isin(reference, indices, invert=True), np.isin(prediction, indices, invert=True)
    return VoxelCounts(*(int(np.count_nonzero(mask)) for mask in (*outside, outside[0] & outside[1])))
