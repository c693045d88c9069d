"""Train at some sites, test at all: what a model is worth where it was not made; resumable, with a page."""

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from equivox import __version__
from equivox.atomic import atomic_path, remove_remains, require_writable, write_text
from equivox.datasets.cohort import CONFIG_NAME, CohortConfig, load_cohort
from equivox.datasets.text_table import read_text_table
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.options import Options, load_options, override_options, save_options
from equivox.pipelines.cross_site_config import CrossSiteConfig
from equivox.pipelines.crossing.cells import CELLS, Cell, Learner, Predictor, is_scored, make_cell
from equivox.pipelines.crossing.measures import MEASURES, output_key
from equivox.pipelines.crossing.pools import Model, all_folds, models_of
from equivox.pipelines.crossing.sites import Sites, find_sites
from equivox.pipelines.crossing.summary import (
    GROUP_COLUMNS,
    contrast_table,
    group_table,
    lesion_rules,
    matrix_table,
    patient_table,
    population_claim,
    site_rows,
    summarise_metric,
)
from equivox.pipelines.summary_file import summary_head, write_summary
from equivox.pipelines.training.lock import LOCK, locked
from equivox.pipelines.training.resolve import flat
from equivox.progress import progress_bar
from equivox.reports.cross_site_figures import write_cross_site_figures
from equivox.reports.cross_site_markdown import cross_site_markdown
from equivox.reports.cross_site_page import write_cross_site
from equivox.reports.embedding import finite

logger = logging.getLogger(__name__)

CONFIG, SPLITS = "config.yaml", "splits.csv"
CONTRASTS, PATIENTS, GROUPS = "contrasts.csv", "patients.csv", "groups.csv"
PROTOCOL, SUMMARY, REPORT, FIGURES = "protocol.json", "cross_site.json", "report.html", "figures"
WORDS = "summary.md"

_FILES = (CONFIG, SPLITS, CELLS, LOCK, CONTRASTS, PATIENTS, GROUPS, PROTOCOL, SUMMARY, WORDS, REPORT, FIGURES)
_SPLIT_COLUMNS = ["case_id", "patient_id", "site", "fold", "content"]


@dataclass(frozen=True, eq=False)
class CrossSite:
    """What came of a comparison across sites.

    Attributes:
        folder: Holds `matrix_<metric>.csv`, `contrasts.csv`, `patients.csv`, `groups.csv`, `splits.csv`,
            `protocol.json`, `cross_site.json`, `summary.md`, `report.html` and the models.
        summary: What `cross_site.json` holds.
        patients: What `patients.csv` holds.
    """

    folder: Path
    summary: dict[str, Any]
    patients: pd.DataFrame


@dataclass(frozen=True, eq=False)
class _Job:
    config: CrossSiteConfig
    sites: Sites
    folds: Mapping[str, int | None]
    models: tuple[Model, ...]


def cross_site(
    config: Path,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    workers: int = 1,
    figures: bool = False,
    learn: Learner | None = None,
    segment: Predictor | None = None,
) -> CrossSite:
    """Train each row's models, test them at every site, and compare them on the same patients.

    Each model is kept in `out` as soon as it is trained, and its scores as soon as they are there: the same command
    goes on where it stopped, and gives the same tables as if it had not stopped.

    Args:
        config: The YAML file of a `CrossSiteConfig`.
        out: The folder to fill; one that an earlier call with the same configuration and cases began is gone on with.
        overrides: Assignments to the configuration, such as ``training.steps=500``.
        workers: Processes for the work that is done case by case.
        figures: Also write the heat maps as SVG and PNG.
        learn: Takes the place of the training; see `Learner`.
        segment: Takes the place of the prediction; see `Predictor`.

    Raises:
        InputError: If the configuration or the cohort does not fit, or `out` was begun with others.
        TrainingStopped: If SIGTERM or SIGINT came during a training; the state is saved.
    """
    require_writable(out)
    _refuse_foreign(out)
    settings, folder = _load(config, overrides)
    job = _job(settings, folder, workers)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "equivox cross-site"):
        remove_remains(out)
        splits = _split_table(job)
        _refuse_other(out, job, splits)
        save_options(job.config, out / CONFIG, "Everything that was decided about this comparison.")
        _write_table(splits, out / SPLITS)
        cells = _all_cells(job, out, workers, learn, segment)
        patients = patient_table(cells)
        summary = _summary(job, cells)
        _write(out, job, cells, patients, summary, figures=figures)
    return CrossSite(out, summary, patients)


def dry_run(config: Path, out: Path, *, overrides: Sequence[str] = (), workers: int = 1) -> dict[str, Any]:
    """Return what `cross_site` would train and test, without writing anything; the cases are read once.

    Returns:
        The sites, and each model with its training and test patients and whether its scores are there already.

    Raises:
        InputError: As `cross_site` would before it trains.
    """
    require_writable(out)
    _refuse_foreign(out)
    settings, folder = _load(config, overrides)
    job = _job(settings, folder, workers)
    _refuse_other(out, job, _split_table(job))
    owners = Counter(case.patient_id for case in job.sites.cases)
    models = [
        {
            "model": model.name,
            "row": model.pool.name,
            "fold": model.fold,
            "draw": model.draw,
            "training_patients": len(model.patients),
            "training_cases": sum(owners[one] for one in model.patients),
            "tested": {site: len(patients) for site, patients in model.tested.items()},
            "done": is_scored(model, out),
        }
        for model in job.models
    ]
    return {"sites": site_rows(job.sites), "models": models, "notes": list(job.sites.notes)}


def _load(path: Path, overrides: Sequence[str]) -> tuple[CrossSiteConfig, Path]:
    config = override_options(load_options(CrossSiteConfig, path), overrides)
    return config, (path.absolute().parent / config.cohort)


def _job(config: CrossSiteConfig, folder: Path, workers: int) -> _Job:
    sites = find_sites(load_cohort(folder), config, workers)
    folds = all_folds(sites, config)
    return _Job(config, sites, folds, models_of(sites, folds, config))


def _split_table(job: _Job) -> pd.DataFrame:
    rows = [
        (case.case_id, case.patient_id, case.site, fold_text(job.folds[case.patient_id]), case.content)
        for case in job.sites.cases
    ]
    return pd.DataFrame(rows, columns=_SPLIT_COLUMNS)


def fold_text(fold: int | None) -> str:
    """Return a fold as `splits.csv` has it: patients of a site that is only tested on are in none."""
    return "test" if fold is None else str(fold)


def _refuse_foreign(out: Path) -> None:
    held = {path.name for path in out.iterdir()} if out.is_dir() else set()
    others = sorted(
        name for name in held if name not in _FILES and not name.startswith(("matrix_", ".partial-", ".old-"))
    )
    if others or (held - {LOCK} and CONFIG not in held):
        got = others[0] if others else min(held)
        msg = f"{out}: expected a new folder, or one that this command began, got {got} in it; choose another with -o"
        raise InputError(msg)


def _refuse_other(out: Path, job: _Job, splits: pd.DataFrame) -> None:
    """Refuse to mix models of other settings or cases, and say what changed."""
    if (out / CONFIG).is_file():
        _refuse_changed(out, "settings", load_options(CrossSiteConfig, out / CONFIG), job.config, {"cohort"})
    # What the files mean: the same voxels with other classes or another modality make other models.
    for begun in sorted((out / CELLS).glob(f"*/cohort/{CONFIG_NAME}")):
        _refuse_changed(
            out, CONFIG_NAME, load_options(CohortConfig, begun), job.sites.cohort.config, {"name", "attributes"}
        )
    if (out / SPLITS).is_file():
        known = read_text_table(out / SPLITS)
        if list(known.columns) != _SPLIT_COLUMNS:
            got = ", ".join(map(str, known.columns))
            msg = f"{out / SPLITS}: expected the columns {', '.join(_SPLIT_COLUMNS)}, got {got}; choose another -o"
            raise InputError(msg)
        before = {str(row["case_id"]): row for row in known.to_dict("records")}
        after = {str(row["case_id"]): row for row in splits.to_dict("records")}
        for case in sorted(before.keys() | after.keys()):
            if before.get(case) != after.get(case):
                kind = "is new" if case not in before else "is gone" if case not in after else "has changed"
                msg = f"{out}: expected the cases that it was begun with, but case '{case}' {kind}; choose another -o"
                raise InputError(msg)


def _refuse_changed(out: Path, what: str, before: Options, after: Options, free: set[str]) -> None:
    then, now = (flat(one.model_dump(mode="json", exclude=free)) for one in (before, after))
    changed = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    if changed:
        words = "; ".join(f"{key} (there {then.get(key)}, now {now.get(key)})" for key in changed[:5])
        msg = f"{out}: expected the {what} that it was begun with, got another {words}; choose another -o"
        raise InputError(msg)


def _all_cells(job: _Job, out: Path, workers: int, learn: Learner | None, segment: Predictor | None) -> list[Cell]:
    waiting = sum(not is_scored(model, out) for model in job.models)
    if waiting < len(job.models):
        logger.info("%d of %d models are there already.", len(job.models) - waiting, len(job.models))
    cells: list[Cell] = []
    begun, done = time.monotonic(), 0
    with progress_bar() as bar:
        line = bar.add_task("Models", total=waiting)
        # From here on the time of the first model counts too.
        bar.advance(line, 0)
        for number, model in enumerate(job.models, 1):
            new = not is_scored(model, out)
            if new:
                left = (time.monotonic() - begun) / done * (waiting - done) if done else None
                eta = "" if left is None else f"; about {_duration(left)} left"
                logger.info("Model %d of %d: %s%s.", number, len(job.models), model.words, eta)
                bar.update(line, description=f"Model {number} of {len(job.models)}: {model.words}")
            cells.append(make_cell(model, job.sites, job.config, out, workers=workers, learn=learn, segment=segment))
            done += new
            bar.advance(line, int(new))
            _refuse_unlike(cells)
    return cells


def _refuse_unlike(cells: Sequence[Cell]) -> None:
    """Refuse rows of different dimensions, which differ by more than by whom they were trained on."""
    first, last = cells[0], cells[-1]
    if first.facts.get("dims") != last.facts.get("dims"):
        msg = (
            f"training.dims: expected the same for every row, got {first.facts['dims']} for {first.model.words} and "
            f"{last.facts['dims']} for {last.model.words}; write training: {{dims: 2d}} and choose another -o"
        )
        raise InputError(msg)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _summary(job: _Job, cells: Sequence[Cell]) -> dict[str, Any]:
    config, sites = job.config, job.sites
    rows: dict[str, list[Model]] = {}
    for model in job.models:
        rows.setdefault(model.pool.name, []).append(model)
    units = cells[0].facts["units"]
    summary = {
        **summary_head(),
        "cohort": {
            "name": sites.cohort.config.name,
            "patients": len({case.patient_id for case in sites.cases}),
            "cases": len(sites.cases),
        },
        "site_attribute": config.site,
        "settings": config.model_dump(mode="json"),
        "sites": site_rows(sites),
        "volume_unit": "voxels" if sites.in_voxels else "ml",
        "population_claim": population_claim(sites),
        "rows": [
            {
                "row": name,
                "kind": models[0].pool.kind,
                "site": models[0].pool.site,
                "models": len(models),
                "training_patients": [
                    min(len(model.patients) for model in models),
                    max(len(model.patients) for model in models),
                ],
            }
            for name, models in rows.items()
        ],
        "metrics": [
            summarise_metric(cells, sites, key, units.get(output_key(key), ""), config) for key in config.metrics
        ],
        "lesion_rules": lesion_rules(sites, config),
        "groups": group_table(cells, sites, config),
        "classes": list(sites.classes),
        "missing_classes": {name: list(lacking) for name, lacking in sites.missing_classes.items()},
        "excluded_cases": [{"case_id": case, "reason": reason} for case, reason in sites.excluded.items()],
        "notes": list(sites.notes),
    }
    plain: dict[str, Any] = finite(summary)
    return plain


def _protocol(out: Path, job: _Job, cells: Sequence[Cell], summary: Mapping[str, Any]) -> dict[str, Any]:
    from equivox.pipelines.training.manifest import machine

    return {
        "schema_version": 1,
        "equivox_version": __version__,
        "created": summary["created"],
        "splits_sha256": file_sha256(out / SPLITS),
        "config_sha256": file_sha256(out / CONFIG),
        "seed": job.config.seed,
        "training_seed": job.config.training.seed,
        "metric_versions": {key: MEASURES[key].version for key in job.config.metrics},
        "averaging": (
            "Each model is scored on each patient that it is a test for; a patient's value in a row is the mean over "
            "those models. A cell is the mean over the site's patients."
        ),
        "curve": "One training patient of each model is set aside for the training's curve; nothing is chosen by it.",
        "machine": machine(1),
        "models": [
            {
                "model": cell.model.name,
                "row": cell.model.pool.name,
                "fold": cell.model.fold,
                "draw": cell.model.draw,
                "training_patients": list(cell.model.patients),
                "curve_patient": cell.model.curve_patient,
                "tested_patients": {site: len(patients) for site, patients in cell.model.tested.items()},
                **{name: value for name, value in cell.facts.items() if name not in ("units", "key")},
            }
            for cell in cells
        ],
    }


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def _write(
    out: Path,
    job: _Job,
    cells: Sequence[Cell],
    patients: pd.DataFrame,
    summary: Mapping[str, Any],
    *,
    figures: bool,
) -> None:
    for metric in summary["metrics"]:
        _write_table(matrix_table(metric, job.sites.names), out / f"matrix_{metric['metric']}.csv")
    _write_table(contrast_table(summary["metrics"]), out / CONTRASTS)
    _write_table(patients, out / PATIENTS)
    _write_table(pd.DataFrame(summary["groups"], columns=list(GROUP_COLUMNS)), out / GROUPS)
    protocol = _protocol(out, job, cells, summary)
    write_text(out / PROTOCOL, json.dumps(protocol, indent=2, ensure_ascii=False) + "\n")
    write_summary(out / SUMMARY, summary)
    write_text(out / WORDS, cross_site_markdown(summary))
    write_cross_site(out / REPORT, summary=summary, patients=patients)
    if figures:
        write_cross_site_figures(out / FIGURES, summary)
