"""The family of losses between cross-entropy and mean absolute error, for labels with errors."""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from equivox.losses.context import CaseContext
from equivox.losses.logits import in_float
from equivox.losses.voxel_mean import VoxelMean, voxel_mean
from equivox.options import Options

_NEAR = 1e-6
"""So near to 1 the formula divides by what rounding leaves; the limit is cross-entropy."""


class CompSumOptions(Options):
    """What a user can choose of `CompSumLoss`.

    Attributes:
        tau: 1 is cross-entropy; between 1 and 2 it is generalised cross-entropy with q = tau - 1, which forgives voxels
            that are labelled wrongly and learns more slowly; 2 is one minus the probability; below 1 it asks more of
            the hardest voxels.
        warm_up: Share of the training over which tau moves from 1 to its value: above 1.5 the gradient of a voxel that
            is segmented badly nearly vanishes.
        rho: Logits are divided by it: below 1 a voxel stops counting at a smaller margin. Of the paper's smooth
            adversarial form, whose other part is the config's `robustness`.
        mean_over: ``voxels``, or ``classes`` for small structures.
    """

    tau: float = Field(default=1.7, ge=0, allow_inf_nan=False)
    warm_up: float = Field(default=0.2, ge=0, le=1)
    rho: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    mean_over: VoxelMean = "voxels"


class CompSumLoss(nn.Module):
    """Comp-sum loss of each voxel, ``(p^(tau - 1) - 1) / (1 - tau)`` with the probability p of the labelled class.

    Args:
        options: The user's choices.

    References:
        Mao, Mohri and Zhong, "Cross-Entropy Loss Functions: Theoretical Analysis and Applications", ICML 2023
        (https://arxiv.org/abs/2304.07288).
        Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels",
        NeurIPS 2018.
    """

    def __init__(self, options: CompSumOptions) -> None:
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
            context: Its `progress` drives the warm-up.
        """
        precise = in_float(logits) / self.options.rho
        chosen = precise.log_softmax(1).gather(1, label[:, None].long())[:, 0]
        warm_up = self.options.warm_up
        tau = 1 + (self.options.tau - 1) * (min(1.0, context.progress / warm_up) if warm_up else 1.0)
        return voxel_mean(comp_sum(chosen, tau), label, logits.shape[1], self.options.mean_over)


def comp_sum(log_probability: Float[Tensor, "*shape"], tau: float) -> Float[Tensor, "*shape"]:
    """Return the comp-sum loss from the log of the probability of the right class.

    Example:
        >>> half = torch.tensor(0.5).log()
        >>> [round(float(comp_sum(half, tau)), 4) for tau in (0.0, 1.0, 2.0)]  # 1/p - 1, -log p, 1 - p
        [1.0, 0.6931, 0.5]
    """
    if abs(tau - 1) < _NEAR:
        return -log_probability
    return torch.expm1((tau - 1) * log_probability) / (1 - tau)
