"""How well intervals and tests hold at the sizes of the groups at hand: simulated, as theory only knows large ones."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from equivox.metrics.statistics.additive_residuals import additive_residuals
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, MeanMethod, mean_intervals
from equivox.metrics.statistics.contrast_design import Blocks
from equivox.metrics.statistics.permutation import SHARED, smallest_ps

LARGEST = 500
"""With more patients than this nothing is simulated: it would take long, and theory holds."""

_ROOT5 = math.sqrt(5)


def simulated_coverage(
    values: Float[np.ndarray, " patients"],
    *,
    method: MeanMethod = "bootstrap_t",
    repeats: int = 2000,
    draws: int = 999,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
) -> float | None:
    """Return how often the interval of a mean covers the mean, in samples drawn from these patients.

    The patients stand for the population that they come from. What none of them shows (a rare failure) is not in the
    simulation either, so with few patients the true coverage may be lower.

    Args:
        values: One value a patient.
        method: Of the interval, as in `mean_interval`.
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
    truth = float(values.mean())
    covered = 0
    for start in range(0, repeats, SHARED):
        samples = values[rng.integers(0, n, (min(SHARED, repeats - start), n))]
        own_seed = int(rng.integers(2**31))
        low, high = mean_intervals(samples, method=method, draws=draws, seed=own_seed, confidence=confidence).T
        covered += int(((low - 1e-12 <= truth) & (truth <= high + 1e-12)).sum())
    return covered / repeats


def simulated_size(
    values: Float[np.ndarray, " patients"],
    attributes: Mapping[str, Sequence[str | None]],
    *,
    blocks: Blocks | None = None,
    repeats: int = 2000,
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
        blocks: What patients are permuted within.
        repeats: Simulated tables.
        draws: Permutations of each. A p-value that equals the level counts as a finding, as so few permutations would
            otherwise test at a lower level.
        seed: Of both.
        confidence: One minus the level that is aimed at.
        minimum: As in `contrast_family`.

    Returns:
        The share, or None where there is nothing to test or there are more than `LARGEST` patients.

    References:
        Mammen, "Bootstrap and wild bootstrap for high dimensional linear models", Annals of Statistics 1993.
    """
    n = len(values)
    if not 0 < n <= LARGEST:
        return None
    residuals = additive_residuals(values, attributes if blocks is None else {**attributes, "blocks": blocks.groups})
    rng = np.random.default_rng(seed)
    low = rng.random((repeats, n)) < (_ROOT5 + 1) / (2 * _ROOT5)
    samples = residuals * np.where(low, (1 - _ROOT5) / 2, (1 + _ROOT5) / 2)
    smallest = smallest_ps(samples, attributes, blocks=blocks, draws=draws, seed=seed + 1, minimum=minimum)
    return None if smallest is None else float((smallest <= 1 - confidence + 1e-12).mean())
