"""Every score of one case, class by class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer
from scipy import ndimage

from equivox.errors import InputError
from equivox.metrics.empty import EmptyPolicy, Outcome, check_policy, outcome_of
from equivox.metrics.overlap import dice, iou
from equivox.metrics.surface import HD95Convention, surface_scores


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class of one case.

    A score that the empty policy leaves out is None. Fractions lie in [0, 1].

    Attributes:
        class_name: The name of the class.
        outcome: In both masks (``scored``), in the reference alone (``missed``), in the prediction alone
            (``false_positive``), or in neither (``both_empty``).
        dice: Twice the shared voxels over the sum of both.
        iou: The shared voxels over those of either.
        nsd: The share of both surfaces that lies within the tolerance of the other.
        hd95_mm: The 95th percentile of the distances between the surfaces, in mm.
        assd_mm: The mean distance between the surfaces, in mm.
        volume_error_mm3: Prediction minus reference, in cubic millimetres (square millimetres for a 2D image).
        reference_voxels: Voxels of the class in the reference.
        prediction_voxels: Voxels of the class in the prediction.
        penalised: Whether the distances are the image's diagonal because one of the masks is empty.
    """

    class_name: str
    outcome: Outcome
    dice: float | None
    iou: float | None
    nsd: float | None
    hd95_mm: float | None
    assd_mm: float | None
    volume_error_mm3: float | None
    reference_voxels: int
    prediction_voxels: int
    penalised: bool


def score_case(
    reference: Integer[np.ndarray, "i j k"],
    prediction: Integer[np.ndarray, "i j k"],
    *,
    classes: Mapping[str, int],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    empty: EmptyPolicy = "penalise",
    hd95: HD95Convention = "directed_max",
) -> list[ClassScores]:
    """Score a predicted label map against the reference, one entry for each class.

    Args:
        reference: Class indices, on the grid of the prediction. A 2D image has one voxel along k.
        prediction: Class indices.
        classes: The classes to score: name to index. Other indices count as background.
        spacing_mm: Voxel sides along i, j, k in mm; 1, 1, 1 gives every distance in voxels.
        tolerance_mm: How far two surfaces may lie apart and still count as the same in NSD.
        empty: How a class is scored that one or both of the maps lack.
        hd95: The convention of HD95.

    Raises:
        InputError: If the shapes differ, or the spacing, tolerance, policy or convention is not usable.
    """
    check_policy(empty)
    _check_inputs(reference, prediction, spacing_mm, tolerance_mm)
    spacing = tuple(float(side) for side in spacing_mm)
    scores = []
    for name, index in classes.items():
        a, b = reference == index, prediction == index
        n_a, n_b, both = int(a.sum()), int(b.sum()), int((a & b).sum())
        outcome = outcome_of(n_a, n_b)
        error = (n_b - n_a) * math.prod(spacing)
        if outcome == "both_empty":
            one, zero = (1.0, 0.0) if empty == "perfect" else (None, None)
            scores.append(ClassScores(name, outcome, one, one, one, zero, zero, zero, n_a, n_b, False))
        elif outcome != "scored":
            distance = (
                None if empty == "exclude" else math.hypot(*(n * s for n, s in zip(a.shape, spacing, strict=True)))
            )
            penalised = distance is not None
            scores.append(ClassScores(name, outcome, 0.0, 0.0, 0.0, distance, distance, error, n_a, n_b, penalised))
        else:
            box = ndimage.find_objects((a | b).astype(np.uint8))[0]
            nsd, hd, assd = surface_scores(a[box], b[box], spacing, tolerance_mm, hd95)
            overlap = (dice(n_a, n_b, both), iou(n_a, n_b, both))
            scores.append(ClassScores(name, outcome, *overlap, nsd, hd, assd, error, n_a, n_b, False))
    return scores


def _check_inputs(
    reference: Integer[np.ndarray, "..."],
    prediction: Integer[np.ndarray, "..."],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> None:
    if reference.shape != prediction.shape or reference.ndim != 3:
        msg = (
            f"label maps: expected two (i, j, k) arrays of one shape, got reference {reference.shape} and prediction "
            f"{prediction.shape}; resample the prediction to the reference's grid"
        )
        raise InputError(msg)
    if len(spacing_mm) != 3 or not all(math.isfinite(side) and side > 0 for side in spacing_mm):
        msg = (
            f"spacing_mm: expected three positive numbers, got {tuple(spacing_mm)}; mend the header, or give 1, 1, 1 "
            "to have distances in voxels"
        )
        raise InputError(msg)
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        msg = f"tolerance_mm: expected a number of at least 0, got {tolerance_mm}; give for example 2"
        raise InputError(msg)
