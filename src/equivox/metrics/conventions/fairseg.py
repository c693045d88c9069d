"""The evaluation in FairSeg's released code: distances in pixels, and numbers in place of what is not defined."""

from typing import Final

import numpy as np

from equivox.metrics.conventions.averaging import Averaging
from equivox.metrics.conventions.class_masks import ClassMasks
from equivox.metrics.conventions.convention import Convention, ToolMetric, ToolValue
from equivox.metrics.conventions.medpy import pooled_hd95
from equivox.metrics.conventions.monai import boundary_nsd
from equivox.metrics.masks.empty import Outcome
from equivox.metrics.masks.overlap import dice, iou

_TOLERANCE_PIXELS: Final = 5.0
_EMPTY: Final[dict[Outcome, dict[str, float]]] = {
    "missed": {"dice": 0.0, "iou": 0.0, "hd95": 0.0, "asd": 0.0, "nsd": 0.0},
    "false_positive": {"dice": 1.0, "iou": 1.0, "hd95": 0.0, "asd": 0.0, "nsd": 0.0},
    "both_empty": {"dice": 0.0, "iou": 0.0, "hd95": 0.0, "asd": 0.0, "nsd": np.nan},
}


def _values(pair: ClassMasks, tolerance: float) -> dict[str, ToolValue]:
    del tolerance
    if pair.outcome != "scored":
        return dict(_EMPTY[pair.outcome])
    apart = pair.in_voxels.distances
    return {
        "dice": dice(*pair.counts),
        "iou": iou(*pair.counts),
        "hd95": pooled_hd95(apart),
        "asd": float(apart.from_prediction.mean()),
        "nsd": boundary_nsd(apart, _TOLERANCE_PIXELS),
    }


FAIRSEG: Final = Convention(
    title="FairSeg",
    version="the released code at commit 7ebec8d, TransUNet/inference.py and utils.py",
    rules=(
        "A structure that is found where there is none scores Dice 1, IoU 1 and HD95 0, as if it were perfect.",
        "A missed structure, and one that is in neither mask, scores Dice 0, IoU 0 and HD95 0: the distance of a miss "
        "is the best there is.",
        "HD95 and ASD are those of MedPy in pixels, whatever their size; ASD runs from the prediction to the "
        "reference alone.",
        "NSD is that of MONAI, which counts boundary pixels, at 5 pixels whatever tolerance is asked for; it is NaN "
        "where both masks are empty, and so is its mean then.",
        "Every image counts alike, whoever it is of: the mean is that over classes of the mean over images. The code "
        "prints it class by class; its overall mean also has a third class in it that no image has, which is left "
        "out here.",
        "Equity-scaled Dice and IoU come from these image means; an image of unknown group is in the overall mean and "
        "in no group's.",
        "The code scores on the network's grid; here it is that of the reference.",
    ),
    missing_prediction="It predicts what it scores; a case without a prediction does not occur, and is left out here.",
    metrics={
        "dice": ToolMetric("Dice", "fraction"),
        "iou": ToolMetric("IoU", "fraction"),
        "nsd": ToolMetric("NSD", "fraction", "other_tolerance"),
        "hd95": ToolMetric("HD95", "voxels", "voxel_units"),
        "asd": ToolMetric("ASD", "voxels"),
    },
    values=_values,
    averaging=Averaging("cases", "any", "the mean over classes of the mean over images"),
)
"""What the evaluation of FairSeg prints."""
