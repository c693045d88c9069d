"""How far apart the surfaces of two masks lie: NSD, HD95, HD, ASSD and MASD.

Every score of a pair of masks comes from one extraction of both surfaces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from equivox.errors import InputError
from equivox.metrics.masks.boundary import boundary_distances
from equivox.metrics.masks.surface_elements import average_with_neighbours, cell_codes, surface_elements
from equivox.metrics.masks.surface_search import SurfaceSearch

HD95Convention = Literal["directed_max", "pooled", "deepmind", "monai", "medpy"]
"""How HD95 and ASSD are taken; see `HD95_CONVENTIONS`."""

HD95_CONVENTIONS: Final[dict[HD95Convention, str]] = {
    "directed_max": (
        "Distances from the centre of gravity of each surface element to the nearest one of the other surface, each "
        "averaged twice with the adjacent elements. HD95: the larger of the two directed 95th percentiles, weighted "
        "by area. ASSD: the mean over both surfaces, weighted by area."
    ),
    "pooled": (
        "Distances from the centre of gravity of each surface element to the nearest one of the other surface, each "
        "averaged twice with the adjacent elements. HD95: one 95th percentile over the elements of both surfaces "
        "together, weighted by area. ASSD: the mean over both surfaces, weighted by area."
    ),
    "deepmind": (
        "Distances between the voxel corners at which the surfaces pass, weighted by the area of the surface there; "
        "HD95 is the larger of the two directed percentiles (the convention of the package surface-distance)."
    ),
    "monai": (
        "Distances between the centres of boundary voxels, each counted once; HD95 is the larger of the two directed "
        "percentiles, linearly interpolated (the convention of MONAI)."
    ),
    "medpy": (
        "Distances between the centres of boundary voxels, each counted once; HD95 is one percentile over the voxels "
        "of both boundaries together, linearly interpolated (the convention of MedPy)."
    ),
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
        hd_mm: The largest distance from either surface to the other, in mm.
        assd_mm: The average symmetric surface distance: their mean over both surfaces, in mm.
        masd_mm: The mean of the two directed mean distances, in mm.
    """

    nsd: float
    hd95_mm: float
    hd_mm: float
    assd_mm: float
    masd_mm: float


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
        hd95: The convention of every distance.

    Raises:
        InputError: If a mask is empty (an empty policy decides what that scores) or the convention is unknown.

    Example:
        Two single voxels, two steps apart. Their surfaces are octahedra around the voxels' centres.

        >>> one, other = np.zeros((2, 1, 3, 1), dtype=bool)
        >>> one[0, 0, 0] = other[0, 2, 0] = True
        >>> surface_scores(one, other, (1.0, 1.0, 1.0), tolerance_mm=1.0, hd95="monai")
        SurfaceScores(nsd=0.5, hd95_mm=2.0, hd_mm=2.0, assd_mm=2.0, masd_mm=2.0)

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
    from_first = SurfaceSearch(second, codes[1], spacing_mm)
    from_second = SurfaceSearch(first, codes[0], spacing_mm)
    if hd95 in ("directed_max", "pooled"):
        forth, back = from_first.nearest(first), from_second.nearest(second)
        within = (
            from_first.nodes_within(first, forth, tolerance_mm),
            from_second.nodes_within(second, back, tolerance_mm),
        )
        averaged = (
            average_with_neighbours(forth.distance_mm, first, _AVERAGING_ROUNDS),
            average_with_neighbours(back.distance_mm, second, _AVERAGING_ROUNDS),
        )
        # The largest distance is that of one element: averaging would blunt it.
        largest = max(float(forth.distance_mm.max()), float(back.distance_mm.max()))
        distances = _element_scores(*averaged, first.areas_mm, second.areas_mm, largest, pooled=hd95 == "pooled")
    else:
        nodes = from_first.node_distances(first), from_second.node_distances(second)
        bound = tolerance_mm * (1 + 1e-6)  # the distance map has the precision of float32
        within = nodes[0] <= bound, nodes[1] <= bound
        if hd95 == "deepmind":
            largest = max(float(nodes[0].max()), float(nodes[1].max()))
            distances = _element_scores(*nodes, first.areas_mm, second.areas_mm, largest, pooled=False)
        else:
            distances = _voxel_scores(reference, prediction, spacing_mm, pooled=hd95 == "medpy")
    area_within = float(first.areas_mm[within[0]].sum() + second.areas_mm[within[1]].sum())
    nsd = area_within / float(first.areas_mm.sum() + second.areas_mm.sum())
    return SurfaceScores(nsd, *distances)


def check_convention(hd95: str) -> None:
    """Refuse a convention that does not exist.

    Raises:
        InputError: If `hd95` is not a key of `HD95_CONVENTIONS`.
    """
    known = get_args(HD95Convention)
    if hd95 not in known:
        msg = f"hd95: expected one of {', '.join(known)}, got '{hd95}'; choose one of them"
        raise InputError(msg)


def _element_scores(
    forth: Float[np.ndarray, " first"],
    back: Float[np.ndarray, " second"],
    first_areas: Float[np.ndarray, " first"],
    second_areas: Float[np.ndarray, " second"],
    largest_mm: float,
    *,
    pooled: bool,
) -> tuple[float, float, float, float]:
    """Return HD95, HD, ASSD and MASD in mm from distances that belong to surface elements."""
    distances, areas = np.concatenate([forth, back]), np.concatenate([first_areas, second_areas])
    if pooled:
        hd95_mm = _weighted_percentile(distances, areas)
    else:
        hd95_mm = max(_weighted_percentile(forth, first_areas), _weighted_percentile(back, second_areas))
    directed = np.dot(forth, first_areas) / first_areas.sum(), np.dot(back, second_areas) / second_areas.sum()
    return hd95_mm, largest_mm, float(np.dot(distances, areas) / areas.sum()), float(sum(directed) / 2)


def _weighted_percentile(distances: Float[np.ndarray, " n"], areas: Float[np.ndarray, " n"]) -> float:
    """Return the smallest distance within which 95 % of the area lies."""
    order = np.argsort(distances)
    cumulative = np.cumsum(areas[order])
    # A whole number of equal elements can make up 95 % exactly: rounding must not decide whether it does.
    return float(distances[order][np.searchsorted(cumulative, (0.95 - 1e-12) * cumulative[-1])])


def _voxel_scores(
    reference: Bool[np.ndarray, "..."],
    prediction: Bool[np.ndarray, "..."],
    spacing_mm: Sequence[float],
    *,
    pooled: bool,
) -> tuple[float, float, float, float]:
    """Return HD95, HD, ASSD and MASD in mm from the centres of boundary voxels."""
    forth, back = boundary_distances(reference, prediction, spacing_mm)
    both = np.concatenate([forth, back])
    hd95_mm = np.percentile(both, 95) if pooled else max(np.percentile(forth, 95), np.percentile(back, 95))
    return float(hd95_mm), float(both.max()), float(both.mean()), float((forth.mean() + back.mean()) / 2)
