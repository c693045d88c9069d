"""Write a volume in the format that the name of the file says."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from equivox.atomic import atomic_path
from equivox.errors import InputError
from equivox.volume.formats import format_to_write
from equivox.volume.nifti import write_nifti
from equivox.volume.pictures import write_picture
from equivox.volume.placement import Placement
from equivox.volume.values import fit_dtype
from equivox.volume.volume import Volume


def write_volume(volume: Volume, path: Path, *, dtype: str | None = None) -> None:
    """Write an image, whole or not at all; only voxels and grid are written, no text of any kind.

    Args:
        volume: Several channels go into MHA and NRRD; RGB (uint8) also into NIfTI, PNG and TIFF.
        path: Ends in .nii, .nii.gz, .mha or .nrrd, or for a picture of unknown spacing .png or .tif.
        dtype: NumPy name of the dtype to store, for example ``"int16"``; by default that of the array, for PNG the
            smallest of uint8 and uint16 that fits.

    Raises:
        InputError: If a value does not fit the dtype, or the format cannot hold the grid, dtype or channels.
    """
    kind = format_to_write(path)
    wanted = np.dtype(dtype) if dtype else volume.array.dtype
    if wanted.kind == "b":
        wanted = np.dtype(np.uint8)
    if dtype is None and path.suffix.lower() == ".png":
        wanted = np.dtype(np.uint8 if volume.array.max() <= np.iinfo(np.uint8).max else np.uint16)
    placement = Placement(volume.grid, volume.dimensions, volume.spacing_known)
    if placement.dimensions == 2 and placement.grid.shape[2] != 1:
        msg = f"{path}: expected one slice in a 2D volume, got {placement.grid.shape[2]}; set its dimensions to 3"
        raise InputError(msg)
    array = fit_dtype(volume.array, wanted, path)
    with atomic_path(path) as temporary:
        write_array(array, placement, temporary, kind)


def write_array(array: Shaped[np.ndarray, "channels i j k"], placement: Placement, path: Path, kind: str) -> None:
    """Write voxels and grid in place, in the format `kind`."""
    if kind == "nifti":
        write_nifti(array, placement, path)
    elif kind == "picture":
        write_picture(array, placement, path)
    else:
        # SimpleITK takes long to import; NIfTI does without it.
        from equivox.volume.itk_files import write_itk

        write_itk(array, placement, path)
