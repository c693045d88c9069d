"""Training: from a cohort folder to a run folder."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from equivox.atomic import write_text
from equivox.datasets.cohort import load_cohort
from equivox.datasets.plan import load_plan
from equivox.datasets.split import load_split
from equivox.datasets.store import Store
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.options import load_options, save_options
from equivox.pipelines.run_folder import COHORT, CONFIG, MANIFEST, PLAN, SPLIT, WEIGHTS, RunFolder
from equivox.pipelines.training import manifest as facts
from equivox.pipelines.training.batches import batches
from equivox.pipelines.training.features import features_hash
from equivox.pipelines.training.learner import Learner
from equivox.pipelines.training.lock import locked
from equivox.pipelines.training.loop import FoldLoop, FoldTask
from equivox.pipelines.training.rarity import encoder_hash
from equivox.pipelines.training.resolve import ask, resolve_device, resolve_sizes, resolve_steps
from equivox.pipelines.training.setup import Request, Training, folds_of, prepare
from equivox.pipelines.training.stop import StopSignals
from equivox.pipelines.training.teacher import teacher_hashes
from equivox.pipelines.training.timing import faster_precision, fit_into, measure, probe_precision
from equivox.pipelines.training.validation import ValidationCase, validate_case
from equivox.pipelines.training.world import leave_world
from equivox.pipelines.training_config import TrainingConfig

logger = logging.getLogger(__name__)


def train(
    cohort_folder: Path,
    out: Path,
    *,
    model: str | None = None,
    dims: Literal["2d", "3d"] | None = None,
    overrides: Sequence[str] = (),
    max_minutes: float | None = None,
    resume: bool = False,
    fold: str = "0",
    workers: int | None = None,
    config: Path | None = None,
) -> RunFolder:
    """Train a network on a cohort's folds.

    Cases of the fold are for validation, those of the other folds are trained on, and test cases are never looked at.
    What is missing is made first: the plan, and the prepared cases of the store. Under `torchrun` the processes share
    each batch and give the same result as one process, up to rounding; but for `sharpness` sam and asam and for
    `robustness`, where each process looks around by its own patches.

    Args:
        cohort_folder: With `cohort.csv`, `cohort.yaml` and `split.csv`.
        out: The run folder, new or empty, unless `resume`.
        model: A key of `equivox.models.catalog.MODELS`; None takes ``unetpp``, or that of the run that is resumed.
        dims: ``2d`` or ``3d``; None takes 3d where the plan has it and there is a graphics card, or no 2d plan.
        overrides: Assignments to `TrainingConfig`, such as ``optimizer.lr=1e-3``.
        max_minutes: Fixes the number of steps by timing some of them here. The result then depends on the machine, but
            the resolved config says the number, and with it the run can be repeated anywhere.
        resume: Go on with the run in `out` from its last checkpoint.
        fold: A fold's number, or ``all``.
        workers: Processes that make patches (0 makes them in this one) and prepare missing cases; None goes by the
            machine. The result is the same.
        config: A YAML file of a `TrainingConfig`, such as the `config.yaml` of another run; `model`, `dims`,
            `overrides` and `max_minutes` change what it says.

    Returns:
        The run folder.

    Raises:
        InputError: If something that was given does not fit; one line says what to do.
        TrainingStopped: If SIGTERM or SIGINT came; the state is saved.
    """
    begun = time.monotonic()
    request = Request(
        Path(cohort_folder), Path(out), model, dims, tuple(overrides), max_minutes, resume, str(fold), workers, config
    )
    try:
        training = prepare(request)
        with StopSignals() as stop:
            if not training.goes_on:
                training = _begin(training, begun)
            run = RunFolder(training.out)
            with locked(run.path) if training.world.leads else nullcontext():
                for number in training.folds:
                    _train_fold(training, run, number, stop)
        return run
    except FloatingPointError as error:
        raise InputError(str(error)) from error
    finally:
        leave_world()


def dry_run(
    cohort_folder: Path,
    *,
    model: str | None = None,
    dims: Literal["2d", "3d"] | None = None,
    overrides: Sequence[str] = (),
    max_minutes: float | None = None,
    fold: str = "0",
    config: Path | None = None,
) -> dict[str, Any]:
    """Return what `train` would do, without preparing, timing or writing anything.

    Returns:
        The config as far as it is decided without measuring, and for each fold the numbers of cases.
    """
    cohort = load_cohort(Path(cohort_folder))
    split = load_split(cohort.folder)
    first = TrainingConfig() if config is None else load_options(TrainingConfig, config)
    asked = ask(first, model=model, dims=dims, max_minutes=max_minutes, overrides=tuple(overrides))
    resolved = resolve_device(asked)
    planned = (cohort.folder / PLAN).is_file()
    if planned:
        resolved = resolve_sizes(resolved, load_plan(cohort.folder))
    if max_minutes is None:
        resolved = resolve_steps(resolved, sum(1 for value in split.values() if value != "test"))
    counts = {}
    for number in folds_of(split, fold):
        validation = sum(1 for value in split.values() if value == number)
        test = sum(1 for value in split.values() if value == "test")
        counts[str(number)] = {"training": len(split) - validation - test, "validation": validation, "test": test}
    return {"config": resolved.model_dump(mode="json"), "plan": planned, "folds": counts}


def _begin(training: Training, begun: float) -> Training:
    """Decide what has to be measured and write the run folder."""
    config, probe = _precision(training)
    training = replace(training, config=config)
    if config.max_minutes is not None:
        training = replace(training, config=_steps_that_fit(training, begun))
    cases = len(training.cases_of(training.folds[0])[1])
    training = replace(training, config=resolve_steps(training.config, cases))
    if training.world.leads:
        _write_run(training, probe)
    training.world.wait()
    return training


def _precision(training: Training) -> tuple[TrainingConfig, dict[str, float] | None]:
    """Decide the precision by timing both, where it is ``auto``; the first process decides for all."""
    config = training.config
    if config.precision != "auto":
        return config, None
    fold = training.folds[0]
    batch = next(batches(training.recipe(fold), range(1), workers=0))
    measured = probe_precision(training.network(fold), config, batch, training.facts(fold))
    seconds: dict[str, float] = training.world.from_leader(measured)
    chosen = faster_precision(seconds)
    logger.info(
        "A step of two patches takes %.2f s in float32 and %.2f s with bfloat16 here: training in %s.",
        seconds["float32"],
        seconds["bfloat16"],
        chosen,
    )
    return config.model_copy(update={"precision": chosen}), seconds


def _steps_that_fit(training: Training, begun: float) -> TrainingConfig:
    """Fix the number of steps by timing some of them; the first process decides for all."""
    fold, config = training.folds[0], training.config
    seconds = (config.max_minutes or 0.0) * 60
    timings = measure(
        training.network(fold),
        config,
        training.recipe(fold),
        training.facts(fold),
        workers=training.workers,
        budget=seconds,
    )
    left = (seconds - (time.monotonic() - begun)) / len(training.folds)
    store = Store(training.store)
    shapes = [store.read(training.keys[case]).geometry.prepared_shape for case in training.cases_of(fold)[1]]
    fitted: TrainingConfig = training.world.from_leader(fit_into(config, timings, left, training.network_plan, shapes))
    logger.info(
        "A step takes %.2f s with its data: %d steps a fold in %g minutes.",
        timings.step,
        fitted.steps,
        config.max_minutes,
    )
    return fitted


def _write_run(training: Training, probe: dict[str, float] | None) -> None:
    out, cohort = training.out, training.cohort
    if (out / MANIFEST).exists():
        msg = f"{out}: expected a new folder, got one that another process wrote to meanwhile; choose another --out"
        raise InputError(msg)
    out.mkdir(parents=True, exist_ok=True)
    save_options(training.plan, out / PLAN, "The plan that this run was trained with.")
    save_options(cohort.config, out / COHORT, "The cohort that this run was trained on.")
    write_text(out / SPLIT, (cohort.folder / SPLIT).read_text(encoding="utf-8"))
    save_options(training.config, out / CONFIG, "Everything that was decided about this run.")
    manifest = facts.first_manifest(
        cohort,
        asked=training.asked,
        keys=training.used_keys,
        images=training.image_hashes(),
        probe=probe,
        processes=training.world.size,
    )
    if training.config.teacher.run is not None:
        manifest["teacher"] = teacher_hashes(training.config.teacher)
    if training.config.features.given:
        manifest["features"] = features_hash(training.config.features)
    if training.config.rarity.run is not None:
        manifest["rarity"] = encoder_hash(training.config.rarity)
    facts.write_manifest(out, manifest)


def _train_fold(training: Training, run: RunFolder, fold: int, stop: StopSignals) -> None:
    if fold in run.folds:
        logger.info("Fold %d is complete already (%d steps); nothing to do.", fold, training.config.steps)
        if run.manifest["folds"].get(str(fold), {}).get("status") != "complete":
            # The process was killed between the weights and its last note.
            _note(training, fold, {"status": "complete", "finished": facts.now(), "steps": training.config.steps})
        return
    trained, validated = training.cases_of(fold)
    steps = training.config.steps
    logger.info("Fold %d: %d training and %d validation cases, %d steps.", fold, len(trained), len(validated), steps)
    if fold in training.rarity and training.world.leads:
        training.rarity[fold].write(run.fold_folder(fold))
    _note(training, fold, facts.fold_facts(trained, validated))
    learner = Learner(training.network(fold), training.config, training.world, training.facts(fold))
    result = FoldLoop(learner, _fold_task(training, run, fold), training.world, stop).run()
    ended = {
        "status": "complete",
        "finished": facts.now(),
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "validation_dice": result.validation_dice,
    }
    _note(training, fold, ended)
    dice = "" if result.validation_dice is None else f", Dice of the curve's end {result.validation_dice:.3f}"
    logger.info("Fold %d is trained: %.1f minutes%s.", fold, result.seconds / 60, dice)


def _fold_task(training: Training, run: RunFolder, fold: int) -> FoldTask:
    config, validated = training.config, training.cases_of(fold)[1]

    def validate(network: torch.nn.Module, index: int, on_progress: Callable[[float], None]) -> ValidationCase:
        return validate_case(
            network,
            training.store,
            validated[index],
            training.keys[validated[index]],
            training.network_plan,
            num_classes=len(training.plan.classes) + 1,
            overlap=config.validation.overlap,
            bfloat16=config.precision == "bfloat16",
            on_progress=on_progress,
        )

    return FoldTask(
        fold=fold,
        folder=run.fold_folder(fold),
        config=config,
        recipe=training.recipe(fold),
        workers=training.workers,
        class_names={index: name for name, index in training.plan.classes.items()},
        validate=validate,
        validation_cases=len(validated),
        minutes=config.max_minutes and config.max_minutes / len(training.folds),
    )


def _note(training: Training, fold: int, values: dict[str, Any]) -> None:
    """Put facts about a fold into the manifest and the card; what is there stays unless it is given anew."""
    if not training.world.leads:
        return
    run = RunFolder(training.out)
    folds = run.manifest["folds"]
    if values.get("status") == "complete":
        values = {**values, "weights_sha256": file_sha256(run.fold_folder(fold) / WEIGHTS)}
    begun = folds.get(str(fold), {}).get("started")
    folds[str(fold)] = {**folds.get(str(fold), {}), **values} | ({"started": begun} if begun else {})
    facts.write_manifest(run.path, run.manifest)
    facts.write_card(run, training.cohort)
