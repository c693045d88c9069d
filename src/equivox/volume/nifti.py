"""NIfTI-1 and NIfTI-2: single files, gzipped or not, and .hdr/.img pairs.

The header is read by the standard (https://nifti.nimh.nih.gov/nifti-1): the sform where its code is positive, else the
qform where its code is positive, else the voxel sizes alone. An affine is carried as it is, shear included: nothing is
orthonormalised, and nothing goes through ITK, which refuses such files.
"""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped
from nibabel.spatialimages import HeaderDataError

from equivox.errors import InputError
from equivox.volume.grid import Grid
from equivox.volume.memory_order import in_c_order
from equivox.volume.placement import Placement

_GZIP = b"\x1f\x8b"
_GZIP_LEVEL = 4
_MAX_GZIP_RATIO = 1100  # deflate cannot shrink more than 1032 to 1
_NIFTI1, _NIFTI2 = 348, 540  # bytes of the header, which is how a file says its version
_MAX_NIFTI1_SIDE = 32767
_MAX_DIMENSIONS = 7
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # metres and microns; 2 is millimetres, and 0 (unknown) is read as millimetres
_CIFTI_INTENTS = range(3000, 3100)
_GRID_FIELDS = (
    "xyzt_units", "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "sform_code", "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_QFORM_FIELDS, _SFORM_FIELDS = _GRID_FIELDS[2:8], _GRID_FIELDS[9:]
_AGREEMENT_VOXELS = 0.1
_SINGULAR = 1e-6


@dataclass(frozen=True, eq=False)
class NiftiHead:
    """A header that was read and checked, and where its voxels are.

    Attributes:
        path: The file as it was given, for messages.
        placement: The grid, and the header's own fields for it.
        dtype: Of the stored numbers, with the file's byte order; structured for RGB.
        slope: Scale, 1 where the header has none.
        intercept: Offset, 0 where the header has none.
        data_path: The file with the voxels: the ``.img`` of a pair, else the file itself.
        data_offset: Bytes before the first voxel, after decompression.
    """

    path: Path
    placement: Placement
    dtype: np.dtype
    slope: float
    intercept: float
    data_path: Path
    data_offset: int


def read_head(path: Path) -> NiftiHead:
    """Read the header of a NIfTI file, and nothing behind it.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file, or either file of a pair.

    Raises:
        InputError: If this is no NIfTI image of two or three dimensions, or it does not say where its voxels lie.
    """
    header_path, data_path = _pair(path)
    block, notes = _first_bytes(header_path)
    header, order = _parse(block, path)
    shape, dimensions = _shape(header, path)
    dtype = _dtype(header, path).newbyteorder(order)
    slope, intercept, scale_notes = _scaling(header, dtype)
    offset, offset_notes = _offset(header, single=header_path == data_path, path=path)
    affine, affine_notes = _affine(header, shape, dimensions, path)
    repairs = (*notes, *scale_notes, *offset_notes, *affine_notes)
    placement = Placement(Grid(shape, affine), dimensions, True, repairs, _grid_header(header))
    return NiftiHead(path, placement, dtype, slope, intercept, data_path, offset)


def read_stored(head: NiftiHead) -> Shaped[np.ndarray, "channels i j k"]:
    """Read the voxels as the file stores them: unscaled, in native byte order, RGB as three channels.

    Raises:
        InputError: If the voxels are missing, cut short or damaged.
    """
    path, shape = head.path, head.placement.grid.shape
    if not head.data_path.exists():
        msg = f"{path}: expected its voxels in {head.data_path.name} beside it, got no such file; copy both files"
        raise InputError(msg)
    count = math.prod(shape)
    content = _content(head.data_path, head.data_offset + count * head.dtype.itemsize)
    array = np.frombuffer(content, head.dtype, count, head.data_offset).reshape(shape, order="F")
    if head.dtype.names is None:
        return array.astype(head.dtype.newbyteorder("="), copy=False)[np.newaxis]
    channels = [array[name] for name in head.dtype.names]
    if len(channels) == 4 and (channels[3] != channels[3].flat[0]).any():
        msg = f"{path}: expected RGB without transparency, got an alpha channel that varies; flatten the image"
        raise InputError(msg)
    return np.stack(channels[:3])


def write_nifti(array: Shaped[np.ndarray, "channels i j k"], placement: Placement, path: Path) -> None:
    """Write voxels as they are, with scale 1 and no free text.

    Args:
        array: One channel, or three of uint8, which become an RGB image.
        placement: Its `nifti_header`, where there is one, is written bit for bit; else the affine goes into the form
            that holds it best: the sform, or the qform where only that gives the same numbers back. NIfTI-1 stores
            the sform as float32: an affine with more digits is rounded to it.
        path: Ends in ``.nii`` or ``.nii.gz``. Written in place: the caller makes it atomic.

    Raises:
        InputError: If NIfTI has no such dtype or number of channels.
    """
    if array.shape[0] == 3 and array.dtype == np.uint8:
        stored = np.empty(array.shape[1:], [(name, "u1") for name in "RGB"])
        for channel, name in enumerate("RGB"):
            stored[name] = array[channel]
    elif array.shape[0] == 1:
        stored = array[0].astype(array.dtype.newbyteorder("<"), copy=False)
    else:
        got = f"{array.shape[0]} of {array.dtype}"
        msg = f"{path}: expected one channel, or RGB of uint8, got {got}; write one file a channel, or .mha"
        raise InputError(msg)
    header = _new_header(placement)
    try:
        header.set_data_dtype(stored.dtype)
    except HeaderDataError:
        msg = f"{path}: expected a dtype that NIfTI has, got {array.dtype}; convert the array, for example to float32"
        raise InputError(msg) from None
    # Four zero bytes: no extensions follow.
    content = header.binaryblock + bytes(4) + in_c_order(stored.T).tobytes()
    if path.name.lower().endswith(".gz"):
        # Neither name nor time in the gzip header: the same labels give the same file.
        content = imagecodecs.gzip_encode(content, level=_GZIP_LEVEL)
    path.write_bytes(content)


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the file with the header and the file with the voxels."""
    name = path.name
    stem = name[:-3] if name.lower().endswith(".gz") else name
    if stem.lower().endswith(".hdr"):
        images = [path.with_name(stem[:-4] + end) for end in (".img", ".img.gz")]
        return path, next((image for image in images if image.exists()), images[0])
    if stem.lower().endswith(".img"):
        headers = [path.with_name(stem[:-4] + end) for end in (".hdr", ".hdr.gz")]
        for header in headers:
            if header.exists():
                return header, path
        msg = f"{path}: expected its header {headers[0].name} beside it, got no such file; copy both files"
        raise InputError(msg)
    return path, path


def _first_bytes(path: Path) -> tuple[bytes, tuple[str, ...]]:
    """Return the bytes that hold the header, and a note where the name lies about the compression."""
    with path.open("rb") as stream:
        block = stream.read(_NIFTI2)
    named = path.name.lower().endswith(".gz")
    if block[:2] == _GZIP:
        try:
            with gzip.open(path) as stream:
                block = stream.read(_NIFTI2)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(path, str(error)) from None
        return block, () if named else ("gzipped though the name does not end in .gz: read as gzip",)
    if not named:
        return block, ()
    if not any(_version(block)):
        msg = f"{path}: expected a gzipped NIfTI file, got neither gzip nor NIfTI; copy or download it again"
        raise InputError(msg)
    return block, ("not gzipped though the name ends in .gz: read as it is",)


def _version(block: bytes) -> tuple[Literal["<", ">", ""], int]:
    """Return the byte order and the size that the header states, or ``("", 0)`` for something else."""
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        size = int(np.frombuffer(block[:4], order + "i4")[0]) if len(block) >= 4 else 0
        if size in {_NIFTI1, _NIFTI2} and len(block) >= size:
            return order, size
    return "", 0


def _parse(block: bytes, path: Path) -> tuple[Any, Literal["<", ">"]]:
    """Return the header as little-endian, so that it can be written again, and the byte order of the file."""
    order, size = _version(block)
    if not order:
        msg = f"{path}: expected a NIfTI header, got {len(block)} bytes of something else; export or copy it again"
        raise InputError(msg)
    kind = nib.Nifti1Header if size == _NIFTI1 else nib.Nifti2Header
    header = kind(block[:size], order, check=False)
    if bytes(header["magic"])[:3] not in {b"n+1", b"ni1", b"n+2", b"ni2"}:
        msg = f"{path}: expected NIfTI, got ANALYZE 7.5, which does not tell left from right; convert it to NIfTI"
        raise InputError(msg)
    if int(header["intent_code"]) in _CIFTI_INTENTS:
        msg = f"{path}: expected an image, got CIFTI (values on brain surfaces); extract its volume first"
        raise InputError(msg)
    return header.as_byteswapped("<"), order


def _shape(header: Any, path: Path) -> tuple[tuple[int, int, int], Literal[2, 3]]:
    sides = [int(side) for side in header["dim"]]
    dimensions, sides = sides[0], sides[1:]
    if not 1 <= dimensions <= _MAX_DIMENSIONS or any(side < 1 for side in sides[:dimensions]):
        msg = f"{path}: expected an image with voxels, got dimensions {[dimensions, *sides]}; export it again"
        raise InputError(msg)
    shape = tuple(sides[:dimensions])
    if any(side > 1 for side in shape[3:]) or dimensions == 1:
        series = "split it into one file a channel or time point" if len(shape) == 4 else "it is no single image"
        msg = f"{path}: expected a 2D or 3D image, got shape {shape}; {series}"
        raise InputError(msg)
    if dimensions == 2:
        return (shape[0], shape[1], 1), 2
    return (shape[0], shape[1], shape[2]), 3


def _dtype(header: Any, path: Path) -> np.dtype:
    try:
        dtype: np.dtype = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError):
        dtype = np.dtype(np.void)
    if dtype.itemsize == 0 or (dtype.kind not in "iuf" and dtype.names is None):
        msg = f"{path}: expected real numbers or RGB, got NIfTI data type {int(header['datatype'])}; convert the image"
        raise InputError(msg)
    return dtype


def _scaling(header: Any, dtype: np.dtype) -> tuple[float, float, tuple[str, ...]]:
    """Return slope and intercept; a slope of 0 or NaN means that the values are as stored."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if dtype.names is not None or slope == 0 or math.isnan(slope):
        return 1.0, 0.0, ()
    if math.isinf(slope):
        return 1.0, 0.0, ("scl_slope is infinite: the values were taken as stored",)
    if not math.isfinite(intercept):
        return slope, 0.0, (f"scl_inter is {intercept}: it was taken as 0",)
    return slope, intercept, ()


def _offset(header: Any, *, single: bool, path: Path) -> tuple[int, tuple[str, ...]]:
    stated = float(header["vox_offset"])
    least = int(header["sizeof_hdr"]) + 4 if single else 0
    if not math.isfinite(stated) or stated < 0:
        msg = f"{path}: expected the offset of the voxels, got vox_offset {stated}; export the image again"
        raise InputError(msg)
    if stated < least:
        return least, (f"vox_offset {stated:g} lies within the header: {least} was taken",)
    return int(stated), ()


def _affine(
    header: Any, shape: tuple[int, int, int], dimensions: Literal[2, 3], path: Path
) -> tuple[Float[np.ndarray, "4 4"], tuple[str, ...]]:
    """Choose the affine by the standard, and tell what was odd about it."""
    pixdim = header["pixdim"]
    # A qfac of 0 means 1 by the standard, and voxel sizes have no sign.
    pixdim[0] = -1 if pixdim[0] < 0 else 1
    pixdim[1:4] = np.abs(pixdim[1:4])
    qform, notes = _qform(header)
    if header["sform_code"] > 0:
        affine, name = header.get_sform(), "sform"
    elif header["qform_code"] > 0:
        affine, name = qform, "qform"
    else:
        affine, name = header.get_base_affine(), "voxel size"
        notes = (
            "no sform and no qform: voxel sizes are known, the orientation is not; left-anterior-superior assumed",
        )
    affine = np.array(affine, dtype=np.float64)
    if dimensions == 2 and not affine[:3, 2].any():
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / (np.linalg.norm(normal) or 1.0)
        notes = (*notes, "the 2D image has no slice axis: the unit normal of its plane was taken")
    _require_invertible(affine, name, path)
    if name == "sform" and header["qform_code"] > 0 and np.isfinite(qform).all():
        shift = Grid(shape, affine).distance_mm(Grid(shape, qform))
        if shift > _AGREEMENT_VOXELS * min(Grid(shape, affine).spacing_mm):
            notes = (*notes, f"sform and qform disagree by {shift:.3g} mm at a corner: the sform was taken")
    scale = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    if scale != 1.0:
        affine[:3] *= scale
        notes = (*notes, f"positions are in {'metres' if scale > 1 else 'microns'}: they were turned to millimetres")
    return affine, notes


def _qform(header: Any) -> tuple[Float[np.ndarray, "4 4"], tuple[str, ...]]:
    """Return the qform's affine, of NaN where it has none."""
    try:
        return np.asarray(header.get_qform(), dtype=np.float64), ()
    except (ValueError, HeaderDataError):
        pass
    parts = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    if not np.isfinite(parts).all():
        return np.full((4, 4), np.nan), ()
    # As the standard's own library does: b, c, d longer than 1 are scaled to 1, and a is then 0.
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = parts / np.linalg.norm(parts) * (1 - 1e-7)
    used = header["qform_code"] > 0 and header["sform_code"] <= 0
    return np.asarray(header.get_qform(), dtype=np.float64), (
        "the quaternion was longer than 1: scaled",
    ) if used else ()


def _require_invertible(affine: Float[np.ndarray, "4 4"], name: str, path: Path) -> None:
    if not np.isfinite(affine).all():
        msg = f"{path}: expected a finite affine, got NaN or infinity in its {name}; export it again or set the header"
        raise InputError(msg)
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if abs(np.linalg.det(affine[:3, :3])) <= _SINGULAR * np.prod(sides):
        got = "sides of " + " x ".join(f"{side:g}" for side in sides) + " mm in one plane"
        msg = f"{path}: expected voxels with a volume, got {got} in its {name}; export it again or set the header"
        raise InputError(msg)


def _grid_header(header: Any) -> Any:
    """Return a new header with the fields of the grid alone: no names, no text, no intensities."""
    fresh = type(header)()
    fresh["pixdim"][:4] = header["pixdim"][:4]
    for name in _GRID_FIELDS:
        fresh[name] = header[name]
    # What is not finite was not used above, and would only make other programs stumble.
    for code, fields in (("qform_code", _QFORM_FIELDS), ("sform_code", _SFORM_FIELDS)):
        if not all(np.isfinite(fresh[field]).all() for field in fields):
            fresh[code] = 0
            for field in fields:
                fresh[field] = 0
    return fresh


def _new_header(placement: Placement) -> Any:
    """Return a header for a single file with this placement and scale 1."""
    shape = placement.grid.shape[: placement.dimensions]
    if placement.nifti_header is not None:
        header = placement.nifti_header.copy()
        voxel = np.array(header["pixdim"][:4])
        header.set_data_shape(shape)
        header["pixdim"][:4] = voxel  # set_data_shape forgets the third of a 2D image
    else:
        header = nib.Nifti1Header() if max(shape) <= _MAX_NIFTI1_SIDE else nib.Nifti2Header()
        header.set_data_shape(shape)
        _set_forms(header, placement)
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    header.set_slope_inter(1, 0)
    return header


def _set_forms(header: Any, placement: Placement) -> None:
    """Write the affine into the form or forms that hold it."""
    affine = placement.grid.affine
    scanner, unknown = 1, 0
    header.set_xyzt_units("mm" if placement.spacing_known else "unknown")
    header.set_sform(affine, scanner)
    header.set_qform(affine, scanner, strip_shears=True)
    sform_error = float(np.abs(header.get_sform() - affine).max())
    qform_error = float(np.abs(header.get_qform() - affine).max())
    if qform_error < sform_error / 10:
        # The affine came out of a quaternion: as float32 numbers of an sform it would be rounded.
        header.set_sform(None, unknown)
    elif qform_error > _SINGULAR * max(placement.grid.spacing_mm):
        header["qform_code"] = unknown


def _content(path: Path, wanted: int) -> bytes:
    """Return the decompressed bytes of a file that must hold `wanted` of them."""
    raw = path.read_bytes()
    if raw[:2] == _GZIP:
        if wanted > _MAX_GZIP_RATIO * len(raw):
            raise _damaged(path, f"{len(raw)} gzipped bytes cannot hold the {wanted} of its header")
        try:
            content = bytes(imagecodecs.gzip_decode(raw, out=wanted))
        except imagecodecs.DeflateError:
            content = b""
        # Several gzip members, or bytes behind the voxels, need the slower way, which also names the damage.
        raw = content if len(content) >= wanted else _decompress(raw, path)
    if len(raw) < wanted:
        raise _damaged(path, f"{len(raw)} bytes where its header needs {wanted}")
    return raw


def _decompress(raw: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: expected a whole file, got a damaged one ({reason}); copy or download it again")
