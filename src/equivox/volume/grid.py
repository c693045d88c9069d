"""Where the voxels of an array lie in the patient."""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Grid:
    """The shape of an array and the affine that places its voxels.

    Attributes:
        shape: Voxels along the array's three spatial axes i, j, k. A 2D image has one voxel along k.
        affine: 4x4, float64, from voxel indices (i, j, k, 1) to millimetres in RAS (x to the patient's right side
            being positive towards R, y towards A, z towards S), as in NIfTI.
    """

    shape: tuple[int, int, int]
    affine: Float[np.ndarray, "4 4"]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The distance between neighbouring voxels along i, j, k, in millimetres."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def voxel_volume_mm3(self) -> float:
        """The volume of one voxel, in cubic millimetres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def corners_mm(self) -> Float[np.ndarray, "8 3"]:
        """Return the RAS positions, in millimetres, of the centres of the eight corner voxels."""
        ends = [(0, side - 1) for side in self.shape]
        indices = np.array(list(itertools.product(*ends)), dtype=np.float64)
        positions: np.ndarray = indices @ self.affine[:3, :3].T + self.affine[:3, 3]
        return positions

    def distance_mm(self, other: "Grid") -> float:
        """Return the largest distance, in millimetres, between the same corner of the two grids.

        Headers are never compared entry by entry: rounding noise of 1e-8 in an affine moves nothing.
        """
        return float(np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1).max())

    def matches(self, other: "Grid", tolerance_voxels: float = 0.1) -> bool:
        """Tell whether both grids have the same shape and no corner moves by more than a part of a voxel.

        Args:
            other: The grid to compare with.
            tolerance_voxels: In units of the smaller voxel side of this grid.
        """
        if self.shape != other.shape:
            return False
        return self.distance_mm(other) <= tolerance_voxels * min(self.spacing_mm)
