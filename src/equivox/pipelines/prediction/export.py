"""From probabilities on the prepared grid to label maps on the scan's own grid, slab by slab.

Between prepared voxels probabilities are interpolated linearly, and the class with the highest one wins. Interpolated
values never leave the range of the voxels that they lie between. So in a tile of the output only those classes can
win whose maximum over the tile's prepared voxels reaches the largest minimum of any class. In most tiles that is one
class: they are filled without interpolation. In the others the remaining classes are interpolated and compared. The
labels are exactly those of interpolating every class everywhere, and classes x full resolution is never in memory.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float32, Integer, Shaped, UInt
from torch import Tensor

from equivox.atomic import atomic_path
from equivox.datasets.prepare import PreparedGeometry
from equivox.volume.orientation import turn_axes

# Rounding can lift an interpolated value above the maximum of what it lies between by about 1e-7.
_ROUNDING_MARGIN = 1e-5
# Output voxels of a tile along the turned axes: small enough to stay in a core's cache, large enough for numpy.
_TILE = (16, 16, 32)
# The most that the fraction 1 is stored as in a map of 16-bit integers.
_MAP_SCALE = 65535


def export_labels(
    probabilities: Float32[np.ndarray, "classes i j k"] | Float32[Tensor, "classes i j k"], geometry: PreparedGeometry
) -> UInt[np.ndarray, "x y z"]:
    """Return the label map of the whole scan: interpolation, argmax, crop and turn undone.

    Args:
        probabilities: On the prepared grid, background first. They need not sum to one.
        geometry: What preparing did to the scan.

    Returns:
        Class indices on the source grid, in the order of the source's axes, uint8 (uint16 above 256 classes). Outside
        the crop is background (0). Where classes tie the lowest index wins, as in `numpy.argmax`.

    Raises:
        ValueError: If the shapes do not fit, or a probability is not a number.
    """
    values = _checked(probabilities, geometry)
    labels = np.zeros(geometry.source_shape, dtype=np.uint8 if len(values) <= 256 else np.uint16)
    view = _cropped_view(labels, geometry)
    rows, columns, depths = _axes(geometry)
    heights = np.array([tile.outputs for tile in columns.tiles])
    widths = np.array([tile.outputs for tile in depths.tiles])
    for row in rows.tiles:
        slab = values[:, row.low : row.high]
        candidates = _candidates(slab, columns, depths)
        # Everywhere the first candidate; then the tiles that have several are done properly.
        winner = candidates.argmax(axis=0).astype(labels.dtype)
        view[row.start : row.stop] = np.repeat(np.repeat(winner, heights, axis=0), widths, axis=1)
        for at in np.argwhere(candidates.sum(axis=0) > 1):
            column, depth = columns.tiles[at[0]], depths.tiles[at[1]]
            chosen = np.flatnonzero(candidates[:, at[0], at[1]])
            corners = slab[chosen, :, column.low : column.high, depth.low : depth.high]
            values_here = _interpolate(corners, (rows, row), (columns, column), (depths, depth))
            view[row.start : row.stop, column.start : column.stop, depth.start : depth.stop] = _argmax(
                values_here, chosen.astype(labels.dtype)
            )
    return labels


def export_probability(
    probabilities: Float32[np.ndarray, "classes i j k"] | Float32[Tensor, "classes i j k"],
    geometry: PreparedGeometry,
    class_index: int,
) -> UInt[np.ndarray, "x y z"]:
    """Return one class's probability on the source grid, as 16-bit fractions.

    Args:
        probabilities: On the prepared grid, background first.
        geometry: What preparing did to the scan.
        class_index: The class, 0 being the background.

    Returns:
        uint16: the probability times 65535. Outside the crop the background has 1 and every other class 0.
    """
    values = _checked(probabilities, geometry)
    whole = np.full(geometry.source_shape, _MAP_SCALE if class_index == 0 else 0, dtype=np.uint16)
    view = _cropped_view(whole, geometry)
    for region, tile in _tiles(values[class_index : class_index + 1], geometry):
        view[region] = _fractions(tile[0])
    return whole


def export_entropy(
    probabilities: Float32[np.ndarray, "classes i j k"] | Float32[Tensor, "classes i j k"], geometry: PreparedGeometry
) -> UInt[np.ndarray, "x y z"]:
    """Return how undecided the network is at each voxel of the source grid, as 16-bit fractions.

    Args:
        probabilities: On the prepared grid, summing to one over the classes.
        geometry: What preparing did to the scan.

    Returns:
        uint16: 65535 times the entropy of the interpolated probabilities over its largest value, the logarithm of the
        number of classes. 0 is certain, 65535 is even. Outside the crop it is 0.
    """
    values = _checked(probabilities, geometry)
    whole = np.zeros(geometry.source_shape, dtype=np.uint16)
    view = _cropped_view(whole, geometry)
    largest = math.log(max(2, len(values)))
    for region, tile in _tiles(values, geometry):
        # p log p goes to 0 with p; the smallest normal number keeps the logarithm finite.
        terms = tile * np.log(np.maximum(tile, np.finfo(np.float32).tiny))
        view[region] = _fractions(-terms.sum(axis=0) / largest)
    return whole


def write_map(fractions: UInt[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"], path: Path) -> None:
    """Write a map of 16-bit fractions as NIfTI, whole or not at all.

    NIfTI has no 16-bit floats. The integers are stored with the slope 1/65535, so readers see values in [0, 1], exact
    to 8e-6, in the size of a 16-bit float.

    Args:
        fractions: uint16 on the source grid.
        affine: From voxel indices to RAS millimetres.
        path: Ends in `.nii` or `.nii.gz`.
    """
    image = nib.Nifti1Image(fractions, affine)
    image.header.set_slope_inter(1 / _MAP_SCALE, 0)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


@dataclass(frozen=True)
class _Tile:
    """Outputs ``start:stop`` along one axis, which lie between the inputs ``low:high``."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def outputs(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class _Axis:
    """Linear interpolation along one axis: output n is ``below + weight * (above - below)``."""

    below: np.ndarray
    above: np.ndarray
    weight: np.ndarray
    tiles: tuple[_Tile, ...]

    @staticmethod
    def between(inputs: int, outputs: int, tile: int) -> "_Axis":
        """The outer edges of both grids coincide (half-pixel centres); beyond the outer centres values are constant.

        Positions are rounded to float32 where torch rounds them, so that weights equal those of `volume.resize`.
        """
        scale = float(np.float32(inputs / outputs))
        place = np.clip(((np.arange(outputs) + 0.5) * scale - 0.5).astype(np.float32), 0, inputs - 1)
        below = np.floor(place).astype(np.intp)
        above = np.minimum(below + 1, inputs - 1)
        # A tile ends where a cell of the inputs ends, so that as few inputs as can be belong to two tiles.
        cells = below // max(1, round(tile * inputs / outputs))
        edges = [0, *(np.flatnonzero(np.diff(cells)) + 1).tolist(), outputs]
        tiles = tuple(
            _Tile(start, stop, int(below[start]), int(above[stop - 1]) + 1) for start, stop in itertools.pairwise(edges)
        )
        return _Axis(below, above, (place - below).astype(np.float32), tiles)


def _axes(geometry: PreparedGeometry) -> tuple[_Axis, _Axis, _Axis]:
    cropped = [stop - start for start, stop in zip(geometry.crop_start, geometry.crop_stop, strict=True)]
    i, j, k = (
        _Axis.between(inputs, outputs, tile)
        for inputs, outputs, tile in zip(geometry.prepared_shape, cropped, _TILE, strict=True)
    )
    return i, j, k


def _checked(probabilities: np.ndarray | Tensor, geometry: PreparedGeometry) -> np.ndarray:
    values = probabilities.cpu().numpy() if isinstance(probabilities, Tensor) else probabilities
    if values.shape[1:] != tuple(geometry.prepared_shape):
        msg = f"expected probabilities of the prepared shape {tuple(geometry.prepared_shape)}, got {values.shape[1:]}"
        raise ValueError(msg)
    return values


def _cropped_view(source: Shaped[np.ndarray, "x y z"], geometry: PreparedGeometry) -> np.ndarray:
    """Return a view of an array on the source grid, turned and cropped as the prepared scan is."""
    turns = turn_axes(geometry.source_affine, geometry.orientation)
    view = source.transpose([axis for axis, _ in turns])
    view = view[tuple(slice(None, None, -1) if flipped else slice(None) for _, flipped in turns)]
    return view[tuple(slice(a, b) for a, b in zip(geometry.crop_start, geometry.crop_stop, strict=True))]


def _candidates(slab: np.ndarray, columns: _Axis, depths: _Axis) -> np.ndarray:
    """Return, as (classes, column tiles, depth tiles), which classes can win somewhere in each tile of a slab."""
    highest, lowest = slab.max(axis=1), slab.min(axis=1)
    for axis, number in ((columns, 1), (depths, 2)):
        spans = [(slice(None),) * number + (slice(tile.low, tile.high),) for tile in axis.tiles]
        highest = np.stack([highest[span].max(axis=number) for span in spans], axis=number)
        lowest = np.stack([lowest[span].min(axis=number) for span in spans], axis=number)
    if not np.isfinite(highest).all():
        msg = "expected probabilities, got values that are not numbers; the network or its input is broken"
        raise ValueError(msg)
    can_win: np.ndarray = highest >= lowest.max(axis=0) - _ROUNDING_MARGIN
    return can_win


def _interpolate(corners: np.ndarray, *along: tuple[_Axis, _Tile]) -> np.ndarray:
    """Interpolate ``(classes, inputs of a tile...)`` to its outputs, last axis first while the array is small."""
    values = corners
    for number in (3, 2, 1):
        axis, tile = along[number - 1]
        outputs = slice(tile.start, tile.stop)
        below = np.take(values, axis.below[outputs] - tile.low, axis=number)
        values = np.take(values, axis.above[outputs] - tile.low, axis=number)
        values -= below
        values *= axis.weight[outputs].reshape([-1 if n == number else 1 for n in range(4)])
        values += below
    return values


def _argmax(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return for each voxel the class of the highest value, the first of equal ones."""
    best = values[0]
    labels = np.full(best.shape, classes[0])
    for value, label in zip(values[1:], classes[1:], strict=True):
        np.copyto(labels, label, where=value > best)
        best = np.maximum(best, value)
    return labels


def _tiles(values: np.ndarray, geometry: PreparedGeometry) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Yield all classes of `values` interpolated, tile by tile: the region of the crop, and (classes, i, j, k)."""
    axes = _axes(geometry)
    for place in itertools.product(*(axis.tiles for axis in axes)):
        corners = values[:, *(slice(tile.low, tile.high) for tile in place)]
        region = tuple(slice(tile.start, tile.stop) for tile in place)
        yield region, _interpolate(corners, *zip(axes, place, strict=True))


def _fractions(values: np.ndarray) -> Integer[np.ndarray, "i j k"]:
    fractions: np.ndarray = np.rint(np.clip(values, 0, 1) * _MAP_SCALE).astype(np.uint16)
    return fractions
