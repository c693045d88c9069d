"""What a loss may know of the samples besides logits and labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Int
from torch import Tensor


def alone(value: Tensor) -> Tensor:
    """Return the value itself: the sum over the processes where there is one."""
    return value


@dataclass(frozen=True, eq=False)
class CaseContext:
    """Facts about the samples of a batch; a loss that needs one that is None says which.

    Attributes:
        case_index: Index of each sample's case among the training cases; None where nobody counts them.
        step: Training step, from 0.
        progress: Share of the training that is done, in [0, 1).
        sum_over_processes: Adds up a tensor without a gradient over the processes that share the batch; every process
            must call it equally often.
        group: Index of each sample's group, -1 where it is unknown.
        groups: How many groups there are in the training cases.
        spacing_mm: Voxel sides along the spatial axes; None where they are not real.
        projections: Spatial axis of the patch -> which classes lie anywhere along it in the whole volume, within the
            patch's window of the other axes: ``(batch, classes, *spatial without the axis)``, bool.
        skeleton: Class whose centreline's tube each voxel is in, 0 for none: ``(batch, *spatial)``.
        raters: One label a rater, ``(batch, raters, *spatial)``; -1 everywhere where a case has fewer raters.
        teacher: Logits of another network on the same patches, ``(batch, classes, *spatial)``, without a gradient.
        features: Gives what a fixed network sees in images ``(batch, 1, *spatial)``: one tensor a layer,
            ``(batch, channels, *coarser)``, through which gradients reach the images.
    """

    case_index: Int[Tensor, " batch"] | None = None
    step: int = 0
    progress: float = 0.0
    sum_over_processes: Callable[[Tensor], Tensor] = alone
    group: Int[Tensor, " batch"] | None = None
    groups: int = 0
    spacing_mm: tuple[float, ...] | None = None
    projections: Mapping[int, Tensor] = field(default_factory=dict)
    skeleton: Int[Tensor, " batch *spatial"] | None = None
    raters: Int[Tensor, " batch raters *spatial"] | None = None
    teacher: Tensor | None = None
    features: Callable[[Tensor], Sequence[Tensor]] | None = None
