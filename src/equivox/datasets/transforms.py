"""The preprocessing and augmentation pipelines: MONAI `Compose`s over `MetaTensor`s.

A user adds any dictionary transform of MONAI by its name. Steps of ours stand where MONAI's would read another
geometry, interpolate with another spline, or be slow; they take and give `MetaTensor`s like any other.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import monai.transforms
from monai.transforms import Compose, MapTransform, Transform
from pydantic import Field, model_validator

from equivox.datasets.plan import PreprocessingPlan, TransformOptions
from equivox.datasets.steps import (
    IMAGE,
    LABEL,
    CheckShape,
    CropToNonzero,
    JoinChannels,
    MapLabelValues,
    ReadVolumes,
    ResizeToSpacing,
    ScaleIntensities,
    TurnTo,
)
from equivox.errors import InputError
from equivox.options import Options

_MOVING = tuple(f"monai.transforms.{part}" for part in ("spatial", "croppad", "smooth_field"))
"""Where MONAI keeps what moves structures within an image."""
Probability = Annotated[float, Field(ge=0, le=1)]
_RANGES = {
    "scale": 0.0,
    "blur_sigma": 0.0,
    "brightness": -1.0,
    "contrast": -1.0,
    "low_resolution_zoom": 0.0,
    "gamma": 0.0,
}
"""Options that are a smallest and a largest value -> what the smallest one must exceed."""


class AugmentationOptions(Options):
    """What is done to training patches, each with its probability.

    The amounts are nnU-Net's, but for square 2D patches, which it turns by up to 180 degrees.

    Attributes:
        affine_probability: Of a rotation and scaling, done in one interpolation.
        rotation_degrees: Largest angle either way; a 3D patch that is anisotropic turns in its fine plane alone.
        scale: Smallest and largest zoom.
        noise_probability: Of Gaussian noise.
        noise_std: Its largest standard deviation, in standard deviations of the prepared image.
        blur_probability: Of Gaussian smoothing.
        blur_sigma: Smallest and largest sigma, in voxels.
        brightness_probability: Of a factor on all values.
        brightness: That factor less one, smallest and largest.
        contrast_probability: Of a factor on the distance from the mean, the range of values kept.
        contrast: That factor less one, smallest and largest.
        low_resolution_probability: Of going down to fewer voxels and back.
        low_resolution_zoom: Smallest and largest share of the voxels along each axis.
        gamma_probability: Of a gamma curve, on the values or on their negative.
        gamma: Smallest and largest exponent.
        mirror_probability: Of a mirroring along each axis where that is allowed.
        extra_transforms: MONAI dictionary transforms of the user, run last; keys default to ``image``.
    """

    affine_probability: Probability = 0.35
    rotation_degrees: float = Field(default=30.0, ge=0, le=180)
    scale: tuple[float, float] = (0.7, 1.4)
    noise_probability: Probability = 0.1
    noise_std: float = Field(default=0.3, ge=0)
    blur_probability: Probability = 0.1
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    brightness_probability: Probability = 0.15
    brightness: tuple[float, float] = (-0.25, 0.25)
    contrast_probability: Probability = 0.15
    contrast: tuple[float, float] = (-0.25, 0.25)
    low_resolution_probability: Probability = 0.125
    low_resolution_zoom: tuple[float, float] = (0.5, 1.0)
    gamma_probability: Probability = 0.3
    gamma: tuple[float, float] = (0.7, 1.5)
    mirror_probability: Probability = 0.5
    extra_transforms: tuple[TransformOptions, ...] = Field(default=())

    @model_validator(mode="after")
    def _ranges_rise(self) -> "AugmentationOptions":
        for name, least in _RANGES.items():
            low, high = getattr(self, name)
            if not least < low <= high < math.inf:
                msg = f"{name}: expected a smallest value above {least:g} and a largest one, got [{low:g}, {high:g}]"
                raise ValueError(msg)
        return self


def named_transform(options: TransformOptions, where: str = "extra_transforms") -> MapTransform:
    """Build a MONAI dictionary transform from its name and arguments.

    Args:
        options: The class name in `monai.transforms`, and its keyword arguments; `keys` defaults to ``image``.
        where: The option's name, for messages.

    Raises:
        InputError: If there is no such transform, it does not work on dictionaries, or refuses the arguments.

    Example:
        >>> named_transform(TransformOptions(name="RandFlipp"), "extra")
        Traceback (most recent call last):
        equivox.errors.InputError: extra: no MONAI transform 'RandFlipp'; did you mean 'RandFlip'?
    """
    kind = getattr(monai.transforms, options.name, None)
    if not (isinstance(kind, type) and issubclass(kind, Transform)):
        near = difflib.get_close_matches(options.name, dir(monai.transforms), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "see docs.monai.io for their names"
        msg = f"{where}: no MONAI transform '{options.name}'; {hint}"
        raise InputError(msg)
    if not issubclass(kind, MapTransform):
        msg = f"{where}: expected a dictionary transform, got '{options.name}'; did you mean '{options.name}d'?"
        raise InputError(msg)
    try:
        made: MapTransform = kind(**{"keys": [IMAGE], **options.arguments})
    except (TypeError, ValueError) as error:
        msg = f"{where}: MONAI's {options.name} refused its arguments: {' '.join(str(error).split())}"
        raise InputError(msg) from None
    return made


def moving_changes(options: AugmentationOptions) -> tuple[str, ...]:
    """Return what an augmentation may do besides mirroring that moves structures or changes labels.

    Returns:
        ``affine_probability`` and the names of extra transforms: those that MONAI counts among the spatial ones, those
        that crop or pad, and those that are given the label.

    Raises:
        InputError: As of `named_transform`.

    Example:
        >>> zoom = {"name": "RandZoomd", "arguments": {"keys": ["image", "label"]}}
        >>> options = AugmentationOptions.model_validate({"affine_probability": 0, "extra_transforms": [zoom]})
        >>> moving_changes(options)
        ('RandZoomd',)
    """
    found = ["affine_probability"] if options.affine_probability > 0 else []
    for extra in options.extra_transforms:
        made = named_transform(extra, "augmentation.extra_transforms")
        if type(made).__module__.startswith(_MOVING) or LABEL in made.keys:
            found.append(extra.name)
    return tuple(found)


def check_transforms(plan: PreprocessingPlan) -> None:
    """Refuse a plan whose extra transforms MONAI does not have, before anything heavy is done.

    Raises:
        InputError: As of `named_transform`.
    """
    for extra in plan.extra_transforms:
        named_transform(extra, "preprocessing.extra_transforms")


def preparation_steps(plan: PreprocessingPlan, label_indices: Mapping[int, int], *, with_label: bool) -> Compose:
    """Return the pipeline from files to prepared arrays.

    It takes ``{channel: path, ..., "label": path}`` and gives `MetaTensor`s ``image`` and ``label``, and ``geometry``.
    """
    labels = [LABEL] if with_label else []
    steps: list[Any] = [
        ReadVolumes(plan.channels),
        *([ReadVolumes(labels, labels=True)] if with_label else []),
        JoinChannels(plan),
        *([MapLabelValues(labels, label_indices)] if with_label else []),
        TurnTo([IMAGE, *labels], plan.orientation),
        CropToNonzero([IMAGE, *labels], crop=plan.crop == "nonzero"),
        ScaleIntensities([IMAGE], plan),
        ResizeToSpacing([IMAGE, *labels], plan),
        *(named_transform(extra, "preprocessing.extra_transforms") for extra in plan.extra_transforms),
    ]
    if plan.extra_transforms:
        steps.append(CheckShape())
    return Compose(steps)


def augmentation_steps(
    options: AugmentationOptions,
    patch_size: Sequence[int],
    mirror_axes: Sequence[int],
    *,
    affine: bool,
    thin_axis: int | None = None,
    mirrored: Sequence[str] = (),
) -> Compose:
    """Return the pipeline that changes one training patch ``{"image", "label"}``, both channel first.

    Args:
        options: Which changes, how often and how strong.
        patch_size: Voxels along the network's axes to end with.
        mirror_axes: The network's axes that may be mirrored.
        affine: Whether this patch is rotated and scaled; it must then be read larger than `patch_size`.
        thin_axis: The axis of a 3D patch that is never turned out of its place, None where all are alike.
        mirrored: Further entries, channel first, that are mirrored as the patch is and not changed otherwise.
    """
    both = [IMAGE, LABEL]
    steps: list[Any] = []
    if affine:
        angle = math.radians(options.rotation_degrees)
        angles: Any = (
            angle if len(patch_size) == 2 else [angle if thin_axis in (None, axis) else 0.0 for axis in range(3)]
        )
        # MONAI's affine moves the sampling grid: a factor of 1 / zoom there is a zoom of the image.
        low, high = 1 / options.scale[1] - 1, 1 / options.scale[0] - 1
        steps.append(
            monai.transforms.RandAffined(
                both,
                spatial_size=tuple(patch_size),
                prob=1.0,
                rotate_range=angles,
                scale_range=[(low, high)] * len(patch_size),
                mode=["bilinear", "nearest"],
                padding_mode="zeros",
            )
        )
    transforms = monai.transforms
    steps += [
        transforms.RandGaussianNoised([IMAGE], prob=options.noise_probability, std=options.noise_std),
        transforms.RandGaussianSmoothd(
            [IMAGE],
            prob=options.blur_probability,
            sigma_x=options.blur_sigma,
            sigma_y=options.blur_sigma,
            sigma_z=options.blur_sigma,
        ),
        transforms.RandScaleIntensityd([IMAGE], prob=options.brightness_probability, factors=options.brightness),
        transforms.RandScaleIntensityFixedMeand(
            [IMAGE], prob=options.contrast_probability, factors=options.contrast, preserve_range=True
        ),
        transforms.RandSimulateLowResolutiond(
            [IMAGE],
            prob=options.low_resolution_probability,
            zoom_range=options.low_resolution_zoom,
            upsample_mode="bilinear" if len(patch_size) == 2 else "trilinear",
        ),
        *(
            transforms.RandAdjustContrastd(
                [IMAGE], prob=probability, gamma=options.gamma, invert_image=invert, retain_stats=True
            )
            for probability, invert in ((options.gamma_probability, False), (options.gamma_probability / 3, True))
        ),
        *(
            transforms.RandFlipd([*both, *mirrored], prob=options.mirror_probability, spatial_axis=axis)
            for axis in mirror_axes
        ),
        *(named_transform(extra, "augmentation.extra_transforms") for extra in options.extra_transforms),
    ]
    return Compose(steps)


def run_steps(steps: Compose, data: Mapping[str, Any]) -> dict[str, Any]:
    """Run a pipeline; the user's mistakes come out as they are, not in the error that MONAI wraps them in."""
    try:
        result: dict[str, Any] = steps(dict(data))
    except RuntimeError as error:
        if isinstance(error.__cause__, InputError | OSError):
            raise error.__cause__ from None
        raise
    return result
