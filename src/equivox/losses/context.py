"""What a loss may know of the samples besides logits and labels."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor


def alone(value: Tensor) -> Tensor:
    """Return the value itself: the sum over the processes where there is one."""
    return value


@dataclass(frozen=True, eq=False)
class CaseContext:
    """Facts about the samples of a batch.

    Attributes:
        case_index: Index of each sample's case among the training cases; None where nobody counts them.
        step: Training step, from 0.
        sum_over_processes: Adds up a tensor without a gradient over the processes that share the batch; every process
            must call it equally often.
    """

    case_index: Int[Tensor, " batch"] | None = None
    step: int = 0
    sum_over_processes: Callable[[Tensor], Tensor] = alone
