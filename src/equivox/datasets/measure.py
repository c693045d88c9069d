"""What a plan needs to know of one case: sizes, voxel sizes, and samples of its values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from monai.transforms import Compose

from equivox.datasets.plan import IntensityPlan, PreprocessingPlan
from equivox.datasets.steps import (
    GEOMETRY,
    IMAGE,
    LABEL,
    CropToNonzero,
    JoinChannels,
    MapLabelValues,
    ReadVolumes,
    TurnTo,
)
from equivox.datasets.transforms import run_steps
from equivox.volume import read_grid

SAMPLES = 10_000
"""Values kept of each channel of a case; enough that its percentiles move by under 0.1 %."""


@dataclass(frozen=True)
class MeasureTask:
    """One case to measure; picklable.

    Attributes:
        case_id: Its id.
        images: Channel -> file.
        label: The label file, or None.
        label_indices: Value in the label file -> class index.
        components: Channel -> array channels, where not 1.
        orientation: Axis codes to turn to.
    """

    case_id: str
    images: Mapping[str, Path]
    label: Path | None
    label_indices: Mapping[int, int]
    components: Mapping[str, int]
    orientation: str


@dataclass(frozen=True, eq=False)
class ChannelMeasures:
    """What was measured of one channel of a case.

    Attributes:
        own_grid: Whether it lies on another grid than the first channel.
        eight_bit: Whether all values are whole numbers from 0 to 255.
        foreground: Samples of the values where the label has a class; empty without a label.
        anywhere: Samples of the values that are not zero.
    """

    own_grid: bool
    eight_bit: bool
    foreground: Float32[np.ndarray, " n"]
    anywhere: Float32[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class CaseMeasures:
    """What was measured of one case; axes are those of the turned scan.

    Attributes:
        case_id: Its id.
        shape: Voxels.
        cropped_shape: Voxels of the box round what is not zero.
        spacing_mm: Voxel size.
        channels: Channel -> what was measured of it.
        class_voxels: Class index -> its voxels.
    """

    case_id: str
    shape: tuple[int, int, int]
    cropped_shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    channels: Mapping[str, ChannelMeasures]
    class_voxels: Mapping[int, int]


def measure_case(task: MeasureTask) -> CaseMeasures:
    """Read a case and measure it.

    Raises:
        InputError: If a file cannot be used.
    """
    channels = tuple(task.images)
    plan = PreprocessingPlan(
        channels=channels,
        orientation=task.orientation,
        intensity={name: IntensityPlan(scheme="keep") for name in channels},
        resample_channels=dict.fromkeys(channels, "resample_to_reference"),
        components=dict(task.components),
        image_interpolation="linear",
    )
    labels = [LABEL] if task.label is not None else []
    steps = Compose(
        [
            ReadVolumes(channels),
            *([ReadVolumes(labels, labels=True)] if labels else []),
            JoinChannels(plan),
            *([MapLabelValues(labels, task.label_indices)] if labels else []),
            TurnTo([IMAGE, *labels], task.orientation),
            CropToNonzero([IMAGE, *labels], crop=True),
        ]
    )
    files = {**task.images, **({LABEL: task.label} if task.label is not None else {})}
    data = run_steps(steps, files)
    image: np.ndarray = data[IMAGE].as_tensor().numpy()
    label: np.ndarray | None = data[LABEL][0].as_tensor().numpy() if labels else None
    spacing = np.linalg.norm(np.asarray(data[IMAGE].affine)[:3, :3], axis=0)
    _, i, j, k = image.shape
    counts = {} if label is None else dict(zip(*np.unique(label, return_counts=True), strict=True))
    return CaseMeasures(
        case_id=task.case_id,
        shape=data[GEOMETRY]["turned_shape"],
        cropped_shape=(i, j, k),
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        channels=_channels(task, image, label),
        class_voxels={int(index): int(count) for index, count in counts.items() if index},
    )


def _channels(task: MeasureTask, image: np.ndarray, label: np.ndarray | None) -> dict[str, ChannelMeasures]:
    reference = read_grid(next(iter(task.images.values())))
    measured, first = {}, 0
    for name, path in task.images.items():
        stop = first + task.components.get(name, 1)
        values = image[first:stop]
        measured[name] = ChannelMeasures(
            own_grid=not read_grid(path).matches(reference),
            eight_bit=_is_eight_bit(values),
            foreground=_sample(values, None if label is None else label > 0),
            anywhere=_sample(values, (values != 0).any(axis=0)),
        )
        first = stop
    return measured


def _is_eight_bit(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 255 and np.array_equal(values, np.rint(values)))


def _sample(values: np.ndarray, mask: Any) -> np.ndarray:
    """Return the values of up to `SAMPLES` voxels of the mask, always the same ones."""
    if mask is None:
        return np.empty(0, dtype=np.float32)
    places = np.flatnonzero(mask)
    if len(places) > SAMPLES:
        places = np.random.default_rng(0).choice(places, SAMPLES, replace=False)
    return values.reshape(values.shape[0], -1)[:, places].ravel().astype(np.float32)
