"""Fair error-bound scaling as its authors released it, for comparison."""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from equivox.losses.context import CaseContext
from equivox.losses.logits import in_float
from equivox.losses.shared_dice import shared_dice_loss
from equivox.options import Options


class FebsPublishedOptions(Options):
    """What a user can choose of `FebsPublishedLoss`.

    Attributes:
        febs_weight: Factor of the scaled Dice.
        ce_weight: Factor of the cross-entropy.
        gamma: Exponent of the ratio of group losses.
        smooth: Added to numerator and denominator of Dice, in voxels.
    """

    febs_weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    ce_weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    gamma: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    smooth: float = Field(default=1e-5, gt=0, allow_inf_nan=False)


class FebsPublishedLoss(nn.Module):
    """Cross-entropy and a Dice of probabilities that are scaled by a weight of the sample's group.

    With ``D(p, y) = 1 - (2 sum(p y) + smooth) / (sum(p^2) + sum(y^2) + smooth)`` over all voxels of some samples, the
    loss of group g is ``L_g``, the sum of D over all classes, background included, and its weight
    ``w_g = tanh((min_h L_h / L_g)^gamma)``. Each sample's probabilities are multiplied by its group's weight; then one
    D of the batch is taken for each class, and their mean.

    This is the released form, with what follows from it: the group with the largest loss has the smallest weight and so
    the smallest gradient; equal groups have the weight tanh(1) = .76 and not 1; a batch that lacks a group has the
    weight 0 everywhere, and no gradient; a sample of unknown group takes the weight of the last group. To favour the
    group that fares worst, train with ``fairness.method: febs_corrected``.

    Args:
        options: The user's choices.

    References:
        Tian et al., "FairSeg: A Large-Scale Medical Image Segmentation Dataset for Fairness Learning Using Segment
        Anything Model with Fair Error-Bound Scaling", ICLR 2024, and its code.
    """

    def __init__(self, options: FebsPublishedOptions) -> None:
        super().__init__()
        self.options = options

    def per_sample(
        self,
        logits: Float[Tensor, "batch classes *spatial"],
        label: Int[Tensor, " batch *spatial"],
        context: CaseContext,
    ) -> Float[Tensor, " batch"]:
        """Return one loss a sample: its share of the batch's scaled Dice, and its cross-entropy.

        Args:
            logits: Any floating dtype; the loss is computed in float32.
            label: Class of each voxel.
            context: Its `group` and `groups`; its `sum_over_processes` pools the sums of processes.

        Raises:
            ValueError: If the groups of the samples are not known.
        """
        if context.group is None:
            msg = "febs_published: expected the group of each sample, got none; name an attribute under 'fairness'"
            raise ValueError(msg)
        precise = in_float(logits)
        entropy = functional.cross_entropy(precise, label.long(), reduction="none").flatten(1).mean(1)
        probability = precise.softmax(1).flatten(2)
        classes = torch.arange(logits.shape[1], device=label.device)
        truth = (label.flatten(1)[:, None] == classes[:, None]).to(precise.dtype)
        weight = self.weights(probability, truth, context)[context.group][:, None, None]
        scaled = probability * weight
        overlap, size = 2 * (scaled * truth).sum(2), (scaled**2).sum(2) + truth.sum(2)
        dice = shared_dice_loss(overlap, size, self.options.smooth, context).mean(1)
        return self.options.febs_weight * dice + self.options.ce_weight * entropy

    @torch.no_grad()
    def weights(
        self,
        probability: Float[Tensor, "batch classes voxels"],
        truth: Float[Tensor, "batch classes voxels"],
        context: CaseContext,
    ) -> Float[Tensor, " groups"]:
        """Return the weight of each group in this batch.

        Args:
            probability: Softmax of the logits.
            truth: One-hot labels.
            context: Its `group` and `groups`.
        """
        count = context.groups
        group = torch.zeros(len(truth), dtype=torch.long) if context.group is None else context.group
        sums = probability.new_zeros(count, 3, truth.shape[1])
        own = torch.stack([2 * (probability * truth).sum(2), (probability**2).sum(2) + truth.sum(2)], dim=1)
        members = torch.where(group >= 0, group, count - 1)
        sums[:, :2].index_add_(0, members, own)
        sums[:, 2].index_add_(0, members, torch.ones_like(own[:, 0]))
        overlap, size, present = context.sum_over_processes(sums).unbind(1)
        smooth = self.options.smooth
        losses = (1 - (overlap + smooth) / (size + smooth)).sum(1)
        losses = torch.where(present[:, 0] > 0, losses, 0.0)
        ratio = torch.where(losses > 0, losses.min() / losses.clamp(min=1e-30), 0.0)
        return torch.tanh(ratio**self.options.gamma)
