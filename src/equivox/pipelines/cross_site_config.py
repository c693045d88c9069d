"""What a comparison across sites is asked to do: the YAML file of `equivox cross-site`."""

from typing import Final, Literal

from pydantic import Field, field_validator, model_validator

from equivox.metrics.lesions.options import LesionOptions
from equivox.metrics.masks.empty import EmptyPolicy
from equivox.metrics.masks.surface import HD95Convention
from equivox.metrics.statistics.cross_site import PoolKind
from equivox.options import Options
from equivox.pipelines.crossing.measures import MEASURES, WIDE_NSD, asked_of
from equivox.pipelines.training_config import TrainingConfig

Covariate = Literal["lesion_volume", "slice_thickness"]

EXAMPLE: Final = """\
# What 'equivox cross-site' compares. Paths start at the folder of this file.
cohort: cohort            # A cohort folder: cohort.csv and cohort.yaml.
site: site                # The attribute of cohort.yaml that says where a patient was scanned.
minimum_patients: 20      # Sites with fewer patients are tested on, never trained on.
folds: 5                  # Of each site, by patient, balanced by lesion volume.
seed: 0                   # Of the folds, the size-matched draws and the statistics.
budget: full              # full: every fold; lite: fold 0 alone, without size-matched rows.
# rows: [own, pool, pool_matched, leave_out]   # Also leave_out_matched.
matched_draws: 3          # Random subsets behind each size-matched row.
# The first is the endpoint; the others are exploratory. Also lesion_recall, lesion_false_positives, ece.
metrics: [dice, nsd, nsd_wide, hd95, volume_error]
tolerance: 2.0            # Of NSD, in mm (voxels where sizes are not real).
wide_tolerance: 3.0       # Of nsd_wide: does a gap remain where borders are drawn otherwise?
empty: penalise           # How structures are scored that one or both masks lack.
case_mix: [lesion_volume, slice_thickness]   # What gaps are also adjusted for.
# lesion_class: lesion    # Whose volume and lesions count; all classes by default.
# lesions: {match: any_overlap}   # How lesions are told apart and matched.
# label_protocol: annotator       # The attribute that says how the masks were drawn.
# memory_gib: 4           # What a training step may take; by default it goes by the machine.
training:                 # Any option of 'equivox train' (its config.yaml); the same for every row.
  model: {name: unetpp}
  dims: 2d
  steps: 1000
"""
"""A configuration to begin with."""


class CrossSiteConfig(Options):
    """The settings of a comparison across sites.

    Attributes:
        cohort: The cohort folder; a relative path starts at the folder of the configuration.
        site: The attribute that says at which site a patient was scanned.
        minimum_patients: Sites with fewer patients are for testing only.
        folds: Of each site.
        seed: Of the folds, the size-matched draws and the statistics.
        rows: The training pools; None takes own, pool, pool_matched and leave_out, with a lite budget without
            pool_matched.
        matched_draws: Random subsets behind each size-matched row.
        budget: ``lite`` trains and tests fold 0 alone.
        metrics: Keys of `MEASURES`; the first is the endpoint. A signed error counts by its size.
        tolerance: Of NSD, in mm (in voxels where sizes are not real).
        wide_tolerance: Of the second NSD: what remains of a gap at a wider tolerance is less one of how borders are
            drawn.
        empty: How structures are scored that are missing from the reference, the prediction or both.
        hd95: The convention of the distances.
        lesions: How lesions are told apart and matched, for the metrics that count them.
        lesion_class: The class whose volume balances the folds and is regressed out, and whose lesions are counted;
            None takes all classes.
        label_protocol: The attribute that says by which protocol a reference was drawn; None knows of none.
        case_mix: What gaps are also adjusted for.
        duplicates: What to do about patients of whom the same scan is there twice: stop, or say so and go on.
        minimum_group: Sites of fewer patients get no interval and no test, and so do groups.
        confidence: Of the intervals.
        bootstrap_draws: Resamples behind each interval.
        permutation_draws: Sign flips, and permutations of groups.
        memory_gib: What a training step may take; None goes by the machine.
        overlap: Of the sliding window in prediction.
        training: How every row is trained.
    """

    cohort: str
    site: str = "site"
    minimum_patients: int = Field(default=20, ge=4)
    folds: int = Field(default=5, ge=2)
    seed: int = Field(default=0, ge=0, lt=2**32)
    rows: tuple[PoolKind, ...] | None = None
    matched_draws: int = Field(default=3, ge=1)
    budget: Literal["full", "lite"] = "full"
    metrics: tuple[str, ...] = ("dice", "nsd", "nsd_wide", "hd95", "volume_error")
    tolerance: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    wide_tolerance: float = Field(default=3.0, ge=0, allow_inf_nan=False)
    empty: EmptyPolicy = "penalise"
    hd95: HD95Convention = "directed_max"
    lesions: LesionOptions = Field(default_factory=LesionOptions)
    lesion_class: str | None = None
    label_protocol: str | None = None
    case_mix: tuple[Covariate, ...] = ("lesion_volume", "slice_thickness")
    duplicates: Literal["refuse", "warn"] = "refuse"
    minimum_group: int = Field(default=10, ge=5)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    bootstrap_draws: int = Field(default=2000, ge=199)
    permutation_draws: int = Field(default=9999, ge=199)
    memory_gib: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    overlap: float = Field(default=0.5, ge=0, lt=1)
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @field_validator("metrics")
    @classmethod
    def _are_known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [key for key in metrics if key not in MEASURES]
        if unknown or not metrics:
            got = f"'{unknown[0]}'" if unknown else "none"
            msg = f"expected some of {', '.join(MEASURES)}, got {got}; choose among them"
            raise ValueError(msg)
        return tuple(dict.fromkeys(metrics))

    @field_validator("rows")
    @classmethod
    def _begin_with_own(cls, rows: tuple[PoolKind, ...] | None) -> tuple[PoolKind, ...] | None:
        if rows is not None and "own" not in rows:
            msg = "expected 'own' among them, as every contrast is with the sites' own models; add it"
            raise ValueError(msg)
        return rows if rows is None else tuple(dict.fromkeys(rows))

    @model_validator(mode="after")
    def _rows_are_trained_alike(self) -> "CrossSiteConfig":
        if self.training.max_minutes is not None:
            msg = "training.max_minutes: expected none, as rows would be trained for unequal steps; write steps"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _measures_can_be_taken(self) -> "CrossSiteConfig":
        if WIDE_NSD in self.metrics and self.wide_tolerance <= self.tolerance:
            msg = (
                f"wide_tolerance: expected more than the tolerance, {self.tolerance:g}, got {self.wide_tolerance:g}; "
                f"widen it, or leave {WIDE_NSD} out of the metrics"
            )
            raise ValueError(msg)
        if asked_of(self.metrics, "lesions") and self.lesions.match == "suvmax":
            msg = "lesions.match: expected a rule that asks for no image, got 'suvmax'; take any_overlap, dice or cover"
            raise ValueError(msg)
        return self

    @property
    def kinds(self) -> tuple[PoolKind, ...]:
        """The kinds of training pools, in the order to show them."""
        order: tuple[PoolKind, ...] = ("own", "pool", "pool_matched", "leave_out", "leave_out_matched")
        default = {"own", "pool", "leave_out"} | ({"pool_matched"} if self.budget == "full" else set())
        return tuple(kind for kind in order if kind in (default if self.rows is None else self.rows))

    @property
    def trained_folds(self) -> tuple[int, ...]:
        """The folds that models are trained and tested for."""
        return (0,) if self.budget == "lite" else tuple(range(self.folds))
