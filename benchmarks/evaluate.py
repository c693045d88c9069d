"""The whole command `equivox evaluate` against scripts on MONAI, surface-distance, MedPy and panoptica; in one run.

    python benchmarks/evaluate.py [--cases 50] [--slow-cases 6] [--workers 2] [--panoptica-python PYTHON] [--small]

Made-up label maps of 256x256x150 voxels of 0.9 x 0.9 x 2 mm with five classes, as compressed NIfTI. Every contestant
is a process of its own that reads the files, computes Dice, HD95, ASSD and (where it has it) NSD at 2 mm of every case
and class, in as many worker processes, and writes a CSV. Ours also computes seven more metrics, the statistics and the
report. Start-up is in the times; peak memory is that of the process and its workers together. Contestants that would
take many minutes score fewer cases, and their time is scaled up; the table says so. Their ASSD is smaller as they
measure between corners or centres of voxels: for the bumpy bodies of `tests/metrics/masks/test_surface.py`, in voxels
as coarse as these, that is more than 20 % too little, and ours is within 6 %.

panoptica 2.1 asks for an older numpy than the rest: `--panoptica-python` names an interpreter that has it and nibabel.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 5
SPACING = (0.9, 0.9, 2.0)
TOLERANCE_MM = 2.0
SLOW = ("monai", "medpy", "panoptica")


def main() -> None:
    """Measure everything, or be one of the scripts where this is the process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--slow-cases", type=int, default=6, help="of MONAI, MedPy and panoptica; scaled up")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="of ours and of surface-distance")
    parser.add_argument("--panoptica-python", type=Path, help="an interpreter with panoptica and nibabel")
    parser.add_argument("--small", action="store_true", help="small images: does it run at all?")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--script", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.script:
        run_script(options.script, options.folder, options.cases, options.workers)
        return
    with tempfile.TemporaryDirectory() as folder:
        report(options, measure(options, Path(folder)))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run every contestant and return its times, peaks and mean scores."""
    make_cases(folder, options.cases, (48, 40, 30) if options.small else (256, 256, 150))
    found: dict[str, Any] = {}
    few = max(2, options.cases // 5)
    for name, cases in (("equivox", options.cases), ("equivox, fewer cases", few)):
        runs = [run_ours(folder, cases, options.workers) for _ in range(options.repeats)]
        found[name] = {"cases": cases, "runs": runs, "means": our_means(folder)}
    for name in ("surface-distance", "monai", "medpy", "panoptica"):
        python = options.panoptica_python if name == "panoptica" else Path(sys.executable)
        if python is None:
            continue
        cases = min(options.slow_cases, options.cases) if name in SLOW else options.cases
        repeats = 1 if name in SLOW else options.repeats
        runs = [run_peer(python, name, folder, cases, options.workers) for _ in range(repeats)]
        found[name] = {"cases": cases, "runs": runs, "means": peer_means(folder, name)}
    return found


def make_cases(folder: Path, cases: int, shape: tuple[int, int, int]) -> None:
    """Write references and predictions: balls with a wavy surface, and the same with other waves, some of them lost."""
    import nibabel as nib
    from scipy import ndimage

    rng = np.random.default_rng(0)
    affine = np.diag([*SPACING, 1.0])
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij"))
    for name in ("references", "predictions"):
        (folder / name).mkdir()
    with (folder / "groups.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("case_id", "sex"), *((f"case{n:03d}", "FM"[n % 2]) for n in range(cases))])
    for number in range(cases):
        centres = rng.uniform(-0.55, 0.55, (CLASSES, 3))
        radii = rng.uniform(0.15, 0.4, CLASSES)
        for name, strength in (("references", 0.10), ("predictions", 0.14)):
            waves = ndimage.zoom(rng.normal(0, strength, (9, 9, 7)), np.array(shape) / (9, 9, 7), order=1)
            labels = np.zeros(shape, np.uint8)
            for index in range(CLASSES):
                if name == "predictions" and rng.random() < 0.03:
                    continue
                away = np.sqrt(((grid - centres[index][:, None, None, None]) ** 2).sum(axis=0))
                labels[away < radii[index] * (1 + waves)] = index + 1
            nib.save(nib.Nifti1Image(labels, affine), folder / name / f"case{number:03d}.nii.gz")


def run_ours(folder: Path, cases: int, workers: int) -> dict[str, float]:
    """Evaluate with the command line, on the first cases."""
    part = folder / f"part{cases}"
    for name in ("references", "predictions"):
        (part / name).mkdir(parents=True, exist_ok=True)
        for path in sorted((folder / name).iterdir())[:cases]:
            if not (part / name / path.name).exists():
                os.link(path, part / name / path.name)
    command = [str(Path(sys.executable).parent / "equivox"), "-q", "evaluate", "--references", str(part / "references")]
    command += [
        "--predictions",
        str(part / "predictions"),
        "--groups",
        str(folder / "groups.csv"),
        "--attribute",
        "sex",
    ]
    command += ["--workers", str(workers), "--tolerance", str(TOLERANCE_MM), "-o", str(folder / "out"), "--overwrite"]
    return timed(command)


def run_peer(python: Path, name: str, folder: Path, cases: int, workers: int) -> dict[str, float]:
    """Run one of the scripts below in a process of its own."""
    command = [str(python), __file__, "--script", name, "--folder", str(folder), "--cases", str(cases)]
    return timed([*command, "--workers", str(workers)])


def timed(command: list[str]) -> dict[str, float]:
    """Return wall time, CPU time and the peak memory of the process and its children."""
    import psutil

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    before, start = os.times(), time.perf_counter()
    process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            total = 0
            try:
                family = [process, *process.children(recursive=True)]
            except psutil.Error:
                return
            for one in family:
                try:
                    total += one.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    wall = time.perf_counter() - start
    done.set()
    watcher.join()
    if code:
        raise SystemExit(f"{command} ended with {code}")
    after = os.times()
    cpu = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return {"wall_s": wall, "cpu_s": cpu, "peak_mib": peak / 2**20}


def our_means(folder: Path) -> dict[str, float]:
    """Return the means over structures that are in both masks, to compare with the peers'."""
    import pandas as pd

    cases = pd.read_csv(folder / "out" / "cases.csv")
    plain = cases[cases["outcome"] == "scored"]
    names = {"dice": "dice", "nsd": "nsd", "hd95_mm": "hd95", "assd_mm": "assd"}
    return {name: float(plain[column].mean()) for column, name in names.items()}


def peer_means(folder: Path, name: str) -> dict[str, float]:
    """Return the means over the rows that a script wrote."""
    with (folder / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [key for key in rows[0] if key not in ("case_id", "class")]
    return {key: float(np.mean([float(row[key]) for row in rows])) for key in scores}


def run_script(name: str, folder: Path, cases: int, workers: int) -> None:
    """Score the first cases as a user's script would, in worker processes, and write a CSV."""
    score = SCRIPTS[name]
    files = sorted((folder / "references").iterdir())[:cases]
    items = [(score.__name__, path, folder / "predictions" / path.name) for path in files]
    if workers > 1:
        with Pool(workers) as pool:
            parts = pool.map(_score_item, items, chunksize=1)
    else:
        parts = [_score_item(item) for item in items]
    rows = [row for part in parts for row in part]
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _score_item(item: tuple[str, Path, Path]) -> list[dict[str, Any]]:
    import nibabel as nib

    score, *paths = item
    reference, prediction = (np.asarray(nib.load(path).dataobj) for path in paths)
    rows = globals()[score](reference, prediction)
    return [{"case_id": paths[0].name, "class": index} | row for index, row in rows.items()]


def _both(reference: np.ndarray, prediction: np.ndarray) -> list[int]:
    """Return the classes that both masks hold: no peer scores the others alike."""
    return sorted((set(np.unique(reference)) & set(np.unique(prediction))) - {0})


def with_surface_distance(reference: np.ndarray, prediction: np.ndarray) -> dict[int, dict[str, float]]:
    """One extraction of the surfaces a class, as its documentation shows."""
    import surface_distance as sd

    rows = {}
    for index in _both(reference, prediction):
        masks = reference == index, prediction == index
        distances = sd.compute_surface_distances(*masks, SPACING)
        forth, back = sd.compute_average_surface_distance(distances)
        rows[index] = {
            "dice": sd.compute_dice_coefficient(*masks),
            "nsd": sd.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM),
            "hd95": sd.compute_robust_hausdorff(distances, 95),
            "assd": (forth + back) / 2,
        }
    return rows


def with_monai(reference: np.ndarray, prediction: np.ndarray) -> dict[int, dict[str, float]]:
    """Its functional metrics on one-hot tensors."""
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_surface_dice,
    )
    from monai.networks.utils import one_hot

    torch.set_num_threads(1)
    truth, guess = (
        one_hot(torch.from_numpy(labels.astype(np.int16))[None, None], CLASSES + 1)
        for labels in (reference, prediction)
    )
    dice = compute_dice(guess, truth, include_background=False)[0]
    hd95 = compute_hausdorff_distance(guess, truth, percentile=95, spacing=SPACING)[0]
    assd = compute_average_surface_distance(guess, truth, symmetric=True, spacing=SPACING)[0]
    nsd = compute_surface_dice(guess, truth, [TOLERANCE_MM] * CLASSES, spacing=SPACING, use_subvoxels=True)[0]
    values = {"dice": dice, "nsd": nsd, "hd95": hd95, "assd": assd}
    return {
        index: {key: float(value[index - 1]) for key, value in values.items()} for index in _both(reference, prediction)
    }


def with_medpy(reference: np.ndarray, prediction: np.ndarray) -> dict[int, dict[str, float]]:
    """Its binary metrics, class by class; it has no NSD."""
    from medpy.metric import binary

    rows = {}
    for index in _both(reference, prediction):
        masks = prediction == index, reference == index
        hd95, assd = (measure(*masks, voxelspacing=SPACING) for measure in (binary.hd95, binary.assd))
        rows[index] = {"dice": binary.dc(*masks), "hd95": hd95, "assd": assd}
    return rows


def with_panoptica(reference: np.ndarray, prediction: np.ndarray) -> dict[int, dict[str, float]]:
    """Each class as one matched instance."""
    from panoptica import InputType, Panoptica_Evaluator
    from panoptica.metrics import Metric

    wanted = [Metric.DSC, Metric.HD95, Metric.ASSD, Metric.NSD]
    evaluator = Panoptica_Evaluator(
        InputType.MATCHED_INSTANCE, instance_metrics=wanted, global_metrics=[], verbose=False
    )
    rows = {}
    for index in _both(reference, prediction):
        masks = ((labels == index).astype(np.uint8) for labels in (prediction, reference))
        result = evaluator.evaluate(*masks, voxelspacing=SPACING)["ungrouped"]
        rows[index] = {
            "dice": result.sq_dsc,
            "nsd": result.sq_nsd,
            "hd95": result.sq_hd95,
            "assd": result.sq_assd,
        }
    return rows


SCRIPTS: dict[str, Callable[[np.ndarray, np.ndarray], dict[int, dict[str, float]]]] = {
    "surface-distance": with_surface_distance,
    "monai": with_monai,
    "medpy": with_medpy,
    "panoptica": with_panoptica,
}


def report(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Print the table and write it with the machine beside it."""
    from machine import describe_machine, machine_line

    machine = describe_machine("monai", "surface-distance", "medpy", "scipy", "edt")
    ours = min(run["wall_s"] for run in found["equivox"]["runs"]) / found["equivox"]["cases"]
    lines = [
        "# The whole evaluation against scripts on other tools",
        "",
        __doc__.split("\n\n")[2].replace("\n", " "),
        "",
        f"Workers: {options.workers}. Machine: {machine_line(machine)}.",
        "",
        "| contestant | cases | wall s a case: best (all) | times ours | CPU s a case | peak MiB | "
        "Dice | NSD | HD95 | ASSD |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        walls = sorted(run["wall_s"] / one["cases"] for run in one["runs"])
        cpu = min(run["cpu_s"] for run in one["runs"]) / one["cases"]
        peak = max(run["peak_mib"] for run in one["runs"])
        means = [f"{one['means'][key]:.4f}" if key in one["means"] else "-" for key in ("dice", "nsd", "hd95", "assd")]
        spread = ", ".join(f"{wall:.2f}" for wall in walls)
        cells = [name, str(one["cases"]), f"{walls[0]:.2f} ({spread})", f"{walls[0] / ours:.2f}", f"{cpu:.2f}"]
        lines.append("| " + " | ".join([*cells, f"{peak:,.0f}", *means]) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if not options.small:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "evaluate.md").write_text(text, encoding="utf-8")
        stored = {"machine": machine, "workers": options.workers, "found": found}
        (options.results / "evaluate.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
