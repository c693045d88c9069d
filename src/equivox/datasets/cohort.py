"""A cohort: which cases there are, whose they are, and what their labels mean."""

import itertools
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
from pydantic import Field, model_validator

from equivox.atomic import atomic_path
from equivox.datasets.text_table import plain_codes, read_text_table
from equivox.datasets.unknown_words import unknown_words
from equivox.errors import InputError
from equivox.options import Options, load_options, save_options

TABLE_NAME, CONFIG_NAME = "cohort.csv", "cohort.yaml"

OWN_COLUMNS = ("case_id", "patient_id", "label", "fold")

Modality = Literal["CT", "MR", "PET", "XR", "RGB", "OTHER"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


class ChannelConfig(Options):
    """One image channel of every case.

    Attributes:
        modality: Chooses the intensity scheme of the plan: CT is clipped and standardised with the cohort's foreground
            statistics, MR is standardised case by case, PET keeps its SUV.
    """

    modality: Modality = "OTHER"


class AttributeConfig(Options):
    """One attribute of the patients, to report by.

    Attributes:
        kind: ``categorical`` groups by value; ``continuous`` groups by `bins`.
        bins: Inner edges of the groups of a continuous attribute: ``[40, 65]`` gives <40, 40-65 (65 excluded), >=65.
        names: What the values mean, where the table holds codes: ``{"1": "female"}``. Values not named keep their code.
            A word such as ``NA``, else read as unknown, is a value where it has a name here.
    """

    kind: Literal["categorical", "continuous"] = "categorical"
    bins: tuple[float, ...] = ()
    names: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _bins_rise(self) -> "AttributeConfig":
        if list(self.bins) != sorted(set(self.bins)) or not all(map(math.isfinite, self.bins)):
            msg = f"bins must be finite numbers that rise, got {list(self.bins)}"
            raise ValueError(msg)
        if self.kind == "continuous" and not self.bins:
            msg = "a continuous attribute needs bins, for example [40, 65]"
            raise ValueError(msg)
        return self

    @property
    def bin_names(self) -> tuple[str, ...]:
        """The groups of a continuous attribute in rising order: ``("<40", "40-65", ">=65")``."""
        if not self.bins:
            return ()
        edges = [f"{edge:g}" for edge in self.bins]
        middle = [f"{low}-{high}" for low, high in itertools.pairwise(edges)]
        return (f"<{edges[0]}", *middle, f">={edges[-1]}")

    def group_of(self, value: str | None) -> str | None:
        """Return the name of the group that a value falls into, None where the value is unknown.

        Raises:
            InputError: If the attribute is continuous and the value is not a number.

        Example:
            >>> AttributeConfig(kind="continuous", bins=(40, 65)).group_of("65")
            '>=65'
            >>> AttributeConfig(names={"1": "female"}).group_of("1")
            'female'
        """
        if value is None:
            return None
        if self.kind == "categorical":
            return self.names.get(value, value)
        number = _number(value)
        if number is None:
            msg = f"expected a number, got '{value}'; mend the cell, or leave it empty where the value is unknown"
            raise InputError(msg)
        return self.bin_names[sum(number >= edge for edge in self.bins)]

    def sort_groups(self, groups: Iterable[str]) -> list[str]:
        """Return the groups, each once, in the order to show them: bins as they rise, names by the alphabet."""
        present = set(groups)
        if self.kind == "continuous":
            return [name for name in self.bin_names if name in present]
        return sorted(present, key=lambda name: (_number(name) is None, _number(name) or 0.0, name))


class CohortConfig(Options):
    """The `cohort.yaml` of a cohort folder.

    Attributes:
        name: Shown in reports.
        channels: Channels in the order of the network's input; the first one's grid is the grid of the case.
        classes: Foreground classes and their index in our label maps, 1 and up, without gaps; background is 0.
        label_values: Value in the label files -> class name (or ``background``). Values not listed are errors.
        attributes: Attributes of the patients that results are reported by.
        nominal_spacing: True where the voxel sizes in the files are not real: nothing in mm or ml is then claimed.
        left_right_pairs: Pairs of classes that swap when left and right swap, such as the two lungs.
    """

    name: str
    channels: dict[str, ChannelConfig]
    classes: dict[str, int]
    label_values: dict[int, str]
    attributes: dict[str, AttributeConfig] = Field(default_factory=dict)
    nominal_spacing: bool = False
    left_right_pairs: tuple[tuple[str, str], ...] = ()

    @model_validator(mode="after")
    def _classes_are_consecutive(self) -> "CohortConfig":
        if sorted(self.classes.values()) != list(range(1, len(self.classes) + 1)):
            msg = f"classes must have the indices 1 to {len(self.classes)}, each once"
            raise ValueError(msg)
        unknown = {name for name in self.label_values.values() if name != "background" and name not in self.classes}
        if unknown:
            msg = f"label_values name unknown classes {sorted(unknown)}; known: {list(self.classes)}"
            raise ValueError(msg)
        if self.label_values.get(0, "background") != "background":
            msg = f"label_values must keep 0 as background, got '{self.label_values[0]}'"
            raise ValueError(msg)
        strangers = {name for pair in self.left_right_pairs for name in pair} - set(self.classes)
        if strangers:
            msg = f"left_right_pairs name unknown classes {sorted(strangers)}; known: {list(self.classes)}"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _names_can_head_a_column(self) -> "CohortConfig":
        if not self.channels:
            msg = "channels must name at least one channel"
            raise ValueError(msg)
        for name in self.channels:
            if not _PLAIN_NAME.fullmatch(name):
                msg = f"'{name}' cannot name a channel: use letters, digits, spaces and _ . + -"
                raise ValueError(msg)
        for name in self.attributes:
            if name in OWN_COLUMNS or name.startswith(("image:", "label:")) or not name.isprintable() or not name:
                msg = f"'{name}' cannot name an attribute, as it is or looks like a column of the cohort itself"
                raise ValueError(msg)
        return self

    @property
    def label_indices(self) -> dict[int, int]:
        """Value in the label files -> index in our label maps, 0 for background."""
        return {0: 0} | {value: self.classes.get(name, 0) for value, name in self.label_values.items()}


@dataclass(frozen=True)
class Case:
    """One row of `cohort.csv`.

    Attributes:
        case_id: Unique in the cohort.
        patient_id: Cases of one patient share it: the patient is the unit of splits and of statistics.
        images: Channel name -> absolute path of its file (or DICOM folder), in the order of the config.
        labels: Rater -> absolute path; a cohort with one `label` column has the rater ``""``.
        attributes: Attribute name -> value as text; None where unknown.
    """

    case_id: str
    patient_id: str
    images: Mapping[str, Path]
    labels: Mapping[str, Path]
    attributes: Mapping[str, str | None]

    @property
    def label(self) -> Path | None:
        """The first rater's label file, or None."""
        return next(iter(self.labels.values()), None)


@dataclass(frozen=True, eq=False)
class Cohort:
    """A cohort folder in memory: `cohort.csv` and `cohort.yaml`.

    Attributes:
        folder: Absolute path; relative paths in the table start here.
        config: The `cohort.yaml`.
        table: The `cohort.csv`, every column as text: `case_id, patient_id, image:<channel>..., label...`, attributes.
        unknown: Attribute -> the words in its column that were read as unknown, and how many cells had each; their
            cells in `table` are empty.
    """

    folder: Path
    config: CohortConfig
    table: pd.DataFrame
    unknown: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The rows of the table, in its order."""
        raters = label_columns(self.table)
        rows = self.table.to_dict("records")
        return tuple(self._case({str(key): str(value) for key, value in row.items()}, raters) for row in rows)

    @property
    def patients(self) -> tuple[str, ...]:
        """Each patient once, in the order of the table."""
        return tuple(dict.fromkeys(case.patient_id for case in self.cases))

    def case(self, case_id: str) -> Case:
        """Return the case of that id.

        Raises:
            InputError: If the cohort has no such case.
        """
        for case in self.cases:
            if case.case_id == case_id:
                return case
        msg = f"{self.folder / TABLE_NAME}: no case '{case_id}'; check the id"
        raise InputError(msg)

    def _case(self, row: Mapping[str, str], raters: Mapping[str, str]) -> Case:
        images = {name: row[f"image:{name}"] for name in self.config.channels}
        labels = {rater: row[column] for rater, column in raters.items()}
        return Case(
            case_id=row["case_id"],
            patient_id=row["patient_id"],
            images={name: resolve_path(text, self.folder) for name, text in images.items() if text},
            labels={rater: resolve_path(text, self.folder) for rater, text in labels.items() if text},
            attributes={name: row[name] or None for name in self.config.attributes},
        )


def load_cohort(folder: Path, *, sound: bool = True) -> Cohort:
    """Read `cohort.csv` and `cohort.yaml`.

    Every cell is text. In the columns of attributes, words such as ``NA`` or ``unknown`` are read as an empty cell (see
    `unknown_words`). Whole numbers that a spreadsheet wrote with a decimal (a column of ``2.0`` and ``3.0``) are read
    as ``2`` and ``3``.

    Args:
        folder: The cohort folder.
        sound: Refuse a table with faulty rows (an id twice, a missing image, a path that leads out of the folder).
            `check_cohort` takes the table as it is, to list all faults at once.

    Raises:
        InputError: If a file is missing or unreadable, a column is missing or unknown, or a row is faulty.
    """
    folder = Path(os.path.normpath(folder.absolute()))
    config_path, table_path = folder / CONFIG_NAME, folder / TABLE_NAME
    if not config_path.is_file() or not table_path.is_file():
        missing = TABLE_NAME if config_path.is_file() else CONFIG_NAME
        msg = f"{folder}: expected a cohort folder, got no {missing} in it; make one with 'equivox cohort import'"
        raise InputError(msg)
    config = load_options(CohortConfig, config_path)
    table = read_text_table(table_path)
    _check_columns(table, config, table_path)
    unknown = {name: unknown_words(table[name], each.names) for name, each in config.attributes.items()}
    table = table.assign(**{name: table[name].mask(table[name].isin(words), "") for name, words in unknown.items()})
    unknown = {name: words for name, words in unknown.items() if words}
    cohort = Cohort(folder, config, plain_codes(table, ["patient_id", *config.attributes]), unknown)
    faults = row_faults(cohort) if sound else []
    if faults:
        more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        msg = f"{table_path}: {faults[0].what}; {faults[0].todo}{more}: 'equivox cohort check' lists them all"
        raise InputError(msg)
    return cohort


def save_cohort(cohort: Cohort) -> None:
    """Write `cohort.csv` and `cohort.yaml` into the cohort's folder, each whole or not at all."""
    with atomic_path(cohort.folder / TABLE_NAME) as temporary:
        cohort.table.to_csv(temporary, index=False, lineterminator="\n")
    comment = "What the columns and the labels of cohort.csv mean. See docs/cohorts.md."
    save_options(cohort.config, cohort.folder / CONFIG_NAME, comment)


@dataclass(frozen=True)
class RowFault:
    """What is wrong with a row of `cohort.csv` before any file is opened.

    Attributes:
        case_id: As the table has it.
        what: What is wrong.
        todo: What to do about it.
    """

    case_id: str
    what: str
    todo: str


def row_faults(cohort: Cohort) -> list[RowFault]:
    """List ids that are missing, double or unsafe, missing images, paths out of the folder and non-numbers."""
    faults = []
    counts = cohort.table["case_id"].map(_file_key).value_counts()
    for row in cohort.table.to_dict("records"):
        case_id = str(row["case_id"])
        reason = unsafe_id(case_id)
        if reason:
            shown = case_id if len(case_id) <= _MOST_SHOWN else case_id[:_MOST_SHOWN] + "..."
            faults.append(RowFault(case_id, f"case_id '{ascii(shown)[1:-1]}' {reason}", "rename the case"))
        elif counts[_file_key(case_id)] > 1:
            what = f"case_id '{case_id}' stands in {counts[_file_key(case_id)]} rows (capitals do not count)"
            faults.append(RowFault(case_id, what, "give each case its own id"))
        if not row["patient_id"]:
            what = f"case '{case_id}' has no patient_id"
            faults.append(RowFault(case_id, what, "fill it in: splits and statistics go by patient"))
        for column in cohort.table.columns:
            faults.extend(_cell_fault(cohort, case_id, str(column), str(row[column])))
    return faults


def _cell_fault(cohort: Cohort, case_id: str, column: str, text: str) -> list[RowFault]:
    if column.startswith("image:") and not text:
        return [RowFault(case_id, f"case '{case_id}' has no {column}", "fill in the path, or remove the row")]
    if column.startswith(("image:", "label")) and text and _leads_out(text):
        what = f"{column} of case '{case_id}' leads out of the cohort folder by '..'"
        return [RowFault(case_id, what, "write the absolute path")]
    attribute = cohort.config.attributes.get(column)
    is_word = bool(text) and _number(text) is None and not unknown_words([text])
    if attribute is not None and attribute.kind == "continuous" and is_word:
        what = f"{column} of case '{case_id}' is '{text}', not a number"
        return [RowFault(case_id, what, "mend the cell, or leave it empty where the value is unknown")]
    return []


def unsafe_id(case_id: str) -> str | None:
    """Say why an id cannot name a file on every system, or None where it can.

    Example:
        >>> unsafe_id("../secret")
        "holds '/'; path separators and * ? : | < > are not allowed"
    """
    if not case_id.strip():
        return "is empty"
    if any(not character.isprintable() for character in case_id):
        return "holds control characters"
    bad = [character for character in case_id if character in '/\\:*?"<>|']
    if bad:
        return f"holds '{bad[0]}'; path separators and * ? : | < > are not allowed"
    if case_id[0] in ".-" or case_id[-1] in " ." or case_id[0] == " ":
        return "begins or ends with a dot, a dash or a space"
    if _RESERVED.fullmatch(case_id.partition(".")[0].rstrip()):
        return "is a name that Windows keeps for a device"
    if len(case_id.encode()) > _LONGEST_ID:
        return f"is {len(case_id.encode())} bytes long; files are named after it, and {_LONGEST_ID} is the most"
    return None


def resolve_path(text: str, folder: Path) -> Path:
    """Return the absolute path of a cell of `cohort.csv`; a relative one starts at the cohort's folder."""
    return Path(os.path.normpath(folder / text))


def stored_path(path: Path, folder: Path) -> str:
    """Return a path as `cohort.csv` holds it: relative to the cohort's folder within it, absolute outside."""
    absolute, folder = Path(os.path.normpath(path.absolute())), Path(os.path.normpath(folder.absolute()))
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else str(absolute)


def label_columns(table: pd.DataFrame) -> dict[str, str]:
    """Return rater -> column; the rater of the column `label` is ``""``."""
    names = [str(column) for column in table.columns]
    if "label" in names:
        return {"": "label"}
    return {name.removeprefix("label:"): name for name in names if name.startswith("label:")}


def _check_columns(table: pd.DataFrame, config: CohortConfig, path: Path) -> None:
    names = [str(column) for column in table.columns]
    wanted = ["case_id", "patient_id", *(f"image:{channel}" for channel in config.channels), *config.attributes]
    missing = [name for name in wanted if name not in names]
    if missing:
        msg = f"{path}: expected the columns {wanted}, got no {missing}; add them, or mend {CONFIG_NAME}"
        raise InputError(msg)
    unknown = [name for name in names if name.startswith("image:") and name not in wanted]
    if unknown:
        msg = f"{path}: expected the channels of {CONFIG_NAME} {list(config.channels)}, got {unknown}; add them there"
        raise InputError(msg)
    if "label" in names and any(name.startswith("label:") for name in names):
        msg = f"{path}: expected one column 'label' or one 'label:<rater>' for each rater, got both; rename 'label'"
        raise InputError(msg)


def _file_key(case_id: str) -> str:
    """Return what ids share whose files are one and the same on some system."""
    return unicodedata.normalize("NFC", case_id).casefold()


def _leads_out(text: str) -> bool:
    """Tell whether a relative path climbs above the folder that it starts from."""
    return not Path(text).is_absolute() and Path(os.path.normpath(text)).parts[:1] == ("..",)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


_PLAIN_NAME = re.compile(r"\w[\w .+\-()]*")
_RESERVED = re.compile(r"con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]", re.IGNORECASE)
# A file's name has at most 255 bytes; ours add a rater or a channel, a suffix and, while they are written, a prefix.
_LONGEST_ID = 160
_MOST_SHOWN = 40
