"""The surface of a binary mask, cut into the small pieces that marching cubes draws.

Wherever 2x2x2 neighbouring voxels (2x2 pixels) are neither all inside nor all outside, the surface passes between
them. That cell of the lattice of voxel corners holds one surface element. Its area and its centre of gravity follow
from which of the eight voxels are inside, so a table of 256 codes gives both for every cell of a mask at once.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

_Corner = tuple[int, ...]
_Point = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SurfaceElements:
    """The surface elements of one mask, in the order of the lattice (last axis fastest).

    Attributes:
        cell: Position of each element's cell in the raveled code map.
        nodes_mm: The middle of each cell: the corner that its voxels share. In mm from the middle of the first cell.
        centroids_mm: The centre of gravity of each element, from the same origin.
        areas_mm: The area of each element in square millimetres; for a 2D mask its length in mm.
        links: Pairs of elements that meet in a face of their cells, each pair once.
    """

    cell: Int[np.ndarray, " elements"]
    nodes_mm: Float[np.ndarray, "elements axes"]
    centroids_mm: Float[np.ndarray, "elements axes"]
    areas_mm: Float[np.ndarray, " elements"]
    links: Int[np.ndarray, "2 links"]


def cell_codes(mask: Bool[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Return for each cell of the corner lattice which of its voxels are inside.

    What lies beyond the array is outside, so a mask that touches the border has a surface there.

    Args:
        mask: Two or three axes.

    Returns:
        uint8, one longer than the mask along each axis. Bit ``4a + 2b + c`` (2D: ``2a + b``) stands for the voxel
        that lies a, b, c steps behind the first one of the cell; 0 is all outside.
    """
    codes: np.ndarray = np.pad(mask, 1).view(np.uint8)
    for done, axis in enumerate(reversed(range(mask.ndim))):
        before = (slice(None),) * axis
        codes = codes[(*before, slice(None, -1))] | (codes[(*before, slice(1, None))] << np.uint8(1 << done))
    return codes


def is_surface(codes: UInt8[np.ndarray, "..."], axes: int | None = None) -> Bool[np.ndarray, "..."]:
    """Tell which cell codes are neither all outside nor all inside.

    Args:
        codes: As `cell_codes` gives them.
        axes: Axes of the mask, where `codes` is a selection and not the whole map.
    """
    # 0 wraps around to 255, so that one comparison finds both ends.
    surface: np.ndarray = (codes - np.uint8(1)) < (1 << (1 << (axes or codes.ndim))) - 2
    return surface


def surface_elements(codes: UInt8[np.ndarray, "..."], spacing_mm: Sequence[float]) -> SurfaceElements:
    """Return the surface elements of a mask from its cell codes.

    Args:
        codes: As `cell_codes` gives them.
        spacing_mm: Voxel sides along the axes of the mask, in mm.
    """
    areas_of, centroids_of = element_tables(tuple(spacing_mm))
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    cell = np.flatnonzero(is_surface(codes))
    code = codes.ravel()[cell]
    nodes = np.stack(np.unravel_index(cell, codes.shape), axis=1) * spacing
    return SurfaceElements(
        cell=cell,
        nodes_mm=nodes,
        centroids_mm=nodes + (centroids_of - 0.5 * spacing)[code],
        areas_mm=areas_of[code],
        links=_links(cell, code, codes.shape),
    )


@lru_cache
def element_tables(
    spacing_mm: tuple[float, ...],
) -> tuple[Float[np.ndarray, " codes"], Float[np.ndarray, "codes axes"]]:
    """Return area and centre of gravity of the surface element of every code.

    Args:
        spacing_mm: Two or three voxel sides, in mm.

    Returns:
        Areas in square millimetres (2D: lengths in mm) and centres in mm from the middle of the cell's first voxel;
        both are 0 for the codes without a surface.

    Example:
        A cell with one voxel inside: a triangle through the middles of three edges, half a voxel from it.

        >>> areas, centroids = element_tables((1.0, 1.0, 1.0))
        >>> round(float(areas[1]), 6), centroids[1].round(6).tolist()
        (0.216506, [0.166667, 0.166667, 0.166667])
    """
    owner, vertices, share = _unit_pieces(len(spacing_mm))
    corners = vertices * np.asarray(spacing_mm, dtype=np.float64)
    size = share * _measure(corners)
    codes = 1 << (1 << len(spacing_mm))
    areas = np.bincount(owner, size, codes)
    middle = corners.mean(axis=1)
    moments = np.stack([np.bincount(owner, size * middle[:, axis], codes) for axis in range(len(spacing_mm))], axis=1)
    centroids = moments / np.where(areas > 0, areas, 1.0)[:, None]
    areas.flags.writeable = centroids.flags.writeable = False  # the next caller gets the same arrays
    return areas, centroids


def average_with_neighbours(
    values: Float[np.ndarray, " elements"], elements: SurfaceElements, rounds: int
) -> Float[np.ndarray, " elements"]:
    """Replace each element's value by the mean, weighted by area, over itself and the elements linked to it."""
    first, second = elements.links
    count = len(values)

    def gather(weights: Float[np.ndarray, " elements"]) -> Float[np.ndarray, " elements"]:
        sums: np.ndarray = weights + np.bincount(first, weights[second], count)
        return sums + np.bincount(second, weights[first], count)

    areas = gather(elements.areas_mm)
    for _ in range(rounds):
        values = gather(values * elements.areas_mm) / areas
    return values


def _links(cell: np.ndarray, code: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    pairs = []
    element = np.empty(math.prod(shape), dtype=np.intp)
    element[cell] = np.arange(len(cell))
    for axis, crosses in enumerate(_crossed_faces(len(shape))):
        first = np.flatnonzero(crosses[code])
        # The far face of the cell is the near face of the next one, which therefore is a surface cell too.
        pairs.append(np.stack([first, element[cell[first] + math.prod(shape[axis + 1 :])]]))
    return np.concatenate(pairs, axis=1)


@lru_cache
def _crossed_faces(axes: int) -> np.ndarray:
    """Tell for each axis and code whether the surface crosses the face of the cell at its far end."""
    corners = list(itertools.product((0, 1), repeat=axes))
    codes = np.arange(1 << len(corners))
    masks = [sum(1 << bit for bit, corner in enumerate(corners) if corner[axis]) for axis in range(axes)]
    return np.stack([((codes & mask) != 0) & ((codes & mask) != mask) for mask in masks])


@lru_cache
def _unit_pieces(axes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every code's triangles (2D: segments) in the unit cell: their code, their vertices, their share.

    Where several triangulations of a loop are equally good, all are listed and share the loop between them, so
    that no axis or direction is preferred.
    """
    corners = list(itertools.product((0, 1), repeat=axes))
    owner: list[int] = []
    vertices: list[tuple[_Point, ...]] = []
    share: list[float] = []
    for code in range(1, (1 << len(corners)) - 1):
        inside = {corner for bit, corner in enumerate(corners) if code >> bit & 1}
        # With more than half of the voxels inside, those outside are cut off: the surfaces of a mask and of its
        # complement then have the same area.
        few = inside if len(inside) <= len(corners) // 2 else set(corners) - inside
        drawings = [_best_triangulations(loop) for loop in _loops(few)] if axes == 3 else [[_segments(few)]]
        for drawing in drawings:
            for pieces in drawing:
                owner += [code] * len(pieces)
                vertices += pieces
                share += [1 / len(drawing)] * len(pieces)
    return np.array(owner), np.array(vertices), np.array(share)


def _segments(inside: set[_Corner]) -> list[tuple[_Point, ...]]:
    return list(_face_crossings([(0, 0), (0, 1), (1, 1), (1, 0)], inside))


def _loops(inside: set[_Corner]) -> list[list[_Point]]:
    """Return the closed lines in which the surface meets the faces of the unit cell.

    Each runs through the middles of the edges between a corner inside and one outside. Where the inside corners of
    a face lie diagonally, the lines keep them apart.
    """
    following: dict[_Point, _Point] = {}
    for axis, side in itertools.product(range(3), (0, 1)):
        # All faces are walked in the same sense as seen from outside; then every line that enters
        # a face's edge leaves through the neighbouring face.
        square = [(0, 0), (0, 1), (1, 1), (1, 0)] if side else [(0, 0), (1, 0), (1, 1), (0, 1)]
        cycle = [_corner(axis, side, pair) for pair in square]
        following.update(_face_crossings(cycle, inside))
    loops = []
    while following:
        point, after = following.popitem()
        loop = [point]
        while after != point:
            loop.append(after)
            after = following.pop(after)
        loops.append(loop)
    return loops


def _corner(axis: int, side: int, pair: tuple[int, int]) -> _Corner:
    position = [0, 0, 0]
    position[axis], position[(axis + 1) % 3], position[(axis + 2) % 3] = side, *pair
    return tuple(position)


def _face_crossings(cycle: Sequence[_Corner], inside: set[_Corner]) -> Iterator[tuple[_Point, _Point]]:
    """Yield, for each run of inside corners around a face, the line that cuts it off."""
    for start, corner in enumerate(cycle):
        if corner in inside and cycle[start - 1] not in inside:
            end = start
            while cycle[(end + 1) % 4] in inside:
                end += 1
            yield _middle(cycle[start - 1], corner), _middle(cycle[end % 4], cycle[(end + 1) % 4])


def _middle(one: _Corner, other: _Corner) -> _Point:
    return tuple((a + b) / 2 for a, b in zip(one, other, strict=True))


def _best_triangulations(loop: list[_Point]) -> list[list[tuple[_Point, ...]]]:
    """Return the triangulations of a loop that have the largest area in the unit cell.

    A loop of five or six points need not be flat, and its area then depends on where it is cut. Most of the published
    tables of marching cubes cut so that the solid is convex; the largest area says the same without a table, and gives
    the areas of Nikolov et al. for all 256 codes.
    """
    candidates = _triangulations(tuple(loop))
    areas = np.round(_measure(np.array(candidates)).sum(axis=1), 9)
    return [candidates[index] for index in np.flatnonzero(areas == areas.max())]


def _triangulations(polygon: tuple[_Point, ...]) -> list[list[tuple[_Point, ...]]]:
    if len(polygon) == 2:
        return [[]]
    first, last = polygon[0], polygon[-1]
    return [
        [*left, (first, polygon[cut], last), *right]
        for cut in range(1, len(polygon) - 1)
        for left in _triangulations(polygon[: cut + 1])
        for right in _triangulations(polygon[cut:])
    ]


def _measure(vertices: np.ndarray) -> np.ndarray:
    """Return the area of triangles or the length of segments; the last two axes are vertices and coordinates."""
    sides = vertices[..., 1:, :] - vertices[..., :1, :]
    if vertices.shape[-2] == 2:
        length: np.ndarray = np.linalg.norm(sides[..., 0, :], axis=-1)
        return length
    area: np.ndarray = 0.5 * np.linalg.norm(np.cross(sides[..., 0, :], sides[..., 1, :]), axis=-1)
    return area
