"""The folder that predictions are written to: label maps, their table, what their values mean, and the manifest."""

import datetime
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float32, Integer
from torch import Tensor

from equivox import __version__
from equivox.atomic import atomic_path, write_text
from equivox.datasets.cohort import CohortConfig
from equivox.datasets.prepare import PreparedGeometry
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.pipelines.prediction.export import export_entropy, export_labels, export_probability, write_map
from equivox.pipelines.prediction.map_names import PROBABILITIES, plain_name
from equivox.pipelines.run_folder import WEIGHTS, RunFolder
from equivox.volume import write_label_map

Role = Literal["test", "out_of_fold", "new"]
Status = Literal["done", "kept", "failed", "skipped", "planned"]

TABLE, MANIFEST, LABELS = "predictions.csv", "manifest.json", "labels.json"
_COLUMNS = ("case_id", "file", "role", "folds", "status", "message")


@dataclass(frozen=True)
class PredictionResult:
    """What became of one scan; a line of `predictions.csv`.

    Attributes:
        case_id: Names the output.
        role: ``test`` (in no fold of the training), ``out_of_fold`` (by the one network that was not trained on it), or
            ``new`` (not of the cohort that was trained on).
        folds: Folds whose networks are averaged.
        status: ``done``; ``kept`` from an earlier call; ``failed``; ``skipped``, as every network was trained on it;
            or ``planned`` in a dry run.
        message: The reason, as one line, or what a dry run has to say.
        our_fault: True where an error was not the user's.
    """

    case_id: str
    role: Role
    folds: tuple[int, ...]
    status: Status
    message: str = ""
    our_fault: bool = False

    @property
    def file(self) -> str:
        """The label map's name in the output folder; empty where there is none."""
        return file_name(self.case_id) if self.status in {"done", "kept", "planned"} else ""

    def row(self) -> dict[str, str]:
        """Return the line of `predictions.csv`; there a kept label map is as done as any."""
        status = "done" if self.status == "kept" else self.status
        folds = " ".join(map(str, self.folds))
        values = (self.case_id, self.file, self.role, folds, status, self.message)
        return dict(zip(_COLUMNS, values, strict=True))


def file_name(case_id: str) -> str:
    """Return the name of a case's label map."""
    return f"{case_id}.nii.gz"


class PredictionFolder:
    """A folder of predictions of one set of networks and settings.

    Args:
        path: The folder; it need not exist.
        run: The run that predicts.
        folds: The folds used, over all scans.
        settings: Whatever of the settings changes labels, as plain values.

    Raises:
        InputError: If the path is a file.
    """

    def __init__(self, path: Path, run: RunFolder, folds: Iterable[int], settings: Mapping[str, Any]) -> None:
        if path.exists() and not path.is_dir():
            msg = f"{path}: expected a folder to write to, got a file; choose another --out"
            raise InputError(msg)
        self.path = path
        self.classes = run.plan.classes
        self.values = label_values(run.cohort_config)
        self._rows: dict[str, dict[str, str]] = {}
        self._manifest = _manifest(run, folds, settings)

    def has(self, case_id: str) -> bool:
        """Tell whether a case's label map is there."""
        return (self.path / file_name(case_id)).exists()

    def refuse_foreign(self, case_ids: Iterable[str]) -> None:
        """Refuse a folder without the table of earlier predictions that holds files of these names: somebody else's.

        Raises:
            InputError: If there are such files.
        """
        if (self.path / TABLE).is_file():
            return
        names = (*(file_name(case_id) for case_id in case_ids), LABELS, MANIFEST)
        name = next((name for name in names if (self.path / name).exists()), None)
        if name:
            msg = (
                f"{self.path}: expected a new folder, or one of earlier predictions with their {TABLE}, got {name} and "
                "no such table; choose another --out"
            )
            raise InputError(msg)

    def made_of(self, case_id: str, images: Mapping[str, Path]) -> bool:
        """Tell whether an earlier call noted that the label map there was predicted from these very files."""
        try:
            cases = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))["cases"]
            inputs = dict(cases[case_id]["inputs"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return inputs == {name: file_sha256(path) for name, path in images.items()}

    def open(self, results: Iterable[PredictionResult], made_anew: set[str]) -> None:
        """Take over what earlier calls left, and write the table with the results that are clear already.

        Args:
            results: Of scans that failed, were skipped or are kept.
            made_anew: Cases whose label maps may be of other networks or settings, as they are made again.

        Raises:
            InputError: If there are predictions of other networks or settings.
        """
        self._adopt(made_anew)
        self._rows |= {result.case_id: result.row() for result in results}
        # The manifest comes first and the table second: by the table later calls know the folder.
        self._write_manifest()
        self._write_table()
        names = {"0": "background", **{str(value): name for name, value in self.values.items()}}
        write_text(self.path / LABELS, json.dumps(names, indent=2, ensure_ascii=False) + "\n")

    def write(
        self,
        case_id: str,
        probabilities: Float32[Tensor, "classes i j k"],
        geometry: PreparedGeometry,
        like: Path,
        *,
        with_probabilities: bool,
        with_entropy: bool,
    ) -> None:
        """Write a case's files, the label map last.

        Args:
            case_id: Names the files.
            probabilities: On the prepared grid, background first.
            geometry: How that lies in the scan.
            like: The scan, whose grid the label map gets.
            with_probabilities: Write a map of each class.
            with_entropy: Write a map of the entropy.
        """
        affine = geometry.source_affine
        if with_probabilities:
            for name, index in {"background": 0, **self.classes}.items():
                path = self.path / PROBABILITIES / case_id / file_name(f"{index}-{plain_name(name)}")
                write_map(export_probability(probabilities, geometry, index), affine, path)
        if with_entropy:
            path = self.path / "entropy" / file_name(case_id)
            write_map(export_entropy(probabilities, geometry), affine, path)
        labels = with_values(export_labels(probabilities, geometry), self.classes, self.values)
        write_label_map(labels, like, self.path / file_name(case_id))

    def record(self, result: PredictionResult, sha256: Mapping[str, str]) -> None:
        """Bring the table and the manifest on disk up to date.

        Args:
            result: Of one scan.
            sha256: Channel -> hash of the file that it was predicted from; empty where it failed.
        """
        self._rows[result.case_id] = result.row()
        self._manifest["cases"].pop(result.case_id, None)
        if sha256:
            self._manifest["cases"][result.case_id] = {"inputs": dict(sha256)}
        self._write_manifest()
        self._write_table()

    def close(self) -> None:
        """Write the manifest for good."""
        self._manifest["finished"] = _now()
        self._write_manifest()

    def _earlier_rows(self) -> dict[str, dict[str, str]]:
        """Return case -> its line of an earlier call's table; empty where there is none."""
        if not (self.path / TABLE).is_file():
            return {}
        try:
            table = pd.read_csv(self.path / TABLE, dtype=str, keep_default_na=False)
            return {row["case_id"]: {name: row[name] for name in _COLUMNS} for row in table.to_dict("records")}
        except (OSError, ValueError, KeyError, TypeError):
            msg = f"{self.path / TABLE}: expected the table of earlier predictions, got another; choose another --out"
            raise InputError(msg) from None

    def _adopt(self, made_anew: set[str]) -> None:
        rows = self._earlier_rows()
        if not rows:
            return
        try:
            earlier = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
            same = all(earlier[name] == self._manifest[name] for name in ("weights", "settings"))
        except (OSError, ValueError, KeyError, TypeError):
            wanted = f"{TABLE} and {MANIFEST} of earlier predictions"
            msg = f"{self.path}: expected {wanted}, got files that are not or are damaged; choose another --out"
            raise InputError(msg) from None
        others = sorted(case for case, row in rows.items() if row["status"] == "done" and case not in made_anew)
        if not same and others:
            msg = (
                f"{self.path}: expected predictions of the same networks and settings, got other ones "
                f"({file_name(others[0])} ...); choose another --out"
            )
            raise InputError(msg)
        if same:
            self._rows = rows
            self._manifest["cases"] = dict(earlier.get("cases", {}))

    def _write_table(self) -> None:
        with atomic_path(self.path / TABLE) as temporary:
            table = pd.DataFrame(list(self._rows.values()), columns=list(_COLUMNS))
            table.to_csv(temporary, index=False, lineterminator="\n")

    def _write_manifest(self) -> None:
        write_text(self.path / MANIFEST, json.dumps(self._manifest, indent=2) + "\n")


def label_values(config: CohortConfig) -> dict[str, int]:
    """Return class -> value in the label maps that predictions are written as.

    It is the value that the cohort's own label files have for the class, the smallest where there are several; so
    ``config.label_indices`` reads predictions and references alike. A class without a value of its own takes its index,
    or where that is in use the next free number.

    Example:
        >>> config = CohortConfig(name="a", channels={"flair": {}}, classes={"glioma": 1}, label_values={255: "glioma"})
        >>> label_values(config)
        {'glioma': 255}
    """
    values: dict[str, int] = {}
    for value, name in sorted(config.label_values.items()):
        if name in config.classes and value != 0:
            values.setdefault(name, value)
    used = {0, *config.label_values}
    for name, index in config.classes.items():
        if name not in values:
            values[name] = next(value for value in range(index, index + len(used) + 1) if value not in used)
            used.add(values[name])
    return values


def with_values(
    labels: Integer[np.ndarray, "i j k"], classes: Mapping[str, int], values: Mapping[str, int]
) -> Integer[np.ndarray, "i j k"]:
    """Turn class indices into the values of label files, in the smallest type that holds them.

    Args:
        labels: Class indices.
        classes: Class -> index.
        values: Class -> value; a class without one keeps its index.
    """
    table = np.zeros(len(classes) + 1, dtype=np.int64)
    for name, index in classes.items():
        table[index] = values.get(name, index)
    if np.array_equal(table, np.arange(len(table))):
        return labels
    kinds: tuple[Any, ...] = (np.uint8, np.int16, np.uint16, np.int32)
    kind = next(one for one in kinds if np.iinfo(one).min <= table.min() and table.max() <= np.iinfo(one).max)
    mapped: np.ndarray = table.astype(kind)[labels]
    return mapped


def _manifest(run: RunFolder, folds: Iterable[int], settings: Mapping[str, Any]) -> dict[str, Any]:
    packages = ("torch", "numpy", "monai", "nibabel")
    return {
        "schema_version": 1,
        "equivox_version": __version__,
        "created": _now(),
        "finished": None,
        "run": run.path.resolve().name,
        "model": run.config.model.name,
        "weights": {str(fold): file_sha256(run.fold_folder(fold) / WEIGHTS) for fold in folds},
        "settings": dict(settings),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "cases": {},
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
