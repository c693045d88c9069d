"""Tables of landmarks: one row a case and landmark, its coordinates in columns."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from equivox.datasets.text_table import plain_codes, read_text_table
from equivox.errors import InputError

Point = tuple[float, ...]

_IDS: Final = ("case_id", "landmark")
_AXES: Final = ("x", "y", "z")
# No place in an image, in mm or in voxels.
_FARTHEST: Final = 1e9
# Python reads more as a number than a table means by one: underscores, "nan", "infinity".
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class LandmarkTable:
    """The landmarks of some cases.

    Attributes:
        path: The file that they come from.
        dims: 2 or 3 coordinates a point; None where no landmark has a point.
        cases: Case -> landmark -> its point, None where the landmark is absent; both in the order of the file.
    """

    path: Path
    dims: int | None
    cases: Mapping[str, Mapping[str, Point | None]]

    @property
    def landmarks(self) -> tuple[str, ...]:
        """All landmarks that are named, in the order in which they come first."""
        return tuple(dict.fromkeys(name for points in self.cases.values() for name in points))


def read_landmarks(path: Path) -> LandmarkTable:
    """Read a CSV or TSV of landmarks with the columns ``case_id``, ``landmark``, ``x``, ``y`` and, in 3D, ``z``.

    Nothing is said here about unit and frame: they are what the user says, mm in one frame for all tables that are
    compared, or pixels. A row without coordinates is a landmark that the case does not have; a column ``z`` without any
    number makes no third axis. Other columns are not read.

    Args:
        path: The file, as `read_text_table` reads it.

    Raises:
        InputError: If a column is missing, a cell holds no finite number, a row has some coordinates but not all, some
            rows are 2D and others 3D, an id is empty, or a case has a landmark twice.
    """
    table = read_text_table(path)
    columns = [str(name) for name in table.columns]
    missing = [name for name in (*_IDS, "x", "y") if name not in columns]
    if missing:
        msg = (
            f"{path}: expected a column '{missing[0]}', got {columns}; name the columns case_id, landmark, x, y and, "
            "in 3D, z"
        )
        raise InputError(msg)
    axes = [name for name in _AXES if name in columns]
    cases: dict[str, dict[str, Point | None]] = {}
    first_of: dict[int, str] = {}
    # The header is row 1, as a spreadsheet counts.
    for row, cells in enumerate(plain_codes(table, _IDS).to_dict("records"), 2):
        case_id, landmark = (str(cells[name]) for name in _IDS)
        where = f"row {row} (case '{case_id}', landmark '{landmark}')"
        if not case_id or not landmark:
            empty = _IDS[0] if not case_id else _IDS[1]
            msg = f"{path}: expected a name in column '{empty}' of {where}, got an empty cell; fill it in"
            raise InputError(msg)
        points = cases.setdefault(case_id, {})
        if landmark in points:
            msg = f"{path}: expected each landmark of a case once, got it again in {where}; keep one of the rows"
            raise InputError(msg)
        points[landmark] = point = _point(path, where, {axis: str(cells[axis]) for axis in axes})
        if point is not None:
            first_of.setdefault(len(point), where)
    if len(first_of) > 1:
        msg = (
            f"{path}: expected 'z' in every row or in none, got it in {first_of[3]} and not in {first_of[2]}; "
            "fill in the column, or leave it out"
        )
        raise InputError(msg)
    return LandmarkTable(path, next(iter(first_of), None), cases)


def _point(path: Path, where: str, cells: Mapping[str, str]) -> Point | None:
    """Return the point of a row, None where all its cells are empty."""
    given = [axis for axis, text in cells.items() if text]
    if not given:
        return None
    lacking = [axis for axis in ("x", "y") if axis not in given]
    if lacking:
        msg = (
            f"{path}: expected all coordinates or none, got none in column '{lacking[0]}' of {where}; fill it in, or "
            "empty them all where the landmark is absent"
        )
        raise InputError(msg)
    point = []
    for axis in given:
        number = float(cells[axis]) if _NUMBER.fullmatch(cells[axis]) else math.nan
        if not abs(number) <= _FARTHEST:
            msg = (
                f"{path}: expected a number such as 12.5 in column '{axis}' of {where}, got '{cells[axis]}'; mend the "
                "cell, or empty all coordinates where the landmark is absent"
            )
            raise InputError(msg)
        point.append(number)
    return tuple(point)
