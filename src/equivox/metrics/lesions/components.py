"""The lesions of a mask: its connected components, with their sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np
from jaxtyping import Bool, Float, Integer

from equivox.errors import InputError

Connectivity = Literal[6, 18, 26]
"""Which voxels touch: those that share a face (6), an edge as well (18), or a corner as well (26). In an image of one
slice 6 is the 4-connectivity of pixels, and 18 and 26 are both the 8-connectivity."""


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of a mask, numbered from 1 in the order of their first voxel.

    Attributes:
        labels: Number of the component of each voxel; 0 for background.
        voxels: Voxels of each component.
        volume_mm3: Volume of each component; in voxels where the spacing is 1, 1, 1.
        kept: False for a component below the smallest volume: it is set apart, and neither a lesion nor a detection.
    """

    labels: Integer[np.ndarray, "i j k"]
    voxels: Integer[np.ndarray, " components"]
    volume_mm3: Float[np.ndarray, " components"]
    kept: Bool[np.ndarray, " components"]

    def __len__(self) -> int:
        return len(self.voxels)

    @property
    def too_small(self) -> int:
        """Components below the smallest volume."""
        return int(np.count_nonzero(~self.kept))


def connected_components(
    mask: Bool[np.ndarray, "i j k"],
    spacing_mm: Sequence[float],
    *,
    connectivity: Connectivity = 26,
    minimum_volume_mm3: float = 0.0,
) -> Components:
    """Part a mask into its connected components.

    Args:
        mask: One class; a 2D image has one voxel along k. An empty mask has no components.
        spacing_mm: Voxel sides along i, j, k; 1, 1, 1 gives volumes in voxels.
        connectivity: Which voxels touch.
        minimum_volume_mm3: Components of less volume are set apart; one of exactly this volume is kept.

    Raises:
        InputError: If the spacing is not three positive numbers, the connectivity is none of the three, or the smallest
            volume is negative.

    Example:
        >>> mask = np.zeros((4, 4, 1), dtype=bool)
        >>> mask[[0, 1, 3], [0, 1, 3], 0] = True
        >>> found = connected_components(mask, (1.0, 1.0, 2.0), minimum_volume_mm3=3.0)
        >>> found.volume_mm3.tolist(), found.kept.tolist()
        ([4.0, 2.0], [True, False])
        >>> len(connected_components(mask, (1.0, 1.0, 2.0), connectivity=6))
        3
    """
    voxel_mm3 = math.prod(check_spacing(spacing_mm))
    if connectivity not in (6, 18, 26):
        msg = f"connectivity: expected 6, 18 or 26, got {connectivity}; choose one of them"
        raise InputError(msg)
    if not (math.isfinite(minimum_volume_mm3) and minimum_volume_mm3 >= 0):
        msg = f"minimum_volume_mm3: expected a number of at least 0, got {minimum_volume_mm3}; give 0 to keep all"
        raise InputError(msg)
    if not mask.any():
        nothing = np.zeros(0)
        return Components(np.zeros(mask.shape, np.uint32), nothing.astype(np.int64), nothing, nothing.astype(bool))
    # The numbers follow the memory, and must not depend on how the file was stored.
    image = np.ascontiguousarray(mask).view(np.uint8)
    labels: Integer[np.ndarray, "i j k"] = cc3d.connected_components(image, connectivity=connectivity)
    voxels = np.bincount(labels.ravel())[1:]
    # Volumes are sums of equal voxels: a lesion of exactly the smallest volume must not fall to a last digit.
    kept = voxels * voxel_mm3 >= minimum_volume_mm3 * (1 - 1e-9)
    return Components(labels, voxels, voxels * voxel_mm3, kept)


def check_spacing(spacing_mm: Sequence[float]) -> tuple[float, float, float]:
    """Return the spacing as three numbers.

    Raises:
        InputError: If it is not three positive numbers.
    """
    sides = tuple(float(side) for side in spacing_mm)
    if len(sides) != 3 or not all(math.isfinite(side) and side > 0 for side in sides):
        msg = f"spacing_mm: expected three positive numbers, got {sides}; mend the header, or give 1, 1, 1 for voxels"
        raise InputError(msg)
    return sides
