"""Volume: an array with its grid."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from equivox.volume.grid import Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or label map with the place of its voxels in the patient.

    Attributes:
        array: ``(channels, i, j, k)`` in the order of the file: nothing is reoriented. A scalar image or label map has
            one channel; a 2D image has one voxel along k.
        affine: 4x4, float64, from voxel indices to millimetres in RAS.
        dimensions: 2 for an image that its file stores as 2D, else 3.
        spacing_known: False where the file says nothing about the voxel size (PNG, JPEG): then the affine is the
            identity, and nothing in millimetres may be claimed.
        repairs: What the reader had to mend, one sentence each, empty for a sound file.
    """

    array: Shaped[np.ndarray, "channels i j k"]
    affine: Float[np.ndarray, "4 4"]
    dimensions: Literal[2, 3] = 3
    spacing_known: bool = True
    repairs: tuple[str, ...] = field(default=())

    @property
    def grid(self) -> Grid:
        """The shape and place of the voxels."""
        _, i, j, k = self.array.shape
        return Grid((i, j, k), self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The distance between neighbouring voxels along i, j, k, in millimetres."""
        return self.grid.spacing_mm

    def with_array(self, array: Shaped[np.ndarray, "channels i j k"]) -> "Volume":
        """Return the same volume with other voxel values of the same spatial shape.

        Raises:
            ValueError: If the spatial shape differs.
        """
        if array.shape[1:] != self.array.shape[1:]:
            msg = f"expected an array of spatial shape {self.array.shape[1:]}, got {array.shape[1:]}"
            raise ValueError(msg)
        return replace(self, array=array)
