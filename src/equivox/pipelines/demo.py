"""The whole job in one go: on a made-up cohort, or on a real one."""

import logging
import shutil
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path

from equivox.errors import InputError

logger = logging.getLogger(__name__)

# The demo's folder holds this file, so that only a demo is ever overwritten.
_MARK = ".equivox-demo"
_SCANS, _COHORT, _RUN, _PREDICTIONS, _EVALUATION = "scans", "cohort", "run", "predictions", "evaluation"


@dataclass(frozen=True)
class DemoSettings:
    """How large the demo is.

    Attributes:
        patients: Made-up patients; half of them are the test set.
        shape: Voxels of every made-up scan.
        max_minutes: For the training.
        steps: Training steps instead of a time; None goes by `max_minutes`.
        folds: Folds of the split; fold 0 alone is trained.
        test: Part of the patients kept for the test.
        workers: Processes for the work that is done case by case.
        seed: Of the phantom and of the training.
    """

    patients: int = 60
    shape: tuple[int, int, int] = (72, 64, 24)
    max_minutes: float = 2.5
    steps: int | None = None
    folds: int = 3
    test: float = 0.5
    workers: int = 2
    seed: int = 0


def demo(
    out: Path, *, cohort: Path | None = None, settings: DemoSettings | None = None, overwrite: bool = False
) -> Path:
    """Run import, check, split, plan, preprocess, train, predict, evaluate and report.

    Args:
        out: A new folder for everything that the demo makes.
        cohort: A cohort folder of your own; without it a made-up one is drawn. Its split and plan are used where it has
            them, else made there.
        settings: How large it is.
        overwrite: Replace an earlier demo in `out`; nothing but a demo is ever replaced.

    Returns:
        The path of the report.

    Raises:
        InputError: If `out` is in use, there is no time to train, or the cohort has errors.
    """
    from equivox.datasets.cohort import load_cohort

    settings = settings or DemoSettings()
    if settings.patients < 1:
        msg = f"--patients: expected 1 or more, got {settings.patients}; write for example 60"
        raise InputError(msg)
    if cohort is not None:
        load_cohort(cohort)
        if cohort.resolve().is_relative_to(out.resolve()):
            msg = (
                f"--cohort {cohort}: expected a cohort outside of {out}, which the demo replaces; choose another --out"
            )
            raise InputError(msg)
    if not 0 < settings.max_minutes < inf:
        msg = f"--max-minutes: expected a number of minutes above 0, got {settings.max_minutes:g}; write for example 3"
        raise InputError(msg)
    _make_room(out, overwrite=overwrite)
    started = time.monotonic()
    if cohort is None:
        cohort = out / _COHORT
        _draw_and_import(out / _SCANS, cohort, settings)
    _prepare(cohort, settings)
    _train_and_predict(cohort, out, settings)
    report = _evaluate(cohort, out, settings)
    logger.info("Done in %.1f minutes. Open the report in a browser:", (time.monotonic() - started) / 60)
    return report


def _make_room(out: Path, *, overwrite: bool) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / _MARK).exists():
            msg = f"{out}: expected a new folder, got one in use by something else; choose another with --out"
            raise InputError(msg)
        if not overwrite:
            msg = f"{out}: holds an earlier demo; add --overwrite to replace it, or choose another folder with --out"
            raise InputError(msg)
        others = sorted(
            {path.name for path in out.iterdir()} - {_MARK, _SCANS, _COHORT, _RUN, _PREDICTIONS, _EVALUATION}
        )
        if others:
            msg = f"{out}: expected nothing beside the earlier demo, got {others[0]}; move it, or choose another --out"
            raise InputError(msg)
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()


def _draw_and_import(scans: Path, cohort: Path, settings: DemoSettings) -> None:
    from equivox.datasets.import_cohort import import_cohort
    from equivox.datasets.import_draft import ImportOptions
    from equivox.datasets.phantom import CLASSES, write_phantoms

    _say("1. Scans of made-up patients", f"cohort phantom {scans} --patients {settings.patients}")
    write_phantoms(scans, patients=settings.patients, shape=settings.shape, seed=settings.seed)
    _say("2. Import them as a cohort", f"cohort import {scans} -o {cohort} --image ... (see docs/first-report.md)")
    options = ImportOptions(
        images={channel: f"scans/{{case_id}}/{{case_id}}_{channel}.nii.gz" for channel in ("t1", "flair")},
        labels={"": "scans/{case_id}/{case_id}_label.nii.gz"},
        table=Path("participants.csv"),
        key="case",
        attributes=("sex", "scanner"),
        continuous={"age": (50.0, 70.0)},
        modalities={"t1": "MR", "flair": "MR"},
        classes={index: name for name, index in CLASSES.items()},
        name="phantom",
    )
    import_cohort(scans, cohort, options, workers=settings.workers)


def _prepare(folder: Path, settings: DemoSettings) -> None:
    """Check, split, plan and preprocess; what is there already is kept."""
    from equivox.datasets.check import check_cohort
    from equivox.datasets.cohort import load_cohort
    from equivox.datasets.split import split_cohort
    from equivox.pipelines.plan import plan_cohort
    from equivox.pipelines.preprocess import preprocess

    cohort = load_cohort(folder)
    _say("3. Check every file", f"cohort check {folder}")
    result = check_cohort(cohort, settings.workers)
    if not result.usable:
        msg = f"{folder}: the check found problems; run 'equivox cohort check {folder}' to see them, and mend them"
        raise InputError(msg)
    if not (folder / "split.csv").exists():
        _say("4. Split by patient", f"cohort split {folder} --folds {settings.folds} --test {settings.test:g}")
        split_cohort(cohort, folds=settings.folds, test=settings.test, seed=settings.seed, workers=settings.workers)
    if not (folder / "plan.yaml").exists():
        _say("5. Measure and plan", f"plan {folder}")
        plan_cohort(cohort, workers=settings.workers)
    _say("6. Preprocess into the store", f"preprocess {folder}")
    preprocess(folder, workers=settings.workers)


def _train_and_predict(cohort: Path, out: Path, settings: DemoSettings) -> None:
    from equivox.pipelines.predict import predict
    from equivox.pipelines.train import train

    run, predictions = out / _RUN, out / _PREDICTIONS
    length = f"--set steps={settings.steps}" if settings.steps else f"--max-minutes {settings.max_minutes:g}"
    _say("7. Train a U-Net++", f"train --cohort {cohort} --model unetpp --out {run} {length}")
    overrides = [f"seed={settings.seed}"] + ([f"steps={settings.steps}"] if settings.steps else [])
    minutes = None if settings.steps else settings.max_minutes
    train(cohort, run, model="unetpp", dims="2d", max_minutes=minutes, overrides=overrides)
    _say("8. Segment the patients that it has not seen", f"predict {run} --cohort {cohort} -o {predictions}")
    predict(run, [], predictions, cohort=cohort)


def _evaluate(cohort: Path, out: Path, settings: DemoSettings) -> Path:
    from equivox.pipelines.evaluate import evaluate

    predictions, evaluation = out / _PREDICTIONS, out / _EVALUATION
    _say("9. Score and report by group", f"evaluate --cohort {cohort} --predictions {predictions} -o {evaluation}")
    result = evaluate(evaluation, cohort=cohort, predictions=predictions, workers=settings.workers)
    for table in result.summary["tables"]:
        if table["headline"]:
            for attribute in table["attributes"]:
                logger.info("   %s: %s", attribute["name"], attribute["verdict"]["sentence"])
    return result.report


def _say(step: str, command: str) -> None:
    """Tell what comes next, and the command that does the same."""
    logger.info("%s\n   $ equivox %s", step, command)
