"""Logits and labels as losses take them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def in_float(logits: Float[Tensor, "batch classes *spatial"]) -> Tensor:
    """Return logits in float32, or as they are where they are float64.

    Raises:
        ValueError: If they have a single class.
    """
    if logits.shape[1] < 2:
        msg = f"loss: expected logits of at least 2 classes, background included, got {logits.shape[1]}"
        raise ValueError(msg)
    return logits if logits.dtype == torch.float64 else logits.float()


def foreground(
    logits: Float[Tensor, "batch classes *spatial"], label: Int[Tensor, " batch *spatial"]
) -> tuple[Float[Tensor, "batch foreground *spatial"], Float[Tensor, "batch foreground *spatial"]]:
    """Return the probability of each class but the background, and where it is; float32, float64 where the logits are.

    Raises:
        ValueError: If the logits have a single class.
    """
    precise = in_float(logits)
    classes = torch.arange(1, logits.shape[1], device=label.device).reshape(-1, *[1] * (label.ndim - 1))
    return precise.softmax(1)[:, 1:], (label[:, None] == classes).to(precise.dtype)
