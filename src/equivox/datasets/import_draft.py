"""What the readers of foreign layouts have in common: a draft of the cohort, before tables and labels are joined."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from equivox.datasets.cohort import Modality
from equivox.options import Options

Layout = Literal["bids", "nnunet", "msd", "csv", "folder"]

# Words of channel names, as they are commonly written, that give the modality away.
_MODALITY_WORDS: dict[Modality, frozenset[str]] = {
    "CT": frozenset({"ct", "cta", "cbct", "ncct", "cect", "ldct"}),
    "PET": frozenset({"pet", "pt", "fdg", "suv", "psma"}),
    "MR": frozenset(
        {
            "mr",
            "mri",
            "t1",
            "t1w",
            "t1c",
            "t1ce",
            "t1gd",
            "t1n",
            "t2",
            "t2w",
            "t2f",
            "t2s",
            "t2star",
            "t2starw",
            "flair",
        }
        | {"dwi", "adc", "pd", "pdw", "swi", "mt", "mtr", "dce", "dir", "mprage", "mp2rage", "unit1", "bold", "asl"}
    ),
    "XR": frozenset({"xr", "cxr", "xray", "dx", "cr", "radiograph", "mammogram", "mg"}),
    "RGB": frozenset({"rgb", "fundus", "photo", "colour", "color", "dermoscopy", "endoscopy"}),
}

SCAN_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SUFFIXES_WITHOUT_SPACING = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


class ImportOptions(Options):
    """How a source is read; every field has a default that suits a source that describes itself.

    Attributes:
        layout: How the source is laid out; None finds out.
        images: Channel -> pattern (any folder) or column (CSV).
        labels: Rater -> pattern, column, or the end of a BIDS name; a single rater may be ``""``.
        channels: BIDS: the channels to take; empty takes all, if every case has them.
        table: Table of the cases or patients; None where there is none, or where the source brings its own.
        key: Column of the table that holds the case id (for BIDS the participant).
        patient: Column of the table that holds the patient.
        attributes: Columns of the table to report by.
        continuous: Attribute -> inner edges of its groups.
        modalities: Channel -> modality; the others are guessed from their names.
        classes: Value in the label files -> class name.
        nominal_spacing: The voxel sizes in the files are not real.
        name: Name of the cohort; None takes the source's.
        split_channels: MSD: write 4D images as one 3D file a channel into the cohort folder.
    """

    layout: Layout | None = None
    images: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    channels: tuple[str, ...] = ()
    table: Path | None = None
    key: str | None = None
    patient: str | None = None
    attributes: tuple[str, ...] = ()
    continuous: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    modalities: dict[str, Modality] = Field(default_factory=dict)
    classes: dict[int, str] = Field(default_factory=dict)
    nominal_spacing: bool = False
    name: str | None = None
    split_channels: bool = False

    @field_validator("classes")
    @classmethod
    def _zero_is_background(cls, classes: dict[int, str]) -> dict[int, str]:
        if classes.get(0, "background") != "background":
            msg = f"value 0 is background and cannot be called '{classes[0]}'"
            raise ValueError(msg)
        return classes


@dataclass(frozen=True)
class LeftOut:
    """A case of the source that is not in the cohort, and why."""

    case_id: str
    reason: str


@dataclass(frozen=True)
class DraftCase:
    """One case as a reader found it.

    Attributes:
        case_id: Unique in the source.
        images: Channel -> file or DICOM folder; a channel may be missing.
        labels: Rater -> file; may be empty.
        patient_id: None where the source does not say.
        attributes: What the source itself says of the patient; None or ``""`` where unknown.
    """

    case_id: str
    images: Mapping[str, Path]
    labels: Mapping[str, Path]
    patient_id: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """What a reader made of a source.

    Attributes:
        layout: How the source is laid out.
        name: A name for the cohort.
        channels: In the order of the cohort.
        cases: All that were found, those that lack a channel too.
        modalities: Channel -> modality, where the source says so.
        classes: Value -> class name, where the source says so; None where the label files must be looked at.
        value_names: Attribute -> code -> meaning, where the source says so.
        notes: What the user should know, one sentence each.
        left_out: What was set aside already.
    """

    layout: Layout
    name: str
    channels: tuple[str, ...]
    cases: tuple[DraftCase, ...]
    modalities: Mapping[str, Modality] = field(default_factory=dict)
    classes: Mapping[int, str] | None = None
    value_names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def guess_modality(channel: str) -> Modality | None:
    """Guess the modality from the words of a channel's name; None where they say nothing.

    Example:
        >>> guess_modality("acq-highres_T1w"), guess_modality("CT_venous"), guess_modality("image")
        ('MR', 'CT', None)
    """
    words = set(re.split(r"[^a-z0-9]+", channel.lower()))
    return next((modality for modality, known in _MODALITY_WORDS.items() if words & known), None)


def is_scan(path: Path, suffixes: Sequence[str] = SCAN_SUFFIXES) -> bool:
    """Tell by its suffix whether a file may be an image or a label map."""
    return path.name.lower().endswith(tuple(suffixes))
