"""The scores of one model's predictions: every case as an evaluation scores it, reduced to one value a patient."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pandas as pd

from equivox.definitions import METRICS
from equivox.errors import InputError
from equivox.metrics.probabilistic.calibration import expected_calibration_error
from equivox.metrics.probabilistic.case_calibration import CaseCalibration
from equivox.metrics.statistics.patient_means import patient_values
from equivox.parallel import map_cases
from equivox.pipelines.cross_site_config import CrossSiteConfig
from equivox.pipelines.crossing.measures import (
    ECE,
    FALSE_POSITIVES,
    LESION_RECALL,
    MEASURES,
    WIDE_NSD,
    asked_of,
    output_key,
)
from equivox.pipelines.crossing.pools import Model
from equivox.pipelines.crossing.sites import Sites
from equivox.pipelines.evaluation.cases import CaseResult, ScoringTask, score_one
from equivox.pipelines.evaluation.predictions import read_label_names
from equivox.pipelines.evaluation.probabilities import ClassMap, find_probabilities
from equivox.pipelines.evaluation.sources import ScoredCase
from equivox.pipelines.prediction.map_names import PROBABILITIES

SCORE_COLUMNS: Final = ("patient_id", "site", "metric", "value")


@dataclass(frozen=True)
class CellTask:
    """All that a worker needs to score one case.

    Attributes:
        task: As an evaluation has it, without maps of probabilities.
        wide_tolerance: Of the second NSD; None does not compute it.
        maps: Class -> its map of probabilities; empty where there is none.
    """

    task: ScoringTask
    wide_tolerance: float | None
    maps: Mapping[str, ClassMap]


def score_cell_case(cell: CellTask) -> CaseResult:
    """Score one case, and look again for the wider tolerance and the probabilities.

    Lesions are not looked for in the maps: there is no FROC curve here.

    Raises:
        InputError: As of `score_one`.
    """
    result = score_one(cell.task)
    if cell.wide_tolerance is None and not cell.maps:
        return result
    wide = cell.wide_tolerance is not None
    again = score_one(
        replace(
            cell.task,
            families=("surface",) if wide else ("volume",),
            tolerance=cell.wide_tolerance if cell.wide_tolerance is not None else cell.task.tolerance,
            lesions=None,
            probabilities=cell.maps,
        )
    )
    rows = result.rows
    if wide:
        rows = tuple(row | {WIDE_NSD: other["nsd"]} for row, other in zip(rows, again.rows, strict=True))
    return replace(result, rows=rows, probabilities=again.probabilities)


def score_predictions(
    predictions: Path, model: Model, sites: Sites, config: CrossSiteConfig, targets: Sequence[str], workers: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Score the predictions of one model.

    Args:
        predictions: The folder of masks, with `labels.json` and, where they are asked for, maps of probabilities.
        model: Whom it is tested on.
        sites: The cases.
        config: What is scored, and how.
        targets: The cases to score.
        workers: Processes.

    Returns:
        One row a patient, site and measure (`SCORE_COLUMNS`), and the unit of each measure.

    Raises:
        InputError: If a prediction or a map is missing, or a file cannot be used.
    """
    tasks = _tasks(predictions, sites, config, targets)
    outcomes = map_cases(score_cell_case, tasks, workers=workers, description="Scoring")
    failed = next((outcome for outcome in outcomes if outcome.result is None), None)
    if failed is not None:
        mend = f"; or remove {predictions} and run again" if str(predictions) in str(failed.error) else ""
        msg = f"case {failed.item.task.case_id}: {failed.error}{mend}"
        raise RuntimeError(msg) if failed.details else InputError(msg)
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    return _patient_scores(results, model, sites, config), _units(results, config)


def _tasks(predictions: Path, sites: Sites, config: CrossSiteConfig, targets: Sequence[str]) -> list[CellTask]:
    cohort = sites.cohort
    named = read_label_names(predictions) or {}
    families = dict.fromkeys(("overlap", *(METRICS[key].family for key in asked_of(config.metrics, "masks"))))
    lesions = config.lesions if asked_of(config.metrics, "lesions") else None
    # Values of classes that are not scored count as background.
    values = {0: 0} | {value: cohort.config.classes.get(name, 0) for value, name in named.items()}
    tasks = {}
    for case_id in targets:
        case, mask = cohort.case(case_id), predictions / f"{case_id}.nii.gz"
        if case.label is None or not mask.is_file():
            msg = f"{mask}: expected the prediction of case '{case_id}', got none; remove {predictions} and run again"
            raise InputError(msg)
        tasks[case_id] = ScoringTask(
            case_id=case_id,
            reference=case.label,
            prediction=mask,
            classes=sites.classes,
            reference_values=cohort.config.label_indices,
            prediction_values=values,
            in_voxels=sites.in_voxels,
            tolerance=config.tolerance,
            empty=config.empty,
            hd95=config.hd95,
            families=tuple(families),
            resample=False,
            lesions=lesions,
        )
    maps = _maps(predictions, list(tasks.values()), sites) if asked_of(config.metrics, "probabilities") else {}
    wide = config.wide_tolerance if WIDE_NSD in config.metrics else None
    return [CellTask(task, wide, maps.get(case_id, {})) for case_id, task in tasks.items()]


def _maps(predictions: Path, tasks: Sequence[ScoringTask], sites: Sites) -> Mapping[str, Mapping[str, ClassMap]]:
    owners = {case.case_id: case.patient_id for case in sites.cases}
    cases = [
        ScoredCase(one.case_id, owners[one.case_id], "all", one.reference, one.prediction, image=None, groups={})
        for one in tasks
    ]
    folder = predictions / PROBABILITIES
    found = None
    if folder.is_dir():
        found = find_probabilities(folder, predictions, cases, sites.classes, tasks[0].prediction_values)
    if found is None or found.missing:
        case_id = cases[0].case_id if found is None else found.missing[0]
        msg = f"{folder}: expected the probabilities of case '{case_id}', got none; remove {predictions} and run again"
        raise InputError(msg)
    return found.maps


def _patient_scores(results: Sequence[CaseResult], model: Model, sites: Sites, config: CrossSiteConfig) -> pd.DataFrame:
    owners = {case.case_id: case.patient_id for case in sites.cases}
    rows = pd.DataFrame(
        [
            {"case_id": result.case_id, "patient_id": owners[result.case_id], **row}
            for result in results
            for row in result.rows
        ]
    )
    others = _lesion_values(results, owners, config) | _calibration_values(results, owners)
    found = []
    for metric in config.metrics:
        values: Mapping[str, float]
        if metric in others:
            values = others[metric]
        else:
            size = rows.assign(**{metric: rows[metric].astype("float64").abs()}) if _signed(metric) else rows
            values = {str(one): float(value) for one, value in patient_values(size, metric).items()}
        for site, patients in model.tested.items():
            found += [(one, site, output_key(metric), values[one]) for one in patients if one in values]
    return pd.DataFrame(found, columns=list(SCORE_COLUMNS))


def _signed(metric: str) -> bool:
    return metric in METRICS and METRICS[metric].better == "zero"


def _lesion_values(
    results: Sequence[CaseResult], owners: Mapping[str, str], config: CrossSiteConfig
) -> dict[str, dict[str, float]]:
    """Return recall and false detections of each patient; of the lesion class alone where one is named."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    false: dict[str, float] = {}
    for result in results:
        patient = owners[result.case_id]
        for count in () if result.lesions is None else result.lesions.counts:
            if config.lesion_class in (None, count["class"]):
                tp, lesions = found.get((patient, count["class"]), (0, 0))
                found[patient, count["class"]] = tp + count["tp"], lesions + count["tp"] + count["fn"]
                false[patient] = false.get(patient, 0.0) + count["fp"]
    shares: dict[str, list[float]] = defaultdict(list)
    for (patient, _), (tp, lesions) in found.items():
        if lesions:
            shares[patient].append(tp / lesions)
    recall = {patient: sum(one) / len(one) for patient, one in shares.items()}
    return {LESION_RECALL: recall, FALSE_POSITIVES: false}


def _calibration_values(results: Sequence[CaseResult], owners: Mapping[str, str]) -> dict[str, dict[str, float]]:
    counts: dict[tuple[str, str], CaseCalibration] = {}
    for result in results:
        for one in result.probabilities:
            key = owners[result.case_id], one.class_name
            counts[key] = counts[key] + one.counts if key in counts else one.counts
    errors: dict[str, list[float]] = defaultdict(list)
    for (patient, _), counted in counts.items():
        error = expected_calibration_error(counted.foreground)
        if error is not None:
            errors[patient].append(error)
    return {ECE: {patient: sum(one) / len(one) for patient, one in errors.items()}}


def _units(results: Sequence[CaseResult], config: CrossSiteConfig) -> dict[str, str]:
    kinds = {(result.length_unit, result.volume_unit) for result in results}
    if len(kinds) > 1:
        msg = (
            "cohort: expected all cases alike, got several kinds of voxel size; declare nominal_spacing to have voxels"
        )
        raise InputError(msg)
    ((length, volume),) = kinds
    units = {"distance": str(length), "volume": str(volume)}
    return {output_key(key): units.get(MEASURES[key].kind, "") for key in config.metrics}
