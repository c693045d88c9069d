"""Whether a scan, once prepared, has room in the memory of this machine."""

import math
from collections.abc import Sequence

import psutil

from equivox.datasets.plan import PreprocessingPlan
from equivox.errors import InputError
from equivox.volume import Grid
from equivox.volume.orientation import reorient_affine, turn_axes
from equivox.volume.resample import resized_shape

_LEAST_KEPT = 1 / 8
"""Of the voxels, by cropping: half of them along each axis. A head in its box keeps a third."""


def require_room(
    shape: tuple[int, int, int], spacing_mm: Sequence[float], plan: PreprocessingPlan, *, kept: float = 1.0
) -> None:
    """Refuse a voxel size that makes a scan larger than the memory.

    Args:
        shape: Voxels of the scan along the turned axes.
        spacing_mm: Their size.
        plan: What would be done.
        kept: The share of the voxels that cropping leaves, at least.

    Raises:
        InputError: If preparing it takes more memory than the machine has.
    """
    wanted = tuple(target or own for own, target in zip(spacing_mm, plan.spacing_mm, strict=True))
    prepared = resized_shape(shape, spacing_mm, wanted)
    # In float32 there are at once at least the image, what it is made from, and the same again for a label.
    gib = kept * math.prod(prepared) * 4 * (2 * plan.image_channels + 2) / 2**30
    memory_gib = psutil.virtual_memory().total / 2**30
    if gib > memory_gib:
        target, own = (" x ".join(f"{side:.3g}" for side in sides) for sides in (wanted, spacing_mm))
        msg = (
            f"spacing_mm: expected a prepared scan that the {memory_gib:.1f} GiB of this machine's memory can hold, "
            f"got {' x '.join(map(str, prepared))} voxels of {target} mm, which take {gib:,.0f} GiB (the scan's own "
            f"are {own} mm); raise preprocessing.spacing_mm in plan.yaml, or use a machine with more memory"
        )
        raise InputError(msg)


def require_room_by_header(grid: Grid, plan: PreprocessingPlan) -> None:
    """Refuse a scan by its header alone, where no crop that is to be expected would help.

    Raises:
        InputError: As of `require_room`.
    """
    turns = turn_axes(grid.affine, plan.orientation)
    i, j, k = (grid.shape[source] for source, _ in turns)
    turned = Grid((i, j, k), reorient_affine(grid.affine, grid.shape, turns))
    require_room(turned.shape, turned.spacing_mm, plan, kept=_LEAST_KEPT if plan.crop == "nonzero" else 1.0)
