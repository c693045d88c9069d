"""How many pieces, tunnels and cavities of two masks have no partner in the other one: the Betti matching error."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage

from equivox.compiled_matching import compiled_matching
from equivox.errors import InputError
from equivox.metrics.masks.mask_pair import cropped_pair
from equivox.metrics.masks.topology import BettiNumbers, betti_numbers, labelled

_BLOCK_SIDE: Final = 128

_Masks = tuple[Bool[np.ndarray, "..."], Bool[np.ndarray, "..."]]


@dataclass(frozen=True)
class BettiMatching:
    """Which topological features of two masks are the same, by dimension: pieces, tunnels (in 2D: holes), cavities.

    Attributes:
        matched: Features that both masks have in common.
        unmatched_reference: Features of the reference that the prediction lacks.
        unmatched_prediction: Features of the prediction that the reference lacks.
        cut: Whether a part was too large to match whole, so that features were counted block by block.
    """

    matched: BettiNumbers
    unmatched_reference: BettiNumbers
    unmatched_prediction: BettiNumbers
    cut: bool

    @property
    def errors(self) -> BettiNumbers:
        """Features of either mask without a partner, in each dimension."""
        pairs = zip(self.unmatched_reference, self.unmatched_prediction, strict=True)
        first, second, third = (one + other for one, other in pairs)
        return (first, second, third)

    @property
    def error(self) -> int:
        """The Betti matching error: features of either mask without a partner, over all dimensions."""
        return sum(self.errors)


def betti_matching(
    reference: Bool[np.ndarray, "..."], prediction: Bool[np.ndarray, "..."], *, block_side: int = _BLOCK_SIDE
) -> BettiMatching:
    """Match the pieces, tunnels and cavities of two masks through their union.

    A feature of each mask is the same where both become the same feature of the union R or P of the masks: two pieces
    where they lie in one piece of the union, two holes where they leave the same part of the background enclosed.
    In the terms of homology, with the maps that the inclusions of R and P in their union induce, the features matched
    in dimension d are dim(image of H_d(R) and image of H_d(P), intersected), with coefficients in GF(2); every other
    feature of R or P is unmatched. Voxels touch across faces, edges and corners, those of the background across faces.

    This is the matching of Stucki et al. with its two arbitrary parts left out, which masks suffer from most: their
    filtration goes on from the union to the whole array, all at one level. There the order of the voxels in memory
    decides whether two features that are no part of each other die together and so match; and one piece of each mask,
    which the whole array keeps for ever, counts as matched wherever it lies, so that a missed single structure has
    the error 0. `published_betti_matching` gives those numbers. Ours does not change if the masks are moved, turned
    or mirrored, and is the same if they are exchanged; it says nothing about outlines, which may differ freely.

    Pieces and cavities, and holes in 2D, are always matched over the whole mask. Tunnels in 3D cost time and memory
    (about 1 GB for a million voxels): each piece of the union is matched on its own, in its own box, and only if both
    masks and the union have tunnels in it. A piece whose box holds more than ``block_side ** 3`` voxels is cut into
    blocks of at most that side, each an image of its own, and their tunnels are added up; the sum is comparable from
    case to case only roughly, as a tunnel that no block holds whole is lost, a long one counts once in each block, and
    a cavity that is cut open can count as a tunnel. `BettiMatching.cut` says where that was so.

    Args:
        reference: Two or three axes; an array with one voxel along one of three axes is 2D. May be empty: every
            feature of the other is then unmatched; of two empty masks nothing is.
        prediction: Of the same shape.
        block_side: The largest side of a cube that is matched whole, in voxels.

    Raises:
        InputError: If the masks are not boolean arrays of one shape, the side is not positive, or the masks are 3D and
            the extra `topology` is not installed.

    Example:
        A missed pixel and an invented one: the same Betti numbers, but nothing in common.

        >>> truth, guess = np.zeros((2, 5, 5), dtype=bool)
        >>> truth[0, 0] = guess[4, 4] = True
        >>> betti_matching(truth, guess).errors
        (2, 0, 0)

    References:
        Stucki et al., "Topologically faithful image segmentation via induced matching of persistence barcodes",
        ICML 2023 (https://arxiv.org/abs/2211.15272).
        Stucki et al., "Efficient Betti matching enables topology-aware 3D segmentation via persistent homology", 2024
        (https://arxiv.org/abs/2407.04683).
    """
    _check_block_side(block_side)
    first, second = (np.pad(mask, 1) for mask in cropped_pair(reference, prediction))
    module = compiled_matching() if first.ndim == 3 else None
    pieces, count = labelled(first | second, "full")
    shared = np.intersect1d(pieces[first], pieces[second]).size
    enclosed = _shared_enclosures(first, second)
    ours, theirs = betti_numbers(first), betti_numbers(second)
    if first.ndim == 2:
        return _matching((shared, enclosed, 0), ours, theirs, cut=False)
    tunnels, cut = np.array([0, ours[1], theirs[1]]), False
    for one, other in _pieces_with_tunnels(first, second, pieces, count):
        if one.size <= block_side**3:
            tunnels[0] += _shared_tunnels(one, other, module)
        else:
            cut = True
            tunnels[1:] -= betti_numbers(one)[1], betti_numbers(other)[1]
            for block in _blocks(one, other, block_side):
                numbers = (betti_numbers(mask)[1] for mask in block)
                tunnels += _shared_tunnels(*block, module), *numbers
    through, own, other_own = tunnels.tolist()
    matched = (shared, through, enclosed)
    return _matching(matched, (ours[0], own, ours[2]), (theirs[0], other_own, theirs[2]), cut=cut)


def published_betti_matching(
    reference: Bool[np.ndarray, "..."], prediction: Bool[np.ndarray, "..."], *, block_side: int = _BLOCK_SIDE
) -> BettiMatching:
    """Match two masks as the published program does, for comparison with numbers from elsewhere.

    Voxels touch across faces alone (the V-construction). One piece of each mask is left out of every count, as it
    never dies: two single pieces far apart, or one that is in a single mask, have the error 0. What else is matched
    can depend on the order of the voxels; see `betti_matching`.

    The box of both masks is matched whole if it holds at most ``block_side ** 3`` voxels; a larger one is cut into
    blocks of at most that side, each an image of its own, and their counts are added up.

    Args:
        reference: Two or three axes; an array with one voxel along one of three axes is 2D. May be empty.
        prediction: Of the same shape.
        block_side: The largest side of a cube that is matched whole, in voxels.

    Raises:
        InputError: If the masks are not boolean arrays of one shape, the side is not positive, or the extra `topology`
            is not installed.

    References:
        Stucki et al., "Efficient Betti matching enables topology-aware 3D segmentation via persistent homology", 2024
        (https://arxiv.org/abs/2407.04683).
    """
    _check_block_side(block_side)
    module = compiled_matching()
    first, second = cropped_pair(reference, prediction)
    counts = np.zeros((3, 3), dtype=np.int64)
    cut = first.size > block_side**3
    for one, other in _blocks(first, second, block_side) if cut else [(first, second)]:
        if one.any() or other.any():
            # Superlevel sets: the mask comes first.
            result = module.compute_matching(1.0 - other, 1.0 - one)
            found = result.num_matched, result.num_unmatched_input2, result.num_unmatched_input1
            counts[:, : one.ndim] += np.array(found)
    matched, ours, theirs = ((int(row[0]), int(row[1]), int(row[2])) for row in counts)
    return BettiMatching(matched, ours, theirs, cut)


def _matching(matched: BettiNumbers, reference: BettiNumbers, prediction: BettiNumbers, *, cut: bool) -> BettiMatching:
    def rest(numbers: BettiNumbers) -> BettiNumbers:
        return (numbers[0] - matched[0], numbers[1] - matched[1], numbers[2] - matched[2])

    return BettiMatching(matched, rest(reference), rest(prediction), cut)


def _shared_enclosures(first: Bool[np.ndarray, "..."], second: Bool[np.ndarray, "..."]) -> int:
    """Count the holes (2D) or cavities (3D) that two masks with a margin of background have in common.

    By Alexander duality they are parts of the background. Each part outside the union lies in one part outside each
    mask; joining those two for each of them gives a graph, and each connected piece of it that does not hold the
    outside of the array is one class of the union that both masks have.
    """
    outside_first, count_first = labelled(~first, "face")
    outside_second, count_second = labelled(~second, "face")
    outside, count = labelled(~(first | second), "face")
    pairs = np.zeros((2, count + 1), dtype=np.int64)
    pairs[0][outside.ravel()] = outside_first.ravel()
    pairs[1][outside.ravel()] = outside_second.ravel()
    ends = pairs[0, 1:] - 1, pairs[1, 1:] - 1 + count_first
    nodes = count_first + count_second
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    joined = connected_components(coo_array((np.ones(count), ends), shape=(nodes, nodes)), directed=False)[1]
    return int(np.setdiff1d(joined[ends[0]], joined[int(outside_first[0, 0].flat[0]) - 1]).size)


def _pieces_with_tunnels(
    first: Bool[np.ndarray, "..."],
    second: Bool[np.ndarray, "..."],
    pieces: Integer[np.ndarray, "..."],
    count: int,
) -> Iterator[_Masks]:
    """Yield both masks within each piece of their union, cropped to it, if each of the three has tunnels.

    Elsewhere no tunnel can match.
    """
    if not (betti_numbers(first)[1] and betti_numbers(second)[1]):
        return
    for piece, box in enumerate(ndimage.find_objects(pieces, max_label=count), start=1):
        # The smallest ring fills three voxels along two axes.
        if sorted(side.stop - side.start for side in box)[1] < 3:
            continue
        own = pieces[box] == piece
        one, other = own & first[box], own & second[box]
        if all(betti_numbers(mask)[1] for mask in (one, other, own)):
            yield one, other


def _shared_tunnels(first: Bool[np.ndarray, "i j k"], second: Bool[np.ndarray, "i j k"], module: Any) -> int:
    """Return the dimension of what the tunnels of both masks have in common in their union.

    It is rank(R) + rank(P) - rank(R and P together), each the rank of a map into H_1 of the union. The last one
    follows from the Mayer-Vietoris sequence: what does not come from R and P in H_1 of the union comes from the pieces
    of the intersection of both, as closed sets, that R and P join.
    """
    first, second = np.pad(first, 1), np.pad(second, 1)
    union = first | second
    tunnels = betti_numbers(union)[1]
    ranks = []
    for mask in (first, second):
        rank = _rank_in_union(mask, union, tunnels, module) if tunnels and betti_numbers(mask)[1] else 0
        if rank == 0:
            return 0
        ranks.append(rank)
    if max(ranks) == tunnels:
        return min(ranks)
    meeting = labelled(_closed_cells(first) & _closed_cells(second), "full")[1]
    joined = labelled(first, "full")[1] + labelled(second, "full")[1] - labelled(union, "full")[1]
    return sum(ranks) - (tunnels - (meeting - joined))


def _rank_in_union(mask: Bool[np.ndarray, "i j k"], union: Bool[np.ndarray, "i j k"], tunnels: int, module: Any) -> int:
    """Return how many independent tunnels of the union come from the mask; both have a margin of background.

    By Alexander duality it is the number of loops of the background of the union that are still loops in that of the
    mask: the bars from 0 to 2 of the function that is 0 outside the union, 2 in the mask and 1 between.
    """
    if np.array_equal(mask, union):
        return tunnels
    levels = union.astype(np.float64) + mask
    bars = module.compute_barcode(levels)
    births, deaths = (levels[tuple(ends[1].T)] for ends in (bars.birth_coordinates, bars.death_coordinates))
    return int(np.count_nonzero((births == 0) & (deaths == 2)))


def _closed_cells(mask: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "_ _ _"]:
    """Return the voxels, faces, edges and corners of a mask on the grid that has a place for each of them."""
    cells = np.zeros([2 * side + 1 for side in mask.shape], dtype=bool)
    cells[1::2, 1::2, 1::2] = mask
    for axis in range(3):
        along = np.moveaxis(cells, axis, 0)
        along[:-1:2] |= along[1::2]
        along[2::2] |= along[1::2]
    return cells


def _blocks(first: Bool[np.ndarray, "..."], second: Bool[np.ndarray, "..."], side: int) -> Iterator[_Masks]:
    """Cut two masks in the same way into blocks of nearly equal size and at most the side along each axis."""
    edges = []
    for length in first.shape:
        parts = -(-length // side)
        edges.append([length * part // parts for part in range(parts + 1)])
    for starts_and_stops in itertools.product(*(itertools.pairwise(axis) for axis in edges)):
        box = tuple(slice(start, stop) for start, stop in starts_and_stops)
        yield np.ascontiguousarray(first[box]), np.ascontiguousarray(second[box])


def _check_block_side(block_side: int) -> None:
    if block_side < 1:
        msg = f"block_side: expected a positive number of voxels, got {block_side}; give for example {_BLOCK_SIDE}"
        raise InputError(msg)
