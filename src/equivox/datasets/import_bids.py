"""Read a BIDS folder: ``sub-*/[ses-*/]anat/*_<suffix>.nii.gz``, labels from ``derivatives``, ``participants.tsv``."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from equivox.datasets.import_draft import Draft, DraftCase, ImportOptions, LeftOut, is_scan
from equivox.datasets.wording import some
from equivox.errors import InputError

_DATA_FOLDERS = ("anat", "pet", "ct")
_NAME = re.compile(r"(?P<subject>sub-[^_]+)(_(?P<session>ses-[^_]+))?_(?P<rest>.+?)\.(nii\.gz|nii)")
_LABEL_SUFFIXES = ("dseg", "mask", "seg", "lesion", "roi")

# case id -> the rest of the file's name without subject, session and suffix -> path
_Files = dict[str, dict[str, Path]]


def read_bids(source: Path, options: ImportOptions) -> Draft:
    """Find subjects, sessions, channels and labels; a case is a session, a patient is a subject.

    A channel is named by its suffix (``T1w``); where one session has several files of one suffix, by the entities as
    well (``run-1_T1w``).

    Args:
        source: The BIDS folder.
        options: Its `channels` and `labels` choose among several.

    Raises:
        InputError: If there are no images, the sessions differ in their channels, or several kinds of label exist,
            and the options do not choose.
    """
    images, subjects = _collect_images(source)
    if not images:
        msg = f"{source}: expected sub-*/[ses-*/]anat/*.nii.gz, got none; check the folder, or give --image patterns"
        raise InputError(msg)
    labels = _collect_labels(source)
    channels = _choose_channels(source, images, options.channels)
    raters = _choose_labels(source, labels, options.labels)
    cases = tuple(
        DraftCase(
            case_id,
            images={name: files[name] for name in channels if name in files},
            labels={rater: labels[case_id][kind] for rater, kind in raters.items() if kind in labels.get(case_id, {})},
            patient_id=subjects[case_id],
        )
        for case_id, files in sorted(images.items())
    )
    unused = Counter(name for files in images.values() for name in files if name not in channels)
    orphans = sorted(set(labels) - set(images))
    return Draft(
        layout="bids",
        name=_name(source),
        channels=channels,
        cases=cases,
        value_names=_value_names(source),
        notes=tuple(f"{count} images '{name}' are not used: not among --channel" for name, count in unused.items()),
        left_out=tuple(LeftOut(case_id, "a label but no image") for case_id in orphans),
    )


def _collect_images(source: Path) -> tuple[_Files, dict[str, str]]:
    files: _Files = defaultdict(dict)
    subjects: dict[str, str] = {}
    for path in sorted(source.glob("sub-*/**/*.nii*")):
        if path.parent.name in _DATA_FOLDERS:
            for case_id, subject, rest in _entities(path):
                if rest.rsplit("_", 1)[-1] not in _LABEL_SUFFIXES:
                    files[case_id][rest] = path
                    subjects[case_id] = subject
    suffixes_are_enough = all(
        len({rest.rsplit("_", 1)[-1] for rest in found}) == len(found) for found in files.values()
    )
    if suffixes_are_enough:
        files = {case: {rest.rsplit("_", 1)[-1]: path for rest, path in found.items()} for case, found in files.items()}
    return dict(files), subjects


def _collect_labels(source: Path) -> _Files:
    labels: _Files = defaultdict(dict)
    root = source / "derivatives"
    for path in sorted(root.glob("**/*.nii*")):
        for case_id, _, rest in _entities(path):
            if rest.rsplit("_", 1)[-1] in _LABEL_SUFFIXES or "label-" in rest:
                pipeline = [part for part in path.relative_to(root).parts[:-1] if not part.startswith(("sub-", "ses-"))]
                kind = "/".join([*(part for part in pipeline if part not in _DATA_FOLDERS), rest])
                labels[case_id][kind] = path
    return dict(labels)


def _entities(path: Path) -> Iterator[tuple[str, str, str]]:
    match = _NAME.fullmatch(path.name)
    if match and is_scan(path):
        subject, session = match["subject"], match["session"]
        yield (f"{subject}_{session}" if session else subject), subject, match["rest"]


def _choose_channels(source: Path, images: _Files, wanted: tuple[str, ...]) -> tuple[str, ...]:
    counts = Counter(name for files in images.values() for name in files)
    listed = ", ".join(f"{name} in {count}" for name, count in sorted(counts.items()))
    unknown = [name for name in wanted if name not in counts]
    if unknown:
        msg = (
            f"{source}: expected --channel to name one of the images ({listed}), got '{unknown[0]}'; choose from these"
        )
        raise InputError(msg)
    if not wanted and set(counts.values()) != {len(images)}:
        msg = f"{source}: expected the same images in all {len(images)} sessions, got {listed}; choose with --channel"
        raise InputError(msg)
    return wanted or tuple(sorted(counts))


def _choose_labels(source: Path, labels: _Files, wanted: dict[str, str]) -> dict[str, str]:
    """Return rater -> kind of label."""
    counts = Counter(kind for kinds in labels.values() for kind in kinds)
    listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(counts.items())) or "none"
    if not wanted:
        if len(counts) > 1:
            msg = (
                f"{source}/derivatives: expected one kind of label, got {listed}; choose with --label <end of its name>"
            )
            raise InputError(msg)
        return {"": next(iter(counts))} if counts else {}
    chosen = {}
    for rater, end in wanted.items():
        fitting = [kind for kind in counts if kind.endswith(end.removesuffix(".gz").removesuffix(".nii"))]
        if len(fitting) != 1:
            wanted_one = f"expected --label {end} to end the name of one of {listed}"
            msg = f"{source}/derivatives: {wanted_one}, got {some(fitting) or 'none'}; write more or other of the name"
            raise InputError(msg)
        chosen[rater] = fitting[0]
    return chosen


def _value_names(source: Path) -> dict[str, dict[str, str]]:
    """Read what the codes of `participants.tsv` mean from the `Levels` of `participants.json`."""
    described = _read_json(source / "participants.json")
    names = {}
    for column, description in described.items():
        levels = description.get("Levels") if isinstance(description, dict) else None
        if isinstance(levels, dict) and all(isinstance(meaning, str) for meaning in levels.values()):
            names[column] = {str(code): str(meaning) for code, meaning in levels.items()}
    return names


def _name(source: Path) -> str:
    return str(_read_json(source / "dataset_description.json").get("Name") or source.resolve().name)


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: expected JSON, got {error}; mend the file"
        raise InputError(msg) from None
    return values if isinstance(values, dict) else {}
