"""Anatomical axes: which way the axes of an array point, and how to turn them.

Turning flips and permutes axes: no voxel value is ever interpolated, so everything here can be undone exactly.
"""

import itertools
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Shaped

from equivox.errors import InputError
from equivox.volume.memory_order import in_c_order
from equivox.volume.volume import Volume

Turns = tuple[tuple[int, bool], tuple[int, bool], tuple[int, bool]]
"""For each target axis: the source axis that it comes from, and whether that axis is flipped."""

_PAIRS = ("LR", "PA", "IS")
_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TIE = 1e-9


def swap_lps_ras(affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """Return the affine with its world axes turned from LPS (DICOM, ITK) to RAS (NIfTI), or back.

    This is the one place where the two conventions meet.
    """
    turned: np.ndarray = _LPS_RAS @ affine
    # -1 * 0 would leave -0.0.
    return turned + 0.0


def axis_codes(affine: Float[np.ndarray, "4 4"]) -> str:
    """Return the directions in which the three axes of an array point, such as ``"LPS"``.

    An oblique axis has the letter of the anatomical axis that it is nearest to; where two axes compete, the assignment
    with the largest sum of direction cosines is taken, so that permuting the axes permutes the letters.

    Args:
        affine: From voxel indices to RAS; must have an inverse.

    Example:
        >>> axis_codes(np.diag([-0.9, -0.9, 5.0, 1.0]))
        'LPS'
    """
    columns = affine[:3, :3]
    cosines = columns / np.linalg.norm(columns, axis=0)
    best: tuple[int, ...] = (0, 1, 2)
    best_sum = -np.inf
    for worlds in itertools.permutations(range(3)):
        total = float(sum(abs(cosines[world, axis]) for axis, world in enumerate(worlds)))
        # A tie (an axis at 45 degrees) falls to the earlier permutation, the identity first: so turning there and
        # back always ends where it began.
        if total > best_sum + _TIE:
            best, best_sum = worlds, total
    return "".join(_PAIRS[world][int(cosines[world, axis] > 0)] for axis, world in enumerate(best))


def turn_axes(affine: Float[np.ndarray, "4 4"], codes: str) -> Turns:
    """Return how to turn an array so that its axes point in the directions of `codes`.

    Args:
        affine: From voxel indices to RAS.
        codes: Three letters, one each of L/R, P/A and I/S, such as ``"RAS"``.

    Raises:
        InputError: If `codes` is not such a triple.
    """
    wanted = _parse(codes)
    present = _parse(axis_codes(affine))
    turns = []
    for world, positive in wanted:
        source = next(axis for axis, (other, _) in enumerate(present) if other == world)
        turns.append((source, present[source][1] != positive))
    return turns[0], turns[1], turns[2]


def reorient(volume: Volume, codes: str) -> Volume:
    """Return the volume with its axes flipped and permuted to point in the directions of `codes`.

    Every voxel keeps its value and its place in the patient.

    Args:
        volume: Any grid, oblique ones too.
        codes: Three letters, such as ``"RAS"``.

    Raises:
        InputError: If `codes` is not a triple of anatomical directions.
    """
    turns = turn_axes(volume.affine, codes)
    array = reorient_array(volume.array, turns)
    return replace(volume, array=array, affine=reorient_affine(volume.affine, volume.grid.shape, turns))


def reorient_affine(
    affine: Float[np.ndarray, "4 4"], shape: tuple[int, int, int], turns: Turns
) -> Float[np.ndarray, "4 4"]:
    """Return the affine of an array of `shape` after it was turned."""
    turned = np.array(affine, dtype=np.float64)
    for target, (source, flipped) in enumerate(turns):
        column = np.asarray(affine[:3, source], dtype=np.float64)
        turned[:3, target] = -column if flipped else column
        if flipped:
            turned[:3, 3] += column * (shape[source] - 1)
    return turned


def reorient_array(array: Shaped[np.ndarray, "*source"], turns: Turns) -> Shaped[np.ndarray, "*target"]:
    """Turn a bare array.

    Args:
        array: ``(i, j, k)`` or ``(channels, i, j, k)``.
        turns: From `turn_axes`.

    Returns:
        A contiguous array (C order), a copy unless nothing had to be turned.

    Raises:
        ValueError: If the array has neither three nor four axes.
    """
    lead = _leading_axes(array)
    moved = np.transpose(array, [*range(lead), *(lead + source for source, _ in turns)])
    flipped = tuple(lead + target for target, (_, flip) in enumerate(turns) if flip)
    return in_c_order(np.flip(moved, flipped))


def restore_array(array: Shaped[np.ndarray, "*target"], turns: Turns) -> Shaped[np.ndarray, "*source"]:
    """Undo `reorient_array`.

    Args:
        array: ``(i, j, k)`` or ``(channels, i, j, k)``, turned.
        turns: What `reorient_array` was given.

    Returns:
        A contiguous array (C order) in the axes that it had before.

    Raises:
        ValueError: If the array has neither three nor four axes.
    """
    lead = _leading_axes(array)
    flipped = tuple(lead + target for target, (_, flip) in enumerate(turns) if flip)
    back = np.argsort([source for source, _ in turns])
    unflipped = np.flip(array, flipped)
    return in_c_order(np.transpose(unflipped, [*range(lead), *(lead + int(target) for target in back)]))


def _leading_axes(array: Shaped[np.ndarray, "*axes"]) -> int:
    if array.ndim not in {3, 4}:
        msg = f"expected an array (i, j, k) or (channels, i, j, k), got shape {array.shape}"
        raise ValueError(msg)
    return array.ndim - 3


def _parse(codes: str) -> tuple[tuple[int, bool], ...]:
    """Return for each letter its world axis and whether it is the positive end."""
    parsed = []
    for letter in codes.upper():
        for world, pair in enumerate(_PAIRS):
            if letter in pair:
                parsed.append((world, letter == pair[1]))
    if len(codes) != len(_PAIRS) or sorted(world for world, _ in parsed) != [0, 1, 2]:
        msg = f"orientation: expected three letters, one each of L/R, P/A and I/S, got '{codes}'; write for example RAS"
        raise InputError(msg)
    return tuple(parsed)
