"""A loss over the outputs of several heads."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from equivox.losses.context import CaseContext


@runtime_checkable
class SampleLoss(Protocol):
    """A loss that gives each sample its own value."""

    def per_sample(self, logits: Tensor, label: Tensor, context: CaseContext) -> Tensor:
        """Return ``(batch,)`` from logits ``(batch, classes, *spatial)`` and labels ``(batch, *spatial)``."""


class DeepSupervisionLoss:
    """A weighted mean of one loss over all heads; each next head weighs half of the one before.

    A coarser head is compared with the label brought to its size by nearest neighbour, as nnU-Net does.

    Args:
        loss: The loss of one head.
        first_alone: Leave the coarser heads out, for a loss that says little of them (the topology of a label that was
            brought to a quarter of its size is another one) or costs much.
    """

    def __init__(self, loss: SampleLoss, *, first_alone: bool = False) -> None:
        self.loss = loss
        self.first_alone = first_alone

    def per_sample(
        self, outputs: Sequence[Tensor], label: Int[Tensor, " batch *spatial"], context: CaseContext
    ) -> Float[Tensor, " batch"]:
        """Return one loss a sample.

        Args:
            outputs: Logits of each head ``(batch, classes, *spatial)``, the one that counts first.
            label: Class of each voxel, at full resolution.
            context: Handed to the loss.
        """
        outputs = outputs[:1] if self.first_alone else outputs
        weights = head_weights(len(outputs))
        parts = [
            weight * self.loss.per_sample(logits, _label_for(logits, label), context)
            for weight, logits in zip(weights, outputs, strict=True)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


def head_weights(heads: int) -> tuple[float, ...]:
    """Return the weights of the heads, which halve from one to the next and sum to 1.

    Example:
        >>> head_weights(3) == (4 / 7, 2 / 7, 1 / 7)
        True
    """
    raw = [2.0 ** (heads - 1 - head) for head in range(heads)]
    return tuple(value / sum(raw) for value in raw)


def _label_for(logits: Tensor, label: Tensor) -> Tensor:
    if logits.shape[2:] == label.shape[1:]:
        return label
    # float32 holds every class index exactly.
    coarse = functional.interpolate(label[:, None].float(), size=logits.shape[2:], mode="nearest-exact")
    return coarse[:, 0].to(label.dtype)
