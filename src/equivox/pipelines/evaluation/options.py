"""What an evaluation is asked to do; fixed before anything is scored and written into the summary."""

from typing import Any, Final, Literal

from pydantic import Field, field_validator

from equivox.definitions import DEFAULT_FAMILIES, MetricFamily, metric_keys
from equivox.metrics.conventions.catalog import CONVENTIONS, Tool
from equivox.metrics.lesions.options import LesionOptions
from equivox.metrics.masks.empty import EmptyPolicy
from equivox.metrics.masks.surface import HD95Convention
from equivox.options import Options

CASE_MIX: Final = ("volume", "slice_thickness", "site")
"""What the case mix is by default; the first two are of the scans, the last is the attribute of that name, if any."""


class EvaluateOptions(Options):
    """The settings of an evaluation.

    Attributes:
        primary_endpoint: What the verdicts are about: a patient's mean over cases of the mean over classes.
        margin: The difference in the primary endpoint that matters; a larger one can be ruled out.
        tolerance: Of NSD: how far two surfaces may lie apart, in mm (in voxels where sizes are not real).
        empty: How structures are scored that are missing from the reference, the prediction or both.
        hd95: The convention of the distances: HD95 as the larger of the two directed percentiles (``directed_max``), of
            both directions pooled, or as another tool has it.
        metrics: The families of metrics to compute; Dice must be among them.
        compat: Tools whose own numbers for the same masks stand beside ours.
        reconcile: Explain, structure by structure, why their means differ from ours; without `compat`, of all tools.
        lesions: How lesions are told apart, matched and counted; None does not count them.
        equity_scale: The s of the equity-scaled form of distances, ``mean (1 + gaps / s)``, in mm (in voxels where
            sizes are not real): gaps that add up to it double the score. No length is natural: without one declared,
            distances have no such form.
        case_mix: What the differences between groups are adjusted for, beside the raw ones: ``volume`` (of the
            reference), ``slice_thickness`` (where voxel sizes are real), and names of attributes.
        intersections: The attributes to cross: all ``pairs``, or lists of two names or more.
        failure_threshold: A patient whose primary endpoint lies below it counts as a failure.
        minimum_group: Groups of fewer patients get no interval and no test.
        confidence: Of the intervals; the tests' level is one minus it.
        interval: Of means: ``bootstrap_t``, or ``bca`` (narrower, and covering less in small samples).
        strata: An attribute whose groups are resampled each in itself for the intervals over all patients, as if every
            new sample had as many patients of each group; None resamples all patients together.
        permute_within: An attribute, such as the site, within whose groups patients are permuted; None permutes freely.
        bootstrap_draws: Resamples behind each interval.
        permutation_draws: Permutations behind the tests.
        simulation_repeats: Samples and tables that are simulated from these patients, to say what the intervals and the
            tests are worth.
        seed: Of all of them.
    """

    primary_endpoint: Literal["dice"] = "dice"
    margin: float = Field(default=0.05, gt=0, lt=1)
    tolerance: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    empty: EmptyPolicy = "penalise"
    hd95: HD95Convention = "directed_max"
    metrics: tuple[MetricFamily, ...] = DEFAULT_FAMILIES
    compat: tuple[Tool, ...] = ()
    reconcile: bool = False
    lesions: LesionOptions | None = None
    equity_scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    case_mix: tuple[str, ...] = CASE_MIX
    intersections: Literal["pairs"] | tuple[tuple[str, ...], ...] = "pairs"
    failure_threshold: float = Field(default=0.5, ge=0, le=1)
    minimum_group: int = Field(default=10, ge=5)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    interval: Literal["bootstrap_t", "bca"] = "bootstrap_t"
    strata: str | None = None
    permute_within: str | None = None
    bootstrap_draws: int = Field(default=4999, ge=199, le=1_000_000)
    permutation_draws: int = Field(default=9999, ge=199, le=1_000_000)
    simulation_repeats: int = Field(default=2000, ge=100)
    seed: int = Field(default=0, ge=0)

    @field_validator("metrics")
    @classmethod
    def _has_the_endpoint(cls, chosen: tuple[MetricFamily, ...]) -> tuple[MetricFamily, ...]:
        if "overlap" not in chosen:
            msg = "expected 'overlap' among them, as the primary endpoint is the Dice; add it"
            raise ValueError(msg)
        return tuple(dict.fromkeys(chosen))

    @field_validator("intersections")
    @classmethod
    def _cross_two_or_more(cls, chosen: Any) -> Any:
        for names in () if chosen == "pairs" else chosen:
            if len(set(names)) < 2 or len(set(names)) < len(names):
                msg = "expected two different attributes or more in each crossing; name them, such as sex,age"
                raise ValueError(msg)
        return chosen

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools whose numbers are computed too."""
        return tuple(dict.fromkeys(self.compat)) or (tuple(CONVENTIONS) if self.reconcile else ())

    @property
    def scores(self) -> tuple[str, ...]:
        """The metrics of the chosen families, in the order to show them."""
        return metric_keys(self.metrics)
