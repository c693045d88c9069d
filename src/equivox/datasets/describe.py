"""Describe a cohort: sizes, spacings, intensities, volumes of the classes, patients of each group."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from equivox.datasets.check import examine_cohort
from equivox.datasets.check_case import QUANTILES, CaseFindings
from equivox.datasets.cohort import Cohort

MM3_PER_ML = 1000.0
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Spread:
    """Smallest, median and largest of some numbers."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class ChannelSummary:
    """One channel over all readable cases.

    Attributes:
        channel: Its name.
        modality: As in `cohort.yaml`.
        cases: Readable images.
        sizes: Voxels along i, j, k.
        spacings_mm: Along i, j, k; None where voxel sizes are nominal or unknown.
        intensities: Percentile (0, 1, 25, 50, 75, 99, 100) -> value, each case counting the same.
    """

    channel: str
    modality: str
    cases: int
    sizes: tuple[Spread, Spread, Spread]
    spacings_mm: tuple[Spread, Spread, Spread] | None
    intensities: Mapping[int, float]


@dataclass(frozen=True)
class ClassSummary:
    """One class over all labelled cases, by the first rater.

    Attributes:
        name: The class.
        present: Cases that have it.
        absent: Labelled cases that do not.
        volume: Over the cases that have it; None where no case has.
        unit: ``ml``, or ``voxels`` where voxel sizes are nominal or unknown.
    """

    name: str
    present: int
    absent: int
    volume: Spread | None
    unit: str


@dataclass(frozen=True)
class GroupCount:
    """Patients and cases of one group."""

    attribute: str
    group: str
    patients: int
    cases: int


@dataclass(frozen=True)
class Description:
    """What a cohort consists of.

    Attributes:
        cohort: Its name.
        patients: How many.
        cases: How many.
        labelled: Cases with a label that could be read.
        nominal_spacing: Whether voxel sizes are not real.
        channels: One summary a channel.
        classes: One summary a class.
        groups: One count for each group of each attribute, the unknown last.
        unreadable: One line for each file that could not be read and is in no number.
    """

    cohort: str
    patients: int
    cases: int
    labelled: int
    nominal_spacing: bool
    channels: tuple[ChannelSummary, ...]
    classes: tuple[ClassSummary, ...]
    groups: tuple[GroupCount, ...]
    unreadable: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the description as plain values."""
        return asdict(self)


def describe_cohort(cohort: Cohort, workers: int = 1) -> Description:
    """Read every file and summarise the cohort.

    Args:
        cohort: The cohort.
        workers: Processes to use.
    """
    findings, problems = examine_cohort(cohort, workers)
    readable = {str(image.path) for found in findings for image in found.images.values()}
    readable |= {str(label.path) for found in findings for label in found.labels.values()}
    unreadable = [p.line for p in problems if p.tier == "error" and p.case_id and p.file not in readable]
    in_voxels = not spacing_is_real(cohort, findings)
    summaries = (_summarise_channel(cohort, findings, name, in_voxels=in_voxels) for name in cohort.config.channels)
    return Description(
        cohort=cohort.config.name,
        patients=len(cohort.patients),
        cases=len(cohort.cases),
        labelled=sum(bool(found.labels) for found in findings),
        nominal_spacing=cohort.config.nominal_spacing,
        channels=tuple(summary for summary in summaries if summary is not None),
        classes=_summarise_classes(cohort, findings, in_voxels=in_voxels),
        groups=count_groups(cohort),
        unreadable=tuple(unreadable),
    )


def spacing_is_real(cohort: Cohort, findings: Sequence[CaseFindings]) -> bool:
    """Tell whether anything in mm or ml may be claimed of the labels."""
    known = all(label.spacing_known for found in findings for label in found.labels.values())
    return known and not cohort.config.nominal_spacing


def count_groups(cohort: Cohort) -> tuple[GroupCount, ...]:
    """Count patients and cases of each group of each declared attribute; a patient's group is that of a case."""
    counts = []
    for name, attribute in cohort.config.attributes.items():
        cases: Counter[str] = Counter()
        patients: dict[str, set[str]] = defaultdict(set)
        for case in cohort.cases:
            group = attribute.group_of(case.attributes[name]) or UNKNOWN
            cases[group] += 1
            patients[group].add(case.patient_id)
        ordered = [*attribute.sort_groups(set(cases) - {UNKNOWN}), *([UNKNOWN] if UNKNOWN in cases else [])]
        counts += [GroupCount(name, group, len(patients[group]), cases[group]) for group in ordered]
    return tuple(counts)


def _summarise_channel(
    cohort: Cohort, findings: Sequence[CaseFindings], channel: str, *, in_voxels: bool
) -> ChannelSummary | None:
    images = [found.images[channel] for found in findings if channel in found.images]
    if not images:
        return None
    shapes = np.array([image.grid.shape for image in images])
    spacings = np.array([image.grid.spacing_mm for image in images])
    known = not in_voxels and all(image.spacing_known for image in images)
    return ChannelSummary(
        channel=channel,
        modality=cohort.config.channels[channel].modality,
        cases=len(images),
        sizes=_spreads(shapes),
        spacings_mm=_spreads(spacings) if known else None,
        intensities=_pooled_percentiles([image.quantiles for image in images]),
    )


def _pooled_percentiles(quantiles: Sequence[np.ndarray]) -> dict[int, float]:
    """Return percentiles of all cases together, each case counting the same whatever its size."""
    if not quantiles:
        return {}
    # The values at evenly spaced quantiles are an even sample of a case.
    pooled = np.concatenate(quantiles)
    wanted = {percent: float(np.quantile(pooled, percent / 100)) for percent in (0, 1, 25, 50, 75, 99, 100)}
    if len(quantiles) == 1:
        wanted = {percent: float(np.interp(percent / 100, QUANTILES, quantiles[0])) for percent in wanted}
    return wanted


def _summarise_classes(
    cohort: Cohort, findings: Sequence[CaseFindings], *, in_voxels: bool
) -> tuple[ClassSummary, ...]:
    volumes: dict[str, list[float]] = {name: [] for name in cohort.config.classes}
    for found in findings:
        voxels = found.class_voxels(cohort.config)
        if voxels is not None:
            size = 1.0 if in_voxels else next(iter(found.labels.values())).grid.voxel_volume_mm3 / MM3_PER_ML
            for name, count in voxels.items():
                volumes[name].append(count * size)
    summaries = []
    for name, values in volumes.items():
        present = np.array([value for value in values if value > 0])
        spread = _spread(present) if present.size else None
        unit = "voxels" if in_voxels else "ml"
        summaries.append(ClassSummary(name, int(present.size), len(values) - int(present.size), spread, unit))
    return tuple(summaries)


def _spread(values: np.ndarray) -> Spread:
    return Spread(float(values.min()), float(np.median(values)), float(values.max()))


def _spreads(columns: np.ndarray) -> tuple[Spread, Spread, Spread]:
    return _spread(columns[:, 0]), _spread(columns[:, 1]), _spread(columns[:, 2])
