"""The section on lesions, worked out from the summary: texts, marks and the FROC curve, ready for its template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

import equivox.reports.plots as plots
from equivox.definitions import MetricKind
from equivox.reports.counted import counted
from equivox.reports.froc_plot import froc_plot, point_text
from equivox.reports.numbers import Number, number, size_word, unit_text
from equivox.reports.views import Estimate, estimate

_AXIS: Final = plots.Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0), 2)
_THIRDS: Final = ("smallest", "middle", "largest")


@dataclass(frozen=True)
class DetectionRow:
    """Lesion-wise detection of a class or group."""

    name: str
    small: bool
    patients: int
    with_lesions: int
    lesions: int
    found: int
    recall: Estimate
    mark: Markup
    patient_recall: Estimate
    precision: Estimate
    f1: Estimate
    false_positives: Estimate
    matched_dice: Estimate
    pq: Estimate
    sq: Estimate
    rq: Estimate


@dataclass(frozen=True)
class StratumRow:
    """Detection of the lesions of one size."""

    name: str
    with_lesions: int
    lesions: int
    found: int
    recall: Estimate
    mark: Markup
    patient_recall: Estimate
    false_positives: Estimate


@dataclass(frozen=True)
class FrocView:
    """The FROC curve of a class, with what it says at each point of reading."""

    plot: Markup
    cpm: Estimate
    readings: Sequence[tuple[str, str]]
    words: str


@dataclass(frozen=True)
class LesionClassView:
    """All that is said about the lesions of one class."""

    overall: DetectionRow
    strata: Sequence[tuple[str, Sequence[StratumRow]]]
    groups: Sequence[tuple[str, Sequence[DetectionRow]]]
    froc: FrocView | None
    notes: Sequence[str]


@dataclass(frozen=True)
class LesionSection:
    """The section."""

    lead: str
    level: str
    minimum_group: int
    classes: Sequence[LesionClassView]
    axis: Markup


def lesion_section(
    lesions: Mapping[str, Any], settings: Mapping[str, Any], sentences: Sequence[str] = ()
) -> LesionSection | None:
    """Work out the section on lesions; None where there is no class.

    Args:
        lesions: The part ``lesions`` of a table of the summary.
        settings: The settings of the summary.
        sentences: How lesions were told apart and matched.
    """
    if not lesions:
        return None
    return LesionSection(
        lead=" ".join(sentences),
        level=f"{100 * settings['confidence']:g} %",
        minimum_group=settings["minimum_group"],
        classes=[_class_view(name, record, settings) for name, record in lesions.items()],
        axis=plots.axis_marks(_AXIS),
    )


def _class_view(name: str, record: Mapping[str, Any], settings: Mapping[str, Any]) -> LesionClassView:
    overall = record["overall"]
    return LesionClassView(
        overall=_detection_row(name, overall, settings),
        strata=list(_strata(record["strata"], settings)),
        groups=[
            (attribute, [_detection_row(group["name"], group, settings) for group in groups])
            for attribute, groups in record["groups"].items()
            if groups
        ],
        froc=_froc_view(name, record.get("froc")),
        notes=list(_notes(overall)),
    )


def _detection_row(name: str, record: Mapping[str, Any], settings: Mapping[str, Any]) -> DetectionRow:
    recall = _estimate("fraction", record["recall"])
    return DetectionRow(
        name=name,
        # Those without a lesion have no part in a recall.
        small=record["patients_with_lesions"] < settings["minimum_group"],
        patients=record["patients"],
        with_lesions=record["patients_with_lesions"],
        lesions=record["lesions"],
        found=record["found"],
        recall=recall,
        mark=_mark(name, record["recall"], recall),
        patient_recall=_estimate("fraction", record["patient_recall"]),
        precision=_estimate("fraction", record["precision"]),
        f1=_estimate("fraction", record["f1"]),
        false_positives=_estimate("count", record["false_positives_per_patient"]),
        matched_dice=_estimate("fraction", record["matched_dice"]),
        pq=_estimate("fraction", record["pq"]),
        sq=_estimate("fraction", record["sq"]),
        rq=_estimate("fraction", record["rq"]),
    )


def _strata(strata: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[tuple[str, list[StratumRow]]]:
    by_axis = [stratum for stratum in strata if stratum["measure"] == "short_axis"]
    by_volume = [stratum for stratum in strata if stratum["measure"] == "volume"]
    tables = []
    if by_axis:
        unit = unit_text(settings["distance_unit"])
        tables.append(("By short axis", [_stratum_row(_range(one, unit), one) for one in by_axis]))
    if by_volume:
        unit = {"ml": "mm³"}.get(settings["volume_unit"], unit_text(settings["volume_unit"]))
        # Lesions of equal volume may leave less than three.
        thirds = _THIRDS if len(by_volume) == len(_THIRDS) else ("smaller", "larger")
        rows = [_stratum_row(f"{word} ({_range(one, unit)})", one) for word, one in zip(thirds, by_volume, strict=True)]
        tables.append((f"By thirds of {size_word(settings)}", rows))
    return tables


def _stratum_row(name: str, record: Mapping[str, Any]) -> StratumRow:
    recall = _estimate("fraction", record["recall"])
    return StratumRow(
        name=name,
        with_lesions=record["patients_with_lesions"],
        lesions=record["lesions"],
        found=record["found"],
        recall=recall,
        mark=_mark(name, record["recall"], recall),
        patient_recall=_estimate("fraction", record["patient_recall"]),
        false_positives=_estimate("count", record["false_positives_per_patient"]),
    )


def _range(record: Mapping[str, Any], unit: str) -> str:
    low, high = record["low"], record["high"]
    if low is None:
        return f"below {_size(high)} {unit}"
    if high is None:
        return f"{_size(low)} {unit} and more"
    return f"{_size(low)} to below {_size(high)} {unit}"


def _size(value: Number) -> str:
    return number(value, 0) if value >= 100 or float(value).is_integer() else f"{value:.3g}"


def _mark(name: str, record: Mapping[str, Any], recall: Estimate) -> Markup:
    words = f"{name}: recall {recall.text}" + (f", interval {recall.interval}" if recall.interval else ", no interval")
    return plots.interval_mark(_AXIS, record["value"], record["low"], record["high"], words)


def _estimate(kind: MetricKind, record: Mapping[str, Any]) -> Estimate:
    return estimate(kind, record["value"], record["low"], record["high"])


def _froc_view(name: str, froc: Mapping[str, Any] | None) -> FrocView | None:
    if froc is None:
        return None
    return FrocView(
        plot=froc_plot(froc, f"FROC curve of {name}"),
        cpm=_estimate("fraction", froc["cpm"]),
        readings=[
            (point_text(point), number(value, 2))
            for point, value in zip(froc["points"], froc["sensitivity"], strict=True)
        ],
        words=f"{counted(froc['lesions'], 'lesion')} of {counted(froc['patients'], 'patient')}",
    )


def _notes(record: Mapping[str, Any]) -> list[str]:
    """Return what the table of a class leaves out, in words."""
    notes = []
    if record["true_negative_cases"]:
        cases = counted(record["true_negative_cases"], "case")
        notes.append(f"{cases} without a lesion, in which none was claimed either: in no ratio.")
    if record["cases_without_prediction"]:
        cases = counted(record["cases_without_prediction"], "case")
        notes.append(f"{cases} without a prediction: every lesion there is missed, and no false positive counted.")
    small = [
        counted(record[key], noun)
        for key, noun in (("removed_lesions", "lesion"), ("removed_detections", "detection"))
        if record[key]
    ]
    if small:
        notes.append(f"{' and '.join(small)} set apart as too small.")
    if record["ignored"]:
        notes.append(f"{counted(record['ignored'], 'detection')} of such lesions: neither right nor wrong.")
    return notes
