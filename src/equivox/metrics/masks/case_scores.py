"""Every score of one case, class by class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage

from equivox.definitions import DEFAULT_FAMILIES, METRICS, metric_keys
from equivox.errors import InputError
from equivox.metrics.masks.empty import EmptyPolicy, Outcome, check_policy, outcome_of, score_of_empty
from equivox.metrics.masks.overlap import dice, iou, precision, sensitivity
from equivox.metrics.masks.surface import HD95Convention, check_convention, surface_scores

_Box = tuple[slice, ...]

# ndimage.find_objects makes a list as long as the largest index; larger ones are looked for one by one.
_LARGEST_LISTED_INDEX: Final = 65_535


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class of one case.

    Attributes:
        class_name: The name of the class.
        outcome: In both masks (``scored``), in the reference alone (``missed``), in the prediction alone
            (``false_positive``), or in neither (``both_empty``).
        reference_voxels: Voxels of the class in the reference.
        prediction_voxels: Voxels of the class in the prediction.
        penalised: Whether the distances are the image's diagonal because one of the masks is empty.
        scores: Metric -> value, in the order of `METRICS`: distances in mm, volumes in cubic millimetres, fractions in
            [0, 1]. None where the empty policy leaves it out, or it is not defined.
    """

    class_name: str
    outcome: Outcome
    reference_voxels: int
    prediction_voxels: int
    penalised: bool
    scores: Mapping[str, float | None]


def score_case(
    reference: Integer[np.ndarray, "i j k"],
    prediction: Integer[np.ndarray, "_ _ _"],
    *,
    classes: Mapping[str, int],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    empty: EmptyPolicy = "penalise",
    hd95: HD95Convention = "directed_max",
    families: Sequence[str] = DEFAULT_FAMILIES,
) -> list[ClassScores]:
    """Score a predicted label map against the reference, one entry for each class, in the order of `classes`.

    The border of the image counts as surface where a mask touches it. An image with one voxel along an axis is 2D:
    contours take the place of surfaces and that axis has no part in any distance; the volume error still multiplies
    by its voxel side.

    Args:
        reference: Class indices, on the grid of the prediction. A 2D image has one voxel along k.
        prediction: Class indices.
        classes: The classes to score: name to index. Other indices count as background.
        spacing_mm: Voxel sides along i, j, k in mm; 1, 1, 1 gives every distance in voxels.
        tolerance_mm: How far two surfaces may lie apart and still count as the same in NSD.
        empty: How a class is scored that one or both of the maps lack; see `EMPTY_POLICIES`.
        hd95: The convention of the distances; see `HD95_CONVENTIONS`.
        families: What is computed; see `MetricFamily`.

    Raises:
        InputError: If the maps are not integer arrays of one shape, or the spacing, tolerance, policy or convention
            is not usable.

    Example:
        >>> truth, guess = np.zeros((2, 8, 8, 4), dtype=np.uint8)
        >>> truth[2:6, 2:6, 1:3], guess[2:6, 3:7, 1:3] = 1, 1
        >>> liver, spleen = score_case(
        ...     truth, guess, classes={"liver": 1, "spleen": 2}, spacing_mm=(1.0, 1.0, 3.0), tolerance_mm=1.0
        ... )
        >>> liver.outcome, liver.scores["dice"], liver.scores["volume_error"]
        ('scored', 0.75, 0.0)
        >>> spleen.outcome, spleen.scores["dice"]
        ('both_empty', None)
    """
    _check_maps(reference, prediction)
    _check_lengths(spacing_mm, tolerance_mm)
    check_policy(empty)
    check_convention(hd95)
    keys = metric_keys(families)
    indices = sorted(set(classes.values()))
    boxes = _class_boxes(reference, indices), _class_boxes(prediction, indices)
    axes = _extended_axes(reference.shape)
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    diagonal_mm = float(np.linalg.norm(np.take(reference.shape, axes) * spacing[axes]))
    scores = []
    for name, index in classes.items():
        found = [box for box in (boxes[0][index], boxes[1][index]) if box is not None]
        window = _union(found) if found else (slice(0, 0),) * 3
        masks = np.ascontiguousarray(reference[window] == index), np.ascontiguousarray(prediction[window] == index)
        counts = int(np.count_nonzero(masks[0])), int(np.count_nonzero(masks[1]))
        outcome = outcome_of(*counts)
        penalised = outcome in ("missed", "false_positive") and empty != "exclude"
        values = dict.fromkeys(keys) | _volumes(counts, float(spacing.prod()), outcome, empty)
        if outcome == "scored":
            flat = tuple(axis for axis in range(3) if axis not in axes)
            values |= _overlap(counts, int(np.count_nonzero(masks[0] & masks[1])))
            if "surface" in families:
                thin = masks[0].squeeze(flat), masks[1].squeeze(flat)
                surface = surface_scores(*thin, spacing[axes].tolist(), tolerance_mm=tolerance_mm, hd95=hd95)
                values |= {name.removesuffix("_mm"): value for name, value in asdict(surface).items()}
        else:
            computed = [key for key in keys if METRICS[key].family in ("overlap", "surface")]
            values |= {key: score_of_empty(key, outcome, empty, diagonal_mm) for key in computed}
        scores.append(ClassScores(name, outcome, *counts, penalised, {key: values[key] for key in keys}))
    return scores


def _overlap(counts: tuple[int, int], both: int) -> dict[str, float | None]:
    measures = {"dice": dice, "iou": iou, "sensitivity": sensitivity, "precision": precision}
    return {key: measure(*counts, both) for key, measure in measures.items()}


def _volumes(
    counts: tuple[int, int], voxel_mm3: float, outcome: Outcome, empty: EmptyPolicy
) -> dict[str, float | None]:
    if outcome == "both_empty" and empty != "perfect":
        return {"volume_error": None, "relative_volume_error": None}
    difference = counts[1] - counts[0]
    relative = difference / counts[0] if counts[0] else None if difference else 0.0
    return {"volume_error": difference * voxel_mm3, "relative_volume_error": relative}


def _extended_axes(shape: tuple[int, ...]) -> list[int]:
    """Return the axes along which the image has an extent: those of more than one voxel, but at least two."""
    by_size = sorted(range(3), key=lambda axis: (shape[axis] == 1, axis))
    return sorted(by_size[: max(2, sum(side > 1 for side in shape))])


def _class_boxes(labels: Integer[np.ndarray, "i j k"], indices: Sequence[int]) -> dict[int, _Box | None]:
    """Return the bounding box of each class, or None for a class that the label map lacks."""
    boxes: dict[int, _Box | None] = dict.fromkeys(indices)
    listed = [index for index in indices if 1 <= index <= _LARGEST_LISTED_INDEX]
    foreground = _bounding_box(labels)
    if listed and foreground is not None:
        # It walks along the last axis; files are stored with the first one running fastest.
        turned = labels.flags.f_contiguous and not labels.flags.c_contiguous
        part = labels[foreground].T if turned else labels[foreground]
        for index, box in enumerate(ndimage.find_objects(part, max_label=listed[-1]), 1):
            if index in boxes:
                boxes[index] = _shift(box if box is None or not turned else box[::-1], foreground)
    for index in set(indices) - set(listed):
        boxes[index] = _bounding_box(labels == index)
    return boxes


def _bounding_box(
    values: Integer[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k"],
) -> _Box | None:
    """Return the smallest box that holds every value other than 0, or None if there is none."""
    plane: Bool[np.ndarray, "i j"] = np.asarray(values.any(axis=2))
    if not plane.any():
        return None
    first, second = _extent(plane, 1), _extent(plane, 0)
    return first, second, _extent(values[first, second], (0, 1))


def _extent(values: Integer[np.ndarray, "..."] | Bool[np.ndarray, "..."], across: int | tuple[int, ...]) -> slice:
    """Return the first to the last place along the one axis that `across` leaves where a value is not 0."""
    hits = np.flatnonzero(np.asarray(values.any(axis=across)))
    return slice(int(hits[0]), int(hits[-1]) + 1)


def _shift(box: _Box | None, origin: _Box) -> _Box | None:
    if box is None:
        return None
    pairs = zip(box, origin, strict=True)
    return tuple(slice(side.start + start.start, side.stop + start.start) for side, start in pairs)


def _union(boxes: Sequence[_Box]) -> _Box:
    sides = zip(*boxes, strict=True)
    return tuple(slice(min(side.start for side in axis), max(side.stop for side in axis)) for axis in sides)


def _check_maps(reference: np.ndarray, prediction: np.ndarray) -> None:
    for what, labels in (("reference", reference), ("prediction", prediction)):
        if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
            msg = (
                f"{what}: expected an integer array (i, j, k), got {labels.dtype} of shape {labels.shape}; "
                "round the labels, and give a 2D image one voxel along k"
            )
            raise InputError(msg)
    if reference.shape != prediction.shape:
        msg = (
            f"prediction: expected the shape of the reference, {reference.shape}, got {prediction.shape}; "
            "resample it to the reference's grid"
        )
        raise InputError(msg)


def _check_lengths(spacing_mm: Sequence[float], tolerance_mm: float) -> None:
    if len(spacing_mm) != 3 or not all(math.isfinite(side) and side > 0 for side in spacing_mm):
        msg = (
            f"spacing_mm: expected three positive numbers, got {tuple(spacing_mm)}; mend the header, or give 1, 1, 1 "
            "for distances in voxels"
        )
        raise InputError(msg)
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        msg = f"tolerance_mm: expected a number of at least 0, got {tolerance_mm}; give for example 2"
        raise InputError(msg)
