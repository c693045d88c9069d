"""Lesion-wise detection in one case: which lesions were found, and which detections are false."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Real
from scipy import ndimage

from equivox.errors import InputError
from equivox.metrics.lesions.components import Components, connected_components
from equivox.metrics.lesions.matching import DetectionOutcome, match_components
from equivox.metrics.lesions.options import LesionOptions
from equivox.metrics.lesions.panoptic import PanopticQuality, panoptic_quality
from equivox.metrics.lesions.short_axis import LesionAxes, lesion_axes

LesionOutcome = Literal["found", "missed", "too_small"]
"""A lesion of the reference is found or missed; or it was set apart as too small, and is neither."""


@dataclass(frozen=True)
class Lesion:
    """One lesion of the reference.

    Attributes:
        number: From 1, in the order of the first voxel.
        outcome: See `LesionOutcome`.
        voxels: Its voxels.
        volume_mm3: Its volume.
        long_axis_mm: See `lesion_axes`.
        short_axis_mm: See `lesion_axes`.
        detections: The numbers of the detections that found it.
        dice: With these detections taken together; None without one.
    """

    number: int
    outcome: LesionOutcome
    voxels: int
    volume_mm3: float
    long_axis_mm: float
    short_axis_mm: float
    detections: tuple[int, ...]
    dice: float | None


@dataclass(frozen=True)
class Detection:
    """One component of the prediction.

    Attributes:
        number: From 1, in the order of the first voxel.
        outcome: See `DetectionOutcome`.
        voxels: Its voxels.
        volume_mm3: Its volume.
        long_axis_mm: See `lesion_axes`.
        short_axis_mm: See `lesion_axes`.
        lesions: The numbers of the lesions that it found.
    """

    number: int
    outcome: DetectionOutcome
    voxels: int
    volume_mm3: float
    long_axis_mm: float
    short_axis_mm: float
    lesions: tuple[int, ...]


@dataclass(frozen=True)
class CaseDetection:
    """Lesion-wise detection in one case.

    Attributes:
        lesions: Every component of the reference, those that are set apart as too small too.
        detections: Every component of the prediction, the removed ones too.
        panoptic: Panoptic quality of the case, on the same components.
    """

    lesions: tuple[Lesion, ...]
    detections: tuple[Detection, ...]
    panoptic: PanopticQuality

    @property
    def tp(self) -> int:
        """Lesions that were found; several detections of one lesion count once."""
        return sum(lesion.outcome == "found" for lesion in self.lesions)

    @property
    def fn(self) -> int:
        """Lesions that were missed."""
        return sum(lesion.outcome == "missed" for lesion in self.lesions)

    @property
    def fp(self) -> int:
        """Detections of nothing."""
        return sum(detection.outcome == "false_positive" for detection in self.detections)

    @property
    def ignored(self) -> int:
        """Detections of lesions that were set apart: neither right nor wrong."""
        return sum(detection.outcome == "ignored" for detection in self.detections)

    @property
    def removed_lesions(self) -> int:
        """Components of the reference that are too small."""
        return sum(lesion.outcome == "too_small" for lesion in self.lesions)

    @property
    def removed_detections(self) -> int:
        """Components of the prediction that are too small."""
        return sum(detection.outcome == "too_small" for detection in self.detections)

    @property
    def true_negative(self) -> bool:
        """Whether there was no lesion that counts, and none was claimed."""
        return self.tp + self.fn + self.fp == 0

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN); None without a lesion."""
        return share(self.tp, self.tp + self.fn)

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP); None without a detection that counts."""
        return share(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN); None with neither."""
        return share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def detect_lesions(
    reference: Bool[np.ndarray, "i j k"],
    prediction: Bool[np.ndarray, "_ _ _"],
    spacing_mm: Sequence[float],
    options: LesionOptions | None = None,
    image: Real[np.ndarray, "_ _ _"] | None = None,
) -> CaseDetection:
    """Hold the detected lesions of one class and case against those of the reference.

    Nothing is made up where a ratio is not defined: without a lesion there is no recall, without a detection no
    precision, and a case with neither is counted as a true negative and is in no mean. Some published code scores such
    cases 1 or 0.5.

    Args:
        reference: The mask of the reference; a 2D image has one voxel along k.
        prediction: The predicted mask on the same grid.
        spacing_mm: Voxel sides along i, j, k; 1, 1, 1 gives everything in voxels.
        options: How lesions are told apart and matched.
        image: The uptake, for the rule ``suvmax``.

    Raises:
        InputError: If the grids differ, the spacing is not usable, or ``suvmax`` lacks its image.

    References:
        Bouget et al., "Mediastinal lymph nodes segmentation using 3D convolutional neural network ensembles and
        anatomical priors guiding", Comput Methods Biomech Biomed Eng Imaging Vis 2023 (the setting, not its values for
        cases without a lesion).

    Example:
        >>> truth, guess = np.zeros((2, 12, 12, 3), dtype=bool)
        >>> truth[1:4, 1:4, 1] = truth[8:10, 8:10, 1] = True
        >>> guess[1:4, 2:4, 1] = guess[6, 1, 1] = True
        >>> case = detect_lesions(truth, guess, (1.0, 1.0, 3.0))
        >>> case.tp, case.fn, case.fp, case.recall, case.lesions[0].dice
        (1, 1, 1, 0.5, 0.8)
    """
    chosen = options or LesionOptions()
    if reference.shape != prediction.shape:
        msg = (
            f"prediction: expected the shape of the reference, {reference.shape}, got {prediction.shape}; resample it "
            "to the reference's grid"
        )
        raise InputError(msg)
    lesions, lesion_sizes = find_lesions(reference, spacing_mm, chosen, is_reference=True)
    detections, detection_sizes = find_lesions(prediction, spacing_mm, chosen, is_reference=False)
    matching = match_components(
        lesions, detections, rule=chosen.match, threshold=chosen.threshold, policy=chosen.policy, image=image
    )
    finds: list[list[int]] = [[] for _ in range(len(detections))]
    for number, partners in enumerate(matching.partners, 1):
        for partner in partners:
            finds[partner - 1].append(number)
    return CaseDetection(
        tuple(
            Lesion(
                number=place + 1,
                outcome="found" if partners else "missed" if lesions.kept[place] else "too_small",
                voxels=int(lesions.voxels[place]),
                volume_mm3=float(lesions.volume_mm3[place]),
                long_axis_mm=lesion_sizes[place].long_axis_mm,
                short_axis_mm=lesion_sizes[place].short_axis_mm,
                detections=partners,
                dice=matching.dice[place],
            )
            for place, partners in enumerate(matching.partners)
        ),
        tuple(
            Detection(
                number=place + 1,
                outcome=outcome,
                voxels=int(detections.voxels[place]),
                volume_mm3=float(detections.volume_mm3[place]),
                long_axis_mm=detection_sizes[place].long_axis_mm,
                short_axis_mm=detection_sizes[place].short_axis_mm,
                lesions=tuple(finds[place]),
            )
            for place, outcome in enumerate(matching.outcomes)
        ),
        panoptic_quality(lesions, detections, threshold=chosen.panoptic_threshold),
    )


def find_lesions(
    mask: Bool[np.ndarray, "i j k"], spacing_mm: Sequence[float], options: LesionOptions, *, is_reference: bool
) -> tuple[Components, list[LesionAxes]]:
    """Return the components of a mask with their axes; of a reference, those with too short an axis are set apart.

    Args:
        mask: One class.
        spacing_mm: Voxel sides along i, j, k.
        options: How lesions are told apart.
        is_reference: Whether the smallest short axis applies.

    Raises:
        InputError: If the spacing is not usable.
    """
    found = connected_components(
        mask, spacing_mm, connectivity=options.connectivity, minimum_volume_mm3=options.minimum_volume_mm3
    )
    boxes = ndimage.find_objects(found.labels) if len(found) else []
    single: LesionAxes | None = None
    axes = []
    for number, box in enumerate(boxes, 1):
        if found.voxels[number - 1] == 1:
            # Noisy masks have thousands of these.
            single = single or lesion_axes(np.ones((1, 1, 1), dtype=bool), spacing_mm)
            axes.append(single)
        else:
            axes.append(lesion_axes(found.labels[box] == number, spacing_mm))
    if not is_reference or not options.minimum_short_axis_mm:
        return found, axes
    short = np.array([each.short_axis_mm for each in axes])
    long_enough = short >= options.minimum_short_axis_mm * (1 - 1e-9)
    return Components(found.labels, found.voxels, found.volume_mm3, found.kept & long_enough), axes


def share(count: float | int, total: float | int) -> float | None:
    """Return a ratio, or None where there is nothing to divide by."""
    return count / total if total else None
