"""Write a label map onto exactly the grid of the scan that it belongs to."""

from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from equivox.atomic import atomic_path
from equivox.errors import InputError
from equivox.volume.formats import Format, format_to_write
from equivox.volume.placement import Placement
from equivox.volume.reading import read_label_map, read_placement
from equivox.volume.values import smallest_label_dtype
from equivox.volume.volume import Volume
from equivox.volume.writing import write_array

_ROUNDING_MM = {"nifti": 1e-2, "mha": 1e-6, "nrrd": 1e-6, "picture": 0.0, "dicom": 0.0}


def write_label_map(labels: Integer[np.ndarray, "i j k"], like: Volume | Path, path: Path) -> None:
    """Write labels on the grid of `like`, whole or not at all; then read them back and compare.

    From a NIfTI file to a NIfTI file the grid's fields (both forms with their codes, voxel sizes, units, version) are
    copied bit for bit. Nothing else of the header is: no description, name or date comes along.

    Args:
        labels: From 0 up, ``(i, j, k)`` in the axes of `like`; stored in the smallest unsigned dtype that holds them.
        like: The scan that was segmented: its file or DICOM folder, or a volume in memory.
        path: Ends in .nii, .nii.gz, .mha or .nrrd, or for a picture .png or .tif.

    Raises:
        InputError: If the shape is not that of `like`, a label is negative, or the format cannot hold grid or labels.
        RuntimeError: If what was read back differs from what was to be written; nothing is then left at `path`.
    """
    kind = format_to_write(path)
    placement = read_placement(like) if isinstance(like, Path) else _placement(like)
    shape = placement.grid.shape
    if labels.shape != shape:
        msg = f"{path}: expected labels of the scan's shape {shape}, got {labels.shape}; bring them onto its grid first"
        raise InputError(msg)
    if labels.size and int(labels.min()) < 0:
        msg = f"{path}: expected labels from 0 up, got {int(labels.min())}; map them to labels first"
        raise InputError(msg)
    stored = labels.astype(smallest_label_dtype(int(labels.max())))[np.newaxis]
    with atomic_path(path) as temporary:
        write_array(stored, placement, temporary, kind)
        _compare(stored, placement, temporary, kind, path)


def _placement(like: Volume) -> Placement:
    return Placement(like.grid, like.dimensions, like.spacing_known)


def _compare(
    stored: Shaped[np.ndarray, "1 i j k"], placement: Placement, written: Path, kind: Format, path: Path
) -> None:
    """Read back what was written; a disk that fills up or a faulty codec is found here, not by the reader."""
    back = read_label_map(written)
    if back.array.dtype != stored.dtype or not np.array_equal(back.array, stored):
        msg = f"{path}: the labels read back differ from those written"
        raise RuntimeError(msg)
    if placement.nifti_header is not None and kind == "nifti":
        same = np.array_equal(back.affine, placement.grid.affine)
    else:
        same = back.grid.distance_mm(placement.grid) <= _ROUNDING_MM[kind]
    if not same or back.dimensions != placement.dimensions:
        msg = f"{path}: the grid read back differs from the one written"
        raise RuntimeError(msg)
