"""The uncertainty-aware loss of UU-Mamba as its authors released it, for comparison."""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from equivox.losses.context import CaseContext
from equivox.losses.dice_ce import DiceCELoss, DiceCEOptions
from equivox.losses.logits import in_float
from equivox.options import Options

_ALPHA = 0.5
"""Of the focal part: the background's weight, and one minus the weight of each other class."""
_GAMMA = 2.0
_SMOOTH = 1e-5


class UUMambaPublishedOptions(Options):
    """What a user can choose of `UUMambaPublishedLoss`.

    Attributes:
        softmax_twice: Take the softmax of the probabilities in the focal part, as the released code does.
        first_sigma: Of each of the three parts before the first step.
    """

    softmax_twice: bool = True
    first_sigma: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class UUMambaPublishedLoss(nn.Module):
    """Dice, cross-entropy and focal loss, each L weighed by a learned sigma: ``L / (2 sigma^2) + log(1 + sigma^2)``.

    For comparison only. Dice enters as minus the overlap, which is below 0: the sum then falls without bound as its
    sigma nears 0, and a step that goes too far throws the sigma far out and so switches Dice off. The focal part takes
    the softmax twice. The corrected form is ``loss_weighting: uncertainty`` with any terms.

    Args:
        options: The user's choices.

    References:
        Tsai et al., "UU-Mamba: Uncertainty-aware U-Mamba for Cardiac Image Segmentation", 2024
        (https://arxiv.org/abs/2405.17496).
    """

    def __init__(self, options: UUMambaPublishedOptions) -> None:
        super().__init__()
        self.options = options
        self.sigma = nn.Parameter(torch.full((3,), options.first_sigma))
        self.dice = DiceCELoss(DiceCEOptions(ce_weight=0.0, dice_over="sample"))
        self.entropy = DiceCELoss(DiceCEOptions(dice_weight=0.0))

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
        dice = self.dice.per_sample(logits, label, context) - 1
        entropy = self.entropy.per_sample(logits, label, context)
        focal = focal_loss(logits, label, softmax_twice=self.options.softmax_twice)
        return weighed_by_sigma(torch.stack([dice, entropy, focal]), self.sigma[:, None])


def weighed_by_sigma(
    parts: Float[Tensor, " parts *batch"], sigma: Float[Tensor, " parts *other"]
) -> Float[Tensor, " *batch"]:
    """Return ``sum of L / (2 sigma^2) + log(1 + sigma^2)`` over the parts.

    Example:
        >>> one = torch.ones(1)
        >>> round(float(weighed_by_sigma(-0.8 * one, one)), 4)  # -0.8 / 2 + log 2
        0.2931
    """
    square = sigma**2
    return (parts / (2 * square) + torch.log1p(square)).sum(0)


def focal_loss(
    logits: Float[Tensor, "batch classes *spatial"], label: Int[Tensor, " batch *spatial"], *, softmax_twice: bool
) -> Float[Tensor, " batch"]:
    """Return the mean over voxels of ``-1/2 (1 - q)^2 log q``, where q is nearly the right class's probability.

    The label is smoothed: q takes 1e-5 of its weight from the other classes, and 1e-5 is added.
    """
    precise = in_float(logits)
    classes = precise.shape[1]
    probability = precise.softmax(1)
    if softmax_twice:
        probability = probability.softmax(1)
    right = torch.nn.functional.one_hot(label.long(), classes).movedim(-1, 1).to(precise.dtype)
    q = (right.clamp(_SMOOTH / (classes - 1), 1 - _SMOOTH) * probability).sum(1) + _SMOOTH
    alpha = torch.where(label == 0, _ALPHA, 1 - _ALPHA)
    return (-alpha * (1 - q) ** _GAMMA * q.log()).flatten(1).mean(1)
