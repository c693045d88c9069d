"""MedPy's metrics: overlap, and the distances between boundary voxels, both directions in one pool."""

from typing import Final

import numpy as np

from equivox.metrics.conventions.averaging import Averaging
from equivox.metrics.conventions.class_masks import BoundaryDistances, ClassMasks
from equivox.metrics.conventions.convention import Convention, ToolMetric, ToolValue
from equivox.metrics.masks.overlap import dice, iou


def pooled_hd95(distances: BoundaryDistances) -> float:
    """Return one 95th percentile over the boundary voxels of both masks together, linearly interpolated."""
    return float(np.percentile(np.concatenate(distances), 95))


def _values(pair: ClassMasks, tolerance: float) -> dict[str, ToolValue]:
    del tolerance
    if pair.outcome == "both_empty":
        # 0/0 of NumPy's scalars and of Python's, which are caught, are not the same.
        overlap = {"dice": np.nan, "iou": 1.0}
    else:
        overlap = {"dice": dice(*pair.counts), "iou": iou(*pair.counts)}
    if pair.outcome != "scored":
        return {**overlap, "hd95": None, "hd": None, "assd": None, "asd": None}
    apart = pair.distances
    both = np.concatenate(apart)
    return {
        **overlap,
        "hd95": pooled_hd95(apart),
        "hd": float(both.max()),
        "assd": float(both.mean()),
        "asd": float(apart.from_prediction.mean()),
    }


MEDPY: Final = Convention(
    title="MedPy",
    version="MedPy 0.5.2, medpy.metric.binary, with NumPy 2.4",
    rules=(
        "Dice and IoU are 0 where one mask is empty. Where both are, Dice is NaN and IoU is 1 (with NumPy before 2.4 "
        "both are 1).",
        "HD95, HD, ASSD and ASD raise an error where a mask is empty.",
        "Distances run between the centres of boundary voxels, those that share a face with a voxel outside "
        "(connectivity=1). HD95 is one percentile over both directions together. ASD runs from the prediction to the "
        "reference alone. The voxel sides are passed as voxelspacing; without, all is in voxels.",
        "There is no mean in MedPy. The mean here is that over classes of the mean over cases, and leaves out NaN and "
        "errors, as a script does that goes on after one; other scripts put 0 or a large number in their place.",
    ),
    missing_prediction="It is given masks by a script; a case without a prediction is not among them.",
    metrics={
        "dice": ToolMetric("Dice", "fraction"),
        "iou": ToolMetric("IoU", "fraction"),
        "hd95": ToolMetric("HD95", "length", "surface_convention"),
        "hd": ToolMetric("HD", "length", "surface_convention"),
        "assd": ToolMetric("ASSD", "length", "surface_convention"),
        "asd": ToolMetric("ASD", "length"),
    },
    values=_values,
    averaging=Averaging("cases", "skip", "the mean over classes of the mean over cases"),
)
"""The functions of MedPy with their own settings, but for the voxel sides."""
