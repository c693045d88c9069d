"""Sharpness-aware steps: the gradient is taken where the loss is highest nearby."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

_LEAST_NORM = 1e-12


@contextmanager
def at_the_worst_nearby(parameters: Iterable[nn.Parameter], radius: float, *, adaptive: bool) -> Iterator[None]:
    """Move weights, by their gradients, to where the loss is highest within a radius, and bring them back afterwards.

    With the gradient g of all weights w together, they move by ``radius * g / |g|``; where `adaptive`, by
    ``radius * w^2 g / |w g|``, which does not change when a layer's scale is moved into the next one. Afterwards every
    weight is what it was, to the bit. Weights without a gradient stay.

    Args:
        parameters: With the gradient of the loss where they are.
        radius: How far they move; for the adaptive form relative to the weights.
        adaptive: Which form.

    References:
        Foret et al., "Sharpness-Aware Minimization", ICLR 2021 (https://arxiv.org/abs/2010.01412); the adaptive form:
        Kwon et al., "ASAM", ICML 2021 (https://arxiv.org/abs/2102.11600), here without the constant that is added to
        the size of a weight.
    """
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    before = [parameter.detach().clone() for parameter in moved]
    gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
    with torch.no_grad():
        scaled = [w.abs() * g for w, g in zip(before, gradients, strict=True)] if adaptive else gradients
        if moved:
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part) for part in scaled]))
            for parameter, w, g in zip(moved, before, gradients, strict=True):
                parameter.add_((w**2 * g if adaptive else g) * (radius / (norm + _LEAST_NORM)))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, w in zip(moved, before, strict=True):
                parameter.copy_(w)


@contextmanager
def buffers_kept(*modules: nn.Module) -> Iterator[None]:
    """Bring the buffers of modules back afterwards: running statistics must not count a batch twice."""
    buffers = [buffer for module in modules for buffer in module.buffers()]
    before = [buffer.detach().clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in zip(buffers, before, strict=True):
                buffer.copy_(kept)
