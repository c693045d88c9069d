"""Measure the structures of a cohort: sizes and intensities, by group and against age; a table and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from equivox.atomic import atomic_folder
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.parallel import map_cases
from equivox.pipelines.columns import GROUP_PREFIX, NUMBER_PREFIX
from equivox.pipelines.evaluation.found_classes import found_values, stored_names
from equivox.pipelines.evaluation.memory import workers_within
from equivox.pipelines.evaluation.sources import MaskOptions
from equivox.pipelines.failed_cases import results_and_failures
from equivox.pipelines.measurement.cases import INTENSITIES, MeasuredCase, MeasureTask, measure_case
from equivox.pipelines.measurement.options import MeasureOptions
from equivox.pipelines.measurement.sources import MeasureSource, cohort_to_measure, folders_to_measure
from equivox.pipelines.measurement.tables import (
    associations,
    by_group,
    by_structure,
    usable,
)
from equivox.pipelines.output_folder import prepare_output_folder
from equivox.pipelines.summary_file import summary_head, write_summary
from equivox.reports.embedding import finite
from equivox.reports.measurement_figures import write_measurement_figures
from equivox.reports.measurement_page import write_measurement

MEASUREMENTS, STRUCTURES, GROUPS, ASSOCIATIONS = "measurements.csv", "structures.csv", "groups.csv", "associations.csv"
SUMMARY, REPORT, FIGURES = "measurements.json", "report.html", "figures"
_INTENSITY_UNITS = {"CT": "HU", "PET": "SUV"}


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was measured.

    Attributes:
        folder: Holds `measurements.csv`, `structures.csv`, `groups.csv`, `associations.csv`, `measurements.json` and
            `report.html`.
        summary: What `measurements.json` holds.
        measurements: One row a case and structure.
    """

    folder: Path
    summary: dict[str, Any]
    measurements: pd.DataFrame


def measure(
    out: Path,
    *,
    cohort: Path | None = None,
    masks: Path | None = None,
    images: Path | None = None,
    channel: str | None = None,
    modality: str = "OTHER",
    groups: Path | None = None,
    key: str | None = None,
    patient: str | None = None,
    attributes: Sequence[str] = (),
    continuous: Mapping[str, tuple[float, ...]] | None = None,
    classes: Mapping[int, str] | None = None,
    nominal_spacing: bool = False,
    options: MeasureOptions | None = None,
    workers: int = 1,
    overwrite: bool = False,
    allow_partial: bool = False,
    figures: bool = False,
) -> Measurement:
    """Measure size and intensity of every structure, and compare them over patients.

    Either of a cohort (its own masks, or those of a folder named after its cases), or of a folder of masks with a
    folder of images. A structure that the image cuts off is measured, flagged, and left out of every comparison: how
    large it is cannot be known.

    Args:
        out: The folder to make; it appears whole or not at all.
        cohort: A cohort folder.
        masks: A folder of label maps; beside `cohort` they take the place of its own.
        images: Without a cohort: a folder of images named like the masks.
        channel: With a cohort: whose intensities to measure; the first by default.
        modality: Without a cohort: CT gives HU, PET gives SUV; else the intensities have no unit.
        groups: Without a cohort: CSV or TSV with a row a case.
        key: Its column of case ids.
        patient: Its column of patients.
        attributes: Its columns to compare by.
        continuous: Its columns of numbers, with the inner edges of their groups.
        classes: Value in the masks -> class name; else every value but 0 is a class.
        nominal_spacing: Voxel sizes are not real; sizes are then in voxels.
        options: Erosion, border, draws, seed.
        workers: Processes; 1 works in this one.
        overwrite: Replace earlier measurements at `out`.
        allow_partial: Leave out cases that cannot be measured, and list them.
        figures: Also write the plots as SVG and PNG.

    Raises:
        InputError: If the inputs do not fit together, or a case lacks its image or cannot be measured.
    """
    options = options or MeasureOptions()
    files = (MEASUREMENTS, STRUCTURES, GROUPS, ASSOCIATIONS, SUMMARY, REPORT, FIGURES)
    prepare_output_folder(out, what="a measurement", marks=(MEASUREMENTS, SUMMARY), files=files, overwrite=overwrite)
    table = MaskOptions(
        groups=groups,
        key=key,
        patient=patient,
        attributes=tuple(attributes),
        continuous=dict(continuous or {}),
        classes=dict(classes or {}),
        nominal_spacing=nominal_spacing,
    )
    source = _source(cohort, masks, images, channel, modality, table)
    _check_adjustment(options, source)
    if source.imageless and not allow_partial:
        first, count = source.imageless[0], len(source.imageless)
        many = f" ({count} masks have none)" if count > 1 else ""
        msg = (
            f"case {first}: expected an image in {images}, got none; add it, leave out --images to measure sizes "
            f"alone, or add --allow-partial to leave such cases out and list them{many}"
        )
        raise InputError(msg)
    workers = workers_within([case.mask for case in source.cases], workers)
    class_names = source.class_names or _found_values(source, workers)
    results, source = _measure(source, class_names, options, workers, allow_partial=allow_partial)
    size_unit = _size_unit(results)
    rows = _rows(source, results)
    measurement = Measurement(out, _summary(source, rows, size_unit, options), _table(rows, size_unit, source))
    _write(measurement, rows, figures=figures, overwrite=overwrite)
    return measurement


def _source(
    cohort: Path | None, masks: Path | None, images: Path | None, channel: str | None, modality: str, table: MaskOptions
) -> MeasureSource:
    if cohort is not None:
        if images is not None or table != MaskOptions() or modality != "OTHER":
            msg = (
                "--cohort: expected no --images, --modality, --groups, --key, --patient, --attribute, --continuous, "
                "--class or --nominal-spacing beside it; they go with --masks alone"
            )
            raise InputError(msg)
        return cohort_to_measure(cohort, masks, channel)
    if masks is None:
        msg = "--cohort or --masks: expected one of them, got neither; name the scans to measure"
        raise InputError(msg)
    if channel is not None:
        msg = "--channel: expected it with --cohort only; without one, --images names the images"
        raise InputError(msg)
    return folders_to_measure(masks, images, modality, table)


def _check_adjustment(options: MeasureOptions, source: MeasureSource) -> None:
    unknown = [name for name in options.adjust_for if name not in source.attributes]
    if unknown:
        msg = f"--adjust-for {unknown[0]}: expected one of {list(source.attributes)}; choose among them"
        raise InputError(msg)


def _found_values(source: MeasureSource, workers: int) -> dict[int, str]:
    masks = [case.mask for case in source.cases]
    values = found_values(masks, workers)
    names = stored_names(masks)
    return {value: names.get(value, f"label {value}") for value in values}


def _measure(
    source: MeasureSource, values: Mapping[int, str], options: MeasureOptions, workers: int, *, allow_partial: bool
) -> tuple[dict[str, MeasuredCase], MeasureSource]:
    tasks = [
        MeasureTask(
            case.case_id,
            case.mask,
            case.image,
            {value: name for value, name in values.items() if value != 0},
            source.nominal_spacing,
            options.erode_mm,
            options.border_voxels,
        )
        for case in source.cases
    ]
    outcomes = map_cases(measure_case, tasks, workers=workers, description="Measuring")
    results, failed = results_and_failures(outcomes, done="measured", allow_partial=allow_partial)
    kept = tuple(case for case in source.cases if case.case_id in results)
    return results, replace(source, cases=kept, excluded=source.excluded | failed)


def _size_unit(results: Mapping[str, MeasuredCase]) -> str:
    units = {result.size_unit for result in results.values()}
    if len(units) > 1:
        msg = f"cases: expected all alike, got sizes in {' and in '.join(sorted(units))}; measure them apart"
        raise InputError(msg)
    return units.pop()


def _rows(source: MeasureSource, results: Mapping[str, MeasuredCase]) -> pd.DataFrame:
    rows = []
    for case in source.cases:
        head = {"case_id": case.case_id, "patient_id": case.patient_id}
        tail: dict[str, Any] = {GROUP_PREFIX + name: case.groups.get(name) for name in source.attributes}
        tail |= {NUMBER_PREFIX + name: number for name, number in case.numbers.items()}
        rows += [head | row | tail for row in results[case.case_id].rows]
    table = pd.DataFrame(rows)
    for column in ("size", *INTENSITIES):
        table[column] = table[column].astype(np.float64) if column in table else np.nan
    table["cut_off"] = table["cut_off"].eq(True) if "cut_off" in table else False
    numbers = [column for column in table.columns if str(column).startswith(NUMBER_PREFIX)]
    return table.astype(dict.fromkeys(numbers, "float64"))


def _table(rows: pd.DataFrame, size_unit: str, source: MeasureSource) -> pd.DataFrame:
    """Return the rows as `measurements.csv` has them: the unit of each column is in its name."""
    unit = _intensity_unit(source).lower()
    names = {"size": f"{'area' if size_unit == 'mm2' else 'volume'}_{size_unit}"}
    names |= {name: f"{name}_{unit}" for name in INTENSITIES} if unit else {}
    return rows.rename(columns=names)


def _intensity_unit(source: MeasureSource) -> str:
    return _INTENSITY_UNITS.get(source.modality, "")


def _summary(source: MeasureSource, rows: pd.DataFrame, size_unit: str, options: MeasureOptions) -> dict[str, Any]:
    summary = {
        **summary_head(),
        "cohort": {
            "name": source.name,
            "patients": int(rows["patient_id"].nunique()),
            "cases": int(rows["case_id"].nunique()),
        },
        "settings": options.model_dump(mode="json"),
        "units": {"size": size_unit, "intensity": _intensity_unit(source), "modality": source.modality},
        "structures": by_structure(rows),
        "groups": by_group(rows, source.attributes, options),
        "associations": associations(rows, source.attributes, options),
        "attributes": {name: config.kind for name, config in source.attributes.items()},
        "left_out": {
            "excluded_cases": [{"case_id": case_id, "reason": reason} for case_id, reason in source.excluded.items()],
            "without_image": [case.case_id for case in source.cases if case.image is None],
            "cut_off": int(rows["cut_off"].sum()),
            "absent": int((~rows["present"]).sum()),
            "compared": len(usable(rows)),
        },
        "notes": list(source.notes),
        "inputs": {path.name: file_sha256(path) for path in source.files if path.is_file()},
    }
    plain: dict[str, Any] = finite(summary)
    return plain


def _write(measurement: Measurement, rows: pd.DataFrame, *, figures: bool, overwrite: bool) -> None:
    summary = measurement.summary
    tables = {
        MEASUREMENTS: measurement.measurements,
        STRUCTURES: pd.json_normalize(summary["structures"], sep="_"),
        GROUPS: pd.DataFrame(summary["groups"]),
        ASSOCIATIONS: pd.DataFrame(summary["associations"]).drop(columns="smooth", errors="ignore"),
    }
    with atomic_folder(measurement.folder, replace=overwrite) as folder:
        for name, table in tables.items():
            table.to_csv(folder / name, index=False, lineterminator="\n")
        write_summary(folder / SUMMARY, summary)
        write_measurement(folder / REPORT, summary=summary, rows=rows, table=measurement.measurements)
        if figures:
            write_measurement_figures(folder / FIGURES, summary, rows)
