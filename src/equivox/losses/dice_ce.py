"""Soft Dice plus cross-entropy."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from equivox.losses.context import CaseContext
from equivox.losses.shared_dice import shared_dice_loss
from equivox.options import Options


class DiceCEOptions(Options):
    """What a user can choose of `DiceCELoss`.

    Attributes:
        dice_weight: Factor of the Dice part.
        ce_weight: Factor of the cross-entropy.
        dice_over: ``batch`` takes one Dice of all voxels of the batch, ``sample`` one of each patch. Where many patches
            lack a class, as slices do, ``sample`` pays nearly the same for one false voxel as for a thousand and the
            network learns to segment too much.
        include_background: Average Dice over the background too.
        smooth: Added to numerator and denominator of Dice, in voxels. A class that neither label nor prediction has
            then costs 0, not 0/0.
    """

    dice_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    ce_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    dice_over: Literal["batch", "sample"] = "batch"
    include_background: bool = False
    smooth: float = Field(default=1e-5, gt=0, allow_inf_nan=False)


class DiceCELoss(nn.Module):
    """Soft Dice loss plus cross-entropy, one value a sample.

    Averaged over the batch it is MONAI's ``DiceCELoss(softmax=True, to_onehot_y=True)``, with ``batch=True`` where Dice
    is taken over the batch, in value and gradient.

    Args:
        options: The user's choices.
    """

    def __init__(self, options: DiceCEOptions) -> None:
        super().__init__()
        self.options = options

    def per_sample(
        self,
        logits: Float[Tensor, "batch classes *spatial"],
        label: Int[Tensor, " batch *spatial"],
        context: CaseContext,
    ) -> Float[Tensor, " batch"]:
        """Return one loss a sample: mean of Dice over classes plus mean of cross-entropy over voxels.

        Args:
            logits: Any floating dtype; the loss is computed in float32.
            label: Class of each voxel.
            context: Its `sum_over_processes` pools Dice where several processes share the batch.

        Raises:
            ValueError: If the logits have a single class.
        """
        if logits.shape[1] < 2:
            msg = f"dice_ce: expected logits of at least 2 classes, background included, got {logits.shape[1]}"
            raise ValueError(msg)
        precise = logits.float()
        entropy = functional.cross_entropy(precise, label.long(), reduction="none").flatten(1).mean(1)
        overlap, size = self._overlap_and_size(precise, label)
        smooth = self.options.smooth
        if self.options.dice_over == "batch":
            dice = shared_dice_loss(overlap, size, smooth, context)
        else:
            dice = 1 - (overlap + smooth) / (size + smooth)
        return self.options.dice_weight * dice.mean(1) + self.options.ce_weight * entropy

    def _overlap_and_size(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return twice the overlap and the summed size of prediction and label, in voxels, ``(batch, classes)``."""
        first = 0 if self.options.include_background else 1
        probability = logits.softmax(1)[:, first:].flatten(2)
        classes = torch.arange(first, logits.shape[1], device=label.device)
        truth = label.flatten(1)[:, None] == classes[:, None]
        return 2 * (probability * truth).sum(2), probability.sum(2) + truth.sum(2)
