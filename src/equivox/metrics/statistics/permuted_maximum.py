"""What the largest statistic of a family is by chance, from patients in random order."""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, Shaped

from equivox.metrics.statistics.contrast_design import Design, differences_within_blocks, studentised

_CHUNK = 2_000_000
"""Permuted values held in memory at a time: 16 MB."""


def largest_under_permutation(
    values: Float[np.ndarray, " patients"], design: Design, draws: int, seed: int
) -> Float[np.ndarray, " draws"]:
    """Return the family's largest statistic in each draw: contrasts within blocks and free ones, each permuted so."""
    largest = np.zeros(draws)
    for free, chosen, blocks in design.kinds():
        members, rests = design.members[:, chosen], design.rests[:, chosen]
        own_seed = seed if chosen.all() else _seed_of(seed, free=free)
        at = 0
        for rows in permuted(values, draws, own_seed, blocks):
            here = slice(at, at + len(rows))
            at += len(rows)
            found = studentised(*differences_within_blocks(rows, members, rests, blocks)).max(axis=1)
            largest[here] = np.maximum(largest[here], found)
    return largest


def largest_of_samples(
    samples: Float[np.ndarray, "samples patients"], design: Design, draws: int, seed: int
) -> Float[np.ndarray, "samples draws"]:
    """Return what `largest_under_permutation` returns for each sample, with the same permutations for all of them.

    To permute the groups is to permute the values; the groups of a draw are then made once for all samples.
    """
    largest = np.zeros((len(samples), draws))
    places = np.arange(samples.shape[1])
    for free, chosen, blocks in design.kinds():
        at = 0
        for orders in permuted(places, draws, _seed_of(seed, free=free), blocks):
            here = slice(at, at + len(orders))
            at += len(orders)
            # One column a draw and contrast.
            columns = [np.moveaxis(side[:, chosen][orders], 1, 0) for side in (design.members, design.rests)]
            members, rests = (side.reshape(len(places), -1) for side in columns)
            found = studentised(*differences_within_blocks(samples, members, rests, blocks))
            found = found.reshape(len(samples), len(orders), -1).max(axis=2)
            largest[:, here] = np.maximum(largest[:, here], found)
    return largest


def critical_quantile(largest: Float[np.ndarray, " draws"], confidence: float) -> float:
    """Return the smallest value that leaves ``p < 1 - confidence`` to every statistic above it."""
    # |T| > q leaves at most rank - 1 permutations that are as large, so p <= rank / (1 + B) < level.
    draws = len(largest)
    rank = math.ceil((1 - confidence) * (1 + draws) - 1e-9) - 1
    if rank < 1:
        return math.inf
    return float(np.sort(largest)[draws - rank])


def permuted(
    values: Shaped[np.ndarray, " patients"],
    draws: int,
    seed: int,
    blocks: Int[np.ndarray, " patients"] | None = None,
) -> Iterator[Shaped[np.ndarray, "rows patients"]]:
    """Yield the values in random order, many orders at a time and `draws` of them in all.

    Args:
        values: One value a patient.
        draws: Orders.
        seed: Of the orders.
        blocks: One number a patient: values stay among the patients of one number.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(1, len(values)))
    places = [] if blocks is None else [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    for start in range(0, draws, rows):
        tiled = np.tile(values, (min(rows, draws - start), 1))
        if len(places) < 2:
            yield rng.permuted(tiled, axis=1)
            continue
        for place in places:
            tiled[:, place] = rng.permuted(tiled[:, place], axis=1)
        yield tiled


def _seed_of(seed: int, *, free: bool) -> int:
    return int(np.random.default_rng([seed, int(not free)]).integers(2**31))
