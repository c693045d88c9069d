"""nnU-Net's evaluator: Dice and IoU from voxel counts."""

from typing import Final

import numpy as np

from equivox.metrics.conventions.averaging import Averaging
from equivox.metrics.conventions.class_masks import ClassMasks
from equivox.metrics.conventions.convention import Convention, ToolMetric, ToolValue
from equivox.metrics.masks.overlap import dice, iou


def _values(pair: ClassMasks, tolerance: float) -> dict[str, ToolValue]:
    del tolerance
    if pair.outcome == "both_empty":
        return {"dice": np.nan, "iou": np.nan}
    return {"dice": dice(*pair.counts), "iou": iou(*pair.counts)}


NNUNET: Final = Convention(
    title="nnU-Net",
    version="nnunetv2 2.8.1, evaluation.evaluate_predictions",
    rules=(
        "Dice and IoU are counted in voxels; there are no distances.",
        "A structure that is in neither mask has NaN and is left out of the mean; one that is in a single mask scores "
        "0.",
        "The foreground mean is the mean over classes of the mean over cases; it is NaN if a class is in neither mask "
        "of any case. The background is not in it.",
        "The masks are compared voxel by voxel whatever their headers say about where they lie.",
    ),
    missing_prediction=(
        "nnUNetv2_evaluate_folder and nnUNetv2_evaluate_simple stop when a prediction is missing; with --chill they "
        "score the predictions that exist and leave out the others, and so do these numbers."
    ),
    metrics={"dice": ToolMetric("Dice", "fraction"), "iou": ToolMetric("IoU", "fraction")},
    values=_values,
    averaging=Averaging("cases", "class", "the mean over classes of the mean over cases"),
)
"""Dice and IoU as `summary.json` of nnU-Net has them."""
