"""The learning rate of each step."""

from math import cos, pi
from typing import Literal

_POLY_POWER = 0.9
"""As in nnU-Net, and in DeepLab before it."""


def learning_rate(
    step: int, *, steps: int, peak: float, warmup_steps: int, schedule: Literal["poly", "cosine"]
) -> float:
    """Return the learning rate of one step.

    Args:
        step: From 0.
        steps: Steps of the whole run.
        peak: The highest rate, reached when the warm-up ends.
        warmup_steps: Steps of linear rise before the fall.
        schedule: The shape of the fall, which ends just above 0 at the last step.

    Example:
        >>> [round(learning_rate(s, steps=5, peak=1.0, warmup_steps=2, schedule="cosine"), 3) for s in range(5)]
        [0.333, 0.667, 1.0, 0.75, 0.25]
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    if schedule == "poly":
        return float(peak * (1 - progress) ** _POLY_POWER)
    return peak * 0.5 * (1 + cos(pi * progress))
