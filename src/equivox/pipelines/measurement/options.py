"""What is measured, and how the patients are then compared."""

from pydantic import Field

from equivox.options import Options


class MeasureOptions(Options):
    """The settings of `equivox measure`.

    Attributes:
        erode_mm: Only voxels farther than this from the structure's edge count for the intensities.
        border_voxels: A structure with a voxel in so many outer layers of the image counts as cut off.
        adjust_for: Attributes whose share is taken out of the adjusted associations; empty: all categorical ones.
        minimum_group: Fewer patients get no interval and no test.
        confidence: Of the intervals.
        draws: Resamples and permutations.
        seed: Of both.
    """

    erode_mm: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    border_voxels: int = Field(default=1, ge=1)
    adjust_for: tuple[str, ...] = ()
    minimum_group: int = Field(default=10, ge=5)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    draws: int = Field(default=1999, ge=199)
    seed: int = Field(default=0, ge=0)
