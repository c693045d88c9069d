"""How well a held-out scan with a reference is segmented, for what is to be held beside a probe."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Integer

from equivox.metrics.lesions.components import connected_components
from equivox.metrics.lesions.matching import match_components
from equivox.metrics.lesions.options import LesionOptions
from equivox.metrics.masks.overlap import dice
from equivox.pipelines.auditing.sources import AuditSource

_LESIONS: Final = LesionOptions()


@dataclass(frozen=True)
class Outcome:
    """What a segmentation is worth, of one scan or as the mean over a patient's scans.

    Attributes:
        dice: Mean over the classes that reference or segmentation hold; None where neither holds any.
        volume: Of the reference's foreground, in mm3, or in voxels where voxel sizes are not real.
        recall: Share of the reference's lesions (components of each class) that were found; None without one.
        false_detections: Components of the segmentation that match no lesion.
    """

    dice: int | float | None
    volume: int | float
    recall: int | float | None
    false_detections: int | float


def outcome_of(
    reference: Integer[np.ndarray, "i j k"],
    labels: Integer[np.ndarray, "i j k"],
    classes: int,
    spacing_mm: Sequence[float],
) -> Outcome:
    """Score one segmentation on the prepared grid.

    A lesion is found as in `equivox evaluate` by default: one to one, with a Dice above 0.1, voxels touching at
    corners.

    Args:
        reference: Class indices.
        labels: The segmentation, on the same grid.
        classes: Background included.
        spacing_mm: Of the grid; 1, 1, 1 gives volumes in voxels.

    Example:
        >>> reference = np.zeros((6, 1, 1), dtype=np.int16)
        >>> reference[[0, 1, 4]] = 1
        >>> outcome_of(reference, np.roll(reference, 1), 2, (1.0, 1.0, 2.0))
        Outcome(dice=0.3333333333333333, volume=6.0, recall=0.5, false_detections=1)
    """
    found, lesions, false = 0, 0, 0
    for index in range(1, classes):
        own, other = (
            connected_components(one == index, spacing_mm, connectivity=_LESIONS.connectivity)
            for one in (reference, labels)
        )
        matched = match_components(own, other, rule=_LESIONS.match, policy=_LESIONS.policy)
        found += sum(bool(partners) for partners in matched.partners)
        lesions += len(own)
        false += sum(outcome == "false_positive" for outcome in matched.outcomes)
    volume = int((reference > 0).sum()) * math.prod(spacing_mm)
    return Outcome(mean_dice(reference, labels, classes), volume, found / lesions if lesions else None, false)


def mean_dice(reference: np.ndarray, labels: np.ndarray, classes: int) -> float | None:
    """Return the mean Dice over the classes that either holds; None where neither holds any."""
    scores = []
    for index in range(1, classes):
        own, other = reference == index, labels == index
        if own.any() or other.any():
            scores.append(dice(int(own.sum()), int(other.sum()), int((own & other).sum())))
    return sum(scores) / len(scores) if scores else None


def by_patient(
    source: AuditSource, outcomes: Mapping[tuple[str, int], Outcome], *, positive: bool = True
) -> dict[tuple[str, int], Outcome]:
    """Return patient and fold -> the mean over the patient's scans.

    Args:
        source: Whose scans they are.
        outcomes: Case and fold -> outcome.
        positive: True: of the scans whose reference has a foreground. False: of the patients none of whose scans has.
    """
    owner = {one.case.case_id: one.case.patient_id for one in source.cases}
    scans: defaultdict[tuple[str, int], list[Outcome]] = defaultdict(list)
    for (case, fold), one in outcomes.items():
        scans[owner[case], fold].append(one)
    if positive:
        held = {key: [one for one in found if one.volume > 0] for key, found in scans.items()}
        return {key: _mean(found) for key, found in held.items() if found}
    return {key: _mean(found) for key, found in scans.items() if all(one.volume == 0 for one in found)}


def over_networks(outcomes: Mapping[tuple[str, int], Outcome]) -> dict[str, Outcome]:
    """Return patient -> the mean over the networks that the patient is held out from, in a fixed order."""
    found: defaultdict[str, list[Outcome]] = defaultdict(list)
    for (patient, _), one in sorted(outcomes.items()):
        found[patient].append(one)
    return {patient: _mean(several) for patient, several in found.items()}


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    def mean(values: list[int | float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return Outcome(
        mean([one.dice for one in outcomes]),
        sum(one.volume for one in outcomes) / len(outcomes),
        mean([one.recall for one in outcomes]),
        sum(one.false_detections for one in outcomes) / len(outcomes),
    )
