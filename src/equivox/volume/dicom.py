"""A folder of DICOM slices as one volume.

Slices are ordered by their position along the normal of their plane, never by name or number. What cannot be one evenly
spaced stack (missing slices, several series, repeated positions) is an error: nothing is guessed and nothing resampled.
"""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from jaxtyping import Float, Shaped
from pydicom.encaps import generate_frames

from equivox.errors import InputError
from equivox.volume.formats import is_dicom
from equivox.volume.grid import Grid
from equivox.volume.orientation import swap_lps_ras
from equivox.volume.placement import Placement
from equivox.volume.values import image_values

# Objects that accompany a series without being slices of it.
_COMPANIONS = {"SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTIMAGE", "SR", "PR", "KO", "REG", "RWV", "DOC"}
# Projection images: their numbers have no unit, so MONOCHROME1 (0 is white) is turned to the usual sense.
_PROJECTIONS = {"CR", "DX", "MG", "RF", "XA", "IO", "PX", "RG"}
# pydicom needs further packages for these; imagecodecs decodes them.
_DECODERS = {
    "1.2.840.10008.1.2.4.57": imagecodecs.ljpeg_decode,
    "1.2.840.10008.1.2.4.70": imagecodecs.ljpeg_decode,
    "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_decode,
    "1.2.840.10008.1.2.4.81": imagecodecs.jpegls_decode,
}
_TAGS = (
    "BitsStored", "Columns", "DirectoryRecordSequence", "ImageOrientationPatient", "ImagePositionPatient", "Modality",
    "ModalityLUTSequence", "NumberOfFrames", "PerFrameFunctionalGroupsSequence", "PhotometricInterpretation",
    "PixelSpacing", "Rows", "SamplesPerPixel", "SeriesInstanceUID", "SliceThickness", "SpacingBetweenSlices",
)  # fmt: skip
_SAME_PLANE_MM = 1e-3
_UNEVEN = 0.05  # of the step between slices
_TILT_DEGREES = 0.05
_COSINE = 1e-3


@dataclass(frozen=True, eq=False)
class _Slice:
    """One file of the stack: its header, and its position in LPS where it has one."""

    path: Path
    header: Any
    position_mm: Float[np.ndarray, "3"] | None


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """The checked and sorted slices of a series.

    Attributes:
        placement: The grid: i along a row, j down the rows, k along the normal.
        files: One file a slice, in the order of k.
    """

    placement: Placement
    files: tuple[Path, ...]


def read_series(path: Path) -> DicomSeries:
    """Read the headers of a DICOM series and find the grid of its slices.

    Files that are not slices (notes, structure sets, reports) are left out and named in the repairs, as is gantry tilt,
    which the affine carries exactly as a shear.

    Args:
        path: A folder with the files of one series, or a single file.

    Raises:
        InputError: If there is no image, or more than one series or frame a file, or the slices differ in size,
            orientation or pixel spacing, or do not stand at even distances, each once.
    """
    slices, notes = _find_slices(path)
    _require_one_series(slices, path)
    if slices[0].position_mm is None:
        return _projection(slices, path, notes)
    row, column = _orientation(slices, path)
    normal = np.cross(row, column)
    slices, repeated = _sort(slices, normal, path)
    step, step_notes = _step(slices, normal, path)
    between_rows, between_columns = _pixel_spacing(slices[0], path)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = row * between_columns, column * between_rows, step
    lps[:3, 3] = slices[0].position_mm
    shape = (int(slices[0].header.Columns), int(slices[0].header.Rows), len(slices))
    placement = Placement(Grid(shape, swap_lps_ras(lps)), repairs=(*notes, *repeated, *step_notes))
    return DicomSeries(placement, tuple(piece.path for piece in slices))


def read_series_values(series: DicomSeries) -> tuple[Shaped[np.ndarray, "channels i j k"], tuple[str, ...]]:
    """Read the voxels of a series with each slice's own rescale slope and intercept applied (a CT comes out in HU).

    Returns:
        float32 values, three channels where the slices are in colour, and what had to be mended.

    Raises:
        InputError: If a slice is damaged or in a compression that cannot be read.
    """
    planes, repairs = [], Counter[str]()
    for path in series.files:
        plane, notes = _plane(path)
        planes.append(plane)
        repairs.update(notes)
    return np.stack(planes, axis=-1), tuple(repairs)


def _find_slices(path: Path) -> tuple[list[_Slice], tuple[str, ...]]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    else:
        files = [path]
    slices: list[_Slice] = []
    left_out: list[str] = []
    for file in files:
        header = _read_header(file) if is_dicom(file) else None
        if header is None:
            left_out.append(f"{file.name} (not DICOM)")
        elif header.get("Modality") in _COMPANIONS or "DirectoryRecordSequence" in header:
            left_out.append(f"{file.name} ({header.get('Modality') or 'DICOMDIR'})")
        elif "Rows" not in header:
            # A slice that was cut short in its header must not go missing quietly.
            msg = f"{file}: expected an image, got DICOM without one; copy it again, or take it out of the folder"
            raise InputError(msg)
        else:
            position = header.get("ImagePositionPatient")
            slices.append(_Slice(file, header, None if position is None else _numbers(position, 3, file)))
    if not slices:
        msg = (
            f"{path}: expected a DICOM series, got {_describe_contents(path, left_out)}; give the folder of one series"
        )
        raise InputError(msg)
    if not left_out:
        return slices, ()
    named = ", ".join(left_out[:3]) + (" ..." if len(left_out) > 3 else "")
    return slices, (f"{len(left_out)} files are no slices and were left out: {named}",)


def _describe_contents(path: Path, left_out: Sequence[str]) -> str:
    if left_out:
        return f"no image slices among {len(left_out)} files, for example {left_out[0]}"
    inner = sorted(folder.name for folder in path.iterdir() if folder.is_dir())
    return f"folders ({', '.join(inner[:3])})" if inner else "an empty folder"


def _read_header(path: Path) -> Any:
    """Read the tags that matter here and nothing of the patient, decoded, so that damage shows now and not later."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
            for _ in header:
                pass
            return header
    except Exception as error:  # noqa: BLE001 - damaged elements make their decoders raise whatever they like
        raise _damaged(path, error) from None


def _require_one_series(slices: Sequence[_Slice], path: Path) -> None:
    for piece in slices:
        if int(piece.header.get("NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in piece.header:
            msg = (
                f"{piece.path}: expected one slice a file, got multi-frame DICOM; convert it to NIfTI or single frames"
            )
            raise InputError(msg)
        if "ModalityLUTSequence" in piece.header:
            msg = f"{piece.path}: expected a rescale slope and intercept, got a lookup table; convert it to NIfTI"
            raise InputError(msg)
    series = Counter(str(piece.header.get("SeriesInstanceUID") or "") for piece in slices)
    if len(series) > 1:
        counts = ", ".join(str(count) for count in series.values())
        msg = f"{path}: expected one DICOM series, got {len(series)} with {counts} slices; put each into its own folder"
        raise InputError(msg)
    for name in ("Rows", "Columns", "SamplesPerPixel", "PixelSpacing"):
        found = Counter(str(piece.header.get(name)) for piece in slices)
        if len(found) > 1:
            got = ", ".join(f"{value} ({count} slices)" for value, count in found.most_common(3))
            msg = f"{path}: expected the same {name} in every slice, got {got}; put each image into its own folder"
            raise InputError(msg)
    without = [piece for piece in slices if piece.position_mm is None]
    if without and len(slices) > 1:
        msg = (
            f"{path}: expected a position in every slice, got none in {len(without)} of {len(slices)}; export it again"
        )
        raise InputError(msg)


def _projection(slices: Sequence[_Slice], path: Path, notes: tuple[str, ...]) -> DicomSeries:
    """Place a single image without a position, such as a radiograph, as a 2D picture."""
    piece = slices[0]
    affine = np.eye(4)
    # ImagerPixelSpacing is measured at the detector: in the patient it is an unknown magnification away.
    known = "PixelSpacing" in piece.header
    if known:
        affine[1, 1], affine[0, 0] = _pixel_spacing(piece, path)
    shape = (int(piece.header.Columns), int(piece.header.Rows), 1)
    return DicomSeries(Placement(Grid(shape, affine), 2, known, notes), (piece.path,))


def _orientation(slices: Sequence[_Slice], path: Path) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Return the LPS directions along a row and down the rows, the same for every slice."""
    found = np.array([_numbers(piece.header.get("ImageOrientationPatient"), 6, piece.path) for piece in slices])
    apart = np.abs(found - np.median(found, axis=0)).max(axis=1) > _COSINE
    if apart.any():
        names = ", ".join(piece.path.name for piece, odd in zip(slices, apart, strict=True) if odd)
        msg = f"{path}: expected parallel slices, got {int(apart.sum())} turned ones ({names[:80]}); take them out"
        raise InputError(msg)
    row, column = found[0, :3], found[0, 3:]
    unit = np.abs(np.linalg.norm([row, column], axis=1) - 1).max() < _COSINE
    if not unit or abs(row @ column) > _COSINE:
        msg = f"{path}: expected row and column directions at right angles, got {found[0].tolist()}; export it again"
        raise InputError(msg)
    return row, column


def _sort(slices: Sequence[_Slice], normal: Float[np.ndarray, "3"], path: Path) -> tuple[list[_Slice], tuple[str, ...]]:
    """Sort by position along the normal; the same slice twice is dropped, two slices at one place are an error."""
    ordered = sorted(slices, key=lambda piece: (_along(piece, normal), piece.path.name))
    kept = [ordered[0]]
    dropped = 0
    for piece in ordered[1:]:
        if _along(piece, normal) - _along(kept[-1], normal) > _SAME_PLANE_MM:
            kept.append(piece)
        elif _same_pixels(piece.path, kept[-1].path):
            dropped += 1
        else:
            pair = f"{kept[-1].path.name} and {piece.path.name}"
            msg = f"{path}: expected one slice a position, got {pair} at the same; keep one time point, echo or b-value"
            raise InputError(msg)
    return kept, (f"{dropped} slices were there twice and were taken once",) if dropped else ()


def _along(piece: _Slice, normal: Float[np.ndarray, "3"]) -> float:
    return 0.0 if piece.position_mm is None else float(piece.position_mm @ normal)


def _same_pixels(one: Path, other: Path) -> bool:
    return bool(np.array_equal(_plane(one)[0], _plane(other)[0]))


def _step(
    slices: Sequence[_Slice], normal: Float[np.ndarray, "3"], path: Path
) -> tuple[Float[np.ndarray, "3"], tuple[str, ...]]:
    """Return the LPS vector from one slice to the next."""
    if len(slices) == 1:
        for name in ("SpacingBetweenSlices", "SliceThickness"):
            value = slices[0].header.get(name)
            if value and float(value) > 0:
                return normal * float(value), ()
        return normal, ("a single slice without a thickness: 1 mm was taken",)
    positions = np.array([piece.position_mm for piece in slices])
    heights = positions @ normal
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > _UNEVEN * usual)
    if odd.size:
        first = int(odd[0])
        pair = f"{slices[first].path.name} and {slices[first + 1].path.name}"
        missing = sum(max(0, round(gap / usual) - 1) for gap in gaps)
        what = f"about {missing} missing" if missing else "uneven distances"
        msg = (
            f"{path}: expected slices {usual:.4g} mm apart, got {what}: {gaps[first]:.4g} mm between {pair}; "
            "find the missing files or export the series again"
        )
        raise InputError(msg)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    off = np.linalg.norm(positions - (positions[0] + np.arange(len(slices))[:, np.newaxis] * step), axis=1)
    if off.max() > 2 * _UNEVEN * usual:
        worst = slices[int(off.argmax())].path.name
        msg = f"{path}: expected slices on one line, got {worst} {off.max():.3g} mm beside it; export the series again"
        raise InputError(msg)
    tilt = math.degrees(math.acos(min(1.0, float(step @ normal / np.linalg.norm(step)))))
    if tilt > _TILT_DEGREES:
        return step, (f"gantry tilt of {tilt:.3g} degrees: the affine carries it as a shear, nothing was resampled",)
    return step, ()


def _pixel_spacing(piece: _Slice, path: Path) -> tuple[float, float]:
    """Return the distance between rows and between columns, in mm."""
    rows, columns = _numbers(piece.header.get("PixelSpacing"), 2, path)
    if rows <= 0 or columns <= 0:
        msg = f"{path}: expected a positive PixelSpacing, got {rows:g} and {columns:g}; export the series again"
        raise InputError(msg)
    return float(rows), float(columns)


def _numbers(value: Any, count: int, path: Path) -> Float[np.ndarray, " count"]:
    try:
        numbers = np.array([float(part) for part in value], dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.array([])
    if numbers.size != count or not np.isfinite(numbers).all():
        msg = f"{path}: expected {count} numbers for position, orientation and spacing, got {value}; export it again"
        raise InputError(msg)
    return numbers


def _plane(path: Path) -> tuple[Shaped[np.ndarray, "channels i j"], tuple[str, ...]]:
    """Return the rescaled pixels of one file."""
    notes: tuple[str, ...] = ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path)
            pixels = _decode(header)
            slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
            slope, intercept = float(1 if slope is None else slope), float(0 if intercept is None else intercept)
            if header.get("PhotometricInterpretation") == "MONOCHROME1" and header.get("Modality") in _PROJECTIONS:
                pixels = (1 << int(header.BitsStored)) - 1 - pixels.astype(np.int64)
                notes = ("MONOCHROME1: the values were turned so that dense parts are bright",)
    except Exception as error:  # noqa: BLE001 - damaged pixels make decoders raise whatever they like
        raise _damaged(path, error) from None
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim != 3 or not math.isfinite(slope) or not math.isfinite(intercept):
        raise _damaged(path, ValueError(f"pixels of shape {pixels.shape}, slope {slope}, intercept {intercept}"))
    values, repairs = image_values(pixels.transpose(2, 1, 0), path, slope=slope, intercept=intercept)
    return values, (*notes, *repairs)


def _decode(header: Any) -> Shaped[np.ndarray, "..."]:
    decoder = _DECODERS.get(str(header.file_meta.get("TransferSyntaxUID", "")))
    if decoder is None:
        pixels: np.ndarray = header.pixel_array
        return pixels
    pixels = np.asarray(decoder(next(generate_frames(header.PixelData, number_of_frames=1))))
    if int(header.PixelRepresentation) == 0:
        return pixels
    # The codec knows bits, not signs: the sign bit is the highest of those stored.
    spare = pixels.dtype.itemsize * 8 - int(header.BitsStored)
    signed = pixels.view(np.dtype(f"i{pixels.dtype.itemsize}"))
    return (signed << spare) >> spare


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{path}: expected a DICOM file, got '{reason}'; export or copy it again")
