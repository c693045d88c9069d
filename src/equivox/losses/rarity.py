"""Weights of cases by how rare they are among the training cases (after DatasetEquity)."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float


def rarity_weights(
    likelihood: Float[np.ndarray, " cases"], *, gamma: float = 5.0, eta: float = 1.0
) -> Float[np.ndarray, " cases"]:
    """Return ``((eta + (1 - p)^gamma) / (eta + 1))`` of each case's likelihood p: the published weights.

    They lie between ``eta / (eta + 1)``, for what is most common, and 1. `mean_one` makes them average 1.

    Args:
        likelihood: In [0, 1], 1 for the most common; NaN where it is unknown, which stays NaN.
        gamma: The larger, the fewer of the rarest cases gain weight.
        eta: Above 0; the smaller, the more the weights differ.

    Example:
        >>> rarity_weights(np.array([1.0, 0.5, 0.0]), gamma=1.0).tolist()
        [0.5, 0.75, 1.0]

    References:
        Shrivastava et al., "DatasetEquity: Are All Samples Created Equal?", ICCV workshops 2023
        (https://arxiv.org/abs/2308.09878). There p is a cluster's size over that of the largest one, of clusters of
        a t-SNE map; ours is `density_ranks` or `cell_likelihood`, the same ones at each computation.
    """
    weights: np.ndarray = (eta + (1 - likelihood) ** gamma) / (eta + 1)
    return weights


def mean_one(weights: Float[np.ndarray, " cases"]) -> Float[np.ndarray, " cases"]:
    """Return weights that average 1, so that the learning rate keeps its meaning; NaN becomes 1.

    Example:
        >>> mean_one(np.array([0.5, 1.5, np.nan, 1.0])).tolist()
        [0.5, 1.5, 1.0, 1.0]
    """
    known = ~np.isnan(weights)
    return np.where(known, weights / weights[known].mean(), 1.0) if known.any() else np.ones_like(weights)


def density_ranks(
    embeddings: Float[np.ndarray, "cases features"], *, components: int = 50, neighbours: int = 5
) -> Float[np.ndarray, " cases"]:
    """Return each case's likelihood by how near its nearest neighbours are: 1 for the nearest, 0 for the farthest.

    Features are standardised (a constant one counts nothing) and brought to principal components. A case's density
    falls with its mean distance to the nearest other cases, and the densities' ranks are what is returned, so that
    neither the features' units nor a single far case sets the scale. Nothing is drawn at random. A case that is near
    no other one is rare, whereas a clustering would put all such cases into one large cluster of noise.

    Args:
        embeddings: One row a case, finite.
        components: At most so many principal components are kept.
        neighbours: Over how many the distance is averaged; fewer where there are fewer other cases.

    Returns:
        In [0, 1]; alike cases have the mean of their ranks, and a single case has 1.

    Example:
        >>> density_ranks(np.array([[0.0], [0.1], [0.3], [9.0]]), neighbours=1).round(3).tolist()
        [0.833, 0.833, 0.333, 0.0]
    """
    count = len(embeddings)
    if count < 2:
        return np.ones(count)
    from scipy.spatial.distance import cdist
    from scipy.stats import rankdata

    spread = embeddings.std(axis=0)
    telling = spread > 1e-9 * np.abs(embeddings).max(axis=0)
    rows = (embeddings[:, telling] - embeddings[:, telling].mean(axis=0)) / spread[telling]
    left, scale, _ = np.linalg.svd(rows, full_matrices=False)
    placed = (left * scale)[:, :components]
    between = cdist(placed, placed) if placed.shape[1] else np.zeros((count, count))
    np.fill_diagonal(between, np.inf)
    distance = np.sort(between, axis=1)[:, : min(neighbours, count - 1)].mean(axis=1)
    # Cases that are alike must tie whatever the rounding of the decomposition.
    alike = np.round(distance / (distance.max() or 1.0), 9)
    ranks: np.ndarray = (rankdata(-alike) - 1) / (count - 1)
    return ranks


def cell_likelihood(cells: Sequence[Hashable | None]) -> Float[np.ndarray, " cases"]:
    """Return how many cases share each case's cell, over the size of the largest cell; NaN where it is unknown.

    Example:
        >>> cell_likelihood(["a", "a", "b", None]).tolist()
        [1.0, 1.0, 0.5, nan]
    """
    sizes = Counter(cell for cell in cells if cell is not None)
    most = max(sizes.values(), default=1)
    return np.array([np.nan if cell is None else sizes[cell] / most for cell in cells])
