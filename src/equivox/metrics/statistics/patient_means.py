"""From the scores of structures to one value a patient."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float


def patient_values(rows: "pd.DataFrame", score: str) -> "pd.Series[float]":
    """Return one value a patient: the mean over the patient's cases of the mean over each case's classes.

    The nesting is fixed before anything is scored. A class that a case's empty masks leave without a score counts
    nowhere, and a case without any scored class counts nowhere; so a patient with one small and one large case, or
    with cases that show different classes, is still one patient with one value.

    Args:
        rows: One row a case and class, with the columns `patient_id`, `case_id` and `score` (NaN where not defined).
        score: The column to reduce.

    Returns:
        The values by patient, sorted by the patient's id; patients without any score are missing.

    Example:
        >>> rows = pd.DataFrame({
        ...     "patient_id": ["p", "p", "p", "q"], "case_id": ["p1", "p1", "p2", "q1"],
        ...     "class": ["liver", "tumour", "liver", "liver"], "dice": [0.9, 0.7, 0.6, np.nan],
        ... })
        >>> patient_values(rows, "dice").round(6).to_dict()
        {'p': 0.7}
    """
    values: pd.Series[float] = patient_table(case_table(rows, [score]))[score].dropna()
    return values


def patient_table(cases: "pd.DataFrame") -> "pd.DataFrame":
    """Return `patient_values` of several scores at once from a `case_table`; NaN where a patient has no score."""
    return cases.groupby(level="patient_id", sort=True).mean()


def bounded_mean(values: Float[np.ndarray, " patients"]) -> float:
    """Return the mean of one value or more; it never lies outside them.

    The mean of equal values may differ from them in its last digit, and would then lie outside its own interval, or
    pass for variation.

    Example:
        >>> values = np.full(3, 0.1)
        >>> bounded_mean(values) == 0.1, float(values.mean()) == 0.1
        (True, False)
    """
    return float(np.clip(values.mean(), values.min(), values.max()))


def case_values(rows: "pd.DataFrame", score: str) -> "pd.Series[float]":
    """Return one value a case, the mean over its classes, by patient and case; cases without any score are missing."""
    values: pd.Series[float] = case_table(rows, [score])[score].dropna()
    return values


def case_table(rows: "pd.DataFrame", scores: Sequence[str]) -> "pd.DataFrame":
    """Return `case_values` of several scores at once, one column a score; NaN where a case has no score."""
    values = rows[[*scores]].to_numpy(dtype=np.float64)
    finite = pd.DataFrame(np.where(np.isfinite(values), values, np.nan), columns=[*scores])
    keys = [rows[name].reset_index(drop=True) for name in ("patient_id", "case_id")]
    return finite.groupby(keys, sort=True).mean()
