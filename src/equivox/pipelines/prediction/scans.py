"""Which scans a user means: files, folders, DICOM series and the files of several channels, each under a safe name."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from equivox.datasets.cohort import unsafe_id
from equivox.errors import InputError
from equivox.volume.formats import SUFFIXES, is_dicom, suffix_of

_NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
# The other halves of headers that stand for the pair: `scan.hdr` + `scan.img`.
_DATA_HALVES = {".img": ".hdr", ".img.gz": ".hdr.gz"}


@dataclass(frozen=True)
class Scan:
    """One scan to segment.

    Attributes:
        case_id: Names the output; safe as a file name on every system.
        images: Channel -> file or DICOM folder.
        fault: Why it cannot be segmented, as one line for the user; empty where nothing is wrong so far.
    """

    case_id: str
    images: Mapping[str, Path]
    fault: str = ""


def find_scans(paths: Sequence[Path], channels: Sequence[str]) -> list[Scan]:
    """List the scans that files and folders stand for.

    A file is a scan, named as the file. A folder that holds DICOM slices is one scan, named as the folder. Any other
    folder stands for every image in it and every DICOM folder in it, not deeper. With several channels the files of a
    case are told by nnU-Net's convention: ``case_0000.nii.gz`` is the first channel, ``case_0001.nii.gz`` the second.
    With one channel the ending ``_0000`` is dropped from the names where every file has it.

    Args:
        paths: Files and folders. One that is named twice counts once.
        channels: The channels that the network wants, in its order.

    Returns:
        In the order of the paths, files of a folder by name. What is wrong with one scan is its `fault`.

    Raises:
        InputError: If a folder holds no scan.
    """
    files = list(dict.fromkeys(file for path in paths for file in _expand(path)))
    if len(channels) > 1:
        return _apart(_join_channels(files, channels))
    numbered = [_NUMBERED.fullmatch(_stem(file)) for file in files]
    drop = bool(files) and all(match is not None and match["channel"] == "0000" for match in numbered)
    names = [match["case"] if drop and match else _stem(file) for file, match in zip(files, numbered, strict=True)]
    return _apart(
        Scan(_safe(name), {channels[0]: file}, _missing([file])) for name, file in zip(names, files, strict=True)
    )


def scan_of_channels(files: Mapping[str, Path], channels: Sequence[str]) -> Scan:
    """Return the one scan whose channels are named outright; it is named as the first channel's file.

    Raises:
        InputError: If a channel is missing or not one of the network's.
    """
    if set(files) != set(channels):
        msg = f"--channel: expected a file for each of {', '.join(channels)}, got {', '.join(files)}; name each once"
        raise InputError(msg)
    images = {name: files[name] for name in channels}
    return Scan(_safe(_stem(files[channels[0]])), images, _missing(images.values()))


def _expand(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    if any(entry.is_file() and _is_slice(entry) for entry in entries):
        return [path]
    found = [
        entry
        for entry in entries
        if (entry.is_file() and _is_image(entry)) or (entry.is_dir() and _holds_slices(entry))
    ]
    if not found:
        msg = f"{path}: expected scans ({', '.join(SUFFIXES)}, or folders of DICOM slices), got none; check the folder"
        raise InputError(msg)
    return found


def _is_image(path: Path) -> bool:
    suffix = suffix_of(path)
    if suffix in _DATA_HALVES:
        return not path.with_name(path.name[: -len(suffix)] + _DATA_HALVES[suffix]).exists()
    return suffix != ""


def _is_slice(path: Path) -> bool:
    return suffix_of(path) == ".dcm" or (suffix_of(path) == "" and is_dicom(path))


def _holds_slices(folder: Path) -> bool:
    return any(entry.is_file() and not entry.name.startswith(".") and _is_slice(entry) for entry in folder.iterdir())


def _stem(path: Path) -> str:
    if path.is_dir():
        return path.resolve().name
    suffix = suffix_of(path)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.name


def _safe(name: str) -> str:
    """Return the name with everything replaced that could not stand in a file name."""
    plain = "".join(
        "_" if not character.isprintable() or character in '/\\:*?"<>|' else character for character in name
    )
    plain = plain.strip(" .").lstrip("-.")
    return plain if plain and unsafe_id(plain) is None else "scan"


def _missing(files: Iterable[Path]) -> str:
    for file in files:
        if not file.exists():
            return f"{file}: no such file; check the path"
    return ""


def _join_channels(files: Sequence[Path], channels: Sequence[str]) -> list[Scan]:
    cases: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    scans = []
    for file in files:
        match = _NUMBERED.fullmatch(_stem(file))
        if match is None:
            names = ", ".join(f"<case>_{number:04d}" for number in range(len(channels)))
            wanted = f"one file for each channel ({', '.join(channels)}), named {names}"
            todo = "rename them, or name each with --channel NAME=FILE"
            fault = _missing([file]) or f"{file}: expected {wanted}, got a name without channel; {todo}"
            scans.append(Scan(_safe(_stem(file)), {channels[0]: file}, fault))
        else:
            cases[match["case"]].append((int(match["channel"]), file))
    for case, numbered in cases.items():
        images = {channels[number]: file for number, file in numbered if number < len(channels)}
        scans.append(Scan(_safe(case), images, _channel_fault(numbered, channels) or _missing(images.values())))
    return scans


def _channel_fault(numbered: Sequence[tuple[int, Path]], channels: Sequence[str]) -> str:
    first = numbered[0][1]
    numbers = Counter(number for number, _ in numbered)
    for number, file in numbered:
        if number >= len(channels):
            return (
                f"{file}: expected channels 0000 to {len(channels) - 1:04d}, got {number:04d}; give the run's channels"
            )
        if numbers[number] > 1:
            return f"{file}: expected one file for channel {number:04d}, got {numbers[number]}; leave one out"
    for number, name in enumerate(channels):
        if number not in numbers:
            return f"{first}: expected channel '{name}' beside it with the ending _{number:04d}, got none; add the file"
    return ""


def _apart(scans: Iterable[Scan]) -> list[Scan]:
    """Give a fault to scans that would be written to the same file, capitals not counting."""
    listed = list(scans)
    same: dict[str, list[Scan]] = defaultdict(list)
    for scan in listed:
        same[scan.case_id.casefold()].append(scan)
    return [_with_clash(scan, same[scan.case_id.casefold()]) for scan in listed]


def _with_clash(scan: Scan, same: Sequence[Scan]) -> Scan:
    others = [other for other in same if other is not scan]
    if not others or scan.fault:
        return scan
    mine, theirs = (next(iter(one.images.values()), one.case_id) for one in (scan, others[0]))
    fault = (
        f"{mine}: expected a name of its own, got the output name '{scan.case_id}' of {theirs} too; rename one of them"
    )
    return replace(scan, fault=fault)
