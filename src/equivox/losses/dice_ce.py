"""Soft Dice plus cross-entropy."""

from jaxtyping import Float, Int
from monai.losses import DiceLoss
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from equivox.losses.context import CaseContext
from equivox.options import Options


class DiceCEOptions(Options):
    """What a user can choose of `DiceCELoss`.

    Attributes:
        dice_weight: Factor of the Dice part.
        ce_weight: Factor of the cross-entropy.
        include_background: Average Dice over the background too.
        smooth: Added to numerator and denominator of Dice, in voxels. A class that neither label nor prediction has
            then costs 0, not 0/0.
    """

    dice_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    ce_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    include_background: bool = False
    smooth: float = Field(default=1e-5, ge=0, allow_inf_nan=False)


class DiceCELoss(nn.Module):
    """MONAI's soft Dice loss plus cross-entropy, one value a sample.

    Dice is taken of each sample by itself (`batch=False`): nnU-Net's 2D networks pool the batch instead, but then a
    sample has no loss of its own, and weights of samples and groups of patients would have nothing to multiply.

    Args:
        options: The user's choices.
    """

    def __init__(self, options: DiceCEOptions) -> None:
        super().__init__()
        self.options = options
        self.dice = DiceLoss(
            include_background=options.include_background,
            to_onehot_y=True,
            softmax=True,
            reduction="none",
            smooth_nr=options.smooth,
            smooth_dr=options.smooth,
        )

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
            context: Not used.

        Raises:
            ValueError: If the logits have a single class.
        """
        del context
        if logits.shape[1] < 2:
            msg = f"dice_ce: expected logits of at least 2 classes, background included, got {logits.shape[1]}"
            raise ValueError(msg)
        precise = logits.float()
        dice: Tensor = self.dice(precise, label[:, None])
        entropy = functional.cross_entropy(precise, label.long(), reduction="none")
        return self.options.dice_weight * dice.flatten(1).mean(1) + self.options.ce_weight * entropy.flatten(1).mean(1)
