"""What is known about how another tool scores: its values, its mean, its rules in words."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from equivox.metrics.conventions.averaging import Averaging
from equivox.metrics.conventions.class_masks import ClassMasks, VoxelCounts

ToolValue = float | None
"""What a tool gives for a class of a case: a number, maybe NaN or infinite; None where it stops with an error."""

ValueState = Literal["number", "nan", "infinite", "error"]
"""The kinds of `ToolValue`."""


@dataclass(frozen=True)
class ToolMetric:
    """One metric as a tool has it.

    Attributes:
        label: Short name.
        unit: A ``fraction``; a ``length`` in the unit of our own distances; or ``voxels``, whatever their size.
        differs_by: Why the tool's value is not ours where both masks have the class; a key of `REASONS`.
    """

    label: str
    unit: Literal["fraction", "length", "voxels"]
    differs_by: Literal["surface_convention", "voxel_units", "other_tolerance", "definition"] = "definition"


@dataclass(frozen=True)
class Convention:
    """One tool's way of scoring, as it is unless its user changes it.

    Attributes:
        title: The tool.
        version: What its behaviour was checked against.
        rules: Its rules, as sentences.
        missing_prediction: What becomes of a case without a prediction, as a sentence.
        metrics: What it reports.
        values: Called with a pair of masks and the tolerance (in mm, or voxels), returns the value of each metric.
        averaging: How it makes one mean of all values.
        background: The same for what is of no class, where the tool scores that too.
    """

    title: str
    version: str
    rules: tuple[str, ...]
    missing_prediction: str
    metrics: Mapping[str, ToolMetric]
    values: Callable[[ClassMasks, float], dict[str, ToolValue]]
    averaging: Averaging
    background: Callable[[VoxelCounts], dict[str, ToolValue]] | None = None


def state_of(value: ToolValue) -> ValueState:
    """Name the kind of a value.

    Example:
        >>> [state_of(value) for value in (0.5, math.nan, math.inf, None)]
        ['number', 'nan', 'infinite', 'error']
    """
    if value is None:
        return "error"
    if math.isnan(value):
        return "nan"
    return "infinite" if math.isinf(value) else "number"
