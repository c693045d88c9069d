"""What each score of a structure means, in the words that reports print: one table for those who compute and show."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

MetricKind = Literal["fraction", "distance", "volume", "relative", "count"]
"""A fraction in [0, 1]; a distance in mm or voxels; a volume in ml, mm2 or voxels; a ratio that may be any number; a
count."""

MetricFamily = Literal["overlap", "surface", "volume", "centreline", "topology"]
"""Metrics that are computed together; an evaluation chooses among them."""

DEFAULT_FAMILIES: Final[tuple[MetricFamily, ...]] = ("overlap", "surface", "volume")


@dataclass(frozen=True)
class MetricDefinition:
    """One metric of a structure, as a reader needs it.

    Attributes:
        label: Short name, as in a table's head.
        title: Full name.
        formula: Definition in symbols, with R for the reference, P for the prediction and ∂ for a surface.
        details: What the symbols leave open, as sentences.
        kind: Chooses digits and unit.
        better: Which values are better; ``zero`` where both directions are errors.
        family: What it is computed with.
        needs: The mask that must not be empty for it to be defined, where exactly one of the two is.
        version: Rises whenever the same masks would give another number.
        reference: Where it comes from.
    """

    label: str
    title: str
    formula: str
    details: str
    kind: MetricKind
    better: Literal["high", "low", "zero"]
    family: MetricFamily
    needs: Literal["either", "reference", "prediction"] = "either"
    version: int = 1
    reference: str = ""


_CONNECTIVITY: Final = (
    "Voxels touch across faces, edges and corners, the background across faces; outside of the image is background."
)

METRICS: Final[dict[str, MetricDefinition]] = {
    "dice": MetricDefinition(
        label="Dice",
        title="Dice overlap",
        formula="2 |R ∩ P| / (|R| + |P|)",
        details="Counted in voxels.",
        kind="fraction",
        better="high",
        family="overlap",
        reference="Dice, Ecology 1945",
    ),
    "iou": MetricDefinition(
        label="IoU",
        title="Intersection over union (Jaccard index)",
        formula="|R ∩ P| / |R ∪ P|",
        details="Counted in voxels.",
        kind="fraction",
        better="high",
        family="overlap",
        reference="Jaccard, New Phytologist 1912",
    ),
    "sensitivity": MetricDefinition(
        label="Sensitivity",
        title="Sensitivity (recall) of voxels",
        formula="|R ∩ P| / |R|",
        details="Not defined where the reference is empty.",
        kind="fraction",
        better="high",
        family="overlap",
        needs="reference",
        reference="Taha and Hanbury, BMC Medical Imaging 2015",
    ),
    "precision": MetricDefinition(
        label="Precision",
        title="Precision (positive predictive value) of voxels",
        formula="|R ∩ P| / |P|",
        details="Not defined where the prediction is empty.",
        kind="fraction",
        better="high",
        family="overlap",
        needs="prediction",
        reference="Taha and Hanbury, BMC Medical Imaging 2015",
    ),
    "nsd": MetricDefinition(
        label="NSD",
        title="Normalised surface Dice at a tolerance",
        formula="share of both surfaces that lies within the tolerance τ of the other one",
        details=(
            "The surfaces are those of marching cubes: one element at each corner between voxels, weighted by its "
            "area; a distance equal to the tolerance is within."
        ),
        kind="fraction",
        better="high",
        family="surface",
        reference="Nikolov et al., J Med Internet Res 2021",
    ),
    "hd95": MetricDefinition(
        label="HD95",
        title="95th percentile of the surface distance",
        formula="max( P₉₅ d(∂R → ∂P), P₉₅ d(∂P → ∂R) )",
        details="Other conventions are available by name and give different numbers for the same masks.",
        kind="distance",
        better="low",
        family="surface",
        reference="Huttenlocher et al., IEEE TPAMI 1993; conventions: Podobnik and Vrtovec, arXiv 2410.02630",
    ),
    "hd": MetricDefinition(
        label="HD",
        title="Hausdorff distance: the largest surface distance",
        formula="max( max d(∂R → ∂P), max d(∂P → ∂R) )",
        details="A single stray voxel decides it: read HD95 first.",
        kind="distance",
        better="low",
        family="surface",
        reference="Huttenlocher et al., IEEE TPAMI 1993",
    ),
    "assd": MetricDefinition(
        label="ASSD",
        title="Average symmetric surface distance",
        formula="mean of d(∂R → ∂P) and d(∂P → ∂R) over both surfaces",
        details="Both surfaces together, so that the larger one weighs more.",
        kind="distance",
        better="low",
        family="surface",
        reference="Heimann et al., IEEE TMI 2009",
    ),
    "masd": MetricDefinition(
        label="MASD",
        title="Mean average surface distance",
        formula="½ ( mean d(∂R → ∂P) + mean d(∂P → ∂R) )",
        details="Each direction weighs the same, whatever the size of its surface.",
        kind="distance",
        better="low",
        family="surface",
        reference="Beneš and Zitová, J Microscopy 2015",
    ),
    "volume_error": MetricDefinition(
        label="Volume error",
        title="Signed volume error",
        formula="|P| − |R|",
        details="Negative where the prediction is too small.",
        kind="volume",
        better="zero",
        family="volume",
    ),
    "relative_volume_error": MetricDefinition(
        label="Relative volume error",
        title="Signed volume error over the reference's volume",
        formula="( |P| − |R| ) / |R|",
        details="Negative where the prediction is too small; not defined where the reference is empty.",
        kind="relative",
        better="zero",
        family="volume",
        needs="reference",
        reference="Heimann et al., IEEE TMI 2009",
    ),
    "cldice": MetricDefinition(
        label="clDice",
        title="Centreline Dice",
        formula="2 T_P T_S / (T_P + T_S), T_P and T_S being topology precision and sensitivity",
        details="Centrelines S are skeletons one voxel wide, and are counted in voxels.",
        kind="fraction",
        better="high",
        family="centreline",
        reference="Shit et al., CVPR 2021",
    ),
    "topology_precision": MetricDefinition(
        label="Topology precision",
        title="Share of the predicted centreline inside the reference",
        formula="T_P = |S(P) ∩ R| / |S(P)|",
        details="Not defined where the prediction is empty.",
        kind="fraction",
        better="high",
        family="centreline",
        needs="prediction",
        reference="Shit et al., CVPR 2021",
    ),
    "topology_sensitivity": MetricDefinition(
        label="Topology sensitivity",
        title="Share of the reference's centreline inside the prediction",
        formula="T_S = |S(R) ∩ P| / |S(R)|",
        details="Not defined where the reference is empty.",
        kind="fraction",
        better="high",
        family="centreline",
        needs="reference",
        reference="Shit et al., CVPR 2021",
    ),
    "betti_0_error": MetricDefinition(
        label="Betti-0 error",
        title="Error in the number of connected pieces",
        formula="|β₀(P) − β₀(R)|",
        details=_CONNECTIVITY,
        kind="count",
        better="low",
        family="topology",
        reference="Clough et al., IEEE TPAMI 2022; connectivity: Kong and Rosenfeld, CVGIP 1989",
    ),
    "betti_1_error": MetricDefinition(
        label="Betti-1 error",
        title="Error in the number of tunnels (in 2D of holes)",
        formula="|β₁(P) − β₁(R)|",
        details=_CONNECTIVITY,
        kind="count",
        better="low",
        family="topology",
        reference="Clough et al., IEEE TPAMI 2022",
    ),
    "betti_2_error": MetricDefinition(
        label="Betti-2 error",
        title="Error in the number of cavities (in 2D always 0)",
        formula="|β₂(P) − β₂(R)|",
        details=_CONNECTIVITY,
        kind="count",
        better="low",
        family="topology",
        reference="Clough et al., IEEE TPAMI 2022",
    ),
    "betti_matching_error": MetricDefinition(
        label="Betti matching error",
        title="Pieces, tunnels and cavities of either mask without a partner in the other",
        formula="Σ_d β_d(R) + β_d(P) − 2 dim( im H_d(R) ∩ im H_d(P) in H_d(R ∪ P) )",
        details=(
            "Features match where they are the same in the union of the masks; the published count, which leaves one "
            "piece of each mask out, is available by name. Tunnels of a piece beyond 128 voxels a side are counted in "
            f"blocks. {_CONNECTIVITY}"
        ),
        kind="count",
        better="low",
        family="topology",
        reference="Stucki et al., ICML 2023; in 3D: arXiv 2407.04683",
    ),
}
"""The metrics of a structure, by the name of their column, in the order to show them."""


def metric_keys(families: Iterable[str]) -> tuple[str, ...]:
    """Return the metrics of some families, in the order to show them.

    Example:
        >>> metric_keys(["volume"])
        ('volume_error', 'relative_volume_error')
    """
    wanted = set(families)
    return tuple(key for key, definition in METRICS.items() if definition.family in wanted)


def families() -> tuple[str, ...]:
    """Return the names of all families."""
    return get_args(MetricFamily)
