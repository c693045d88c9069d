"""An adversary that tells the group from a network's features, and a network that hides it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional


class GroupAdversary(nn.Module):
    """A classifier of groups on pooled features, behind a gradient reversal.

    It learns to tell the group from the features; the network learns, at the strength of the reversal, that it cannot.
    What cannot be told from the features cannot steer the segmentation; it does not follow that groups are segmented
    equally well, and what is told apart may be anatomy.

    Args:
        channels: Of the features.
        groups: How many groups there are.
        hidden: Width of the classifier's one hidden layer.

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016.
    """

    def __init__(self, channels: int, groups: int, hidden: int = 64) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, groups))

    def forward(
        self, features: Float[Tensor, "batch channels *spatial"], group: Int[Tensor, " batch"], strength: float
    ) -> Float[Tensor, " batch"]:
        """Return the classifier's cross-entropy of each sample; 0 where the group is unknown (-1).

        Args:
            features: Of the network.
            group: Of each sample.
            strength: How strongly the gradient is turned round before it reaches the features; 0 lets none through.
        """
        pooled = features.float().flatten(2).mean(2)
        scores = self.classifier(_Reversed.apply(pooled, strength))  # type: ignore[no-untyped-call]
        losses: Tensor = functional.cross_entropy(scores, group, ignore_index=-1, reduction="none")
        return losses


class _Reversed(torch.autograd.Function):
    """The value itself, with its gradient turned round."""

    @staticmethod
    def forward(context, value, strength):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205
        context.strength = strength
        return value.view_as(value)

    @staticmethod
    def backward(context, gradient):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205
        return -context.strength * gradient, None
