"""Confusion-matrix scores made smooth, so that they can be trained for."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from equivox.losses.context import CaseContext
from equivox.losses.logits import foreground
from equivox.options import Options

_SMOOTH = 1e-5

Score = Literal["f_beta", "balanced_accuracy", "g_mean", "g_mean_published"]
"""Which score is trained for. ``g_mean_published`` lacks the square root, as the authors' code does."""


class AnyLossOptions(Options):
    """What a user can choose of `AnyLoss`.

    Attributes:
        score: Which score is trained for; see `Score`.
        beta: Of f_beta: how much more sensitivity counts than precision.
        sharpness: How sharply a probability is pushed to 0 or 1 around one half. With 73, which the paper is quoted
            with, the gradient of a voxel is exactly 0 in float32 from a probability of .8 on.
    """

    score: Score = "f_beta"
    beta: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    sharpness: float = Field(default=10.0, gt=0, allow_inf_nan=False)


class AnyLoss(nn.Module):
    """One minus a score of the confusion matrix of each sample and class, averaged over the classes that can have one.

    Probabilities p become ``1 / (1 + exp(-sharpness (p - 1/2)))``, which count as votes. Each class but the background
    is taken against all others. Balanced accuracy and the geometric mean are not defined where a sample's label lacks a
    class or is nothing else: such classes are left out (ours; the published form gives a constant without gradient).
    A sample without any class that can be scored has a loss of 0.

    Args:
        options: The user's choices.

    References:
        Han, Moniz and Chawla, "AnyLoss: Transforming Classification Metrics into Loss Functions", KDD 2024
        (https://arxiv.org/abs/2405.14745).
    """

    def __init__(self, options: AnyLossOptions) -> None:
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
            context: Not used.
        """
        del context
        probability, truth = foreground(logits, label)
        values, defined = any_loss(probability.flatten(2), truth.flatten(2), self.options)
        result: Tensor = torch.where(defined, values, 0.0).sum(1) / defined.sum(1).clamp(min=1)
        return result


def any_loss(
    probability: Float[Tensor, "*batch voxels"], truth: Float[Tensor, "*batch voxels"], options: AnyLossOptions
) -> tuple[Float[Tensor, "*batch"], Tensor]:
    """Return one minus the score over the last axis, and where it is defined.

    Args:
        probability: In [0, 1].
        truth: 0 or 1.
        options: Which score, and how sharp.
    """
    votes = torch.sigmoid(options.sharpness * (probability - 0.5))
    hit, positive, voted = (votes * truth).sum(-1), truth.sum(-1), votes.sum(-1)
    count = truth.shape[-1]
    negative = count - positive
    spared = count - positive - voted + hit
    defined = (positive > 0) & (negative > 0)
    if options.score == "f_beta":
        square = options.beta**2
        loss = 1 - (1 + square) * hit / (square * positive + voted + _SMOOTH)
        return loss, torch.ones_like(defined)
    if options.score == "balanced_accuracy":
        return 1 - (negative * hit + positive * spared) / (2 * positive * negative + _SMOOTH), defined
    product = hit * spared / (positive * negative + _SMOOTH)
    # The root of 0 has no slope.
    score = product if options.score == "g_mean_published" else product.clamp(min=1e-12).sqrt()
    return 1 - score, defined
