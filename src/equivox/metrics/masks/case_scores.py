"""Every score of one case, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Integer

from equivox.definitions import DEFAULT_FAMILIES, METRICS, metric_keys
from equivox.metrics.masks.betti_matching import betti_matching
from equivox.metrics.masks.centreline import cldice
from equivox.metrics.masks.empty import EmptyPolicy, Outcome, check_policy, outcome_of, score_of_empty
from equivox.metrics.masks.label_maps import check_lengths, check_maps, class_boxes, extended_axes, union
from equivox.metrics.masks.overlap import dice, iou, precision, sensitivity
from equivox.metrics.masks.surface import HD95Convention, check_convention, surface_scores
from equivox.metrics.masks.topology import betti_number_errors


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
    check_maps(reference, prediction)
    check_lengths(spacing_mm, tolerance_mm)
    check_policy(empty)
    check_convention(hd95)
    keys = metric_keys(families)
    indices = sorted(set(classes.values()))
    boxes = class_boxes(reference, indices), class_boxes(prediction, indices)
    axes = extended_axes(reference.shape)
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    diagonal_mm = float(np.linalg.norm(np.take(reference.shape, axes) * spacing[axes]))
    scores = []
    for name, index in classes.items():
        found = [box for box in (boxes[0][index], boxes[1][index]) if box is not None]
        window = union(found) if found else (slice(0, 0),) * 3
        masks = np.ascontiguousarray(reference[window] == index), np.ascontiguousarray(prediction[window] == index)
        counts = int(np.count_nonzero(masks[0])), int(np.count_nonzero(masks[1]))
        outcome = outcome_of(*counts)
        penalised = outcome in ("missed", "false_positive") and empty != "exclude"
        values = dict.fromkeys(keys) | _volumes(counts, float(spacing.prod()), outcome, empty)
        # A window of a 3D image may be one voxel thick; with a margin it is not taken for a 2D image.
        flat = tuple(axis for axis in range(3) if axis not in axes)
        thin = masks[0].squeeze(flat), masks[1].squeeze(flat)
        wide = (np.pad(thin[0], 1), np.pad(thin[1], 1)) if "topology" in families or "centreline" in families else thin
        if outcome == "scored":
            values |= _overlap(counts, int(np.count_nonzero(masks[0] & masks[1])))
            if "surface" in families:
                surface = surface_scores(*thin, spacing[axes].tolist(), tolerance_mm=tolerance_mm, hd95=hd95)
                values |= {name.removesuffix("_mm"): value for name, value in asdict(surface).items()}
            if "centreline" in families:
                values |= asdict(cldice(*wide))
        else:
            # Counts and volumes are those of the masks as they are; nothing else is defined without two masks.
            left = [key for key in keys if METRICS[key].family not in ("volume", "topology") or outcome == "both_empty"]
            values |= {key: score_of_empty(key, outcome, empty, diagonal_mm) for key in left}
        if "topology" in families and outcome != "both_empty":
            values |= _topology(*wide)
        scores.append(ClassScores(name, outcome, *counts, penalised, {key: values[key] for key in keys}))
    return scores


def _topology(reference: Bool[np.ndarray, "..."], prediction: Bool[np.ndarray, "..."]) -> dict[str, float | None]:
    errors = betti_number_errors(reference, prediction)
    values: dict[str, float | None] = {f"betti_{dimension}_error": float(one) for dimension, one in enumerate(errors)}
    return values | {"betti_matching_error": float(betti_matching(reference, prediction).error)}


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
