"""What each score of a case means, in the words that reports print."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class MetricDefinition:
    """One metric, as a reader needs it.

    Attributes:
        title: The full name.
        formula: How it is computed, as plain text.
        unit: ``fraction`` (in [0, 1]), ``length`` (mm, or voxels where voxel sizes are not real) or ``volume`` (ml, or
            voxels).
        better: Which values are better; ``zero`` where both directions are errors.
        reference: Where it comes from.
    """

    title: str
    formula: str
    unit: Literal["fraction", "length", "volume"]
    better: Literal["higher", "lower", "zero"]
    reference: str


METRICS: Final[dict[str, MetricDefinition]] = {
    "dice": MetricDefinition(
        title="Dice similarity coefficient",
        formula="2 |R and P| / (|R| + |P|), counted in voxels; R is the reference, P the prediction.",
        unit="fraction",
        better="higher",
        reference="Dice, Measures of the amount of ecologic association between species, Ecology 1945.",
    ),
    "iou": MetricDefinition(
        title="Intersection over union (Jaccard index)",
        formula="|R and P| / |R or P|, counted in voxels.",
        unit="fraction",
        better="higher",
        reference="Jaccard, The distribution of the flora in the alpine zone, New Phytologist 1912.",
    ),
    "nsd": MetricDefinition(
        title="Normalised surface distance (surface Dice)",
        formula=(
            "(area of R's surface within the tolerance of P's surface + area of P's surface within the tolerance of "
            "R's surface) / (area of both surfaces). The surfaces are those of marching cubes: one element at each "
            "corner between voxels, with its area in square millimetres; a distance equal to the tolerance is within."
        ),
        unit="fraction",
        better="higher",
        reference=(
            "Nikolov et al., Clinically applicable segmentation of head and neck anatomy for radiotherapy, JMIR 2021."
        ),
    ),
    "hd95": MetricDefinition(
        title="95th percentile of the Hausdorff distance",
        formula=(
            "The larger of two percentiles: the distance to P's surface within which 95 % of R's surface area lies, "
            "and the same with R and P exchanged. Other conventions (pooled, deepmind, monai, medpy) are available "
            "by name and give different numbers for the same masks."
        ),
        unit="length",
        better="lower",
        reference=(
            "Huttenlocher et al., Comparing images using the Hausdorff distance, IEEE TPAMI 1993; the conventions are "
            "compared by Podobnik and Vrtovec, arXiv 2410.02630."
        ),
    ),
    "assd": MetricDefinition(
        title="Average symmetric surface distance",
        formula=("The mean distance to the other surface over the surfaces of R and P together, weighted by area."),
        unit="length",
        better="lower",
        reference="Heimann et al., Comparison and evaluation of methods for liver segmentation, IEEE TMI 2009.",
    ),
    "volume_error": MetricDefinition(
        title="Volume error",
        formula="Volume of P minus volume of R; negative where the prediction is too small.",
        unit="volume",
        better="zero",
        reference="",
    ),
}
"""The metrics of a case, by the name of their column."""
