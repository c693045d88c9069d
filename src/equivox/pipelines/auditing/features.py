"""Features of a network's layers, pooled over a scan while the sliding window goes over it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from equivox.datasets.plan import NetworkPlan
from equivox.metrics.energy import CaseEnergy, case_energy
from equivox.models.catalog import Layer, layer_name
from equivox.pipelines.auditing.options import AuditOptions
from equivox.pipelines.prediction.sliding_window import sliding_window_logits

POOLINGS: Final = ("mean", "foreground", "mean_sd")
"""How features become one vector: their mean over the scan, over what the network takes for foreground, or mean and
standard deviation over the scan."""

_CHUNK: Final = 1 << 22
"""Values of features in memory as float64 at a time: 32 MB."""

Pooled = Mapping[str, Float[np.ndarray, " dims"] | None]


@dataclass(frozen=True, eq=False)
class CaseFeatures:
    """What one network makes of one scan.

    Attributes:
        trained: Layer -> pooling -> vector; None where the network finds no foreground.
        untrained: The same of the untrained network, pooled over the same foreground.
        energy: Of the logits.
        labels: Class indices on the prepared grid.
    """

    trained: Mapping[Layer, Pooled]
    untrained: Mapping[Layer, Pooled]
    energy: CaseEnergy
    labels: np.ndarray


def case_features(
    network: nn.Module,
    untrained: nn.Module,
    image: Float[np.ndarray, "channels i j k"],
    plan: NetworkPlan,
    classes: int,
    options: AuditOptions,
    on_progress: Callable[[float], None] | None = None,
) -> CaseFeatures:
    """Run both networks over a prepared scan and pool the features of their layers.

    Each voxel of the scan counts once: a patch's features count as the patch's logits do in the segmentation, by the
    same Gaussian weights, summed over the voxels that one feature stands for; padding does not count.

    Args:
        network: The trained network, in eval mode.
        untrained: The same network with random weights.
        image: A prepared scan.
        plan: The network's patch size and dimensions.
        classes: Background included.
        options: Layers, overlap, batch size, precision.
        on_progress: As for the sliding window.
    """
    both = {"trained": network, "untrained": untrained}
    sums = {(name, layer): _Sums() for name in both for layer in options.features}
    seen: dict[Any, Tensor] = {}

    def keep(name: Any) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    def on_batch(batch: Tensor, shares: Tensor) -> None:
        foreground = seen["logits"].argmax(1) > 0
        untrained(batch)
        for key, one in sums.items():
            one.add(seen[key], shares, foreground)

    hooks = [network.register_forward_hook(keep("logits"))]
    hooks += [module_of(both[name], layer).register_forward_hook(keep((name, layer))) for name, layer in sums]
    try:
        logits = segment(network, image, plan, classes, options, on_progress, on_batch).cpu().numpy()
    finally:
        for hook in hooks:
            hook.remove()
    trained, other = ({layer: sums[name, layer].vectors() for layer in options.features} for name in both)
    return CaseFeatures(trained, other, case_energy(logits), logits.argmax(axis=0).astype(np.int16))


def segment(
    network: nn.Module,
    image: Float[np.ndarray, "channels i j k"],
    plan: NetworkPlan,
    classes: int,
    options: AuditOptions,
    on_progress: Callable[[float], None] | None = None,
    on_batch: Callable[[Tensor, Tensor], None] | None = None,
) -> Float[Tensor, "classes i j k"]:
    """Return a network's blended logits under the settings of the audit."""
    return sliding_window_logits(
        network,
        image,
        plan,
        num_classes=classes,
        overlap=options.overlap,
        batch_size=options.batch_size or (1 if plan.dimensions == 3 else 4),
        bfloat16=options.bfloat16,
        on_progress=on_progress,
        on_batch=on_batch,
    )


def module_of(network: nn.Module, layer: Layer) -> nn.Module:
    """Return the module whose output are the network's features of a layer."""
    return network.get_submodule(layer_name(network, layer))


@contextmanager
def without_directions(
    network: nn.Module, directions: Float[np.ndarray, "count dims"], centre: Float[np.ndarray, " dims"]
) -> Iterator[None]:
    """Project directions out of a network's deepest features, at every voxel, while the block runs.

    Along the directions every voxel gets the value of the centre.

    Args:
        network: Changed while the block runs.
        directions: Orthonormal rows, one entry a feature.
        centre: The mean over patients.
    """
    parameter = next(network.parameters())
    rows = torch.from_numpy(directions).to(parameter.device, torch.float32)
    middle = torch.from_numpy(centre).to(parameter.device, torch.float32)

    def project(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (output.ndim - 2))
        apart = torch.einsum("kc,bc...->bk...", rows, output.float() - middle.view(shape))
        return output - torch.einsum("kc,bk...->bc...", rows, apart).to(output.dtype)

    hook = module_of(network, "bottleneck").register_forward_hook(project)
    try:
        yield
    finally:
        hook.remove()


class _Sums:
    """Weighted sums of features over the patches of a scan."""

    def __init__(self) -> None:
        self.weight, self.inside = 0.0, 0.0
        self.values: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0
        self.inside_values: Tensor | float = 0.0

    def add(
        self,
        features: Float[Tensor, "batch features *coarse"],
        shares: Float[Tensor, " batch *spatial"],
        foreground: Bool[Tensor, " batch *spatial"],
    ) -> None:
        """Add a batch of patches."""
        pool: Any = functional.adaptive_avg_pool2d if features.ndim == 4 else functional.adaptive_avg_pool3d
        # The mean share of the voxels under a feature: what it counts, but for a factor that is the same for all.
        weights, inside = (
            pool(map_[:, None].double(), features.shape[2:])[:, 0] for map_ in (shares, shares * foreground)
        )
        self.weight += float(weights.sum())
        self.inside += float(inside.sum())
        # Few channels at a time: as float64, a full-resolution layer would not fit beside the network.
        step = max(1, _CHUNK * features.shape[1] // features.numel())
        added = [_weighted(part.double(), weights, inside) for part in torch.split(features, step, dim=1)]
        values, squares, inside_values = (torch.cat(parts) for parts in zip(*added, strict=True))
        self.values += values
        self.squares += squares
        self.inside_values += inside_values

    def vectors(self) -> Pooled:
        """Return the vector of each pooling."""
        values, squares, inside = (torch.as_tensor(one) for one in (self.values, self.squares, self.inside_values))
        mean = values / self.weight
        spread = (squares / self.weight - mean**2).clamp(min=0).sqrt()
        return {
            "mean": mean.cpu().numpy(),
            "foreground": (inside / self.inside).cpu().numpy() if self.inside > 0 else None,
            "mean_sd": torch.cat([mean, spread]).cpu().numpy(),
        }


def _weighted(
    found: Float[Tensor, "batch features *coarse"],
    weights: Float[Tensor, " batch *coarse"],
    inside: Float[Tensor, " batch *coarse"],
) -> tuple[Float[Tensor, " features"], Float[Tensor, " features"], Float[Tensor, " features"]]:
    """Return the weighted sums of the features, of their squares, and of the features in the foreground."""
    return (
        torch.einsum("b...,bc...->c", weights, found),
        torch.einsum("b...,bc...->c", weights, found**2),
        torch.einsum("b...,bc...->c", inside, found),
    )
