"""Features of another network for losses: of a run folder, or of a TorchScript file."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from equivox.datasets.plan import NetworkPlan
from equivox.errors import InputError, one_line
from equivox.hashing import file_sha256
from equivox.models.catalog import layer_name
from equivox.pipelines.run_folder import WEIGHTS, RunFolder
from equivox.pipelines.training_config import FeaturesConfig

Features = Callable[[Tensor], Sequence[Tensor]]
"""From images ``(batch, 1, *spatial)`` to one tensor a layer, ``(batch, channels, *coarser)``."""


def load_features(config: FeaturesConfig, network: NetworkPlan, device: torch.device) -> Features:
    """Return the features that a config asks for, of a network that stays as it is; gradients reach the images.

    Args:
        config: Which network.
        network: The plan's section that is trained; a patch of zeros is shown to the network once.
        device: Where it works.

    Raises:
        InputError: If there is no such network, it cannot be loaded, or it does not take such patches.
    """
    found = _of_run(config, device) if config.run is not None else _of_torchscript(config, device)
    try:
        with torch.no_grad():
            found(torch.zeros(1, 1, *network.patch_size, device=device))
    except (RuntimeError, ValueError) as error:
        sides = " x ".join(map(str, network.patch_size))
        msg = f"features {config.run or config.torchscript}: expected a network that takes patches of {sides}, got "
        msg += f"'{one_line(error)}'; choose another, or correct features.channels"
        raise InputError(msg) from None
    return found


def features_hash(config: FeaturesConfig) -> str | None:
    """Return the hash of the network's file; None where no features are asked for."""
    path = _file(config)
    return None if path is None else file_sha256(path)


def _file(config: FeaturesConfig) -> Path | None:
    if config.run is not None:
        return RunFolder(Path(config.run)).fold_folder(config.fold) / WEIGHTS
    return None if config.torchscript is None else Path(config.torchscript)


def _of_run(config: FeaturesConfig, device: torch.device) -> Features:
    run = RunFolder(Path(config.run or ""))
    run.require_unchanged()
    network = run.network(config.fold).requires_grad_(requires_grad=False).to(device)
    deepest = layer_name(network, "bottleneck")
    names = config.layers or (deepest,)
    known = dict(network.named_modules())
    for name in names:
        if name not in known:
            msg = f"features.layers: expected modules of the network of {run.path}, such as '{deepest}', got '{name}'; "
            msg += "correct it"
            raise InputError(msg)
    return _Hooked(network, [known[name] for name in names], run.plan.preprocessing.image_channels)


def _of_torchscript(config: FeaturesConfig, device: torch.device) -> Features:
    path = Path(config.torchscript or "")
    if not path.is_file():
        msg = f"features.torchscript: expected a file, got {path}; check the path"
        raise InputError(msg)
    if not config.trust:
        msg = f"features.torchscript {path}: a TorchScript file can run any code when it is opened; if you know where "
        msg += "it comes from, give features.trust=true"
        raise InputError(msg)
    try:
        # Deprecated in torch, and yet what such networks are shared as.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            network = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        msg = f"features.torchscript {path}: expected TorchScript, got '{one_line(error)}'; export it again"
        raise InputError(msg) from None
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(requires_grad=False)
    return _Scripted(network, config.channels, config.outputs)


class _Hooked:
    """What some modules of a network give on the way."""

    def __init__(self, network: nn.Module, modules: Sequence[nn.Module], channels: int) -> None:
        self.network, self.channels = network, channels
        self._seen: dict[int, Tensor] = {}
        self._count = len(modules)
        for place, module in enumerate(modules):
            module.register_forward_hook(self._keeper(place))

    def _keeper(self, place: int) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            del module, inputs
            self._seen[place] = output

        return keep

    def __call__(self, image: Tensor) -> list[Tensor]:
        self.network(_repeated(image, self.channels))
        layers = [self._seen[place] for place in range(self._count)]
        self._seen.clear()
        return layers


class _Scripted:
    """A TorchScript network of one to four arguments: image, number of layers, statistics and direction.

    Statistics and direction are given empty, upon which such networks take those of the image and none.
    """

    def __init__(self, network: torch.jit.ScriptModule, channels: int, outputs: int) -> None:
        self.network, self.channels, self.outputs = network, channels, outputs
        self._more = len(network.forward.schema.arguments) - 2  # type: ignore[attr-defined]

    def __call__(self, image: Tensor) -> list[Tensor]:
        shown = _repeated(image, self.channels)
        nothing = torch.empty(0, device=image.device)
        more = [torch.tensor([self.outputs], device=image.device), nothing, nothing][: self._more]
        found = self.network(shown, *more)
        layers = [found] if isinstance(found, Tensor) else list(found)
        if len(layers) < self.outputs:
            msg = f"{len(layers)} outputs where {self.outputs} are asked for"
            raise ValueError(msg)
        return layers[: self.outputs]


def _repeated(image: Tensor, channels: int) -> Tensor:
    return image.expand(-1, channels, *image.shape[2:])
