"""The BCa interval: percentiles of the resamples, corrected for bias and acceleration."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

_EQUAL: Final = 1e-12
"""Resampled means that differ by less than this share of their largest distance are equal but for rounding."""


def bca_ends(
    shifts: Float[np.ndarray, "samples draws"], acceleration: Float[np.ndarray, " samples"], confidence: float
) -> Float[np.ndarray, "samples 2"]:
    r"""Return the two corrected percentiles of each sample's resampled statistic.

    The percentiles are ``Phi(z0 + (z0 + z) / (1 - a (z0 + z)))`` for ``z = -+Phi^-1(1 - tail)``. The bias ``z0`` is
    ``Phi^-1`` of the share of resamples that lie below what was observed, those that equal it counting half.

    Args:
        shifts: The statistic of each resample minus that of its sample.
        acceleration: ``a`` of each sample, see `jackknife_acceleration`.
        confidence: Coverage that is aimed at.

    Returns:
        Lower and upper end, as distances from the observed statistic; both 0 where all resamples equal it.

    References:
        Efron, "Better bootstrap confidence intervals", JASA 1987.
    """
    samples, draws = shifts.shape
    equal = _EQUAL * np.abs(shifts).max(axis=1, keepdims=True)
    below = ((shifts < -equal).sum(axis=1) + (shifts <= equal).sum(axis=1)) / 2
    # Half a resample on either side keeps the bias finite.
    bias = ndtri(np.clip(below, 0.5, draws - 0.5) / draws)
    ordered = np.sort(shifts, axis=1)
    ends = []
    for z in (ndtri((1 - confidence) / 2), ndtri((1 + confidence) / 2)):
        lean = 1 - acceleration * (bias + z)
        # Beyond the pole of the correction the percentile is the outermost one.
        moved = np.where(lean > 0, bias + (bias + z) / np.where(lean > 0, lean, 1.0), np.inf * np.sign(bias + z))
        place = ndtr(moved) * (draws - 1)
        lower = np.floor(place).astype(int)
        upper = np.minimum(lower + 1, draws - 1)
        row = np.arange(samples)
        ends.append(ordered[row, lower] + (place - lower) * (ordered[row, upper] - ordered[row, lower]))
    return np.stack(ends, axis=1)


def jackknife_acceleration(
    parts: Sequence[Float[np.ndarray, "samples _"]], weights: Sequence[float]
) -> Float[np.ndarray, " samples"]:
    r"""Return the acceleration of ``sum_k weights_k * mean_k`` by leaving out one patient at a time.

    Without patient i of part k, of ``n_k`` patients, the statistic moves by ``-weights_k (x_i - mean_k) / (n_k - 1)``;
    so no loop is needed: ``a = sum_k w_k^3 m3_k / n_k^3 / (6 (sum_k w_k^2 m2_k / n_k^2)^1.5)``, with the sums m2 and m3
    of the squares and cubes of ``x_i - mean_k``.

    Args:
        parts: The strata, or the two sides of a difference: each with one row a sample, its mean taken away.
        weights: Of the parts.

    Returns:
        One number a sample; 0 where its values are all the same.

    Example:
        >>> values = np.array([[0.0, 0.0, 0.0, 1.0]])
        >>> jackknife_acceleration([values - values.mean()], [1.0]).round(6).tolist()
        [0.096225]
    """
    cubes = sum(w**3 * (part**3).sum(axis=1) / part.shape[1] ** 3 for part, w in zip(parts, weights, strict=True))
    squares = sum(w**2 * (part**2).sum(axis=1) / part.shape[1] ** 2 for part, w in zip(parts, weights, strict=True))
    third, second = np.asarray(cubes), np.asarray(squares)
    result: np.ndarray = np.divide(third, 6 * second**1.5, out=np.zeros_like(third), where=second > 0)
    return result
