"""Read any folder of scans by the patterns that the user gives."""

import os
from pathlib import Path

from equivox.datasets.import_draft import Draft, DraftCase, ImportOptions, LeftOut, is_scan
from equivox.datasets.patterns import match_patterns
from equivox.datasets.wording import some
from equivox.errors import InputError


def read_folder(source: Path, options: ImportOptions) -> Draft:
    """Find the files of each case by patterns.

    Args:
        source: Where relative patterns start.
        options: Its `images` (channel -> pattern) and `labels` (rater -> pattern).

    Raises:
        InputError: If no image pattern is given, one matches nothing, or one matches twice for a case.
    """
    if not options.images:
        msg = f"{source}: expected an image pattern, got none; add for example --image t1='{{case_id}}/t1.nii.gz'"
        raise InputError(msg)
    patterns = {f"image:{name}": text for name, text in options.images.items()}
    patterns |= {f"label:{name}": text for name, text in options.labels.items()}
    found = match_patterns(source, patterns)
    for role, matches in found.items():
        if not matches:
            msg = f"{source}: expected files that fit '{patterns[role]}', got none; check the pattern and the folder"
            raise InputError(msg)
    ids = sorted({case_id for role in found if role.startswith("image:") for case_id in found[role]})
    labelled = {case_id for role in found if role.startswith("label:") for case_id in found[role]}
    cases = tuple(
        DraftCase(
            case_id,
            images={
                name: found[f"image:{name}"][case_id] for name in options.images if case_id in found[f"image:{name}"]
            },
            labels={
                name: found[f"label:{name}"][case_id] for name in options.labels if case_id in found[f"label:{name}"]
            },
        )
        for case_id in ids
    )
    matched = {path for matches in found.values() for path in matches.values()}
    return Draft(
        layout="folder",
        name=source.resolve().name,
        channels=tuple(options.images),
        cases=cases,
        notes=_note_unmatched(source, matched),
        left_out=tuple(LeftOut(case_id, "a label but no image") for case_id in sorted(labelled - set(ids))),
    )


def _note_unmatched(source: Path, matched: set[Path]) -> tuple[str, ...]:
    """Say which scans in the source no pattern matches."""
    whole = {Path(os.path.normpath(path)) for path in matched}
    unmatched = []
    for folder, subfolders, names in os.walk(source):
        # What lies in a matched folder belongs to a DICOM series of the cohort.
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and Path(folder, name) not in whole
        )
        paths = (Path(os.path.normpath(Path(folder, name))) for name in sorted(names) if not name.startswith("."))
        unmatched += [path for path in paths if is_scan(path) and path not in whole]
    if not unmatched:
        return ()
    names_shown = some((path.relative_to(os.path.normpath(source)).as_posix() for path in unmatched), limit=4)
    return (f"{len(unmatched)} scans in the source fit no pattern and are not used: {names_shown}",)
