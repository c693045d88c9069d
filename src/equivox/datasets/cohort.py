"""A cohort: which cases there are, whose they are, and what their labels mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, model_validator

from equivox.options import Options

Modality = Literal["CT", "MR", "PET", "XR", "RGB", "OTHER"]


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
    """

    kind: Literal["categorical", "continuous"] = "categorical"
    bins: tuple[float, ...] = ()
    names: dict[str, str] = Field(default_factory=dict)


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
        return self


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
    """

    folder: Path
    config: CohortConfig
    table: pd.DataFrame

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The rows of the table, in its order."""
        raise NotImplementedError
