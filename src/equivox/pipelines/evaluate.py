"""Score predictions against references, patient by patient and group by group, and write the report."""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from equivox.atomic import atomic_folder, write_text
from equivox.datasets.cohort import Modality
from equivox.definitions import METRICS
from equivox.errors import InputError
from equivox.metrics.fairness.groups import one_group_per_patient
from equivox.metrics.lesions.detection_summary import IntervalSettings
from equivox.metrics.lesions.froc import CaseCandidates
from equivox.metrics.lesions.options import LesionOptions
from equivox.parallel import map_cases
from equivox.pipelines.columns import GROUP_PREFIX, NUMBER_PREFIX
from equivox.pipelines.evaluation.calibration import (
    CASE_COLUMNS,
    describe_calibration,
    lesion_candidates,
    summarise_calibration,
)
from equivox.pipelines.evaluation.cases import CaseResult, ScoringTask, score_one
from equivox.pipelines.evaluation.conventions import TOOL_COLUMNS, summarise_tools
from equivox.pipelines.evaluation.fairness_tables import check_attribute_names
from equivox.pipelines.evaluation.found_classes import found_values, stored_names
from equivox.pipelines.evaluation.group_checks import groups_by_attribute, refuse_contradictions
from equivox.pipelines.evaluation.lesions import describe_lesions, lesion_table, summarise_lesions
from equivox.pipelines.evaluation.memory import MAP_BYTES_PER_VOXEL, workers_within
from equivox.pipelines.evaluation.options import EvaluateOptions
from equivox.pipelines.evaluation.overlays import choose_overlays
from equivox.pipelines.evaluation.predictions import PREDICTION_LABELS
from equivox.pipelines.evaluation.probabilities import ProbabilityChoice, ProbabilityMaps, find_probabilities
from equivox.pipelines.evaluation.sources import ROLES, EvaluationSource, MaskOptions, cohort_source, folder_source
from equivox.pipelines.evaluation.summary import summarise
from equivox.pipelines.evaluation.tables import build_table, group_rows
from equivox.pipelines.failed_cases import results_and_failures
from equivox.pipelines.output_folder import prepare_output_folder
from equivox.pipelines.summary_file import write_summary
from equivox.reports.model_card import model_card
from equivox.reports.overlay import OverlayCase
from equivox.reports.page import write_report

logger = logging.getLogger(__name__)

CASES, SUMMARY, GROUPS, REPORT, FIGURES = "cases.csv", "summary.json", "groups.csv", "report.html", "figures"
CARD, RECONCILE, LESIONS = "model_card.md", "reconcile.csv", "lesions.csv"


# TotalSegmentator has 117 classes; a scan taken for a mask has thousands.
_MOST_CLASSES = 500


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        folder: Holds `cases.csv`, `summary.json`, `groups.csv`, `model_card.md` and `report.html`.
        summary: What `summary.json` holds.
        cases: What `cases.csv` holds: one row a case and class.
        groups: What `groups.csv` holds: one row a table, attribute and group.
        further: Name of the file -> table, for what was asked for beside: `reconcile.csv`.
    """

    folder: Path
    summary: dict[str, Any]
    cases: pd.DataFrame
    groups: pd.DataFrame
    further: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        """The report, to be opened in a browser."""
        return self.folder / REPORT


def evaluate(
    out: Path,
    *,
    predictions: Path,
    cohort: Path | None = None,
    references: Path | None = None,
    groups: Path | None = None,
    key: str | None = None,
    patient: str | None = None,
    attributes: Sequence[str] = (),
    continuous: Mapping[str, tuple[float, ...]] | None = None,
    classes: Mapping[int, str] | None = None,
    nominal_spacing: bool = False,
    images: Path | None = None,
    modality: Modality = "OTHER",
    options: EvaluateOptions | None = None,
    probabilities: ProbabilityChoice = "auto",
    model_name: str | None = None,
    workers: int = 1,
    memory_gib: float | None = None,
    overwrite: bool = False,
    resample: bool = False,
    allow_partial: bool = False,
    figures: bool = False,
) -> Evaluation:
    """Score predictions and write the report by group.

    Either of a cohort folder (`cohort`), or of two folders of masks (`references`, `predictions`) and, to report by
    group, a table (`groups`). Nothing is written unless everything is: `out` appears whole.

    Args:
        out: The folder to make.
        predictions: Folder of predicted label maps, of any tool; `labels.json` in it says what their values mean where
            they are not those of the references, `predictions.csv` which cases no network was trained on.
        cohort: A cohort folder.
        references: Folder of reference masks named like the predictions, instead of a cohort.
        groups: With `references`: CSV or TSV with a row a case.
        key: Its column of case ids.
        patient: Its column of patients.
        attributes: Its columns to report by.
        continuous: Its columns of numbers to report by, with the inner edges of their groups.
        classes: With `references`: value in the masks -> class name; else every value but 0 is a class.
        nominal_spacing: With `references`: voxel sizes are not real; everything is then in voxels.
        images: With `references`: a folder of images named like the masks, for the gallery.
        modality: Of these images.
        options: Margin, tolerance, empty-mask policy, draws, seed.
        probabilities: A folder with a map of each case and class (see `find_probabilities`), ``auto`` or ``none``.
        model_name: What the report, the card and the summary call the model; None for what the `manifest.json` of the
            predictions says.
        workers: Processes; 1 works in this one.
        memory_gib: What all of them together may take; None for 80 % of what is free. Fewer work where it is less.
        overwrite: Replace an earlier evaluation at `out`.
        resample: Bring a prediction on another grid onto the reference's by nearest neighbour, and say so.
        allow_partial: Leave out cases that cannot be scored, and list them, instead of stopping; so are patients whose
            cases contradict one another counted as of unknown group.
        figures: Also write the figures and the tables for papers.

    Raises:
        InputError: If the inputs do not fit together, or a case cannot be scored; each reason is logged before, with
            the cases that it holds for.
    """
    options = options or EvaluateOptions()
    files = (CASES, SUMMARY, GROUPS, CARD, RECONCILE, LESIONS, REPORT, FIGURES)
    prepare_output_folder(out, what="an evaluation", marks=(CASES, SUMMARY), files=files, overwrite=overwrite)
    masks = MaskOptions(
        groups=groups,
        key=key,
        patient=patient,
        attributes=tuple(attributes),
        continuous=dict(continuous or {}),
        classes=dict(classes or {}),
        nominal_spacing=nominal_spacing,
        images=images,
        modality=modality,
    )
    source = _source(predictions, cohort, references, masks)
    if model_name is not None:
        source = replace(source, model=dict(source.model) | {"name": _plain_name(model_name)})
    _check_attributes(source, options)
    if not allow_partial:
        patients = [case.patient_id for case in source.cases]
        refuse_contradictions(
            patients, groups_by_attribute([case.groups for case in source.cases], source.attributes), source.table
        )
    masks_alone = workers_within([case.reference for case in source.cases], workers, memory_gib)
    check_attribute_names(options, source.attributes)
    source = _with_classes(source, masks_alone)
    _check_images(source, options)
    tasks = _tasks(source, options, resample=resample)
    tasks, maps = _with_maps(tasks, source, probabilities)
    workers = masks_alone if maps is None else _workers_with_maps(source, maps, workers, memory_gib)
    results, source = _score(source, tasks, workers, allow_partial=allow_partial)
    evaluation, overlays = _evaluation(out, source, tasks, results, options, maps)
    _write(evaluation, overlays, figures=figures, overwrite=overwrite)
    return evaluation


def _source(predictions: Path, cohort: Path | None, references: Path | None, masks: MaskOptions) -> EvaluationSource:
    if cohort is not None and references is None:
        if masks != MaskOptions():
            msg = (
                "--cohort: expected no --groups, --key, --patient, --attribute, --continuous, --class, "
                "--nominal-spacing, --images or --modality beside it; they go with --references, as a cohort declares "
                "them in cohort.yaml"
            )
            raise InputError(msg)
        return cohort_source(cohort, predictions)
    if references is not None and cohort is None:
        return folder_source(references, predictions, masks)
    msg = "--cohort and --references: expected one of the two, got both or none; choose one"
    raise InputError(msg)


def _plain_name(name: str) -> str:
    plain = " ".join(name.split())
    if not plain or not plain.isprintable():
        msg = f"--model-name: expected a name of the model, got {name!a}; write its name, or leave the option out"
        raise InputError(msg)
    return plain


def _check_images(source: EvaluationSource, options: EvaluateOptions) -> None:
    if options.lesions is None or options.lesions.match != "suvmax":
        return
    without = [case.case_id for case in source.cases if case.image is None]
    if without:
        msg = (
            f"lesions match=suvmax: expected an image of each case, got none of '{without[0]}'; use a cohort with "
            "images, or another match"
        )
        raise InputError(msg)


def _check_attributes(source: EvaluationSource, options: EvaluateOptions) -> None:
    for flag, name in (("--permute-within", options.permute_within), ("--strata", options.strata)):
        if name is not None and name not in source.attributes:
            known = ", ".join(source.attributes) or "none"
            msg = f"{flag} {name}: expected an attribute, got none of {known}; declare it in cohort.yaml or --attribute"
            raise InputError(msg)
    within = options.permute_within
    if within is not None and len(source.attributes) == 1:
        # Its own groups are compared freely, so nothing would be permuted within them.
        msg = (
            f"--permute-within {within}: expected another attribute whose groups are compared within it, got "
            f"'{within}' alone; name another with --attribute or in cohort.yaml, or leave the option out"
        )
        raise InputError(msg)


def _evaluation(
    out: Path,
    source: EvaluationSource,
    tasks: Mapping[str, ScoringTask],
    results: Mapping[str, CaseResult],
    options: EvaluateOptions,
    maps: ProbabilityMaps | None,
) -> tuple[Evaluation, list[OverlayCase]]:
    units = _units(results)
    rows = _rows(source, results, options)
    tables = _tables(source, rows, units, options)
    further = {}
    if maps is not None:
        _calibration(source, tables, rows, results, options)
    if options.lesions is not None:
        further[LESIONS] = _lesions(source, tables, results, units, options)
    summary = summarise(source, rows, results, tables, units, options)
    if maps is not None:
        summary["left_out"]["missing_probabilities"] = [case for case in maps.missing if case in results]
        summary["methods"]["calibration"] = describe_calibration(length_unit=units["hd95"])
    if options.tools:
        summary["compat"], further[RECONCILE] = _other_tools(rows, results, units, options)
    overlays = choose_overlays(source, tasks, rows, tables[0]["role"], options.primary_endpoint)
    return Evaluation(out, summary, _case_table(rows, units, options), group_rows(tables), further), overlays


def _with_maps(
    tasks: Mapping[str, ScoringTask], source: EvaluationSource, choice: ProbabilityChoice
) -> tuple[dict[str, ScoringTask], ProbabilityMaps | None]:
    """Give each case its maps of probabilities, where there are any."""
    values = next(iter(tasks.values())).prediction_values
    maps = find_probabilities(choice, source.predictions, source.cases, source.classes or {}, values)
    if maps is None:
        return dict(tasks), None
    if maps.missing:
        logger.warning(
            "%d cases with a prediction lack a map of probabilities, such as '%s': left out of the calibration",
            len(maps.missing),
            maps.missing[0],
        )
    return {case_id: replace(task, probabilities=maps.maps.get(case_id, {})) for case_id, task in tasks.items()}, maps


def _workers_with_maps(source: EvaluationSource, maps: ProbabilityMaps, workers: int, memory_gib: float | None) -> int:
    # An archive is read with all its classes, in single precision.
    archived = any(one.channels for case in maps.maps.values() for one in case.values())
    further = MAP_BYTES_PER_VOXEL + (4 * (len(source.classes or {}) + 1) if archived else 0)
    references = [case.reference for case in source.cases]
    return workers_within(references, workers, memory_gib, further_bytes_per_voxel=further)


def _patient_groups(source: EvaluationSource, role: str) -> dict[str, dict[str, str | None]]:
    """Return attribute -> patient -> group, for the patients of one table."""
    cases = [case for case in source.cases if case.role == role]
    patients = [case.patient_id for case in cases]
    found = groups_by_attribute([case.groups for case in cases], source.attributes)
    return {name: one_group_per_patient(patients, groups)[0] for name, groups in found.items()}


def _intervals(options: EvaluateOptions) -> IntervalSettings:
    return IntervalSettings(options.bootstrap_draws, options.seed, options.confidence, options.minimum_group)


def _calibration(
    source: EvaluationSource,
    tables: Sequence[dict[str, Any]],
    rows: pd.DataFrame,
    results: Mapping[str, CaseResult],
    options: EvaluateOptions,
) -> None:
    """Add what there is to say of probabilities to each table."""
    found = {case_id: result.probabilities for case_id, result in results.items() if result.probabilities}
    for table in tables:
        table["calibration"] = summarise_calibration(
            found,
            rows[rows["role"] == table["role"]],
            classes=list(source.classes or ()),
            groups=_patient_groups(source, table["role"]),
            attributes=source.attributes,
            intervals=_intervals(options),
        )


def _candidates(cases: Sequence[str], results: Mapping[str, CaseResult]) -> dict[str, dict[str, CaseCandidates]]:
    """Return the candidates of these cases for the FROC curve, by class; empty where no case has maps."""
    found = {case_id: results[case_id].probabilities for case_id in cases if results[case_id].probabilities}
    missed = {
        case_id: {count["class"]: count["tp"] + count["fn"] for count in lesions.counts}
        for case_id in cases
        if (lesions := results[case_id].lesions) is not None and not any(one["predicted"] for one in lesions.counts)
    }
    return lesion_candidates(found, missed)


def _lesions(
    source: EvaluationSource,
    tables: Sequence[dict[str, Any]],
    results: Mapping[str, CaseResult],
    units: Mapping[str, str],
    options: EvaluateOptions,
) -> pd.DataFrame:
    """Add what there is to say of lesions to each table, and return all lesions."""
    lesions = options.lesions or LesionOptions()
    found = {case_id: result.lesions for case_id, result in results.items() if result.lesions is not None}
    length, volume = units["hd95"], units["volume_error"]
    for table in tables:
        cases = [case for case in source.cases if case.role == table["role"]]
        table["lesions"] = summarise_lesions(
            {case.case_id: found[case.case_id] for case in cases},
            {case.case_id: case.patient_id for case in cases},
            groups=_patient_groups(source, table["role"]),
            attributes=source.attributes,
            options=lesions,
            in_voxels=length == "voxels",
            intervals=_intervals(options),
            candidates=_candidates([case.case_id for case in cases], results),
        )
        table["lesion_sentences"] = describe_lesions(lesions, volume_unit=volume, length_unit=length)
    return lesion_table(
        found, {case.case_id: case.patient_id for case in source.cases}, length_unit=length, volume_unit=volume
    )


def _other_tools(
    rows: pd.DataFrame, results: Mapping[str, CaseResult], units: Mapping[str, str], options: EvaluateOptions
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return what other tools report of the headline's cases."""
    headline = next(role for role in ROLES if (rows["role"] == role).any())
    reported = [row for result in results.values() for row in result.tool_rows]
    return summarise_tools(
        rows[rows["role"] == headline],
        pd.DataFrame(reported, columns=list(TOOL_COLUMNS)),
        tools=options.tools,
        length_unit=units["hd95"],
        with_reasons=options.reconcile,
    )


def _write(evaluation: Evaluation, overlays: Sequence[OverlayCase], *, figures: bool, overwrite: bool) -> None:
    with atomic_folder(evaluation.folder, replace=overwrite) as folder:
        evaluation.cases.to_csv(folder / CASES, index=False, lineterminator="\n")
        evaluation.groups.to_csv(folder / GROUPS, index=False, lineterminator="\n")
        for name, table in evaluation.further.items():
            table.to_csv(folder / name, index=False, lineterminator="\n")
        write_summary(folder / SUMMARY, evaluation.summary)
        write_text(folder / CARD, model_card(evaluation.summary))
        write_report(
            folder / REPORT,
            summary=evaluation.summary,
            cases=evaluation.cases,
            groups=evaluation.groups,
            overlays=overlays,
            figures=folder / FIGURES if figures else None,
        )


def _with_classes(source: EvaluationSource, workers: int) -> EvaluationSource:
    """Let the reference masks tell their classes, where nobody else does."""
    if source.classes is not None:
        return source
    references = [case.reference for case in source.cases]
    values = found_values(references, workers)
    if len(values) > _MOST_CLASSES:
        msg = (
            f"{references[0].parent}: expected masks with a few values, got {len(values):,}; name the "
            "folder of masks and not that of the scans, or name the classes with --class"
        )
        raise InputError(msg)
    stored, theirs = stored_names(references), source.prediction_values
    if theirs is None:
        # Two label maps that both name their values are compared by name.
        predicted = stored_names([case.prediction for case in source.cases if case.prediction is not None])
        if set(stored.values()) & set(predicted.values()):
            source = replace(source, prediction_values=predicted)
        theirs = predicted
    names = stored or theirs
    classes: dict[str, int] = {}
    reference_values = {0: 0}
    for value in values:
        # Two values of one name are one class.
        name = names.get(value, f"label {value}")
        reference_values[value] = classes.setdefault(name, len(classes) + 1)
    note = f"Classes as found in the reference masks: {', '.join(map(str, values))}."
    return replace(
        source,
        classes=classes,
        reference_values=reference_values,
        notes=(*source.notes, note),
    )


def _tasks(source: EvaluationSource, options: EvaluateOptions, *, resample: bool) -> dict[str, ScoringTask]:
    classes, reference_values = source.classes or {}, source.reference_values or {}
    prediction_values = dict(reference_values)
    indices = set(classes.values())
    if not indices & set(reference_values):
        # Masks of class indices, where no index could be mistaken for a value of the reference files.
        prediction_values |= {index: index for index in indices}
    if source.prediction_values is not None:
        # A class that the references do not know counts as background: it was not asked for.
        named = {value: classes.get(name, 0) for value, name in source.prediction_values.items()}
        path, names = source.predictions / PREDICTION_LABELS, list(source.prediction_values.values())
        if not any(named.values()):
            msg = f"{path}: expected names of the classes {list(classes)}, got {names}; rename them"
            raise InputError(msg)
        if named.get(0):
            msg = (
                f"{path}: expected 0 to be no class, got '{source.prediction_values[0]}'; give that class another value"
            )
            raise InputError(msg)
        prediction_values = {0: 0} | named
    return {
        case.case_id: ScoringTask(
            case.case_id,
            case.reference,
            case.prediction,
            classes,
            reference_values,
            prediction_values,
            source.nominal_spacing,
            options.tolerance,
            options.empty,
            options.hd95,
            options.metrics,
            resample,
            options.tools,
            options.lesions,
            case.image if options.lesions is not None and options.lesions.match == "suvmax" else None,
        )
        for case in source.cases
    }


def _score(
    source: EvaluationSource, tasks: Mapping[str, ScoringTask], workers: int, *, allow_partial: bool
) -> tuple[dict[str, CaseResult], EvaluationSource]:
    outcomes = map_cases(score_one, list(tasks.values()), workers=workers, description="Scoring")
    results, failed = results_and_failures(outcomes, done="scored", allow_partial=allow_partial)
    kept = tuple(case for case in source.cases if case.case_id in results)
    return results, replace(source, cases=kept, excluded=dict(source.excluded) | failed)


def _units(results: Mapping[str, CaseResult]) -> dict[str, str]:
    """Return the unit of each score, which must be the same for all cases."""
    kinds = Counter((result.length_unit, result.volume_unit) for result in results.values())
    if len(kinds) > 1:
        lengths = {length for length, _ in kinds}
        odd = next(case for case, r in results.items() if (r.length_unit, r.volume_unit) != kinds.most_common(1)[0][0])
        what = "some with known voxel sizes and some without" if len(lengths) > 1 else "both 2D and 3D images"
        msg = f"case {odd}: expected all cases alike, got {what}; declare nominal spacing to have all in voxels"
        raise InputError(msg)
    ((length, volume),) = kinds
    by_kind = {"distance": length, "volume": volume}
    return {key: by_kind.get(metric.kind, "") for key, metric in METRICS.items()}


def _rows(source: EvaluationSource, results: Mapping[str, CaseResult], options: EvaluateOptions) -> pd.DataFrame:
    """Return one row a case and class, with the group of each attribute and the number of each continuous one."""
    rows = []
    for case in source.cases:
        thickness = results[case.case_id].slice_thickness_mm
        head: dict[str, Any] = {"case_id": case.case_id, "patient_id": case.patient_id, "role": case.role}
        head["slice_thickness_mm"] = math.nan if thickness is None else thickness
        groups = {GROUP_PREFIX + name: case.groups.get(name) for name in source.attributes}
        numbers = {NUMBER_PREFIX + name: number for name, number in case.numbers.items()}
        rows += [head | row | groups | numbers for row in results[case.case_id].rows]
    table = pd.DataFrame(rows)
    numeric = [*options.scores, *(str(name) for name in table.columns if str(name).startswith(NUMBER_PREFIX))]
    numeric += [name for name in CASE_COLUMNS if name in table]
    return table.astype(dict.fromkeys(numeric, "float64"))


def _case_table(rows: pd.DataFrame, units: Mapping[str, str], options: EvaluateOptions) -> pd.DataFrame:
    """Return the rows as `cases.csv` has them: the unit of each column is in its name."""
    volume = units["volume_error"]
    names = {key: f"{key}_{unit}" for key, unit in units.items() if unit}
    if volume == "voxels":
        rows = rows.drop(columns=["reference", "prediction"])
    else:
        names |= {"reference": f"reference_{volume}", "prediction": f"prediction_{volume}"}
    head = ["case_id", "patient_id", "role", "class", "outcome", "penalised", *options.scores]
    head += [name for name in ("reference", "prediction", "reference_voxels", "prediction_voxels") if name in rows]
    head += [name for name in CASE_COLUMNS if name in rows]
    head += ["slice_thickness_mm"] if units["hd95"] == "mm" else []
    # Groups alone: a raw age is more of a patient than a reader of scores needs.
    attributes = [str(name) for name in rows.columns if str(name).startswith(GROUP_PREFIX)]
    return rows[[*head, *attributes]].rename(columns=names)


def _tables(
    source: EvaluationSource, rows: pd.DataFrame, units: Mapping[str, str], options: EvaluateOptions
) -> list[dict[str, Any]]:
    present = [role for role in ROLES if (rows["role"] == role).any()]
    return [
        build_table(
            rows[rows["role"] == role],
            role=role,
            headline=role == present[0],
            attributes=source.attributes,
            units=units,
            options=options,
        )
        for role in present
    ]


__all__ = ["EvaluateOptions", "Evaluation", "evaluate"]
