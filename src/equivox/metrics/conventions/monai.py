"""MONAI's metrics: overlap, and the distances between boundary voxels."""

from typing import Final

import numpy as np

from equivox.metrics.conventions.averaging import Averaging
from equivox.metrics.conventions.class_masks import BoundaryDistances, ClassMasks, VoxelCounts
from equivox.metrics.conventions.convention import Convention, ToolMetric, ToolValue
from equivox.metrics.masks.overlap import dice, iou

# MONAI takes the percentile by interpolating between two infinities, which is NaN; the maximum is infinite.
_ONE_EMPTY: Final = {"nsd": 0.0, "hd95": np.nan, "hd": np.inf, "assd": np.inf, "asd": np.inf}


def boundary_nsd(distances: BoundaryDistances, tolerance: float) -> float:
    """Return the share of both masks' boundary voxels that lie within the tolerance of the other boundary.

    Each voxel counts once. A distance equal to the tolerance is within.

    Args:
        distances: Those of the two boundaries.
        tolerance: In their unit.
    """
    bound = tolerance * (1 + 1e-6)  # the distances have the precision of float32
    within = sum(int(np.count_nonzero(apart <= bound)) for apart in distances)
    return within / sum(len(apart) for apart in distances)


def _overlap(counts: VoxelCounts) -> dict[str, ToolValue]:
    if not counts.reference:
        return {"dice": np.nan, "iou": np.nan}
    return {"dice": dice(*counts), "iou": iou(*counts)}


def _values(pair: ClassMasks, tolerance: float) -> dict[str, ToolValue]:
    overlap = _overlap(pair.counts)
    if pair.outcome == "both_empty":
        return overlap | dict.fromkeys(_ONE_EMPTY, np.nan)
    if pair.outcome != "scored":
        return overlap | _ONE_EMPTY
    apart = pair.distances
    return overlap | {
        "nsd": boundary_nsd(apart, tolerance),
        "hd95": max(float(np.percentile(directed, 95)) for directed in apart),
        "hd": max(float(directed.max()) for directed in apart),
        "assd": float(np.concatenate(apart).mean()),
        "asd": float(apart.from_prediction.mean()),
    }


MONAI: Final = Convention(
    title="MONAI",
    version="monai 1.6.1, monai.metrics",
    rules=(
        "DiceMetric and MeanIoU score the background as a class unless include_background=False is given; the "
        "surface metrics leave it out.",
        "Dice and IoU are NaN where the reference is empty, also where the prediction is not: a structure that is "
        "found where there is none is left out of their mean.",
        "HD95 (HausdorffDistanceMetric with percentile=95) is NaN where a mask is empty: a missed structure is left "
        "out of the mean. HD, its default, and the average distance are then infinite, and so is their mean.",
        "NSD (SurfaceDiceMetric) counts boundary voxels and not surface area (use_subvoxels=False), at the tolerance "
        "of this evaluation; it is 0 where one mask is empty and NaN where both are.",
        "Distances run between the centres of boundary voxels; HD95 is the larger of the two directed percentiles. "
        "ASSD is SurfaceDistanceMetric with symmetric=True, ASD its default: from the prediction to the reference "
        "alone. The voxel sides are passed as spacing; without, all is in voxels.",
        "The mean (reduction='mean') is that over cases of the mean over classes, NaN left out; where nothing is "
        "left it is 0.",
    ),
    missing_prediction="It is given masks by a script; a case without a prediction is not among them.",
    metrics={
        "dice": ToolMetric("Dice", "fraction"),
        "iou": ToolMetric("IoU", "fraction"),
        "nsd": ToolMetric("NSD", "fraction", "surface_convention"),
        "hd95": ToolMetric("HD95", "length", "surface_convention"),
        "hd": ToolMetric("HD", "length", "surface_convention"),
        "assd": ToolMetric("ASSD", "length", "surface_convention"),
        "asd": ToolMetric("ASD", "length"),
    },
    values=_values,
    averaging=Averaging("classes", "skip", "the mean over cases of the mean over each one's classes", of_nothing=0.0),
    background=_overlap,
)
"""The metrics of MONAI with the settings of their classes, but for those that the rules name."""
