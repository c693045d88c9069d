"""How many workers fit into the memory: all of them at once may meet the largest case."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from equivox.errors import InputError
from equivox.volume import read_grid

logger = logging.getLogger(__name__)

PROCESS_GIB = 0.25
"""A worker with its imports, before its first case."""

BYTES_PER_VOXEL = 24
"""Of a case whose structure fills the image: both masks as read and as cropped, surfaces, and a distance map."""

_SHARE = 0.8


MAP_BYTES_PER_VOXEL = 20
"""On top of that for one class's map of probabilities: as stored and as read, and the regions to look at it in."""


def workers_within(
    masks: Sequence[Path], workers: int, memory_gib: float | None = None, *, further_bytes_per_voxel: int = 0
) -> int:
    """Return how many workers may go through the cases at once, at least one.

    Only headers are read. So the peak depends on the largest case and not on how many cases there are.

    Args:
        masks: One file a case; one that cannot be read is left to those who read it whole.
        workers: How many are wanted.
        memory_gib: What all workers together may take; None for 80 % of what is free.
        further_bytes_per_voxel: Of a case, on top of `BYTES_PER_VOXEL`.
    """
    workers = min(workers, max(1, len(masks)))
    if workers <= 1:
        return 1
    import psutil

    cap_gib = memory_gib or _SHARE * psutil.virtual_memory().available / 2**30
    largest = max((_voxels(path) for path in masks), default=0)
    each_gib = PROCESS_GIB + largest * (BYTES_PER_VOXEL + further_bytes_per_voxel) / 2**30
    fitting = max(1, min(workers, int(cap_gib / each_gib)))
    if fitting < workers:
        logger.info(
            "%d of %d workers, as each may take %.1f GiB for the largest case and %.1f GiB are free; "
            "--memory-gib allows more",
            fitting,
            workers,
            each_gib,
            cap_gib,
        )
    return fitting


def _voxels(path: Path) -> int:
    try:
        return math.prod(read_grid(path).shape)
    except (InputError, OSError):
        return 0
