"""Ways of training that look after groups, on a made-up cohort with a rare group that is harder to segment.

    python benchmarks/fair_training.py [--folder FOLDER] [--seeds 5] [--steps 400] [--patients 160] [--small]

In the training one patient in seven was scanned with the old scanner, whose images have less contrast and more noise;
in the test half were. Each cell trains a 2D network by one method with one seed, for the same number of steps, segments
the test patients and scores them. Cells lie in the folder and are not done again, so a run that was cut off goes on.

A patient's score is the mean Dice of organ and lesion. Intervals are percentiles of 2,000 draws of seeds and, within
groups, of patients, the same ones for all methods; differences to plain training are paired by patient and seed.
"""

import argparse
import json
import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

METHODS = (
    "none",
    "balanced_sampling",
    "inverse_frequency",
    "group_dro",
    "febs_published",
    "febs_corrected",
    "adversarial",
)
RARE = 1 / 7
DRAWS = 2000


def main() -> None:
    """Train and score the cells that are missing, and write the table of those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where cells are kept; a temporary folder where not given")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--patients", type=int, default=160)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--small", action="store_true", help="few patients and steps: does it run at all?")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.small:
        options.seeds, options.steps, options.patients = 2, 4, 24
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fair-training-"))
    cohort = make_cohort(folder, options.patients)
    for seed in range(options.seeds):
        for method in options.methods:
            run_cell(folder, cohort, method, seed, options.steps)
    cells = read_cells(folder, options.steps)
    report(cells, options)
    if options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)


def make_cohort(folder: Path, patients: int) -> Path:
    """Draw the patients, keep few with the old scanner for the training, and prepare them; once."""
    from equivox.datasets.cohort import load_cohort
    from equivox.datasets.import_cohort import import_cohort
    from equivox.datasets.import_draft import ImportOptions
    from equivox.datasets.phantom import CLASSES, phantom_patients, write_phantoms
    from equivox.pipelines.plan import plan_cohort
    from equivox.pipelines.preprocess import preprocess

    cohort = folder / "cohort"
    if (cohort / "prepared").exists():
        return cohort
    scans = folder / "scans"
    shutil.rmtree(scans, ignore_errors=True)
    shutil.rmtree(cohort, ignore_errors=True)
    write_phantoms(scans, patients=patients, shape=(72, 64, 24))
    options = ImportOptions(
        images={channel: f"scans/{{case_id}}/{{case_id}}_{channel}.nii.gz" for channel in ("t1", "flair")},
        labels={"": "scans/{case_id}/{case_id}_label.nii.gz"},
        table=Path("participants.csv"),
        key="case",
        attributes=("scanner",),
        modalities={"t1": "MR", "flair": "MR"},
        classes={index: name for name, index in CLASSES.items()},
        name="phantom",
    )
    import_cohort(scans, cohort, options, workers=2)
    by_scanner = {
        scanner: [patient.case_id for patient in phantom_patients(patients) if patient.scanner == scanner]
        for scanner in ("new", "old")
    }
    tested = min(map(len, by_scanner.values())) // 2
    trained = len(by_scanner["new"]) - tested
    few = max(2, round(trained * RARE / (1 - RARE)))
    rows = []
    for scanner, cases in by_scanner.items():
        kept = trained if scanner == "new" else few
        for place, case in enumerate(cases):
            # Fold 0 is for validation, which nothing is chosen by: two patients are enough.
            fold = "test" if place < tested else 0 if scanner == "new" and place < tested + 2 else 1
            if place < tested + kept:
                rows.append({"case_id": case, "patient_id": case, "fold": fold})
    kept_ids = {row["case_id"] for row in rows}
    table = pd.read_csv(cohort / "cohort.csv", dtype=str)
    table[table["case_id"].isin(kept_ids)].to_csv(cohort / "cohort.csv", index=False)
    pd.DataFrame(rows).sort_values("case_id").to_csv(cohort / "split.csv", index=False)
    plan_cohort(load_cohort(cohort), workers=2)
    preprocess(cohort, workers=2)
    (cohort / "prepared").touch()
    return cohort


def run_cell(folder: Path, cohort: Path, method: str, seed: int, steps: int) -> None:
    """Train, segment and score, unless it is done already."""
    from equivox.pipelines.evaluate import EvaluateOptions, evaluate
    from equivox.pipelines.predict import predict
    from equivox.pipelines.train import train

    target = folder / "cells" / f"{method}_{seed}_{steps}.csv"
    if target.exists():
        return
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    begun = time.perf_counter()
    chosen = [f"seed={seed}", f"steps={steps}", "validation.every_steps=0", "precision=float32"]
    chosen += ["fairness.attribute=scanner", f"fairness.method={method}"]
    run = train(cohort, work / "run", dims="2d", overrides=chosen)
    seconds = time.perf_counter() - begun
    predict(run.path, [], work / "predictions", cohort=cohort)
    few = EvaluateOptions(simulation_repeats=100, permutation_draws=199, bootstrap_draws=199)
    found = evaluate(work / "scored", cohort=cohort, predictions=work / "predictions", options=few, workers=2)
    cases = found.cases[found.cases["role"] == "test"]
    patients = cases.groupby(["patient_id", "attribute:scanner"], as_index=False)["dice"].mean()
    patients = patients.rename(columns={"attribute:scanner": "group"}).assign(method=method, seed=seed, seconds=seconds)
    target.parent.mkdir(parents=True, exist_ok=True)
    patients.to_csv(target, index=False)
    print(f"{method}, seed {seed}: {seconds:.0f} s, Dice {patients['dice'].mean():.3f}", flush=True)


def read_cells(folder: Path, steps: int) -> pd.DataFrame:
    """Return one row a patient, method and seed."""
    return pd.concat([pd.read_csv(path) for path in sorted((folder / "cells").glob(f"*_{steps}.csv"))])


def scores(dice: np.ndarray, old: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of a method over the last axis, patients.

    Args:
        dice: ``(..., patients)``.
        old: Which patients are of the rare group.
    """
    groups = np.stack([dice[..., ~old].mean(-1), dice[..., old].mean(-1)])
    overall = dice.mean(-1)
    return {
        "overall": overall,
        "common group": groups[0],
        "rare group": groups[1],
        "gap": groups[0] - groups[1],
        "equity-scaled (es_std)": overall / (1 + groups.std(axis=0, ddof=1)),
    }


def summarise(cells: pd.DataFrame) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return method -> score -> ``value`` and ``to plain``, each as [estimate, low, high]."""
    patients = sorted(cells["patient_id"].unique())
    group = cells.drop_duplicates("patient_id").set_index("patient_id")["group"]
    old = np.array([group[patient] == "old" for patient in patients])
    seeds = sorted(set.intersection(*(set(part["seed"]) for _, part in cells.groupby("method"))))
    dice = {}
    for method, part in cells.groupby("method"):
        table = part.pivot_table(index="seed", columns="patient_id", values="dice").loc[seeds, patients]
        dice[str(method)] = table.to_numpy()
    rng = np.random.default_rng(0)
    sides = [np.flatnonzero(~old), np.flatnonzero(old)]
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    draws: dict[str, dict[str, list[float]]] = {method: {} for method in dice}
    for _ in range(DRAWS):
        places = np.concatenate([side[rng.integers(0, len(side), len(side))] for side in sides])
        chosen = rng.integers(0, len(seeds), len(seeds))
        for method, table in dice.items():
            for name, value in scores(table[chosen][:, places].mean(0), old[places]).items():
                draws[method].setdefault(name, []).append(float(value))
    plain = "none"
    for method, table in dice.items():
        found[method] = {}
        for name, value in scores(table.mean(0), old).items():
            ends = np.percentile(draws[method][name], [2.5, 97.5])
            entry = {"value": [float(value), *ends]}
            if plain in dice and method != plain:
                apart = np.subtract(draws[method][name], draws[plain][name])
                difference = float(value) - float(scores(dice[plain].mean(0), old)[name])
                entry["to plain"] = [difference, *np.percentile(apart, [2.5, 97.5])]
            found[method][name] = entry
    return found


def report(cells: pd.DataFrame, options: argparse.Namespace) -> None:
    """Print the table and write it with the machine beside it."""
    from machine import describe_machine, machine_line

    machine = describe_machine("monai")
    found = summarise(cells)
    names = list(next(iter(found.values())))
    per_group = cells.drop_duplicates("patient_id")["group"].value_counts().to_dict()
    lines = [
        "# Training that looks after groups",
        "",
        (__doc__ or "").split("\n\n", 2)[2].replace("\n", " ").replace("  ", "\n\n").strip(),
        "",
        f"{options.steps} steps, seeds {cells['seed'].nunique()}, test patients {per_group}. {machine_line(machine)}.",
        "",
        "| method | seconds a run | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for method in [method for method in METHODS if method in found]:
        seconds = cells.loc[cells["method"] == method, "seconds"].median()
        shown = [_cell(found[method][name]["value"], signed=False) for name in names]
        lines.append(f"| {'plain' if method == 'none' else method} | {seconds:.0f} | " + " | ".join(shown) + " |")
    lines += [
        "",
        "Difference to plain training:",
        "",
        "| method | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for method in [method for method in METHODS if method in found and method != "none"]:
        shown = [_cell(found[method][name].get("to plain"), signed=True) for name in names]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if not options.small:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "fair_training.md").write_text(text, encoding="utf-8")
        stored: dict[str, Any] = {"machine": machine, "steps": options.steps, "found": found}
        (options.results / "fair_training.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def _cell(values: list[float] | None, *, signed: bool) -> str:
    if values is None:
        return "-"
    form = "+.3f" if signed else ".3f"
    value, low, high = (format(number, form) for number in values)
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
