"""What a run was made of: the `manifest.json` and the model card."""

import importlib.metadata
import json
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from equivox import __version__
from equivox.atomic import write_text
from equivox.datasets.cohort import Cohort
from equivox.hashing import file_sha256
from equivox.losses.catalog import loss_entry
from equivox.models.catalog import model_entry
from equivox.pipelines.run_folder import CARD, HASHED, MANIFEST, SPLIT, RunFolder
from equivox.pipelines.training.rarity import RARITY, read_rarity
from equivox.pipelines.training_config import TrainingConfig

SCHEMA_VERSION = 1
_PACKAGES = (
    "torch",
    "monai",
    "numpy",
    "nibabel",
    "SimpleITK",
    "blosc2",
    "safetensors",
    "dynamic_network_architectures",
)


def first_manifest(
    cohort: Cohort,
    *,
    asked: TrainingConfig,
    keys: Mapping[str, str],
    images: Mapping[str, Mapping[str, str]],
    probe: Mapping[str, float] | None,
    processes: int,
) -> dict[str, Any]:
    """Return what is known before the first step.

    Args:
        cohort: What is trained on.
        asked: The config as the user gave it, before anything was decided.
        keys: case_id -> key in the store, of the cases that are trained on or validated.
        images: case_id -> channel -> hash of the file, of the same cases: it tells them under any name.
        probe: Seconds a step in each precision, where they were measured.
        processes: Of the run.
    """
    patients = {case.case_id: case.patient_id for case in cohort.cases}
    return {
        "schema_version": SCHEMA_VERSION,
        "equivox_version": __version__,
        "created": now(),
        "selection": "none",
        "selection_note": "The weights are the EMA of the last step; no case chose a checkpoint or anything else.",
        "seed": asked.seed,
        "asked": asked.model_dump(mode="json"),
        "cohort": {"name": cohort.config.name, "folder": str(cohort.folder)},
        "hashes": {name: file_sha256(cohort.folder / name) for name in ("cohort.csv", "cohort.yaml", SPLIT)},
        "cases": {
            case: {"key": key, "patient_id": patients[case], "images": dict(images[case])}
            for case, key in sorted(keys.items())
        },
        "precision_probe_seconds": probe,
        "machine": machine(processes),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "folds": {},
    }


def write_manifest(run: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, with the hashes of the run's own files."""
    own = {f"run/{name}": file_sha256(run / name) for name in HASHED}
    whole = {**manifest, "hashes": {**manifest["hashes"], **own}, "updated": now()}
    write_text(run / MANIFEST, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


def machine(processes: int) -> dict[str, Any]:
    """Return what the run works on."""
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": torch.backends.cpu.get_cpu_capability(),
        "graphics_card": card,
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_card(run: RunFolder, cohort: Cohort) -> None:
    """Write the run's `MODEL_CARD.md`."""
    write_text(run.path / CARD, model_card(run, cohort))


def model_card(run: RunFolder, cohort: Cohort) -> str:
    """Return what somebody who gets the model must know, as Markdown."""
    config, manifest = run.config, run.manifest
    trained = {case for facts in manifest["folds"].values() for case in facts["training_cases"]}
    cases = [case for case in cohort.cases if case.case_id in trained]
    patients = {case.patient_id for case in cases}
    spacing = "not real, nothing in mm may be claimed" if run.plan.nominal_spacing else "as in the scans' headers"
    channels = ", ".join(
        f"{name} ({cohort.config.channels[name].modality})" for name in run.plan.preprocessing.channels
    )
    size = run.network_plan
    versions = f"Equivox {__version__}, torch {manifest['versions']['torch']}, MONAI {manifest['versions']['monai']}"
    lines = [
        f"# {config.model.name} on {cohort.config.name}",
        "",
        "For research, not for clinical use.",
        "",
        "## What it is",
        "",
        f"* Network: {model_entry(config.model.name).summary}; {config.dims}, patch "
        f"{' x '.join(map(str, size.patch_size))}, features {', '.join(map(str, size.features))}.",
        f"* Loss: {_loss_text(config)}.",
        f"* Channels: {channels}.",
        f"* Classes: {', '.join(f'{name} ({index})' for name, index in run.plan.classes.items())}; 0 is background.",
        f"* Voxel sizes: {spacing}.",
        f"* Made with {versions}.",
        "",
        "## What it was trained on",
        "",
        f"{len(patients)} patients, {len(cases)} cases over all folds. Test cases were never looked at.",
        "",
        *_group_table(cohort, trained),
        "## How it was trained",
        "",
        f"{config.steps} steps of {config.batch_size} patches, {config.optimizer.name}, learning rate "
        f"{config.optimizer.lr:g} ({config.schedule.name}), {config.precision}, seed {config.seed}"
        f"{'' if config.sharpness.method == 'none' else f', sharpness: {config.sharpness.method}'}. "
        "The weights are the running mean (EMA) of the last step: nothing was selected.",
        "",
        *_rarity_table(run),
        "| fold | training cases | validation cases | minutes | Dice at the end of the curve |",
        "|---|---|---|---|---|",
        *(_fold_row(fold, facts) for fold, facts in manifest["folds"].items()),
        "",
        "The curve is the Dice of some of the fold's validation cases on the prepared grid. It shows that the training "
        "went well; it is no evaluation. For that, run `equivox predict` and `equivox evaluate`.",
        "",
    ]
    return "\n".join(lines)


def _loss_text(config: TrainingConfig) -> str:
    """Return the terms of the loss in words, with weights and schedules where they are not plain."""
    words = []
    for term in config.loss:
        when = f", after {term.start_after:.0%} of the steps" if term.start_after else ""
        factor = f"{term.weight:g} x " if term.weight != 1 or len(config.loss) > 1 else ""
        words.append(f"{factor}{loss_entry(term.name).summary} (`{term.name}`{when})")
    text = " + ".join(words)
    if config.loss_weighting == "uncertainty":
        text += ", each with a learned factor"
    if config.teacher.run is not None:
        text += f"; the teacher is the run `{Path(config.teacher.run).name}`"
    return text


def _rarity_table(run: RunFolder) -> list[str]:
    """Say by what rare cases count more, and how much more in each fold."""
    config = run.config.rarity
    if config.by == "none":
        return []
    by = "how few others look like them (statistics of the image)"
    if config.by == "attributes":
        by = f"how few others share their {' and '.join(config.attributes)}"
    elif config.run is not None:
        by = f"how few others look like them (to the encoder of the run `{Path(config.run).name}`)"
    use = "their patches are drawn more often" if config.use == "sampling" else "their loss is multiplied"
    rows = []
    for fold in run.manifest["folds"]:
        folder = run.fold_folder(int(fold))
        if (folder / RARITY).is_file():
            weights = read_rarity(folder).weights
            # Kish: so many cases of equal weight tell as much.
            effective = weights.sum() ** 2 / (weights**2).sum()
            rows.append(f"| {fold} | {weights.min():.2f} | {weights.max():.2f} | {effective:.1f} of {len(weights)} |")
    return [
        f"Rare cases count more, by {by}: {use} (gamma {config.gamma:g}, eta {config.eta:g}). The mean weight is 1; "
        f"`fold_K/{RARITY}` has the weight of each case.",
        "",
        "| fold | smallest weight | largest weight | effective number of training cases |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _fold_row(fold: str, facts: Mapping[str, Any]) -> str:
    dice = facts.get("validation_dice")
    if facts["status"] != "complete":
        return f"| {fold} | {len(facts['training_cases'])} | {len(facts['validation_cases'])} | - | not complete |"
    shown = "-" if dice is None else f"{dice:.3f}"
    # Unknown where the process was killed between the weights and its last note.
    minutes = f"{facts['seconds'] / 60:.1f}" if "seconds" in facts else "-"
    return f"| {fold} | {len(facts['training_cases'])} | {len(facts['validation_cases'])} | {minutes} | {shown} |"


def _group_table(cohort: Cohort, trained: set[str]) -> list[str]:
    """Patients of each group of each attribute; a patient is counted once, by the first case."""
    rows = []
    for name, attribute in cohort.config.attributes.items():
        groups: dict[str, str] = {}
        for case in cohort.cases:
            if case.case_id in trained:
                groups.setdefault(case.patient_id, attribute.group_of(case.attributes.get(name)) or "unknown")
        counts: defaultdict[str, int] = defaultdict(int)
        for group in groups.values():
            counts[group] += 1
        known = attribute.sort_groups(group for group in counts if group != "unknown")
        rows += [
            f"| {name} | {group} | {counts[group]} |" for group in (*known, *(["unknown"] * ("unknown" in counts)))
        ]
    return ["| attribute | group | patients |", "|---|---|---|", *rows, ""] if rows else []


def fold_facts(training: Sequence[str], validation: Sequence[str]) -> dict[str, Any]:
    """Return the entry of a fold that begins."""
    return {
        "status": "running",
        "started": now(),
        "training_cases": list(training),
        "validation_cases": list(validation),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
