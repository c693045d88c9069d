"""The focal Tversky loss."""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from equivox.losses.context import CaseContext
from equivox.losses.logits import foreground
from equivox.options import Options

_LEAST = 1e-7
"""Below this distance from a perfect index there is no gradient: the power would make it infinite."""


class FocalTverskyOptions(Options):
    """What a user can choose of `FocalTverskyLoss`.

    Attributes:
        alpha: Weight of false negatives; false positives weigh 1 - alpha. 0.5 is Dice.
        gamma: Exponent of one minus the Tversky index. Below 1 it spares samples that are segmented badly, above 1
            those that are segmented well.
        smooth: Added to numerator and denominator of the index, in voxels.
    """

    alpha: float = Field(default=0.7, ge=0, le=1)
    gamma: float = Field(default=0.75, gt=0, allow_inf_nan=False)
    smooth: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class FocalTverskyLoss(nn.Module):
    """Focal Tversky loss of each sample, averaged over the classes without the background.

    Args:
        options: The user's choices.

    References:
        Abraham and Khan, "A novel focal Tversky loss function with improved attention U-Net for lesion segmentation",
        ISBI 2019. The exponent is here gamma itself, as in the code of SPOCKMIP, and not its inverse.
    """

    def __init__(self, options: FocalTverskyOptions) -> None:
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
        return focal_tversky(probability.flatten(2), truth.flatten(2), self.options).mean(1)


def focal_tversky(
    probability: Float[Tensor, "*batch voxels"], truth: Float[Tensor, "*batch voxels"], options: FocalTverskyOptions
) -> Float[Tensor, "*batch"]:
    """Return ``|1 - TI|^gamma`` with ``TI = (TP + s) / (TP + alpha FN + (1 - alpha) FP + s)`` over the last axis.

    Args:
        probability: In [0, 1].
        truth: 0 or 1.
        options: alpha, gamma and s.

    Example:
        >>> one = torch.tensor([1.0, 0.0])
        >>> round(float(focal_tversky(one, one.flip(0), FocalTverskyOptions(gamma=1.0))), 4)  # 1 - 1 / (0.7 + 0.3 + 1)
        0.5
    """
    hit = (probability * truth).sum(-1)
    missed, wrong = truth.sum(-1) - hit, probability.sum(-1) - hit
    alpha, smooth = options.alpha, options.smooth
    index = (hit + smooth) / (hit + alpha * missed + (1 - alpha) * wrong + smooth)
    rest = (1 - index).abs()
    powered: Tensor = torch.where(rest > _LEAST, rest.clamp(min=_LEAST) ** options.gamma, 0.0 * rest)
    return powered
