"""Probabilities of an evaluation: what one case's maps say, and all of them as a part of the summary."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from equivox.datasets.cohort import AttributeConfig
from equivox.errors import InputError
from equivox.metrics.lesions.detection_summary import IntervalSettings
from equivox.metrics.lesions.froc import CaseCandidates, froc_candidates
from equivox.metrics.lesions.options import LesionOptions
from equivox.metrics.masks.label_maps import class_boxes
from equivox.metrics.probabilistic.calibration import (
    BINS,
    adaptive_calibration_error,
    brier_score,
    expected_calibration_error,
    mean_reliability,
    reliability_curve,
)
from equivox.metrics.probabilistic.case_calibration import CaseCalibration, calibrate_case
from equivox.metrics.probabilistic.predicted_dice import predicted_dice
from equivox.metrics.probabilistic.regions import BOUNDARY_MM, BOUNDARY_VOXELS, FOREGROUND_MM, FOREGROUND_VOXELS
from equivox.metrics.probabilistic.selective import dice_agreement, risk_coverage
from equivox.metrics.statistics.bootstrap import Interval, mean_interval
from equivox.pipelines.patient_summary import interval_ends

CASE_COLUMNS: Final = ("predicted_dice", "ece", "boundary_ece", "brier")
"""What `cases.csv` has of the probabilities of a case and class."""

_SEED_THRESHOLD: Final = 0.1
_MOST_POINTS: Final = 200


@dataclass(frozen=True, eq=False)
class ClassProbability:
    """What the map of one class of one case says.

    Attributes:
        class_name: The class.
        counts: For its calibration.
        predicted_dice: The Dice that the map expects of the mask; None where nothing is there.
        candidates: Of lesions, where they were asked for.
    """

    class_name: str
    counts: CaseCalibration
    predicted_dice: float | None
    candidates: CaseCandidates | None = None

    def columns(self) -> dict[str, float | None]:
        """Return what `cases.csv` has of it."""
        return {
            "predicted_dice": self.predicted_dice,
            "ece": expected_calibration_error(self.counts.foreground),
            "boundary_ece": expected_calibration_error(self.counts.boundary),
            "brier": brier_score(self.counts.foreground),
        }


@dataclass(frozen=True, eq=False)
class _Patient:
    counts: CaseCalibration
    predicted: float
    real: float
    empty: int


def class_probability(
    name: str,
    probability: Float[np.ndarray, "i j k"],
    reference: Bool[np.ndarray, "i j k"],
    prediction: Bool[np.ndarray, "i j k"],
    spacing_mm: Sequence[float],
    *,
    in_voxels: bool,
    lesions: LesionOptions | None = None,
) -> ClassProbability:
    """Compare the map of one class with its masks.

    Args:
        name: The class.
        probability: In [0, 1], on the reference's grid.
        reference: The class's mask.
        prediction: Its predicted mask.
        spacing_mm: Voxel sides; 1, 1, 1 where they are not real.
        in_voxels: They are not real: regions are so many voxels wide.
        lesions: How lesions are told apart; None looks for none.

    Raises:
        InputError: If the map and the predicted mask lie elsewhere.
    """
    sure = probability > 0.5
    counts = int(np.count_nonzero(sure)), int(np.count_nonzero(prediction))
    # What is more probable than all else together is what was predicted; only cleaning up may have changed it.
    if min(counts) and 2 * int(np.count_nonzero(sure & prediction)) < min(counts):
        msg = (
            f"probabilities of {name}: expected those of the predicted mask, got ones above 0.5 mostly elsewhere; they "
            "are of another prediction or turned: give the right ones or add --probabilities none"
        )
        raise InputError(msg)
    candidates = None
    if lesions is not None:
        box = class_boxes((reference | (probability >= _SEED_THRESHOLD)).view(np.uint8), [1])[1]
        window = box or (slice(0, 0),) * 3
        # At a low threshold a component is larger than its lesion: touching it must do.
        rule = {"match": "any_overlap", "policy": "merge", "threshold": None}
        candidates = froc_candidates(
            reference[window],
            probability[window],
            spacing_mm,
            lesions.model_copy(update=rule),
            seed_threshold=_SEED_THRESHOLD,
        )
    return ClassProbability(
        name,
        calibrate_case(
            probability,
            reference,
            prediction,
            spacing_mm,
            foreground_mm=FOREGROUND_VOXELS if in_voxels else FOREGROUND_MM,
            boundary_mm=BOUNDARY_VOXELS if in_voxels else BOUNDARY_MM,
        ),
        predicted_dice(probability, prediction),
        candidates,
    )


def summarise_calibration(
    cases: Mapping[str, Sequence[ClassProbability]],
    rows: pd.DataFrame,
    *,
    classes: Sequence[str],
    groups: Mapping[str, Mapping[str, str | None]],
    attributes: Mapping[str, AttributeConfig],
    intervals: IntervalSettings,
) -> dict[str, Any]:
    """Return the part of a summary that is about probabilities, as plain values, by class.

    The patient is the unit: a patient's error comes from the bins of all of the patient's cases together, and its
    predicted and real Dice are means over cases.

    Args:
        cases: Case -> what its maps say; cases without maps are not there.
        rows: One row a case and class of one role: case_id, patient_id, class, outcome, dice, prediction_voxels.
        classes: In the order to show them.
        groups: Attribute -> patient -> group, None where unknown.
        attributes: How the groups of each attribute are ordered.
        intervals: How intervals are made.

    Returns:
        For each class with a map ``overall`` (patients, cases, and each measure with its interval), ``reliability``,
        ``selective`` and ``groups`` (attribute -> one entry a group: name, small, as overall, ``reliability``).
    """
    result: dict[str, Any] = {}
    for name in classes:
        own = rows[(rows["class"] == name) & rows["case_id"].isin(list(cases))]
        patients = _patients(name, own, cases)
        if not patients:
            continue
        everyone = list(patients.values())
        result[name] = {
            "overall": {"patients": len(everyone), "cases": _cases(name, own, cases)} | _measures(everyone, intervals),
            "reliability": _reliability(everyone),
            "selective": _selective(everyone, intervals),
            "groups": {
                attribute: _groups(patients, groups.get(attribute, {}), config, intervals)
                for attribute, config in attributes.items()
            },
        }
    return result


def describe_calibration(*, length_unit: str) -> str:
    """Say how the probabilities were looked at.

    Args:
        length_unit: Of the evaluation.
    """
    voxels = length_unit == "voxels"
    near, edge = (FOREGROUND_VOXELS, BOUNDARY_VOXELS) if voxels else (FOREGROUND_MM, BOUNDARY_MM)
    return (
        f"Of each class against all others, in its foreground region: voxels within {near:g} {length_unit} of its mask "
        "in the reference or the prediction; without a voxel in either it is not defined. ECE: mean distance of "
        f"probability and frequency over {BINS} bins of equal width; ACE: over {BINS} bins of equally many voxels; "
        f"boundary ECE: at voxels within {edge:g} {length_unit} of the reference's boundary; Brier: mean squared "
        "error; under 'whole' both are over the whole image, where the background hides errors. A patient's errors "
        "come from the bins of all its cases; means over patients stand above 0 even for right probabilities, "
        "as the voxels of one patient scatter. Reliability: each patient has the same weight. Predicted Dice: "
        "2 Σ_P p / (Σ p + |P|) with P the predicted mask, the ratio of two expectations; it is 0 for an empty mask, "
        "and cases with neither mask are left out. Risk and coverage: mean 1 − Dice of the patients with the highest "
        "predicted Dice, ties in random order. None of it is tested."
    )


def lesion_candidates(
    found: Mapping[str, Sequence[ClassProbability]], missed: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, CaseCandidates]]:
    """Return class -> case -> candidates for the FROC curve.

    Args:
        found: Case -> what its maps say.
        missed: Case without a prediction -> class -> its lesions: no threshold finds them.
    """
    result: dict[str, dict[str, CaseCandidates]] = {}
    for case_id, classes in found.items():
        for one in classes:
            if one.candidates is not None:
                result.setdefault(one.class_name, {})[case_id] = one.candidates
    for case_id, lesions in missed.items():
        for name in result:
            none = np.zeros(0)
            result[name][case_id] = CaseCandidates(np.full(lesions.get(name, 0), -np.inf), none)
    return result


def _patients(name: str, rows: pd.DataFrame, cases: Mapping[str, Sequence[ClassProbability]]) -> dict[str, _Patient]:
    gathered: dict[str, list[tuple[ClassProbability, float, float, bool]]] = {}
    for row in rows.to_dict("records"):
        one = next((one for one in cases[row["case_id"]] if one.class_name == name), None)
        if one is None:
            continue
        real = math.nan if row["outcome"] == "both_empty" or pd.isna(row["dice"]) else float(row["dice"])
        predicted = math.nan if math.isnan(real) or one.predicted_dice is None else one.predicted_dice
        empty = not row["prediction_voxels"] and not math.isnan(predicted)
        gathered.setdefault(row["patient_id"], []).append(
            (one, predicted, math.nan if math.isnan(predicted) else real, empty)
        )
    return {patient: _patient(found) for patient, found in sorted(gathered.items())}


def _patient(found: Sequence[tuple[ClassProbability, float, float, bool]]) -> _Patient:
    counts = found[0][0].counts
    for one, *_ in found[1:]:
        counts += one.counts
    defined = [(predicted, real) for _, predicted, real, _ in found if not math.isnan(predicted)]
    predicted, real = np.mean(defined, axis=0).tolist() if defined else (math.nan, math.nan)
    return _Patient(counts, predicted, real, sum(empty for *_, empty in found))


def _cases(name: str, rows: pd.DataFrame, cases: Mapping[str, Sequence[ClassProbability]]) -> int:
    return sum(any(one.class_name == name for one in cases[case_id]) for case_id in rows["case_id"].unique())


def _measures(patients: Sequence[_Patient], intervals: IntervalSettings) -> dict[str, Any]:
    counts = [patient.counts for patient in patients]
    values: dict[str, list[float | None]] = {
        "ece": [expected_calibration_error(one.foreground) for one in counts],
        "ace": [adaptive_calibration_error(one.foreground) for one in counts],
        "boundary_ece": [expected_calibration_error(one.boundary) for one in counts],
        "brier": [brier_score(one.foreground) for one in counts],
        "whole_ece": [expected_calibration_error(one.whole) for one in counts],
        "whole_brier": [brier_score(one.whole) for one in counts],
        "dice_error": [abs(one.predicted - one.real) for one in patients],
        "dice_bias": [one.predicted - one.real for one in patients],
    }
    return {key: _mean(found, intervals, signed=key == "dice_bias") for key, found in values.items()}


def _mean(found: Sequence[float | None], intervals: IntervalSettings, *, signed: bool) -> dict[str, Any]:
    known = np.array([value for value in found if value is not None and math.isfinite(value)], dtype=np.float64)
    ends = mean_interval(
        known,
        draws=intervals.draws,
        seed=intervals.seed,
        confidence=intervals.confidence,
        minimum=intervals.minimum,
        bounds=(-1.0 if signed else 0.0, 1.0),
    )
    return {"patients": len(known)} | _written(float(known.mean()) if len(known) else None, ends)


def _written(value: float | None, ends: Interval | None) -> dict[str, float | None]:
    return {"value": value, **interval_ends(ends)}


def _reliability(patients: Sequence[_Patient]) -> list[dict[str, Any]]:
    curves = [reliability_curve(one.counts.foreground) for one in patients if one.counts.foreground.total]
    if not curves:
        return []
    mean = mean_reliability(curves)
    held = np.sum([curve.weight > 0 for curve in curves], axis=0)
    return [
        {
            "low": float(mean.low[place]),
            "high": float(mean.high[place]),
            "patients": int(held[place]),
            "weight": float(mean.weight[place]),
            "confidence": float(mean.confidence[place]),
            "observed": float(mean.observed[place]),
        }
        for place in np.flatnonzero(held).tolist()
    ]


def _selective(patients: Sequence[_Patient], intervals: IntervalSettings) -> dict[str, Any] | None:
    pairs = np.array([(one.predicted, one.real) for one in patients if not math.isnan(one.predicted)], dtype=np.float64)
    if not len(pairs):
        return None
    predicted, real = pairs.T
    curve = risk_coverage(
        predicted,
        1 - real,
        draws=min(intervals.draws, 999),
        seed=intervals.seed,
        level=intervals.confidence,
        minimum=intervals.minimum,
    )
    agreement = dice_agreement(
        predicted,
        real,
        draws=intervals.draws,
        seed=intervals.seed,
        confidence=intervals.confidence,
        minimum=intervals.minimum,
    )
    points = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), _MOST_POINTS)).round().astype(int))
    return {
        "patients": len(pairs),
        "empty_predictions": sum(one.empty for one in patients),
        "aurc": _written(curve.aurc, curve.interval),
        "aurc_best": curve.oracle,
        "aurc_random": curve.random,
        "excess_aurc": curve.excess,
        "curve": [[float(curve.coverage[place]), float(curve.risk[place])] for place in points.tolist()],
        "pearson": _written(agreement.pearson, agreement.pearson_interval),
        "spearman": _written(agreement.spearman, agreement.spearman_interval),
    }


def _groups(
    patients: Mapping[str, _Patient],
    group_of: Mapping[str, str | None],
    config: AttributeConfig,
    intervals: IntervalSettings,
) -> list[dict[str, Any]]:
    found = {patient: group_of.get(patient) for patient in patients}
    result = []
    for name in config.sort_groups(group for group in found.values() if group is not None):
        members = [one for patient, one in patients.items() if found[patient] == name]
        result.append(
            {"name": name, "patients": len(members), "small": len(members) < intervals.minimum}
            | _measures(members, intervals)
            | {"reliability": _reliability(members)}
        )
    return result
