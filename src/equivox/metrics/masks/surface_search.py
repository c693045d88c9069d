"""Find, for the elements of one surface, the nearest ones of another.

Two ways lead there. A k-d tree needs no more memory than the elements, and is the faster one while surfaces lie close
together or far apart in an empty image. Its time explodes where many elements see many others at nearly the same
distance (a ball inside a large sphere). There a Euclidean distance map, whose time and memory go with the volume,
shows the way.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Final, NamedTuple

import edt
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from pykdtree.kdtree import KDTree

from equivox.metrics.masks.surface_elements import SurfaceElements, is_surface

# Elements farther apart than this many voxel sides count as far.
_REACH_VOXELS: Final = 5.0
# So many far elements are looked up one by one; more follow the distance map.
_FEW: Final = 5_000
_CANDIDATES: Final = 8


class Nearest(NamedTuple):
    """Each element's distance to the nearest element of another surface, and which one that is."""

    distance_mm: Float[np.ndarray, " elements"]
    neighbour: Int[np.ndarray, " elements"]


class SurfaceSearch:
    """A surface, made ready to be asked for its nearest elements.

    Args:
        elements: The elements of the surface.
        codes: The cell codes that they came from.
        spacing_mm: Voxel sides along the axes, in mm.
    """

    def __init__(self, elements: SurfaceElements, codes: UInt8[np.ndarray, "..."], spacing_mm: Sequence[float]) -> None:
        self._elements = elements
        self._codes = codes
        self._spacing_mm = tuple(spacing_mm)

    @cached_property
    def map_mm(self) -> Float[np.ndarray, "..."]:
        """The distance of each cell's middle to the nearest cell of this surface, float32, in mm."""
        return distance_map(is_surface(self._codes), self._spacing_mm)

    def node_distances(self, elements: SurfaceElements) -> Float[np.ndarray, " elements"]:
        """Return the distance from each element's node to the nearest node of this surface, in mm."""
        distances: np.ndarray = self.map_mm.ravel()[elements.cell].astype(np.float64)
        return distances

    def nearest(self, elements: SurfaceElements) -> Nearest:
        """Return the distance from each element's centre of gravity to the nearest one of this surface.

        Distances are exact but for surfaces of which more than 5,000 elements lie more than 5 voxel sides apart:
        then those are the distances to the nearest of the elements around the foot that the distance map points to.
        They are too large by less than 0.1 voxel on average.
        """
        reach_mm = _REACH_VOXELS * max(self._spacing_mm)
        distance, neighbour = _query(self._centroids, elements.centroids_mm, reach_mm)
        far = np.flatnonzero(np.isinf(distance))
        if len(far):
            points = elements.centroids_mm[far]
            if len(far) <= _FEW:
                distance[far], neighbour[far] = _query(self._centroids, points)
            else:
                distance[far], neighbour[far] = self._follow_map(points, elements.nodes_mm[far], elements.cell[far])
        return Nearest(distance, neighbour)

    def nodes_within(
        self, elements: SurfaceElements, nearest: Nearest, tolerance_mm: float
    ) -> Bool[np.ndarray, " elements"]:
        """Tell which elements have their node within the tolerance of a node of this surface.

        Args:
            elements: The elements of the other surface.
            nearest: What `nearest` said about them. It settles most; only the rest is looked at.
            tolerance_mm: A distance equal to it counts as within.
        """
        # Rounding must not decide about equal distances; the map has the precision of float32.
        bound_mm = tolerance_mm * (1 + 1e-6)
        apart = elements.nodes_mm - self._elements.nodes_mm[nearest.neighbour]
        within: np.ndarray = np.einsum("ij,ij->i", apart, apart) <= bound_mm**2
        open_ = np.flatnonzero(~within & (nearest.distance_mm - self._slack_mm <= bound_mm))
        if len(open_):
            # Looking at the cells around takes about half as long a cell as the map takes a voxel.
            box = math.prod(2 * int(bound_mm / side) + 1 for side in self._spacing_mm)
            steps = _steps_within(bound_mm, self._spacing_mm) if box <= self._codes.size else None
            if steps is not None and len(open_) * len(steps) < 2 * self._codes.size:
                within[open_] = self._has_surface_at(elements.cell[open_], steps)
            else:
                within[open_] = self.map_mm.ravel()[elements.cell[open_]] <= bound_mm
        return within

    def _has_surface_at(
        self, cell: Int[np.ndarray, " cells"], steps: Int[np.ndarray, "steps axes"]
    ) -> Bool[np.ndarray, " cells"]:
        """Tell which cells have a cell of this surface at one of the steps from them."""
        # With a margin as wide as the longest step, a step is the same number of places everywhere.
        margin = steps.max(axis=0)
        surface = np.pad(is_surface(self._codes), [(int(width), int(width)) for width in margin])
        strides = np.array([math.prod(surface.shape[axis + 1 :]) for axis in range(surface.ndim)])
        places = (np.stack(np.unravel_index(cell, self._codes.shape), axis=1) + margin) @ strides
        found = np.zeros(len(cell), dtype=bool)
        for step in (steps @ strides).tolist():
            found |= surface.ravel()[places + step]
        return found

    @property
    def _slack_mm(self) -> float:
        """How much two centres of gravity can be farther apart than the nodes: each lies in the middle third."""
        return 2 / 3 * float(np.linalg.norm(self._spacing_mm))

    @cached_property
    def _centroids(self) -> KDTree:
        return _tree(self._elements.centroids_mm)

    def _follow_map(
        self,
        points: Float[np.ndarray, "far axes"],
        nodes_mm: Float[np.ndarray, "far axes"],
        cell: Int[np.ndarray, " far"],
    ) -> tuple[Float[np.ndarray, " far"], Int[np.ndarray, " far"]]:
        """Return distance and neighbour of far points by walking down the distance map to this surface."""
        downhill = -self._slope(cell)
        steepness = np.linalg.norm(downhill, axis=1, keepdims=True)
        steps = self.map_mm.ravel()[cell].astype(np.float64)
        foot = nodes_mm + steps[:, None] * downhill / np.where(steepness > 0, steepness, 1.0)
        count = min(_CANDIDATES, len(self._elements.areas_mm))
        candidates = self._centroids.query(foot, k=count)[1].reshape(len(foot), count).astype(np.int64)
        apart = np.linalg.norm(points[:, None] - self._elements.centroids_mm[candidates], axis=2)
        best = apart.argmin(axis=1)
        rows = np.arange(len(points))
        distance, neighbour = apart[rows, best], candidates[rows, best]
        # Where the map has a crest its slope points nowhere; a distance beyond this cannot be the smallest.
        lost = np.flatnonzero(distance > steps + self._slack_mm)
        if len(lost):
            distance[lost], neighbour[lost] = _query(self._centroids, points[lost])
        return distance, neighbour

    def _slope(self, cell: Int[np.ndarray, " cells"]) -> Float[np.ndarray, "cells axes"]:
        """Return the slope of the distance map at some cells, from the cells before and after each."""
        index = np.stack(np.unravel_index(cell, self._codes.shape), axis=1)
        slope = np.empty(index.shape)
        for axis, side in enumerate(self._codes.shape):
            before, after = index.copy(), index.copy()
            before[:, axis] = np.maximum(before[:, axis] - 1, 0)
            after[:, axis] = np.minimum(after[:, axis] + 1, side - 1)
            rise = self.map_mm[tuple(after.T)].astype(np.float64) - self.map_mm[tuple(before.T)]
            slope[:, axis] = rise / ((after - before)[:, axis] * self._spacing_mm[axis])
        return slope


def distance_map(targets: Bool[np.ndarray, "..."], spacing_mm: Sequence[float]) -> Float[np.ndarray, "..."]:
    """Return the distance from each voxel's centre to the nearest target voxel's, float32, in mm."""
    distances: np.ndarray = edt.edt(np.ascontiguousarray(~targets), anisotropy=tuple(spacing_mm))
    return distances


def _steps_within(bound_mm: float, spacing_mm: tuple[float, ...]) -> Int[np.ndarray, "steps axes"]:
    """Return the steps on a lattice that are no longer than a bound."""
    reach = [int(bound_mm / side) for side in spacing_mm]
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(
        -1, len(reach)
    )
    kept: np.ndarray = steps[np.linalg.norm(steps * spacing_mm, axis=1) <= bound_mm]
    return kept


def _tree(points: Float[np.ndarray, "points axes"]) -> KDTree:
    # Points of a surface lie evenly: large leaves are built faster and searched as fast.
    return KDTree(np.ascontiguousarray(points, dtype=np.float64), leafsize=32)


def _query(
    tree: KDTree, points: Float[np.ndarray, "points axes"], bound_mm: float | None = None
) -> tuple[Float[np.ndarray, " points"], Int[np.ndarray, " points"]]:
    """Return each point's distance to its nearest in the tree, infinite where none is nearer than the bound."""
    distance, neighbour = tree.query(np.ascontiguousarray(points), distance_upper_bound=bound_mm)
    return distance, neighbour.astype(np.int64)
