"""Read any supported file as a volume, a label map or a grid.

SimpleITK and pydicom take half a second to import, in each worker: they wait for the first file that needs them.
"""

import logging
from pathlib import Path

import numpy as np

from equivox.errors import InputError
from equivox.volume.formats import format_to_read
from equivox.volume.grid import Grid
from equivox.volume.nifti import read_head, read_stored
from equivox.volume.pictures import read_picture, read_picture_placement
from equivox.volume.placement import Placement
from equivox.volume.values import image_values, label_values
from equivox.volume.volume import Volume

logger = logging.getLogger(__name__)


def read_volume(path: Path, *, spacing_mm: tuple[float, ...] | None = None) -> Volume:
    """Read an image.

    Scale and offset of the header are applied (a CT comes out in HU). Nothing is resampled or reoriented.

    Args:
        path: NIfTI-1 or -2 (.nii, .nii.gz, .hdr with .img), MHA, MHD, NRRD, PNG, JPEG, TIFF, or a folder with the
            slices of one DICOM series.
        spacing_mm: Size of a pixel along a row and along a column, for a PNG, JPEG or TIFF, which do not say it.

    Returns:
        Values in float32 (float64 only where values beyond ±2**24 would change in float32), colour as three channels.
        What had to be mended is named in `Volume.repairs`; values that are not finite are replaced by 0, for example.

    Raises:
        InputError: If the file is missing, damaged, of another kind, has a time or channel axis, or does not say
            where its voxels lie. The message is one line that says what to do.
    """
    kind = format_to_read(path)
    if spacing_mm is not None and kind != "picture":
        msg = f"{path}: expected no spacing for a file that has its own, got {spacing_mm}; leave it out"
        raise InputError(msg)
    if kind == "nifti":
        head = read_head(path)
        values, repairs = image_values(read_stored(head), path, slope=head.slope, intercept=head.intercept)
        return _volume(values, head.placement, repairs, path)
    if kind == "dicom":
        from equivox.volume.dicom import read_series, read_series_values

        series = read_series(path)
        values, repairs = read_series_values(series)
        return _volume(values, series.placement, repairs, path)
    if kind == "picture":
        placement, stored = read_picture_placement(path, spacing_mm), read_picture(path)
    else:
        placement, stored = _read_itk(path)
    values, repairs = image_values(stored, path)
    return _volume(values, placement, repairs, path)


def read_label_map(path: Path) -> Volume:
    """Read a label map: one whole number from 0 up for each voxel.

    Args:
        path: Any format of `read_volume` but a DICOM series. A PNG with a palette gives its indices.

    Returns:
        Labels in the smallest unsigned dtype that holds them, ``(1, i, j, k)``. Float files with whole numbers are
        converted exactly; values within 0.001 of a whole number are rounded, which is named in `Volume.repairs`.

    Raises:
        InputError: As `read_volume`, and if a value is negative, not whole or not finite, or there are channels.
    """
    kind = format_to_read(path)
    slope, intercept = 1.0, 0.0
    if kind == "dicom":
        msg = f"{path}: expected a label map, got DICOM; convert the segmentation to NIfTI, MHA or NRRD first"
        raise InputError(msg)
    if kind == "nifti":
        head = read_head(path)
        placement, stored = head.placement, read_stored(head)
        slope, intercept = head.slope, head.intercept
    elif kind == "picture":
        placement, stored = read_picture_placement(path), read_picture(path, labels=True)
    else:
        placement, stored = _read_itk(path)
    if stored.shape[0] != 1:
        msg = f"{path}: expected one label a voxel, got {stored.shape[0]} channels; merge them into one label map"
        raise InputError(msg)
    labels, repairs = label_values(stored, path, slope=slope, intercept=intercept)
    return _volume(labels, placement, repairs, path)


def read_grid(path: Path) -> Grid:
    """Read where the voxels lie, from the header alone.

    Args:
        path: Any format of `read_volume`. The grid of a picture is the identity.

    Raises:
        InputError: As `read_volume`, as far as the header tells.
    """
    return read_placement(path).grid


def read_placement(path: Path) -> Placement:
    """Read the grid and how the header says it, from the header alone.

    Raises:
        InputError: As `read_volume`, as far as the header tells.
    """
    kind = format_to_read(path)
    if kind == "nifti":
        return read_head(path).placement
    if kind == "picture":
        return read_picture_placement(path)
    if kind == "dicom":
        from equivox.volume.dicom import read_series

        return read_series(path).placement
    from equivox.volume.itk_files import read_itk_placement

    return read_itk_placement(path)


def _read_itk(path: Path) -> tuple[Placement, np.ndarray]:
    from equivox.volume.itk_files import read_itk_placement, read_itk_stored

    return read_itk_placement(path), read_itk_stored(path)


def _volume(array: np.ndarray, placement: Placement, repairs: tuple[str, ...], path: Path) -> Volume:
    repairs = (*placement.repairs, *repairs)
    for repair in repairs:
        logger.info("%s: %s", path, repair)
    return Volume(array, placement.grid.affine, placement.dimensions, placement.spacing_known, repairs)
