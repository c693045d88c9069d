"""Distance of what another network sees in a prediction and in the label."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import field_validator
from torch import Tensor, nn

from equivox.losses.context import CaseContext
from equivox.losses.logits import foreground
from equivox.options import Options


class PerceptualOptions(Options):
    """What a user can choose of `PerceptualLoss`.

    Attributes:
        distance: Of features: ``l1`` is the mean absolute difference, ``l2`` the mean squared one.
        layer_weights: One a layer of the features; empty weighs all alike. Features are compared as they are, so that a
            layer of larger numbers counts more.
    """

    distance: Literal["l1", "l2"] = "l1"
    layer_weights: tuple[float, ...] = ()

    @field_validator("layer_weights")
    @classmethod
    def _weigh_something(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value and not (all(0 <= weight < math.inf for weight in value) and any(value)):
            msg = "expected numbers from 0 on, not all of them 0"
            raise ValueError(msg)
        return value


class PerceptualLoss(nn.Module):
    """Mean distance of the features of each class's probability map from those of its mask, averaged over classes.

    The features come from another network, which stays as it is: of a run folder, or of a TorchScript file. Each class
    but the background is shown to it as an image of its own, 0 where the class is not and 1 where it is.

    Args:
        options: The user's choices.

    References:
        Johnson, Alahi and Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016.
    """

    def __init__(self, options: PerceptualOptions) -> None:
        super().__init__()
        self.options = options

    def per_sample(
        self,
        logits: Float[Tensor, "batch classes *spatial"],
        label: Int[Tensor, " batch *spatial"],
        context: CaseContext,
    ) -> Float[Tensor, " batch"]:
        """Return one loss a sample.

        Args:
            logits: Any floating dtype; the loss is computed in float32.
            label: Class of each voxel.
            context: Its `features`.

        Raises:
            ValueError: If there are no features, or not as many layers as weights.
        """
        if context.features is None:
            msg = "perceptual: expected the features of a network, got none; give 'features.run' or "
            msg += "'features.torchscript'"
            raise ValueError(msg)
        probability, truth = foreground(logits, label)
        batch, classes = probability.shape[:2]
        with torch.no_grad():
            wanted = context.features(truth.flatten(0, 1)[:, None])
        found = context.features(probability.flatten(0, 1)[:, None])
        return feature_distance(found, wanted, self.options).reshape(batch, classes).mean(1)


def feature_distance(
    found: Sequence[Tensor], wanted: Sequence[Tensor], options: PerceptualOptions
) -> Float[Tensor, " batch"]:
    """Return the weighted mean over layers of the distance of features, of images as of masks.

    Args:
        found: One tensor a layer, ``(batch, channels, *spatial)``.
        wanted: Likewise, of the same shapes.
        options: Which distance, and the layers' weights.

    Raises:
        ValueError: If there are not as many layers as weights.

    Example:
        >>> one, two = [torch.ones(1, 2, 3)], [torch.zeros(1, 2, 3)]
        >>> feature_distance([*one, *one], [*two, *one], PerceptualOptions(layer_weights=(3.0, 1.0)))
        tensor([0.7500])
    """
    weights = options.layer_weights or (1.0,) * len(found)
    if len(weights) != len(found):
        msg = f"perceptual: expected a weight for each of {len(found)} layers, got {len(weights)}; correct "
        msg += "'layer_weights', or leave it out"
        raise ValueError(msg)
    gaps = [(_precise(ours) - _precise(theirs)).flatten(1) for ours, theirs in zip(found, wanted, strict=True)]
    parts = [(gap.abs() if options.distance == "l1" else gap.square()).mean(1) for gap in gaps]
    total = torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).sum(0)
    return total / sum(weights)


def _precise(features: Tensor) -> Tensor:
    return features if features.dtype == torch.float64 else features.float()
