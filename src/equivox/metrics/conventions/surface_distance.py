"""The package surface-distance: Dice, and distances between the corners of voxels, weighted by surface area."""

from typing import Final

import numpy as np

from equivox.metrics.conventions.averaging import Averaging
from equivox.metrics.conventions.class_masks import ClassMasks
from equivox.metrics.conventions.convention import Convention, ToolMetric, ToolValue
from equivox.metrics.masks.overlap import dice
from equivox.metrics.masks.surface import surface_scores

# One of the two directed means is infinite and the other 0/0: their mean is NaN.
_ONE_EMPTY: Final = {"dice": 0.0, "nsd": 0.0, "hd95": np.inf, "hd": np.inf, "masd": np.nan}
_BOTH_EMPTY: Final = {"dice": np.nan, "nsd": np.nan, "hd95": np.inf, "hd": np.inf, "masd": np.nan}


def _values(pair: ClassMasks, tolerance: float) -> dict[str, ToolValue]:
    if pair.outcome == "both_empty":
        return dict(_BOTH_EMPTY)
    if pair.outcome != "scored":
        return dict(_ONE_EMPTY)
    surface = surface_scores(pair.reference, pair.prediction, pair.spacing_mm, tolerance_mm=tolerance, hd95="deepmind")
    return {
        "dice": dice(*pair.counts),
        "nsd": surface.nsd,
        "hd95": surface.hd95_mm,
        "hd": surface.hd_mm,
        "masd": surface.masd_mm,
    }


SURFACE_DISTANCE: Final = Convention(
    title="surface-distance",
    version="surface-distance 0.1",
    rules=(
        "Distances run between the corners of voxels at which the surfaces pass, each weighted by the area of the "
        "surface there. HD95 (compute_robust_hausdorff at 95) is the larger of the two directed percentiles, HD the "
        "same at 100.",
        "NSD (compute_surface_dice_at_tolerance) is the share of both surfaces' area within the tolerance of this "
        "evaluation.",
        "HD95 and HD are infinite where a mask is empty, also where both are. Dice and NSD are 0 where one is empty "
        "and NaN where both are. Under NumPy 2 or later version 0.1 stops with an error on most empty masks; these are "
        "the values that it gives under earlier ones.",
        "MASD is the mean of the two numbers of compute_average_surface_distance; NaN where a mask is empty.",
        "There is no mean in surface-distance. The mean here is that over classes of the mean over cases, and leaves "
        "out NaN but not infinity.",
    ),
    missing_prediction="It is given masks by a script; a case without a prediction is not among them.",
    metrics={
        "dice": ToolMetric("Dice", "fraction"),
        "nsd": ToolMetric("NSD", "fraction", "surface_convention"),
        "hd95": ToolMetric("HD95", "length", "surface_convention"),
        "hd": ToolMetric("HD", "length", "surface_convention"),
        "masd": ToolMetric("MASD", "length", "surface_convention"),
    },
    values=_values,
    averaging=Averaging("cases", "skip", "the mean over classes of the mean over cases"),
)
"""The functions of surface-distance, which has no settings."""
