"""Directions that tell an attribute, found one after the other, and what is left when they are projected out."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float

from equivox.errors import InputError
from equivox.metrics.statistics.logistic import balanced_logistic

MOST_DIRECTIONS: Final = 8

_STRENGTH: Final = 1.0
"""Inverse strength of the L2 penalty behind a direction."""


def inlp_directions(
    vectors: Float[np.ndarray, "patients dims"], labels: Sequence[str] | Sequence[float], count: int
) -> Float[np.ndarray, "count dims"]:
    """Return directions that tell the labels, each found after the ones before it were projected out.

    A linear model (logistic regression with balanced classes, ridge regression for numbers) is fitted to the
    standardised vectors, its weights are brought back to the vectors' own space, made orthogonal to the earlier
    directions and of length one. Of more than two groups the direction in which the weights of the groups differ most
    is taken (ours: the paper removes all of them at once), so that `count` is always the number of dimensions removed.

    Args:
        vectors: One a patient, float64.
        labels: Group of each, or number of each.
        count: Directions, from 1 to one less than the dimensions.

    Returns:
        Orthonormal rows.

    Raises:
        InputError: If there are too few dimensions, lengths differ, or all labels are the same.

    References:
        Ravfogel et al., "Null It Out: Guarding Protected Attributes by Iterative Nullspace Projection", ACL 2020.
    """
    if len(labels) != len(vectors) or len(set(labels)) < 2:
        got = f"{len(labels)} labels of {len(set(labels))} kinds"
        msg = f"erasure: expected {len(vectors)} labels of two kinds or more, got {got}; align the table"
        raise InputError(msg)
    if not 1 <= count < vectors.shape[1]:
        msg = f"erasure: expected 1 to {vectors.shape[1] - 1} directions of {vectors.shape[1]} dimensions, got {count}"
        raise InputError(f"{msg}; remove fewer")
    centre = vectors.mean(axis=0)
    found = np.zeros((0, vectors.shape[1]))
    for _ in range(count):
        direction = _direction(erase(vectors, found, centre), labels)
        direction -= found.T @ (found @ direction)
        length = float(np.linalg.norm(direction))
        if length <= 1e-9:
            # Nothing is left that tells the labels: any direction will do, and a drawn one is no worse than another.
            direction = np.random.default_rng(len(found)).normal(size=(vectors.shape[1],))
            direction -= found.T @ (found @ direction)
            length = float(np.linalg.norm(direction))
        found = np.vstack([found, direction / length])
    return found


def random_directions(count: int, dims: int, seed: int) -> Float[np.ndarray, "count dims"]:
    """Return orthonormal directions drawn evenly from all: the control for as many that tell something.

    Raises:
        InputError: If there are not as many dimensions.
    """
    if not 1 <= count <= dims:
        msg = f"erasure: expected 1 to {dims} directions of {dims} dimensions, got {count}; remove fewer"
        raise InputError(msg)
    rows: np.ndarray = np.linalg.qr(np.random.default_rng(seed).normal(size=(dims, count)))[0].T
    return rows


def erase(
    vectors: Float[np.ndarray, "patients dims"],
    directions: Float[np.ndarray, "count dims"],
    centre: Float[np.ndarray, " dims"],
) -> Float[np.ndarray, "patients dims"]:
    """Return the vectors without what they differ by along the directions: there all get the value of the centre.

    Args:
        vectors: Any.
        directions: Orthonormal rows.
        centre: Keeps the vectors where a network expects them; zero would move them all.

    Example:
        >>> erase(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]]), np.array([1.0, 1.0]))
        array([[1., 4.]])
    """
    left: np.ndarray = vectors - (vectors - centre) @ directions.T @ directions
    return left


def _direction(
    vectors: Float[np.ndarray, "patients dims"], labels: Sequence[str] | Sequence[float]
) -> Float[np.ndarray, " dims"]:
    scale = vectors.std(axis=0)
    # What rounding leaves of a dimension that was projected out.
    scale[scale <= 1e-9 * max(1.0, float(np.abs(vectors).max()))] = np.inf
    values = (vectors - vectors.mean(axis=0)) / scale
    weights = np.stack(list(_models(values, labels))) / scale
    direction: np.ndarray = np.linalg.svd(weights, full_matrices=False)[2][0]
    # Where all weights are 0 the decomposition returns some axis.
    return direction if np.abs(weights).max() > 0 else np.zeros(vectors.shape[1])


def _models(
    values: Float[np.ndarray, "patients dims"], labels: Sequence[str] | Sequence[float]
) -> Iterator[Float[np.ndarray, " dims"]]:
    if not isinstance(labels[0], str):
        numbers = np.array(labels, dtype=np.float64)
        matrix = values.T @ values + np.eye(values.shape[1]) / _STRENGTH
        yield np.linalg.solve(matrix, values.T @ (numbers - numbers.mean()))
        return
    groups = sorted(set(map(str, labels)))
    for group in groups[1:] if len(groups) == 2 else groups:
        yield balanced_logistic(values, np.array([label == group for label in labels]), (_STRENGTH,))[0, :-1]
