"""One Dice of a whole batch, shared among its samples."""

import torch
from jaxtyping import Float
from torch import Tensor

from equivox.losses.context import CaseContext


def shared_dice_loss(
    overlap: Float[Tensor, "batch classes"], size: Float[Tensor, "batch classes"], smooth: float, context: CaseContext
) -> Float[Tensor, "batch classes"]:
    """Share one minus one Dice of the whole batch among its samples.

    With Dice ``d = (sum of overlaps + smooth) / (sum of sizes + smooth)`` sample i gets
    ``1 - d + batch * (d * size_i - overlap_i + (d - 1) * smooth / batch) / (sum of sizes + smooth)``, where d and the
    sums have no gradient. The mean of the shares is 1 - d, and so is its gradient (the quotient rule); yet each share
    has a gradient in its own sample alone, so that weights of samples and of groups may multiply it.

    Args:
        overlap: Twice the overlap of prediction and label of each sample and class, in voxels.
        size: Their sizes, added up.
        smooth: Added to numerator and denominator, in voxels.
        context: Its `sum_over_processes` pools the sums where several processes share the batch.
    """
    with torch.no_grad():
        sums = torch.stack([overlap.sum(0), size.sum(0), torch.full_like(size[0], len(size))])
        overlaps, sizes, count = context.sum_over_processes(sums)
        dice = (overlaps + smooth) / (sizes + smooth)
    excess = dice * size - overlap + (dice - 1) * smooth / count
    shares: Tensor = 1 - dice + count * excess / (sizes + smooth)
    return shares
