"""What a score is over patients, as the plain values of a summary: its distribution, failures, and intervals."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from equivox.metrics.statistics.bootstrap import (
    Interval,
    MeanMethod,
    mean_interval,
    quantile_interval,
    share_interval,
)
from equivox.metrics.statistics.patient_means import bounded_mean


class Resampling(TypedDict):
    """How the intervals of a table are made, see `mean_interval`."""

    draws: int
    seed: int
    confidence: float
    minimum: int


def interval_ends(interval: Interval | None, prefix: str = "") -> dict[str, float | None]:
    """Return both ends of an interval under their names; None where there is no interval.

    Example:
        >>> interval_ends(Interval(0.7, 0.9), "median_"), interval_ends(None)
        ({'median_low': 0.7, 'median_high': 0.9}, {'low': None, 'high': None})
    """
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {f"{prefix}low": low, f"{prefix}high": high}


def distribution(
    values: Float[np.ndarray, " patients"],
    resampling: Resampling,
    *,
    worst: float,
    bounds: tuple[float, float],
    tail: Float[np.ndarray, " patients"] | None = None,
    method: MeanMethod = "bootstrap_t",
    strata: Sequence[str | None] | None = None,
) -> dict[str, float | None]:
    """Return mean, median and worst decile of patients with their intervals; all None without a patient.

    Args:
        values: One a patient.
        resampling: How the intervals are made.
        worst: The quantile of the worst decile: 0.1, or 0.9 where high values are bad.
        bounds: The values that a mean can have.
        tail: What the worst decile is of, where that is not the values themselves.
        method: Of the mean's interval.
        strata: Of its resamples.
    """
    if not len(values):
        names = ("mean", "low", "high", "median", "median_low", "median_high")
        return dict.fromkeys((*names, "worst_decile", "worst_decile_low", "worst_decile_high"))
    tail = values if tail is None else tail
    return {
        "mean": bounded_mean(values),
        **interval_ends(mean_interval(values, method=method, strata=strata, bounds=bounds, **resampling)),
        "median": float(np.median(values)),
        **interval_ends(quantile_interval(values, 0.5, **resampling), "median_"),
        "worst_decile": float(np.quantile(tail, worst)),
        **interval_ends(quantile_interval(tail, worst, **resampling), "worst_decile_"),
    }


def failure_rate(failed: int, patients: int, *, confidence: float, minimum: int) -> dict[str, float | int | None]:
    """Return the share of patients that failed, with its interval and the counts; None without a patient."""
    interval = share_interval(failed, patients, confidence=confidence, minimum=minimum)
    value = failed / patients if patients else None
    return {"value": value, "failed": failed, "patients": patients, **interval_ends(interval)}
