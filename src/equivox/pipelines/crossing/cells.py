"""One model of a row: its cohort, its training, and its scores at every site; what is done already is kept."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from equivox.atomic import atomic_folder, atomic_path, write_text
from equivox.datasets.cohort import Cohort, load_cohort, resolve_path, save_cohort
from equivox.datasets.split import SPLIT_NAME
from equivox.datasets.text_table import read_text_table
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.options import Options
from equivox.pipelines.cross_site_config import CrossSiteConfig
from equivox.pipelines.crossing.measures import MEASURES, asked_of
from equivox.pipelines.crossing.pools import Model
from equivox.pipelines.crossing.scoring import score_predictions
from equivox.pipelines.crossing.sites import Sites
from equivox.pipelines.prediction.map_names import PROBABILITIES
from equivox.pipelines.training_config import TrainingConfig

logger = logging.getLogger(__name__)

CELLS, TRAINED, SCORED, SCORES = "cells", "trained.json", "scored.json", "scores.csv"
_COHORT, _RUN, _TARGETS, _PREDICTIONS = "cohort", "run", "targets", "predictions"


@dataclass(frozen=True)
class Cell:
    """A finished model.

    Attributes:
        model: Which one.
        scores: One row a patient, site and metric: `scoring.SCORE_COLUMNS`.
        facts: What was trained: hashes, dimensions, steps; units of the scores.
    """

    model: Model
    scores: pd.DataFrame
    facts: Mapping[str, Any]


Learner = Callable[[Path, Path, CrossSiteConfig, int], Mapping[str, Any]]
"""Trains on the first folder into the second, or goes on there, and returns facts with at least ``sha256``."""

Predictor = Callable[[Path, Path, Path, CrossSiteConfig], None]
"""Segments with a run (first) the cohort (second) into a folder (third), with maps where the metrics want them."""


def make_cell(
    model: Model,
    sites: Sites,
    config: CrossSiteConfig,
    out: Path,
    *,
    workers: int,
    learn: Learner | None = None,
    segment: Predictor | None = None,
) -> Cell:
    """Train one model, or take the one that is there, and score it at every site, or take the scores that are there.

    The model's cohort is a folder of its own that holds nobody but its training patients: whatever is measured of it,
    spacing and intensities for one, is measured of them alone. Scans are pointed to, not copied.

    Args:
        model: Which one.
        sites: The cases.
        config: How it is trained and scored.
        out: The folder of the whole comparison.
        workers: Processes for the work that is done case by case.
        learn: Takes the place of the training, in tests.
        segment: Takes the place of the prediction.

    Raises:
        InputError: If a part fails, or what is there was made of other cases or settings.
    """
    folder = out / CELLS / model.name
    cases = {case.case_id: case for case in sites.cases}
    training = sorted(case.case_id for case in cases.values() if case.patient_id in set(model.patients))
    tested = {one for patients in model.tested.values() for one in patients}
    targets = sorted(case.case_id for case in cases.values() if case.patient_id in tested)
    trained_key = _key(
        {
            "training": config.training,
            "memory_gib": config.memory_gib,
            "cases": {case: cases[case].content for case in training},
            "curve_patient": model.curve_patient,
        }
    )
    facts = _noted(folder / TRAINED, trained_key)
    if facts is None:
        _write_cohort(folder / _COHORT, sites.cohort, training, model)
        facts = dict((learn or _learn)(folder / _COHORT, folder / _RUN, config, workers))
        write_text(folder / TRAINED, _json({"key": trained_key, **facts}))
    scored_key = _key(
        {
            "model": facts["sha256"],
            "cases": {case: cases[case].content for case in targets},
            "sites": {site: list(patients) for site, patients in model.tested.items()},
            "metrics": {key: MEASURES[key].version for key in config.metrics},
            "settings": [config.tolerance, config.empty, config.hd95, config.overlap, sites.classes],
            "wide_tolerance": config.wide_tolerance if asked_of(config.metrics, "wide") else None,
            "lesions": [config.lesions.model_dump(mode="json"), config.lesion_class]
            if asked_of(config.metrics, "lesions")
            else None,
        }
    )
    scored = _noted(folder / SCORED, scored_key)
    whole = scored is not None and (folder / SCORES).is_file() and file_sha256(folder / SCORES) == scored["sha256"]
    if scored is None or not whole:
        predictions = folder / _PREDICTIONS
        _write_targets(folder / _TARGETS, sites.cohort, targets)
        if asked_of(config.metrics, "probabilities") and not (predictions / PROBABILITIES).is_dir():
            # Masks without their maps are of a run that was done with them.
            shutil.rmtree(predictions, ignore_errors=True)
        (segment or _segment)(folder / _RUN, folder / _TARGETS, predictions, config)
        scores, units = score_predictions(predictions, model, sites, config, targets, workers)
        with atomic_path(folder / SCORES) as temporary:
            scores.to_csv(temporary, index=False, lineterminator="\n")
        scored = {"key": scored_key, "sha256": file_sha256(folder / SCORES), "units": units}
        write_text(folder / SCORED, _json(scored))
        # A map a class and case is many times the masks.
        shutil.rmtree(predictions / PROBABILITIES, ignore_errors=True)
    return Cell(model, read_scores(folder / SCORES), {**facts, "units": scored["units"]})


def is_scored(model: Model, out: Path) -> bool:
    """Tell whether the scores of a model are there; whether they are of these cases is seen when they are read."""
    return (out / CELLS / model.name / SCORED).is_file()


def read_scores(path: Path) -> pd.DataFrame:
    """Read `scores.csv`, ids as text and values to the last digit."""
    table = read_text_table(path)
    # Python reads back the very number that was written, whatever the version of pandas.
    return table.assign(value=[float(text) for text in table["value"]])


def _noted(path: Path, key: str) -> dict[str, Any] | None:
    """Return what was noted when this was done, None where it was not done, or of something else."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return noted if isinstance(noted, dict) and noted.get("key") == key else None


def _key(parts: Mapping[str, Any]) -> str:
    plain = {name: one.model_dump(mode="json") if isinstance(one, Options) else one for name, one in parts.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def _part(cohort: Cohort, folder: Path, cases: Iterable[str], name: str) -> Cohort:
    """Return some cases of a cohort as one of its own, whose files are where they are."""
    chosen = set(cases)
    table = cohort.table[cohort.table["case_id"].isin(chosen)].sort_values("case_id").copy()
    for column in table.columns:
        if column == "label" or str(column).startswith(("image:", "label:")):
            table[column] = [str(resolve_path(text, cohort.folder)) if text else "" for text in table[column]]
    return Cohort(folder, cohort.config.model_copy(update={"name": name}), table)


def _write_cohort(folder: Path, cohort: Cohort, cases: list[str], model: Model) -> None:
    """Write the cohort of a training; one that is there is of these cases, as the split of a comparison never changes.

    The patient of the curve is fold 0, all others are fold 1, so that training fold 0 trains on fold 1.
    """
    if (folder / SPLIT_NAME).is_file():
        return
    with atomic_folder(folder) as temporary:
        part = _part(cohort, temporary, cases, f"{cohort.config.name} ({model.pool.name})")
        save_cohort(part)
        owners = dict(zip(part.table["case_id"], part.table["patient_id"], strict=True))
        lines = [f"{case},{owner},{int(owner != model.curve_patient)}" for case, owner in owners.items()]
        write_text(temporary / SPLIT_NAME, "\n".join(["case_id,patient_id,fold", *lines]) + "\n")


def _write_targets(folder: Path, cohort: Cohort, cases: list[str]) -> None:
    with atomic_folder(folder) as temporary:
        save_cohort(_part(cohort, temporary, cases, cohort.config.name))


def training_overrides(config: TrainingConfig) -> tuple[str, ...]:
    """Return what differs from the defaults as assignments that the training takes.

    Timing float32 against bfloat16 may come out differently from row to row, so `auto` is float32 here.

    Example:
        >>> training_overrides(TrainingConfig(steps=5, precision="bfloat16"))
        ('steps=5', 'precision="bfloat16"')
    """
    if config.precision == "auto":
        config = config.model_copy(update={"precision": "float32"})
    ours, default = config.model_dump(mode="json"), TrainingConfig().model_dump(mode="json")
    # JSON is YAML, and a whole section at a time, so that the options of a network or a loss come with its name.
    return tuple(f"{name}={json.dumps(value)}" for name, value in ours.items() if value != default[name])


def _learn(cohort_folder: Path, run_folder: Path, config: CrossSiteConfig, workers: int) -> Mapping[str, Any]:
    """Plan the cohort by itself and train on all of it but the patient of the curve."""
    from equivox.datasets.plan import PLAN_NAME
    from equivox.pipelines.plan import plan_cohort
    from equivox.pipelines.preprocess import STORE_NAME
    from equivox.pipelines.run_folder import PLAN, WEIGHTS
    from equivox.pipelines.train import train

    if not (cohort_folder / PLAN_NAME).is_file():
        plan_cohort(load_cohort(cohort_folder), workers=workers, memory_gib=config.memory_gib)
    run = train(
        cohort_folder,
        run_folder,
        overrides=training_overrides(config.training),
        resume=run_folder.exists(),
        fold="0",
        workers=workers if workers > 1 else 0,
    )
    # Prepared by this row's plan, so that no other row could use them.
    shutil.rmtree(cohort_folder / STORE_NAME, ignore_errors=True)
    return {
        "sha256": file_sha256(run.fold_folder(0) / WEIGHTS),
        "plan_sha256": file_sha256(run.path / PLAN),
        "dims": run.config.dims,
        "steps": run.config.steps,
        "spacing_mm": list(run.plan.preprocessing.spacing_mm),
    }


def _segment(run: Path, targets: Path, predictions: Path, config: CrossSiteConfig) -> None:
    from equivox.pipelines.predict import PredictionOptions, predict
    from equivox.pipelines.run_folder import RunFolder

    try:
        RunFolder(run).network(0)
    except InputError as error:
        msg = f"{run.parent}: expected the model as it was trained, got a damaged one ({error}); remove this folder"
        raise InputError(f"{msg} and run again") from error
    options = PredictionOptions(
        overlap=config.overlap,
        device=config.training.device,
        probabilities=bool(asked_of(config.metrics, "probabilities")),
    )
    results = predict(run, [], predictions, cohort=targets, options=options, resume=predictions.exists())
    failed = [result for result in results if result.status not in {"done", "kept"}]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        msg = f"case {failed[0].case_id}: {failed[0].message}{more}"
        raise RuntimeError(msg) if any(result.our_fault for result in failed) else InputError(msg)
