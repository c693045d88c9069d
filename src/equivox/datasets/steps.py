"""The steps of the preparation that are ours, as MONAI transforms over `MetaTensor`s.

They stand where MONAI's would read another geometry, interpolate with another spline, or hide an error.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey

from equivox.datasets.plan import IntensityPlan, PreprocessingPlan
from equivox.datasets.room import require_room
from equivox.errors import InputError
from equivox.volume import Grid, Volume, read_label_map, read_volume
from equivox.volume.memory_order import in_c_order
from equivox.volume.orientation import reorient_affine, reorient_array, turn_axes
from equivox.volume.resample import ORDERS, resample_to_grid, resize, resize_labels, resized_shape

IMAGE = "image"
LABEL = "label"
GEOMETRY = "geometry"

_LARGEST_TABLE = 1 << 20
_GREY = 0.02  # of the largest value: by so much the three channels of a grey JPEG may differ


class ReadVolumes(MapTransform):  # type: ignore[misc]
    """Read files with our readers, channel first, the affine in RAS millimetres.

    MONAI's `LoadImage` would do, but it hides why a file cannot be read.

    Args:
        keys: Entries that hold paths; those that are missing are passed over.
        labels: Read label maps: integers, converted exactly.
    """

    def __init__(self, keys: Sequence[str], *, labels: bool = False) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.labels = labels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with a float32 (labels: integer) `MetaTensor` for each path."""
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            path = Path(data[key])
            volume = read_label_map(path) if self.labels else read_volume(path)
            array = volume.array
            if not self.labels:
                array = array.astype(np.float32, copy=False)
            elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
                # Torch has few operations for larger unsigned types.
                array = array.astype(np.int64)
            loaded[key] = _tensor(array, volume.affine)
            loaded[key].meta[ImageMetaKey.FILENAME_OR_OBJ] = str(path)
        return loaded


class JoinChannels(Transform):  # type: ignore[misc]
    """Bring the channels onto the grid of the first one and join them as ``image``; check the label's grid."""

    def __init__(self, plan: PreprocessingPlan) -> None:
        self.plan = plan

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``image``, ``label`` where there is one, and the first entries of ``geometry``."""
        plan = self.plan
        missing = [name for name in plan.channels if name not in data]
        if missing:
            msg = f"channel '{missing[0]}': expected a file for each of {list(plan.channels)}, got none; add it"
            raise InputError(msg)
        scans = [data[name] for name in plan.channels]
        reference = _grid(scans[0])
        arrays = [
            _with_components(self._onto(reference, name, scan), plan.components.get(name, 1), _file(scan))
            for name, scan in zip(plan.channels, scans, strict=True)
        ]
        for name, scan, array in zip(plan.channels, scans, arrays, strict=True):
            if not np.isfinite(array.sum(dtype=np.float64)):
                msg = (
                    f"{_file(scan)}: expected finite values in channel '{name}', got NaN or infinity; "
                    "see 'equivox cohort check'"
                )
                raise InputError(msg)
        joined: dict[Hashable, Any] = {
            IMAGE: _tensor(arrays[0] if len(arrays) == 1 else np.concatenate(arrays), reference.affine),
            GEOMETRY: {"source_shape": reference.shape, "source_affine": reference.affine},
        }
        if LABEL in data:
            remedy = "bring it onto that grid, or see 'equivox cohort check'"
            _require_same_grid(reference, _grid(data[LABEL]), _file(data[LABEL]), _file(scans[0]), remedy)
            joined[LABEL] = data[LABEL]
        return joined

    def _onto(self, reference: Grid, name: str, scan: MetaTensor) -> np.ndarray:
        array: np.ndarray = scan.as_tensor().numpy()
        grid = _grid(scan)
        if self.plan.resample_channels.get(name) == "resample_to_reference" and not grid.matches(reference):
            moved = resample_to_grid(Volume(array, grid.affine), reference, self.plan.image_interpolation)
            # A spline can swing below an edge: no channel may leave the range that was measured.
            clipped: np.ndarray = np.clip(moved.array, array.min(), array.max())
            return clipped
        first = self.plan.channels[0]
        remedy = f"let the plan resample it (preprocessing.resample_channels.{name}: resample_to_reference)"
        _require_same_grid(reference, grid, _file(scan), f"channel '{first}'", remedy)
        return array


class MapLabelValues(MapTransform):  # type: ignore[misc]
    """Turn the values of label files into class indices."""

    def __init__(self, keys: Sequence[str], indices: Mapping[int, int]) -> None:
        super().__init__(keys)
        self.indices = dict(indices)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with class indices (int16)."""
        mapped = dict(data)
        for key in self.key_iterator(mapped):
            array = data[key].as_tensor().numpy()
            indices = _look_up(array, self.indices)
            if indices.min(initial=0) < 0:
                unknown = [int(value) for value in np.unique(array[indices < 0])]
                msg = (
                    f"{_file(data[key])}: expected label values {sorted(self.indices)}, got also {unknown[:5]}; "
                    "name them under label_values in cohort.yaml"
                )
                raise InputError(msg)
            mapped[key] = _tensor(indices, data[key].affine)
        return mapped


class TurnTo(MapTransform):  # type: ignore[misc]
    """Turn scans to axis codes, by flips and swaps alone."""

    def __init__(self, keys: Sequence[str], orientation: str) -> None:
        super().__init__(keys)
        self.orientation = orientation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the turned data; ``geometry`` gets the orientation and the turned shape."""
        turned = dict(data)
        for key in self.key_iterator(turned):
            affine = np.asarray(data[key].affine, dtype=np.float64)
            turns = turn_axes(affine, self.orientation)
            array = data[key].as_tensor().numpy()
            turned[key] = _tensor(reorient_array(array, turns), reorient_affine(affine, _sides(array), turns))
        shape = _sides(turned[IMAGE])
        turned[GEOMETRY] = {**data[GEOMETRY], "orientation": self.orientation, "turned_shape": shape}
        return turned


class CropToNonzero(MapTransform):  # type: ignore[misc]
    """Cut out the box of the voxels that are not zero in some channel of ``image``."""

    def __init__(self, keys: Sequence[str], *, crop: bool) -> None:
        super().__init__(keys)
        self.crop = crop

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the cut data; ``geometry`` gets the box. A scan of zeros alone is kept whole."""
        image = data[IMAGE].as_tensor().numpy()
        shape = _sides(image)
        start, stop = nonzero_box(image) if self.crop else ((0, 0, 0), shape)
        box = (slice(None), *(slice(low, high) for low, high in zip(start, stop, strict=True)))
        cropped = dict(data)
        for key in self.key_iterator(cropped):
            affine = np.asarray(data[key].affine, dtype=np.float64).copy()
            affine[:3, 3] += affine[:3, :3] @ np.array(start)
            cropped[key] = _tensor(data[key].as_tensor().numpy()[box], affine)
        cropped[GEOMETRY] = {**data[GEOMETRY], "crop_start": start, "crop_stop": stop}
        return cropped


class ScaleIntensities(MapTransform):  # type: ignore[misc]
    """Scale each channel as the plan says."""

    def __init__(self, keys: Sequence[str], plan: PreprocessingPlan) -> None:
        super().__init__(keys)
        self.plan = plan

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the scaled data, float32."""
        scaled = dict(data)
        for key in self.key_iterator(scaled):
            values = np.array(data[key].as_tensor().numpy(), dtype=np.float32)
            first = 0
            for name in self.plan.channels:
                stop = first + self.plan.components.get(name, 1)
                for channel in values[first:stop]:
                    scale_in_place(channel, self.plan.intensity[name])
                first = stop
            scaled[key] = _tensor(values, data[key].affine)
        return scaled


class ResizeToSpacing(MapTransform):  # type: ignore[misc]
    """Resample to the plan's spacing: images by its spline, labels by the largest linear share.

    The same spline along every axis, the coarse one of thick slices too: on scenes averaged over slices of 5 mm and
    brought to 3, 4 and 6 mm, its RMS error was 0.024, 0.019 and 0.013, that of linear interpolation 0.031, 0.026 and
    0.018, and that of the nearest slice, which nnU-Net takes there, 0.047, 0.045 and 0.044.
    """

    def __init__(self, keys: Sequence[str], plan: PreprocessingPlan) -> None:
        super().__init__(keys)
        self.plan = plan

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the resampled data; ``geometry`` gets its last entries."""
        image = data[IMAGE]
        sides = _sides(image)
        spacing = tuple(float(side) for side in np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0))
        wanted = tuple(
            own if target is None else target for own, target in zip(spacing, self.plan.spacing_mm, strict=True)
        )
        shape = resized_shape(sides, spacing, wanted)
        require_room(sides, spacing, self.plan)
        order = ORDERS[self.plan.image_interpolation]
        resized = dict(data)
        for key in self.key_iterator(resized):
            array = data[key].as_tensor().numpy()
            new = resize_labels(array[0], shape)[None] if key == LABEL else resize(array, shape, order)
            resized[key] = _tensor(new, _resized_affine(np.asarray(data[key].affine), sides, shape))
        exact = tuple(step * side / new for step, side, new in zip(spacing, sides, shape, strict=True))
        resized[GEOMETRY] = {**data[GEOMETRY], "prepared_shape": shape, "prepared_spacing_mm": exact}
        return resized


class CheckShape(Transform):  # type: ignore[misc]
    """Refuse a user's preprocessing that moves voxels: predictions could not find their way back."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data as they are."""
        shape = _sides(data[IMAGE])
        if shape != data[GEOMETRY]["prepared_shape"]:
            msg = (
                f"preprocessing.extra_transforms: expected transforms that keep the shape "
                f"{data[GEOMETRY]['prepared_shape']}, got {shape}; use them in the training's augmentation"
            )
            raise InputError(msg)
        return dict(data)


def nonzero_box(image: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return first and one-past-last voxel of the box round the voxels that are not zero in some channel."""
    mask = (image != 0).any(axis=0)
    if not mask.any():
        i, j, k = mask.shape
        return (0, 0, 0), (i, j, k)
    starts, stops = [], []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        starts.append(int(filled[0]))
        stops.append(int(filled[-1]) + 1)
    return (starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2])


def scale_in_place(channel: np.ndarray, intensity: IntensityPlan) -> None:
    """Scale one channel of a scan, float32, as its scheme says."""
    if intensity.scheme == "clip_standardise":
        np.clip(channel, intensity.low, intensity.high, out=channel)
        channel -= np.float32(intensity.mean or 0.0)
        channel /= np.float32(max(intensity.std or 1.0, 1e-8))
    elif intensity.scheme == "standardise":
        values = channel[channel != 0]
        if values.size:
            channel -= np.float32(values.mean(dtype=np.float64))
            channel /= np.float32(max(values.std(dtype=np.float64), 1e-8))
    elif intensity.scheme == "keep":
        channel /= np.float32(intensity.std or 1.0)
    else:
        channel /= np.float32(255)
        channel -= np.float32(intensity.mean or 0.0)
        channel /= np.float32(intensity.std or 1.0)


def _look_up(values: np.ndarray, indices: Mapping[int, int]) -> np.ndarray:
    """Return the class index (int16) of each value, -1 where it is not listed."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if high - low < _LARGEST_TABLE:
        table = np.full(high - low + 1, -1, dtype=np.int16)
        for value, index in indices.items():
            if low <= value <= high:
                table[value - low] = index
        return table[values if low == 0 else values.astype(np.int64) - low]
    present, places = np.unique(values, return_inverse=True)
    mapped = np.array([indices.get(int(value), -1) for value in present], dtype=np.int16)
    return mapped[places.reshape(values.shape)]


def _tensor(array: np.ndarray, affine: Any) -> MetaTensor:
    return MetaTensor(
        torch.from_numpy(in_c_order(array)),
        affine=torch.as_tensor(affine, dtype=torch.float64),
    )


def _sides(array: Any) -> tuple[int, int, int]:
    _, i, j, k = array.shape
    return int(i), int(j), int(k)


def _grid(scan: MetaTensor) -> Grid:
    return Grid(_sides(scan), np.asarray(scan.affine, dtype=np.float64))


def _file(scan: MetaTensor) -> str:
    return str(scan.meta.get("filename_or_obj", "the scan"))


def _require_same_grid(reference: Grid, grid: Grid, file: str, reference_name: str, remedy: str) -> None:
    if grid.shape != reference.shape:
        got = f"shape {grid.shape}"
    elif not grid.matches(reference):
        got = f"one that lies {reference.distance_mm(grid):.3g} mm off"
    else:
        return
    msg = f"{file}: expected the grid of {reference_name} (shape {reference.shape}), got {got}; {remedy}"
    raise InputError(msg)


def _with_components(array: np.ndarray, count: int, file: str) -> np.ndarray:
    """Return `count` array channels: grey repeated, or colours averaged (an alpha channel left out)."""
    have = array.shape[0]
    if have == count:
        return array
    if have == 1:
        return np.repeat(array, count, axis=0)
    if count == 1 and have in (3, 4):
        return _grey(array[:3], file)
    if count == 3 and have == 4:
        return array[:3]
    msg = f"{file}: expected {count} components a voxel, got {have}; convert the file"
    raise InputError(msg)


def _grey(colours: np.ndarray, file: str) -> np.ndarray:
    """Return the one channel of a picture that is grey although it was saved in three."""
    spread = float((colours.max(axis=0).astype(np.float64) - colours.min(axis=0)).max(initial=0))
    if spread > _GREY * float(np.abs(colours).max(initial=0)):
        msg = f"{file}: expected a grey image, got colours; give the channel the modality RGB in cohort.yaml"
        raise InputError(msg)
    grey: np.ndarray = colours.mean(axis=0, keepdims=True, dtype=np.float32)
    return grey


def _resized_affine(affine: np.ndarray, shape: Sequence[int], new_shape: Sequence[int]) -> np.ndarray:
    ratio = np.array(shape) / np.array(new_shape)
    moved = affine.copy()
    moved[:3, :3] = affine[:3, :3] * ratio
    moved[:3, 3] = affine[:3, 3] + affine[:3, :3] @ (0.5 * ratio - 0.5)
    return moved
