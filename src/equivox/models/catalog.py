"""The table of networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import nn

from equivox.errors import InputError
from equivox.models.plain_unet import PlainUNet, PlainUNetOptions
from equivox.models.unetpp import UNetPlusPlus, UNetPlusPlusOptions
from equivox.options import Options, parse_options

Layer = Literal["bottleneck", "last_decoder"]
"""Where features are taken: the deepest ones, or those that the logits are made of."""


@dataclass(frozen=True)
class ModelEntry:
    """One line of the table.

    Attributes:
        options: Class of the network's options, all with defaults.
        build: Called with ``(in_channels, num_classes, features, strides, options)``. The network's forward takes
            ``(batch, channels, *spatial)`` and returns a tuple of logits: the full-resolution ones first, then in
            training those of deep supervision, which may be coarser. Its attribute `bottleneck` names the module whose
            output are the deepest features, ``(batch, features, *coarse)``, and `last_decoder` the one whose output the
            first logits are made of, ``(batch, features, *spatial)``.
        summary: What it is, in a few words, for the model card.
    """

    options: type[Options]
    build: Callable[..., nn.Module]
    summary: str


MODELS: dict[str, ModelEntry] = {
    "unetpp": ModelEntry(UNetPlusPlusOptions, UNetPlusPlus, "U-Net++ (MONAI), instance norm, deep supervision"),
    "plain_unet": ModelEntry(PlainUNetOptions, PlainUNet, "nnU-Net's plain convolutional U-Net"),
}


def model_entry(name: str) -> ModelEntry:
    """Return the line of the table for `name`.

    Raises:
        InputError: If there is no such network.
    """
    if name not in MODELS:
        msg = f"model: expected one of {', '.join(MODELS)}, got '{name}'; choose one of them"
        raise InputError(msg)
    return MODELS[name]


@runtime_checkable
class NetworkSize(Protocol):
    """What of a plan decides the size of a network."""

    @property
    def features(self) -> tuple[int, ...]:
        """Channels of each stage, finest first."""

    @property
    def strides(self) -> tuple[tuple[int, ...], ...]:
        """Downsampling of each stage along the network's axes, the first all ones."""


def build_network(
    name: str, options: Mapping[str, Any], network: NetworkSize, in_channels: int, num_classes: int
) -> nn.Module:
    """Build a network of the table; its weights come from torch's generator.

    Args:
        name: A key of `MODELS`.
        options: The network's options; what is left out has its default.
        network: The plan's section for 2D or 3D.
        in_channels: Channels of the image.
        num_classes: Classes to predict, background included.

    Raises:
        InputError: If there is no such network or option.
    """
    entry = model_entry(name)
    parsed = parse_options(entry.options, dict(options), "model.options")
    return entry.build(in_channels, num_classes, network.features, network.strides, parsed)


def layer_name(network: nn.Module, layer: Layer) -> str:
    """Return the name of the module whose output are a network's features of a layer.

    Raises:
        ValueError: If the network names none.
    """
    name = getattr(network, layer, None)
    if not isinstance(name, str):
        msg = f"expected a network that names its {layer}, got {type(network).__name__}; give it that attribute"
        raise ValueError(msg)
    return name
