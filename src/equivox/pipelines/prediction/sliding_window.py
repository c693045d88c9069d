"""Sliding window: a network that sees patches, run over a whole prepared scan."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from equivox.datasets.plan import NetworkPlan
from equivox.errors import InputError
from equivox.models.layout import with_channels_last

_SIGMA_OF_PATCH = 1 / 8
_MARGIN_OF_DEVICE_MEMORY = 2

Network = Callable[[Tensor], Tensor | tuple[Tensor, ...]]
OnBatch = Callable[[Tensor, Tensor], None]


def sliding_window_logits(
    network: Network,
    image: Float[np.ndarray, "channels i j k"] | Float[Tensor, "channels i j k"],
    plan: NetworkPlan,
    *,
    num_classes: int,
    overlap: float = 0.5,
    mirror_axes: Sequence[int] = (),
    batch_size: int = 1,
    bfloat16: bool = False,
    on_progress: Callable[[float], None] | None = None,
    on_batch: OnBatch | None = None,
) -> Float[Tensor, "classes i j k"]:
    """Run a network over a prepared scan in overlapping patches and return the blended logits.

    Patches are spread evenly, so that neighbours overlap by at least `overlap`, and are blended in logit space by a
    Gaussian that is widest at their centre (standard deviation 1/8 of the patch). A scan smaller than the patch is
    padded with zeros on both sides. A 2D network sees the slices across `plan.slice_axis`, `batch_size` at a time.
    Sums are float32, and the only full-size array is the result.

    Args:
        network: From ``(batch, channels, *spatial)`` to logits ``(batch, classes, *spatial)``, or to a tuple whose
            first element these are. It must be in eval mode. Its device, that of its first parameter, does the work.
        image: A prepared scan, float32, not changed.
        plan: The network's patch size, dimensions and slice axis.
        num_classes: Classes, background included.
        overlap: Part of a patch that neighbouring patches share, at least; in [0, 1).
        mirror_axes: Axes of the scan (0, 1, 2) to mirror along; the softmax of every combination of mirrors is
            averaged. The logarithm of the average is returned, whose softmax is the average itself.
        batch_size: Patches, or slices of a 2D network, that the network sees at once.
        bfloat16: Run the network under bfloat16 autocast: faster where the processor has it, less exact.
        on_progress: Called with the finished part of the work, in (0, 1].
        on_batch: Called after each run of the network with what it saw, ``(batch, channels, *spatial)``, and the share
            that each of these voxels has in the result, ``(batch, *spatial)``: over all patches the shares of a voxel
            of the scan sum to one (in each mirror image), and padding has none.

    Returns:
        Float32, on the image's grid, on the network's device (on the CPU where the device has no room for it).

    Raises:
        ValueError: If an option is out of range, or the network returns another shape than it should.
    """
    _check(plan, overlap, mirror_axes, batch_size)
    scan = torch.from_numpy(np.ascontiguousarray(image)) if isinstance(image, np.ndarray) else image
    flips = [flip for size in range(len(mirror_axes) + 1) for flip in itertools.combinations(mirror_axes, size)]
    with torch.inference_mode():
        windows = _Windows.over(tuple(scan.shape[1:]), plan, overlap)
        device, where = _devices(network, scan, num_classes, passes=len(flips))
        mean: Tensor | None = None
        for done, flip in enumerate(flips):
            logits = torch.zeros((num_classes, *scan.shape[1:]), dtype=torch.float32, device=where)
            turned = scan.flip([axis + 1 for axis in flip]) if flip else scan
            tell = _part_of(on_progress, done, len(flips))
            with _autocast(device, enabled=bfloat16):
                _accumulate(network, turned, logits, windows, batch_size, device, tell, on_batch)
            if len(flips) == 1:
                return logits
            probabilities = softmax_(logits)
            if flip:
                probabilities = probabilities.flip([axis + 1 for axis in flip])
            mean = probabilities if mean is None else mean.add_(probabilities)
        # The smallest normal number keeps the logarithm finite where every pass said exactly 0.
        result: Tensor = mean.div_(len(flips)).clamp_(min=torch.finfo(torch.float32).tiny).log_()  # type: ignore[union-attr]
        return result


def ready_network(network: torch.nn.Module, plan: NetworkPlan, device: str) -> torch.nn.Module:
    """Bring a network to a device in the layout that prediction is fastest in, and return it in eval mode.

    Args:
        network: Changed in place: a network that is being trained should stay as it is.
        plan: Its dimensions.
        device: As torch names it.
    """
    return with_channels_last(network.to(device), plan.dimensions).eval()


def working_device(choice: str) -> str:
    """Return the device that networks run on, from ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: If a graphics card is asked for and there is none.
    """
    cuda = torch.cuda.is_available()
    if choice == "cuda" and not cuda:
        msg = "--device cuda: expected a graphics card that torch can use, got none; leave the option out"
        raise InputError(msg)
    return "cuda" if cuda and choice != "cpu" else "cpu"


def sliding_window_probabilities(
    networks: Sequence[Network],
    image: Float[np.ndarray, "channels i j k"] | Float[Tensor, "channels i j k"],
    plan: NetworkPlan,
    *,
    num_classes: int,
    overlap: float = 0.5,
    mirror_axes: Sequence[int] = (),
    batch_size: int = 1,
    bfloat16: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> Float[Tensor, "classes i j k"]:
    """Return the mean of the class probabilities of several networks, such as those of the folds of one run.

    Args:
        networks: One or more; each as for `sliding_window_logits`.
        image: As there, like every other argument.
        plan: As there.
        num_classes: As there.
        overlap: As there.
        mirror_axes: As there.
        batch_size: As there.
        bfloat16: As there.
        on_progress: As there.

    Returns:
        Float32, on the image's grid; sums to one over the classes.

    Raises:
        ValueError: If there is no network, or as `sliding_window_logits`.
    """
    if not networks:
        msg = "expected at least one network, got none; choose folds that are trained"
        raise ValueError(msg)
    mean: Tensor | None = None
    for done, network in enumerate(networks):
        logits = sliding_window_logits(
            network,
            image,
            plan,
            num_classes=num_classes,
            overlap=overlap,
            mirror_axes=mirror_axes,
            batch_size=batch_size,
            bfloat16=bfloat16,
            on_progress=_part_of(on_progress, done, len(networks)),
        )
        with torch.inference_mode():
            probabilities = softmax_(logits)
            mean = probabilities if mean is None else mean.add_(probabilities)
    with torch.inference_mode():
        result: Tensor = mean.div_(len(networks)) if len(networks) > 1 else mean  # type: ignore[union-attr,assignment]
        return result


def softmax_(logits: Float[Tensor, "classes i j k"]) -> Float[Tensor, "classes i j k"]:
    """Turn logits into probabilities over the first axis, in place, and return them.

    Rows of the first spatial axis are done one by one, so that nothing of the array's own size is needed beside it.
    """
    for row in range(logits.shape[1]):
        logits[:, row] = logits[:, row].softmax(0)
    return logits


def window_starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """Return the first voxels of the evenly spread patches that cover one axis.

    Args:
        size: Voxels of the scan along the axis.
        patch: Voxels of the patch.
        overlap: Part of the patch that neighbours share at least.

    Returns:
        Increasing starts; the first is 0 and the last ends the axis. Only 0 where the patch is the larger one.

    Example:
        >>> window_starts(110, 64, 0.5)
        (0, 23, 46)
        >>> window_starts(10, 64, 0.5)
        (0,)
    """
    last = size - patch
    if last <= 0:
        return (0,)
    # The step is at least one voxel, however large the overlap.
    steps = math.ceil(last / max(1.0, patch * (1 - overlap)))
    return tuple(round(last * step / steps) for step in range(steps + 1))


def window_count(shape: Sequence[int], plan: NetworkPlan, *, overlap: float = 0.5, batch_size: int = 1) -> int:
    """Return how often the network runs over a prepared scan of this spatial shape, without mirroring."""
    return _Windows.over(tuple(shape), plan, overlap).count(batch_size)


@dataclass(frozen=True)
class _Axis:
    """The patches along one axis and their blending weights, which sum to one at every voxel.

    A product of Gaussians summed over a product of starts is the product of the sums along each axis. So the weights
    are normalised axis by axis, and no map of summed weights is kept.
    """

    size: int
    patch: int
    starts: tuple[int, ...]
    weights: tuple[Tensor, ...]

    @staticmethod
    def over(size: int, patch: int, overlap: float) -> "_Axis":
        starts = window_starts(size, patch, overlap)
        length = min(size, patch)
        place = np.arange(length) - (length - 1) / 2
        bell = np.exp(-0.5 * (place / (patch * _SIGMA_OF_PATCH)) ** 2)
        total = np.zeros(size)
        for start in starts:
            total[start : start + length] += bell
        weights = [torch.from_numpy((bell / total[start : start + length]).astype(np.float32)) for start in starts]
        return _Axis(size, patch, starts, tuple(weights))

    @property
    def length(self) -> int:
        return min(self.size, self.patch)

    @property
    def padding(self) -> tuple[int, int]:
        """Voxels that a patch lacks before and after."""
        missing = self.patch - self.length
        return missing // 2, missing - missing // 2


@dataclass(frozen=True)
class _Windows:
    """Where patches lie: the network's axes of the scan, in order, and for a 2D network the axis of the slices."""

    axes: tuple[int, ...]
    along: tuple[_Axis, ...]
    slice_axis: int | None
    slices: int

    @staticmethod
    def over(shape: tuple[int, ...], plan: NetworkPlan, overlap: float) -> "_Windows":
        slice_axis = plan.slice_axis if plan.dimensions == 2 else None
        axes = plan.scan_axes
        along = tuple(
            _Axis.over(shape[axis], patch, overlap) for axis, patch in zip(axes, plan.patch_size, strict=True)
        )
        return _Windows(axes, along, slice_axis, 1 if slice_axis is None else shape[slice_axis])

    def places(self) -> Iterator[tuple[int, ...]]:
        """The index of the patch along each of the network's axes."""
        return itertools.product(*(range(len(axis.starts)) for axis in self.along))

    def count(self, batch_size: int) -> int:
        patches = math.prod(len(axis.starts) for axis in self.along)
        return (
            math.ceil(patches / batch_size)
            if self.slice_axis is None
            else patches * math.ceil(self.slices / batch_size)
        )


def _accumulate(
    network: Network,
    scan: Tensor,
    logits: Tensor,
    windows: _Windows,
    batch_size: int,
    device: torch.device,
    tell: Callable[[float], None],
    on_batch: OnBatch | None,
) -> None:
    """Add the weighted logits of every patch to `logits`."""
    if windows.slice_axis is None:
        inputs, sums = scan[None], logits[None]
        jobs = [(place, 0, 1) for place in windows.places()]
    else:
        # The slices take the place of the batch.
        inputs, sums = (array.movedim(windows.slice_axis + 1, 0) for array in (scan, logits))
        cuts = [(first, min(first + batch_size, windows.slices)) for first in range(0, windows.slices, batch_size)]
        jobs = [(place, *cut) for place in windows.places() for cut in cuts]
    group = batch_size if windows.slice_axis is None else 1
    for first in range(0, len(jobs), group):
        chosen = jobs[first : first + group]
        patches = [_patch(inputs, windows, *job) for job in chosen]
        batch = (patches[0] if len(patches) == 1 else torch.cat(patches)).to(device)
        output = network(batch)
        scores = (output[0] if isinstance(output, tuple) else output).to(logits.device, torch.float32)
        if scores.shape != (len(batch), logits.shape[0], *batch.shape[2:]):
            msg = (
                f"expected logits of shape {(len(batch), logits.shape[0], *batch.shape[2:])} for a batch of shape "
                f"{tuple(batch.shape)}, got {tuple(scores.shape)}; check the number of classes and the patch size"
            )
            raise ValueError(msg)
        for job, part in zip(chosen, torch.split(scores, [len(patch) for patch in patches]), strict=True):
            _add(sums, part, windows, *job)
        if on_batch is not None:
            on_batch(batch, torch.cat([_shares(windows, *job) for job in chosen]).to(device))
        tell(min(1.0, (first + group) / len(jobs)))


def _region(windows: _Windows, place: tuple[int, ...], first: int, last: int) -> tuple[slice, ...]:
    spans = (slice(a.starts[n], a.starts[n] + a.length) for a, n in zip(windows.along, place, strict=True))
    return slice(first, last), slice(None), *spans


def _patch(inputs: Tensor, windows: _Windows, place: tuple[int, ...], first: int, last: int) -> Tensor:
    patch = inputs[_region(windows, place, first, last)]
    padding = [side for axis in reversed(windows.along) for side in axis.padding]
    return functional.pad(patch, padding) if any(padding) else patch.contiguous()


def _add(sums: Tensor, part: Tensor, windows: _Windows, place: tuple[int, ...], first: int, last: int) -> None:
    inner = (slice(axis.padding[0], axis.padding[0] + axis.length) for axis in windows.along)
    weight = _weight(windows, place, sums.device)
    sums[_region(windows, place, first, last)].addcmul_(part[(slice(None), slice(None), *inner)], weight)


def _weight(windows: _Windows, place: tuple[int, ...], device: torch.device) -> Tensor:
    weight = torch.ones((), device=device)
    for axis, number in zip(windows.along, place, strict=True):
        weight = weight[..., None] * axis.weights[number].to(device)
    return weight


def _shares(windows: _Windows, place: tuple[int, ...], first: int, last: int) -> Tensor:
    """Return what a job's voxels count in the result, one map a row of its batch, 0 in the padding."""
    weight = _weight(windows, place, torch.device("cpu"))
    padding = [side for axis in reversed(windows.along) for side in axis.padding]
    return functional.pad(weight, padding).expand(last - first, *(axis.patch for axis in windows.along))


def _check(plan: NetworkPlan, overlap: float, mirror_axes: Sequence[int], batch_size: int) -> None:
    if not 0 <= overlap < 1:
        msg = f"expected an overlap in [0, 1), got {overlap}; 0.5 is usual"
        raise ValueError(msg)
    if len(plan.patch_size) != plan.dimensions:
        msg = f"expected a patch of {plan.dimensions} sides, got {plan.patch_size}; mend the plan"
        raise ValueError(msg)
    if len(set(mirror_axes)) != len(mirror_axes) or not set(mirror_axes) <= {0, 1, 2}:
        msg = f"expected mirror axes out of 0, 1, 2, each at most once, got {tuple(mirror_axes)}"
        raise ValueError(msg)
    if batch_size < 1:
        msg = f"expected a batch of at least one patch, got {batch_size}"
        raise ValueError(msg)


def _devices(network: Network, scan: Tensor, num_classes: int, *, passes: int) -> tuple[torch.device, torch.device]:
    """Return where the network works and where the sums are kept."""
    parameter = next(network.parameters(), None) if isinstance(network, torch.nn.Module) else None
    device = scan.device if parameter is None else parameter.device
    if device.type != "cuda":
        return device, device
    needed = 4 * num_classes * scan[0].numel() * (1 if passes == 1 else 3)
    free, _ = torch.cuda.mem_get_info(device)
    return device, device if _MARGIN_OF_DEVICE_MEMORY * needed < free else torch.device("cpu")


def _autocast(device: torch.device, *, enabled: bool) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if enabled else nullcontext()


def _part_of(on_progress: Callable[[float], None] | None, done: int, total: int) -> Callable[[float], None]:
    def tell(part: float) -> None:
        if on_progress is not None:
            on_progress((done + part) / total)

    return tell
