"""Logistic regression with an L2 penalty, for small tables and many fits."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from equivox.errors import InputError

_STEPS = 50
_EXACT = 1e-6


def balanced_logistic(
    rows: Float[np.ndarray, "patients columns"], inside: Bool[np.ndarray, " patients"], strengths: Sequence[float]
) -> Float[np.ndarray, "strengths columns_and_intercept"]:
    r"""Return weights and intercept that tell the patients of a group from the others, both sides counting the same.

    Minimises ``strength * sum_i c_i log(1 + exp(-s_i w . x_i)) + |w|^2 / 2`` with ``c_i`` the patients over twice the
    patients of i's side, the intercept without a penalty, by Newton's method with halved steps. It is scikit-learn's
    ``LogisticRegression(C=strength, class_weight="balanced")``; all strengths are fitted at once, in a part of its
    time on the few dozen patients of a fold, of which a permutation test has thousands.

    Args:
        rows: Standardised, float64.
        inside: Which patients are of the group.
        strengths: Inverses of the penalty's.

    Returns:
        For each strength the weights, the intercept last.

    Raises:
        InputError: If one side has no patient.

    Example:
        >>> rows = np.array([[-1.0], [0.0], [0.0], [1.0]])
        >>> balanced_logistic(rows, np.array([False, False, True, True]), (1.0,)).round(3)
        array([[0.675, 0.   ]])
    """
    if inside.all() or not inside.any():
        msg = "logistic: expected patients inside and outside of the group, got one side alone; leave the group out"
        raise InputError(msg)
    table = np.hstack([rows, np.ones((len(rows), 1))])
    columns = table.shape[1]
    penalty = np.repeat(1 / np.array([strengths], dtype=np.float64).T, columns, axis=1)
    penalty[:, -1] = 0.0
    ridge = penalty[:, :, None] * np.eye(columns)
    side = np.where(inside, 1.0, -1.0)
    share = inside.mean()
    counts = np.where(inside, 0.5 / share, 0.5 / (1 - share))
    weights = np.zeros((len(strengths), columns))

    margins = np.zeros((len(strengths), len(rows)))
    now = _cost(margins, weights, counts, penalty)
    for _ in range(_STEPS):
        wrong = 0.5 - 0.5 * np.tanh(0.5 * margins)
        slope = penalty * weights - (counts * side * wrong) @ table
        # The floor keeps the matrix regular where every patient is told with certainty.
        bend = counts * np.maximum(wrong * (1 - wrong), 1e-12)
        step = np.linalg.solve((table.T * bend[:, None, :]) @ table + ridge, slope[:, :, None])[:, :, 0]
        part = np.ones(len(strengths))
        while True:
            tried = weights - part[:, None] * step
            margins = side * (tried @ table.T)
            then = _cost(margins, tried, counts, penalty)
            too_far = (then > now + 1e-12) & (part > 1e-6)
            if not too_far.any():
                break
            part[too_far] /= 2
        moved = np.abs(tried - weights).max()
        weights, now = tried, then
        if moved < _EXACT * max(1.0, float(np.abs(weights).max())):
            break
    return weights


def _cost(
    margins: Float[np.ndarray, "strengths patients"],
    weights: Float[np.ndarray, "strengths all"],
    counts: Float[np.ndarray, " patients"],
    penalty: Float[np.ndarray, "strengths all"],
) -> Float[np.ndarray, " strengths"]:
    cost: np.ndarray = np.logaddexp(0, -margins) @ counts + (penalty * weights**2).sum(axis=1) / 2
    return cost
