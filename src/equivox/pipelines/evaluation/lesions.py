"""Lesions of an evaluation: those of one case as plain rows, and all of them as a part of the summary."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Integer, Real

from equivox.datasets.cohort import AttributeConfig
from equivox.errors import InputError
from equivox.metrics.lesions.detection import CaseDetection, Detection, Lesion, detect_lesions
from equivox.metrics.lesions.detection_summary import (
    IntervalSettings,
    PatientLesions,
    summarise_detection,
    summarise_strata,
    volume_tertiles,
)
from equivox.metrics.lesions.froc import CaseCandidates, froc
from equivox.metrics.lesions.matching import DEFAULT_THRESHOLDS
from equivox.metrics.lesions.options import LesionOptions
from equivox.metrics.lesions.panoptic import PanopticQuality
from equivox.metrics.masks.label_maps import check_maps, class_boxes, union
from equivox.pipelines.patient_summary import interval_ends

_UNIT_TEXT: Final = {"ml": "mm³", "mm2": "mm²"}


@dataclass(frozen=True)
class CaseLesions:
    """The lesions of one case as plain values.

    Attributes:
        rows: One a component of the reference (kind ``lesion``) or of the prediction (``detection``): class, kind,
            number, outcome, voxels, volume, long and short axis, dice, and the numbers of the partners.
        counts: One a class: what was found, missed and false, recall, precision and F1 (None where not defined), and
            the counts and values of panoptic quality.
    """

    rows: tuple[dict[str, Any], ...]
    counts: tuple[dict[str, Any], ...]


def lesions_of_case(
    reference: Integer[np.ndarray, "i j k"],
    prediction: Integer[np.ndarray, "_ _ _"] | None,
    *,
    classes: Mapping[str, int],
    spacing_mm: Sequence[float],
    options: LesionOptions,
    in_voxels: bool,
    image: Real[np.ndarray, "_ _ _"] | None = None,
) -> CaseLesions:
    """Return the lesions of each class of one case.

    Args:
        reference: Class indices.
        prediction: Class indices on the same grid, or None where it is missing: every lesion is then missed, and no
            case is rightly left alone.
        classes: Class name -> index.
        spacing_mm: Voxel sides along i, j, k.
        options: How lesions are told apart and matched.
        in_voxels: Sizes are not real: volumes and axes are counted in voxels.
        image: The uptake on the same grid, for the rule ``suvmax``.

    Raises:
        InputError: If the maps are not integer arrays of one shape, the spacing is not usable, the image has another
            shape, or ``suvmax`` lacks it.

    Example:
        >>> truth = np.zeros((6, 6, 1), dtype=np.uint8)
        >>> truth[1:3, 1:3] = 1
        >>> case = lesions_of_case(
        ...     truth, truth, classes={"node": 1}, spacing_mm=(3.0, 4.0, 1.0), options=LesionOptions(), in_voxels=False
        ... )
        >>> [(row["kind"], row["outcome"], row["volume"], row["long_axis"]) for row in case.rows]
        [('lesion', 'found', 48.0, 10.0), ('detection', 'true_positive', 48.0, 10.0)]
    """
    found = np.zeros_like(reference) if prediction is None else prediction
    check_maps(reference, found)
    if image is not None and image.shape != reference.shape:
        msg = (
            f"image: expected the shape of the reference, {reference.shape}, got {image.shape}; resample it to the "
            "reference's grid"
        )
        raise InputError(msg)
    spacing = (1.0, 1.0, 1.0) if in_voxels else tuple(spacing_mm)
    indices = sorted(set(classes.values()))
    boxes = class_boxes(reference, indices), class_boxes(found, indices)
    rows: list[dict[str, Any]] = []
    counts = []
    for name, index in classes.items():
        held = [box for box in (boxes[0][index], boxes[1][index]) if box is not None]
        window = union(held) if held else (slice(0, 0),) * 3
        masks = reference[window] == index, found[window] == index
        case = detect_lesions(*masks, spacing, options, None if image is None else image[window])
        rows += [_row(name, "lesion", lesion, lesion.detections, lesion.dice) for lesion in case.lesions]
        rows += [_row(name, "detection", each, each.lesions, None) for each in case.detections]
        counts.append(_counts(name, case, predicted=prediction is not None))
    return CaseLesions(tuple(rows), tuple(counts))


def lesion_table(
    cases: Mapping[str, CaseLesions], patients: Mapping[str, str], *, length_unit: str, volume_unit: str
) -> pd.DataFrame:
    """Return all rows as `lesions.csv` has them: the unit of each column is in its name.

    Args:
        cases: Case -> its lesions.
        patients: Case -> patient.
        length_unit: ``mm`` or ``voxels``.
        volume_unit: Of the evaluation: a volume in ``ml`` is one in mm3 here, as lesions are small.
    """
    columns = ["case_id", "patient_id", "class", "kind", "number", "outcome", "voxels", "volume", "short_axis"]
    columns += ["long_axis", "dice", "partners"]
    flat = [
        {"case_id": case, "patient_id": patients[case]} | row for case, found in cases.items() for row in found.rows
    ]
    table = pd.DataFrame(flat, columns=columns)
    names = {"short_axis": f"short_axis_{length_unit}", "long_axis": f"long_axis_{length_unit}"}
    if volume_unit == "voxels":
        return table.drop(columns="volume").rename(columns=names)
    return table.rename(columns=names | {"volume": f"volume_{_small_unit(volume_unit)}"})


def summarise_lesions(
    cases: Mapping[str, CaseLesions],
    patients: Mapping[str, str],
    *,
    groups: Mapping[str, Mapping[str, str | None]],
    attributes: Mapping[str, AttributeConfig],
    options: LesionOptions,
    in_voxels: bool,
    intervals: IntervalSettings,
    candidates: Mapping[str, Mapping[str, CaseCandidates]] | None = None,
) -> dict[str, Any]:
    """Return the part of a summary that is about lesions, as plain values, by class.

    All of it is exploratory: no verdict rests on it.

    Args:
        cases: Case -> its lesions; all cases of one role.
        patients: Case -> patient.
        groups: Attribute -> patient -> group, None where unknown.
        attributes: How the groups of each attribute are ordered.
        options: The strata.
        in_voxels: Sizes are not real: there are no strata in mm, only thirds by volume.
        intervals: How intervals are made.
        candidates: Class -> case -> candidates of a probability map, where there is one: adds ``froc``.

    Returns:
        For each class ``overall``, ``strata`` (by short axis where sizes are real, then by thirds of volume),
        ``groups`` (attribute -> one entry a group, as overall, with ``name`` and ``small``) and, with candidates,
        ``froc``.
    """
    names = list(dict.fromkeys(count["class"] for case in cases.values() for count in case.counts))
    result: dict[str, Any] = {}
    for name in names:
        by_patient = _by_patient(name, cases, patients)
        everyone = list(by_patient.values())
        strata = [] if in_voxels else summarise_strata(everyone, "short_axis", options.strata_short_axis_mm, intervals)
        edges = volume_tertiles(everyone)
        if edges:
            strata += summarise_strata(everyone, "volume", edges, intervals)
        result[name] = {
            "overall": asdict(summarise_detection(everyone, intervals)),
            "strata": [asdict(stratum) for stratum in strata],
            "groups": {
                attribute: _groups(by_patient, groups.get(attribute, {}), config, intervals)
                for attribute, config in attributes.items()
            },
        }
        if candidates is not None and name in candidates:
            result[name]["froc"] = _froc(candidates[name], patients, intervals)
    return result


def describe_lesions(options: LesionOptions, *, volume_unit: str, length_unit: str) -> list[str]:
    """Say in sentences how lesions were told apart and matched.

    Args:
        options: The settings.
        volume_unit: Of the evaluation.
        length_unit: Of the evaluation.

    Example:
        >>> describe_lesions(LesionOptions(), volume_unit="ml", length_unit="mm")[0]
        'Lesions are connected components (26-connectivity).'
    """
    threshold = DEFAULT_THRESHOLDS.get(options.match, 0.0) if options.threshold is None else options.threshold
    rule = {
        "any_overlap": "they share a voxel",
        "dice": f"their Dice exceeds {threshold:g}",
        "iou": f"their IoU exceeds {threshold:g}",
        "cover": f"it covers more than {threshold:g} of the lesion",
        "suvmax": "it covers the lesion's hottest voxel",
    }[options.match]
    policy = {
        "one_to_one": "each lesion has at most one detection and each detection at most one lesion",
        "merge": "all detections that touch a lesion count as one, and one detection may find several lesions",
    }[options.policy]
    sentences = [
        f"Lesions are connected components ({options.connectivity}-connectivity).",
        f"A detection finds a lesion where {rule}; {policy}.",
    ]
    least = []
    if options.minimum_volume_mm3:
        least.append(
            f"Components of less than {options.minimum_volume_mm3:g} {_UNIT_TEXT.get(volume_unit, volume_unit)}"
        )
    if options.minimum_short_axis_mm:
        least.append(f"reference lesions with a short axis below {options.minimum_short_axis_mm:g} {length_unit}")
    if least:
        whole = " and ".join(least)
        sentences.append(f"{whole[0].upper()}{whole[1:]} are set apart; to detect one is neither right nor wrong.")
    return sentences


def _small_unit(volume_unit: str) -> str:
    return "mm3" if volume_unit == "ml" else volume_unit


def _row(
    name: str, kind: str, component: Lesion | Detection, partners: Sequence[int], dice: float | None
) -> dict[str, Any]:
    return {
        "class": name,
        "kind": kind,
        "number": component.number,
        "outcome": component.outcome,
        "voxels": component.voxels,
        "volume": component.volume_mm3,
        "short_axis": component.short_axis_mm,
        "long_axis": component.long_axis_mm,
        "dice": dice,
        "partners": " ".join(map(str, partners)),
    }


def _counts(name: str, case: CaseDetection, *, predicted: bool) -> dict[str, Any]:
    return {
        "class": name,
        "predicted": predicted,
        "tp": case.tp,
        "fn": case.fn,
        "fp": case.fp,
        "ignored": case.ignored,
        "removed_lesions": case.removed_lesions,
        "removed_detections": case.removed_detections,
        "true_negative": case.true_negative and predicted,
        "recall": case.recall,
        "precision": case.precision,
        "f1": case.f1,
        **{f"panoptic_{key}": value for key, value in asdict(case.panoptic).items()},
        "pq": case.panoptic.pq,
        "sq": case.panoptic.sq,
        "rq": case.panoptic.rq,
    }


def _by_patient(name: str, cases: Mapping[str, CaseLesions], patients: Mapping[str, str]) -> dict[str, PatientLesions]:
    gathered: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {}
    for case, found in cases.items():
        rows, counts = gathered.setdefault(patients[case], ([], []))
        rows += [row for row in found.rows if row["class"] == name]
        counts += [count for count in found.counts if count["class"] == name]
    return {patient: _patient(rows, counts) for patient, (rows, counts) in sorted(gathered.items())}


def _patient(rows: Sequence[Mapping[str, Any]], counts: Sequence[Mapping[str, Any]]) -> PatientLesions:
    lesions = [row for row in rows if row["outcome"] in ("found", "missed")]
    false = [row for row in rows if row["outcome"] == "false_positive"]

    def sizes(of: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
        return np.array([math.nan if row[key] is None else row[key] for row in of], dtype=np.float64)

    panoptic = PanopticQuality()
    for count in counts:
        panoptic += PanopticQuality(*(count[f"panoptic_{key}"] for key in ("tp", "fp", "fn", "iou_sum")))
    return PatientLesions(
        found=np.array([row["outcome"] == "found" for row in lesions], dtype=bool),
        volume=sizes(lesions, "volume"),
        short_axis=sizes(lesions, "short_axis"),
        dice=sizes(lesions, "dice"),
        false_volume=sizes(false, "volume"),
        false_short_axis=sizes(false, "short_axis"),
        ignored=sum(count["ignored"] for count in counts),
        removed_lesions=sum(count["removed_lesions"] for count in counts),
        removed_detections=sum(count["removed_detections"] for count in counts),
        cases=len(counts),
        cases_without_lesion=sum(count["tp"] + count["fn"] == 0 for count in counts),
        true_negative_cases=sum(count["true_negative"] for count in counts),
        cases_without_prediction=sum(not count["predicted"] for count in counts),
        panoptic=panoptic,
    )


def _groups(
    by_patient: Mapping[str, PatientLesions],
    group_of: Mapping[str, str | None],
    config: AttributeConfig,
    intervals: IntervalSettings,
) -> list[dict[str, Any]]:
    found = {patient: group_of.get(patient) for patient in by_patient}
    order = config.sort_groups(group for group in found.values() if group is not None)
    result = []
    for name in order:
        members = [lesions for patient, lesions in by_patient.items() if found[patient] == name]
        summary = asdict(summarise_detection(members, intervals))
        result.append({"name": name, "small": len(members) < intervals.minimum} | summary)
    return result


def _froc(
    candidates: Mapping[str, CaseCandidates], patients: Mapping[str, str], intervals: IntervalSettings
) -> dict[str, Any] | None:
    if not any(len(case.lesion_scores) for case in candidates.values()):
        return None
    curve = froc(
        list(candidates.values()),
        [patients[case] for case in candidates],
        seed=intervals.seed,
        confidence=intervals.confidence,
        minimum=intervals.minimum,
    )
    ends = curve.cpm_interval
    # Between rises the curve is level; with thousands of false candidates these are few of its points.
    kept = np.append(True, np.diff(curve.sensitivity) > 0)
    kept[-1] = True
    return {
        "patients": curve.patients,
        "lesions": curve.lesions,
        "points": list(curve.points),
        "sensitivity": list(curve.at_points),
        "cpm": {"value": curve.cpm, **interval_ends(ends)},
        "curve": [
            list(pair)
            for pair in zip(
                curve.false_positives_per_patient[kept].tolist(), curve.sensitivity[kept].tolist(), strict=True
            )
        ],
    }
