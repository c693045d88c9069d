"""What there is to measure: the masks and images of a cohort, or two folders with a table of patients."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from equivox.datasets.cohort import AttributeConfig, Cohort, load_cohort
from equivox.errors import InputError
from equivox.pipelines.evaluation.group_checks import (
    CaseValues,
    check_values,
    refuse_formulas,
    single_groups,
    unknown_values,
    unmatched_ids,
)
from equivox.pipelines.evaluation.predictions import images_in, masks_in, read_label_names
from equivox.pipelines.evaluation.sources import MaskOptions, attribute_configs, group_of, numbers_of, read_groups


@dataclass(frozen=True)
class MeasuredPatient:
    """One case that is to be measured.

    Attributes:
        case_id: Unique among the cases.
        patient_id: The unit of the statistics.
        mask: File of the label map.
        image: File of the image; None where there is none, and sizes alone are measured.
        groups: Attribute -> group, None where unknown.
        numbers: Continuous attribute -> number, None where unknown.
    """

    case_id: str
    patient_id: str
    mask: Path
    image: Path | None
    groups: Mapping[str, str | None]
    numbers: Mapping[str, float | None]


@dataclass(frozen=True)
class MeasureSource:
    """Everything that is known before a mask is opened.

    Attributes:
        name: Of the cohort.
        class_names: Value in the masks -> class name; None where the masks are to tell.
        attributes: How the values of each attribute make groups.
        modality: Of the image, which gives the unit of its intensities.
        nominal_spacing: Voxel sizes are not real.
        cases: In the order of the table, or of the file names.
        excluded: Case -> why it is not measured.
        files: Tables that were read, for their hashes.
        imageless: The excluded cases that lack the image that the others have.
        notes: Further things that a reader should know.
    """

    name: str
    class_names: dict[int, str] | None
    attributes: dict[str, AttributeConfig]
    modality: str
    nominal_spacing: bool
    cases: tuple[MeasuredPatient, ...]
    excluded: dict[str, str]
    files: tuple[Path, ...]
    imageless: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def cohort_to_measure(folder: Path, masks: Path | None, channel: str | None) -> MeasureSource:
    """Return the cases of a cohort: its own masks, or those of a folder of predictions.

    Args:
        folder: The cohort folder.
        masks: A folder of masks named after the cases, of 'equivox predict' or any tool; None for the references.
        channel: The channel whose intensities are measured; None for the first.

    Raises:
        InputError: If the cohort cannot be read, has no such channel, or no case has a mask.
    """
    cohort = load_cohort(folder)
    config = cohort.config
    name = channel or next(iter(config.channels))
    if name not in config.channels:
        msg = f"--channel {name}: expected one of {list(config.channels)}; choose one of them"
        raise InputError(msg)
    values = [CaseValues(case.case_id, case.patient_id, case.attributes) for case in cohort.cases]
    table = folder / "cohort.csv"
    notes = check_values(values, config.attributes, table, "cohort")
    notes += unknown_values(cohort.unknown, table, "cohort")
    found = masks_in(masks) if masks is not None else {}
    cases, excluded = [], {}
    for case in cohort.cases:
        mask = found.get(case.case_id) if masks is not None else case.label
        if mask is None:
            excluded[case.case_id] = "no mask"
            continue
        cases.append(
            MeasuredPatient(
                case.case_id,
                case.patient_id,
                mask,
                case.images.get(name),
                {a: c.group_of(case.attributes.get(a)) for a, c in config.attributes.items()},
                numbers_of(config.attributes, case.attributes),
            )
        )
    if masks is not None and not found:
        msg = f"{masks}: expected masks, got none; check the folder"
        raise InputError(msg)
    if not cases:
        msg = f"{masks or folder}: expected a mask of at least one case of {folder}, got none; check the folders"
        raise InputError(msg)
    return MeasureSource(
        name=config.name,
        class_names=_cohort_values(cohort, masks),
        attributes=dict(config.attributes),
        modality=config.channels[name].modality,
        nominal_spacing=config.nominal_spacing,
        cases=tuple(cases),
        excluded=excluded,
        files=(table,),
        notes=notes + single_groups([case.groups for case in cases], config.attributes),
    )


def folders_to_measure(masks: Path, images: Path | None, modality: str, options: MaskOptions) -> MeasureSource:
    """Return the masks of a folder with the images of another, paired by file name.

    Args:
        masks: Folder of label maps; the name without its suffix is the case's id.
        images: Folder of images of the same names (nnU-Net's `_0000` at the end is taken too); None for sizes alone.
        modality: Of the images.
        options: The table of patients, and what the masks do not say themselves.

    Raises:
        InputError: If a folder holds nothing that fits, or the table lacks a column.
    """
    found = masks_in(masks)
    if not found:
        msg = f"{masks}: expected masks, got none; check the folder"
        raise InputError(msg)
    pictures = images_in(images) if images is not None else {}
    configs = attribute_configs(options)
    refuse_formulas(masks, "an id of a case", found)
    table = read_groups(options, configs, set(found))
    rows = table.rows
    cases: list[MeasuredPatient] = []
    excluded: dict[str, str] = {}
    imageless = []
    for case_id, mask in found.items():
        row = rows.get(case_id)
        if row is None and options.patient is not None:
            excluded[case_id] = "no row in the table of groups, so its patient is unknown"
            continue
        image = pictures.get(case_id)
        if images is not None and image is None:
            excluded[case_id] = f"no image in {images.name}"
            imageless.append(case_id)
            continue
        values: dict[str, str | None] = {name: (row or {}).get(name) or None for name in configs}
        groups = {name: group_of(config, values[name], name, options.groups) for name, config in configs.items()}
        patient = row[options.patient] if row is not None and options.patient else case_id
        cases.append(MeasuredPatient(case_id, patient, mask, image, groups, numbers_of(configs, values)))
    if not cases:
        msg = (
            f"{masks}: expected a mask that can be measured, got none of {len(found)}: {next(iter(excluded.values()))}"
        )
        raise InputError(f"{msg}; check --images and --groups")
    notes = table.notes
    if options.groups is not None:
        notes += unknown_values(table.unknown, options.groups, "groups")
        notes += unmatched_ids(options.groups, rows, found, excluded=options.patient is not None)
        notes += single_groups([case.groups for case in cases], configs)
    return MeasureSource(
        name=masks.resolve().name,
        class_names=dict(options.classes) or read_label_names(masks),
        attributes=configs,
        modality=modality,
        nominal_spacing=options.nominal_spacing,
        cases=tuple(cases),
        excluded=excluded,
        files=(options.groups,) if options.groups else (),
        imageless=tuple(imageless),
        notes=notes,
    )


def _cohort_values(cohort: Cohort, masks: Path | None) -> dict[int, str]:
    config = cohort.config
    own = {value: name for value, name in config.label_values.items() if name != "background"}
    if masks is None:
        return own
    named = read_label_names(masks)
    if named is not None:
        return named
    by_index = {index: name for name, index in config.classes.items()}
    # Masks of class indices, where no index could be mistaken for a value of the reference files.
    return own | {index: name for index, name in by_index.items() if not set(by_index) & set(own)}
