"""Tables of text: CSV and TSV files as spreadsheets and scripts write them."""

import codecs
import csv
import io
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from equivox.errors import InputError


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV file, every cell as one line of stripped text, an empty one as ``""``.

    The separator is the comma, semicolon or tab that the first line holds most of (tab for ``.tsv``). Empty rows, and
    empty columns without a name, are left out. The index of the table is the first line of each row in the file.

    Raises:
        InputError: If there is no such file, it is no table in UTF-8 (or in UTF-16 with its mark), it has no rows, a
            row is longer or shorter than the header, quotes do not match, or a column name is missing or stands twice.
    """
    if not path.is_file():
        msg = f"{path}: expected a CSV file, got none; check the path"
        raise InputError(msg)
    rows = _rows(path, _text(path))
    if len(rows) < 2:
        what = "at least one row below the header, got none" if rows else "a CSV file, got an empty one"
        msg = f"{path}: expected {what}; add the cases"
        raise InputError(msg)
    (_, names), *body = rows
    least = max((place for place, name in enumerate(names, 1) if name), default=0)
    for line, cells in body:
        longer = any(cells[len(names) :])
        if longer or len(cells) < least:
            todo = "put quotes around a cell that holds the separator" if longer else "add the cells that it lacks"
            msg = (
                f"{path}: expected {len(names) if longer else least} cells in line {line}, as in the header, got "
                f"{len(cells)}; mend the line, or {todo}"
            )
            raise InputError(msg)
    filled = [[*cells, *[""] * (len(names) - len(cells))][: len(names)] for _, cells in body]
    kept = [place for place, name in enumerate(names) if name or any(cells[place] for cells in filled)]
    _check_names(path, [names[place] for place in kept])
    return pd.DataFrame(filled, columns=names, index=[line for line, _ in body], dtype=str).iloc[:, kept]


def plain_codes(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Write whole numbers without a decimal in those columns that hold nothing but whole numbers.

    Example:
        >>> table = pd.DataFrame({"sex": ["2.0", "", "1.0"], "grade": ["2.5", "1.0", ""]})
        >>> plain_codes(table, ["sex", "grade"]).to_dict("list")
        {'sex': ['2', '', '1'], 'grade': ['2.5', '1.0', '']}
    """
    changed = {
        name: table[name].str.replace(r"\.0+$", "", regex=True)
        for name in columns
        if table[name].str.fullmatch(r"(-?\d+(\.0+)?)?").all()
    }
    return table.assign(**changed)


def refuse_lost_zeros(path: Path, column: str, keys: Collection[str], case_ids: Collection[str]) -> None:
    """Refuse a column of ids whose leading zeros a spreadsheet has dropped: ``7`` where a case is called ``007``.

    Raises:
        InputError: If an id fits no case, and would with zeros before it.
    """
    known, bare = set(case_ids), {case_id.lstrip("0") or "0": case_id for case_id in case_ids if case_id.isdecimal()}
    for key in keys:
        meant = bare.get(key)
        if meant is not None and key not in known and meant not in keys:
            msg = (
                f"{path}: expected the id '{meant}' in column '{column}', got '{key}' without its zeros; "
                "format the column as text and save the table again"
            )
            raise InputError(msg)


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith(b"PK\x03\x04"):
        msg = f"{path}: expected a CSV file, got a workbook; save the table as 'CSV UTF-8'"
        raise InputError(msg)
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError:
        msg = f"{path}: expected a CSV file in UTF-8, got other bytes; save the table as 'CSV UTF-8'"
        raise InputError(msg) from None
    if "\0" in text:
        line = len(text[: text.index("\0") + 1].splitlines())
        msg = f"{path}: expected a CSV file in UTF-8, got a NUL byte in line {line}; save the table as 'CSV UTF-8'"
        raise InputError(msg)
    return text


def _rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Return the rows that hold anything, each with the number of its first line."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    bare = re.sub(r'"[^"]*"', "", head)
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=bare.count)
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=separator, strict=True)
    rows, line = [], 1
    try:
        for cells in reader:
            stripped = [" ".join(cell.split("\n")).strip() for cell in cells]
            if any(stripped):
                rows.append((line, stripped))
            line = reader.line_num + 1
    except csv.Error as error:
        if "field larger" in str(error):
            msg = f"{path}: expected cells of a table, got one of over 131,072 characters in line {line}; shorten it"
            raise InputError(msg) from None
        msg = f"{path}: expected quotes in pairs, got a cell in line {line} that does not end with its quote; mend it"
        raise InputError(msg) from None
    return rows


def _check_names(path: Path, names: Sequence[str]) -> None:
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles and not doubles[0]:
        msg = f"{path}: expected a name above each column, got {names.count('')} columns without one; name them"
        raise InputError(msg)
    if doubles:
        msg = f"{path}: expected each column once, got {doubles} twice; rename one of them"
        raise InputError(msg)
