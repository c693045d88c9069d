"""Find the files of each case by a pattern such as ``nifti/{case_id}/{case_id}_flair.nii.gz``."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from equivox.errors import InputError

PLACEHOLDER = "{case_id}"


def match_patterns(root: Path, patterns: Mapping[str, str]) -> dict[str, dict[str, Path]]:
    """Find what each of several patterns matches; a file that two of them match belongs to the more literal one.

    ``{case_id}.nii.gz`` also matches ``a_mask.nii.gz``, which ``{case_id}_mask.nii.gz`` describes better.

    Args:
        root: Where relative patterns start.
        patterns: Role (a channel, a rater) -> pattern.

    Returns:
        Role -> case id -> file or DICOM folder, sorted by case id.

    Raises:
        InputError: If a pattern is malformed, two patterns are equal, or one case has two files in one role.
    """
    found = {role: list(find_files(root, pattern)) for role, pattern in patterns.items()}
    literal = {role: len(pattern.replace(PLACEHOLDER, "").replace("*", "")) for role, pattern in patterns.items()}
    owner: dict[Path, str] = {}
    for role, matches in found.items():
        for _, path in matches:
            rival = owner.get(path)
            if rival is not None and literal[rival] == literal[role]:
                msg = f"{path}: expected one pattern for it, got those of '{rival}' and '{role}'; make one more exact"
                raise InputError(msg)
            if rival is None or literal[role] > literal[rival]:
                owner[path] = role
    result: dict[str, dict[str, Path]] = {role: {} for role in patterns}
    for role, matches in found.items():
        for case_id, path in matches:
            if owner[path] != role:
                continue
            if case_id in result[role]:
                msg = (
                    f"{path}: expected one file of '{role}' for case '{case_id}', got also {result[role][case_id]}; "
                    "make the pattern more exact"
                )
                raise InputError(msg)
            result[role][case_id] = path
    return result


def find_files(root: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """Yield (case id, path) for all that matches, sorted by path.

    ``{case_id}`` stands for any text within one part of the path, and for the same text wherever it stands again.
    ``*`` stands for any text within a part. Hidden files and folders are never matched.

    Args:
        root: Where a relative pattern starts.
        pattern: A path with forward slashes and at least one ``{case_id}``.

    Raises:
        InputError: If the pattern has no ``{case_id}``, another placeholder, or ``*`` beside a first ``{case_id}``.
    """
    parts = _checked_parts(pattern)
    start = Path(PurePath(pattern).anchor) if PurePath(pattern).is_absolute() else root
    yield from _walk(start, parts, None)


def _walk(folder: Path, parts: tuple[str, ...], case_id: str | None) -> Iterator[tuple[str, Path]]:
    part, rest = parts[0], parts[1:]
    if case_id is not None:
        part = part.replace(PLACEHOLDER, case_id)
    for name, found in _entries(folder, part, literal=PLACEHOLDER not in part and "*" not in parts[0]):
        path = folder / name
        if rest:
            if path.is_dir():
                yield from _walk(path, rest, found or case_id)
        elif path.exists():
            known = found or case_id
            if known is not None:
                yield known, path


def _entries(folder: Path, part: str, *, literal: bool) -> Iterator[tuple[str, str | None]]:
    """Yield each entry of a folder that fits one part of a pattern, with the case id where it is read off here."""
    if literal:
        yield part, None
        return
    if not folder.is_dir():
        return
    expression = _expression(part)
    for name in sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")):
        match = expression.fullmatch(name)
        if match:
            yield name, match.groupdict().get("case_id")


def _expression(part: str) -> re.Pattern[str]:
    head, *others = part.split(PLACEHOLDER)
    text = re.escape(head)
    for index, other in enumerate(others):
        text += ("(?P=case_id)" if index else "(?P<case_id>.+)") + re.escape(other)
    return re.compile(text.replace(r"\*", ".*"))


def _checked_parts(pattern: str) -> tuple[str, ...]:
    placeholders = re.findall(r"\{[^}]*\}?", pattern)
    strangers = sorted(set(placeholders) - {PLACEHOLDER})
    if strangers or not placeholders:
        got = f"got {', '.join(strangers)}" if strangers else "got none"
        msg = f"pattern '{pattern}': expected the placeholder {PLACEHOLDER}, {got}; write for example {PLACEHOLDER}.nii"
        raise InputError(msg)
    path = PurePath(pattern)
    parts = path.parts[1:] if path.is_absolute() else path.parts
    first = next(part for part in parts if PLACEHOLDER in part)
    if "*" in first:
        msg = (
            f"pattern '{pattern}': expected no '*' beside the first {PLACEHOLDER}, got '{first}', "
            "where the id could end anywhere; write the text in full"
        )
        raise InputError(msg)
    return parts
