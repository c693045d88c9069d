"""By how much the right class leads, and how that changes with the image."""

from jaxtyping import Float, Int
from torch import Tensor

from equivox.losses.logits import in_float

_LEAST = 1e-12
"""Added under the root, which has no slope at 0."""


def margin_change(
    logits: Float[Tensor, "batch classes *spatial"],
    disturbed: Float[Tensor, "batch classes *spatial"],
    label: Int[Tensor, " batch *spatial"],
) -> Float[Tensor, " batch"]:
    """Return the mean over voxels of how far the margins move, as the length of a vector over the wrong classes.

    The margin of a wrong class is the logit of the label's class minus its own.

    Args:
        logits: Of the image.
        disturbed: Of another image of the same label.
        label: Class of each voxel.

    References:
        The regulariser of the smooth adversarial comp-sum losses: Mao, Mohri and Zhong, ICML 2023
        (https://arxiv.org/abs/2304.07288).

    Example:
        >>> import torch
        >>> clean, other = torch.tensor([[[0.0], [1.0], [2.0]]]), torch.tensor([[[3.0], [1.0], [6.0]]])
        >>> margin_change(clean, other, torch.tensor([[1]]))  # margins 1, -1, then -2, -5
        tensor([5.])
    """
    # Where the class is the label's own, its margin is 0 in both.
    moved = in_float(disturbed) - in_float(logits)
    change = moved.gather(1, label[:, None].long()) - moved
    lengths: Tensor = (change.square().sum(1) + _LEAST).sqrt()
    return lengths.flatten(1).mean(1)
