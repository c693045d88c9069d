"""Accuracy on 18 real glioma patients against nnU-Net 2.8, every patient out of fold, differences paired by patient.

    python benchmarks/accuracy_lgg.py DATA WORK [--steps 200] [--minutes 4] [--batch-size 4] [--device cuda] [--jobs 5]

DATA is the folder `lgg_kaggle3m` (`nifti/<case>/<case>_flair.nii.gz`, `..._mask.nii.gz`); WORK keeps every stage, so
that an interrupted run goes on. Three rows:

(i)   the same network (nnU-Net's 2D plan, its patch, one batch size for both) and the same number of steps in nnU-Net
      and in our loop, nnU-Net's optimizer, both schedules rescaled to that number: what the data path does. Float32
      on a processor; on a graphics card nnU-Net knows only float16 autocast, and ours then runs in bfloat16;
(ii)  each tool's own default at the same wall time of training, nnU-Net's schedule rescaled to fit;
(iii) a location prior (the mean mask of the training patients, thresholded there) as the floor.

Row (ii) alone says little: it depends on the machine. `--minutes 0` leaves it out.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import yaml
from machine import RESULTS, describe_machine, machine_line, result_name

from equivox.metrics.statistics.bootstrap import mean_interval

FOLDS = 5


def main() -> None:
    """Run what is missing in WORK and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--batch-size", type=int, default=4, help="of row (i), for both tools")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="nnU-Net's folds at once in row (i), ours beside them")
    options = parser.parse_args()
    data, work = options.data.resolve(), options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    masks = reference_masks(data, work)
    folds = {case: index % FOLDS for index, case in enumerate(sorted(masks))}

    dice = {}
    # Row (i)
    peer = Peer(work / "nnunet_same", data, masks, folds, options.device)
    peer.prepare(options.batch_size)
    plans = json.loads((work / "nnunet_same" / "nnunet_plans.json").read_text())["configurations"]["2d"]
    settings = [*same_network_settings(plans, options), "--set", f"device={options.device}"]
    # The number of steps is fixed, so who runs beside whom changes nothing but the time.
    with ThreadPoolExecutor(2 if options.jobs > 1 else 1) as pool:
        same = pool.submit(peer.train, ["--steps", str(options.steps)], options.jobs)
        ours_same = pool.submit(ours, work, data, folds, "same", settings, plans)
    dice["(i) same network, nnU-Net"] = dice_of(same.result(), masks)
    dice["(i) same network, Equivox"] = dice_of(ours_same.result(), masks)
    if options.minutes:
        peer = Peer(work / "nnunet_default", data, masks, folds, options.device)
        peer.prepare(None)
        default = peer.train(["--minutes", str(options.minutes)], 1)
        settings = ["--model", "unetpp", "--max-minutes", str(FOLDS * options.minutes)]
        settings += ["--set", f"device={options.device}"]
        dice["(ii) default, nnU-Net"] = dice_of(default, masks)
        dice["(ii) default, Equivox"] = dice_of(ours(work, data, folds, "default", settings, None), masks)
    dice["(iii) location prior"] = location_prior(masks, folds)
    report(pd.DataFrame(dice), work, options)


def reference_masks(data: Path, work: Path) -> dict[str, Path]:
    """Write the 0/255 masks as 0/1, which nnU-Net needs, and return them by case."""
    labels = work / "labels"
    labels.mkdir(exist_ok=True)
    masks = {}
    for mask in sorted((data / "nifti").glob("*/*_mask.nii.gz")):
        case = mask.parent.name
        masks[case] = labels / f"{case}.nii.gz"
        if not masks[case].exists():
            image = nib.load(mask)
            nib.save(nib.Nifti1Image((np.asarray(image.dataobj) > 0).astype(np.uint8), image.affine), masks[case])
    return masks


@dataclass(frozen=True)
class Peer:
    """nnU-Net in a folder of its own, each step of it a process of its own."""

    work: Path
    data: Path
    masks: dict[str, Path]
    folds: dict[str, int]
    device: str

    @property
    def command(self) -> list[str]:
        """The script that speaks to nnU-Net."""
        return [sys.executable, str(Path(__file__).with_name("nnunet_peer.py"))]

    def prepare(self, batch: int | None) -> None:
        """Plan and preprocess, with a batch size of ours where one is given."""
        self.work.mkdir(exist_ok=True)
        request = {
            "channels": ["flair"],
            "labels": {"background": 0, "tumour": 1},
            "batch_size": batch,
            "cases": {
                case: {"images": [str(self.data / "nifti" / case / f"{case}_flair.nii.gz")], "label": str(mask)}
                for case, mask in self.masks.items()
            },
            "splits": [
                {
                    "train": [case for case, own in self.folds.items() if own != fold],
                    "val": [case for case, own in self.folds.items() if own == fold],
                }
                for fold in range(FOLDS)
            ],
        }
        (self.work / "request.json").write_text(json.dumps(request))
        if not (self.work / "prepare.json").exists():
            run([*self.command, "prepare", str(self.work)], self.work / "prepare.log")

    def train(self, arguments: list[str], jobs: int) -> Path:
        """Train and predict every fold, `jobs` at a time; return the folder of the predictions."""

        def train_fold(fold: int) -> None:
            if not (self.work / f"nnunet_fold_{fold}.json").exists():
                command = [*self.command, "train", str(self.work), "--fold", str(fold), "--device", self.device]
                run([*command, *arguments], self.work / f"train_{fold}.log")

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(train_fold, range(FOLDS)))
        return self.work / "predictions_nnunet"


def same_network_settings(plans: dict, options: argparse.Namespace) -> list[str]:
    """Return our options for nnU-Net's network, optimizer and schedule."""
    assignments = {
        "steps": options.steps,
        "batch_size": plans["batch_size"],
        "optimizer.name": "sgd",
        "optimizer.lr": 0.01,
        "optimizer.momentum": 0.99,
        "optimizer.weight_decay": 3e-5,
        "schedule.name": "poly",
        "schedule.warmup_steps": 0,
        "precision": "float32" if options.device == "cpu" else "bfloat16",
        "ema.decay": 0,
        # The curve is for the eye alone; nnU-Net's one batch an epoch costs next to nothing.
        "validation.every_steps": 0,
    }
    return [
        "--model",
        "plain_unet",
        *(part for key, value in assignments.items() for part in ("--set", f"{key}={value}")),
    ]


def ours(work: Path, data: Path, folds: dict[str, int], name: str, arguments: list[str], plans: dict | None) -> Path:
    """Train and predict every fold with Equivox; return the folder of its predictions."""
    cohort, out = work / f"cohort_{name}", work / f"predictions_{name}"
    if (out / "predictions.csv").exists():
        return out
    if not (cohort / "plan.yaml").exists():
        pattern = "nifti/{case_id}/{case_id}"
        imported = [
            "--image",
            f"flair={pattern}_flair.nii.gz",
            "--modality",
            "flair=MR",
            "--label",
            f"{pattern}_mask.nii.gz",
        ]
        table = ["--table", "participants.csv", "--key", "case", "--patient", "Patient", "--nominal-spacing"]
        equivox("cohort", "import", str(data), "-o", str(cohort), *imported, *table, log=work / f"import_{name}.log")
        rows = pd.read_csv(cohort / "cohort.csv", dtype=str)[["case_id", "patient_id"]]
        rows["fold"] = rows["case_id"].map(folds)
        rows.to_csv(cohort / "split.csv", index=False)
        equivox("plan", str(cohort), log=work / f"plan_{name}.log")
        if plans:
            use_their_network(cohort / "plan.yaml", plans)
    trained = ["--cohort", str(cohort), "--dims", "2d", "--fold", "all", "--out", str(work / f"run_{name}"), *arguments]
    started = time.perf_counter()
    resume = ["--resume"] if (work / f"run_{name}").exists() else []
    equivox("train", *trained, *resume, log=work / f"train_{name}.log")
    (work / f"ours_{name}.json").write_text(
        json.dumps({"train_wall_s": time.perf_counter() - started, "peak_mib": children_peak_mib()})
    )
    predicted = [str(work / f"run_{name}"), "--cohort", str(cohort), "-o", str(out), "--mirror"]
    equivox("predict", *predicted, log=work / f"predict_{name}.log")
    return out


def use_their_network(plan_file: Path, plans: dict) -> None:
    """Give our plan the patch, batch, features and strides of nnU-Net's."""
    plan = yaml.safe_load(plan_file.read_text())
    arguments = plans["architecture"]["arch_kwargs"]
    plan["networks"]["2d"] |= {
        "patch_size": plans["patch_size"],
        "batch_size": plans["batch_size"],
        "features": arguments["features_per_stage"],
        "strides": arguments["strides"],
    }
    plan_file.write_text(yaml.safe_dump(plan, sort_keys=False))


def location_prior(masks: dict[str, Path], folds: dict[str, int]) -> dict[str, float]:
    """Return the Dice of the training patients' mean mask, slices matched by their relative height."""
    volumes = {case: np.asarray(nib.load(path).dataobj) > 0 for case, path in masks.items()}
    scores = {}
    for fold in range(FOLDS):
        train = [case for case in volumes if folds[case] != fold]
        means = {case: mean_mask([volumes[c] for c in train], volumes[case].shape[2]) for case in volumes}
        thresholds = np.linspace(0.02, 0.6, 30)
        best = max(thresholds, key=lambda t: np.mean([overlap(volumes[case], means[case] > t) for case in train]))
        scores |= {case: overlap(volumes[case], means[case] > best) for case in volumes if folds[case] == fold}
    return scores


def mean_mask(volumes: list[np.ndarray], slices: int) -> np.ndarray:
    """Average masks of equal in-plane size, each stretched to `slices` slices by the nearest one."""
    stretched = [v[:, :, ((np.arange(slices) + 0.5) * v.shape[2] / slices).astype(int)] for v in volumes]
    return np.mean(stretched, axis=0)


def dice_of(predictions: Path, masks: dict[str, Path]) -> dict[str, float]:
    """Return each case's Dice; whatever is not 0 is tumour."""
    scores = {}
    for case, mask in masks.items():
        reference = nib.load(mask)
        prediction = nib.load(predictions / f"{case}.nii.gz")
        if not np.allclose(reference.affine, prediction.affine, atol=1e-4):
            msg = f"{prediction.get_filename()}: on another grid than its reference"
            raise SystemExit(msg)
        scores[case] = overlap(np.asarray(reference.dataobj) > 0, np.asarray(prediction.dataobj) > 0)
    return scores


def overlap(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Return the Dice of two masks, by the plain formula, so that neither tool's own metric is used."""
    total = reference.sum() + prediction.sum()
    return float(2 * (reference & prediction).sum() / total) if total else 1.0


def report(dice: pd.DataFrame, work: Path, options: argparse.Namespace) -> None:
    """Print the table and write it to the results."""
    machine = describe_machine("monai", "nnunetv2", device=options.device)
    precision = "float32" if options.device == "cpu" else "float16 autocast in nnU-Net, bfloat16 in ours"
    shown = f"Row (i): {options.steps} steps, batch {options.batch_size}, {precision}."
    if options.minutes:
        shown += f" Row (ii): {options.minutes:g} minutes a fold."
    lines = [
        "# Accuracy on LGG (18 patients, five folds, every patient out of fold)",
        "",
        machine_line(machine),
        "",
        shown,
        "",
        "| row | mean Dice (95 % bootstrap-t) | median |",
        "|---|---|---|",
    ]
    for name, values in dice.items():
        lines.append(f"| {name} | {values.mean():.3f} {interval_text(values)} | {values.median():.3f} |")
    lines += ["", "| paired difference | mean (95 % bootstrap-t) | patients better / worse |", "|---|---|---|"]
    for row in ("(i) same network", "(ii) default") if options.minutes else ("(i) same network",):
        difference = dice[f"{row}, Equivox"] - dice[f"{row}, nnU-Net"]
        counts = f"{(difference > 0).sum()} / {(difference < 0).sum()}"
        lines.append(f"| {row}: Equivox - nnU-Net | {difference.mean():+.3f} {interval_text(difference)} | {counts} |")
    records = {path.name: json.loads(path.read_text()) for path in sorted(work.glob("**/*_fold_?.json"))}
    records |= {path.name: json.loads(path.read_text()) for path in sorted(work.glob("ours_*.json"))}
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    RESULTS.mkdir(exist_ok=True)
    name = result_name("accuracy_lgg", options.device)
    (RESULTS / f"{name}.md").write_text(text)
    summary = {
        "machine": machine,
        "dice": dice.to_dict(),
        "records": records,
        "settings": vars(options) | {"data": "", "work": ""},
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(summary, indent=2))


def interval_text(values: pd.Series) -> str:
    """Return the interval of a mean as text."""
    interval = mean_interval(values.to_numpy())
    return f"[{interval.low:+.3f}, {interval.high:+.3f}]" if interval else "(too few patients)"


def equivox(*arguments: str, log: Path) -> None:
    """Run one of our commands."""
    run([sys.executable, "-m", "equivox", *arguments], log)


def run(command: list[str], log: Path) -> None:
    """Run a command with its output in a file."""
    with log.open("w") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, env=os.environ, check=False)
    if done.returncode:
        msg = f"{' '.join(command)} ended with {done.returncode}; see {log}"
        raise SystemExit(msg)


def children_peak_mib() -> float:
    """Return the peak memory of the largest child so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


if __name__ == "__main__":
    main()
