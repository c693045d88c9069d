"""The clDice loss: how far soft centrelines of prediction and label lie inside each other."""

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from equivox.losses.context import CaseContext
from equivox.losses.logits import foreground
from equivox.losses.soft_skeleton import soft_skeleton
from equivox.options import Options


class ClDiceOptions(Options):
    """What a user can choose of `ClDiceLoss`.

    Attributes:
        iterations: Erosions of the soft skeleton: the largest radius of the structures, in voxels. Each costs time.
        smooth: Added to numerator and denominator of both shares, in voxels.
    """

    iterations: int = Field(default=3, ge=0)
    smooth: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class ClDiceLoss(nn.Module):
    """One minus the harmonic mean of two shares, averaged over the classes without the background.

    The shares are those of the prediction's soft centreline inside the label, and of the label's inside the prediction.
    A break in a vessel takes a piece of the centreline away, however thin the vessel is.

    It is meant beside a loss of the volume, such as Dice: it says little about the outline. A class that neither the
    label nor the prediction has costs 0.

    Args:
        options: The user's choices.

    References:
        Shit et al., "clDice: a novel topology-preserving loss function for tubular structure segmentation", CVPR 2021
        (https://arxiv.org/abs/2003.07311). Where there is one class it is MONAI's `SoftclDiceLoss` but for 1e-4 in the
        denominator of the harmonic mean, which `smooth` makes needless. Ours: each class has shares of its own; MONAI's
        loss adds up the voxels of all classes, so that a thick structure hides a thin one.
    """

    def __init__(self, options: ClDiceOptions) -> None:
        super().__init__()
        self.options = options

    def per_sample(
        self,
        logits: Float[Tensor, "batch classes *spatial"],
        label: Int[Tensor, " batch *spatial"],
        context: CaseContext,
    ) -> Float[Tensor, " batch"]:
        """Return one loss a sample, each in [0, 1).

        Args:
            logits: Any floating dtype; the loss is computed in float32.
            label: Class of each voxel.
            context: Not used.
        """
        del context
        precision, sensitivity = centreline_shares(*foreground(logits, label), self.options)
        return (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean(1)


def centreline_shares(
    probability: Float[Tensor, "batch channels *spatial"],
    truth: Float[Tensor, "batch channels *spatial"],
    options: ClDiceOptions,
) -> tuple[Float[Tensor, "batch channels"], Float[Tensor, "batch channels"]]:
    """Return which share of the prediction's soft centreline lies in the label, and of the label's in the prediction.

    Args:
        probability: In [0, 1].
        truth: 0 or 1.
        options: Of the soft centrelines.

    Example:
        A line of four pixels, of which the prediction has three: (3 + 1) / (3 + 1) and (3 + 1) / (4 + 1).

        >>> import torch
        >>> truth, guess = torch.zeros(2, 1, 1, 3, 6)
        >>> truth[..., 1, 1:5] = guess[..., 1, 1:4] = 1
        >>> precision, sensitivity = centreline_shares(guess, truth, ClDiceOptions())
        >>> float(precision), round(float(sensitivity), 4)
        (1.0, 0.8)
    """
    smooth = options.smooth
    shares = []
    for line, inside in ((probability, truth), (truth, probability)):
        skeleton = soft_skeleton(line, options.iterations)
        shares.append(((skeleton * inside).flatten(2).sum(2) + smooth) / (skeleton.flatten(2).sum(2) + smooth))
    return shares[0], shares[1]
