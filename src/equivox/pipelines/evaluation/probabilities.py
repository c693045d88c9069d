"""Find and read the probability maps of predictions: ours, one file a class, and nnU-Net's, one archive a case."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Float32

from equivox.errors import InputError
from equivox.pipelines.evaluation.sources import ScoredCase
from equivox.pipelines.prediction.map_names import PROBABILITIES, plain_name
from equivox.volume.formats import suffix_of
from equivox.volume.reading import read_placement, read_volume
from equivox.volume.volume import Volume

ProbabilityChoice = Literal["auto", "none"] | Path
"""``auto``: the folder `probabilities` beside the masks, or archives ``<case_id>.npz`` among them, if there are any."""

_ARCHIVE_KEYS: Final = ("probabilities", "softmax")
# How far a probability may lie outside of [0, 1] by being stored as an integer or in half precision.
_ROUNDING: Final = 1e-3


@dataclass(frozen=True)
class ClassMap:
    """Where the map of one class of one case is.

    Attributes:
        path: A volume of its own, or an archive of all classes.
        channels: In an archive: those that make up the class, added up; empty for a volume.
    """

    path: Path
    channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class ProbabilityMaps:
    """The maps of all cases.

    Attributes:
        folder: Where they are.
        maps: Case -> class -> its map; cases and classes without one are not there.
        missing: Cases with a prediction of which the map of a class is missing.
    """

    folder: Path
    maps: Mapping[str, Mapping[str, ClassMap]]
    missing: tuple[str, ...]


def find_probabilities(
    choice: ProbabilityChoice,
    predictions: Path,
    cases: Sequence[ScoredCase],
    classes: Mapping[str, int],
    prediction_values: Mapping[int, int],
) -> ProbabilityMaps | None:
    """Find the map of each case and class; None where none are asked for, or ``auto`` finds none.

    Ours are ``<case_id>/<index>-<class>.nii.gz`` and found by the name of the class. The channels of an archive are the
    values of the predicted masks, the background first, as nnU-Net writes them.

    Args:
        choice: See `ProbabilityChoice`; else a folder.
        predictions: The folder of masks.
        cases: All that are scored; a case without a prediction has no map.
        classes: Class name -> index.
        prediction_values: Value in the predicted files -> index.

    Raises:
        InputError: If there is no such folder, no map in it fits a case and a class, or two maps do.
    """
    folder = _folder(choice, predictions, cases)
    if folder is None:
        return None
    channels = {
        name: tuple(value for value, place in prediction_values.items() if place == index and value > 0)
        for name, index in classes.items()
    }
    maps: dict[str, dict[str, ClassMap]] = {}
    missing = []
    for case in cases:
        if case.prediction is None:
            continue
        found = _maps_of_case(folder, case.case_id, channels)
        if found:
            maps[case.case_id] = found
        if len(found) < len(classes):
            missing.append(case.case_id)
    if not maps:
        example = f"{cases[0].case_id}/1-{plain_name(next(iter(classes)))}.nii.gz or {cases[0].case_id}.npz"
        msg = f"{folder}: expected a map of a case and class, such as {example}, got none; or add --probabilities none"
        raise InputError(msg)
    return ProbabilityMaps(folder, maps, tuple(missing))


def read_maps(maps: Mapping[str, ClassMap], prediction: Path) -> Iterator[tuple[str, Volume]]:
    """Yield the map of each class as float32 in [0, 1], one after the other.

    Args:
        maps: Class -> its map.
        prediction: The predicted mask, on whose grid the channels of an archive lie.

    Raises:
        InputError: If a file is damaged, holds no probabilities, or an archive does not fit the mask.
    """
    archive: Path | None = None
    channels: np.ndarray | None = None
    for name, one in maps.items():
        if not one.channels:
            volume = read_volume(one.path)
            if volume.array.shape[0] != 1:
                msg = (
                    f"{one.path}: expected one number a voxel, got {volume.array.shape[0]}; write a map for each class"
                )
                raise InputError(msg)
            yield name, volume.with_array(_probabilities(volume.array, one.path))
            continue
        if channels is None or archive != one.path:
            archive, channels = one.path, _read_archive(one.path)
        placement = read_placement(prediction)
        # A class may have several values, of which the masks use one.
        held = [channel for channel in one.channels if channel < len(channels)]
        if not held or channels.shape[:0:-1] != placement.grid.shape:
            msg = (
                f"{one.path}: expected more than {min(one.channels)} channels, the background first, of "
                f"{placement.grid.shape[::-1]} voxels, got {len(channels)} of {channels.shape[1:]}; write the "
                "probabilities of labels on the grid of the mask, or add --probabilities none"
            )
            raise InputError(msg)
        # The archive has z, y, x; a volume x, y, z.
        total = sum(channels[channel].astype(np.float32) for channel in held)
        values = _probabilities(np.asarray(total).T[None], one.path)
        yield (
            name,
            Volume(values, placement.grid.affine, placement.dimensions, placement.spacing_known),
        )


def _folder(choice: ProbabilityChoice, predictions: Path, cases: Sequence[ScoredCase]) -> Path | None:
    if choice == "none":
        return None
    if isinstance(choice, Path):
        if not choice.is_dir():
            msg = f"--probabilities {choice}: expected auto, none or a folder of maps, got no folder; check the path"
            raise InputError(msg)
        return choice
    if (predictions / PROBABILITIES).is_dir():
        return predictions / PROBABILITIES
    return predictions if any((predictions / f"{case.case_id}.npz").is_file() for case in cases) else None


def _maps_of_case(folder: Path, case_id: str, channels: Mapping[str, tuple[int, ...]]) -> dict[str, ClassMap]:
    archive = folder / f"{case_id}.npz"
    if archive.is_file():
        return {name: ClassMap(archive, values) for name, values in channels.items() if values}
    if not (folder / case_id).is_dir():
        return {}
    found: dict[str, ClassMap] = {}
    wanted: dict[str, list[str]] = {}
    for name in channels:
        wanted.setdefault(plain_name(name), []).append(name)
    for path in sorted((folder / case_id).iterdir()):
        suffix = suffix_of(path)
        index, dash, stem = path.name[: len(path.name) - len(suffix)].partition("-")
        if not suffix or not dash or not index.isdecimal() or int(index) == 0:
            continue
        names = wanted.get(stem, [])
        if len(names) > 1 or (names and names[0] in found):
            msg = f"{path}: expected one map of one class, got two that are named '{stem}'; rename the class"
            raise InputError(msg)
        if names:
            found[names[0]] = ClassMap(path)
    return found


def _read_archive(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                msg = f"{path}: expected an archive of arrays, got one array; write it with numpy.savez"
                raise InputError(msg)
            key = next((key for key in _ARCHIVE_KEYS if key in stored), None)
            if key is None:
                msg = f"{path}: expected an array 'probabilities' or 'softmax', got {list(stored)}; rename it"
                raise InputError(msg)
            channels: np.ndarray = stored[key]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        msg = f"{path}: expected an archive of numbers, got {error or 'a damaged file'}; write it again"
        raise InputError(msg) from None
    if channels.ndim != 4 or not np.issubdtype(channels.dtype, np.floating):
        msg = (
            f"{path}: expected numbers with a fraction, classes x z x y x, got {channels.dtype} of shape "
            f"{channels.shape}; write the probabilities as nnU-Net does"
        )
        raise InputError(msg)
    return channels


def _probabilities(values: np.ndarray, path: Path) -> Float32[np.ndarray, "1 i j k"]:
    # Also refuses NaN.
    if values.size and not (values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING):
        msg = f"{path}: expected probabilities from 0 to 1, got other numbers; write probabilities and not logits"
        raise InputError(msg)
    held: np.ndarray = np.clip(values, 0, 1).astype(np.float32)
    return held
