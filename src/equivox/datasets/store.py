"""The store of prepared cases: named by their content, chunked, so that a patch is read without loading its volume."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from jaxtyping import Integer

from equivox.atomic import atomic_folder, write_text
from equivox.datasets.centreline_tube import TUBE_VERSION, centreline_tubes
from equivox.datasets.plan import PreprocessingPlan
from equivox.datasets.prepare import PREPARATION_VERSION, PreparedCase, PreparedGeometry
from equivox.datasets.projections import PROJECTION_VERSION, class_projections
from equivox.errors import InputError
from equivox.hashing import file_sha256

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
VOXELS_PER_CLASS = 10_000
"""Foreground positions kept of each class of a case, to centre patches on."""
# LZ4 in blocks of 32 KB: a patch of 192x192 or 96x96x32 is read in 0.4 ms, of ZSTD in 1.6 ms from 2/3 of the bytes.
_BLOCK = (32, 32, 8)
_CHUNK = (128, 128, 32)
_HASHES, _SIDECAR, _VOXELS, _IMAGE, _LABEL = "hashes.json", "case.json", "voxels.npz", "image.b2nd", "label.b2nd"
_TUBES, _PROJECTION = "tubes.b2nd", "projection_{}.b2nd"


FileHash = list[Any]
"""What is remembered of a file: [its stamp, its SHA-256], as JSON holds it."""


class StoredArray:
    """A compressed array on disk; slicing reads and unpacks only the chunks that it needs.

    It is opened at the first use in each process, so it can be pickled and survives a fork.

    Attributes:
        path: The file.
        shape: As of the array.
        dtype: As of the array.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path = path
        self.shape = shape
        self.dtype = dtype
        self._open: tuple[int, Any] | None = None

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __getitem__(self, item: Any) -> np.ndarray:
        """Return a part of the array, as numpy's basic slicing would."""
        if self._open is None or self._open[0] != os.getpid():
            try:
                opened = blosc2.open(str(self.path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
            except (OSError, RuntimeError, ValueError) as error:
                msg = f"{self.path}: the stored case cannot be opened ({error}); run 'equivox preprocess' again"
                raise InputError(msg) from None
            self._open = (os.getpid(), opened)
        part: np.ndarray = self._open[1][item]
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the whole array."""
        del copy
        return np.asarray(self[...], dtype=dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


@dataclass(frozen=True, eq=False)
class StoredCase:
    """A prepared case in the store.

    Attributes:
        key: Its name in the store.
        image: float32 ``(channels, i, j, k)``, sliced lazily.
        label: Class indices ``(i, j, k)``, sliced lazily, or None.
        geometry: How to get back to the scan.
        voxels_path: The file of the sampled foreground positions.
    """

    key: str
    image: StoredArray
    label: StoredArray | None
    geometry: PreparedGeometry
    voxels_path: Path

    @cached_property
    def class_voxels(self) -> dict[int, Integer[np.ndarray, "n 3"]]:
        """Class index -> positions of up to 10,000 of its voxels in the prepared arrays; classes present only."""
        with np.load(self.voxels_path, allow_pickle=False) as archive:
            return {int(name): archive[name] for name in archive.files}


class FileHashes:
    """Hashes of files, remembered by path, size and time of change, so that nothing is hashed twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.added: dict[str, FileHash] = {}
        self._known = _load_json(path)

    def remembered(self, path: Path) -> str | None:
        """Return the hash of a file that did not change since it was hashed, else None."""
        entry = self.added.get(str(path)) or self._known.get(str(path))
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] != _stamp(path):
            return None
        return str(entry[1])

    def sha256(self, path: Path) -> str:
        """Return the hash of a file or DICOM folder, from memory where it did not change."""
        known = self.remembered(path)
        if known is None:
            stamp = _stamp(path)
            known = file_sha256(path)
            self.added[str(path)] = [stamp, known]
        return known

    def save(self) -> None:
        """Add what was hashed to the file on disk."""
        if self.added:
            self._known = {**_load_json(self.path), **self.added}
            write_text(self.path, json.dumps(self._known, indent=0))
            self.added = {}


class Store:
    """A folder of prepared cases.

    A case's key is the hash of its files' contents, the label mapping, the preparation's plan and the version of the
    code that prepares, so an entry never goes stale: what changes gets another key.

    Args:
        folder: Made when the first case is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes = FileHashes(folder / _HASHES)

    def key(
        self,
        images: Mapping[str, Path],
        label: Path | None,
        label_indices: Mapping[int, int],
        plan: PreprocessingPlan,
    ) -> str:
        """Return the name of a case prepared so: 32 hexadecimal digits.

        Raises:
            InputError: If a file is missing.
        """
        files = [images[name] for name in plan.channels if name in images]
        for path in [*files, *([label] if label else [])]:
            if not path.exists():
                msg = f"{path}: no such file; check the cohort table"
                raise InputError(msg)
        content = {
            "format": FORMAT_VERSION,
            "preparation": PREPARATION_VERSION,
            "images": [self.hashes.sha256(path) for path in files],
            "label": None if label is None else self.hashes.sha256(label),
            "label_indices": sorted((int(value), int(index)) for value, index in label_indices.items())
            if label
            else [],
            "plan": plan.model_dump(mode="json"),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def has(self, key: str, *, verify: bool = False) -> bool:
        """Tell whether a case is there and whole; a damaged one is taken away, with a line in the log.

        Args:
            key: As `key` gave it.
            verify: Read every file and compare its checksum, also where size and time of change are as written.
        """
        folder = self.folder / key
        if not folder.is_dir():
            return False
        reason = _damage(folder, verify=verify)
        if reason:
            logger.warning("store: the entry %s is damaged (%s); it is made again", key, reason)
            shutil.rmtree(folder, ignore_errors=True)
            return False
        return True

    def write(self, key: str, prepared: PreparedCase) -> None:
        """Write a case, whole or not at all."""
        with atomic_folder(self.folder / key) as folder:
            _write_array(folder / _IMAGE, prepared.image)
            label = prepared.label
            if label is not None:
                largest = int(label.max()) if label.size else 0
                _write_array(folder / _LABEL, label.astype(np.uint8 if largest < 256 else np.int16))
            _write_voxels(folder / _VOXELS, _sample_voxels(label))
            _write_sidecar(folder, {"geometry": prepared.geometry.to_json()})

    def read(self, key: str) -> StoredCase:
        """Open a case; its voxels are read when they are sliced.

        Raises:
            InputError: If there is no such case, or it cannot be opened.
        """
        folder = self.folder / key
        sidecar = _load_json(folder / _SIDECAR)
        if not sidecar:
            msg = f"{folder}: no such prepared case; run 'equivox preprocess' first"
            raise InputError(msg)
        image = _open_array(folder / _IMAGE)
        label = _open_array(folder / _LABEL) if _LABEL in sidecar["files"] else None
        try:
            geometry = PreparedGeometry.from_json(sidecar["geometry"])
        except (TypeError, KeyError, ValueError):
            msg = f"{folder / _SIDECAR}: expected what was written there, got other entries; remove {folder}, run again"
            raise InputError(msg) from None
        return StoredCase(key, image, label, geometry, folder / _VOXELS)

    def tubes_key(self, key: str, slice_axis: int | None = None) -> str:
        """Return the name of the entry that holds a case's tubes; see `tubes`."""
        content = json.dumps([FORMAT_VERSION, TUBE_VERSION, key, slice_axis])
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def tubes(self, key: str, slice_axis: int | None = None) -> StoredArray:
        """Open the tubes round a case's centrelines, an entry of their own; they are made where they are not there.

        Args:
            key: Of a case with a label.
            slice_axis: See `equivox.datasets.centreline_tube.centreline_tubes`.

        Raises:
            InputError: If there is no such case, it has no label, or it cannot be opened.
        """
        own = self.tubes_key(key, slice_axis)
        folder = self.folder / own
        if not self.has(own):
            made = centreline_tubes(self._label(key), slice_axis)
            with atomic_folder(folder) as fresh:
                _write_array(fresh / _TUBES, made)
                _write_sidecar(fresh, {"tubes_of": key})
        return _open_array(folder / _TUBES)

    def projections_key(self, key: str) -> str:
        """Return the name of the entry that holds a case's projections; see `projections`."""
        content = json.dumps([FORMAT_VERSION, "projections", PROJECTION_VERSION, key])
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def projections(self, key: str) -> tuple[StoredArray, ...]:
        """Open a case's projections, an entry of their own; they are made where they are not there.

        Args:
            key: Of a case with a label.

        Returns:
            For each axis of the prepared volume which classes lie anywhere along it, as
            `equivox.datasets.projections.class_projections` gives them.

        Raises:
            InputError: If there is no such case, it has no label, or it cannot be opened.
        """
        own = self.projections_key(key)
        folder = self.folder / own
        if not self.has(own):
            made = class_projections(self._label(key))
            with atomic_folder(folder) as fresh:
                for axis, one in enumerate(made):
                    _write_array(fresh / _PROJECTION.format(axis), one)
                _write_sidecar(fresh, {"projections_of": key})
        return tuple(_open_array(folder / _PROJECTION.format(axis)) for axis in range(3))

    def _label(self, key: str) -> np.ndarray:
        label = self.read(key).label
        if label is None:
            msg = f"{self.folder / key}: expected a case with a label, got one without; add the label"
            raise InputError(msg)
        return np.asarray(label)


def _open_array(path: Path) -> StoredArray:
    try:
        opened = blosc2.open(str(path), mode="r")
    except (OSError, RuntimeError, ValueError) as error:
        msg = f"{path}: the stored case cannot be opened ({error}); run 'equivox preprocess' again"
        raise InputError(msg) from None
    return StoredArray(path, tuple(opened.shape), np.dtype(opened.dtype))


def _write_sidecar(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts of an entry beside what its files were when they were written."""
    files = {path.name: _fingerprint(path) for path in sorted(folder.iterdir())}
    sidecar = {"version": FORMAT_VERSION, **facts, "files": files}
    (folder / _SIDECAR).write_text(json.dumps(sidecar, indent=1), encoding="utf-8")


def _write_array(path: Path, array: np.ndarray) -> None:
    lead = (1,) * (array.ndim - 3)
    spatial = array.shape[-3:]
    chunk = lead + tuple(min(side, most) for side, most in zip(spatial, _CHUNK, strict=True))
    block = lead + tuple(min(side, most) for side, most in zip(spatial, _BLOCK, strict=True))
    blosc2.asarray(
        np.ascontiguousarray(array),
        urlpath=str(path),
        mode="w",
        chunks=chunk,
        blocks=block,
        cparams={"codec": blosc2.Codec.LZ4, "clevel": 5, "nthreads": 1, "filters": [blosc2.Filter.SHUFFLE]},
    )


def _sample_voxels(label: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return up to `VOXELS_PER_CLASS` positions of each class, always the same ones."""
    if label is None:
        return {}
    flat = label.ravel()
    foreground = np.flatnonzero(flat)
    classes = flat[foreground]
    small = np.int16 if max(label.shape) <= np.iinfo(np.int16).max else np.int32
    samples = {}
    for index in np.unique(classes):
        voxels = foreground[classes == index]
        if len(voxels) > VOXELS_PER_CLASS:
            chosen = np.random.default_rng(int(index)).choice(len(voxels), VOXELS_PER_CLASS, replace=False)
            voxels = voxels[np.sort(chosen)]
        samples[str(int(index))] = np.stack(np.unravel_index(voxels, label.shape), axis=1).astype(small)
    return samples


def _write_voxels(path: Path, samples: dict[str, np.ndarray]) -> None:
    arrays: dict[str, Any] = samples
    np.savez(path, **arrays)


def _fingerprint(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": file_sha256(path)}


def _damage(folder: Path, *, verify: bool) -> str | None:
    """Say what is wrong with an entry, None where nothing is."""
    sidecar = _load_json(folder / _SIDECAR)
    files = sidecar.get("files")
    keys = {"size", "mtime_ns", "sha256"}
    if (
        not files
        or not isinstance(files, dict)
        or any(not isinstance(written, dict) or not keys <= set(written) for written in files.values())
    ):
        return f"{_SIDECAR} cannot be read"
    for name, written in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        status = path.stat()
        if status.st_size != written["size"]:
            return f"{name} has {status.st_size} bytes, {written['size']} were written"
        touched = status.st_mtime_ns != written["mtime_ns"]
        if (touched or verify) and file_sha256(path) != written["sha256"]:
            return f"{name} has another checksum than was written"
    return None


def _load_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _stamp(path: Path) -> list[Any]:
    """Size and time of change of a file, or of all files of a folder."""
    if path.is_dir():
        inner = sorted(p for p in path.rglob("*") if p.is_file())
        text = "".join(f"{p.relative_to(path).as_posix()}\0{p.stat().st_size}\0{p.stat().st_mtime_ns}\n" for p in inner)
        return [len(inner), hashlib.sha256(text.encode()).hexdigest()]
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
