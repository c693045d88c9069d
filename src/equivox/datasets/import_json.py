"""Read the `dataset.json` of nnU-Net and of the Medical Segmentation Decathlon (MSD)."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equivox.datasets.cohort import Modality
from equivox.datasets.import_draft import Draft, DraftCase, ImportOptions, LeftOut, guess_modality
from equivox.errors import InputError

NO_PATIENTS = (
    "this layout has no patient ids: each case is taken as its own patient; "
    "if patients have several cases, give --table, --key and --patient"
)


def read_dataset_json(source: Path) -> dict[str, Any]:
    """Read `dataset.json` from a folder, or the file itself.

    Raises:
        InputError: If it is missing, or no JSON object.
    """
    path = source if source.is_file() else source / "dataset.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        msg = f"{path}: expected a dataset.json, got none; check the path"
        raise InputError(msg) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: expected JSON, got {error}; mend the file"
        raise InputError(msg) from None
    if not isinstance(values, dict):
        msg = f"{path}: expected a JSON object, got {type(values).__name__}; mend the file"
        raise InputError(msg)
    return values


def read_nnunet(source: Path) -> Draft:
    """Read an nnU-Net raw dataset: `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`, or an explicit `dataset`.

    Raises:
        InputError: If `dataset.json` lacks what is needed, or its labels are regions or have an ignore value.
    """
    folder = source.parent if source.is_file() else source
    values = read_dataset_json(source)
    path = folder / "dataset.json"
    channels = _channel_names(values.get("channel_names", values.get("modality")), path)
    classes = _class_names(values.get("labels"), path)
    left_out: tuple[LeftOut, ...] = ()
    if "dataset" in values:
        cases = _listed_cases(folder, values["dataset"], channels)
    else:
        cases, left_out = _cases_in_folders(folder, str(values.get("file_ending", ".nii.gz")), channels)
    tests = len(list((folder / "imagesTs").glob("*_0000*"))) if (folder / "imagesTs").is_dir() else 0
    return Draft(
        layout="nnunet",
        name=str(values.get("name") or folder.resolve().name),
        channels=channels,
        cases=cases,
        modalities=_modalities(channels),
        classes=classes,
        notes=(NO_PATIENTS, *_note_tests(tests)),
        left_out=left_out,
    )


def read_msd(source: Path, options: ImportOptions) -> Draft:
    """Read a dataset of the Decathlon: `modality`, `labels` and the list `training`.

    Raises:
        InputError: If `dataset.json` lacks what is needed, or has several channels (4D images) and
            `options.split_channels` is off.
    """
    folder = source.parent if source.is_file() else source
    values = read_dataset_json(source)
    path = folder / "dataset.json"
    channels = _channel_names(values.get("modality"), path)
    if len(channels) > 1 and not options.split_channels:
        msg = (
            f"{path}: expected one 3D file a channel, got 4D images of {len(channels)} channels {list(channels)}; "
            "add --split-channels to write a 3D copy of each channel into the cohort folder"
        )
        raise InputError(msg)
    listed = values.get("training")
    if not isinstance(listed, list) or not all(isinstance(item, dict) and "image" in item for item in listed):
        msg = f"{path}: expected 'training' to list {{image, label}} pairs, got something else; mend the file"
        raise InputError(msg)
    cases = []
    for item in listed:
        image = folder / str(item["image"])
        labels = {"": folder / str(item["label"])} if item.get("label") else {}
        cases.append(DraftCase(_stem(image), dict.fromkeys(channels, image), labels))
    tests = values.get("test")
    return Draft(
        layout="msd",
        name=str(values.get("name") or folder.resolve().name),
        channels=channels,
        cases=tuple(cases),
        modalities=_modalities(channels),
        classes=_class_names(values.get("labels"), path),
        notes=(NO_PATIENTS, *_note_tests(len(tests) if isinstance(tests, list) else 0)),
    )


def _channel_names(named: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(named, dict) or not named or not all(str(index).isdigit() for index in named):
        msg = (
            f"{path}: expected 'channel_names' (or 'modality') such as {{\"0\": \"CT\"}}, got {named!r}; mend the file"
        )
        raise InputError(msg)
    names = [str(named[index]) for index in sorted(named, key=int)]
    if len(set(names)) < len(names):
        names = [f"{name}_{index}" for index, name in enumerate(names)]
    return tuple(names)


def _class_names(labels: Any, path: Path) -> dict[int, str]:
    """Return value -> name from either way round: ``{"tumour": 1}`` (nnU-Net) or ``{"1": "tumour"}`` (MSD)."""
    if not isinstance(labels, dict) or not labels:
        msg = f'{path}: expected \'labels\' such as {{"background": 0, "tumour": 1}}, got {labels!r}; mend the file'
        raise InputError(msg)
    classes: dict[int, str] = {}
    for key, value in labels.items():
        if isinstance(value, list):
            msg = (
                f"{path}: expected one value a class, got region '{key}': {value}; "
                "name each value by itself in a copy of dataset.json, as regions overlap one another"
            )
            raise InputError(msg)
        number, name = (value, key) if isinstance(value, int) else (key, value)
        if not str(number).isdigit() or not isinstance(name, str):
            msg = f"{path}: expected whole numbers for the labels, got {key!r}: {value!r}; mend the file"
            raise InputError(msg)
        if name.lower() == "ignore":
            msg = (
                f"{path}: expected classes only, got the label 'ignore' ({number}), which cannot be imported; "
                "rename it in a copy of dataset.json to keep it as a class"
            )
            raise InputError(msg)
        classes[int(number)] = name
    classes[0] = "background"
    return dict(sorted(classes.items()))


def _listed_cases(folder: Path, dataset: Any, channels: tuple[str, ...]) -> tuple[DraftCase, ...]:
    path = folder / "dataset.json"
    if not isinstance(dataset, dict):
        msg = f"{path}: expected 'dataset' to map case ids to images and label, got {type(dataset).__name__}; mend it"
        raise InputError(msg)
    cases = []
    for case_id, files in dataset.items():
        images = files.get("images") if isinstance(files, dict) else None
        if not isinstance(images, list) or len(images) != len(channels):
            msg = f"{path}: expected {len(channels)} images for case '{case_id}', got {images!r}; mend the file"
            raise InputError(msg)
        paths = {name: folder / os.path.expandvars(str(image)) for name, image in zip(channels, images, strict=True)}
        label = {"": folder / os.path.expandvars(str(files["label"]))} if files.get("label") else {}
        cases.append(DraftCase(str(case_id), paths, label))
    return tuple(cases)


def _cases_in_folders(
    folder: Path, ending: str, channels: tuple[str, ...]
) -> tuple[tuple[DraftCase, ...], tuple[LeftOut, ...]]:
    images: dict[str, dict[str, Path]] = {}
    for index, name in enumerate(channels):
        for path in sorted((folder / "imagesTr").glob(f"*_{index:04d}{ending}")):
            images.setdefault(path.name.removesuffix(f"_{index:04d}{ending}"), {})[name] = path
    if not images:
        msg = f"{folder / 'imagesTr'}: expected files CASE_0000{ending}, got none; check file_ending in dataset.json"
        raise InputError(msg)
    labels = {path.name.removesuffix(ending): path for path in sorted((folder / "labelsTr").glob(f"*{ending}"))}
    cases = tuple(
        DraftCase(case_id, files, {"": labels[case_id]} if case_id in labels else {})
        for case_id, files in sorted(images.items())
    )
    orphans = sorted(case_id for case_id in set(labels) - set(images) if not case_id.startswith("."))
    return cases, tuple(LeftOut(case_id, "a label but no image") for case_id in orphans)


def _modalities(channels: tuple[str, ...]) -> Mapping[str, Modality]:
    guesses = {name: guess_modality(name) for name in channels}
    return {name: modality for name, modality in guesses.items() if modality is not None}


def _note_tests(count: int) -> tuple[str, ...]:
    return (f"{count} test images are not imported; segment them with 'equivox predict'",) if count else ()


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
