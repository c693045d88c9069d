"""What an evaluation is asked to do; fixed before anything is scored and written into the summary."""

from typing import Literal

from pydantic import Field

from equivox.metrics.masks.empty import EmptyPolicy
from equivox.metrics.masks.surface import HD95Convention
from equivox.options import Options


class EvaluateOptions(Options):
    """The settings of an evaluation.

    Attributes:
        primary_endpoint: What the verdicts are about: a patient's mean over cases of the mean over classes.
        margin: The difference in the primary endpoint that matters; a larger one can be ruled out.
        tolerance: Of NSD: how far two surfaces may lie apart, in mm (in voxels where sizes are not real).
        empty: How structures are scored that are missing from the reference, the prediction or both.
        hd95: The convention of HD95: the larger of the two directed percentiles, or both directions pooled.
        failure_threshold: A patient whose primary endpoint lies below it counts as a failure.
        minimum_group: Groups of fewer patients get no interval and no test.
        confidence: Of the intervals; the tests' level is one minus it.
        bootstrap_draws: Resamples behind each interval.
        permutation_draws: Permutations behind the tests.
        seed: Of both.
    """

    primary_endpoint: Literal["dice"] = "dice"
    margin: float = Field(default=0.05, gt=0, lt=1)
    tolerance: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    empty: EmptyPolicy = "penalise"
    hd95: HD95Convention = "directed_max"
    failure_threshold: float = Field(default=0.5, ge=0, le=1)
    minimum_group: int = Field(default=10, ge=5)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    bootstrap_draws: int = Field(default=4999, ge=199)
    permutation_draws: int = Field(default=9999, ge=199)
    seed: int = Field(default=0, ge=0)
