"""How well intervals and tests hold at the sizes of the groups at hand: simulated, as theory only knows large ones."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, mean_interval
from equivox.metrics.statistics.permutation import additive_residuals, smallest_p

LARGEST = 500
"""With more patients than this nothing is simulated: it would take long, and theory holds."""

_ROOT5 = math.sqrt(5)


def simulated_coverage(
    values: Float[np.ndarray, " patients"],
    *,
    repeats: int = 300,
    draws: int = 499,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
) -> float | None:
    """Return how often the bootstrap-t interval of a mean covers the mean, in samples drawn from these patients.

    The patients stand for the population that they come from. What none of them shows (a rare failure) is not in the
    simulation either, so with few patients the true coverage may be lower.

    Args:
        values: One value a patient.
        repeats: Samples of as many patients.
        draws: Resamples behind each interval.
        seed: Of the samples.
        confidence: What the intervals aim at.
        minimum: With fewer patients there is no interval, and None is returned; also above `LARGEST`.
    """
    n = len(values)
    if not minimum <= n <= LARGEST:
        return None
    rng = np.random.default_rng(seed)
    truth, covered = float(values.mean()), 0
    for _ in range(repeats):
        sample = values[rng.integers(0, n, n)]
        interval = mean_interval(sample, draws=draws, seed=seed, confidence=confidence, minimum=minimum)
        covered += interval is not None and interval.low - 1e-12 <= truth <= interval.high + 1e-12
    return covered / repeats


def simulated_size(
    values: Float[np.ndarray, " patients"],
    attributes: Mapping[str, Sequence[str | None]],
    *,
    repeats: int = 300,
    draws: int = 199,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
) -> float | None:
    """Return how often the family of contrasts finds a difference where there is none.

    Every patient keeps the groups and the size and skew of the own residual (from an additive model of all
    attributes), multiplied by Mammen's two-point variable of mean 0, variance 1 and third moment 1. So groups that vary
    more still do, and no group differs from another in its mean.

    Args:
        values: One value a patient.
        attributes: Attribute -> one group a patient, None where it is not known.
        repeats: Simulated tables.
        draws: Permutations of each.
        seed: Of both.
        confidence: One minus the level that is aimed at.
        minimum: As in `contrast_family`.

    Returns:
        The share, or None where there is nothing to test or there are more than `LARGEST` patients.

    References:
        Mammen, "Bootstrap and wild bootstrap for high dimensional linear models", Annals of Statistics 1993.
    """
    n = len(values)
    if n > LARGEST or n == 0 or smallest_p(values, attributes, draws=19, seed=seed, minimum=minimum) is None:
        return None
    residuals = additive_residuals(values, attributes)
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(repeats):
        low = rng.random(n) < (_ROOT5 + 1) / (2 * _ROOT5)
        sample = residuals * np.where(low, (1 - _ROOT5) / 2, (1 + _ROOT5) / 2)
        p = smallest_p(sample, attributes, draws=draws, seed=int(rng.integers(2**31)), minimum=minimum)
        found += p is not None and p < 1 - confidence - 1e-12
    return found / repeats
