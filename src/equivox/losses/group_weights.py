"""Weights of samples by the group of their patient, from how groups fare or how large they are.

Each method gives a sample of group g the weight ``w_g / sum_h f_h w_h``, where f are the groups' shares of the training
cases: over the whole training the weights average 1, so the learning rate keeps its meaning, and a batch that lacks a
group, or holds one group alone, needs no special case. Samples of unknown group have the weight 1.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from equivox.losses.context import CaseContext

WeightMethod = Literal["none", "inverse_frequency", "group_dro", "febs_corrected"]
"""How groups are weighed; see `GroupWeights`."""


class GroupErrors(nn.Module):
    """A running mean of each group's loss over batches and processes.

    Args:
        groups: How many there are.
        momentum: Weight of the past at each batch that has the group; the first one counts whole.

    Attributes:
        mean: The running means, ``(groups,)``; 0 for a group that was not seen yet.
        seen: Which groups were seen.
    """

    mean: Float[Tensor, " groups"]
    seen: Bool[Tensor, " groups"]

    def __init__(self, groups: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(groups))
        self.register_buffer("seen", torch.zeros(groups, dtype=torch.bool))

    @torch.no_grad()
    def update(
        self, losses: Float[Tensor, " batch"], context: CaseContext
    ) -> tuple[Float[Tensor, " groups"], Bool[Tensor, " groups"]]:
        """Take a batch in and return its own mean loss of each group, and which groups it has.

        Args:
            losses: One loss a sample of this process.
            context: Its `group` and `sum_over_processes`.

        Raises:
            ValueError: If the context has no groups.
        """
        group = _group_of(context)
        known = group >= 0
        own = losses.detach().float()[known]
        sums = torch.zeros(2, len(self.mean), device=losses.device)
        sums[0].index_add_(0, group[known], own)
        sums[1].index_add_(0, group[known], torch.ones_like(own))
        total, count = context.sum_over_processes(sums)
        present = count > 0
        batch = total / count.clamp(min=1)
        moved = torch.where(self.seen, self.momentum * self.mean + (1 - self.momentum) * batch, batch)
        self.mean.copy_(torch.where(present, moved, self.mean))
        self.seen |= present
        return batch, present


class GroupWeights(nn.Module):
    """Weights of samples by group.

    * ``none``: 1 for all; the errors of groups are followed all the same.
    * ``inverse_frequency``: ``w_g = 1 / f_g``: each group counts alike, however small.
    * ``group_dro``: ``q_g <- q_g exp(step_size * L_g)`` for the groups of each batch, q normalised,
      ``w_g = q_g / f_g``: the group with the largest loss gains weight exponentially (Sagawa et al., ICLR 2020,
      online form). Published with strong weight decay.
    * ``febs_corrected``: ``w_g = (E_g / mean of E)^gamma``, clipped, with E the running mean of the groups' losses.
      Our own reading of fair error-bound scaling (Tian et al., FairSeg, ICLR 2024): the group that fares worst gains
      weight, whereas the published code lowers its gradient; see `equivox.losses.febs_published`.

    Args:
        method: One of these.
        shares: Each group's share of the training cases of known group, ``(groups,)``, all above 0.
        gamma: Exponent of febs_corrected.
        clip: Smallest and largest weight of febs_corrected, before it is normalised.
        step_size: Of group_dro.
        momentum: Of the running means.

    Attributes:
        errors: The running means of the groups' losses.
    """

    shares: Float[Tensor, " groups"]
    q: Float[Tensor, " groups"]

    def __init__(
        self,
        method: WeightMethod,
        shares: Float[Tensor, " groups"],
        *,
        gamma: float = 1.0,
        clip: tuple[float, float] = (0.5, 2.0),
        step_size: float = 0.01,
        momentum: float = 0.9,
    ) -> None:
        super().__init__()
        self.method: WeightMethod = method
        self.gamma, self.clip, self.step_size = gamma, clip, step_size
        self.errors = GroupErrors(len(shares), momentum)
        self.register_buffer("shares", shares.float(), persistent=False)
        self.register_buffer("q", torch.full((len(shares),), 1 / len(shares)))

    @torch.no_grad()
    def forward(self, losses: Float[Tensor, " batch"], context: CaseContext) -> Float[Tensor, " batch"]:
        """Take a batch's losses in and return the weight of each of its samples, without a gradient.

        Every process that shares the batch must call it. A loss that is not finite leaves the state as it is.
        """
        if not bool(context.sum_over_processes((~torch.isfinite(losses.detach())).sum().float())):
            batch, present = self.errors.update(losses, context)
            if self.method == "group_dro":
                raised = self.q * torch.exp(self.step_size * torch.where(present, batch, 0.0))
                self.q.copy_(raised / raised.sum())
        weights, group = self.of_groups(), _group_of(context)
        return torch.where(group >= 0, weights[group.clamp(min=0)], 1.0)

    def of_groups(self) -> Float[Tensor, " groups"]:
        """Return the weight that each group has now."""
        if self.method == "inverse_frequency":
            raw = 1 / self.shares
        elif self.method == "group_dro":
            raw = self.q / self.shares
        elif self.method == "febs_corrected":
            seen = self.errors.seen
            middle = self.errors.mean[seen].mean() if bool(seen.any()) else self.errors.mean.new_ones(())
            ratio = torch.where(seen & (middle > 0), self.errors.mean / middle.clamp(min=1e-12), 1.0)
            raw = (ratio.clamp(min=0) ** self.gamma).clamp(*self.clip)
        else:
            raw = torch.ones_like(self.shares)
        return raw / (self.shares * raw).sum()


def group_shares(group: Int[Tensor, " cases"], groups: int) -> Float[Tensor, " groups"]:
    """Return each group's share of the cases of known group (-1 is unknown)."""
    counts = torch.bincount(group[group >= 0], minlength=groups).float()
    shares: Tensor = counts / counts.sum().clamp(min=1)
    return shares


def _group_of(context: CaseContext) -> Int[Tensor, " batch"]:
    if context.group is None:
        msg = "groups: expected the group of each sample, got none; give `CaseContext.group`"
        raise ValueError(msg)
    return context.group
