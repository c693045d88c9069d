"""PNG, JPEG and TIFF as 2D images: i runs along a row from left to right, j down the rows."""

import logging
import math
import warnings
from pathlib import Path

import numpy as np
import tifffile
from imagecodecs import png_decode
from jaxtyping import Shaped
from PIL import Image

from equivox.errors import InputError
from equivox.volume.grid import Grid
from equivox.volume.placement import Placement

_GREY_MODES = {"1", "L", "I", "F", "I;16", "I;16B", "I;16L"}
_PNG_DEPTH, _PNG_COLOUR = 24, 25  # bytes of the header chunk
_TIFF = {".tif", ".tiff"}
# What it complains of in a damaged file ends up in our one line.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def read_picture_placement(path: Path, spacing_mm: tuple[float, ...] | None = None) -> Placement:
    """Read the size of a picture from its header.

    Args:
        path: A PNG, JPEG or TIFF file.
        spacing_mm: Size of a pixel along a row and along a column, if the user knows it. The dots per inch in a file
            are those of a screen or printer and are not used.

    Returns:
        A 2D placement; without `spacing_mm` the affine is the identity and the spacing is unknown.

    Raises:
        InputError: If the picture is damaged or has several pages, or `spacing_mm` is not two positive numbers.
    """
    width, height = _size(path)
    affine = np.eye(4)
    if spacing_mm is not None:
        if len(spacing_mm) != 2 or not all(math.isfinite(side) and side > 0 for side in spacing_mm):
            msg = (
                f"{path}: expected a spacing of two positive numbers in mm, got {spacing_mm}; give for example 0.2 0.2"
            )
            raise InputError(msg)
        affine[0, 0], affine[1, 1] = spacing_mm
    return Placement(Grid((width, height, 1), affine), 2, spacing_mm is not None)


def read_picture(path: Path, *, labels: bool = False) -> Shaped[np.ndarray, "channels i j 1"]:
    """Read the pixels of a picture as they are stored.

    Args:
        path: A PNG, JPEG or TIFF file.
        labels: Take the indices of a palette instead of its colours, and RGB as grey where the three are equal.

    Returns:
        One channel for grey, three for RGB.

    Raises:
        InputError: If the picture is damaged, has several pages or transparent parts, or is a label map in colour.
    """
    if labels and path.suffix.lower() in {".jpg", ".jpeg"}:
        msg = f"{path}: expected labels without loss, got JPEG, which changes values at borders; export them as PNG"
        raise InputError(msg)
    pixels = _read_tiff(path) if path.suffix.lower() in _TIFF else _read_pillow(path, labels=labels)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim != 3 or pixels.size == 0:
        raise _damaged(path, ValueError(f"pixels of shape {pixels.shape}"))
    colours = pixels.shape[2]
    if colours in {2, 4}:
        if (pixels[..., -1] != pixels.flat[colours - 1]).any():
            msg = f"{path}: expected an opaque picture, got transparent parts; flatten it"
            raise InputError(msg)
        pixels = pixels[..., :-1]
    elif colours not in {1, 3}:
        msg = f"{path}: expected grey or RGB, got {colours} channels; write one file a channel"
        raise InputError(msg)
    if labels and pixels.shape[2] == 3:
        if (pixels != pixels[..., :1]).any():
            msg = f"{path}: expected labels as grey values or palette indices, got colours; map colours to labels first"
            raise InputError(msg)
        pixels = pixels[..., :1]
    return pixels.transpose(2, 1, 0)[..., np.newaxis]


def write_picture(array: Shaped[np.ndarray, "channels i j 1"], placement: Placement, path: Path) -> None:
    """Write pixels without loss to a PNG or TIFF file.

    Args:
        array: uint8 or uint16, one channel or (uint8) three; a TIFF takes any dtype.
        placement: Must be that of a picture: a picture's header cannot hold a grid.
        path: Written in place: the caller makes it atomic.

    Raises:
        InputError: If the grid or the dtype would be lost.
    """
    if placement.dimensions != 2 or placement.spacing_known or not np.array_equal(placement.grid.affine, np.eye(4)):
        msg = f"{path}: expected a name that ends in .nii.gz, .mha or .nrrd, as a picture cannot hold the scan's grid"
        raise InputError(msg)
    pixels = np.ascontiguousarray(array[..., 0].transpose(2, 1, 0))
    pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if path.suffix.lower() in _TIFF:
        colour = "rgb" if pixels.ndim == 3 else "minisblack"
        tifffile.imwrite(path, pixels, photometric=colour, compression="zlib", metadata=None, software=False)
        return
    if pixels.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)} or (pixels.ndim == 3 and pixels.dtype != np.uint8):
        msg = f"{path}: expected 8 or 16 bits (RGB: 8) for PNG, got {array.dtype}; write .tif or .nii.gz"
        raise InputError(msg)
    Image.fromarray(pixels).save(path)


def _size(path: Path) -> tuple[int, int]:
    try:
        if path.suffix.lower() in _TIFF:
            with tifffile.TiffFile(path) as tiff:
                _require_one_page(len(tiff.pages), path)
                page = tiff.pages[0]
                return int(page.imagewidth), int(page.imagelength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                _require_one_page(getattr(picture, "n_frames", 1), path)
                return picture.size
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files make readers raise whatever they like
        raise _damaged(path, error) from None


def _read_tiff(path: Path) -> Shaped[np.ndarray, "..."]:
    try:
        with tifffile.TiffFile(path) as tiff:
            _require_one_page(len(tiff.pages), path)
            pixels = tiff.pages[0].asarray()
            planar = tiff.pages[0].planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3
            return np.moveaxis(pixels, 0, -1) if planar else pixels
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files make its decoders raise whatever they like
        raise _damaged(path, error) from None


def _read_pillow(path: Path, *, labels: bool) -> Shaped[np.ndarray, "..."]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                _require_one_page(getattr(picture, "n_frames", 1), path)
                picture.load()
                if picture.format == "PNG" and _is_deep_colour(path):
                    # Pillow would silently cut 16-bit colours to 8 bits.
                    return np.asarray(png_decode(path.read_bytes()))
                if (
                    picture.mode in _GREY_MODES
                    or picture.mode in {"RGB", "RGBA", "LA"}
                    or (labels and picture.mode == "P")
                ):
                    return np.array(picture)
                return np.array(picture.convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files make decoders raise whatever they like
        raise _damaged(path, error) from None


def _is_deep_colour(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(_PNG_COLOUR + 1)
    return head[_PNG_DEPTH] == 16 and head[_PNG_COLOUR] in {2, 4, 6}


def _require_one_page(pages: int, path: Path) -> None:
    if pages != 1:
        msg = f"{path}: expected one picture, got {pages} pages; write one file a page, or a volume as .nii.gz"
        raise InputError(msg)


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split()).replace(str(path), path.name)
    return InputError(f"{path}: expected a picture, got '{reason}'; export or copy it again")
