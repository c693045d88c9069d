"""From the files of a case to the arrays that a network sees; one function for training and for prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int16

from equivox.datasets.plan import PreprocessingPlan

PREPARATION_VERSION = 2
"""Raised whenever the same files and plan give other values than before: stored cases are then made anew."""


@dataclass(frozen=True, eq=False)
class PreparedGeometry:
    """How a prepared array lies in the scan that it comes from; what is needed to go back.

    The way there: turn the scan to `orientation`, cut ``[crop_start, crop_stop)`` out of it, resize that to
    `prepared_shape` over the same extent.

    Attributes:
        source_shape: Voxels (i, j, k) of the first channel's file.
        source_affine: Its affine, voxel indices to RAS millimetres.
        orientation: Axis codes of the turned scan.
        turned_shape: Voxels of the whole scan after turning.
        crop_start: First voxel kept, along the turned axes.
        crop_stop: First voxel no longer kept.
        prepared_shape: Voxels of the prepared arrays.
        prepared_spacing_mm: Their exact spacing: the extent of the crop over its voxels.
    """

    source_shape: tuple[int, int, int]
    source_affine: Float[np.ndarray, "4 4"]
    orientation: str
    turned_shape: tuple[int, int, int]
    crop_start: tuple[int, int, int]
    crop_stop: tuple[int, int, int]
    prepared_shape: tuple[int, int, int]
    prepared_spacing_mm: tuple[float, float, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` turns into the same geometry, exactly."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "source_affine": self.source_affine.tolist()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PreparedGeometry":
        """Build a geometry from `to_json`'s values, as JSON gives them back."""
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        plain["source_affine"] = np.array(values["source_affine"], dtype=np.float64)
        return cls(**plain)


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case as the network sees it.

    Attributes:
        image: float32, turned, cropped, scaled and resampled as the plan says.
        label: Class indices on the same voxels, or None.
        geometry: How to get back to the scan.
    """

    image: Float[np.ndarray, "channels i j k"]
    label: Int16[np.ndarray, "i j k"] | None
    geometry: PreparedGeometry


def prepare_case(
    images: Mapping[str, Path], label: Path | None, label_indices: Mapping[int, int], plan: PreprocessingPlan
) -> PreparedCase:
    """Read a case and bring it into the network's space.

    Crop, then scale, then resample: scaling after resampling would let the interpolation mix voxels with the emptiness
    that was cut off.

    Args:
        images: Channel -> file, at least the channels of the plan.
        label: The label file, or None.
        label_indices: Value in the label file -> class index.
        plan: What to do.

    Raises:
        InputError: If a file cannot be used: a channel is missing, grids do not match, a label value is not listed, or
            values are not finite.

    References:
        Isensee et al., "nnU-Net", Nature Methods 2021: the order of the steps.
    """
    # Torch and MONAI take seconds to import, which a run that finds everything in the store need not wait for.
    from equivox.datasets.steps import IMAGE, LABEL
    from equivox.datasets.transforms import preparation_steps, run_steps

    data: dict[str, Any] = {name: images[name] for name in plan.channels if name in images}
    if label is not None:
        data[LABEL] = label
    result = run_steps(preparation_steps(plan, label_indices, with_label=label is not None), data)
    prepared = result.get(LABEL)
    return PreparedCase(
        image=np.ascontiguousarray(result[IMAGE].numpy()),
        label=None if prepared is None else np.ascontiguousarray(prepared[0].numpy().astype(np.int16, copy=False)),
        geometry=PreparedGeometry(**result["geometry"]),
    )
