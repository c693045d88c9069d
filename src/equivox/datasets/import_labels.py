"""Find the values in the label files and give each a class."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from equivox.datasets.label_values import count_values
from equivox.datasets.wording import some
from equivox.errors import InputError
from equivox.parallel import map_cases
from equivox.volume import read_label_map


@dataclass(frozen=True)
class LabelMapping:
    """What one value of the label files became.

    Attributes:
        value: In the label files.
        class_name: The class, or ``background``.
        index: In our label maps; 0 for background.
        files: Label files that hold the value; None where they were not looked at.
    """

    value: int
    class_name: str
    index: int
    files: int | None


@dataclass(frozen=True)
class ScannedLabels:
    """What all label files together hold.

    Attributes:
        files: Value -> how many files hold it.
        example: Value -> one file that holds it.
        failures: One line for each file that could not be read.
    """

    files: Mapping[int, int]
    example: Mapping[int, Path]
    failures: tuple[str, ...]


def scan_labels(paths: Sequence[Path], *, workers: int) -> ScannedLabels:
    """Read every label file and count which values occur.

    Args:
        paths: Label files.
        workers: Processes to use.
    """
    files: Counter[int] = Counter()
    example: dict[int, Path] = {}
    failures = []
    for outcome in map_cases(_values, paths, workers=workers, description="Looking at the labels"):
        if outcome.result is None:
            failures.append(str(outcome.error))
            continue
        for value in outcome.result:
            files[value] += 1
            example.setdefault(value, outcome.item)
    return ScannedLabels(dict(sorted(files.items())), example, tuple(failures))


def name_classes(scanned: ScannedLabels, named: Mapping[int, str]) -> tuple[dict[int, str], list[str]]:
    """Give each value a class name.

    Args:
        scanned: What the label files hold.
        named: What the user named; empty names them all by default: a single value becomes ``foreground``, several
            become ``class_1``, ``class_2``, ... after their values.

    Returns:
        Value -> class name (0 is background), and notes for the user.

    Raises:
        InputError: If the user named some values, and the files hold others, or hold no whole labels at all.
    """
    present = [value for value in scanned.files if value != 0]
    if named:
        missing = [value for value in present if value not in named]
        if missing:
            where = f"such as {scanned.example[missing[0]]} ({scanned.files[missing[0]]} files)"
            msg = (
                f"--class: expected a name for each value in the labels, got none for {some(map(str, missing))}, "
                f"{where}; add --class {missing[0]}=NAME, or --class {missing[0]}=background"
            )
            raise InputError(msg)
        absent = [f"{value}={name}" for value, name in named.items() if value and value not in present]
        notes = [f"no label file holds {', '.join(absent)}"] if absent else []
        return {0: "background"} | dict(sorted(named.items())), notes
    if len(present) == 1:
        return {0: "background", present[0]: "foreground"}, []
    return {0: "background"} | {value: f"class_{value}" for value in present}, []


def number_classes(names: Mapping[int, str]) -> dict[str, int]:
    """Return class -> index from 1 up, in the order of the values; values of one name share an index."""
    classes = dict.fromkeys(name for _, name in sorted(names.items()) if name != "background")
    return {name: index for index, name in enumerate(classes, start=1)}


def find_left_right_pairs(classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Find classes that differ by nothing but the words left and right.

    Example:
        >>> find_left_right_pairs(["lung_left", "lung_right", "heart"])
        (('lung_left', 'lung_right'),)
    """
    known = {name.casefold(): name for name in classes}
    pairs = []
    for name in classes:
        other = known.get(re.sub(r"(?<![a-z])left(?![a-z])", "right", name.casefold()))
        if other is not None and other != name:
            pairs.append((name, other))
    return tuple(pairs)


def _values(path: Path) -> list[int]:
    return list(count_values(read_label_map(path).array))
