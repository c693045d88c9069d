"""What is audited, and how."""

from typing import Literal

from pydantic import Field, field_validator

from equivox.metrics.fairness.erasure import MOST_DIRECTIONS
from equivox.models.catalog import Layer
from equivox.options import Options


class AuditOptions(Options):
    """The settings of `equivox audit`.

    Attributes:
        attributes: Attributes of the cohort to probe; empty: all of them.
        site: The attribute that names the site: labels are then shuffled within it, and a probe of the other attributes
            is also scored on sites that it was not fitted to.
        features: Layers whose features are probed, the bottleneck first; the erasure works at the bottleneck.
        shortcuts: Attributes of two groups, such as a catheter in the scan: performance with and without, among
            patients whose lesions are alike in volume.
        folds: Folds whose networks are audited, of those that are trained; None takes all.
        erasure: Numbers of directions to project out at the bottleneck while segmenting again; empty: not done.
        random_sets: Sets of as many random directions that each number is compared with.
        permutations: Shuffles of the labels behind each p.
        draws: Resamples of patients behind each interval.
        seed: Of everything random, the untrained network included.
        overlap: Part of a patch that neighbouring patches share, at least.
        batch_size: Patches, or slices of a 2D network, at once; None takes 1 in 3D and 4 in 2D.
        bfloat16: Run the networks in bfloat16.
        device: ``auto`` takes the graphics card where there is one.
    """

    attributes: tuple[str, ...] = ()
    site: str | None = None
    features: tuple[Layer, ...] = ("bottleneck",)
    shortcuts: tuple[str, ...] = ()
    folds: tuple[int, ...] | None = None
    erasure: tuple[int, ...] = ()
    random_sets: int = Field(default=2, ge=1)
    permutations: int = Field(default=200, ge=19)
    draws: int = Field(default=1999, ge=199)
    seed: int = Field(default=0, ge=0, lt=2**32)
    overlap: float = Field(default=0.5, ge=0, lt=1)
    batch_size: int | None = Field(default=None, ge=1)
    bfloat16: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("features")
    @classmethod
    def _bottleneck_first(cls, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        if layers[:1] != ("bottleneck",) or len(set(layers)) < len(layers):
            msg = "expected 'bottleneck' first and each layer once; give bottleneck or bottleneck,last_decoder"
            raise ValueError(msg)
        return layers


LARGEST_ERASURE = MOST_DIRECTIONS
"""More directions than this are refused: with them little of the features is left."""
