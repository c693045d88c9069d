"""Everything that training needs, read, checked and made where it is missing."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from equivox.datasets.cohort import Cohort, load_cohort
from equivox.datasets.plan import NetworkPlan, Plan, load_plan
from equivox.datasets.split import Fold, load_split
from equivox.datasets.store import Store
from equivox.errors import InputError
from equivox.losses.catalog import build_term
from equivox.models.catalog import build_network
from equivox.models.layout import with_channels_last
from equivox.options import load_options, parse_options
from equivox.pipelines.plan import plan_cohort, warn_of_test_cases
from equivox.pipelines.preprocess import STORE_NAME, preprocess
from equivox.pipelines.run_folder import MANIFEST, PLAN, SPLIT, RunFolder, network_plan
from equivox.pipelines.training.batches import PatchRecipe
from equivox.pipelines.training.derived_labels import prepare_projections, prepare_tubes
from equivox.pipelines.training.features import load_features
from equivox.pipelines.training.groups import TrainingGroups, training_groups
from equivox.pipelines.training.learner import first_network
from equivox.pipelines.training.objective import CaseFacts
from equivox.pipelines.training.rarity import RARITY, CaseRarity, case_embeddings, case_rarity, read_rarity
from equivox.pipelines.training.resolve import ask, resolve_device, resolve_sizes
from equivox.pipelines.training.resume import existing_run, refuse_drift, refuse_other_data, refuse_other_networks
from equivox.pipelines.training.teacher import load_teacher, open_teacher, require_teacher_fold
from equivox.pipelines.training.world import World, join_world
from equivox.pipelines.training_config import TrainingConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the user gave; see `equivox.pipelines.train.train`."""

    cohort_folder: Path
    out: Path
    model: str | None = None
    dims: Literal["2d", "3d"] | None = None
    overrides: tuple[str, ...] = ()
    max_minutes: float | None = None
    resume: bool = False
    fold: str = "0"
    workers: int | None = None
    config: Path | None = None


@dataclass(frozen=True, eq=False)
class Training:
    """Everything that is known once the cohort is prepared.

    Attributes:
        cohort: The cohort.
        plan: How it is prepared and how large the network is.
        split: case_id -> fold or ``test``.
        keys: case_id -> key in the store, of the cases with a label.
        asked: The config as the user gave it.
        config: What was decided of it so far.
        out: The run folder.
        folds: Folds to train.
        workers: Processes that make patches.
        world: The processes of the run.
        goes_on: True where the run folder is there already and everything in the config is decided.
        rarity: Fold -> how rare its training cases are, where that counts.
    """

    cohort: Cohort
    plan: Plan
    split: dict[str, Fold]
    keys: dict[str, str]
    asked: TrainingConfig
    config: TrainingConfig
    out: Path
    folds: tuple[int, ...]
    workers: int
    world: World
    goes_on: bool
    rarity: Mapping[int, CaseRarity] = field(default_factory=dict)

    def cases_of(self, fold: int) -> tuple[list[str], list[str]]:
        """Return the ids of the training cases and of the validation cases of a fold; test cases are in neither."""
        known = sorted(self.used_keys)
        return [case for case in known if self.split[case] != fold], [
            case for case in known if self.split[case] == fold
        ]

    @property
    def network_plan(self) -> NetworkPlan:
        """The section of the plan for the dimensions that are trained."""
        return network_plan(self.plan, self.config.dims)

    @property
    def store(self) -> Path:
        """Folder of the store."""
        return self.cohort.folder / STORE_NAME

    @property
    def used_keys(self) -> dict[str, str]:
        """case_id -> key of the cases that are trained on or validated."""
        return {case: key for case, key in self.keys.items() if self.split.get(case, "test") != "test"}

    def image_hashes(self) -> dict[str, dict[str, str]]:
        """Return case_id -> channel -> hash of the file, of the same cases; the store remembers them."""
        hashes, used = Store(self.store).hashes, self.used_keys
        return {
            case.case_id: {name: hashes.sha256(case.images[name]) for name in self.plan.preprocessing.channels}
            for case in self.cohort.cases
            if case.case_id in used
        }

    def recipe(self, fold: int) -> PatchRecipe:
        """Return where this process's training patches come from."""
        config, network = self.config, self.network_plan
        batch_size = config.batch_size or network.batch_size
        return PatchRecipe(
            store=self.store,
            keys=tuple(self.keys[case] for case in self.cases_of(fold)[0]),
            network=network.model_copy(update={"batch_size": batch_size}),
            seed=config.seed,
            foreground_share=config.foreground_share,
            augmentation=config.augmentation if config.augment else None,
            mirror_axes=self.plan.mirror_axes(network),
            case_weights=self._sampling(fold),
            indices=tuple(self.world.share(batch_size)),
            skeletons="skeleton" in config.needs,
            projections="projections" in config.needs,
            classes=len(self.plan.classes) + 1,
        )

    def _sampling(self, fold: int) -> tuple[float, ...]:
        """Return how often each training case is drawn; empty where all are drawn alike."""
        if fold in self.rarity and self.config.rarity.use == "sampling":
            return tuple(self.rarity[fold].weights.tolist())
        groups = self.groups(fold)
        return groups.balanced() if groups and self.config.fairness.method == "balanced_sampling" else ()

    def groups(self, fold: int) -> TrainingGroups | None:
        """Return the groups of the fold's training cases; None where nothing looks after groups.

        Raises:
            InputError: If the cohort has no such attribute, or there are fewer than two groups.
        """
        attributes = self.config.fairness.attribute
        return training_groups(self.cohort, attributes, self.cases_of(fold)[0]) if attributes else None

    def facts(self, fold: int) -> CaseFacts:
        """Return what is known of the fold's training cases besides images and labels."""
        network, config = self.network_plan, self.config
        teacher = None
        if config.teacher.run is not None:
            run = open_teacher(config.teacher, self.plan, network)
            teacher = load_teacher(config.teacher, run, fold, self.device)
        features = load_features(config.features, network, self.device) if config.features.given else None
        spacing = _patch_spacing(self.plan, network)
        weights = None
        if fold in self.rarity and config.rarity.use == "loss":
            weights = torch.from_numpy(self.rarity[fold].weights).float()
        return CaseFacts(self.groups(fold), spacing, network.features[-1], teacher, features, weights)

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return torch.device(f"cuda:{self.world.local_rank}" if self.config.device == "cuda" else "cpu")

    def network(self, fold: int) -> torch.nn.Module:
        """Build the fold's network with its first weights, on its device, in the layout that is fastest there."""
        config, device = self.config, self.device
        channels, classes = self.plan.preprocessing.image_channels, len(self.plan.classes) + 1
        network = first_network(
            lambda: build_network(config.model.name, config.model.options, self.network_plan, channels, classes),
            config.seed,
            fold,
            device,
        )
        return with_channels_last(network, self.network_plan.dimensions) if device.type == "cpu" else network


def _patch_spacing(plan: Plan, network: NetworkPlan) -> tuple[float, ...] | None:
    """Return the voxel sides of a patch along the network's axes, None where they are not real or differ by case."""
    sides = [plan.preprocessing.spacing_mm[axis] for axis in network.scan_axes]
    known = [side for side in sides if side is not None]
    return None if plan.nominal_spacing or len(known) < len(sides) else tuple(known)


def prepare(request: Request) -> Training:
    """Read and check everything, then plan and prepare what is missing.

    Raises:
        InputError: If something that was given does not fit.
    """
    cohort = load_cohort(request.cohort_folder)
    split = load_split(cohort.folder)
    folds = folds_of(split, request.fold)
    run = existing_run(request.out, resume=request.resume)
    base = parse_options(TrainingConfig, run.manifest["asked"], f"{run.path / MANIFEST}") if run else TrainingConfig()
    asked = ask(
        base if request.config is None else load_options(TrainingConfig, request.config),
        model=request.model,
        dims=request.dims,
        max_minutes=request.max_minutes,
        overrides=request.overrides,
    )
    if run:
        refuse_drift(run, asked, base, cohort.folder, split)
    config = resolve_device(run.config if run else asked)
    for term in config.loss:
        # One whose extra is not installed says so now, before anything is made.
        build_term(term.name, term.options)
    world = join_world(config.device)
    workers = request.workers if request.workers is not None else _patch_workers(config.device, world)
    case_workers = max(1, request.workers if request.workers is not None else min(8, _cores()))
    plan = run.plan if run else _planned(cohort, case_workers, world)
    if not run:
        config = resolve_sizes(config, plan)
        if asked.dims is None:
            logger.info("Training in %s (the plan has %s; choose with --dims).", config.dims, ", ".join(plan.networks))
    keys = _prepared(cohort, plan, case_workers, world)
    training = Training(cohort, plan, split, keys, asked, config, request.out, folds, workers, world, run is not None)
    _check_cases(training)
    if run:
        refuse_other_data(run, training.used_keys)
        refuse_other_networks(run, training.config, folds)
    if config.rarity.by != "none":
        training = replace(training, rarity=_rarity(training, run, case_workers))
    _derive_from_labels(training, case_workers)
    return training


def folds_of(split: dict[str, Fold], fold: str) -> tuple[int, ...]:
    """Return the folds that ``0``, ``1``, ... or ``all`` name.

    Raises:
        InputError: If the split has no such fold.
    """
    known = sorted({value for value in split.values() if not isinstance(value, str)})
    if fold == "all":
        return tuple(known)
    if fold not in map(str, known):
        msg = f"--fold: expected one of {', '.join(map(str, known))} or all, got '{fold}'; choose one of them"
        raise InputError(msg)
    return (int(fold),)


def _planned(cohort: Cohort, workers: int, world: World) -> Plan:
    """Return the cohort's plan, made now if there is none."""
    if world.leads and not (cohort.folder / PLAN).is_file():
        logger.info("%s has no plan yet; it is made now.", cohort.folder)
        plan_cohort(cohort, workers=workers)
    plan = Plan.model_validate(world.from_leader(load_plan(cohort.folder).model_dump() if world.leads else None))
    if world.leads:
        warn_of_test_cases(cohort, plan)
    return plan


def _prepared(cohort: Cohort, plan: Plan, workers: int, world: World) -> dict[str, str]:
    """Return the store's keys of the cases with a label, prepared now where they are missing.

    First by the process of rank 0, then by one process of each other machine, which finds nothing to do where they
    share a disk, then by the rest, which only read.
    """
    keys: dict[str, str] = {}
    for turn in range(3):
        if turn == _own_turn(world):
            keys = preprocess(cohort.folder, workers=workers, plan=plan)
        world.wait()
    labelled = {case.case_id for case in cohort.cases if case.label is not None}
    unlabelled = len(keys.keys() - labelled)
    if unlabelled:
        logger.info("%d cases have no label and are not trained on.", unlabelled)
    return {case: key for case, key in keys.items() if case in labelled}


def _rarity(training: Training, run: RunFolder | None, workers: int) -> dict[int, CaseRarity]:
    """Return how rare the training cases of each fold are, as the run's tables say where they are written."""
    found: dict[int, CaseRarity] = {}
    if training.world.leads:
        config = training.config.rarity
        if run:
            folders = {fold: run.fold_folder(fold) for fold in training.folds}
            found = {fold: read_rarity(folder) for fold, folder in folders.items() if (folder / RARITY).is_file()}
            for fold, one in found.items():
                if [*one.case_ids] != training.cases_of(fold)[0]:
                    msg = f"{folders[fold] / RARITY}: expected the training cases, got others; copy the run again"
                    raise InputError(msg)
        missing = [fold for fold in training.folds if fold not in found]
        embeddings = None
        if missing and config.by == "embedding":
            used = {case for fold in missing for case in training.cases_of(fold)[0]}
            keys = {case: key for case, key in training.used_keys.items() if case in used}
            device = training.device
            embeddings = case_embeddings(config, training.plan, training.store, keys, device, workers=workers)
        for fold in missing:
            found[fold] = case_rarity(config, training.cohort, training.cases_of(fold)[0], embeddings)
    rarity: dict[int, CaseRarity] = training.world.from_leader(found)
    return rarity


def _derive_from_labels(training: Training, workers: int) -> None:
    """Make what the loss needs of the labels of the cases that are trained on, by turns as the cases themselves."""
    needs, keys = training.config.needs, [*training.used_keys.values()]
    for turn in range(3 if needs & {"skeleton", "projections"} else 0):
        if turn == _own_turn(training.world):
            if "skeleton" in needs:
                prepare_tubes(training.store, keys, training.recipe(training.folds[0]).slice_axis, workers=workers)
            if "projections" in needs:
                prepare_projections(training.store, keys, workers=workers)
        training.world.wait()


def _own_turn(world: World) -> int:
    return 0 if world.leads else 1 if world.local_rank == 0 else 2


def _check_cases(training: Training) -> None:
    table = training.cohort.folder / SPLIT
    for fold in training.folds:
        if not training.cases_of(fold)[0]:
            msg = f"{table}: expected training cases with labels outside of fold {fold}, got none; split again"
            raise InputError(msg)
        training.groups(fold)
    teacher = training.config.teacher
    if teacher.run is not None:
        run = open_teacher(teacher, training.plan, training.network_plan)
        for fold in training.folds:
            require_teacher_fold(teacher, run, fold, training.cases_of(fold)[1])
    if training.config.features.given:
        load_features(training.config.features, training.network_plan, training.device)
    size, world = training.config.batch_size or 1, training.world
    if size < world.size:
        msg = f"batch_size: expected at least one patch for each of {world.size} processes, got {size}; start fewer"
        raise InputError(msg)
    lost = sorted(case for case in training.keys if case not in training.split)
    if lost:
        logger.warning("%s: %d cases are in no fold and are left out, first %s", table, len(lost), lost[0])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _patch_workers(device: str, world: World) -> int:
    """A processor that trains has little time left; a graphics card waits for as many as there are."""
    spare = _cores() // world.size - 2
    return max(0, min(8 if device == "cuda" else 1, spare))
