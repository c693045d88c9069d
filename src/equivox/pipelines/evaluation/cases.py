"""Score one case: read both masks, bring their values to class indices, compare on the reference's grid."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from jaxtyping import Integer

from equivox.definitions import METRICS
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.metrics.conventions.catalog import Tool
from equivox.metrics.lesions.options import LesionOptions
from equivox.metrics.masks.case_scores import ClassScores, score_case
from equivox.metrics.masks.empty import EmptyPolicy
from equivox.metrics.masks.surface import HD95Convention
from equivox.volume.reading import read_label_map
from equivox.volume.volume import Volume

if TYPE_CHECKING:
    from equivox.pipelines.evaluation.calibration import ClassProbability
    from equivox.pipelines.evaluation.lesions import CaseLesions
    from equivox.pipelines.evaluation.probabilities import ClassMap

LengthUnit = Literal["mm", "voxels"]
VolumeUnit = Literal["ml", "mm2", "voxels"]

# A table with a place for each value up to a larger one could be larger than the mask.
_LARGEST_TABLE: Final = 65_535


@dataclass(frozen=True)
class ScoringTask:
    """All that a worker needs to score one case.

    Attributes:
        case_id: The case.
        reference: File of the reference mask.
        prediction: File of the predicted mask, or None where it is missing.
        classes: Class name -> index.
        reference_values: Value in the reference file -> index.
        prediction_values: Value in the predicted file -> index.
        in_voxels: Score with voxels of side 1, as the sizes in the files are not real.
        tolerance: Of NSD, in mm or voxels.
        empty: The policy for empty masks.
        hd95: The convention of the distances.
        families: What is computed; see `MetricFamily`.
        resample: Bring a prediction on another grid onto the reference's.
        tools: Whose numbers are computed too.
        lesions: How lesions are counted; None does not.
        image: File of the image whose hottest voxel a detection must hold; None where nothing asks for it.
        probabilities: Class name -> its map of probabilities; empty where there is none.
    """

    case_id: str
    reference: Path
    prediction: Path | None
    classes: Mapping[str, int]
    reference_values: Mapping[int, int]
    prediction_values: Mapping[int, int]
    in_voxels: bool
    tolerance: float
    empty: EmptyPolicy
    hd95: HD95Convention
    families: tuple[str, ...]
    resample: bool
    tools: tuple[Tool, ...] = ()
    lesions: LesionOptions | None = None
    image: Path | None = None
    probabilities: "Mapping[str, ClassMap]" = field(default_factory=dict)


@dataclass(frozen=True)
class CaseResult:
    """The scores of one case.

    Attributes:
        case_id: The case.
        length_unit: Of the distances.
        volume_unit: Of the volumes; ``mm2`` for a 2D image, which has areas.
        slice_thickness_mm: The largest voxel side; None where voxel sizes are not real.
        rows: One row a class: class, outcome, penalised, the scores, and both volumes in units and voxels.
        repairs: What had to be mended in either file.
        hashes: SHA-256 of the reference and of the prediction (empty where it is missing).
        tool_rows: What other tools report: one row a tool, class and metric.
        lesions: The lesions of the case, where they were asked for.
        probabilities: What the map of each class says, where there is one.
        probability_hashes: File name -> SHA-256 of each map.
    """

    case_id: str
    length_unit: LengthUnit
    volume_unit: VolumeUnit
    slice_thickness_mm: float | None
    rows: tuple[dict[str, Any], ...]
    repairs: tuple[str, ...]
    hashes: tuple[str, str]
    tool_rows: tuple[dict[str, Any], ...] = ()
    lesions: "CaseLesions | None" = None
    probabilities: "tuple[ClassProbability, ...]" = ()
    probability_hashes: Mapping[str, str] = field(default_factory=dict)


def score_one(task: ScoringTask) -> CaseResult:
    """Read and score one case.

    A missing prediction is a failure of every class: each fraction is 0 and each distance the image's diagonal.

    Raises:
        InputError: If a file cannot be read, holds a value that is no class, or lies on another grid.
    """
    reference, prediction, repairs = read_pair(task)
    grid = reference.grid
    in_voxels = task.in_voxels or not reference.spacing_known
    spacing = (1.0, 1.0, 1.0) if in_voxels else grid.spacing_mm
    truth = reference.array[0]
    length: LengthUnit = "voxels" if in_voxels else "mm"
    volume: VolumeUnit = "voxels" if in_voxels else "mm2" if reference.dimensions == 2 else "ml"
    per_voxel = 1.0 if in_voxels else math.prod(spacing) / (1000.0 if volume == "ml" else 1.0)
    found = np.zeros_like(truth) if prediction is None else prediction.array[0]
    rows = []
    for score in _score(truth, found, task, spacing):
        row: dict[str, Any] = {
            "class": score.class_name,
            "outcome": score.outcome,
            "penalised": score.penalised,
            **score.scores,
            "reference": score.reference_voxels * per_voxel,
            "prediction": score.prediction_voxels * per_voxel,
            "reference_voxels": score.reference_voxels,
            "prediction_voxels": score.prediction_voxels,
        }
        if row.get("volume_error") is not None:
            row["volume_error"] = (score.prediction_voxels - score.reference_voxels) * per_voxel
        rows.append(row)
    if prediction is None:
        rows = _failed(rows, task, truth.shape, spacing)
    thickness = None if in_voxels else max(grid.spacing_mm[: reference.dimensions])
    hashes = (file_sha256(task.reference), "" if task.prediction is None else file_sha256(task.prediction))
    reported = _tool_rows(truth, prediction, task, spacing) if task.tools else ()
    lesions = None if task.lesions is None else _lesions(reference, prediction, task, spacing, in_voxels=in_voxels)
    result = CaseResult(task.case_id, length, volume, thickness, tuple(rows), repairs, hashes, reported, lesions)
    if prediction is None or not task.probabilities:
        return result
    return _with_probabilities(result, reference, prediction, task, spacing, in_voxels=in_voxels)


def _tool_rows(
    truth: Integer[np.ndarray, "i j k"],
    prediction: Volume | None,
    task: ScoringTask,
    spacing: tuple[float, float, float],
) -> tuple[dict[str, Any], ...]:
    from equivox.pipelines.evaluation.conventions import tool_rows

    found = None if prediction is None else prediction.array[0]
    rows = tool_rows(
        task.case_id,
        truth,
        found,
        classes=task.classes,
        spacing_mm=spacing,
        tolerance_mm=task.tolerance,
        tools=task.tools,
    )
    return tuple(rows)


def _score(
    truth: Integer[np.ndarray, "i j k"],
    found: Integer[np.ndarray, "i j k"],
    task: ScoringTask,
    spacing: tuple[float, float, float],
) -> list[ClassScores]:
    return score_case(
        truth,
        found,
        classes=task.classes,
        spacing_mm=spacing,
        tolerance_mm=task.tolerance,
        empty=task.empty,
        hd95=task.hd95,
        families=task.families,
    )


def _lesions(
    reference: Volume,
    prediction: Volume | None,
    task: ScoringTask,
    spacing: tuple[float, float, float],
    *,
    in_voxels: bool,
) -> "CaseLesions":
    from equivox.pipelines.evaluation.lesions import lesions_of_case
    from equivox.volume.reading import read_volume

    image = None if task.image is None else read_volume(task.image)
    if image is not None and not _same_grid(reference, image):
        msg = f"{task.image}: expected the grid of {task.reference.name}, got another; resample one of them"
        raise InputError(msg)
    return lesions_of_case(
        reference.array[0],
        None if prediction is None else prediction.array[0],
        classes=task.classes,
        spacing_mm=spacing,
        options=task.lesions or LesionOptions(),
        in_voxels=in_voxels,
        image=None if image is None else image.array[0],
    )


def _with_probabilities(
    result: CaseResult,
    reference: Volume,
    prediction: Volume,
    task: ScoringTask,
    spacing: tuple[float, float, float],
    *,
    in_voxels: bool,
) -> CaseResult:
    """Add what the maps say, one class in memory at a time."""
    from equivox.pipelines.evaluation.calibration import class_probability
    from equivox.pipelines.evaluation.probabilities import read_maps

    found, repairs = [], list(result.repairs)
    for name, read in read_maps(task.probabilities, task.prediction or task.reference):
        volume = read
        repairs += [f"probabilities of {name}: {repair}" for repair in volume.repairs]
        if not _same_grid(reference, volume):
            path = task.probabilities[name].path
            if not task.resample:
                msg = (
                    f"{path}: expected the grid of {task.reference.name}, got another; add --resample, or predict again"
                )
                raise InputError(msg)
            from equivox.volume.resample import resample_to_grid

            volume = resample_to_grid(volume, reference.grid, "linear", fill=0.0)
            repairs.append(f"probabilities of {name}: brought onto the reference's grid by linear interpolation")
        index = task.classes[name]
        found.append(
            class_probability(
                name,
                volume.array[0],
                reference.array[0] == index,
                prediction.array[0] == index,
                spacing,
                in_voxels=in_voxels,
                lesions=task.lesions,
            )
        )
    columns = {one.class_name: one.columns() for one in found}
    return replace(
        result,
        rows=tuple(row | columns.get(row["class"], {}) for row in result.rows),
        repairs=tuple(repairs),
        probabilities=tuple(found),
        probability_hashes={
            path.name: file_sha256(path) for path in sorted({one.path for one in task.probabilities.values()})
        },
    )


def read_pair(task: ScoringTask) -> tuple[Volume, Volume | None, tuple[str, ...]]:
    """Read the reference and the prediction of a case as class indices on the reference's grid, with the repairs.

    Raises:
        InputError: If a file cannot be read, holds a value that is no class, or lies on another grid.
    """
    reference = read_label_map(task.reference)
    repairs = [f"reference: {repair}" for repair in reference.repairs]
    reference = _to_indices(reference, task.reference_values, task.reference)
    if task.prediction is None:
        return reference, None, tuple(repairs)
    prediction = read_label_map(task.prediction)
    repairs += [f"prediction: {repair}" for repair in prediction.repairs]
    prediction = _to_indices(prediction, task.prediction_values, task.prediction)
    if not _same_grid(reference, prediction):
        if not task.resample:
            raise InputError(_grid_message(task, reference, prediction))
        # Imports torch, which would take each worker most of a second and 300 MiB.
        from equivox.volume.resample import resample_to_grid

        before = prediction.array
        prediction = resample_to_grid(prediction, reference.grid, "nearest", fill=0.0)
        had_any = bool(before.any())
        repairs.append("prediction: brought onto the reference's grid by nearest neighbour")
        if had_any and not prediction.array.any():
            repairs.append("prediction: nothing of it lies within the reference's field of view")
    return reference, prediction, tuple(repairs)


def label_values_in(path: Path) -> tuple[int, ...]:
    """Return the values of a mask that are not 0, in rising order."""
    values = read_label_map(path).array.ravel(order="K")
    # Most of a mask is background: eight bytes of it at a time are passed over.
    whole = len(values) - len(values) % (8 // values.itemsize)
    words = values[:whole].view(np.uint64)
    some = np.concatenate([words[words != 0].view(values.dtype), values[whole:]])
    if int(some.max(initial=0)) > _LARGEST_TABLE:
        return tuple(int(value) for value in np.unique(some) if value != 0)
    # Marking what is there takes a fraction of the time of sorting it.
    present = np.zeros(int(some.max(initial=0)) + 1, dtype=bool)
    present[some] = True
    return tuple(int(value) for value in np.flatnonzero(present) if value != 0)


def _to_indices(volume: Volume, values: Mapping[int, int], path: Path) -> Volume:
    array: Integer[np.ndarray, "1 i j k"] = volume.array
    highest = int(array.max()) if array.size else 0
    if all(values.get(value) == value for value in range(highest + 1)):
        return volume
    if highest > _LARGEST_TABLE:
        found, inverse = np.unique(array, return_inverse=True)
        table = np.array([values.get(int(value), -1) for value in found], dtype=np.int32)
        indices = table[inverse].reshape(array.shape)
    else:
        table = np.array([values.get(value, -1) for value in range(highest + 1)], dtype=np.int32)
        indices = table[array]
    if indices.size and int(indices.min()) < 0:
        value = int(array[indices < 0].min())
        msg = (
            f"{path}: expected the values {sorted(values)}, got {value}; map it to a class (cohort.yaml or --class "
            "for references, labels.json beside the predictions)"
        )
        raise InputError(msg)
    return volume.with_array(indices)


def _same_grid(reference: Volume, prediction: Volume) -> bool:
    if not (reference.spacing_known and prediction.spacing_known):
        return reference.array.shape == prediction.array.shape
    return reference.grid.matches(prediction.grid)


def _grid_message(task: ScoringTask, reference: Volume, prediction: Volume) -> str:
    wanted, got = reference.array.shape[1:], prediction.array.shape[1:]
    if wanted != got:
        what = f"expected the reference's grid of {wanted} voxels, got {got}"
    elif task.in_voxels:
        what = "expected the reference's grid, got one of the same shape that lies elsewhere"
    else:
        distance = reference.grid.distance_mm(prediction.grid)
        what = f"expected the reference's grid, got one of the same shape whose corners lie up to {distance:.3g} mm off"
    return f"{task.prediction}: {what}; predict again on this grid, or add --resample"


def _failed(
    rows: list[dict[str, Any]], task: ScoringTask, shape: tuple[int, ...], spacing: tuple[float, float, float]
) -> list[dict[str, Any]]:
    """Make the rows of an empty prediction those of a missing one: it fails every class, there or not."""
    # What the policy makes of a single missed voxel tells the distances of a failure in this field of view.
    voxel = np.zeros(shape, dtype=np.uint8)
    voxel[0, 0, 0] = 1
    (miss,) = _score(voxel, np.zeros_like(voxel), replace(task, classes={"any": 1}), spacing)
    fixed = {
        key: 0.0 if METRICS[key].kind == "fraction" else value
        for key, value in miss.scores.items()
        if METRICS[key].kind in ("fraction", "distance")
    }
    absent = {key: 0.0 for key in miss.scores if METRICS[key].kind in ("volume", "count")}
    return [
        {**row, **{key: value for key, value in absent.items() if row[key] is None}, **fixed}
        | {"outcome": "no_prediction", "penalised": miss.penalised}
        for row in rows
    ]
