"""From a loss of each voxel to one of each sample."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

VoxelMean = Literal["voxels", "classes"]
"""``voxels``: the mean of all voxels. ``classes``: the mean over the classes that a sample's label has of the mean over
the voxels of each, so that a small structure counts as much as the background."""


def voxel_mean(
    values: Float[Tensor, " batch *spatial"], label: Int[Tensor, " batch *spatial"], classes: int, over: VoxelMean
) -> Float[Tensor, " batch"]:
    """Return the mean of each sample's values.

    Args:
        values: One a voxel.
        label: Class of each voxel.
        classes: How many there are.
        over: What is averaged; see `VoxelMean`.

    Example:
        >>> values, label = torch.tensor([[1.0, 1.0, 1.0, 5.0]]), torch.tensor([[0, 0, 0, 2]])
        >>> float(voxel_mean(values, label, 3, "voxels")), float(voxel_mean(values, label, 3, "classes"))
        (2.0, 3.0)
    """
    flat, where = values.flatten(1), label.flatten(1).long()
    if over == "voxels":
        return flat.mean(1)
    sums = flat.new_zeros(len(flat), classes).scatter_add(1, where, flat)
    counts = flat.new_zeros(len(flat), classes).scatter_add(1, where, torch.ones_like(flat))
    present = counts > 0
    means = torch.where(present, sums / counts.clamp(min=1), 0.0)
    result: Tensor = means.sum(1) / present.sum(1)
    return result
