"""Resampling: exact interpolating splines, one axis at a time, on grids whose cell edges align.

`resize` changes the number of voxels of an array whose extent stays the same. Output voxel o of an axis lies at the
input position ``(o + 0.5) * in / out - 0.5``: cells are aligned at their outer edges, as scikit-image's ``resize`` and
torch's ``align_corners=False`` do, and beyond the edge the edge voxel goes on.

Order 3 is the *interpolating* cubic B-spline (it passes through the voxels), not the cheaper kernel that torch and
OpenCV call bicubic. Filter and evaluation of one axis are one linear map of `in` to `out` values, whose entries fall by
the factor 0.27 with each voxel away from the diagonal: we build it once, cut it where it is below the last digit of
float32, and apply it in blocks as small dense matrix products, which is what processors do fastest.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Integer, Shaped
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from equivox.volume.grid import Grid
from equivox.volume.memory_order import in_c_order
from equivox.volume.volume import Volume

Order = Literal[0, 1, 3]
Interpolation = Literal["nearest", "linear", "cubic"]

ORDERS: dict[Interpolation, Order] = {"nearest": 0, "linear": 1, "cubic": 3}

_PAD = 12
"""Edge voxels put before the spline filter; 0.27^12 = 1e-7, so that what lies beyond them does not matter."""
_REACH = 16
"""Voxels on either side that the cut spline map keeps: 0.27^16 = 6e-10 of the value, below float32's last digit."""
_BLOCK = 64
"""Output voxels a matrix product; larger blocks waste work on zeros, smaller ones start too many products."""
_MIXED_AT_ONCE = 1_000_000
"""Voxels at class borders weighed at once, to bound the memory: 200 bytes each."""
_TIE = 1e-9


def resized_shape(
    shape: tuple[int, int, int], spacing: Sequence[float], new_spacing: Sequence[float]
) -> tuple[int, int, int]:
    """Return how many voxels of `new_spacing` cover the extent of `shape`: rounded, at least one an axis.

    Example:
        >>> resized_shape((10, 10, 3), (1.0, 1.0, 5.0), (1.5, 1.0, 20.0))
        (7, 10, 1)
    """
    i, j, k = (max(1, round(side * old / new)) for side, old, new in zip(shape, spacing, new_spacing, strict=True))
    return i, j, k


def resize(
    array: Float[np.ndarray, "channels i j k"],
    shape: tuple[int, int, int],
    order: Order,
) -> Float[np.ndarray, "channels out_i out_j out_k"]:
    """Interpolate an image to another number of voxels over the same extent.

    Args:
        array: Any float type; the work is done in float32.
        shape: Voxels along i, j, k to end with.
        order: 0 nearest, 1 linear, 3 interpolating cubic B-spline.

    Returns:
        float32; `array` itself where it is float32 and no side changes.

    Raises:
        ValueError: If a side of `shape` is not positive.
    """
    if min(shape) < 1:
        msg = f"expected a shape of positive sides, got {shape}"
        raise ValueError(msg)
    sides = array.shape[1:]
    changed = [axis for axis in range(3) if sides[axis] != shape[axis]]
    if not changed:
        return array.astype(np.float32, copy=False)
    image = _tensor(array)
    if len(changed) > 1 and order == 1:
        linear: np.ndarray = _interpolate_linear(image, shape).numpy()
        return linear
    # What shrinks most goes first, so that the later axes have less to do.
    for axis in sorted(changed, key=lambda axis: shape[axis] / sides[axis]):
        positions = (np.arange(shape[axis]) + 0.5) * (sides[axis] / shape[axis]) - 0.5
        image = _along_axis(image, axis + 1, positions, order)
    result: np.ndarray = image.numpy()
    return result


def resize_labels(labels: Integer[np.ndarray, "i j k"], shape: tuple[int, int, int]) -> Integer[np.ndarray, "a b c"]:
    """Interpolate a label map to another number of voxels over the same extent.

    Each class's mask is interpolated linearly and each voxel takes the class with the largest value, the smallest index
    winning ties.

    Args:
        labels: Class indices, none negative.
        shape: Voxels along i, j, k to end with.

    Returns:
        The same integer type.
    """
    if labels.shape == shape:
        return labels
    source = torch.from_numpy(in_c_order(labels))
    corners = [_corners(side, new) for side, new in zip(labels.shape, shape, strict=True)]
    low = high = source
    for axis, (left, right, _) in enumerate(corners):
        if labels.shape[axis] != shape[axis]:
            ends = low.index_select(axis, left), low.index_select(axis, right)
            tops = ends if high is low else (high.index_select(axis, left), high.index_select(axis, right))
            low, high = torch.minimum(*ends), torch.maximum(*tops)
    # Where the eight voxels round a new one agree, which is nearly everywhere, there is nothing to weigh.
    winner = low
    mixed = (low != high).flatten().nonzero().flatten()
    for part in torch.split(mixed, _MIXED_AT_ONCE):
        winner.view(-1)[part] = _largest_share(source, corners, part, shape)
    result: np.ndarray = winner.numpy()
    return result


def _corners(side: int, new: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each new voxel of an axis the two old ones that it lies between, and the share of the second."""
    positions = np.clip((np.arange(new) + 0.5) * (side / new) - 0.5, 0, side - 1)
    left = np.floor(positions).astype(np.int64)
    right = np.minimum(left + 1, side - 1)
    return torch.from_numpy(left), torch.from_numpy(right), torch.from_numpy(positions - left)


def _largest_share(
    source: Tensor, corners: Sequence[tuple[Tensor, Tensor, Tensor]], voxels: Tensor, shape: tuple[int, int, int]
) -> Tensor:
    """Return, for new voxels given by flat index, the class with the largest linear share."""
    # Numpy's: torch's own takes half a second of imports at its first call.
    indices = [torch.from_numpy(index) for index in np.unravel_index(voxels.numpy(), shape)]
    weights, classes = [], []
    for ends in itertools.product((0, 1), repeat=3):
        weight = torch.ones(len(voxels), dtype=torch.float64)
        old = []
        for (left, right, share), index, end in zip(corners, indices, ends, strict=True):
            weight *= share[index] if end else 1 - share[index]
            old.append((right if end else left)[index])
        weights.append(weight)
        classes.append(source[tuple(old)])
    best = torch.full((len(voxels),), -1.0, dtype=torch.float64)
    winner = classes[0].clone()
    for candidate in classes:
        share = torch.zeros_like(best)
        for weight, cls in zip(weights, classes, strict=True):
            share += torch.where(cls == candidate, weight, 0.0)
        better = (share > best + _TIE) | ((share > best - _TIE) & (candidate < winner))
        winner = torch.where(better, candidate, winner)
        best = torch.where(better, share, best)
    return winner


def resample_to_grid(volume: Volume, grid: Grid, interpolation: Interpolation, *, fill: float | None = None) -> Volume:
    """Bring a volume onto another grid, wherever that lies.

    Args:
        volume: The image or label map; oblique grids are fine.
        grid: Where to take the values.
        interpolation: ``nearest`` for labels.
        fill: The value of voxels further than half a voxel outside the volume; by default its smallest value.

    Returns:
        A volume on `grid`: float32, or the volume's own type with ``nearest``.
    """
    order = ORDERS[interpolation]
    dtype = volume.array.dtype if order == 0 else np.dtype(np.float32)
    outside = (volume.array.min() if fill is None else fill) if volume.array.size else 0
    matrix = np.linalg.inv(volume.affine) @ grid.affine
    axes = _aligned_axes(matrix, grid.shape)
    if axes is not None and order != 0:
        array = _at_aligned_positions(volume.array, matrix, axes, grid.shape, order)
    else:
        array = np.stack([_at_positions(channel, matrix, grid.shape, order, dtype) for channel in volume.array])
    array[:, ~_inside(matrix, grid.shape, volume.grid.shape)] = outside
    return Volume(
        array,
        grid.affine,
        dimensions=3,
        spacing_known=volume.spacing_known,
        repairs=volume.repairs,
    )


def _at_positions(
    channel: Shaped[np.ndarray, "i j k"],
    matrix: Float[np.ndarray, "4 4"],
    shape: tuple[int, int, int],
    order: Order,
    dtype: np.dtype,
) -> np.ndarray:
    """Evaluate one channel at ``matrix @ output index``, which may be oblique; the edge voxel goes on."""
    values: np.ndarray = ndimage.affine_transform(
        channel if order == 0 else channel.astype(np.float32, copy=False),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=shape,
        output=dtype,
        order=order,
        mode="nearest",
    )
    return values


def _aligned_axes(matrix: Float[np.ndarray, "4 4"], shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """Return the output axis that runs along each input axis, None where the grids are oblique to each other.

    A turn counts as none where it moves no voxel by a thousandth of a voxel.
    """
    axes = [int(np.argmax(row)) for row in np.abs(matrix[:3, :3])]
    if sorted(axes) != [0, 1, 2]:
        return None
    rest = np.abs(matrix[:3, :3])
    rest[range(3), axes] = 0
    return (axes[0], axes[1], axes[2]) if (rest @ np.array(shape)).max() < 1e-3 else None


def _at_aligned_positions(
    array: Shaped[np.ndarray, "channels i j k"],
    matrix: Float[np.ndarray, "4 4"],
    axes: tuple[int, int, int],
    shape: tuple[int, int, int],
    order: Order,
) -> np.ndarray:
    image = _tensor(array)
    sides = array.shape[1:]
    for axis in sorted(range(3), key=lambda axis: shape[axes[axis]] / sides[axis]):
        positions = matrix[axis, axes[axis]] * np.arange(shape[axes[axis]]) + matrix[axis, 3]
        image = _along_axis(image, axis + 1, positions, order)
    return in_c_order(np.transpose(image.numpy(), (0, *(1 + axes.index(axis) for axis in range(3)))))


def _inside(
    matrix: Float[np.ndarray, "4 4"], shape: tuple[int, int, int], source_shape: tuple[int, int, int]
) -> np.ndarray:
    """Tell which output voxels lie in a voxel of the source: at most half a voxel beyond the outermost centres."""
    indices = np.ogrid[tuple(slice(side) for side in shape)]
    inside = np.ones(shape, dtype=bool)
    for row, side in zip(matrix[:3], source_shape, strict=True):
        position = sum(weight * index for weight, index in zip(row[:3], indices, strict=True)) + row[3]
        inside &= (position >= -0.5 - 1e-6) & (position <= side - 0.5 + 1e-6)
    return inside


def _tensor(array: np.ndarray) -> Tensor:
    """Share the memory where that is float32, in order, and writable, as torch wants it."""
    return torch.from_numpy(in_c_order(array, np.float32))


def _interpolate_linear(image: Tensor, shape: tuple[int, int, int]) -> Tensor:
    return functional.interpolate(image[None], shape, mode="trilinear", align_corners=False)[0]


def _along_axis(image: Tensor, axis: int, positions: Float[np.ndarray, " out"], order: Order) -> Tensor:
    """Evaluate one axis of a contiguous ``(c, i, j, k)`` tensor at rising or falling positions."""
    length, side = image.shape[axis], len(positions)
    if order == 0:
        nearest = np.clip(np.floor(positions + 0.5), 0, length - 1).astype(np.int64)
        return image.index_select(axis, torch.from_numpy(nearest))
    matrix = _axis_matrix(length, positions, order)
    # As (before, axis, after): the axis is then the rows of a matrix product, or its columns where nothing follows.
    before, after = math.prod(image.shape[:axis]), math.prod(image.shape[axis + 1 :])
    source = image.reshape(before, length, after)
    out = torch.empty(before, side, after)
    for start in range(0, side, _BLOCK):
        stop = min(start + _BLOCK, side)
        ends = np.clip(positions[[start, stop - 1]], 0, length - 1)
        low = max(0, math.floor(ends.min()) - _REACH)
        high = min(length, math.floor(ends.max()) + _REACH + 2)
        weights = torch.from_numpy(np.ascontiguousarray(matrix[start:stop, low:high]))
        if after == 1:
            out[:, start:stop, 0] = source[:, low:high, 0] @ weights.T
        elif before == 1:
            torch.mm(weights, source[0, low:high], out=out[0, start:stop])
        else:
            out[:, start:stop] = torch.matmul(weights, source[:, low:high])
    return out.reshape(*image.shape[:axis], side, *image.shape[axis + 1 :])


def _axis_matrix(length: int, positions: Float[np.ndarray, " out"], order: Order) -> Float[np.ndarray, "out in"]:
    """The linear map from the values of one axis to the spline at `positions`, float32; the edge voxel goes on."""
    if order == 1:
        clipped = np.clip(positions, 0, length - 1)
        left = np.minimum(np.floor(clipped).astype(np.int64), max(length - 2, 0))
        share = (clipped - left).astype(np.float32)
        matrix = np.zeros((len(positions), length), dtype=np.float32)
        rows = np.arange(len(positions))
        matrix[rows, left] = 1 - share
        matrix[rows, np.minimum(left + 1, length - 1)] += share
        return matrix
    padded = np.pad(np.eye(length), ((_PAD, _PAD), (0, 0)), mode="edge")
    coefficients = ndimage.spline_filter1d(padded, order=3, axis=0, mode="mirror")
    shifted = np.clip(positions, -(_PAD - 2), length + _PAD - 3) + _PAD
    first = np.floor(shifted).astype(np.int64) - 1
    matrix64 = np.zeros((len(positions), length))
    for tap, weight in enumerate(_cubic_weights(shifted - np.floor(shifted))):
        matrix64 += weight[:, None] * coefficients[first + tap]
    return matrix64.astype(np.float32)


def _cubic_weights(offset: Float[np.ndarray, " out"]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The cubic B-spline at the four voxels round a position `offset` in [0, 1) after the second of them."""
    rest = 1 - offset
    return (
        rest**3 / 6,
        2 / 3 - offset**2 * (1 + rest) / 2,
        2 / 3 - rest**2 * (1 + offset) / 2,
        offset**3 / 6,
    )
