"""Placement: what a file's header says about where its voxels lie, without the voxels."""

from dataclasses import dataclass, field
from typing import Any, Literal

from equivox.volume.grid import Grid


@dataclass(frozen=True, eq=False)
class Placement:
    """The grid of a file and how the file says it.

    Attributes:
        grid: Shape and affine.
        dimensions: 2 where the file stores a 2D image, else 3.
        spacing_known: False where the file says nothing about the voxel size.
        repairs: What had to be mended in the header, one sentence each.
        nifti_header: A nibabel header that holds the grid's fields of a NIfTI file and nothing else (no free text, no
            intensities), so that a label map can be written with exactly the same bits; None for other formats.
    """

    grid: Grid
    dimensions: Literal[2, 3] = 3
    spacing_known: bool = True
    repairs: tuple[str, ...] = field(default=())
    nifti_header: Any = None
