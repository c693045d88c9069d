"""Cases to look at: the image with the contours of reference and prediction, as one sheet of slices."""

import base64
import io
import math
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Bool, Integer, Real, UInt8
from PIL import Image

Rank = Literal["worst", "median", "best"]

LARGEST_SIDE: Final = 320
MOST_SLICES: Final = 24
_SHEET_COLUMNS: Final = 6
_BLOCK: Final = 16  # WebP compresses blocks of this side: slices that start on one do not bleed into each other
_MOST_BYTES: Final = 700_000

# One stored picture serves every window of a CT: most of the 256 greys go where soft tissue lies.
_CT_HU: Final = (-1024.0, -160.0, 240.0, 1800.0)
_CT_GREY: Final = (0.0, 56.0, 184.0, 255.0)
CT_WINDOWS: Final[dict[str, tuple[float, float]]] = {
    "soft tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
}
"""Name -> the HU shown as black and as white."""

_TO_SCREEN: Final = {"R": ("L", 0), "L": ("L", 0), "A": ("P", 1), "P": ("P", 1), "S": ("I", 2), "I": ("I", 2)}
_OPPOSITE: Final = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}


@dataclass(frozen=True, eq=False, kw_only=True)
class OverlayCase:
    """One case of the gallery, on its own grid.

    Attributes:
        case_id: The cohort's own id.
        rank: Why it is shown.
        dice: The case's mean Dice over classes, in [0, 1].
        image: One channel, in file order.
        reference: Class indices; 0 is background.
        prediction: Class indices; 0 is background.
        spacing_mm: Size of a voxel along i, j, k; only its proportions are used, so that nominal sizes do no harm.
        modality: ``CT``, ``MR``, ``PET``, ``XR``, ``RGB`` or ``OTHER``; chooses the window.
        orientation: Axis codes of i, j, k, such as ``LPS``; None where unknown: then i runs to the right and j down,
            and the sides are not marked.
        classes: Class name -> index; with several, one can be shown alone.
    """

    case_id: str
    rank: Rank
    dice: float
    image: Real[np.ndarray, "i j k"]
    reference: Integer[np.ndarray, "i j k"]
    prediction: Integer[np.ndarray, "i j k"]
    spacing_mm: tuple[float, float, float]
    modality: str
    orientation: str | None = None
    classes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SheetSlice:
    """One slice on the sheet.

    Attributes:
        number: Its place along the sliced axis of the file, from 1.
        left: Left edge on the sheet, in sheet units.
        top: Upper edge.
        contours: (``reference`` or ``prediction``, class index, SVG path in voxels of the slice).
    """

    number: int
    left: float
    top: float
    contours: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True)
class Sheet:
    """All slices of a case in one picture, with the contours as paths: what the page shows of an `OverlayCase`.

    A sheet unit is the smaller side of a voxel in the slice's plane, so that anisotropic voxels keep their shape.

    Attributes:
        image_uri: The picture as a data URI.
        width: Of the sheet, in sheet units.
        height: Of the sheet.
        slice_width: Of what is shown of a slice.
        slice_height: Of what is shown of a slice.
        voxel_width: Of a voxel.
        voxel_height: Of a voxel.
        slices: In order along the sliced axis.
        start: Index into `slices` of the one with the largest area of the reference, or of the prediction without one.
        axis: ``i``, ``j`` or ``k``.
        axis_length: Slices that the file has along it.
        sides: Letters at the left, right, upper and lower edge; empty where the orientation is unknown.
    """

    image_uri: str
    width: float
    height: float
    slice_width: float
    slice_height: float
    voxel_width: float
    voxel_height: float
    slices: tuple[SheetSlice, ...]
    start: int
    axis: str
    axis_length: int
    sides: tuple[str, ...]


def make_sheet(case: OverlayCase) -> Sheet:
    """Lay the slices of a case that hold something out on one sheet.

    Slices run across the axis with the thickest voxels (the body's axis where they are nearly cubes) and are shown as
    radiologists look at them: the patient's right on the left, anterior or superior on top.

    Raises:
        ValueError: If image, reference and prediction differ in shape.
    """
    if not case.image.shape == case.reference.shape == case.prediction.shape:
        shapes = f"{case.image.shape}, {case.reference.shape} and {case.prediction.shape}"
        msg = f"{case.case_id}: expected image, reference and prediction of one shape, got {shapes}"
        raise ValueError(msg)
    view = _view(case)
    labels = {"reference": _turned(case.reference, view), "prediction": _turned(case.prediction, view)}
    image, window = _turned(case.image, view), window_of(case.image)
    union = (labels["reference"] > 0) | (labels["prediction"] > 0)
    columns, rows = _crop(union)
    picked = _pick_slices(union)
    size = (_kept(columns), _kept(rows))
    shrink = min(1.0, LARGEST_SIDE / max(size))
    pixels = (max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink)))
    pitch = (_blocks(pixels[0]), _blocks(pixels[1]))
    # What a stored pixel measures in sheet units.
    unit = (size[0] * view.voxel[0] / pixels[0], size[1] * view.voxel[1] / pixels[1])
    across = min(_SHEET_COLUMNS, len(picked))
    down = math.ceil(len(picked) / across)
    sheet = np.zeros((down * pitch[1], across * pitch[0]), np.uint8)
    slices = []
    for place, index in enumerate(picked):
        row, column = divmod(place, across)
        tile = _resized(grey_levels(image[columns, rows, index], case.modality, window).T, pixels)
        padded = np.pad(tile, ((0, pitch[1] - pixels[1]), (0, pitch[0] - pixels[0])))
        sheet[row * pitch[1] :, column * pitch[0] :][: pitch[1], : pitch[0]] = padded
        contours = tuple(
            (name, int(value), outline(array[columns, rows, index] == value))
            for name, array in labels.items()
            for value in np.unique(array[columns, rows, index])
            if value > 0
        )
        slices.append(SheetSlice(index + 1, column * pitch[0] * unit[0], row * pitch[1] * unit[1], contours))
    # False alarms are often larger than what was looked for, which the reader wants to see first.
    aim = labels["reference"] if case.reference.any() else labels["prediction"]
    areas = (aim[:, :, picked] > 0).sum(axis=(0, 1))
    return Sheet(
        image_uri=_webp(sheet),
        width=across * pitch[0] * unit[0],
        height=down * pitch[1] * unit[1],
        slice_width=size[0] * view.voxel[0],
        slice_height=size[1] * view.voxel[1],
        voxel_width=view.voxel[0],
        voxel_height=view.voxel[1],
        slices=tuple(slices),
        start=int(areas.argmax()),
        axis="ijk"[view.axes[2]],
        axis_length=case.image.shape[view.axes[2]],
        sides=view.sides,
    )


def outline(mask: Bool[np.ndarray, "x y"]) -> str:
    """Return the edges of a mask's voxels as an SVG path in voxels, without smoothing.

    Args:
        mask: First axis to the right, second axis down.

    Example:
        >>> outline(np.array([[True]]))
        'M0 0h1v1h-1z'
    """
    columns, rows = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not columns.size:
        return ""
    # Only where the mask is: most of a slice is not.
    first = int(columns[0]), int(rows[0])
    padded = np.pad(mask[first[0] : columns[-1] + 1, first[1] : rows[-1] + 1], 1)
    ahead: dict[tuple[int, int], list[tuple[int, int]]] = {}

    # Each edge runs with its voxel on the right: the upper one to the right, the right one down, and so on.
    inside = padded[1:-1, 1:-1]
    for outside, start, step in (
        (padded[1:-1, :-2], (0, 0), (1, 0)),
        (padded[2:, 1:-1], (1, 0), (0, 1)),
        (padded[1:-1, 2:], (1, 1), (-1, 0)),
        (padded[:-2, 1:-1], (0, 1), (0, -1)),
    ):
        for x, y in np.argwhere(inside & ~outside).tolist():
            ahead.setdefault((x + start[0] + first[0], y + start[1] + first[1]), []).append(step)
    paths = []
    while ahead:
        paths.append(_loop(ahead, next(iter(ahead))))
    return "".join(paths)


def window_of(image: Real[np.ndarray, "i j k"]) -> tuple[float, float]:
    """Return percentiles 1 and 99 of an image without its lowest value: the air around a head would else decide."""
    # Some 100,000 voxels tell the percentiles as well as all do.
    steps = [max(1, round(length / 48)) for length in image.shape]
    values = image[:: steps[0], :: steps[1], :: steps[2]].astype(np.float64)
    values = values[np.isfinite(values)]
    inside = values[values > values.min(initial=np.inf)]
    if not inside.size:
        return 0.0, 1.0
    low, high = np.percentile(inside, (1, 99))
    return float(low), float(high)


def grey_levels(
    values: Real[np.ndarray, "x y"], modality: str, window: tuple[float, float]
) -> UInt8[np.ndarray, "x y"]:
    """Return the stored greys of a slice: a CT's as `ct_window_table` undoes them, else the window from black to white.

    PET is inverted, as it is read. What is not finite is shown as black.
    """
    finite = np.nan_to_num(values.astype(np.float64), nan=-np.inf)
    if modality == "CT":
        grey = np.interp(finite, _CT_HU, _CT_GREY)
    else:
        low, high = window
        grey = np.clip((finite - low) / max(high - low, 1e-6), 0, 1) * 255
        if modality == "PET":
            grey = 255 - grey
    rounded: UInt8[np.ndarray, "x y"] = np.rint(grey).astype(np.uint8)
    return rounded


def ct_window_table(low: float, high: float) -> list[float]:
    """Return, for each stored grey of a CT, the grey in [0, 1] that a window from `low` to `high` HU shows."""
    hounsfield = np.interp(np.arange(256), _CT_GREY, _CT_HU)
    return [round(float(value), 3) for value in np.clip((hounsfield - low) / (high - low), 0, 1)]


@dataclass(frozen=True)
class _View:
    """How a case is turned: source axes of (right, down, through), flips of the plane, a voxel's sides on the sheet."""

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool]
    voxel: tuple[float, float]
    sides: tuple[str, ...]


def _view(case: OverlayCase) -> _View:
    through = _slice_axis(case)
    plane = [axis for axis in range(3) if axis != through]
    codes = case.orientation
    sides: tuple[str, ...] = ()
    if codes is None:
        axes, flipped = (plane[0], plane[1], through), (False, False)
    else:
        # Right-left runs to the right before anterior-posterior does; superior-inferior always runs down.
        plane.sort(key=lambda axis: _TO_SCREEN[codes[axis]][1])
        axes = (plane[0], plane[1], through)
        flipped = (codes[axes[0]] != _TO_SCREEN[codes[axes[0]]][0], codes[axes[1]] != _TO_SCREEN[codes[axes[1]]][0])
        right, lower = (_TO_SCREEN[codes[axis]][0] for axis in plane)
        sides = (_OPPOSITE[right], right, _OPPOSITE[lower], lower)
    sizes = [abs(case.spacing_mm[axis]) or 1.0 for axis in axes[:2]]
    return _View(axes, flipped, (sizes[0] / min(sizes), sizes[1] / min(sizes)), sides)


def _slice_axis(case: OverlayCase) -> int:
    shape, spacing = case.image.shape, case.spacing_mm
    if 1 in shape:
        return 2 - shape[::-1].index(1)
    if max(spacing) > 1.5 * min(spacing):
        return spacing.index(max(spacing))
    codes = case.orientation or "LPS"
    return next((axis for axis, code in enumerate(codes) if code in "SI"), 2)


def _turned(array: Any, view: _View) -> Any:
    turned = np.transpose(array, view.axes)
    return np.flip(turned, tuple(axis for axis, flip in enumerate(view.flipped) if flip))


def _crop(union: Bool[np.ndarray, "x y z"]) -> tuple[slice, slice]:
    """Return the part of the plane to show: both masks with a margin, and never less than half of the image."""
    parts = []
    for axis in (0, 1):
        length = union.shape[axis]
        held = np.flatnonzero(union.any(axis=tuple(other for other in range(3) if other != axis)))
        if not held.size:
            parts.append(slice(0, length))
            continue
        wanted = min(length, max(math.ceil(1.5 * (held[-1] - held[0] + 1)), math.ceil(0.55 * length)))
        start = int(np.clip((held[0] + held[-1] + 1 - wanted) // 2, 0, length - wanted))
        parts.append(slice(start, start + wanted))
    return parts[0], parts[1]


def _pick_slices(union: Bool[np.ndarray, "x y z"]) -> list[int]:
    """Return the slices to show: those that hold something and two beyond, thinned out to `MOST_SLICES`."""
    areas = union.sum(axis=(0, 1))
    held = np.flatnonzero(areas)
    if not held.size:
        held = np.array([union.shape[2] // 2])
    first, last = max(0, int(held[0]) - 2), min(union.shape[2] - 1, int(held[-1]) + 2)
    if last - first < MOST_SLICES:
        return list(range(first, last + 1))
    spread = {round(place) for place in np.linspace(first, last, MOST_SLICES - 1).tolist()}
    return sorted(spread | {int(areas.argmax())})


def _loop(ahead: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]) -> str:
    """Take one closed loop of edges out of `ahead` and write it with its straight runs joined."""
    point, step = start, ahead[start][0]
    runs: list[list[int]] = []
    while True:
        choices = ahead[point]
        # Where two voxels touch at a corner, turning right keeps their outlines apart.
        right = (-step[1], step[0])
        following = right if right in choices else choices[0]
        choices.remove(following)
        if not choices:
            del ahead[point]
        if runs and runs[-1][:2] == list(following):
            runs[-1][2] += 1
        else:
            runs.append([*following, 1])
        step = following
        point = (point[0] + step[0], point[1] + step[1])
        if point == start:
            break
    moves = [f"h{dx * length}" if dx else f"v{dy * length}" for dx, dy, length in runs[:-1]]
    return f"M{start[0]} {start[1]}{''.join(moves)}z"


def _kept(part: slice) -> int:
    return int(part.stop - part.start)


def _blocks(length: int) -> int:
    return math.ceil(length / _BLOCK) * _BLOCK


def _resized(grey: UInt8[np.ndarray, "y x"], pixels: tuple[int, int]) -> UInt8[np.ndarray, "y2 x2"]:
    if grey.shape == (pixels[1], pixels[0]):
        return grey
    picture = Image.fromarray(np.ascontiguousarray(grey)).resize(pixels, Image.Resampling.BOX)
    return np.asarray(picture)


def _webp(sheet: UInt8[np.ndarray, "y x"]) -> str:
    for quality in (90, 80, 65, 50):
        stream = io.BytesIO()
        Image.fromarray(sheet).save(stream, format="WEBP", quality=quality, method=4)
        if stream.tell() <= _MOST_BYTES:
            break
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
