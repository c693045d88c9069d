"""How far apart the surfaces of two masks lie: NSD, HD95 and ASSD.

Every score of a pair of masks comes from one extraction of both surfaces. Distances are looked up between surface
elements only, in a k-d tree, so neither time nor memory grows with the empty space between distant structures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from equivox.errors import InputError
from equivox.metrics.surface_elements import (
    SurfaceElements,
    average_with_neighbours,
    cell_codes,
    is_surface,
    surface_elements,
)

HD95Convention = Literal["directed_max", "pooled", "deepmind", "monai", "medpy"]
"""How HD95 and ASSD are taken; see `HD95_CONVENTIONS`."""

HD95_CONVENTIONS: Final[dict[HD95Convention, str]] = {
    "directed_max": (
        "Distances from the centre of gravity of each surface element to the nearest one of the other surface, each "
        "averaged twice with the adjacent elements. HD95: the larger of the two directed 95th percentiles, weighted "
        "by area. ASSD: the mean over both surfaces, weighted by area."
    ),
    "pooled": "As directed_max, but HD95 is one percentile over the elements of both surfaces together.",
    "deepmind": (
        "Distances between the voxel corners at which the surfaces pass, weighted by the area of the surface there; "
        "HD95 is the larger of the two directed percentiles (the convention of the package surface-distance)."
    ),
    "monai": (
        "Distances between the centres of boundary voxels, each counted once; HD95 is the larger of the two directed "
        "percentiles, linearly interpolated (the convention of MONAI)."
    ),
    "medpy": "As monai, but HD95 is one percentile over the voxels of both boundaries together (MedPy's convention).",
}
"""Each convention in the words that a report prints."""

# A mask tells the position of a surface to within a voxel. The distances between two such terraced surfaces scatter
# about the true one, and a high percentile reports the scatter: on concentric balls HD95 comes out 0.3-0.7 mm too
# large. Two rounds of averaging reach two voxels far and halve that; further rounds gain little, and begin to blunt
# what only a few voxels show.
_AVERAGING_ROUNDS: Final = 2


@dataclass(frozen=True)
class SurfaceScores:
    """Scores of the surfaces of two masks that are both not empty.

    Attributes:
        nsd: Normalised surface distance: the share of both surfaces' area within the tolerance of the other, in [0, 1].
        hd95_mm: The 95th percentile of the distances between the surfaces, in mm.
        assd_mm: The average symmetric surface distance: their mean over both surfaces, in mm.
    """

    nsd: float
    hd95_mm: float
    assd_mm: float


def surface_scores(
    reference: Bool[np.ndarray, "..."],
    prediction: Bool[np.ndarray, "..."],
    spacing_mm: Sequence[float],
    *,
    tolerance_mm: float,
    hd95: HD95Convention = "directed_max",
) -> SurfaceScores:
    """Score the surfaces of two masks that both have at least one voxel.

    Where a mask touches the border of the array, the border is part of its surface. In 2D a contour takes the place
    of the surface, and its length that of the area. NSD is that of Nikolov et al. under every convention: surface
    elements at voxel corners, weighted by their area; a distance equal to the tolerance counts as within.

    Args:
        reference: Two or three axes. Only the surroundings of both masks matter: cropping to them changes nothing.
        prediction: Of the same shape.
        spacing_mm: Voxel sides along the axes, in mm.
        tolerance_mm: How far two surfaces may lie apart and still count as the same in NSD.
        hd95: The convention of HD95 and ASSD.

    Raises:
        InputError: If a mask is empty (an empty policy decides what that scores) or the convention is unknown.

    Example:
        Two single voxels, two steps apart. Their surfaces are octahedra around the voxels' centres.

        >>> one, other = np.zeros((2, 1, 3, 1), dtype=bool)
        >>> one[0, 0, 0] = other[0, 2, 0] = True
        >>> surface_scores(one, other, (1.0, 1.0, 1.0), tolerance_mm=1.0, hd95="monai")
        SurfaceScores(nsd=0.5, hd95_mm=2.0, assd_mm=2.0)

    References:
        Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for radiotherapy", JMIR 2021
        (https://arxiv.org/abs/1809.04430), for NSD.
        Lorensen and Cline, "Marching cubes", SIGGRAPH 1987, for the surface elements.
    """
    check_convention(hd95)
    if not (reference.any() and prediction.any()):
        msg = "surface: expected two masks with at least one voxel each, got an empty one; use an empty policy"
        raise InputError(msg)
    codes = cell_codes(reference), cell_codes(prediction)
    first, second = (surface_elements(code, spacing_mm) for code in codes)
    forth = _nearest(first.centroids_mm, second.centroids_mm)
    back = _nearest(second.centroids_mm, first.centroids_mm)
    within = _area_within(first, second, codes[1], forth.neighbour, tolerance_mm)
    within += _area_within(second, first, codes[0], back.neighbour, tolerance_mm)
    nsd = within / float(first.areas_mm.sum() + second.areas_mm.sum())
    if hd95 in ("monai", "medpy"):
        return SurfaceScores(nsd, *_voxel_scores(reference, prediction, spacing_mm, pooled=hd95 == "medpy"))
    if hd95 == "deepmind":
        forth, back = _nearest(first.nodes_mm, second.nodes_mm), _nearest(second.nodes_mm, first.nodes_mm)
        return SurfaceScores(nsd, *_element_scores(forth.distance_mm, back.distance_mm, first, second, pooled=False))
    averaged = (
        average_with_neighbours(forth.distance_mm, first, _AVERAGING_ROUNDS),
        average_with_neighbours(back.distance_mm, second, _AVERAGING_ROUNDS),
    )
    return SurfaceScores(nsd, *_element_scores(*averaged, first, second, pooled=hd95 == "pooled"))


def check_convention(hd95: str) -> None:
    """Refuse a convention that does not exist.

    Raises:
        InputError: If `hd95` is not a key of `HD95_CONVENTIONS`.
    """
    known = get_args(HD95Convention)
    if hd95 not in known:
        msg = f"hd95: expected one of {', '.join(known)}, got '{hd95}'; choose one of them"
        raise InputError(msg)


class _Nearest(NamedTuple):
    """Each point's distance to the nearest point of another set, and which one that is."""

    distance_mm: Float[np.ndarray, " points"]
    neighbour: Int[np.ndarray, " points"]


def _nearest(points: Float[np.ndarray, "points axes"], others: Float[np.ndarray, "others axes"]) -> _Nearest:
    distance, index = _tree(others).query(points)
    return _Nearest(np.asarray(distance, dtype=np.float64), np.asarray(index))


def _tree(points: Float[np.ndarray, "points axes"]) -> KDTree:
    # Points of a surface are spread evenly: splitting by place instead of by count builds faster and finds as fast.
    return KDTree(points, balanced_tree=False, compact_nodes=False)


def _area_within(
    elements: SurfaceElements,
    other: SurfaceElements,
    other_codes: np.ndarray,
    near: Int[np.ndarray, " elements"],
    tolerance_mm: float,
) -> float:
    """Return the area of the elements whose node lies within the tolerance of a node of the other surface.

    Args:
        elements: Whose area is meant.
        other: The elements of the other surface.
        other_codes: The other mask's cell codes.
        near: For each element one of the other's that is near. Most are settled by it; only the rest is searched for.
        tolerance_mm: A distance equal to it counts as within.
    """
    # Let rounding not decide about equal distances: the tree finds only what is strictly nearer than its bound.
    bound = tolerance_mm * (1 + 1e-9)
    within = is_surface(other_codes.ravel()[elements.cell], other_codes.ndim)
    within |= np.linalg.norm(elements.nodes_mm - other.nodes_mm[near], axis=1) <= bound
    apart = np.flatnonzero(~within)
    if bound > 0 and len(apart):
        distance, _ = _tree(other.nodes_mm).query(elements.nodes_mm[apart], distance_upper_bound=bound)
        within[apart] = np.isfinite(distance)
    return float(elements.areas_mm[within].sum())


def _element_scores(
    forth: Float[np.ndarray, " first"],
    back: Float[np.ndarray, " second"],
    first: SurfaceElements,
    second: SurfaceElements,
    *,
    pooled: bool,
) -> tuple[float, float]:
    """Return HD95 and ASSD in mm from distances that belong to surface elements."""
    distances, areas = np.concatenate([forth, back]), np.concatenate([first.areas_mm, second.areas_mm])
    if pooled:
        hd95_mm = _weighted_percentile(distances, areas)
    else:
        hd95_mm = max(_weighted_percentile(forth, first.areas_mm), _weighted_percentile(back, second.areas_mm))
    return hd95_mm, float(np.dot(distances, areas) / areas.sum())


def _weighted_percentile(distances: Float[np.ndarray, " n"], areas: Float[np.ndarray, " n"]) -> float:
    """Return the smallest distance within which 95 % of the area lies."""
    order = np.argsort(distances)
    cumulative = np.cumsum(areas[order])
    return float(distances[order][np.searchsorted(cumulative, 0.95 * cumulative[-1])])


def _voxel_scores(
    reference: Bool[np.ndarray, "..."],
    prediction: Bool[np.ndarray, "..."],
    spacing_mm: Sequence[float],
    *,
    pooled: bool,
) -> tuple[float, float]:
    """Return HD95 and ASSD in mm from the centres of boundary voxels."""
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    first, second = np.argwhere(_boundary(reference)) * spacing, np.argwhere(_boundary(prediction)) * spacing
    forth, back = _nearest(first, second).distance_mm, _nearest(second, first).distance_mm
    both = np.concatenate([forth, back])
    hd95_mm = np.percentile(both, 95) if pooled else max(np.percentile(forth, 95), np.percentile(back, 95))
    return float(hd95_mm), float(both.mean())


def _boundary(mask: Bool[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Return the voxels of the mask that share a face with a voxel outside or with the array's border."""
    padded = np.pad(mask, 1)
    inner = (slice(1, -1),) * mask.ndim
    buried = np.ones_like(mask)
    for axis in range(mask.ndim):
        for step in (slice(None, -2), slice(2, None)):
            buried &= padded[(*inner[:axis], step, *inner[axis + 1 :])]
    boundary: np.ndarray = mask & ~buried
    return boundary
