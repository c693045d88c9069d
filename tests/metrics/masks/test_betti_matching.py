import importlib.util
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from equivox import compiled_matching as module
from equivox.errors import InputError
from equivox.metrics.masks.betti_matching import BettiMatching, betti_matching, published_betti_matching
from equivox.metrics.masks.topology import betti_numbers

needs_topolosses = pytest.mark.skipif(
    importlib.util.find_spec("topolosses") is None, reason="the extra topology has no wheel for this platform"
)

Cell = tuple[int, ...]


def shared_by_linear_algebra(first: np.ndarray, second: np.ndarray) -> tuple[int, ...]:
    """Dimensions of what the homologies of two masks have in common in that of their union, by elimination over GF(2).

    Chains are numbers whose bits are the cells of the union.
    """
    union = closed(first | second)
    by_dimension = [sorted(cell for cell in union if sum(x % 2 for x in cell) == d) for d in range(first.ndim + 1)]
    places = [{cell: place for place, cell in enumerate(cells)} for cells in by_dimension]
    boundary = {cell: sum(1 << places[d - 1][face] for face in faces(cell)) for d, cells in enumerate(by_dimension)
                for cell in cells}  # fmt: skip
    shared = []
    for d in range(first.ndim):
        bounding = reduced(boundary[cell] for cell in by_dimension[d + 1])
        cycles = [
            kernel((boundary[cell], 1 << places[d][cell]) for cell in by_dimension[d] if cell in part)
            for part in (closed(first), closed(second))
        ]
        one, other, both = (len(reduced(some, bounding)) for some in (*cycles, cycles[0] + cycles[1]))
        shared.append(one + other - both - len(bounding))
    return (*shared, 0)[:3]


def closed(mask: np.ndarray) -> set[Cell]:
    """The voxels (odd coordinates), faces, edges and corners of a mask."""
    steps = list(itertools.product((0, 1, 2), repeat=mask.ndim))
    return {
        tuple(2 * int(v) + s for v, s in zip(voxel, step, strict=True)) for voxel in np.argwhere(mask) for step in steps
    }


def faces(cell: Cell) -> Iterator[Cell]:
    for axis, place in enumerate(cell):
        if place % 2:
            for step in (-1, 1):
                yield (*cell[:axis], place + step, *cell[axis + 1 :])


def reduced(chains: Iterable[int], basis: dict[int, int] | None = None) -> dict[int, int]:
    """Return a basis, by leading bit, of what the chains and the given basis span."""
    found = dict(basis or {})
    for chain in chains:
        while chain and chain.bit_length() in found:
            chain ^= found[chain.bit_length()]
        if chain:
            found[chain.bit_length()] = chain
    return found


def kernel(columns: Iterable[tuple[int, int]]) -> list[int]:
    """Return the combinations of cells whose boundaries cancel."""
    pivots: dict[int, tuple[int, int]] = {}
    cycles = []
    for image, chain in columns:
        while image and image.bit_length() in pivots:
            pivot = pivots[image.bit_length()]
            image, chain = image ^ pivot[0], chain ^ pivot[1]
        if image:
            pivots[image.bit_length()] = (image, chain)
        else:
            cycles.append(chain)
    return cycles


def random_pair(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    reference = generator.random(shape) < generator.uniform(0.3, 0.8)
    if seed % 2:
        return reference, reference ^ (generator.random(shape) < generator.uniform(0.05, 0.5))
    return reference, generator.random(shape) < generator.uniform(0.3, 0.8)


def ring(shape: tuple[int, ...], middle: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(place - 1, place + 2) for place in middle)] = True
    mask[middle] = False
    return mask


def test_pieces_match_where_they_lie_in_one_piece_of_the_union() -> None:
    # Three pieces in R, two in P; the last of R touches the first of P at a corner.
    truth, guess = np.zeros((2, 7, 9), dtype=bool)
    truth[0, 0] = truth[3, 3] = truth[6, 0] = guess[4, 4] = guess[0, 8] = True
    assert betti_matching(truth, guess) == BettiMatching((1, 0, 0), (2, 0, 0), (1, 0, 0), cut=False)
    assert betti_matching(truth, guess).error == 3


def test_two_pieces_joined_by_one_count_once() -> None:
    truth, guess = np.zeros((2, 3, 7), dtype=bool)
    truth[1, 0:2] = truth[1, 5:7] = guess[1] = True
    assert betti_matching(truth, guess) == BettiMatching((1, 0, 0), (1, 0, 0), (0, 0, 0), cut=False)


def test_holes_match_where_the_union_keeps_them() -> None:
    # Rings around neighbouring pixels fill each other's hole; both are one piece.
    truth = ring((6, 9), (2, 2))
    assert betti_matching(truth, ring((6, 9), (2, 3))).errors == (0, 2, 0)
    assert betti_matching(truth, truth).errors == (0, 0, 0)
    assert betti_matching(truth, ring((6, 9), (2, 6))).errors == (2, 2, 0)
    # A hole that the prediction divides in two: one of its two matches.
    wide = np.zeros((5, 7), dtype=bool)
    wide[1:4, 1:6] = True
    wide[2, 2:5] = False
    divided = wide.copy()
    divided[2, 3] = True
    assert betti_matching(wide, divided) == BettiMatching((1, 1, 0), (0, 0, 0), (0, 1, 0), cut=False)


@needs_topolosses
def test_cavities_and_tunnels_by_hand() -> None:
    # A closed shell, and the same one pierced at both ends: the cavity becomes a tunnel.
    shell = np.zeros((7, 6, 9), dtype=bool)
    shell[1:6, 1:5, 1:8] = True
    shell[2:5, 2:4, 2:7] = False
    pierced = shell.copy()
    pierced[3, 2, [1, 7]] = False
    assert betti_matching(shell, pierced) == BettiMatching((1, 0, 0), (0, 0, 1), (0, 1, 0), cut=False)
    assert betti_matching(shell, shell) == BettiMatching((1, 0, 1), (0, 0, 0), (0, 0, 0), cut=False)
    assert betti_matching(pierced, pierced) == BettiMatching((1, 1, 0), (0, 0, 0), (0, 0, 0), cut=False)
    shifted = np.roll(pierced, 1, axis=0)
    assert betti_matching(pierced, shifted).matched[1] == shared_by_linear_algebra(pierced, shifted)[1]


@needs_topolosses
def test_a_ring_within_the_box_of_another_is_matched_once() -> None:
    # A ring of the smallest size in the middle of a large one, in a slice.
    rings = np.zeros((11, 11, 3), dtype=bool)
    rings[1:10, 1:10, 1] = np.pad(np.zeros((7, 7), dtype=bool), 1, constant_values=True)
    rings[4:7, 4:7, 1] = np.pad(np.zeros((1, 1), dtype=bool), 1, constant_values=True)
    thicker = rings | np.roll(rings, 1, axis=2)
    assert betti_matching(rings, thicker) == BettiMatching((2, 2, 0), (0, 0, 0), (0, 0, 0), cut=False)


@needs_topolosses
@pytest.mark.parametrize("shape", [(5, 5, 5), (4, 5, 6), (9, 8), (7, 1, 9)])
def test_matches_are_those_of_linear_algebra(shape: tuple[int, ...]) -> None:
    tunnels = 0
    for seed in range(24):
        truth, guess = random_pair(shape, seed)
        matching = betti_matching(truth, guess)
        assert matching.matched == shared_by_linear_algebra(truth.squeeze(), guess.squeeze())
        for mask, rest in ((truth, matching.unmatched_reference), (guess, matching.unmatched_prediction)):
            assert tuple(np.add(matching.matched, rest)) == betti_numbers(mask)
        tunnels += matching.matched[1]
    assert tunnels > 5


@needs_topolosses
def test_ranks_that_overlap_in_part_are_those_of_linear_algebra() -> None:
    # Pairs whose tunnels come neither from one mask alone nor from both together, found among random ones.
    partial = 0
    for seed in range(200, 320):
        truth, guess = random_pair((5, 5, 5), seed)
        matched = betti_matching(truth, guess).matched[1]
        if 0 < matched < betti_numbers(truth | guess)[1]:
            partial += 1
            assert matched == shared_by_linear_algebra(truth, guess)[1]
    assert partial > 3


@needs_topolosses
@pytest.mark.parametrize("shape", [(8, 9), (6, 5, 7)])
def test_moving_mirroring_turning_and_exchanging_change_nothing(shape: tuple[int, ...]) -> None:
    for seed in range(6):
        truth, guess = random_pair(shape, seed)
        matching = betti_matching(truth, guess)
        assert betti_matching(truth.T, guess.T) == matching
        assert betti_matching(np.flip(truth, 0), np.flip(guess, 0)) == matching
        assert betti_matching(np.pad(truth, (2, 1)), np.pad(guess, (2, 1))) == matching
        exchanged = betti_matching(guess, truth)
        assert (exchanged.matched, exchanged.errors) == (matching.matched, matching.errors)
        assert exchanged.unmatched_reference == matching.unmatched_prediction


@needs_topolosses
@pytest.mark.parametrize("shape", [(5, 7), (5, 6, 7)])
def test_empty_masks_leave_every_feature_of_the_other_unmatched(shape: tuple[int, ...]) -> None:
    mask, empty = ring(shape, (2,) * len(shape)), np.zeros(shape, dtype=bool)
    enclosed = (0, 1, 0) if len(shape) == 2 else (0, 0, 1)
    numbers = (1, *enclosed[1:])
    nothing = (0, 0, 0)
    assert betti_matching(mask, empty) == BettiMatching(nothing, numbers, nothing, cut=False)
    assert betti_matching(empty, mask) == BettiMatching(nothing, nothing, numbers, cut=False)
    assert betti_matching(empty, empty) == BettiMatching(nothing, nothing, nothing, cut=False)
    assert published_betti_matching(empty, empty).error == 0


@needs_topolosses
@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 5), (1, 1, 1)])
def test_a_single_voxel_matches_itself(shape: tuple[int, ...]) -> None:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(side // 2 for side in shape)] = True
    assert betti_matching(mask, mask) == BettiMatching((1, 0, 0), (0, 0, 0), (0, 0, 0), cut=False)


@needs_topolosses
def test_a_large_piece_is_cut_and_says_so() -> None:
    # A tube of 20 slices, and the same one with a window in its wall, which is a tunnel more.
    tube = np.zeros((3, 4, 20), dtype=bool)
    tube[:] = np.pad(np.zeros((1, 2), dtype=bool), 1, constant_values=True)[..., None]
    pierced = tube.copy()
    pierced[0, 1, 17] = False
    assert betti_matching(tube, pierced) == BettiMatching((1, 1, 0), (0, 0, 0), (0, 1, 0), cut=False)
    # 3 * 4 * 20 = 240 voxels, more than 6 ** 3 = 216: four blocks of 5 slices, the last one with a window.
    assert betti_matching(tube, pierced, block_side=6) == BettiMatching((1, 4, 0), (0, 0, 0), (0, 1, 0), cut=True)
    assert not betti_matching(tube, pierced, block_side=7).cut


@needs_topolosses
def test_the_published_matching_leaves_a_piece_of_each_mask_out() -> None:
    truth, guess = np.zeros((2, 4, 6), dtype=bool)
    truth[0, 0] = guess[3, 5] = True
    assert published_betti_matching(truth, guess).error == 0
    assert published_betti_matching(truth, np.zeros_like(truth)).error == 0
    assert betti_matching(truth, guess).error == 2


@needs_topolosses
def test_the_published_matching_hangs_on_the_order_of_the_voxels_and_ours_does_not() -> None:
    truth, guess = np.zeros((2, 3, 5), dtype=bool)
    truth[0, 1] = truth[1, 4] = guess[1, 0] = guess[2, 4] = True
    pairs = [(truth, guess), (truth[:, ::-1], guess[:, ::-1])]
    assert [published_betti_matching(*pair).error for pair in pairs] == [0, 2]
    assert [betti_matching(*pair).error for pair in pairs] == [0, 0]


@needs_topolosses
def test_published_errors_of_blocks_are_added_up() -> None:
    # 3 * 3 * 16 = 144 voxels, more than 5 ** 3 = 125: four blocks of 4 slices.
    truth, guess = np.zeros((2, 3, 3, 16), dtype=bool)
    truth[0, 0, 0] = truth[2, 2, 15] = truth[0, 0, 10] = truth[2, 0, 12] = truth[0, 2, 12] = True
    guess[0, 0, 0] = guess[2, 2, 15] = True
    cut = published_betti_matching(truth, guess, block_side=5)
    slices = [slice(first, first + 4) for first in (0, 4, 8, 12)]
    blocks = [published_betti_matching(truth[..., place], guess[..., place]) for place in slices]
    assert cut.cut
    assert not any(block.cut for block in blocks)
    # Of the last block's three pieces in R and the one in P, one of each is left out; of the third block's piece too.
    assert [block.error for block in blocks] == [0, 0, 0, 2]
    assert cut.unmatched_reference == (2, 0, 0)
    assert cut.error == 2


def test_a_block_without_a_side_is_refused() -> None:
    mask = np.ones((2, 2), dtype=bool)
    for match in (betti_matching, published_betti_matching):
        with pytest.raises(InputError, match="block_side: expected a positive number of voxels, got 0"):
            match(mask, mask, block_side=0)


@pytest.mark.parametrize("installed", [None, "elsewhere"])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: str | None
) -> None:
    package = None
    if installed:
        package = importlib.util.spec_from_file_location(
            "topolosses", tmp_path / "__init__.py", submodule_search_locations=[str(tmp_path)]
        )
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: package)
    module.compiled_matching.cache_clear()
    mask = np.ones((3, 3, 3), dtype=bool)
    for match in (betti_matching, published_betti_matching):
        with pytest.raises(InputError, match=r"topolosses, got none; pip install 'equivox\[topology\]'"):
            match(mask, mask)
    # In 2D nothing but connected pieces is needed.
    assert betti_matching(mask[0], mask[0]).error == 0
