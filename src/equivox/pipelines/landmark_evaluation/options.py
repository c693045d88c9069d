"""What an evaluation of landmarks is asked to do; fixed before anything is measured and written into the summary."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from equivox.metrics.landmarks import SUCCESS_RADII_MM
from equivox.options import Options

Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class LandmarkOptions(Options):
    """The settings of `equivox evaluate-landmarks`.

    Attributes:
        unit: Of the coordinates in both tables, and so of every distance.
        radii: Distances at which success is counted, rising; groups are compared in the success at the first. Empty:
            2, 2.5, 3 and 4 mm; for pixels there is no custom to follow, so they must be given.
        failure_radius: A patient fails unless more than half of the landmarks lie within it; None: the last of `radii`.
        margin: The difference in mean error that matters; None: no difference is said to lie inside a margin.
        bootstrap_draws: Resamples behind each interval.
        permutation_draws: Permutations behind each p-value.
        seed: Of both.
        confidence: Of the intervals; the level of the tests is one minus it.
        minimum_group: Fewer patients get no interval and no test.
    """

    unit: Literal["mm", "pixels"] = "mm"
    radii: tuple[Length, ...] = ()
    failure_radius: Length | None = None
    margin: Length | None = None
    bootstrap_draws: int = Field(default=4999, ge=199)
    permutation_draws: int = Field(default=9999, ge=199)
    seed: int = Field(default=0, ge=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    minimum_group: int = Field(default=10, ge=5)

    @model_validator(mode="after")
    def _radii_rise(self) -> "LandmarkOptions":
        if not self.radii and self.unit == "pixels":
            msg = "expected the distances in pixels at which success is counted, got none; give one or more"
            raise ValueError(msg)
        if list(self.radii) != sorted(set(self.radii)):
            msg = f"expected radii that rise, each once, got {list(self.radii)}; put them in order"
            raise ValueError(msg)
        return self

    @property
    def success_radii(self) -> tuple[float, ...]:
        """The radii that are used."""
        return self.radii or SUCCESS_RADII_MM

    @property
    def fails_beyond(self) -> float:
        """The failure radius that is used."""
        return self.failure_radius or self.success_radii[-1]
