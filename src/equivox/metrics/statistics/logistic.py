"""Logistic regression with an L2 penalty, for small tables and many fits."""

import numpy as np
from jaxtyping import Bool, Float

from equivox.errors import InputError

_STEPS = 50
_EXACT = 1e-6


def balanced_logistic(
    rows: Float[np.ndarray, "patients columns"], inside: Bool[np.ndarray, " patients"], strength: float
) -> Float[np.ndarray, " columns_and_intercept"]:
    r"""Return weights and intercept that tell the patients of a group from the others, both sides counting the same.

    Minimises ``strength * sum_i c_i log(1 + exp(-s_i w . x_i)) + |w|^2 / 2`` with ``c_i`` the patients over twice the
    patients of i's side, the intercept without a penalty, by Newton's method with halved steps. It is scikit-learn's
    ``LogisticRegression(C=strength, class_weight="balanced")``, in a tenth of its time on the few dozen patients of a
    fold, of which a permutation test has thousands.

    Args:
        rows: Standardised, float64.
        inside: Which patients are of the group.
        strength: Inverse of the penalty's.

    Returns:
        The weights, the intercept last.

    Raises:
        InputError: If one side has no patient.

    Example:
        >>> rows = np.array([[-1.0], [0.0], [0.0], [1.0]])
        >>> balanced_logistic(rows, np.array([False, False, True, True]), 1.0).round(3)
        array([0.675, 0.   ])
    """
    if inside.all() or not inside.any():
        msg = "logistic: expected patients inside and outside of the group, got one side alone; leave the group out"
        raise InputError(msg)
    table = np.hstack([rows, np.ones((len(rows), 1))])
    penalty = np.full(table.shape[1], 1 / strength)
    penalty[-1] = 0.0
    side = np.where(inside, 1.0, -1.0)
    share = inside.mean()
    counts = np.where(inside, 0.5 / share, 0.5 / (1 - share))
    weights = np.zeros(table.shape[1])

    def cost(at: Float[np.ndarray, " all"]) -> float:
        return float(counts @ np.logaddexp(0, -side * (table @ at)) + penalty @ at**2 / 2)

    now = cost(weights)
    for _ in range(_STEPS):
        wrong = 0.5 - 0.5 * np.tanh(0.5 * side * (table @ weights))
        slope = penalty * weights - table.T @ (counts * side * wrong)
        # The floor keeps the matrix regular where every patient is told with certainty.
        bend = counts * np.maximum(wrong * (1 - wrong), 1e-12)
        step = np.linalg.solve((table * bend[:, None]).T @ table + np.diag(penalty), slope)
        part = 1.0
        while (then := cost(weights - part * step)) > now + 1e-12 and part > 1e-6:
            part /= 2
        weights, now = weights - part * step, then
        if np.abs(part * step).max() < _EXACT * max(1.0, float(np.abs(weights).max())):
            break
    return weights
