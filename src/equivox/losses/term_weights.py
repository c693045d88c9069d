"""Weights of the terms of a loss that are learned with the network."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

LossWeighting = Literal["fixed", "uncertainty"]
"""``fixed``: the weights of the config. ``uncertainty``: learned on top of them; see `TermWeights`."""

_BOUND = 4.0
"""Of the log-variances: weights stay between 0.009 and 27."""


class TermWeights(nn.Module):
    """One learned log-variance s a term: the term L becomes ``exp(-s) L / 2 + log(1 + exp(s))``.

    A term that stays large is taken for uncertain and weighs less; the logarithm keeps the weight from vanishing. Each
    s begins at 0 and is held within [-4, 4]. A term must not be negative: below 0 the sum would be the smaller, the
    more the term weighs.

    Args:
        count: How many terms there are.

    References:
        Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018; the logarithm's
        form: Liebel and Koerner, 2018 (https://arxiv.org/abs/1805.06334). Ours: log-variances within bounds, terms that
        cannot be negative; see `equivox.losses.uu_mamba_published` for a released form without them.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(count))

    def hold(self) -> None:
        """Bring what a step moved too far back to its bound; a clamp in the sum would leave it there for good."""
        with torch.no_grad():
            self.log_variance.clamp_(-_BOUND, _BOUND)

    def factors(self) -> Float[Tensor, " terms"]:
        """Return the factor of each term."""
        return torch.exp(-self.log_variance) / 2

    def penalties(self) -> Float[Tensor, " terms"]:
        """Return what is added for each term.

        Example:
            >>> weights = TermWeights(1)
            >>> round((weights.factors() * 0.8 + weights.penalties()).item(), 4)  # 0.8 / 2 + log 2
            1.0931
        """
        result: Tensor = functional.softplus(self.log_variance)
        return result
