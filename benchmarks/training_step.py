"""Time of a training step, data included: our loop against nnU-Net's trainer, same network, patch, batch and scans.

    python benchmarks/training_step.py DATA WORK [--cases 6] [--steps 8] [--rounds 3] [--batch-size 4] [--threads 2]
    python benchmarks/training_step.py DATA WORK --device cuda --steps 200

DATA is the folder `lgg_kaggle3m`; WORK keeps the prepared scans. Each figure is of a process of its own on the
processor: nnU-Net 2.8 in float32 (it has no other way there), ours in float32, and ours with bfloat16 autocast, which
is labelled so. The three take turns, so that another program's load falls on all of them. Patches are cut and augmented
in the same process in both tools (no data workers). The network is nnU-Net's 2D plan; a step is: next batch, forward,
loss, backward, clipping, update, and in ours the running mean of the weights.

On a graphics card nnU-Net knows only float16 autocast, and each tool makes its patches in as many worker processes as
it takes by itself; the steps before the clock starts use up what the workers made ahead.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import RESULTS, describe_machine, machine_line, result_name

OURS = {"Equivox, float32": ["equivox", "float32"], "Equivox, bfloat16": ["equivox", "bfloat16"]}
WAYS = {"cpu": {"nnU-Net, float32": ["nnunet"], **OURS}, "cuda": {"nnU-Net, float16": ["nnunet"], **OURS}}
WARM_UP = {"cpu": 2, "cuda": 60}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--way", nargs="+", help="for the processes that this one starts")
    options = parser.parse_args()
    if options.way:
        measure = nnunet_steps if options.way[0] == "nnunet" else equivox_steps
        sys.stdout.write("RESULT " + json.dumps(measure(options)) + "\n")
        return
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options)
    results: dict[str, list[dict]] = {name: [] for name in WAYS[options.device]}
    for turn in range(options.rounds):
        for name, way in WAYS[options.device].items():
            results[name].append(in_a_process(options, way))
            sys.stderr.write(f"round {turn + 1}, {name}: median {statistics.median(results[name][-1]['wall']):.4f} s\n")
    report(results, options)


def in_a_process(options: argparse.Namespace, way: list[str]) -> dict:
    """Run one way in a process of its own and return what it measured."""
    command = [sys.executable, __file__, str(options.data), str(options.work), "--steps", str(options.steps)]
    command += ["--threads", str(options.threads), "--batch-size", str(options.batch_size)]
    command += ["--device", options.device, "--way", *way]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(done.stderr[-3000:])
    found: dict = json.loads(lines[-1].removeprefix("RESULT "))
    return found


def prepare(options: argparse.Namespace) -> None:
    """Make nnU-Net's plan and prepared scans, and ours with that plan's network, of the same cases."""
    from accuracy_lgg import use_their_network

    from equivox.datasets.cohort import load_cohort
    from equivox.pipelines.plan import plan_cohort
    from equivox.pipelines.preprocess import preprocess

    peer, cohort = options.work / "nnunet", options.work / "cohort"
    if not (peer / "prepare.json").exists():
        write_request(options, peer)
        script = Path(__file__).with_name("nnunet_peer.py")
        subprocess.run([sys.executable, str(script), "prepare", str(peer)], check=True, stdout=subprocess.DEVNULL)
    plans = json.loads((peer / "nnunet_plans.json").read_text())["configurations"]["2d"]
    if plans["batch_size"] != options.batch_size:
        msg = f"{peer}: prepared for batches of {plans['batch_size']}, not {options.batch_size}; choose another WORK"
        raise SystemExit(msg)
    if not (cohort / "plan.yaml").exists():
        write_cohort(options, cohort)
        plan_cohort(load_cohort(cohort), workers=options.threads)
        use_their_network(cohort / "plan.yaml", plans)
    preprocess(cohort, workers=options.threads)


def write_request(options: argparse.Namespace, peer: Path) -> None:
    """Tell nnU-Net which cases there are; its labels must be 0 and 1."""
    from accuracy_lgg import reference_masks

    peer.mkdir(exist_ok=True)
    masks = dict(list(reference_masks(options.data.resolve(), options.work.resolve()).items())[: options.cases])
    images = {case: str(options.data.resolve() / "nifti" / case / f"{case}_flair.nii.gz") for case in masks}
    request = {
        "channels": ["flair"],
        "labels": {"background": 0, "tumour": 1},
        "batch_size": options.batch_size,
        "cases": {case: {"images": [images[case]], "label": str(mask)} for case, mask in masks.items()},
        "splits": [{"train": list(masks)[1:], "val": list(masks)[:1]}],
    }
    (peer / "request.json").write_text(json.dumps(request))


def write_cohort(options: argparse.Namespace, cohort: Path) -> None:
    """Write a cohort folder of the same cases by hand; the first is fold 0, the others are trained on."""
    from equivox.datasets.cohort import ChannelConfig, CohortConfig
    from equivox.options import save_options

    cohort.mkdir(exist_ok=True)
    cases = json.loads((options.work / "nnunet" / "request.json").read_text())["cases"]
    rows, split = ["case_id,patient_id,image:flair,label"], ["case_id,patient_id,fold"]
    for index, (case, files) in enumerate(cases.items()):
        rows.append(f"{case},{case},{files['images'][0]},{files['label']}")
        split.append(f"{case},{case},{0 if index == 0 else 1}")
    (cohort / "cohort.csv").write_text("\n".join(rows) + "\n")
    (cohort / "split.csv").write_text("\n".join(split) + "\n")
    config = CohortConfig(
        name="lgg",
        channels={"flair": ChannelConfig(modality="MR")},
        classes={"tumour": 1},
        label_values={0: "background", 1: "tumour"},
        nominal_spacing=True,
    )
    save_options(config, cohort / "cohort.yaml")


def nnunet_steps(options: argparse.Namespace) -> dict:
    """Time steps of nnU-Net's own trainer and loader."""
    os.environ |= {"nnUNet_compile": "false", "nnUNet_def_n_proc": "1"}
    if options.device == "cpu":
        os.environ["nnUNet_n_proc_DA"] = "0"
    peer = options.work.resolve() / "nnunet"
    os.environ |= {f"nnUNet_{name}": str(peer / "nnunet" / name) for name in ("raw", "preprocessed", "results")}
    import torch
    from nnunet_peer import _trainer

    torch.set_num_threads(options.threads)
    trainer = _trainer(peer, 0, options.device)
    trainer.initialize()
    trainer.on_train_start()
    return timed(lambda _: trainer.train_step(next(trainer.dataloader_train)), options)


def equivox_steps(options: argparse.Namespace) -> dict:
    """Time steps of our learner and batches, with nnU-Net's optimizer."""
    import torch

    from equivox.pipelines.training.batches import batches
    from equivox.pipelines.training.learner import Learner
    from equivox.pipelines.training.setup import Request, prepare
    from equivox.pipelines.training.world import World

    torch.set_num_threads(options.threads)
    settings = ("optimizer.name=sgd", "steps=1000", f"precision={options.way[1]}", f"batch_size={options.batch_size}")
    request = Request(
        options.work / "cohort",
        options.work / "run",
        model="plain_unet",
        dims="2d",
        overrides=(*settings, f"device={options.device}"),
        workers=0 if options.device == "cpu" else None,
    )
    training = prepare(request)
    learner = Learner(training.network(0), training.config, World())
    steps = range(options.steps + WARM_UP[options.device])
    stream = batches(training.recipe(0), steps, workers=training.workers, pin_memory=options.device == "cuda")
    return timed(lambda step: learner.step(step, next(stream)), options)


def timed(step, options: argparse.Namespace) -> dict:  # noqa: ANN001 - a function of the step's number
    """Return wall and processor seconds of each step after the warm-up, and the peak memory where the steps run.

    On a card the seconds of a step are the mean over all: one step may end before its work on the card does.
    """
    import torch

    warm_up = WARM_UP[options.device]
    wall, processor = [], []
    for number in range(options.steps + warm_up):
        if number == warm_up:
            started = time.perf_counter()
        begun, used = time.perf_counter(), time.process_time()
        step(number)
        if number >= warm_up:
            wall.append(time.perf_counter() - begun)
            processor.append(time.process_time() - used)
    if options.device == "cuda":
        torch.cuda.synchronize()
        wall = [(time.perf_counter() - started) / options.steps]
        return {"wall": wall, "processor": processor, "peak_mib": torch.cuda.max_memory_allocated() / 2**20}
    return {
        "wall": wall,
        "processor": processor,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def report(results: dict[str, list[dict]], options: argparse.Namespace) -> None:
    """Print the table and write it to the results."""
    import yaml

    network = yaml.safe_load((options.work / "cohort" / "plan.yaml").read_text())["networks"]["2d"]
    medians = {name: [statistics.median(turn["wall"]) for turn in turns] for name, turns in results.items()}
    base = next(iter(medians.values()))
    machine = describe_machine("nnunetv2", "monai", device=options.device)
    lines = [
        "# A training step, data included",
        "",
        machine_line(machine) + f", {options.threads} threads",
        "",
        f"nnU-Net's 2D network ({', '.join(map(str, network['features']))} features), patch "
        f"{' x '.join(map(str, network['patch_size']))}, batch {options.batch_size}; {options.rounds} rounds of "
        f"{options.steps} steps in turn. Seconds are medians of a round: the best round, and the range over rounds. "
        "The ratio is of rounds that ran one after the other: median, and range.",
        "",
        "| way | s a step | range | processor s a step | times nnU-Net's speed | range | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, turns in results.items():
        ratios = [theirs / ours for theirs, ours in zip(base, medians[name], strict=True)]
        used = statistics.median(value for turn in turns for value in turn["processor"])
        peak = max(turn["peak_mib"] for turn in turns)
        lines.append(
            f"| {name} | {min(medians[name]):.3g} | {min(medians[name]):.3g}-{max(medians[name]):.3g} | {used:.3g} "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f}-{max(ratios):.2f} | {peak:.0f} |"
        )
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    RESULTS.mkdir(exist_ok=True)
    name = result_name("training_step", options.device)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine, "results": results}, indent=2))


if __name__ == "__main__":
    main()
