"""A smooth line through a scatter of patients, for the eye alone: no test rests on it."""

import numpy as np
from jaxtyping import Float


def local_linear(
    x: Float[np.ndarray, " patients"],
    y: Float[np.ndarray, " patients"],
    at: Float[np.ndarray, " places"],
    *,
    span: float = 0.75,
) -> Float[np.ndarray, " places"]:
    """Return the local linear fit with tricube weights over the nearest share of the patients.

    Args:
        x: One number a patient.
        y: One number a patient.
        at: Where to fit.
        span: The share of the patients that each fit uses, at least three of them.

    Returns:
        The fit at each place; where all weight lies on one x, the weighted mean.

    References:
        Cleveland, "Robust locally weighted regression and smoothing scatterplots", JASA 1979 (without the robust
        rounds).

    Example:
        >>> local_linear(np.arange(5.0), 2 * np.arange(5.0) + 1, np.array([0.0, 2.5])).round(6).tolist()
        [1.0, 6.0]
    """
    count = min(len(x), max(3, int(np.ceil(span * len(x)))))
    away = np.abs(x[None, :] - at[:, None])
    reach = np.partition(away, count - 1, axis=1)[:, count - 1]
    # A little wider, so that the farthest patient counts too and equal x have a weight.
    scaled = np.clip(away / np.maximum(reach * 1.001, 1e-12)[:, None], 0, 1)
    weights = (1 - scaled**3) ** 3
    total = weights.sum(axis=1)
    mean_x, mean_y = (weights @ x) / total, (weights @ y) / total
    centred = x[None, :] - mean_x[:, None]
    spread = (weights * centred**2).sum(axis=1)
    lean = (weights * centred * (y[None, :] - mean_y[:, None])).sum(axis=1)
    slope = np.divide(lean, spread, out=np.zeros_like(lean), where=spread > 1e-12 * np.maximum(1, mean_x**2))
    fitted: np.ndarray = mean_y + slope * (at - mean_x)
    return fitted
