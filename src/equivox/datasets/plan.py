"""The plan: how scans are prepared and how large the network is; measured from the cohort, never typed."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from equivox.datasets.cohort import CohortConfig
from equivox.errors import InputError
from equivox.options import Options, load_options

PLAN_NAME = "plan.yaml"

Spacing = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""The side of a voxel, in millimetres."""


class IntensityPlan(Options):
    """How one channel's values are scaled.

    Attributes:
        scheme: ``clip_standardise`` (CT): clip to [low, high], subtract mean, divide by std, all of the cohort's
            foreground. ``standardise`` (MR, others): subtract the mean and divide by the std of the scan's non-zero
            voxels. ``keep`` (PET in SUV): divide by `std` only where it is given. ``unit_range`` (8-bit
            pictures): divide by 255, then subtract the cohort's mean and divide by its std where they are given.
    """

    scheme: Literal["clip_standardise", "standardise", "keep", "unit_range"]
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None


class TransformOptions(Options):
    """One MONAI transform named by a user, applied by its class name with these keyword arguments."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class PreprocessingPlan(Options):
    """Everything that decides the content of a preprocessed case; its hash is part of the store's keys.

    Attributes:
        channels: Channel names in the order of the network's input; the first one's grid is the reference.
        orientation: Axis codes that scans are turned to, ``RAS``.
        spacing_mm: Target spacing along the turned axes; None keeps each case's own spacing along that axis.
        intensity: Channel -> scheme.
        resample_channels: Channel -> how it comes onto the reference grid: ``same_grid`` or ``resample_to_reference``.
        components: Channel -> array channels that it gives the network where that is not 1: 3 for a colour picture.
        image_interpolation: Order of the interpolation of images: ``linear`` or ``cubic``.
        crop: ``nonzero`` crops to the box of voxels that are not zero in any channel, ``none`` keeps everything.
        extra_transforms: MONAI transforms of the user, run after the scaling.
    """

    channels: tuple[str, ...] = Field(min_length=1)
    orientation: str = "RAS"
    spacing_mm: tuple[Spacing | None, Spacing | None, Spacing | None] = (None, None, None)
    intensity: dict[str, IntensityPlan]
    resample_channels: dict[str, Literal["same_grid", "resample_to_reference"]]
    components: dict[str, int] = Field(default_factory=dict)
    image_interpolation: Literal["linear", "cubic"] = "cubic"
    crop: Literal["nonzero", "none"] = "nonzero"
    extra_transforms: tuple[TransformOptions, ...] = ()

    @model_validator(mode="after")
    def _is_complete(self) -> "PreprocessingPlan":
        pairs = ("LR", "PA", "IS")
        if len(self.orientation) != 3 or any(len(set(pair) & set(self.orientation)) != 1 for pair in pairs):
            msg = f"orientation: expected a letter of each of L/R, P/A and I/S, got '{self.orientation}'; write RAS"
            raise ValueError(msg)
        for name in self.channels:
            if name not in self.intensity or name not in self.resample_channels:
                msg = f"channels: expected '{name}' in intensity and resample_channels too, got no such entry; add it"
                raise ValueError(msg)
        return self

    @property
    def image_channels(self) -> int:
        """Channels of the prepared image, which is the network's input."""
        return sum(self.components.get(name, 1) for name in self.channels)


class NetworkPlan(Options):
    """The size of the network and of what it sees at once, for one choice of dimensions.

    Attributes:
        dimensions: 2 or 3. A 2D network sees slices across `slice_axis`.
        slice_axis: Axis of the turned scan (0, 1, 2) that 2D slices are cut across.
        patch_size: Voxels along the network's axes, two or three of them.
        batch_size: Patches a step.
        features: Channels of each stage of the network, finest first.
        strides: Downsampling of each stage along the network's axes; the first is all ones.
        memory_mib: Estimated peak memory of one training step.
    """

    dimensions: Literal[2, 3]
    slice_axis: int = Field(default=2, ge=0, le=2)
    patch_size: tuple[int, ...]
    batch_size: int
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    memory_mib: int

    @model_validator(mode="after")
    def _numbers_fit(self) -> "NetworkPlan":
        sides = self.dimensions
        if len(self.patch_size) != sides or any(len(stride) != sides for stride in self.strides):
            msg = f"patch_size and each of strides need {sides} numbers, as the network has {sides} dimensions"
            raise ValueError(msg)
        if len(self.features) != len(self.strides):
            msg = f"features and strides need one entry a stage each, got {len(self.features)} and {len(self.strides)}"
            raise ValueError(msg)
        if min(*self.patch_size, *self.features, self.batch_size, *(n for stride in self.strides for n in stride)) < 1:
            msg = "patch_size, features, strides and batch_size must be 1 or more"
            raise ValueError(msg)
        return self

    @property
    def scan_axes(self) -> tuple[int, ...]:
        """The axes of the prepared scan that the network's axes are, in order."""
        return (0, 1, 2) if self.dimensions == 3 else tuple(axis for axis in range(3) if axis != self.slice_axis)


class Plan(Options):
    """The `plan.yaml`.

    Attributes:
        cohort: Name of the cohort it was measured on.
        classes: Class names and indices, background excluded.
        nominal_spacing: As in the cohort: nothing in mm is claimed.
        left_right_pairs: Classes that swap when left and right swap; mirroring along the left-right axis is then off.
        preprocessing: How scans are prepared.
        networks: ``2d`` and, where the scans are deep enough, ``3d``.
        measured: What was measured of the cohort, for the reader (median shape, spacings, percentiles, counts).
    """

    cohort: str
    classes: dict[str, int]
    nominal_spacing: bool = False
    left_right_pairs: tuple[tuple[str, str], ...] = ()
    preprocessing: PreprocessingPlan
    networks: dict[Literal["2d", "3d"], NetworkPlan]
    measured: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _classes_are_consecutive(self) -> "Plan":
        if sorted(self.classes.values()) != list(range(1, len(self.classes) + 1)):
            msg = (
                f"classes: expected the indices 1 to {len(self.classes)}, each once, got {self.classes}; number them so"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _was_measured_as_it_is_turned(self) -> "Plan":
        wanted = self.preprocessing.orientation
        if self.measured.get("orientation", wanted) != wanted:
            msg = (
                f"preprocessing.orientation: expected {self.measured['orientation']}, along which the voxel sizes and "
                f"patches were measured, got {wanted}; measure anew: "
                f"'equivox plan --set preprocessing.orientation={wanted}'"
            )
            raise ValueError(msg)
        return self

    def require_cohort(self, config: CohortConfig, path: Path) -> None:
        """Refuse a cohort that says otherwise what the classes are: label maps would come out with other values.

        Args:
            config: The `cohort.yaml` of the cohort that the plan is used for.
            path: The plan, for the message.

        Raises:
            InputError: If classes, left-right pairs or the kind of voxel size differ, or a channel is missing.
        """
        for name in ("classes", "left_right_pairs", "nominal_spacing"):
            ours, theirs = getattr(self, name), getattr(config, name)
            if ours != theirs:
                msg = f"{path}: expected the {name} of the cohort, {theirs}, got {ours}; run 'equivox plan' again"
                raise InputError(msg)
        unknown = [name for name in self.preprocessing.channels if name not in config.channels]
        if unknown:
            got = ", ".join(config.channels)
            msg = f"{path}: expected channels of the cohort ({got}), got '{unknown[0]}'; run 'equivox plan' again"
            raise InputError(msg)

    def mirror_axes(self, network: NetworkPlan) -> tuple[int, ...]:
        """Return the network's axes that an image may be mirrored along, in training and in prediction.

        All of them, but never the left-right axis where the cohort has classes that swap with it.
        """
        left_right = next(axis for axis, code in enumerate(self.preprocessing.orientation) if code in "LR")
        forbidden = {left_right} if self.left_right_pairs else set()
        return tuple(index for index, axis in enumerate(network.scan_axes) if axis not in forbidden)


def load_plan(folder: Path) -> Plan:
    """Read the `plan.yaml` of a cohort or run folder.

    Raises:
        InputError: If there is none, or it does not fit.
    """
    if not (folder / PLAN_NAME).is_file():
        msg = f"{folder / PLAN_NAME}: no such file; run 'equivox plan {folder}' first"
        raise InputError(msg)
    return load_options(Plan, folder / PLAN_NAME)
