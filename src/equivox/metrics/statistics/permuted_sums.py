"""Sums over groups when patients are shuffled between the groups, for many scores at once."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Float

_CHUNK: Final = 2_000_000
"""Permuted values held in memory at a time: 16 MB."""


def permuted_sums(
    columns: Float[np.ndarray, "patients columns"],
    members: Float[np.ndarray, "patients groups"],
    draws: int,
    seed: int,
) -> Iterator[Float[np.ndarray, "rows groups columns"]]:
    """Yield the sum of every column over every group, with the patients in random order, many orders at a time.

    All columns of a patient stay together, so one shuffling serves all scores; a table of a dozen metrics costs about
    as much as one of them.

    Args:
        columns: One row a patient, none of it missing.
        members: 1 where the patient is in the group, else 0.
        draws: Orders in all.
        seed: Of the orders.

    Example:
        >>> (sums,) = permuted_sums(np.array([[1.0], [1.0], [1.0]]), np.eye(3)[:, :2], 4, 0)
        >>> sums.shape, float(sums.min())
        ((4, 2, 1), 1.0)
    """
    rng = np.random.default_rng(seed)
    patients, wide = columns.shape
    groups = members.shape[1]
    columns, members = columns.astype(np.float64), members.astype(np.float64)
    rows = max(1, _CHUNK // max(1, patients, groups * wide))
    places = np.arange(patients, dtype=np.int32)
    for start in range(0, draws, rows):
        order = rng.permuted(np.tile(places, (min(rows, draws - start), 1)), axis=1)
        sums = np.empty((len(order), groups, wide))
        # Either side may be shuffled against the other: the smaller one is less work, and the sums are the same.
        if groups <= wide:
            for group in range(groups):
                sums[:, group] = members[:, group][order] @ columns
        else:
            inverse = np.empty_like(order)
            np.put_along_axis(inverse, order, places[None, :], axis=1)
            for column in range(wide):
                sums[:, :, column] = columns[:, column][inverse] @ members
        yield sums
