"""What one structure of a scan measures: its size, its intensities, where it lies, and whether the image cuts it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Shaped

from equivox.errors import InputError

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""First and last voxel along i, j, k."""

_INTENSITIES: Final = ("mean", "median", "sd", "minimum", "maximum", "p5", "p95")


@dataclass(frozen=True)
class StructureMeasures:
    """The measures of one structure.

    Attributes:
        voxels: How many voxels it has.
        volume_mm3: Their volume.
        mean: Of the intensities inside, in the unit of the image; None where there is no image or no voxel is left
            after erosion. So are the next six.
        median: Of the intensities.
        sd: Standard deviation (n - 1); None with a single voxel.
        minimum: Of the intensities.
        maximum: Of the intensities.
        p5: 5th percentile.
        p95: 95th percentile.
        intensity_voxels: Voxels behind the intensities, those that erosion leaves.
        centroid_mm: Centre of gravity in the coordinates of the image (RAS, mm).
        box: First and last voxel along i, j, k.
    """

    voxels: int
    volume_mm3: float
    mean: float | None
    median: float | None
    sd: float | None
    minimum: float | None
    maximum: float | None
    p5: float | None
    p95: float | None
    intensity_voxels: int
    centroid_mm: tuple[float, float, float]
    box: Box


def measure_structure(
    mask: Bool[np.ndarray, "i j k"],
    image: Shaped[np.ndarray, "_ _ _"] | None,
    affine: Float[np.ndarray, "4 4"],
    *,
    erode_mm: float = 0.0,
) -> StructureMeasures | None:
    """Measure one structure; None where the mask is empty, as an absent structure is no structure of size 0.

    Intensities are taken as they are, as numbers with a fraction: whole numbers would make a normalised MR 0
    everywhere and round an SUV.

    Args:
        mask: True inside.
        image: Intensities on the same grid.
        affine: Voxel to world, in mm.
        erode_mm: Only voxels that lie farther than this from the nearest voxel outside count for the intensities, so
            that a partial volume at the edge does not. The border of the image is no edge.

    Raises:
        InputError: If the image has another shape, or an intensity inside is not finite.
    """
    if image is not None and image.shape != mask.shape:
        msg = f"image: expected the shape of the mask, {mask.shape}, got {image.shape}; resample one of them"
        raise InputError(msg)
    places = np.nonzero(mask)
    voxels = len(places[0])
    if not voxels:
        return None
    centre = np.array([place.mean() for place in places])
    values = np.zeros(0) if image is None else image[_eroded(mask, affine, erode_mm)].astype(np.float64)
    found = _intensities(values)
    return StructureMeasures(
        voxels=voxels,
        volume_mm3=voxels * abs(float(np.linalg.det(affine[:3, :3]))),
        mean=found["mean"],
        median=found["median"],
        sd=found["sd"],
        minimum=found["minimum"],
        maximum=found["maximum"],
        p5=found["p5"],
        p95=found["p95"],
        intensity_voxels=len(values),
        centroid_mm=_triple(affine[:3, :3] @ centre + affine[:3, 3]),
        box=_box(places),
    )


def cut_faces(box: Box, shape: tuple[int, ...], border_voxels: int = 1) -> list[tuple[int, bool]]:
    """Return the faces of the image that a structure touches, beyond which it may go on.

    Args:
        box: First and last voxel along i, j, k.
        shape: Of the whole image. Along an axis of one voxel nothing can be told, and no face is touched.
        border_voxels: A structure with a voxel in so many outer layers touches the face.

    Returns:
        The axis of each face, and whether it is the one of the last voxel.

    Example:
        >>> cut_faces(((0, 3), (2, 5), (1, 8)), (9, 9, 9))
        [(0, False), (2, True)]
    """
    touched = []
    for axis, ((low, high), side) in enumerate(zip(box, shape, strict=True)):
        if side > 1:
            touched += [(axis, False)] if low < border_voxels else []
            touched += [(axis, True)] if high >= side - border_voxels else []
    return touched


def _intensities(values: Float[np.ndarray, " voxels"]) -> Mapping[str, float | None]:
    if not len(values):
        return dict.fromkeys(_INTENSITIES)
    if not np.isfinite(values).all():
        msg = "image: expected a number in each voxel of the structure, got one that is not finite; mend the image"
        raise InputError(msg)
    p5, median, p95 = np.percentile(values, [5, 50, 95])
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    found = (values.mean(), median, spread, values.min(), values.max(), p5, p95)
    return {key: None if value is None else float(value) for key, value in zip(_INTENSITIES, found, strict=True)}


def _eroded(
    mask: Bool[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"], erode_mm: float
) -> Bool[np.ndarray, "i j k"]:
    if erode_mm <= 0:
        return mask
    import edt

    sides = np.linalg.norm(affine[:3, :3], axis=0)
    inside: np.ndarray = edt.edt(np.ascontiguousarray(mask), anisotropy=tuple(sides.tolist()), black_border=False)
    # Without a voxel outside, nothing is near an edge.
    kept: np.ndarray = mask & ((inside > erode_mm) | np.isinf(inside))
    return kept


def _box(places: tuple[np.ndarray, ...]) -> Box:
    first, second, third = ((int(place.min()), int(place.max())) for place in places)
    return first, second, third


def _triple(values: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
