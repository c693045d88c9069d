"""Make a cohort folder from a source of any known layout."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from equivox.atomic import atomic_path
from equivox.datasets.cohort import (
    CONFIG_NAME,
    TABLE_NAME,
    AttributeConfig,
    ChannelConfig,
    Cohort,
    CohortConfig,
    row_faults,
    save_cohort,
    stored_path,
)
from equivox.datasets.import_bids import read_bids
from equivox.datasets.import_draft import (
    SUFFIXES_WITHOUT_SPACING,
    Draft,
    DraftCase,
    ImportOptions,
    Layout,
    LeftOut,
    guess_modality,
    is_scan,
)
from equivox.datasets.import_folder import read_folder
from equivox.datasets.import_json import read_dataset_json, read_msd, read_nnunet
from equivox.datasets.import_labels import (
    LabelMapping,
    ScannedLabels,
    find_left_right_pairs,
    name_classes,
    number_classes,
    scan_labels,
)
from equivox.datasets.import_table import attribute_names, join_table, read_csv
from equivox.datasets.patterns import PLACEHOLDER
from equivox.datasets.wording import some
from equivox.errors import InputError
from equivox.options import parse_options
from equivox.parallel import map_cases

LEFT_OUT_NAME = "left_out.csv"


@dataclass(frozen=True)
class ImportResult:
    """What an import made.

    Attributes:
        cohort: As saved.
        layout: How the source was laid out.
        mapping: What each value of the label files became.
        notes: What the user should know, one sentence each: guesses, files that were not used, unknown values.
        left_out: Cases of the source that are not in the cohort; also written to `left_out.csv`.
    """

    cohort: Cohort
    layout: Layout
    mapping: tuple[LabelMapping, ...]
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        cohort = self.cohort
        return {
            "folder": str(cohort.folder),
            "layout": self.layout,
            "cases": len(cohort.cases),
            "patients": len(cohort.patients),
            "labelled": sum(case.label is not None for case in cohort.cases),
            "channels": {name: channel.modality for name, channel in cohort.config.channels.items()},
            "classes": cohort.config.classes,
            "mapping": [vars(item) for item in self.mapping],
            "attributes": list(cohort.config.attributes),
            "nominal_spacing": cohort.config.nominal_spacing,
            "notes": list(self.notes),
            "left_out": [vars(item) for item in self.left_out],
        }


def import_cohort(
    source: Path, folder: Path, options: ImportOptions | None = None, *, workers: int = 1, overwrite: bool = False
) -> ImportResult:
    """Read a source and write a cohort folder: `cohort.csv`, `cohort.yaml` and `left_out.csv`.

    No image is copied: the table holds absolute paths (relative ones for files within the folder).

    Args:
        source: A BIDS folder, an nnU-Net raw or MSD dataset, a CSV, or any folder of scans.
        folder: The cohort folder to make or to add to.
        options: How to read it.
        workers: Processes that look at the label files.
        overwrite: Replace the cohort that the folder holds already.

    Raises:
        InputError: If the source cannot be read, or the folder already holds a cohort.
    """
    options = options or ImportOptions()
    if not source.exists():
        msg = f"{source}: expected a folder or file to import, got nothing there; check the path"
        raise InputError(msg)
    there = next((folder / name for name in (TABLE_NAME, CONFIG_NAME, LEFT_OUT_NAME) if (folder / name).exists()), None)
    if there is not None and not overwrite:
        msg = f"{there}: expected no cohort there yet, got one; choose another -o, or add --overwrite"
        raise InputError(msg)
    if source.resolve() == (folder / TABLE_NAME).resolve():
        msg = f"{source}: expected a table that the import does not replace, got that of the cohort; choose another -o"
        raise InputError(msg)
    draft = _read_source(source, options)
    table = _find_table(source, draft, options)
    if table is not None:
        draft = join_table(draft, table, options)
    draft = _leave_out_incomplete(draft, source)
    scanned, names, notes = _name_labels(draft, options, workers)
    modalities, modality_notes = _choose_modalities(draft, options)
    nominal, spacing_notes = _choose_spacing(draft, options)
    if options.split_channels and draft.layout == "msd" and len(draft.channels) > 1:
        draft = _split_channels(draft, folder, workers)
    cohort = _build(draft, folder, options, modalities, names, nominal)
    faults = row_faults(cohort)
    if faults:
        msg = f"{source}: {faults[0].what}; {faults[0].todo}"
        raise InputError(msg)
    save_cohort(cohort)
    _save_left_out(draft.left_out, folder)
    result_notes = (*modality_notes, *spacing_notes, *draft.notes, *notes, *_final_notes(cohort, draft))
    return ImportResult(cohort, draft.layout, _mapping(cohort.config, scanned), result_notes, draft.left_out)


def find_layout(source: Path, options: ImportOptions) -> Layout:
    """Find out how a source is laid out.

    Raises:
        InputError: If it looks like none of the known layouts.
    """
    if options.layout is not None:
        return options.layout
    if source.is_file() and source.suffix.lower() in (".csv", ".tsv"):
        return "csv"
    if any(PLACEHOLDER in pattern for pattern in options.images.values()):
        return "folder"
    named = next(iter(options.images.values()), None)
    if named is not None:
        msg = f"--image {named}: expected {PLACEHOLDER} in the pattern, got none; put it where the case's name stands"
        raise InputError(msg)
    if source.name == "dataset.json" or (source / "dataset.json").is_file():
        values = read_dataset_json(source)
        return "msd" if isinstance(values.get("training"), list) and "channel_names" not in values else "nnunet"
    if (source / "participants.tsv").is_file() or any(source.glob("sub-*")):
        return "bids"
    if (source / CONFIG_NAME).is_file():
        msg = f"{source}: expected something to import, got a cohort folder already; use it as it is"
        raise InputError(msg)
    msg = (
        f"{source}: expected a BIDS folder, a dataset.json, a CSV, or --image patterns, got none of these; "
        f"add for example --image t1='{PLACEHOLDER}/t1.nii.gz' --label '{PLACEHOLDER}/mask.nii.gz'"
    )
    raise InputError(msg)


def _read_source(source: Path, options: ImportOptions) -> Draft:
    layout = find_layout(source, options)
    if layout == "csv":
        return read_csv(source, options)
    if layout == "folder":
        return read_folder(source, options)
    if layout == "nnunet":
        return read_nnunet(source)
    if layout == "msd":
        return read_msd(source, options)
    return read_bids(source, options)


def _find_table(source: Path, draft: Draft, options: ImportOptions) -> Path | None:
    """Return the table to join: the one asked for (within the source, else from here), or the source's own."""
    if options.table is not None:
        within = source / options.table if source.is_dir() else source.parent / options.table
        return within if within.is_file() else options.table
    if draft.layout == "csv":
        return source
    own = source / "participants.tsv"
    if draft.layout == "bids" and own.is_file():
        return own
    unused = [name for name, value in (("--key", options.key), ("--patient", options.patient)) if value]
    unused += ["--attribute"] if options.attributes or options.continuous else []
    if unused:
        msg = f"{unused[0]}: expected --table to say where the column stands, got none; add --table participants.csv"
        raise InputError(msg)
    return None


def _leave_out_incomplete(draft: Draft, source: Path) -> Draft:
    complete, left_out = [], list(draft.left_out)
    for case in draft.cases:
        missing = [name for name in draft.channels if name not in case.images]
        gone = [path for path in (*case.images.values(), *case.labels.values()) if not path.exists()]
        if missing:
            left_out.append(LeftOut(case.case_id, f"no image of channel {', '.join(missing)}"))
        elif gone:
            left_out.append(LeftOut(case.case_id, f"no such file: {gone[0]}"))
        else:
            complete.append(case)
    if not complete:
        reason = f"'{left_out[0].case_id}' has {left_out[0].reason}" if left_out else "none was found"
        wanted = f"at least one case with all of {list(draft.channels)}"
        msg = f"{source}: expected {wanted}, got none ({reason}); check the source"
        raise InputError(msg)
    return replace(draft, cases=tuple(complete), left_out=tuple(left_out))


def _name_labels(
    draft: Draft, options: ImportOptions, workers: int
) -> tuple[ScannedLabels | None, dict[int, str], list[str]]:
    if draft.classes is not None and not options.classes:
        return None, dict(draft.classes), []
    paths = [path for case in draft.cases for path in case.labels.values()]
    scanned = scan_labels(paths, workers=workers)
    if paths and len(scanned.failures) == len(paths):
        msg = f"{scanned.failures[0]} (and none of the {len(paths)} label files could be read)"
        raise InputError(msg)
    names, notes = name_classes(scanned, options.classes)
    if scanned.failures:
        notes.append(f"{len(scanned.failures)} label files could not be read: {some(scanned.failures, limit=3)}")
    return scanned, names, notes


def _choose_modalities(draft: Draft, options: ImportOptions) -> tuple[dict[str, ChannelConfig], list[str]]:
    unknown = [name for name in options.modalities if name not in draft.channels]
    if unknown:
        msg = f"--modality {unknown[0]}: expected one of the channels {list(draft.channels)}; check the name"
        raise InputError(msg)
    chosen, notes = {}, []
    for name in draft.channels:
        given = options.modalities.get(name) or draft.modalities.get(name)
        guess = guess_modality(name)
        if given is None and guess is not None:
            notes.append(f"channel {name}: modality {guess}, guessed from its name; --modality {name}=... changes it")
        elif given is None:
            notes.append(
                f"channel {name}: modality unknown, taken as OTHER; set it with --modality {name}=CT (or MR, PET)"
            )
        chosen[name] = ChannelConfig(modality=given or guess or "OTHER")
    return chosen, notes


def _choose_spacing(draft: Draft, options: ImportOptions) -> tuple[bool, list[str]]:
    images = [path for case in draft.cases for path in case.images.values()]
    if not options.nominal_spacing and any(is_scan(path, SUFFIXES_WITHOUT_SPACING) for path in images):
        return True, ["pictures have no voxel size: nominal spacing is recorded, and sizes are given in voxels"]
    return options.nominal_spacing, []


def _build(
    draft: Draft,
    folder: Path,
    options: ImportOptions,
    channels: Mapping[str, ChannelConfig],
    names: Mapping[int, str],
    nominal: bool,
) -> Cohort:
    attributes = attribute_names(draft.cases)
    raters = list(dict.fromkeys(rater for case in draft.cases for rater in case.labels))
    rows = []
    for case in draft.cases:
        row = {"case_id": case.case_id, "patient_id": case.patient_id if case.patient_id is not None else case.case_id}
        row |= {f"image:{name}": stored_path(case.images[name], folder) for name in draft.channels}
        for rater in raters or [""]:
            path = case.labels.get(rater)
            row[f"label:{rater}" if rater else "label"] = stored_path(path, folder) if path is not None else ""
        rows.append(row | {name: case.attributes.get(name) or "" for name in attributes})
    classes = number_classes(names)
    values = {
        "name": options.name or draft.name,
        "channels": channels,
        "classes": classes,
        "label_values": dict(names),
        "attributes": {name: _attribute(name, draft, options) for name in attributes},
        "nominal_spacing": nominal,
        "left_right_pairs": find_left_right_pairs(list(classes)),
    }
    config = parse_options(CohortConfig, values, "import")
    return Cohort(Path(os.path.normpath(folder.absolute())), config, pd.DataFrame(rows))


def _attribute(name: str, draft: Draft, options: ImportOptions) -> AttributeConfig:
    if name in options.continuous:
        bins = options.continuous[name]
        return parse_options(AttributeConfig, {"kind": "continuous", "bins": bins}, f"--continuous {name}")
    present = {case.attributes.get(name) for case in draft.cases}
    names = {code: meaning for code, meaning in draft.value_names.get(name, {}).items() if code in present}
    return AttributeConfig(names=names)


def _mapping(config: CohortConfig, scanned: ScannedLabels | None) -> tuple[LabelMapping, ...]:
    return tuple(
        LabelMapping(value, name, config.classes.get(name, 0), scanned.files.get(value, 0) if scanned else None)
        for value, name in sorted(config.label_values.items())
    )


def _final_notes(cohort: Cohort, draft: Draft) -> list[str]:
    notes = []
    bare = [case.case_id for case in cohort.cases if case.label is None]
    if bare:
        notes.append(f"{len(bare)} cases have no label: they can be segmented, not trained on or scored: {some(bare)}")
    if draft.layout in ("folder", "csv") and all(case.patient_id is None for case in draft.cases):
        notes.append(
            "each case is taken as its own patient; if patients have several cases, name the column with --patient"
        )
    pairs = cohort.config.left_right_pairs
    if pairs:
        notes.append("left-right pairs, never mirrored into each other: " + some(f"{a} / {b}" for a, b in pairs))
    if not cohort.config.attributes:
        notes.append("no attributes to report by; add them with --table and --attribute")
    return notes


def _save_left_out(left_out: tuple[LeftOut, ...], folder: Path) -> None:
    path = folder / LEFT_OUT_NAME
    if not left_out:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        rows = pd.DataFrame([vars(item) for item in left_out], columns=["case_id", "reason"])
        rows.to_csv(temporary, index=False, lineterminator="\n")


def _split_channels(draft: Draft, folder: Path, workers: int) -> Draft:
    jobs = [(case, draft.channels, folder / "images") for case in draft.cases]
    outcomes = map_cases(_split_case, jobs, workers=workers, description="Splitting the channels")
    left_out = [LeftOut(o.item[0].case_id, o.error or "") for o in outcomes if o.result is None]
    cases = tuple(outcome.result for outcome in outcomes if outcome.result is not None)
    return replace(draft, cases=cases, left_out=(*draft.left_out, *left_out))


def _split_case(job: tuple[DraftCase, tuple[str, ...], Path]) -> DraftCase:
    """Write each channel of a 4D NIfTI file as a 3D file with the same header."""
    case, channels, folder = job
    source = case.images[channels[0]]
    image = nib.nifti1.Nifti1Image.from_filename(source)
    if image.ndim != 4 or image.shape[3] != len(channels):
        msg = f"{source}: expected a 4D image of {len(channels)} channels, got shape {image.shape}; check dataset.json"
        raise InputError(msg)
    paths = {}
    for index, name in enumerate(channels):
        part = image.slicer[..., index]
        if image.dataobj.slope != 1 or image.dataobj.inter != 0:
            part.set_data_dtype(np.float32)
        paths[name] = folder / f"{case.case_id}_{index:04d}.nii.gz"
        with atomic_path(paths[name]) as temporary:
            nib.save(part, temporary)
    return replace(case, images=paths)
