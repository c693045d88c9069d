"""Agreement of two networks' logits, as a divergence of each voxel's class probabilities."""

from jaxtyping import Float
from torch import Tensor


def divergence(
    reference: Float[Tensor, "batch classes *spatial"],
    logits: Float[Tensor, "batch classes *spatial"],
    temperature: float,
) -> Float[Tensor, " batch *spatial"]:
    """Return ``T^2 KL(softmax(reference / T) || softmax(logits / T))`` of each voxel, in nats.

    The square of the temperature keeps the gradient's size; the gradient goes to `logits`.

    Args:
        reference: What the logits should agree with, without a gradient.
        logits: Of the network that is trained.
        temperature: The higher, the more the classes that are not the likeliest count.

    References:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 2.0]])
        >>> round(float(divergence(torch.zeros(1, 2), logits, 2.0)), 4)  # 4 (log(1 + e) - 1/2 - log 2)
        0.4805
    """
    wanted = (reference.to(logits.dtype) / temperature).log_softmax(1)
    found = (logits / temperature).log_softmax(1)
    result: Tensor = temperature**2 * (wanted.exp() * (wanted - found)).sum(1)
    return result
