"""What patients are scored by across sites: metrics of structures, lesions found, and how right probabilities are."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from equivox.definitions import METRICS, MetricKind

Source = Literal["masks", "wide", "lesions", "probabilities"]
"""What it is taken from: both masks, the same at the wider tolerance, their lesions, or maps of probabilities."""

WIDE_NSD: Final = "nsd_wide"
LESION_RECALL: Final = "lesion_recall"
FALSE_POSITIVES: Final = "lesion_false_positives"
ECE: Final = "ece"


@dataclass(frozen=True)
class Measure:
    """One number a patient.

    Attributes:
        label: Short name.
        kind: Chooses digits and unit.
        better: Which values are better.
        source: What it is taken from.
        version: Rises whenever the same files would give another number.
        details: What a reader must know beyond the label.
    """

    label: str
    kind: MetricKind
    better: Literal["high", "low"]
    source: Source = "masks"
    version: int = 1
    details: str = ""


MEASURES: Final[dict[str, Measure]] = {
    key: Measure(one.label, one.kind, one.better, version=one.version)
    if one.better != "zero"
    else Measure(f"Absolute {one.label.lower()}", one.kind, "low", version=one.version)
    for key, one in METRICS.items()
} | {
    WIDE_NSD: Measure("NSD", METRICS["nsd"].kind, "high", "wide", METRICS["nsd"].version),
    LESION_RECALL: Measure(
        "Lesion recall",
        "fraction",
        "high",
        "lesions",
        details=(
            "lesions found of the lesions of a patient's cases, the mean over classes; patients without a lesion have "
            "none."
        ),
    ),
    FALSE_POSITIVES: Measure(
        "False detections per patient",
        "count",
        "low",
        "lesions",
        details="detections of no lesion, added up over a patient's cases and classes.",
    ),
    ECE: Measure(
        "ECE",
        "fraction",
        "low",
        "probabilities",
        details=(
            "expected calibration error of a class against all others near its mask in the reference or the "
            "prediction, from the bins of all of a patient's cases, the mean over classes; it stands above 0 even for "
            "right probabilities."
        ),
    ),
}
"""By the names that a configuration uses. A signed error counts by its size."""


def output_key(metric: str) -> str:
    """Return what a measure is called in the outputs: a signed error counts by its size.

    Example:
        >>> output_key("dice"), output_key("volume_error"), output_key("nsd_wide")
        ('dice', 'absolute_volume_error', 'nsd_wide')
    """
    return f"absolute_{metric}" if metric in METRICS and METRICS[metric].better == "zero" else metric


def asked_of(metrics: Iterable[str], source: Source) -> tuple[str, ...]:
    """Return those of some measures that are taken from one source.

    Example:
        >>> asked_of(["dice", "nsd_wide", "ece"], "wide")
        ('nsd_wide',)
    """
    return tuple(key for key in metrics if MEASURES[key].source == source)


def label_of(metric: str, *, tolerance: float, wide_tolerance: float, length_unit: str) -> str:
    """Return the label of a measure, with the tolerance where there is one.

    Example:
        >>> label_of("nsd", tolerance=2.0, wide_tolerance=3.0, length_unit="mm")
        'NSD at 2 mm'
    """
    reach = {"nsd": tolerance, WIDE_NSD: wide_tolerance}.get(metric)
    return MEASURES[metric].label if reach is None else f"{MEASURES[metric].label} at {reach:g} {length_unit}"
