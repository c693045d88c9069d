"""The image nearby of which a network says the most other things."""

import math

import torch
from torch import Tensor, nn

from equivox.losses.margins import margin_change

_STRIDE = 2.5
"""The way of all steps together, in radii: enough to cross the ball, as in Madry et al."""


def worst_nearby(network: nn.Module, image: Tensor, label: Tensor, *, radius: float, steps: int) -> Tensor:
    """Return images within a radius whose margins differ from the image's as much as some steps of ascent find.

    Args:
        network: In eval mode while it is asked, then as it was; its parameters get no gradient.
        image: ``(batch, channels, *spatial)``.
        label: Class of each voxel.
        radius: Largest root mean squared change of an image, in its own unit.
        steps: Of projected gradient ascent, from a random place within half of the radius.

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
    """
    was_training = network.training
    network.eval()
    with torch.no_grad():
        clean: Tensor = network(image)[0]
    change = _of_size(torch.randn_like(image), radius / 2)
    for _ in range(steps):
        change.requires_grad_()
        gain = margin_change(clean, network(image + change)[0], label).sum()
        (slope,) = torch.autograd.grad(gain, change)
        change = _within(change.detach() + _of_size(slope, _STRIDE * radius / steps), radius)
    network.train(was_training)
    return image + change.detach()


def _of_size(change: Tensor, size: float) -> Tensor:
    """Return changes scaled to a root mean square; zeros stay."""
    return change * (size / _size(change).clamp(min=1e-12))


def _within(change: Tensor, radius: float) -> Tensor:
    return change * (radius / _size(change).clamp(min=1e-12)).clamp(max=1)


def _size(change: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(change.flatten(1), dim=1) / math.sqrt(change[0].numel())
    return norms.reshape(-1, *[1] * (change.ndim - 1))
