"""Lesion-wise detection over patients: pooled and per patient, by size of the lesion, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from equivox.metrics.lesions.panoptic import PanopticQuality
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, Interval, mean_interval
from equivox.metrics.statistics.patient_means import bounded_mean
from equivox.metrics.statistics.ratio import ratio_interval

SizeMeasure = Literal["short_axis", "volume"]


@dataclass(frozen=True)
class IntervalSettings:
    """How intervals are made.

    Attributes:
        draws: Resamples of patients behind those that are made by resampling.
        seed: The same seed resamples the same patients.
        confidence: Coverage that is aimed at.
        minimum: With fewer patients there is no interval.
    """

    draws: int = 4999
    seed: int = 0
    confidence: float = 0.95
    minimum: int = MINIMUM_PATIENTS


@dataclass(frozen=True, eq=False)
class PatientLesions:
    """The lesions and false detections of one patient, over all cases.

    Attributes:
        found: Whether each lesion that counts was found.
        volume: Of these lesions.
        short_axis: Of these lesions.
        dice: Of these lesions with their detections; NaN for a missed one.
        false_volume: Volume of each false detection.
        false_short_axis: Short axis of each false detection.
        ignored: Detections of lesions that were set apart.
        removed_lesions: Components of the reference that were too small.
        removed_detections: Components of the prediction that were too small.
        cases: All cases.
        cases_without_lesion: Cases without a lesion that counts.
        true_negative_cases: Those of them that have a prediction without a false detection.
        cases_without_prediction: Cases whose prediction is missing: all their lesions are missed.
        panoptic: Counts of panoptic quality, added up.
    """

    found: Bool[np.ndarray, " lesions"]
    volume: Float[np.ndarray, " lesions"]
    short_axis: Float[np.ndarray, " lesions"]
    dice: Float[np.ndarray, " lesions"]
    false_volume: Float[np.ndarray, " false"]
    false_short_axis: Float[np.ndarray, " false"]
    ignored: int = 0
    removed_lesions: int = 0
    removed_detections: int = 0
    cases: int = 1
    cases_without_lesion: int = 0
    true_negative_cases: int = 0
    cases_without_prediction: int = 0
    panoptic: PanopticQuality = field(default_factory=PanopticQuality)

    @property
    def lesions(self) -> int:
        """Lesions that count."""
        return len(self.found)

    @property
    def tp(self) -> int:
        """Lesions that were found."""
        return int(np.count_nonzero(self.found))

    @property
    def fp(self) -> int:
        """False detections."""
        return len(self.false_volume)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; None where it is not defined, or there are too few patients for an interval."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DetectionSummary:
    """Lesion-wise detection over patients.

    Attributes:
        patients: All patients.
        patients_with_lesions: Those with a lesion that counts.
        cases: All cases.
        cases_without_lesion: Cases without a lesion that counts.
        true_negative_cases: Those of them in which nothing was claimed either; they are in no ratio.
        cases_without_prediction: Cases whose prediction is missing; they have no false positive, which flatters.
        lesions: Lesions that count.
        found: Those that were found.
        false_positives: Detections of nothing.
        ignored: Detections of lesions that were set apart as too small: neither right nor wrong.
        removed_lesions: Lesions set apart as too small.
        removed_detections: Detections removed as too small.
        recall: All lesions found over all lesions (pooled): a patient with many lesions weighs more.
        patient_recall: Mean over patients with a lesion of the patient's own recall: each patient weighs the same.
        precision: Lesions found over lesions found and false detections, pooled.
        f1: ``2 TP / (2 TP + FP + FN)``, pooled.
        false_positives_per_patient: Mean over all patients, those without a lesion too.
        matched_dice: Mean over patients of the mean Dice of the patient's found lesions.
        pq: Panoptic quality, pooled.
        sq: Its segmentation part, the mean IoU of the pairs.
        rq: Its recognition part, the F1 of the pairs.
    """

    patients: int
    patients_with_lesions: int
    cases: int
    cases_without_lesion: int
    true_negative_cases: int
    cases_without_prediction: int
    lesions: int
    found: int
    false_positives: int
    ignored: int
    removed_lesions: int
    removed_detections: int
    recall: Estimate
    patient_recall: Estimate
    precision: Estimate
    f1: Estimate
    false_positives_per_patient: Estimate
    matched_dice: Estimate
    pq: Estimate
    sq: Estimate
    rq: Estimate


@dataclass(frozen=True)
class StratumSummary:
    """Detection of the lesions of one size.

    There is no precision: a false detection has no lesion, and its own size says little about the size that it stands
    for. It is counted in the stratum of its own size.

    Attributes:
        measure: What the size is.
        low: Smallest size of the stratum, of which a lesion belongs to it; None if it is open.
        high: Size from which on a lesion belongs to the next one; None if it is open.
        patients_with_lesions: Patients with a lesion of this size.
        lesions: Lesions of this size.
        found: Those that were found.
        recall: Pooled.
        patient_recall: Mean over patients with a lesion of this size.
        false_positives: False detections of this size.
        false_positives_per_patient: Mean over all patients.
    """

    measure: SizeMeasure
    low: float | None
    high: float | None
    patients_with_lesions: int
    lesions: int
    found: int
    recall: Estimate
    patient_recall: Estimate
    false_positives: int
    false_positives_per_patient: Estimate


def summarise_detection(
    patients: Sequence[PatientLesions], settings: IntervalSettings | None = None
) -> DetectionSummary:
    """Summarise detection over patients.

    Patients and not lesions are the unit of all intervals, as a patient's lesions are found or missed together. Recall,
    precision, F1 and panoptic quality have those of `ratio_interval`, the mean recall of patients too: few lesions a
    patient leave few distinct values, most of them 1, of which a bootstrap-t makes intervals twice as wide. False
    positives and the Dice of found lesions have bootstrap-t intervals. No false positive at all has no interval.

    Args:
        patients: One entry a patient, those without any lesion too.
        settings: Of the intervals.

    Example:
        Two patients with 1 of 1 and 1 of 3 lesions found: pooled 2/4, per patient (1 + 1/3) / 2.

        >>> def patient(*found: bool) -> PatientLesions:
        ...     sizes = np.full(len(found), 8.0)
        ...     return PatientLesions(np.array(found), sizes, sizes, sizes / 10, np.zeros(0), np.zeros(0))
        >>> summary = summarise_detection([patient(True), patient(True, False, False)])
        >>> summary.recall.value, round(summary.patient_recall.value, 3), summary.precision.value
        (0.5, 0.667, 1.0)
    """
    chosen = settings or IntervalSettings()
    tp, lesions = _numbers(patients, lambda one: one.tp), _numbers(patients, lambda one: one.lesions)
    fp = _numbers(patients, lambda one: one.fp)
    pairs = _numbers(patients, lambda one: one.panoptic.tp)
    overlap, instances = (
        _numbers(patients, lambda one: one.panoptic.iou_sum),
        _numbers(patients, lambda one: one.panoptic.instances),
    )
    dice = np.array([float(np.nanmean(one.dice)) for one in patients if one.tp])
    return DetectionSummary(
        patients=len(patients),
        patients_with_lesions=int(np.count_nonzero(lesions)),
        cases=sum(one.cases for one in patients),
        cases_without_lesion=sum(one.cases_without_lesion for one in patients),
        true_negative_cases=sum(one.true_negative_cases for one in patients),
        cases_without_prediction=sum(one.cases_without_prediction for one in patients),
        lesions=int(lesions.sum()),
        found=int(tp.sum()),
        false_positives=int(fp.sum()),
        ignored=sum(one.ignored for one in patients),
        removed_lesions=sum(one.removed_lesions for one in patients),
        removed_detections=sum(one.removed_detections for one in patients),
        recall=_ratio(tp, lesions, chosen),
        patient_recall=_mean_share(tp, lesions, chosen),
        precision=_ratio(tp, tp + fp, chosen),
        f1=_ratio(2 * tp, tp + fp + lesions, chosen),
        false_positives_per_patient=_mean_count(fp, chosen),
        matched_dice=_mean(dice, (0.0, 1.0), chosen),
        pq=_ratio(overlap, instances, chosen),
        sq=_ratio(overlap, pairs, chosen),
        rq=_ratio(pairs, instances, chosen),
    )


def summarise_strata(
    patients: Sequence[PatientLesions],
    measure: SizeMeasure,
    edges: Sequence[float],
    settings: IntervalSettings | None = None,
) -> list[StratumSummary]:
    """Summarise detection by size of the lesion, from small to large.

    Args:
        patients: One entry a patient.
        measure: What the size is.
        edges: Rising; a lesion of exactly an edge belongs to the larger stratum.
        settings: Of the intervals.
    """
    chosen = settings or IntervalSettings()
    ends: list[float | None] = [None, *edges, None]
    strata = []
    for low, high in pairwise(ends):
        mine = [_within(getattr(one, measure), low, high) for one in patients]
        false = [int(_within(getattr(one, f"false_{measure}"), low, high).sum()) for one in patients]
        lesions = np.array([own.sum() for own in mine], dtype=np.float64)
        tp = np.array([(own & one.found).sum() for own, one in zip(mine, patients, strict=True)], dtype=np.float64)
        strata.append(
            StratumSummary(
                measure=measure,
                low=low,
                high=high,
                patients_with_lesions=int(np.count_nonzero(lesions)),
                lesions=int(lesions.sum()),
                found=int(tp.sum()),
                recall=_ratio(tp, lesions, chosen),
                patient_recall=_mean_share(tp, lesions, chosen),
                false_positives=sum(false),
                false_positives_per_patient=_mean_count(np.array(false, dtype=np.float64), chosen),
            )
        )
    return strata


def volume_tertiles(patients: Sequence[PatientLesions]) -> tuple[float, ...]:
    """Return the two volumes that part all lesions into thirds; fewer where many lesions have the same volume.

    An edge is the volume of a lesion, the smallest of the upper part.
    """
    volumes = np.sort(np.concatenate([one.volume for one in patients])) if patients else np.zeros(0)
    if not len(volumes):
        return ()
    # The first lesion above a third, and above two thirds, of all.
    places = [place for place in (-(-len(volumes) // 3), -(-2 * len(volumes) // 3)) if place < len(volumes)]
    return tuple(sorted({float(volumes[place]) for place in places if volumes[place] > volumes[0]}))


def _within(sizes: Float[np.ndarray, " n"], low: float | None, high: float | None) -> Bool[np.ndarray, " n"]:
    # An axis is the root of a sum of squares: one of exactly an edge must not fall to its last digit.
    inside: Bool[np.ndarray, " n"] = np.ones(len(sizes), dtype=bool)
    if low is not None:
        inside &= sizes >= low * (1 - 1e-9)
    if high is not None:
        inside &= sizes < high * (1 - 1e-9)
    return inside


def _numbers(
    patients: Sequence[PatientLesions], of: Callable[[PatientLesions], float | int]
) -> Float[np.ndarray, " patients"]:
    return np.array([of(one) for one in patients], dtype=np.float64)


def _ratio(
    counted: Float[np.ndarray, " patients"], total: Float[np.ndarray, " patients"], settings: IntervalSettings
) -> Estimate:
    if not total.sum():
        return Estimate(None)
    interval = ratio_interval(counted, total, confidence=settings.confidence, minimum=settings.minimum)
    return _estimate(float(counted.sum() / total.sum()), interval)


def _mean_share(
    counted: Float[np.ndarray, " patients"], total: Float[np.ndarray, " patients"], settings: IntervalSettings
) -> Estimate:
    used = total > 0
    return _ratio(counted[used] / total[used], np.ones(int(used.sum())), settings)


def _mean_count(counts: Float[np.ndarray, " patients"], settings: IntervalSettings) -> Estimate:
    if len(counts) and not counts.any():
        return Estimate(0.0)
    return _mean(counts, (0.0, np.inf), settings)


def _mean(values: Float[np.ndarray, " n"], bounds: tuple[float, float], settings: IntervalSettings) -> Estimate:
    if not len(values):
        return Estimate(None)
    interval = mean_interval(
        values,
        draws=settings.draws,
        seed=settings.seed,
        confidence=settings.confidence,
        minimum=settings.minimum,
        bounds=bounds,
    )
    return _estimate(bounded_mean(values), interval)


def _estimate(value: float, interval: Interval | None) -> Estimate:
    return Estimate(value) if interval is None else Estimate(value, interval.low, interval.high)
