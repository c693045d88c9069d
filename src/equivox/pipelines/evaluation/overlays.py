"""The gallery of the report: the worst, the median and the best case, with image, reference and prediction."""

import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd

from equivox.errors import InputError
from equivox.metrics.statistics.patient_means import case_values
from equivox.pipelines.evaluation.cases import ScoringTask, read_pair
from equivox.pipelines.evaluation.sources import EvaluationSource, ScoredCase
from equivox.reports.overlay import OverlayCase, Rank
from equivox.volume.orientation import axis_codes
from equivox.volume.reading import read_volume
from equivox.volume.volume import Volume

logger = logging.getLogger(__name__)


def choose_overlays(
    source: EvaluationSource, tasks: Mapping[str, ScoringTask], rows: pd.DataFrame, role: str, score: str
) -> list[OverlayCase]:
    """Read the worst, median and best case of a role by its mean score over classes.

    Args:
        source: Where the cases come from.
        tasks: Case -> how it was read for scoring.
        rows: One row a case and class.
        role: The table to choose from.
        score: The primary endpoint.

    Returns:
        Three cases, fewer where there are fewer; each case once.
    """
    values = case_values(rows[rows["role"] == role], score).droplevel("patient_id")
    ordered = [str(case_id) for case_id in values.sort_values(kind="stable").index]
    if not ordered:
        return []
    ranked: dict[str, Rank] = {ordered[0]: "worst"}
    ranked.setdefault(ordered[-1], "best")
    ranked.setdefault(ordered[(len(ordered) - 1) // 2], "median")
    by_id = {case.case_id: case for case in source.cases}
    order = sorted(ranked, key=lambda case_id: ("worst", "median", "best").index(ranked[case_id]))
    return [
        _overlay(by_id[case_id], tasks[case_id], ranked[case_id], float(values[case_id]), source) for case_id in order
    ]


def _overlay(case: ScoredCase, task: ScoringTask, rank: Rank, dice: float, source: EvaluationSource) -> OverlayCase:
    reference, prediction, _ = read_pair(task)
    truth = reference.array[0]
    known = reference.spacing_known
    return OverlayCase(
        case_id=case.case_id,
        rank=rank,
        dice=dice,
        image=_image(case, reference),
        reference=truth,
        prediction=np.zeros_like(truth) if prediction is None else prediction.array[0],
        spacing_mm=reference.spacing_mm,
        modality=source.modality if case.image is not None else "OTHER",
        orientation=axis_codes(reference.affine) if known and reference.dimensions == 3 else None,
        classes=dict(source.classes or {}),
    )


def _image(case: ScoredCase, reference: Volume) -> np.ndarray:
    """Return the image on the reference's grid, or an empty one where there is none that fits."""
    empty = np.zeros(reference.array.shape[1:], dtype=np.float32)
    if case.image is None:
        return empty
    try:
        image = read_volume(case.image)
    except (InputError, OSError) as error:
        logger.warning("case %s: shown without its image: %s", case.case_id, error)
        return empty
    same = image.array.shape[1:] == reference.array.shape[1:]
    if not same or (image.spacing_known and reference.spacing_known and not reference.grid.matches(image.grid)):
        logger.warning("case %s: shown without its image, which lies on another grid than the mask", case.case_id)
        return empty
    # A colour image is shown in grey.
    result: np.ndarray = image.array.mean(axis=0)
    return result
