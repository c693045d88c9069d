"""The skeleton recall loss: how much of a tube round the label's centreline is found."""

from typing import Literal

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from equivox.losses.context import CaseContext
from equivox.losses.logits import foreground
from equivox.losses.shared_dice import shared_dice_loss
from equivox.options import Options


class SkeletonRecallOptions(Options):
    """What a user can choose of `SkeletonRecallLoss`.

    Attributes:
        over: ``sample`` takes the recall of each sample; ``batch`` one of all tubes of the batch, in which a sample
            counts by what it has of them.
        absent: ``masked`` averages over the classes that have a tube. ``published`` is for comparison: it counts a
            class without one as found, as the released code does, so that patches without it look better.
        smooth: Added to numerator and denominator of the recall, in voxels.
    """

    over: Literal["sample", "batch"] = "sample"
    absent: Literal["masked", "published"] = "masked"
    smooth: float = Field(default=1e-5, gt=0, allow_inf_nan=False)


class SkeletonRecallLoss(nn.Module):
    """One minus the soft recall of the tubes round the centrelines, averaged over the classes that have one.

    The tubes come from the labels, once a case (see `equivox.datasets.centreline_tube`), so that a step costs no more
    than a product: it is the cheapest of the losses that know of connections. False positives cost nothing: it is meant
    beside a loss of the volume, such as Dice.

    A sample of which no class has a tube costs 0, without a gradient.

    Args:
        options: The user's choices.

    References:
        Kirchhoff et al., "Skeleton Recall Loss for Connectivity Conserving and Resource Efficient Segmentation of Thin
        Tubular Structures", ECCV 2024 (https://arxiv.org/abs/2404.03010). Ours: classes without a tube are left out,
        and the tubes are cut out of those of the whole case, so that they do not depend on where a patch ends.
    """

    def __init__(self, options: SkeletonRecallOptions) -> None:
        super().__init__()
        self.options = options

    def per_sample(
        self,
        logits: Float[Tensor, "batch classes *spatial"],
        label: Int[Tensor, " batch *spatial"],
        context: CaseContext,
    ) -> Float[Tensor, " batch"]:
        """Return one loss a sample; over the batch, their mean is one minus its recall.

        Args:
            logits: Any floating dtype; the loss is computed in float32.
            label: Not used but for its shape.
            context: Its `skeleton`: the class whose tube a voxel is in, 0 for none. Where the batch is shared, its
                `sum_over_processes`.

        Raises:
            ValueError: If the tubes are not there, or have another shape.
        """
        if context.skeleton is None:
            msg = "skeleton_recall: expected the tubes round the labels' centrelines, got none; train from a cohort"
            raise ValueError(msg)
        if context.skeleton.shape != label.shape:
            came, wanted = tuple(context.skeleton.shape), tuple(label.shape)
            msg = f"skeleton_recall: expected tubes of the labels' shape {wanted}, got {came}; cut both alike"
            raise ValueError(msg)
        probability, tube = foreground(logits, context.skeleton)
        found, size = (probability * tube).flatten(2).sum(2), tube.flatten(2).sum(2)
        smooth = self.options.smooth
        if self.options.over == "sample":
            missed = 1 - (found + smooth) / (size + smooth)
        else:
            missed = shared_dice_loss(found, size, smooth, context)
            size = context.sum_over_processes(size.sum(0)).expand_as(size)
        if self.options.absent == "published":
            return missed.mean(1)
        present = (size > 0).to(missed.dtype)
        return (missed * present).sum(1) / present.sum(1).clamp(min=1)
