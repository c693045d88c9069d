"""The tensors of a network, each once, by name: what is written to safetensors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def network_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, each tensor once.

    `Module.state_dict` lists a shared module under each of its names (nnU-Net's decoder holds the encoder), which
    safetensors refuses.
    """
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    return {name: tensor.detach() for name, tensor in tensors.items()}


def load_network_tensors(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into a network, in place.

    Args:
        network: The network to fill.
        tensors: What `network_tensors` returned for a network of the same kind.
        where: The file they come from, for the message.

    Raises:
        ValueError: If names or shapes differ.
    """
    own = network_tensors(network)
    if own.keys() != tensors.keys():
        different = sorted(own.keys() ^ tensors.keys())
        msg = f"{where}: expected the tensors of this network, got {len(different)} other names, first {different[0]}"
        raise ValueError(msg)
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                msg = f"{where}: expected {name} of shape {tuple(tensor.shape)}, got {tuple(tensors[name].shape)}"
                raise ValueError(msg)
            tensor.copy_(tensors[name])
