"""The landmarks of each case, measured: one row a case and landmark, and one row a case."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from equivox.datasets.landmark_table import Point
from equivox.metrics.landmarks import LandmarkErrors, landmark_errors
from equivox.pipelines.columns import GROUP_PREFIX
from equivox.pipelines.landmark_evaluation.sources import LandmarkCase, LandmarkSource

EXPECTED: Final = ("matched", "missed", "no_prediction")
"""The states of a landmark that the reference has; the others are ``extra`` and ``absent``."""


def measure_landmarks(source: LandmarkSource, radii: Sequence[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure every case.

    Args:
        source: The cases.
        radii: Distances at which success is counted.

    Returns:
        One row a case and landmark (`case_id, patient_id, landmark, state, error`), the error NaN unless both tables
        have the landmark; and one row a case, with its groups, counts, errors and success rates.
    """
    rows, cases = [], []
    for case in source.cases:
        scores = _measure(case, source.dims, radii)
        ids = {"case_id": case.case_id, "patient_id": case.patient_id}
        rows += [
            {**ids, "landmark": name, "state": _state(case, name), "error": math.nan if error is None else error}
            for name, error in scores.errors_mm.items()
        ]
        cases.append(
            {
                **ids,
                **{GROUP_PREFIX + name: case.groups.get(name) for name in source.attributes},
                **_case_row(case, scores),
            }
        )
    return pd.DataFrame(rows), pd.DataFrame(cases)


def _measure(case: LandmarkCase, dims: int, radii: Sequence[float]) -> LandmarkErrors:
    prediction = case.prediction or {}
    return landmark_errors(
        _array(case.reference, dims),
        _array(prediction, dims),
        names=list(case.reference),
        prediction_names=list(prediction),
        radii_mm=radii,
    )


def _array(points: Mapping[str, Point | None], dims: int) -> Float[np.ndarray, "points dims"]:
    nowhere = (math.nan,) * dims
    return np.array([nowhere if point is None else point for point in points.values()]).reshape(-1, dims)


def _state(case: LandmarkCase, landmark: str) -> str:
    in_reference = case.reference.get(landmark) is not None
    if case.prediction is None:
        return "no_prediction" if in_reference else "absent"
    if case.prediction.get(landmark) is not None:
        return "matched" if in_reference else "extra"
    return "missed" if in_reference else "absent"


def _case_row(case: LandmarkCase, scores: LandmarkErrors) -> dict[str, Any]:
    expected = scores.matched + scores.missed
    state = "no_landmark" if not expected else "no_prediction" if case.prediction is None else "measured"
    return {
        "state": state,
        "landmarks": expected,
        "matched": scores.matched,
        "missed": scores.missed,
        "extra": scores.extra,
        "absent": scores.absent,
        "mean_error": scores.mean_radial_error_mm,
        "median_error": scores.median_error_mm,
        **{f"within:{radius:g}": share for radius, share in scores.success_rates.items()},
    }
