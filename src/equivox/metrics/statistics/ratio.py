"""Intervals for a ratio of two sums over patients, such as all lesions found over all lesions."""

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, Interval, share_interval


def ratio_interval(
    counted: Float[np.ndarray, " patients"],
    total: Float[np.ndarray, " patients"],
    *,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
) -> Interval | None:
    r"""Return an interval of ``p = sum(counted) / sum(total)``, patients being the unit.

    A patient's lesions are found or missed together more often than those of different patients, so that an interval
    that takes lesions for the unit is too narrow. Here the variance of the ratio comes from the patients' residuals
    ``counted - p * total``; the interval is Wilson's for the number of independent trials with that variance,
    ``p (1 - p) / variance``, made smaller for the variance is estimated (by the squared ratio of the normal to the t
    quantile). Where the ratio is exactly 0 or 1 no variance can be seen; each patient then counts as one trial.

    In simulated lesions of 10 to 100 patients it covers .92 to .98 where .95 is aimed at. A percentile bootstrap of
    patients covers .90 to .91 with 20 or 40 patients and a ratio of 0.9, and has no width at 0 and 1.

    Patients whose total is 0 have no part in the ratio. With ``total`` all 1 it is an interval of a mean of fractions.

    Args:
        counted: What is counted, for each patient, between 0 and the total.
        total: What it is counted of.
        confidence: Coverage that is aimed at.
        minimum: With fewer patients of a total above 0 there is no interval.

    Raises:
        InputError: If a number is not finite, or a count is not between 0 and its total.

    References:
        Wilson, JASA 1927; Korn and Graubard, "Confidence intervals for proportions with small expected number of
        positive counts estimated from survey data", Survey Methodology 1998; Franco et al., "Comparative study of
        confidence intervals for proportions in complex sample surveys", J Surv Stat Methodol 2019.

    Example:
        >>> interval = ratio_interval(np.repeat([0.0, 2.0], 10), np.full(20, 2.0))
        >>> round(interval.low, 2), round(interval.high, 2)
        (0.28, 0.72)
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
    parts, wholes = counted[used].astype(np.float64), total[used].astype(np.float64)
    n = len(wholes)
    if n < max(2, minimum):
        return None
    ratio = float(parts.sum() / wholes.sum())
    if ratio <= 0 or ratio >= 1 - 1e-12:
        return share_interval(n if ratio > 0 else 0, n, confidence=confidence, minimum=minimum)
    residuals = parts - ratio * wholes
    variance = float(n / (n - 1) * (residuals**2).sum() / wholes.sum() ** 2)
    # The squared t quantile, in the place of the normal one, times the variance.
    spread = float(stdtrit(n - 1, 0.5 + confidence / 2)) ** 2 * variance / (ratio * (1 - ratio))
    middle = (ratio + spread / 2) / (1 + spread)
    half = np.sqrt(spread * ratio * (1 - ratio) + spread**2 / 4) / (1 + spread)
    return Interval(max(0.0, float(middle - half)), min(1.0, float(middle + half)))
