"""Whole cases segmented during training, for the curve only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from torch import nn

from equivox.datasets.plan import NetworkPlan
from equivox.datasets.store import Store
from equivox.pipelines.prediction.sliding_window import sliding_window_logits


@dataclass(frozen=True)
class ValidationCase:
    """One case's Dice on the prepared grid.

    Attributes:
        case_id: Of the cohort.
        dice: Class index -> Dice in [0, 1]; a class that neither reference nor prediction has is left out.
    """

    case_id: str
    dice: dict[int, float]


def validate_case(
    network: nn.Module,
    store: Path,
    case_id: str,
    key: str,
    plan: NetworkPlan,
    *,
    num_classes: int,
    overlap: float,
    bfloat16: bool,
    on_progress: Callable[[float], None] | None = None,
) -> ValidationCase:
    """Segment a prepared case with the sliding window of inference and compare it with its label.

    Args:
        network: In eval mode.
        store: Folder of the store.
        case_id: For the result.
        key: Name of the case in the store; it must have a label.
        plan: The network's section of the plan.
        num_classes: Background included.
        overlap: Of the windows.
        bfloat16: Run the network in bfloat16.
        on_progress: Called between windows with the finished part; it may raise to stop.
    """
    case = Store(store).read(key)
    logits = sliding_window_logits(
        network,
        np.asarray(case.image),
        plan,
        num_classes=num_classes,
        overlap=overlap,
        batch_size=windows_at_once(plan),
        bfloat16=bfloat16,
        on_progress=on_progress,
    )
    prediction = logits.argmax(0).cpu().numpy()
    return ValidationCase(case_id, prepared_dice(np.asarray(case.label), prediction, num_classes))


def windows_at_once(plan: NetworkPlan) -> int:
    """Return how many windows the network sees at once: several slices, but one 3D patch."""
    return 4 if plan.dimensions == 2 else 1


def prepared_dice(
    reference: Integer[np.ndarray, "i j k"], prediction: Integer[np.ndarray, "i j k"], num_classes: int
) -> dict[int, float]:
    """Return the Dice of each foreground class that either mask has.

    Example:
        >>> prepared_dice(np.array([[[0, 1, 1, 2]]]), np.array([[[0, 1, 0, 0]]]), 4) == {1: 2 / 3, 2: 0.0}
        True
    """
    # One pass over the voxels: how often each pair of reference and predicted class occurs.
    pairs = np.bincount(
        reference.astype(np.int64).ravel() * num_classes + prediction.ravel(), minlength=num_classes**2
    ).reshape(num_classes, num_classes)
    both, sizes = pairs.diagonal(), pairs.sum(0) + pairs.sum(1)
    return {index: float(2 * both[index] / sizes[index]) for index in range(1, num_classes) if sizes[index]}


def mean_dice(cases: Sequence[ValidationCase]) -> float | None:
    """Return the mean over cases of each case's mean over its classes; None where nothing was scored."""
    means = [sum(case.dice.values()) / len(case.dice) for case in cases if case.dice]
    return sum(means) / len(means) if means else None
