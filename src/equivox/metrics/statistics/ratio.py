"""Intervals for a ratio of two sums over patients, such as all lesions found over all lesions."""

import numpy as np
from jaxtyping import Float

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, Interval, share_interval

_CHUNK = 2_000_000


def ratio_interval(
    counted: Float[np.ndarray, " patients"],
    total: Float[np.ndarray, " patients"],
    *,
    draws: int = 4999,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
) -> Interval | None:
    """Return the percentile bootstrap interval of ``sum(counted) / sum(total)``, resampling patients.

    A patient's lesions stay together: they are found or missed together more often than those of different patients, so
    that an interval that resamples lesions is too narrow. Patients whose total is 0 have no part in the ratio, nor in
    the resamples.

    Where the ratio is exactly 0 or 1, resamples show no spread, though so few patients leave some open. The interval is
    then Wilson's for as many patients that all agree: it takes each patient's lesions for one.

    The result does not depend on the order of the patients.

    Args:
        counted: What is counted, for each patient, between 0 and the total.
        total: What it is counted of.
        draws: Resamples.
        seed: The same seed resamples the same patients.
        confidence: Coverage that is aimed at.
        minimum: With fewer patients of a total above 0 there is no interval.

    Raises:
        InputError: If a number is not finite, or a count is not between 0 and its total.

    References:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3; Wilson, JASA 1927.

    Example:
        >>> ratio_interval(np.full(12, 1.0), np.full(12, 2.0))
        Interval(low=0.5, high=0.5)
        >>> ratio_interval(np.ones(4), np.ones(4)) is None
        True
    """
    if not (np.isfinite(counted).all() and np.isfinite(total).all() and (counted >= 0).all()):
        msg = "counted and total: expected finite numbers of at least 0, got others; leave such patients out"
        raise InputError(msg)
    # Sums of overlaps may exceed their number by a last digit.
    if (counted > total * (1 + 1e-9)).any():
        msg = "counted: expected no more than the total of the patient, got more; check the counts"
        raise InputError(msg)
    used = total > 0
    pairs = np.stack([counted[used], total[used]], axis=1).astype(np.float64)
    n = len(pairs)
    if n < max(2, minimum):
        return None
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    above, below = pairs.sum(axis=0)
    if above in (0, below):
        return share_interval(n if above else 0, n, confidence=confidence, minimum=minimum)
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // n)
    parts = []
    for start in range(0, draws, rows):
        sums = pairs[rng.integers(0, n, (min(rows, draws - start), n), dtype=np.int32)].sum(axis=1)
        parts.append(sums[:, 0] / sums[:, 1])
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(parts), [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))
