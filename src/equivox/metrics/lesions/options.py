"""How lesions are told apart, matched and reported."""

from typing import Final

from pydantic import Field, field_validator, model_validator

from equivox.metrics.lesions.components import Connectivity
from equivox.metrics.lesions.matching import DEFAULT_THRESHOLDS, MatchPolicy, MatchRule
from equivox.options import Options


class LesionOptions(Options):
    """The settings of lesion-wise detection; where voxel sizes are not real, every mm and mm3 is a voxel.

    Attributes:
        connectivity: Which voxels touch; see `Connectivity`.
        minimum_volume_mm3: Components of less volume, in the reference or in the prediction, are set apart and counted;
            0 keeps all. A detection of such a reference lesion is neither right nor wrong.
        minimum_short_axis_mm: Reference lesions with a smaller short axis are set apart as well; 0 keeps all. It does
            not apply to detections: one that is drawn a little too small must not turn its lesion into a missed one.
        match: When a detection finds a lesion; see `MatchRule`.
        threshold: Of the rules ``dice`` (0.1 where not given), ``iou`` (0.5) and ``cover`` (0.5), to be exceeded.
        policy: Whether several detections of one lesion are joined; see `MatchPolicy`.
        strata_short_axis_mm: Rising edges of the strata by short axis; a lesion of 10 mm belongs to "10 to 15 mm". The
            default edges are those of lymph nodes in RECIST 1.1.
        panoptic_threshold: The IoU that two instances must exceed to be one in panoptic quality.
    """

    connectivity: Connectivity = 26
    minimum_volume_mm3: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    minimum_short_axis_mm: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    match: MatchRule = "dice"
    threshold: float | None = Field(default=None, ge=0, lt=1)
    policy: MatchPolicy = "one_to_one"
    strata_short_axis_mm: tuple[float, ...] = (10.0, 15.0)
    panoptic_threshold: float = Field(default=0.5, ge=0, lt=1)

    @field_validator("strata_short_axis_mm")
    @classmethod
    def _edges_rise(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < edge < float("inf") for edge in edges) or list(edges) != sorted(set(edges)):
            msg = "expected rising numbers above 0; put them in order"
            raise ValueError(msg)
        return edges

    @model_validator(mode="after")
    def _threshold_is_used(self) -> "LesionOptions":
        if self.threshold is not None and self.match not in DEFAULT_THRESHOLDS:
            msg = f"expected no threshold with the rule '{self.match}', got {self.threshold:g}; leave it out"
            raise ValueError(msg)
        return self


LYMPHOMA_CRITERIA: Final[dict[str, LesionOptions]] = {
    "C1": LesionOptions(match="any_overlap", policy="merge"),
    "C2": LesionOptions(match="iou", threshold=0.5, policy="one_to_one"),
    "C3": LesionOptions(match="suvmax", policy="merge"),
}
"""Three detection criteria for lymphoma lesions on PET (Ahamed et al., 2023): any overlap, IoU above 0.5 with the best
detection, and the voxel of the highest uptake covered."""
