"""Losses that ask for unbroken vessels, on made-up trees of vessels and on photographs of the back of the eye.

    python benchmarks/vessel_continuity.py [--folder FOLDER] [--seeds 3] [--data trees eyes] [--small]

`trees`: 24 volumes of 64 x 64 x 48 voxels (0.8 x 0.8 x 1 mm), each with a branching tube of a radius from 2 mm down to
0.9 mm; on half of its branches the contrast is nearly lost over a few millimetres, and there is noise. 3D networks.
`eyes`: the 14 photographs (7 patients) of CHASE_DB1, first observer, where the environment variable EQUIVOX_TEST_DATA
names a folder with `fundus_chasedb1` in it. 2D networks.

Patients lie in two halves. Each cell trains a network on one half, by one loss with one seed, for the same number of
steps, and scores it on the other half, so that every patient is scored by networks that have not seen it. Cells lie in
the folder and are not done again, so a run that was cut off goes on. All losses but the first are added to it: plain
Dice and cross-entropy. Nothing was tuned: weights are those of the papers or
of the documentation, clDice's iterations go by the widest vessels of the trees, and Betti matching's region by time.

Clean-up of the prediction (small pieces taken away) is not done. Intervals are percentiles of 2,000 draws of seeds and
of patients, the same ones for all losses; differences to plain are paired by patient and seed. They hold for these
halves.
"""

import argparse
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PLAIN = "plain"
EXTRA: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "mip": {"name": "mip", "weight": 0.3},
    "cldice": {"name": "cldice", "weight": 0.5, "iterations": 4},
    "skeleton_recall": {"name": "skeleton_recall", "weight": 1.0},
    "betti_matching": {"name": "betti_matching", "weight": 0.1, "start_after": 0.2},
}
SCORES = {
    "dice": "Dice",
    "cldice": "clDice",
    "betti_0_error": "error in pieces",
    "betti_1_error": "error in tunnels (2D: holes)",
    "betti_matching_error": "Betti matching error",
}
DRAWS = 2000
TREE_SPACING = (0.8, 0.8, 1.0)


@dataclass(frozen=True)
class Data:
    """A data set and the network that fits it.

    Attributes:
        dims: Of the network.
        network: What replaces the plan's own.
        steps: Updates of the weights.
        region: Side of what betti_matching compares; in 2D more fits into the time.
        title: Head of its tables.
    """

    dims: str
    network: dict[str, Any]
    steps: int
    region: int
    title: str


DATA = {
    "trees": Data(
        "3d",
        {
            "patch_size": [48, 48, 48],
            "batch_size": 2,
            "features": [8, 16, 32],
            "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        },
        250,
        32,
        "Made-up trees of vessels, 3D",
    ),
    "eyes": Data(
        "2d",
        {
            "patch_size": [160, 160],
            "batch_size": 4,
            "features": [16, 32, 64, 128],
            "strides": [[1, 1], [2, 2], [2, 2], [2, 2]],
        },
        400,
        64,
        "CHASE_DB1, 2D",
    ),
}


def main() -> None:
    """Train and score the cells that are missing, and write the tables of those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where cells are kept; a temporary folder where not given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="the same for both data sets; each its own where not given")
    parser.add_argument("--trees", type=int, default=24)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--losses", nargs="+", default=list(EXTRA), choices=EXTRA)
    parser.add_argument("--small", action="store_true", help="few patients and steps: does it run at all?")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.small:
        options.seeds, options.steps, options.trees = 1, 10, 4
    folder = options.folder or Path(tempfile.mkdtemp(prefix="vessel-continuity-"))
    found = {}
    for name in options.data:
        place = folder / (f"{name}-small" if options.small else name)
        cohort = make_cohort(name, place, options)
        if cohort is None:
            print(f"{name}: left out, as EQUIVOX_TEST_DATA names no folder with fundus_chasedb1 in it", flush=True)
            continue
        steps = options.steps or DATA[name].steps
        for seed in range(options.seeds):
            for loss in options.losses:
                for half in (0, 1):
                    run_cell(place, cohort, DATA[name], loss, seed, half, steps)
        found[name] = read_cells(place, steps)
    report(found, options)
    if options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)


def make_cohort(name: str, folder: Path, options: argparse.Namespace) -> Path | None:
    """Find or draw the images, halve the patients, plan and prepare; once. None where the images are not there."""
    from equivox.datasets.cohort import load_cohort
    from equivox.datasets.import_cohort import import_cohort
    from equivox.datasets.import_draft import ImportOptions
    from equivox.pipelines.plan import plan_cohort
    from equivox.pipelines.preprocess import preprocess

    cohort = folder / "cohort"
    if (cohort / "prepared").exists():
        return cohort
    shutil.rmtree(cohort, ignore_errors=True)
    if name == "trees":
        scans = folder / "scans"
        shutil.rmtree(scans, ignore_errors=True)
        write_trees(scans, options.trees, (40, 40, 32) if options.small else (64, 64, 48))
        images, label, modality = "{case_id}_mra.nii.gz", "{case_id}_label.nii.gz", "MR"
        patient_of: Callable[[str], str] = str
    else:
        scans = Path(os.environ.get("EQUIVOX_TEST_DATA", "")) / "fundus_chasedb1"
        if not os.environ.get("EQUIVOX_TEST_DATA") or not scans.is_dir():
            return None
        images, label, modality = "Image_{case_id}.jpg", "Image_{case_id}_1stHO.png", "RGB"
        patient_of = _patient_of_eye
    chosen = ImportOptions(
        images={"image": images},
        labels={"": label},
        modalities={"image": modality},  # type: ignore[dict-item]
        classes={1: "vessel"},
        name=name,
    )
    import_cohort(scans, cohort, chosen)
    table = pd.read_csv(cohort / "cohort.csv", dtype=str)
    table["patient_id"] = table["case_id"].map(patient_of)
    patients = sorted(table["patient_id"].unique())
    if options.small:
        patients = patients[:2] if name == "eyes" else patients
    table = table[table["patient_id"].isin(patients)]
    table.to_csv(cohort / "cohort.csv", index=False)
    half = {patient: place % 2 for place, patient in enumerate(patients)}
    split = table[["case_id", "patient_id"]].assign(fold=table["patient_id"].map(half))
    split.to_csv(cohort / "split.csv", index=False)
    plan_cohort(load_cohort(cohort))
    give_network(cohort / "plan.yaml", DATA[name])
    preprocess(cohort, workers=1)
    (cohort / "prepared").touch()
    return cohort


def _patient_of_eye(case: str) -> str:
    """Return the patient of a left or right eye.

    Example:
        >>> _patient_of_eye("01L")
        '01'
    """
    return case.rstrip("LR")


def give_network(plan_file: Path, data: Data) -> None:
    """Give the plan the network of this benchmark, which trains in minutes."""
    import yaml

    plan = yaml.safe_load(plan_file.read_text())
    plan["networks"] = {data.dims: plan["networks"].get(data.dims, {}) | data.network}
    plan_file.write_text(yaml.safe_dump(plan, sort_keys=False))


def run_cell(folder: Path, cohort: Path, data: Data, loss: str, seed: int, half: int, steps: int) -> None:
    """Train on one half, segment and score the other, unless it is done already."""
    from equivox.pipelines.evaluate import EvaluateOptions, evaluate
    from equivox.pipelines.predict import predict
    from equivox.pipelines.train import train

    target = folder / "cells" / f"{loss}_{seed}_{half}_{steps}.csv"
    if target.exists():
        return
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    begun, used = time.perf_counter(), _processor_s()
    chosen = [f"seed={seed}", f"steps={steps}", "validation.every_steps=0", "precision=float32"]
    chosen.append("loss=" + json.dumps(loss_terms(loss, data)))
    run = train(cohort, work / "run", model="plain_unet", dims=data.dims, overrides=chosen, fold=str(half), workers=0)  # type: ignore[arg-type]
    trained = {"seconds": time.perf_counter() - begun, "processor_s": _processor_s() - used}
    predict(run.path, [], work / "predictions", cohort=cohort)
    few = EvaluateOptions(
        metrics=("overlap", "centreline", "topology"),
        simulation_repeats=100,
        permutation_draws=199,
        bootstrap_draws=199,
    )
    scored = evaluate(work / "scored", cohort=cohort, predictions=work / "predictions", options=few).cases
    patients = scored.groupby("patient_id", as_index=False)[list(SCORES)].mean()
    patients = patients.assign(loss=loss, seed=seed, half=half, **trained, whole_s=time.perf_counter() - begun)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    patients.to_csv(unfinished, index=False)
    unfinished.replace(target)
    means = ", ".join(f"{title} {patients[name].mean():.3g}" for name, title in SCORES.items())
    told = f"{trained['processor_s']:.0f} s of processor to train, {patients['whole_s'][0]:.0f} s in all"
    print(f"{loss}, seed {seed}, half {half}: {told}; {means}", flush=True)


def loss_terms(loss: str, data: Data) -> list[dict[str, Any]]:
    """Return the terms of the config.

    Example:
        >>> loss_terms("skeleton_recall", DATA["eyes"])
        [{'name': 'dice_ce'}, {'name': 'skeleton_recall', 'weight': 1.0}]
    """
    terms = [{"name": "dice_ce"}]
    if EXTRA[loss]:
        terms.append(EXTRA[loss] | ({"region": data.region} if loss == "betti_matching" else {}))
    return terms


def _processor_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def write_trees(folder: Path, count: int, shape: tuple[int, int, int]) -> None:
    """Write so many volumes and their labels as NIfTI files."""
    import nibabel as nib

    folder.mkdir(parents=True)
    affine = np.diag([*TREE_SPACING, 1.0])
    for number in range(count):
        image, label = draw_tree(shape, TREE_SPACING, np.random.default_rng([number, 7]))
        for name, array in (("mra", (500 + 200 * image).clip(0).astype(np.int16)), ("label", label)):
            nib.Nifti1Image(array, affine).to_filename(folder / f"tree_{number:02d}_{name}.nii.gz")


def draw_tree(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a branching tube: the image (background about 0, vessels about 1 where they are not dimmed) and the mask.

    The trunk enters at the bottom; each branch ends in two thinner ones, whose radii cubed add up to its own cubed. It
    is one piece. Half of the branches have a gap: a stretch of a few millimetres with a tenth to a third of the
    contrast.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    spacing = np.array(spacing_mm)
    size = np.array(shape) * spacing
    centre = np.array([0.5, 0.5, 0.0]) * size + [*random.uniform(-0.1, 0.1, 2) * size[:2], 0.5 * spacing[2]]
    scale = float(size.min()) / 48
    waiting = [(centre, _unit(np.array([0.0, 0.0, 1.0]) + 0.2 * random.standard_normal(3)), 2.0 * scale**0.5)]
    label, dimmed = np.zeros(shape, dtype=bool), np.ones(shape)
    while waiting:
        start, direction, radius = waiting.pop()
        points = _branch(start, direction, float(random.uniform(8, 14)) * scale, size, random)
        box, line = _around(points, radius, spacing, shape)
        label[box] |= distance_transform_edt(~line, sampling=spacing) <= radius
        if len(points) > 20 and random.random() < 0.5:
            middle, width = points[random.integers(len(points) // 4, 3 * len(points) // 4)], random.uniform(1.5, 2.5)
            box, spot = _around(middle[None], 4 * width, spacing, shape)
            apart = distance_transform_edt(~spot, sampling=spacing)
            dimmed[box] *= 1 - random.uniform(0.67, 0.9) * np.exp(-(apart**2) / (2 * width**2))
        share = random.uniform(0.35, 0.65)
        radii = radius * share ** (1 / 3), radius * (1 - share) ** (1 / 3)
        inside = ((points[-1] > 2 * spacing) & (points[-1] < size - 2 * spacing)).all()
        if inside and min(radii) >= 0.9:
            heading = _unit(points[-1] - points[max(0, len(points) - 8)])
            aside = _unit(np.cross(heading, random.standard_normal(3)))
            for sign, thinner in zip((1, -1), radii, strict=True):
                waiting.append((points[-1], _unit(heading + sign * random.uniform(0.5, 1.0) * aside), thinner))
    signal = gaussian_filter(label * dimmed, 0.5 / spacing)
    clouds = gaussian_filter(random.standard_normal(shape), 4.0 / spacing)
    return signal + 0.15 * clouds / clouds.std() + 0.25 * random.standard_normal(shape), label.astype(np.uint8)


def _around(
    points: np.ndarray, reach_mm: float, spacing: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Return the box within some reach of points in mm, and the voxels of the box that hold one."""
    voxels = np.floor(points / spacing).astype(int)
    wide = np.ceil(reach_mm / spacing).astype(int) + 1
    low, high = np.maximum(voxels.min(0) - wide, 0), np.minimum(voxels.max(0) + wide + 1, shape)
    held = np.zeros(high - low, dtype=bool)
    held[tuple((voxels - low).T)] = True
    return tuple(slice(*ends) for ends in zip(low, high, strict=True)), held


def _branch(
    start: np.ndarray, direction: np.ndarray, length_mm: float, size: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Return points along a bent line, a fifth of a millimetre apart, up to where it leaves the volume."""
    apart, points = 0.2, [start]
    bend = random.standard_normal(3) * 0.03
    while len(points) * apart < length_mm:
        direction = _unit(direction + bend * apart + 0.02 * random.standard_normal(3))
        following = points[-1] + apart * direction
        if (following <= 0).any() or (following >= size).any():
            break
        points.append(following)
    return np.stack(points)


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))


def read_cells(folder: Path, steps: int) -> pd.DataFrame:
    """Return one row a patient, loss and seed."""
    paths = sorted((folder / "cells").glob(f"*_{steps}.csv"))
    return pd.concat([pd.read_csv(path, dtype={"patient_id": str}) for path in paths])


def summarise(cells: pd.DataFrame) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return loss -> score -> ``value`` and ``to plain``, each as [estimate, low, high].

    Only seeds of which every loss has both halves count.
    """
    patients = sorted(cells["patient_id"].unique())
    counts = cells.pivot_table(index="loss", columns="seed", values="patient_id", aggfunc="nunique", fill_value=0)
    seeds = [seed for seed in counts.columns if (counts[seed] == len(patients)).all()]
    tables = {
        (loss, name): cells[cells["loss"] == loss]
        .pivot_table(index="seed", columns="patient_id", values=name)
        .loc[seeds, patients]
        .to_numpy()
        for loss in counts.index
        for name in SCORES
    }
    random = np.random.default_rng(0)
    who = random.integers(0, len(patients), (DRAWS, len(patients)))
    which = random.integers(0, len(seeds), (DRAWS, len(seeds)))
    draws = {key: table[which[:, :, None], who[:, None, :]].mean((1, 2)) for key, table in tables.items()}
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for (loss, name), table in tables.items():
        entry = {"value": [table.mean(), *np.percentile(draws[loss, name], [2.5, 97.5])]}
        if loss != PLAIN and (PLAIN, name) in tables:
            apart = draws[loss, name] - draws[PLAIN, name]
            entry["to plain"] = [table.mean() - tables[PLAIN, name].mean(), *np.percentile(apart, [2.5, 97.5])]
        found.setdefault(loss, {})[name] = {key: [float(value) for value in values] for key, values in entry.items()}
    return found


def report(found: dict[str, pd.DataFrame], options: argparse.Namespace) -> None:
    """Print the tables and write them with the machine beside them."""
    from machine import describe_machine, machine_line

    machine = describe_machine("monai", "topolosses")
    lines = [
        "# Losses that ask for unbroken vessels",
        "",
        (__doc__ or "").split("\n\n", 2)[2].replace("\n\n", "\r").replace("\n", " ").replace("\r", "\n\n").strip(),
        "",
        f"{machine_line(machine)}.",
    ]
    stored: dict[str, Any] = {"machine": machine, "terms": {}, "steps": {}, "found": {}}
    for name, cells in found.items():
        data, summary = DATA[name], summarise(cells)
        steps = options.steps or data.steps
        stored["found"][name], stored["steps"][name] = summary, steps
        stored["terms"][name] = {loss: loss_terms(loss, data) for loss in summary}
        size = " x ".join(map(str, data.network["patch_size"]))
        lines += [
            "",
            f"## {data.title}",
            "",
            f"{cells['patient_id'].nunique()} patients, {cells['seed'].nunique()} seeds, {steps} steps of "
            f"{data.network['batch_size']} patches of {size}. Seconds are of the processor, for a training: the "
            "median. Means over patients and seeds, with 95 % intervals.",
            "",
            "| loss | s | " + " | ".join(SCORES.values()) + " |",
            "|---|---|" + "---|" * len(SCORES),
        ]
        losses = [loss for loss in EXTRA if loss in summary]
        for loss in losses:
            seconds = cells.loc[cells["loss"] == loss, "processor_s"].median()
            shown = [_cell(summary[loss][score]["value"], score, signed=False) for score in SCORES]
            lines.append(f"| {_called(loss, data)} | {seconds:.0f} | " + " | ".join(shown) + " |")
        lines += ["", "Difference to plain:", "", "| loss | " + " | ".join(SCORES.values()) + " |"]
        lines.append("|---|" + "---|" * len(SCORES))
        for loss in [loss for loss in losses if loss != PLAIN]:
            shown = [_cell(summary[loss][score].get("to plain"), score, signed=True) for score in SCORES]
            lines.append(f"| {_called(loss, data)} | " + " | ".join(shown) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if not options.small and found:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "vessel_continuity.md").write_text(text, encoding="utf-8")
        (options.results / "vessel_continuity.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def _called(loss: str, data: Data) -> str:
    """Return what a row is called: the loss, its weight and the options that are not the defaults."""
    if loss == PLAIN:
        return loss
    facts = {key: value for key, value in loss_terms(loss, data)[1].items() if key != "name"}
    return f"+ {loss} ({', '.join(f'{key} {value}' for key, value in facts.items())})"


def _cell(values: list[float] | None, score: str, *, signed: bool) -> str:
    if values is None:
        return "-"
    digits = ".3f" if score in ("dice", "cldice") else ".1f"
    value, low, high = (format(number, "+" * signed + digits) for number in values)
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
