"""Going on with a run: only with what it began with."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from equivox.atomic import require_writable
from equivox.datasets.plan import load_plan
from equivox.errors import InputError
from equivox.pipelines.run_folder import CONFIG, HASHED, MANIFEST, PLAN, SPLIT, RunFolder
from equivox.pipelines.training.features import features_hash
from equivox.pipelines.training.resolve import drifted_keys, flat
from equivox.pipelines.training.teacher import teacher_fold, teacher_hashes
from equivox.pipelines.training_config import TrainingConfig

logger = logging.getLogger(__name__)


def existing_run(out: Path, *, resume: bool) -> RunFolder | None:
    """Return the run to resume, or None for a new one.

    Raises:
        InputError: If the folder is in use and not to be resumed, or holds something else than a whole run.
    """
    used = out.is_file() or (out.is_dir() and any(out.iterdir()))
    if used and not resume:
        msg = f"{out}: expected a new or empty folder, got one with files; go on with --resume, or choose another --out"
        raise InputError(msg)
    require_writable(out)
    # The manifest is the last thing that is written before the first step.
    if resume and not (out / MANIFEST).is_file():
        # A run that was killed while it wrote these has nothing to lose.
        if used and not {path.name for path in out.iterdir()} <= set(HASHED):
            msg = f"{out}: expected a run to resume, got a folder without {MANIFEST}; choose another --out"
            raise InputError(msg)
        logger.info("%s: there is no run to resume yet; a new one begins.", out)
        return None
    if not resume:
        return None
    run = RunFolder(out)
    run.require_unchanged()
    return run


def refuse_drift(
    run: RunFolder,
    asked: TrainingConfig,
    first: TrainingConfig,
    cohort_folder: Path,
    split: Mapping[str, int | Literal["test"]],
) -> None:
    """Refuse to go on with another config, plan or split than the run began with.

    Args:
        run: The run to go on with.
        asked: The config as the user asks for it now.
        first: The config as it was asked for when the run began.
        cohort_folder: The cohort, whose plan and split are compared with the run's.
        split: The cohort's split.

    Raises:
        InputError: If something differs; it is named.
    """
    keys = drifted_keys(asked, first, run.config)
    if keys:
        values = flat(run.config.model_dump(mode="json"))
        msg = (
            f"{run.path / CONFIG}: cannot resume with another {', '.join(keys)} (the run has "
            f"{', '.join(f'{key}={values.get(key)}' for key in keys)}); leave it out, or begin a new run with --out"
        )
        raise InputError(msg)
    if split != run.split:
        changed = sorted(case for case in split.keys() | run.split.keys() if split.get(case) != run.split.get(case))
        msg = (
            f"{cohort_folder / SPLIT}: cannot resume, as the fold of '{changed[0]}' changed; begin a new run with --out"
        )
        raise InputError(msg)
    if (cohort_folder / PLAN).is_file():
        now, then = (
            flat(plan.model_dump(mode="json", exclude={"measured"})) for plan in (load_plan(cohort_folder), run.plan)
        )
        drifted = sorted(key for key in now.keys() | then.keys() if now.get(key) != then.get(key))
        if drifted:
            msg = f"{cohort_folder / PLAN}: cannot resume, as {drifted[0]} changed; begin a new run with --out"
            raise InputError(msg)


def refuse_other_data(run: RunFolder, used: Mapping[str, str]) -> None:
    """Refuse to go on with other prepared cases than the run began with.

    Args:
        run: The run to go on with.
        used: case_id -> store key of the cases that would be trained on or validated.

    Raises:
        InputError: If a case's data changed; it is named.
    """
    recorded = {case: entry["key"] for case, entry in run.manifest["cases"].items()}
    if recorded != used:
        changed = sorted(case for case in recorded.keys() | used.keys() if recorded.get(case) != used.get(case))
        msg = f"{run.path}: cannot resume, as the data of case '{changed[0]}' changed; begin a new run with --out"
        raise InputError(msg)


def refuse_other_networks(run: RunFolder, config: TrainingConfig, folds: Sequence[int]) -> None:
    """Refuse to go on with another teacher or other features than the run began with.

    Args:
        run: The run to go on with.
        config: Of the run.
        folds: Which folds are trained.

    Raises:
        InputError: If a file of theirs changed.
    """
    recorded, found = run.manifest.get("teacher") or {}, teacher_hashes(config.teacher)
    numbers = {str(teacher_fold(config.teacher, fold)) for fold in folds} & recorded.keys()
    changed = [f"fold {number} of teacher.run" for number in sorted(numbers) if recorded[number] != found.get(number)]
    if config.features.given and run.manifest.get("features") not in (None, features_hash(config.features)):
        changed.append("the network of 'features'")
    if changed:
        msg = f"{run.path}: cannot resume, as {changed[0]} changed; begin a new run with --out"
        raise InputError(msg)
