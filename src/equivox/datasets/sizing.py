"""How large the network, its patch and its batch are: by rule, within a memory budget."""

import math
from collections.abc import Sequence

from equivox.datasets.plan import NetworkPlan

MAX_STAGES = 5
"""Resolutions of the network: those of the U-Net and of U-Net++ (16 times coarser at the bottom)."""
SMALLEST_SIDE = 4
"""Voxels along each axis of the coarsest resolution, at least."""
MOST_SIDE_2D = 256
SMALLEST_PATCH_SIDE = 16
MOST_BATCH = {2: 8, 3: 2}
MOST_FEATURES = {2: 512, 3: 320}
WIDE_BUDGET_GIB = 16.0
"""From this budget on networks start with 32 features and 3D patches have up to 128^3 voxels, as on a graphics card;
below it 16 features and 64^3 voxels, so that two cores of a laptop take seconds, not minutes, for a step."""
PROCESS_MIB = 900
"""Python with torch and MONAI, before the first step."""


def size_network(
    dimensions: int,
    *,
    shape: Sequence[float],
    spacing: Sequence[float],
    in_channels: int,
    classes: int,
    memory_gib: float,
    slice_axis: int = 2,
) -> NetworkPlan:
    """Choose patch, batch, features and strides.

    A 2D patch covers the median slice, up to 256 pixels a side; a 3D patch has equal extents in millimetres where the
    scan allows. Where the estimate exceeds the budget, first the batch shrinks to two, then the patch along the axis
    that covers most of the scan.

    Args:
        dimensions: 2 or 3.
        shape: Median voxels of the prepared scans along the network's axes.
        spacing: Their voxel sizes; only ratios count.
        in_channels: Channels of the image.
        classes: Background included.
        memory_gib: What one training step may take.
        slice_axis: Axis of the scan that 2D slices are cut across.

    References:
        Isensee et al., "nnU-Net", Nature Methods 2021, for the rules on patch and strides, which these follow.
    """
    wide = memory_gib >= WIDE_BUDGET_GIB
    if dimensions == 2:
        patch = [min(float(MOST_SIDE_2D), side) for side in shape]
    else:
        patch = _box(shape, spacing, (128.0 if wide else 64.0) ** 3)
    batch = MOST_BATCH[dimensions]
    base = 32 if wide else 16
    while True:
        strides = network_strides(patch, spacing)
        sides = _fit(patch, strides)
        features = tuple(min(base * 2**stage, MOST_FEATURES[dimensions]) for stage in range(len(strides)))
        memory = estimate_memory_mib(sides, batch, features, strides, in_channels, classes)
        long = [axis for axis in range(dimensions) if sides[axis] > SMALLEST_PATCH_SIDE]
        if memory <= memory_gib * 1024 or (batch == 1 and not long):
            break
        if batch > 2 or not long:
            batch -= 1
        else:
            widest = max(long, key=lambda axis: (sides[axis] / shape[axis], sides[axis]))
            patch = [float(side) for side in sides]
            patch[widest] -= math.prod(stride[widest] for stride in strides)
    return NetworkPlan(
        dimensions=2 if dimensions == 2 else 3,
        slice_axis=slice_axis,
        patch_size=sides,
        batch_size=batch,
        features=features,
        strides=strides,
        memory_mib=memory,
    )


def network_strides(patch: Sequence[float], spacing: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """Return the downsampling of each stage: an axis is halved while it is long enough and not coarser than the others.

    Example:
        >>> network_strides((160.0, 160.0, 20.0), (1.0, 1.0, 5.0))
        ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    """
    sides, steps = [float(side) for side in patch], [float(step) for step in spacing]
    strides = [(1,) * len(sides)]
    while len(strides) < MAX_STAGES:
        long = [axis for axis, side in enumerate(sides) if side >= 2 * SMALLEST_SIDE]
        finest = min((steps[axis] for axis in long), default=0.0)
        halved = [axis for axis in long if steps[axis] < 2 * finest]
        if not halved:
            break
        strides.append(tuple(2 if axis in halved else 1 for axis in range(len(sides))))
        for axis in halved:
            sides[axis] = math.ceil(sides[axis] / 2)
            steps[axis] *= 2
    return tuple(strides)


def estimate_memory_mib(
    patch: Sequence[int],
    batch: int,
    features: Sequence[int],
    strides: Sequence[Sequence[int]],
    in_channels: int,
    classes: int,
) -> int:
    """Estimate the peak memory of one float32 training step of a U-Net++ with deep supervision, the largest we ship.

    At each resolution but the coarsest it has a row of nodes; each joins what the row has so far with what comes up
    from below, and convolves twice. For the way back, each convolution keeps its input and its normalised output; each
    head keeps logits, probabilities and a one-hot label. Weights are counted six times: with gradient, two moments of
    Adam, the moving average, and a buffer. A quarter is added to the activations for the library's own buffers.

    Returns:
        MiB, the process itself included.
    """
    stages = len(strides)
    voxels = float(math.prod(patch) * batch)
    values, weights = voxels * in_channels, 0.0
    kernel = 3 ** len(patch)
    heads = max(stages - 1, 1)
    values += voxels * classes * heads * 4
    for stage in range(stages):
        voxels /= math.prod(strides[stage])
        width = features[stage]
        below = features[stage - 1] if stage else in_channels
        values += voxels * (below + 4 * width)
        weights += kernel * width * (below + width)
        for node in range(1, stages - stage):
            joined = width * (node + 1)
            # The upsampled tensor, the joined one, and two convolutions with their norms.
            values += voxels * (width + joined + 4 * width)
            weights += kernel * width * (joined + width) + 2 ** len(patch) * width * features[stage + 1]
    return PROCESS_MIB + math.ceil((values * 4 * 1.25 + weights * 4 * 6) / 2**20)


def _box(shape: Sequence[float], spacing: Sequence[float], voxels: float) -> list[float]:
    """Return sides of about `voxels` in all and, where the scan is long enough, of equal extent in millimetres."""
    sides = [float(side) for side in shape]
    free = list(range(len(sides)))
    while free:
        fixed = math.prod(side for axis, side in enumerate(sides) if axis not in free)
        edge = (voxels / fixed * math.prod(spacing[axis] for axis in free)) ** (1 / len(free))
        short = [axis for axis in free if edge / spacing[axis] >= shape[axis]]
        if not short:
            for axis in free:
                sides[axis] = edge / spacing[axis]
            break
        free = [axis for axis in free if axis not in short]
    return sides


def _fit(patch: Sequence[float], strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Round the sides up to what the strides divide; a smaller scan is padded."""
    divisors = [math.prod(axis) for axis in zip(*strides, strict=True)]
    return tuple(
        max(1, math.ceil(side / divisor - 1e-6)) * divisor for side, divisor in zip(patch, divisors, strict=True)
    )
