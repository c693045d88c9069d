"""What is known of a scan without any network: how it was acquired, and how much of a body is in it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float, Shaped

from equivox.datasets.plan import Plan
from equivox.volume import read_volume
from equivox.volume.orientation import reorient

_PERCENTILES: Final = (1, 5, 25, 50, 75, 95, 99)
_BODY_HU: Final = -500.0
"""In a CT, air and lung lie below, tissue above."""


@dataclass(frozen=True, eq=False)
class Acquisition:
    """What a scan's file tells.

    Attributes:
        acquisition: Spacing, matrix size and field of view along the plan's axes, and of each channel mean, standard
            deviation and percentiles of the intensities.
        body: Logarithm of the volume of the body in the field of view, one entry.
    """

    acquisition: Float[np.ndarray, " numbers"]
    body: Float[np.ndarray, " 1"]


def acquisition_of(images: Mapping[str, Path], plan: Plan, modality: str) -> Acquisition:
    """Read a case's images as they are and measure them.

    Args:
        images: Channel -> file.
        plan: Its channels and the orientation that axes are taken in.
        modality: Of the first channel: in a CT the body is what lies above -500 HU, else what is brighter than Otsu's
            threshold.

    Raises:
        InputError: If a file cannot be read.
    """
    numbers: list[float] = []
    body = 0.0
    for place, name in enumerate(plan.preprocessing.channels):
        volume = reorient(read_volume(images[name]), plan.preprocessing.orientation)
        if place == 0:
            spacing, sides = volume.spacing_mm, volume.array.shape[1:]
            numbers += [*spacing, *map(float, sides), *(s * n for s, n in zip(spacing, sides, strict=True))]
            body = math.log1p(_body_voxels(volume.array[0], modality) * volume.grid.voxel_volume_mm3 / 1000)
        values = volume.array.astype(np.float64)
        numbers += [float(values.mean()), float(values.std()), *np.percentile(values, _PERCENTILES).tolist()]
    return Acquisition(np.array(numbers), np.array([body]))


def _body_voxels(values: Shaped[np.ndarray, "i j k"], modality: str) -> int:
    from skimage.filters import threshold_otsu

    if np.ptp(values) == 0:
        return 0
    threshold = _BODY_HU if modality == "CT" else float(threshold_otsu(values))
    return int((values > threshold).sum())
