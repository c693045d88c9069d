"""The exponential running mean of the weights."""

import copy

import torch
from torch import nn


class Ema:
    """A copy of a network whose parameters follow the trained ones slowly; buffers are copied.

    Args:
        network: The network that is trained.
        decay: Weight of the past, after the warm-up; 0 follows at once.

    Attributes:
        network: The copy, in eval mode, without gradients.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        self.decay = decay

    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network's weights after the update of `step` (from 0)."""
        decay = warm_decay(self.decay, step)
        with torch.no_grad():
            own = [p.detach() for p in self.network.parameters()]
            theirs = [p.detach() for p in network.parameters()]
            torch._foreach_lerp_(own, theirs, 1 - decay)
            for mine, yours in zip(self.network.buffers(), network.buffers(), strict=True):
                mine.copy_(yours)


def warm_decay(decay: float, step: int) -> float:
    """Return the decay of one step: it rises with the steps, so that a short run too forgets its random start.

    Example:
        >>> warm_decay(0.999, 0), warm_decay(0.999, 10**6)
        (0.1, 0.999)
    """
    return min(decay, (1 + step) / (10 + step))
