"""MHA, MHD and NRRD through SimpleITK, turned from ITK's LPS to RAS."""

import math
import re
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so
from jaxtyping import Float, Shaped

from equivox.errors import InputError
from equivox.volume.grid import Grid
from equivox.volume.memory_order import in_c_order
from equivox.volume.orientation import swap_lps_ras
from equivox.volume.placement import Placement

_SHEAR = 1e-4  # of a direction cosine; rounded headers are off by less
_META = {".mha", ".mhd"}
_META_HEADER_BYTES = 65536
_META_ITEM_BYTES = {
    "CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
    "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip


def read_itk_placement(path: Path) -> Placement:
    """Read where the voxels of an MHA, MHD or NRRD file lie, from its header alone.

    Raises:
        InputError: If ITK cannot read the header, or the image has neither two nor three dimensions.
    """
    reader = _open(path)
    size, dimensions = _shape(reader.GetSize(), path)
    rank = reader.GetDimension()
    direction = np.array(reader.GetDirection(), dtype=np.float64).reshape(rank, rank)
    columns = direction * np.array(reader.GetSpacing(), dtype=np.float64)
    keep = min(rank, 3)
    lps = np.eye(4)
    lps[:keep, :keep] = columns[:keep, :keep]
    lps[:keep, 3] = reader.GetOrigin()[:keep]
    if not np.isfinite(lps).all() or not np.linalg.det(lps):
        msg = f"{path}: expected a finite grid with an inverse, got {lps[:3].tolist()}; export the image again"
        raise InputError(msg)
    return Placement(Grid(size, swap_lps_ras(lps)), dimensions)


def read_itk_stored(path: Path) -> Shaped[np.ndarray, "channels i j k"]:
    """Read the voxels of an MHA, MHD or NRRD file as they are stored; a vector image has one channel a component.

    Raises:
        InputError: If the voxels are missing, cut short or damaged.
    """
    reader = _open(path)
    size, _ = _shape(reader.GetSize(), path)
    if path.suffix.lower() in _META:
        _require_whole_meta(path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(path, error) from None
    # ITK's arrays are (..., k, j, i[, component]).
    array: np.ndarray = sitk.GetArrayFromImage(image)
    components = image.GetNumberOfComponentsPerPixel()
    return array.reshape(*reversed(size), components).transpose(3, 2, 1, 0)


def write_itk(array: Shaped[np.ndarray, "channels i j k"], placement: Placement, path: Path) -> None:
    """Write voxels as they are to an MHA or NRRD file, compressed.

    Args:
        array: Several channels become the components of a vector image.
        placement: Where the voxels lie.
        path: Written in place: the caller makes it atomic.

    Raises:
        InputError: If the grid is sheared, or the dtype is not ITK's.
    """
    columns = swap_lps_ras(placement.grid.affine)
    spacing = np.linalg.norm(columns[:3, :3], axis=0)
    direction = columns[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > _SHEAR:
        msg = f"{path}: expected axes at right angles for {path.suffix}, got a sheared grid; write .nii.gz instead"
        raise InputError(msg)
    flat = placement.dimensions == 2 and _in_plane(direction, columns)
    rank = 2 if flat else 3
    # (channels, i, j, k) -> (k, j, i, channels)
    values = in_c_order(array.transpose(3, 2, 1, 0))
    values = values[0] if flat else values
    vector = array.shape[0] > 1
    try:
        image = sitk.GetImageFromArray(values if vector else values[..., 0], isVector=vector)
    except (KeyError, TypeError, RuntimeError):
        msg = f"{path}: expected a dtype that ITK has, got {array.dtype}; convert the array, for example to float32"
        raise InputError(msg) from None
    image.SetSpacing([float(side) for side in spacing[:rank]])
    image.SetOrigin([float(value) for value in columns[:rank, 3]])
    image.SetDirection([float(value) for value in direction[:rank, :rank].ravel()])
    sitk.WriteImage(image, str(path), True)


def _in_plane(direction: Float[np.ndarray, "3 3"], columns: Float[np.ndarray, "4 4"]) -> bool:
    """Tell whether a 2D header can hold the grid: the plane z = 0, its slices 1 mm apart."""
    return bool(np.array_equal(direction[:, 2], [0, 0, 1]) and columns[2, 2] == 1 and columns[2, 3] == 0)


def _open(path: Path) -> Any:
    if path.suffix.lower() in _META:
        _meta_fields(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from None
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        msg = f"{path}: expected real numbers, got complex ones; export the magnitude or one part of it"
        raise InputError(msg)
    return reader


def _shape(sides: tuple[int, ...], path: Path) -> tuple[tuple[int, int, int], Literal[2, 3]]:
    if len(sides) < 2 or any(side > 1 for side in sides[3:]) or min(sides) < 1:
        msg = f"{path}: expected a 2D or 3D image, got shape {sides}; split it into one file a channel or time point"
        raise InputError(msg)
    if len(sides) == 2:
        return (sides[0], sides[1], 1), 2
    return (sides[0], sides[1], sides[2]), 3


def _meta_fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a MetaImage header and the bytes that it takes.

    Raises:
        InputError: If the header is not whole: ITK would print to the terminal.
    """
    with path.open("rb") as stream:
        block = stream.read(_META_HEADER_BYTES)
    last = re.search(rb"(?m)^ElementDataFile\s*=.*\n", block)
    text = block[: last.end()].decode("utf-8", "replace") if last else ""
    fields = dict(re.findall(r"(?m)^(\w+)[ \t]*=[ \t]*(.*?)[ \t\r]*$", text))
    numbers = [*fields.get("DimSize", "?").split(), fields.get("ElementNumberOfChannels", "1")]
    if not {"NDims", "ElementType"} <= set(fields) or not all(number.isdigit() for number in numbers):
        msg = f"{path}: expected a MetaImage header, got one without size, type or data file; export or copy it again"
        raise InputError(msg)
    return fields, len(block[: last.end()]) if last else 0


def _require_whole_meta(path: Path) -> None:
    """Find missing and cut-short voxels of a MetaImage before ITK does, which would print to the terminal."""
    fields, header_bytes = _meta_fields(path)
    name = fields["ElementDataFile"]
    if name.startswith("LIST") or "%" in name:
        return
    data = path if name == "LOCAL" else path.parent / name
    if not data.exists():
        msg = f"{path}: expected its voxels in {name} beside it, got no such file; copy both files"
        raise InputError(msg)
    item = _META_ITEM_BYTES.get(fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY"), 0)
    channels = fields.get("ElementNumberOfChannels", "1")
    wanted = math.prod(int(side) for side in fields["DimSize"].split()) * item * int(channels)
    start = header_bytes if data == path else 0
    if fields.get("CompressedData", "False")[:1] in {"T", "t", "1"}:
        stated = fields.get("CompressedDataSize", "")
        got = _inflated_bytes(data, start, int(stated) if stated.isdigit() else -1, path)
    else:
        got = data.stat().st_size - start
    if got < wanted:
        msg = f"{path}: expected {wanted} bytes of voxels, got {got}; copy or download it again"
        raise InputError(msg)


def _inflated_bytes(data: Path, start: int, size: int, path: Path) -> int:
    """Return the size of the decompressed voxels; ITK would hand out damaged ones with no more than a print."""
    with data.open("rb") as stream:
        stream.seek(start)
        inflater = zlib.decompressobj()
        try:
            inflated = len(inflater.decompress(stream.read(size)))
        except zlib.error as error:
            msg = f"{path}: expected whole voxels, got damaged ones ({error}); copy or download it again"
            raise InputError(msg) from None
    return inflated if inflater.eof else 0


def _unreadable(path: Path, error: RuntimeError) -> InputError:
    """Make one line of ITK's several: its last sentence is the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1].replace(str(path), path.name) if lines else "unknown reason"
    return InputError(f"{path}: expected an image that ITK can read, got '{reason}'; export or copy it again")
