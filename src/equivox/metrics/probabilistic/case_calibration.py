"""The calibration of one class of one case: in the foreground region, at the boundary and over the whole image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from equivox.errors import InputError
from equivox.metrics.masks.label_maps import class_boxes
from equivox.metrics.probabilistic.calibration import (
    CalibrationCounts,
    check_probability,
    count_calibration,
    nothing_counted,
)
from equivox.metrics.probabilistic.regions import BOUNDARY_MM, FOREGROUND_MM, near_boundary, near_mask, widened


@dataclass(frozen=True, eq=False)
class CaseCalibration:
    """The counts of one class of one case, or of several cases together.

    Attributes:
        foreground: Near the class's voxels in the reference or the prediction; no voxel where neither has one.
        boundary: At the boundary of the reference; no voxel where it has none.
        whole: The whole image.
    """

    foreground: CalibrationCounts
    boundary: CalibrationCounts
    whole: CalibrationCounts

    def __add__(self, other: "CaseCalibration") -> "CaseCalibration":
        return CaseCalibration(
            self.foreground + other.foreground, self.boundary + other.boundary, self.whole + other.whole
        )


def calibrate_case(
    probability: Float[np.ndarray, "i j k"],
    reference: Bool[np.ndarray, "i j k"],
    prediction: Bool[np.ndarray, "_ _ _"],
    spacing_mm: Sequence[float],
    *,
    foreground_mm: float = FOREGROUND_MM,
    boundary_mm: float = BOUNDARY_MM,
) -> CaseCalibration:
    """Count how often the probabilities of one class came true.

    Over the whole image the far background, of which every network is rightly sure, drowns all errors; so the headline
    is the foreground region.

    Args:
        probability: Of the class, in [0, 1], on the reference's grid.
        reference: Its mask.
        prediction: Its predicted mask.
        spacing_mm: Voxel sides along i, j, k; 1, 1, 1 for distances in voxels.
        foreground_mm: How far the foreground region reaches beyond the union of both masks, centre to centre.
        boundary_mm: How far the boundary region reaches; see `near_boundary`.

    Raises:
        InputError: If the grids differ, a probability is out of range, or a length is none.

    Example:
        >>> truth, guess = np.zeros((20, 1, 1), dtype=bool), np.zeros((20, 1, 1))
        >>> truth[:2], guess[:2] = True, 0.9
        >>> found = calibrate_case(guess, truth, guess > 0.5, (1.0, 1.0, 1.0))
        >>> found.foreground.total, found.boundary.total, found.whole.total
        (7, 4, 20)
    """
    if prediction.shape != reference.shape:
        msg = (
            f"prediction: expected the shape of the reference, {reference.shape}, got {prediction.shape}; resample it "
            "to the reference's grid"
        )
        raise InputError(msg)
    check_probability(probability, reference.shape)
    whole = count_calibration(probability, reference)
    union = reference | prediction
    box = class_boxes(union.view(np.uint8), [1])[1]
    if box is None:
        return CaseCalibration(nothing_counted(), nothing_counted(), whole)
    window = widened(box, reference.shape, spacing_mm, max(foreground_mm, boundary_mm))
    p, y = probability[window], reference[window]
    near = near_mask(union[window], spacing_mm, foreground_mm)
    edge = near_boundary(y, spacing_mm, boundary_mm)
    return CaseCalibration(count_calibration(p[near], y[near]), count_calibration(p[edge], y[edge]), whole)
