"""What a loss may know of the samples besides logits and labels."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class CaseContext:
    """Facts about the samples of a batch.

    Attributes:
        case_index: Index of each sample's case among the training cases; None where nobody counts them.
        step: Training step, from 0.
    """

    case_index: Int[Tensor, " batch"] | None = None
    step: int = 0
