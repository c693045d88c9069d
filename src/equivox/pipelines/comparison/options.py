"""What a comparison is asked to do; fixed before anything is compared and written into its summary."""

from pydantic import Field

from equivox.options import Options


class CompareOptions(Options):
    """The settings of a comparison.

    Attributes:
        margin: The difference in the primary endpoint that matters; a larger one can be ruled out.
        minimum_patients: With fewer patients there is no interval and no test.
        confidence: Of the intervals; the tests' level is one minus it.
        bootstrap_draws: Resamples behind each interval and each ranking.
        permutation_draws: Patterns of signs behind each test.
        seed: Of both.
    """

    margin: float = Field(default=0.05, gt=0, lt=1)
    minimum_patients: int = Field(default=10, ge=5)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    bootstrap_draws: int = Field(default=4999, ge=199)
    permutation_draws: int = Field(default=9999, ge=199)
    seed: int = Field(default=0, ge=0)

    @property
    def level(self) -> float:
        """The level of the tests."""
        return round(1 - self.confidence, 12)
