"""What a folder of predictions holds, and what it says of itself: the masks, their list, their labels, their model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from equivox.datasets.text_table import read_text_table
from equivox.errors import InputError
from equivox.volume.formats import suffix_of

PREDICTION_LIST, PREDICTION_LABELS, PREDICTION_MANIFEST = "predictions.csv", "labels.json", "manifest.json"

_ROLES: Final = ("test", "out_of_fold", "new")

_DIGITS: Final = 18
"""Of the largest label that any format can hold; Python refuses to read thousands of them."""


def masks_in(folder: Path, what: str = "mask") -> dict[str, Path]:
    """Return name without suffix -> file, for every file that may be a mask, by name.

    Args:
        folder: Where to look; not in folders below it.
        what: What the files are, for messages.

    Raises:
        InputError: If there is no such folder, two masks have one name, or one is a folder or a link that leads
            nowhere.
    """
    if not folder.is_dir():
        msg = (
            f"{folder}: expected a folder of {what}s, got {'a file' if folder.exists() else 'nothing'}; check the path"
        )
        raise InputError(msg)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = suffix_of(path)
        if path.name.startswith(".") or not suffix:
            continue
        if not path.is_file():
            # Left out in silence, it would count as a failure of the model.
            got = "a folder of that name" if path.is_dir() else "a link that leads nowhere"
            msg = f"{path}: expected {'an' if what == 'image' else 'a'} {what}, got {got}; mend or remove it"
            raise InputError(msg)
        stem = path.name[: -len(suffix)]
        if stem in found:
            msg = f"{path}: expected one {what} of case '{stem}', got also {found[stem].name}; remove one of them"
            raise InputError(msg)
        found[stem] = path
    return found


def images_in(folder: Path) -> dict[str, Path]:
    """Return case -> image; nnU-Net's `_0000`, for the first channel, is not part of the case's id.

    Raises:
        InputError: As of `masks_in`.
    """
    found = masks_in(folder, "image")
    return {name.removesuffix("_0000"): path for name, path in found.items() if name.endswith("_0000")} | {
        name: path for name, path in found.items() if not name.endswith("_0000")
    }


def read_list(predictions: Path) -> dict[str, dict[str, str]]:
    """Return case -> its row of `predictions.csv`; empty where there is none.

    Raises:
        InputError: If the list lacks a column, names a case twice, a role that is none, or a file outside the folder.
    """
    path = predictions / PREDICTION_LIST
    if not path.is_file():
        return {}
    table = read_text_table(path)
    if "case_id" not in table or "role" not in table:
        msg = f"{path}: expected the columns case_id and role, got {list(table.columns)}; run 'equivox predict' again"
        raise InputError(msg)
    rows: dict[str, dict[str, str]] = {}
    for record in table.to_dict("records"):
        row = {str(name): str(cell) for name, cell in record.items()}
        case_id, name = row["case_id"], row.get("file", "")
        if case_id in rows:
            msg = f"{path}: expected each case once, got '{case_id}' twice; keep one row"
            raise InputError(msg)
        if row["role"] not in _ROLES:
            msg = f"{path}: expected one of the roles {', '.join(_ROLES)}, got '{row['role']}' for '{case_id}'; mend it"
            raise InputError(msg)
        if name != Path(name).name:
            msg = f"{path}: expected the name of a file beside it for '{case_id}', got '{name}'; move the file here"
            raise InputError(msg)
        rows[case_id] = row
    return rows


def listed_mask(
    row: Mapping[str, str] | None, case_id: str, predictions: Path, masks: Mapping[str, Path]
) -> Path | None:
    """Return the mask of a case, None where it has none; what lies there of a case that failed is not its prediction.

    Args:
        row: Of `predictions.csv`; None where there is no list.
        case_id: The case.
        predictions: The folder.
        masks: What `masks_in` found there.
    """
    if row is None or not (row.get("file") or row.get("status")):
        return masks.get(case_id)
    path = predictions / row.get("file", "")
    return path if path.is_file() and row.get("status") != "failed" else None


def read_label_names(predictions: Path) -> dict[int, str] | None:
    """Return value -> class name from `labels.json`; None where there is none.

    Raises:
        InputError: If it is no such mapping.
    """
    path = predictions / PREDICTION_LABELS
    if not path.is_file():
        return None
    values = _read_json(path)
    names = values if isinstance(values, dict) else {}
    numbers = [int(value) for value in names if value.isascii() and value.isdecimal() and len(value) <= _DIGITS]
    if not names or len(set(numbers)) < len(names) or not all(isinstance(name, str) for name in names.values()):
        msg = f'{path}: expected {{"1": "liver", ...}}, each value once, got other JSON; write each value and its class'
        raise InputError(msg)
    return dict(zip(numbers, names.values(), strict=True))


def read_model(predictions: Path) -> dict[str, str | None]:
    """Return name and run of the model from `manifest.json`, None where it does not say."""
    path = predictions / PREDICTION_MANIFEST
    values = _read_json(path) if path.is_file() else {}
    known = values if isinstance(values, dict) else {}
    found = {"name": known.get("model"), "run": known.get("run")}
    return {key: None if value is None else str(value) for key, value in found.items()}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        msg = f"{path}: expected JSON, got {error}; mend or remove the file"
        raise InputError(msg) from None
