"""Measure the structures of one case: read the mask and the image, and go through the classes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from equivox.errors import InputError
from equivox.metrics.masks.label_maps import Box, class_boxes
from equivox.metrics.structures import Box as ExtentBox
from equivox.metrics.structures import StructureMeasures, cut_faces, measure_structure
from equivox.volume.orientation import axis_codes
from equivox.volume.reading import read_label_map, read_volume
from equivox.volume.volume import Volume

INTENSITIES = ("mean", "median", "sd", "minimum", "maximum", "p5", "p95")
"""What is measured of the intensities inside a structure."""

_SIDES: Final = {"L": "left", "R": "right", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}
_OPPOSITE: Final = dict(zip("LRAPSI", "RLPAIS", strict=True))


@dataclass(frozen=True)
class MeasureTask:
    """All that a worker needs to measure one case.

    Attributes:
        case_id: The case.
        mask: File of the label map.
        image: File of the image on the same grid; None measures sizes alone.
        values: Value in the mask -> class name; others are background.
        in_voxels: The voxel sizes in the files are not real.
        erode_mm: See `MeasureOptions`.
        border_voxels: Likewise.
    """

    case_id: str
    mask: Path
    image: Path | None
    values: Mapping[int, str]
    in_voxels: bool
    erode_mm: float
    border_voxels: int


@dataclass(frozen=True)
class MeasuredCase:
    """The measures of one case.

    Attributes:
        size_unit: ``ml``, ``mm2`` for a 2D image, or ``voxels`` where sizes are not real.
        rows: One row a class.
    """

    size_unit: str
    rows: tuple[dict[str, Any], ...]


def measure_case(task: MeasureTask) -> MeasuredCase:
    """Measure every class of one case.

    A class that the mask lacks has a row that says so and no measures: it is absent, not of size 0.

    Raises:
        InputError: If a file cannot be read, the image lies on another grid, or erosion is asked for in mm where voxel
            sizes are not real.
    """
    mask = read_label_map(task.mask)
    in_voxels = task.in_voxels or not mask.spacing_known
    if in_voxels and task.erode_mm > 0:
        msg = f"{task.mask}: expected real voxel sizes for --erode-mm, got none; leave --erode-mm out"
        raise InputError(msg)
    image = None if task.image is None else _image(task.image, mask)
    unit = "voxels" if in_voxels else "mm2" if mask.dimensions == 2 else "ml"
    per_voxel = 1.0 if in_voxels else math.prod(mask.spacing_mm) / (1000.0 if unit == "ml" else 1.0)
    labels = mask.array[0]
    by_name: dict[str, list[int]] = {}
    for value, name in task.values.items():
        by_name.setdefault(name, []).append(value)
    boxes = class_boxes(labels, sorted(task.values))
    return MeasuredCase(
        unit, tuple(_row(name, values, boxes, mask, image, task, per_voxel) for name, values in by_name.items())
    )


def _row(
    name: str,
    values: list[int],
    boxes: Mapping[int, Box | None],
    mask: Volume,
    image: np.ndarray | None,
    task: MeasureTask,
    per_voxel: float,
) -> dict[str, Any]:
    found = [box for value in values if (box := boxes[value]) is not None]
    if not found:
        return {"class": name, "present": False, "voxels": 0}
    labels = mask.array[0]
    # One voxel more on each side where there is one, so that erosion sees what lies around.
    window = tuple(
        slice(max(0, min(box[axis].start for box in found) - 1), max(box[axis].stop for box in found) + 1)
        for axis in range(3)
    )
    start = np.array([side.start for side in window])
    affine = mask.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    part = np.isin(labels[window], values)
    measures = measure_structure(part, None if image is None else image[window], affine, erode_mm=task.erode_mm)
    if measures is None:  # the box holds a voxel
        return {"class": name, "present": False, "voxels": 0}
    first, second, third = (
        (low + int(first), high + int(first)) for (low, high), first in zip(measures.box, start, strict=True)
    )
    extent = first, second, third
    faces = _faces(extent, mask, task.border_voxels)
    return {
        "class": name,
        "present": True,
        "voxels": measures.voxels,
        "size": measures.voxels * per_voxel,
        **{key: getattr(measures, key) for key in INTENSITIES},
        "intensity_voxels": measures.intensity_voxels,
        "cut_off": bool(faces),
        "cut_faces": " ".join(faces),
        **_place(measures, extent, known=mask.spacing_known and not task.in_voxels),
    }


def _place(measures: StructureMeasures, box: ExtentBox, *, known: bool) -> dict[str, Any]:
    place: dict[str, Any] = {}
    for axis, (low, high) in zip("ijk", box, strict=True):
        place |= {f"first_{axis}": low, f"last_{axis}": high}
    if known:
        place |= {f"centre_{axis}_mm": value for axis, value in zip("ras", measures.centroid_mm, strict=True)}
    return place


def _faces(box: ExtentBox, mask: Volume, border_voxels: int) -> list[str]:
    """Return the faces of the image that a structure touches, by the patient's sides where they are known."""
    touched = cut_faces(box, mask.array.shape[1:], border_voxels)
    if not mask.spacing_known or mask.dimensions == 2:
        return [f"{'last' if last else 'first'}-{'ijk'[axis]}" for axis, last in touched]
    codes = axis_codes(mask.affine)
    return [_SIDES[codes[axis] if last else _OPPOSITE[codes[axis]]] for axis, last in touched]


def _image(path: Path, mask: Volume) -> np.ndarray:
    image = read_volume(path)
    if image.array.shape[0] != 1:
        msg = f"{path}: expected an image of one channel, got {image.array.shape[0]}; choose a grey image"
        raise InputError(msg)
    wanted, got = mask.array.shape[1:], image.array.shape[1:]
    known = mask.spacing_known and image.spacing_known
    if wanted != got or (known and not mask.grid.matches(image.grid)):
        what = f"{wanted} voxels, got {got}" if wanted != got else "the mask, got one of the same shape elsewhere"
        msg = f"{path}: expected the grid of {what}; resample the mask or the image first"
        raise InputError(msg)
    array: np.ndarray = image.array[0]
    return array
