"""What several tools report for one case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Integer

from equivox.metrics.conventions.catalog import CONVENTIONS, Tool, check_tools
from equivox.metrics.conventions.class_masks import background_counts, class_masks
from equivox.metrics.conventions.convention import ToolValue
from equivox.metrics.masks.label_maps import check_lengths, check_maps

BACKGROUND: Final = "background"
"""The class of what is of no class, where a tool scores that too."""


@dataclass(frozen=True)
class ReportedValue:
    """What a tool gives for one metric of one class.

    Attributes:
        tool: A key of `CONVENTIONS`.
        class_name: The class, or `BACKGROUND`.
        metric: A key of the convention's metrics.
        value: A number, NaN, infinity, or None where the tool stops with an error. Distances in mm, or in voxels where
            the tool measures in those.
    """

    tool: Tool
    class_name: str
    metric: str
    value: ToolValue


def reported_values(
    reference: Integer[np.ndarray, "i j k"],
    prediction: Integer[np.ndarray, "_ _ _"],
    *,
    classes: Mapping[str, int],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    tools: Sequence[Tool],
) -> list[ReportedValue]:
    """Return what each tool reports for a predicted label map, class by class, computed by our own code.

    The distances between the boundaries of a class are found once for all tools that need them. An image with one voxel
    along an axis is 2D, as it is for `score_case`.

    Args:
        reference: Class indices. A 2D image has one voxel along k.
        prediction: Class indices on the same grid.
        classes: Name to index. Other indices count as background.
        spacing_mm: Voxel sides along i, j, k in mm; 1, 1, 1 gives every distance in voxels.
        tolerance_mm: Of NSD, for the tools that leave it to their user.
        tools: Keys of `CONVENTIONS`.

    Raises:
        InputError: If the maps are not integer arrays of one shape, the spacing or tolerance is not usable, or there is
            no such tool.

    Example:
        A structure that is missed, and how MONAI and MedPy report its HD95.

        >>> truth, guess = np.zeros((2, 4, 4, 3), dtype=np.uint8)
        >>> truth[1, 1, 1] = 1
        >>> values = reported_values(
        ...     truth, guess, classes={"lesion": 1}, spacing_mm=(1.0, 1.0, 3.0), tolerance_mm=1.0,
        ...     tools=("monai", "medpy"),
        ... )
        >>> [(one.tool, one.value) for one in values if one.metric == "hd95"]
        [('monai', nan), ('medpy', None)]
    """
    check_maps(reference, prediction)
    check_lengths(spacing_mm, tolerance_mm)
    check_tools(tools)
    rows: list[ReportedValue] = []
    for pair in class_masks(reference, prediction, classes=classes, spacing_mm=spacing_mm):
        for tool in tools:
            values = CONVENTIONS[tool].values(pair, tolerance_mm)
            rows += [ReportedValue(tool, pair.class_name, metric, value) for metric, value in values.items()]
    rest = [tool for tool in tools if CONVENTIONS[tool].background is not None]
    # Where 0 is a class of its own, it is what these tools call background.
    if rest and 0 not in classes.values() and BACKGROUND not in classes:
        counts = background_counts(reference, prediction, sorted(set(classes.values())))
        for tool in rest:
            background = CONVENTIONS[tool].background
            if background is not None:
                values = background(counts)
                rows += [ReportedValue(tool, BACKGROUND, metric, value) for metric, value in values.items()]
    return rows
