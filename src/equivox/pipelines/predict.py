"""Predict: from a run folder and scans to label maps that lie exactly on the scans."""

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from equivox.datasets.cohort import load_cohort
from equivox.datasets.prepare import PreparedCase, prepare_case
from equivox.errors import InputError, is_out_of_memory, one_line
from equivox.hashing import file_sha256
from equivox.options import Options
from equivox.pipelines.prediction.folder import PredictionFolder, PredictionResult, Role, Status
from equivox.pipelines.prediction.scans import Scan, find_scans, scan_of_channels
from equivox.pipelines.prediction.sliding_window import (
    ready_network,
    sliding_window_probabilities,
    window_count,
    working_device,
)
from equivox.pipelines.preprocess import STORE_NAME
from equivox.pipelines.run_folder import COHORT, CONFIG, RunFolder
from equivox.progress import progress_bar
from equivox.volume import Grid, read_grid
from equivox.volume.orientation import reorient_affine, turn_axes
from equivox.volume.resample import resized_shape

logger = logging.getLogger(__name__)

_MIB = 2**20
# Slices of a 2D network at once: enough to keep the processor busy, few enough for any memory.
_SLICES = 4


class PredictionOptions(Options):
    """How the networks are applied.

    Attributes:
        overlap: Part of a patch that neighbouring patches share, at least.
        mirror: Average over mirror images along every axis but, where classes of the cohort swap with left and right,
            the left-right axis. Two, four or eight times the work.
        bfloat16: Run the networks in bfloat16: faster where the processor has it, labels differ in a few voxels.
        folds: Folds to use of those that are trained; None uses all.
        probabilities: Also write a map of each class's probability.
        entropy: Also write a map of the entropy, 0 (certain) to 1 (even).
        batch_size: Patches, or slices of a 2D network, at once; None takes 1 in 3D and 4 in 2D.
        device: ``auto`` takes the graphics card where there is one.
    """

    overlap: float = Field(default=0.5, ge=0, lt=1)
    mirror: bool = False
    bfloat16: bool = False
    folds: tuple[int, ...] | None = None
    probabilities: bool = False
    entropy: bool = False
    batch_size: int | None = Field(default=None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"


def predict(
    run: Path,
    scans: Sequence[Path],
    out: Path,
    *,
    cohort: Path | None = None,
    channels: Mapping[str, Path] | None = None,
    options: PredictionOptions | None = None,
    workers: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
) -> list[PredictionResult]:
    """Segment scans with the networks of a run; one failing scan never stops the others.

    Writes ``OUT/<case_id>.nii.gz`` on the scan's own grid with the label values of the cohort that was trained on,
    ``OUT/labels.json`` (value -> class), ``OUT/predictions.csv``, ``OUT/manifest.json`` (weights, settings, versions,
    hashes of inputs) and, where asked for, ``OUT/probabilities/<case_id>/<index>-<class>.nii.gz`` and
    ``OUT/entropy/<case_id>.nii.gz``. Each file appears whole or not at all; a case's label map comes last.

    Give exactly one of `scans`, `cohort` and `channels`. A cohort's cases are told by their ids: one of fold K is
    predicted by fold K's network alone, a ``test`` case and one that the run does not know by the average of all
    networks in probability space. A case that every chosen network was trained on is skipped.

    Args:
        run: The run folder.
        scans: Files and folders as `find_scans` reads them; also the folder of a cohort, alone.
        out: The folder to write to.
        cohort: A cohort folder.
        channels: Channel -> file, for one scan of several channels.
        options: How to apply the networks.
        workers: Scans that are read and prepared ahead, in threads, while the networks run; 0 for none.
        overwrite: Make label maps anew that are there already.
        resume: Keep label maps that are there already, and make the others.
        dry_run: Write nothing and read only headers; say what would be done.

    Returns:
        One result for each scan, in their order.

    Raises:
        InputError: If the run, an option or the output folder cannot be used. What is wrong with one scan is in its
            result.
    """
    if overwrite and resume:
        msg = "--overwrite and --resume: expected one of them, got both; --resume keeps what is there"
        raise InputError(msg)
    folder = RunFolder(run)
    folder.require_unchanged()
    model = _Model(folder, options or PredictionOptions())
    jobs = _jobs(model, scans, cohort, channels)
    _require_own_folder(out, jobs)
    output = PredictionFolder(out, model.run, model.folds, model.settings())
    if dry_run:
        return [job.result or _attempt(job, partial(_planned, job, model, output)) for job in jobs]
    output.refuse_foreign(job.scan.case_id for job in jobs)
    present = {job.scan.case_id for job in jobs if not job.result and output.has(job.scan.case_id)}
    if present and not (overwrite or resume):
        msg = (
            f"{out}: expected no predictions of these scans, got {len(present)} ({min(present)}.nii.gz ...); "
            "give --resume to keep them or --overwrite to make them anew"
        )
        raise InputError(msg)
    if resume:
        jobs = [_kept_if_same(job, output) if job.scan.case_id in present else job for job in jobs]
    waiting = [job for job in jobs if job.result is None]
    model.load(sorted({fold for job in waiting for fold in job.folds}))
    made_anew = {job.scan.case_id for job in (jobs if overwrite else waiting)}
    output.open([job.result for job in jobs if job.result], made_anew)
    made = iter(list(_predict_all(waiting, model, output, workers)))
    results = [job.result or next(made) for job in jobs]
    output.close()
    return results


@dataclass(frozen=True)
class _Job:
    """One scan, who is to segment it, and the result where that is clear beforehand."""

    scan: Scan
    role: Role
    folds: tuple[int, ...]
    result: PredictionResult | None = None

    @property
    def first_file(self) -> Path:
        return next(iter(self.scan.images.values()))

    def ends(self, status: Status, message: str = "", *, our_fault: bool = False) -> PredictionResult:
        return PredictionResult(self.scan.case_id, self.role, self.folds, status, message, our_fault)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A prepared scan and the hash of each of its files."""

    prepared: PreparedCase
    sha256: dict[str, str]


class _Model:
    """The chosen networks of a run and how to apply them."""

    def __init__(self, run: RunFolder, options: PredictionOptions) -> None:
        self.run = run
        self.options = options
        self.folds = chosen_folds(run, options.folds)
        self.plan = run.network_plan
        self.classes = len(run.plan.classes) + 1
        self.channels = run.plan.preprocessing.image_channels
        mirrored = run.plan.mirror_axes(self.plan) if options.mirror else ()
        self.mirror_axes = tuple(self.plan.scan_axes[axis] for axis in mirrored)
        self.batch_size = options.batch_size or (1 if self.plan.dimensions == 3 else _SLICES)
        self.networks: dict[int, torch.nn.Module] = {}

    def settings(self) -> dict[str, Any]:
        """What of the settings changes labels."""
        return {
            "overlap": self.options.overlap,
            "mirror_axes": list(self.mirror_axes),
            "precision": "bfloat16" if self.options.bfloat16 else "float32",
        }

    def load(self, folds: Sequence[int]) -> None:
        """Read the networks of these folds."""
        device = working_device(self.options.device)
        self.networks = {fold: ready_network(self.run.network(fold), self.plan, device) for fold in folds}

    def probabilities(self, folds: Sequence[int], prepared: PreparedCase, tell: Callable[[float], None]) -> Tensor:
        """Return the mean probabilities of these folds' networks on the prepared grid."""
        return sliding_window_probabilities(
            [self.networks[fold] for fold in folds],
            prepared.image,
            self.plan,
            num_classes=self.classes,
            overlap=self.options.overlap,
            mirror_axes=self.mirror_axes,
            batch_size=self.batch_size,
            bfloat16=self.options.bfloat16,
            on_progress=tell,
        ).cpu()


def chosen_folds(run: RunFolder, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the trained folds that are to be used, in order; None takes all.

    Raises:
        InputError: If none is trained, or not all that are wanted.
    """
    if not run.folds:
        msg = f"{run.path}: expected a trained fold, got none; finish 'equivox train' first (--resume goes on)"
        raise InputError(msg)
    if wanted is None:
        return run.folds
    if not wanted or not set(wanted) <= set(run.folds):
        msg = f"--folds: expected some of {list(run.folds)}, got {list(wanted)}; choose trained folds"
        raise InputError(msg)
    return tuple(sorted(set(wanted)))


def _jobs(model: _Model, scans: Sequence[Path], cohort: Path | None, channels: Mapping[str, Path] | None) -> list[_Job]:
    if sum(map(bool, (scans, cohort, channels))) != 1:
        msg = "expected scans, --cohort or --channel, one of the three; name what to segment in one way"
        raise InputError(msg)
    wanted = model.run.plan.preprocessing.channels
    if len(scans) == 1 and (scans[0] / "cohort.yaml").is_file():
        cohort = scans[0]
    if cohort is not None:
        jobs = _cohort_jobs(model, cohort)
    else:
        found = [scan_of_channels(channels, wanted)] if channels else find_scans(scans, wanted)
        jobs = [_Job(scan, "new", model.folds) for scan in found]
    return [replace(job, result=job.result or _faulty(job)) for job in jobs]


def _cohort_jobs(model: _Model, path: Path) -> list[_Job]:
    cohort = load_cohort(path)
    wanted = model.run.plan.preprocessing.channels
    missing = [name for name in wanted if name not in cohort.config.channels]
    if missing:
        got = ", ".join(cohort.config.channels)
        msg = f"{path}: expected the channel '{missing[0]}' that the run was trained with, got {got}; name it so"
        raise InputError(msg)
    jobs = []
    for case in cohort.cases:
        scan = Scan(case.case_id, {name: case.images[name] for name in wanted})
        place = model.run.split.get(case.case_id)
        if place is None or place == "test":
            jobs.append(_Job(scan, "new" if place is None else "test", model.folds))
        elif place in model.folds:
            jobs.append(_Job(scan, "out_of_fold", (place,)))
        else:
            job = _Job(scan, "out_of_fold", ())
            used = ", ".join(map(str, model.folds))
            reason = f"a case of fold {place}, which the network of every fold used ({used}) was trained on"
            jobs.append(replace(job, result=job.ends("skipped", f"{reason}; train fold {place} to predict it")))
    return jobs


def _kept_if_same(job: _Job, output: PredictionFolder) -> _Job:
    """Return the job as done, unless nobody noted that its label map was made of these files."""
    if output.made_of(job.scan.case_id, job.scan.images):
        return replace(job, result=job.ends("kept"))
    logger.warning("%s: its label map was not made of this scan, so it is predicted anew", job.scan.case_id)
    return job


def _faulty(job: _Job) -> PredictionResult | None:
    lost = [path for path in job.scan.images.values() if not path.exists()]
    fault = job.scan.fault or (f"{lost[0]}: no such file; check the path" if lost else "")
    return job.ends("failed", fault) if fault else None


def _require_own_folder(out: Path, jobs: Sequence[_Job]) -> None:
    """Refuse a folder with something else in it that label maps and tables of the same names would replace."""
    inside = (out.parent / CONFIG).exists() and out.name.startswith("fold_")
    stored = (out.parent / COHORT).exists() and out.name == STORE_NAME
    for name, kind in ((CONFIG, "run"), (COHORT, "cohort")):
        if (out / name).exists() or (inside and kind == "run") or (stored and kind == "cohort"):
            msg = f"{out}: expected a folder of its own for the label maps, got that of a {kind}; choose another --out"
            raise InputError(msg)
    # Unlike `Path.resolve` it does not fail on a link that leads back to itself.
    place = os.path.realpath(out)
    for scan in (path for job in jobs for path in job.scan.images.values()):
        if place in (os.path.realpath(scan), os.path.realpath(scan.absolute().parent)):
            msg = f"{out}: expected a folder of its own for the label maps, got that of {scan}; choose another --out"
            raise InputError(msg)


def _predict_all(
    jobs: Sequence[_Job], model: _Model, output: PredictionFolder, workers: int
) -> Iterator[PredictionResult]:
    with progress_bar() as progress:
        task = progress.add_task("Predicting", total=len(jobs))
        for done, (job, load) in enumerate(_loaded_ahead(jobs, model, workers)):
            progress.update(task, description=f"Predicting {job.scan.case_id}")
            hashes: dict[str, str] = {}

            def work(job: _Job = job, load: Callable[[], _Loaded] = load, done: int = done) -> PredictionResult:
                loaded = load()
                hashes.update(loaded.sha256)  # noqa: B023 - called within this turn
                probabilities = model.probabilities(
                    job.folds, loaded.prepared, lambda part: progress.update(task, completed=done + part)
                )
                output.write(
                    job.scan.case_id,
                    probabilities,
                    loaded.prepared.geometry,
                    job.first_file,
                    with_probabilities=model.options.probabilities,
                    with_entropy=model.options.entropy,
                )
                return job.ends("done")

            result = _attempt(job, work)
            output.record(result, hashes if result.status == "done" else {})
            progress.update(task, completed=done + 1)
            yield result


def _attempt(job: _Job, work: Callable[[], PredictionResult]) -> PredictionResult:
    """Do the work; what goes wrong becomes the scan's result."""
    try:
        return work()
    except Exception as error:  # one scan must not stop the others; the traceback of a fault of ours goes to the log
        if isinstance(error, (InputError, OSError)) or is_out_of_memory(error):
            message = one_line(error)
            named = any(str(path) in message for path in job.scan.images.values())
            return job.ends("failed", message if named else f"{job.first_file}: {message}")
        logger.debug("%s", job.first_file, exc_info=True)
        return job.ends("failed", f"{job.first_file}: {type(error).__name__}: {one_line(error)}", our_fault=True)


def _load(job: _Job, model: _Model) -> _Loaded:
    prepared = prepare_case(job.scan.images, None, {}, model.run.plan.preprocessing)
    if len(prepared.image) != model.channels:
        got = len(prepared.image)
        msg = f"{job.first_file}: expected {model.channels} channels as in training, got {got}; give the run's channels"
        raise InputError(msg)
    return _Loaded(prepared, {name: file_sha256(path) for name, path in job.scan.images.items()})


def _loaded_ahead(jobs: Sequence[_Job], model: _Model, workers: int) -> Iterator[tuple[_Job, Callable[[], _Loaded]]]:
    """Yield each job with a function that gives its scan, once; the next ones are being prepared meanwhile."""
    if workers < 1:
        yield from ((job, partial(_load, job, model)) for job in jobs)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="equivox-load")
    ahead: deque[Future[_Loaded]] = deque()
    try:
        submitted = 0
        for job in jobs:
            while submitted < len(jobs) and len(ahead) <= workers:
                ahead.append(pool.submit(_load, jobs[submitted], model))
                submitted += 1
            # The future leaves the queue with its scan, so that nothing keeps a finished scan in memory.
            yield job, lambda: ahead.popleft().result()
    finally:
        # Ctrl-C must not wait for a scan that is being read.
        pool.shutdown(wait=False, cancel_futures=True)


def _planned(job: _Job, model: _Model, output: PredictionFolder) -> PredictionResult:
    """Say what would be done with a scan, from its header alone."""
    shape, memory_mib = _estimate(read_grid(job.first_file), model, len(job.folds))
    passes = len(job.folds) * 2 ** len(model.mirror_axes)
    runs = passes * window_count(shape, model.plan, overlap=model.options.overlap, batch_size=model.batch_size)
    size = "x".join(map(str, shape))
    there = "; its label map is there already" if output.has(job.scan.case_id) else ""
    return job.ends("planned", f"{size} voxels prepared, {runs} network runs, at most about {memory_mib} MiB{there}")


def _estimate(grid: Grid, model: _Model, networks: int) -> tuple[tuple[int, int, int], int]:
    """Return the prepared shape, were nothing cropped, and the peak memory of predicting in MiB."""
    plan = model.run.plan.preprocessing
    turns = turn_axes(grid.affine, plan.orientation)
    i, j, k = (grid.shape[source] for source, _ in turns)
    turned = Grid((i, j, k), reorient_affine(grid.affine, grid.shape, turns))
    spacing = [new or old for new, old in zip(plan.spacing_mm, turned.spacing_mm, strict=True)]
    shape = resized_shape(turned.shape, turned.spacing_mm, spacing)
    prepared, source = math.prod(shape), math.prod(grid.shape)
    sums = 1 if networks == 1 and not model.mirror_axes else 2
    # Preparing holds a few copies of the scan, and one more scan may be prepared ahead.
    numbers = model.classes * prepared * sums + model.channels * (2 * prepared + 3 * source) + source
    # Training keeps every activation for the gradient; a forward pass alone needs about a quarter of that.
    return shape, round(4 * numbers / _MIB + model.plan.memory_mib / 4)
