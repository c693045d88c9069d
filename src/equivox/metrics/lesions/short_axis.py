"""Long and short axis of a lesion in its axial slices, in the manner of RECIST."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import ConvexHull

from equivox.errors import InputError
from equivox.metrics.lesions.components import check_spacing

# Diameters that differ by less are the same: a square has two diagonals.
_EQUAL = 1e-9


@dataclass(frozen=True)
class LesionAxes:
    """The axes of a lesion.

    Attributes:
        long_axis_mm: The largest diameter within a slice.
        short_axis_mm: The largest extent across the long axis, in the same slice.
        slice_index: That slice.
    """

    long_axis_mm: float
    short_axis_mm: float
    slice_index: int


def lesion_axes(lesion: Bool[np.ndarray, "i j k"], spacing_mm: Sequence[float], *, axis: int = 2) -> LesionAxes:
    r"""Measure the long and the short axis of one lesion.

    In each slice the long axis ``L(z)`` is the largest distance between two points of the lesion (its maximal Feret
    diameter), and the short axis ``W(z)`` the longest chord that crosses it at a right angle. Both are taken in the
    convex hull of the slice, so that holes and bays are filled, as a reader's calliper would bridge them. The axes
    reported are those of the slice with the largest ``L``; among slices or diameters of the same length, those with
    the largest ``W``.

    Pixels are squares and not points: extents run from outer corner to outer corner. A lesion of one pixel has the
    pixel's diagonal as long axis and not 0.

    The extent of the whole outline across the long axis, its shadow, is not used: for a strip of one pixel, whose long
    axis is a diagonal, it is twice the strip's width.

    Args:
        lesion: A mask of one connected component with at least one voxel.
        spacing_mm: Voxel sides along i, j, k; 1, 1, 1 gives axes in voxels.
        axis: The axis along which the slices are stacked; k by default, which is axial where k runs from foot to head.

    Raises:
        InputError: If the mask is empty, there is no such axis, or the spacing is not usable.

    References:
        Eisenhauer et al., "New response evaluation criteria in solid tumours: RECIST 1.1", Eur J Cancer 2009.

    Example:
        A pixel of 3 x 4 mm: the diagonal is 5 mm, and a chord at right angles to it, from a corner to the longer side,
        is 5 * 3 / 4 mm.

        >>> lesion_axes(np.ones((1, 1, 1), dtype=bool), (3.0, 4.0, 9.0))
        LesionAxes(long_axis_mm=5.0, short_axis_mm=3.75, slice_index=0)
    """
    sides = check_spacing(spacing_mm)
    if axis not in (0, 1, 2):
        msg = f"axis: expected 0, 1 or 2, got {axis}; give the axis along which the slices are stacked"
        raise InputError(msg)
    planes = np.moveaxis(lesion, axis, 0)
    filled = np.flatnonzero(planes.any(axis=(1, 2)))
    if not filled.size:
        msg = "lesion: expected at least one voxel, got an empty mask; measure the components of a mask one by one"
        raise InputError(msg)
    in_plane = np.delete(np.asarray(sides), axis)
    outlines = [_outline(planes[z]) * in_plane for z in filled]
    lengths = [_squared_distances(outline).max() for outline in outlines]
    longest = max(lengths)
    best = LesionAxes(0.0, 0.0, 0)
    for z, outline, length in zip(filled.tolist(), outlines, lengths, strict=True):
        if length < longest * (1 - _EQUAL):
            continue
        width = _width(outline)
        if width > best.short_axis_mm * (1 + _EQUAL):
            best = LesionAxes(float(np.sqrt(length)), width, z)
    return best


def _outline(plane: Bool[np.ndarray, "a b"]) -> Float[np.ndarray, "corners 2"]:
    """Return the corners of the convex hull of all pixels' corners, in turn, in pixels."""
    rows = np.flatnonzero(plane.any(axis=1))
    held = plane[rows]
    first, last = held.argmax(axis=1), plane.shape[1] - held[:, ::-1].argmax(axis=1)
    corners = np.concatenate([np.stack([rows + down, end], axis=1) for down in (0, 1) for end in (first, last)])
    hull: Float[np.ndarray, "corners 2"] = corners[ConvexHull(corners).vertices].astype(np.float64)
    return hull


def _squared_distances(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n n"]:
    squared: Float[np.ndarray, "n n"] = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    return squared


def _width(outline: Float[np.ndarray, "corners 2"]) -> float:
    """Return the longest chord across the largest diameter; with several such diameters, the longest of all."""
    squared = _squared_distances(outline)
    pairs = np.argwhere(np.triu(squared >= squared.max() * (1 - _EQUAL), 1))
    return max(_chord(outline, int(a), int(b)) for a, b in pairs)


def _chord(outline: Float[np.ndarray, "corners 2"], a: int, b: int) -> float:
    """Return the longest chord of a convex outline at right angles to the diameter from corner `a` to corner `b`."""
    step = (outline[b] - outline[a]) / np.linalg.norm(outline[b] - outline[a])
    along = (outline - outline[a]) @ step
    across = (outline - outline[a]) @ np.array([-step[1], step[0]])
    # The diameter parts the outline into two chains that both run from one of its ends to the other. No chord is longer
    # than the longest at a corner, as its length is linear between corners.
    turn = np.roll(np.arange(len(outline)), -a)
    cut = (b - a) % len(outline)
    one, other = turn[: cut + 1], np.concatenate([[a], turn[cut:][::-1]])
    chords = np.interp(along, along[one], across[one]) - np.interp(along, along[other], across[other])
    return float(np.abs(chords).max())
