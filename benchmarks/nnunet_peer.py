"""nnU-Net 2.8 as the peer of a benchmark: always run as a process of its own, so that its environment stays there.

    python benchmarks/nnunet_peer.py prepare WORK     # reads WORK/request.json, plans and preprocesses
    python benchmarks/nnunet_peer.py train WORK --fold 0 --steps 200
    python benchmarks/nnunet_peer.py train WORK --fold 0 --minutes 5

`request.json`: ``{"channels": ["flair"], "labels": {"background": 0, "tumour": 1}, "batch_size": null or a number,
"cases": {id: {"images": [path], "label": path}}, "splits": [{"train": [id], "val": [id]}]}``. Labels in the files must
be consecutive. Predictions of fold K's validation cases go to ``WORK/predictions_<name>/<id>.nii.gz`` in nnU-Net's own
way (final weights, mirroring, its default export); ``WORK/<name>_fold_K.json`` holds times, steps and peak memory.
"""

import argparse
import json
import os
import resource
import shutil
import time
from pathlib import Path

DATASET = "Dataset501_Benchmark"


def main() -> None:
    """Parse the command line and run one step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=["prepare", "train"])
    parser.add_argument("work", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--name", default="nnunet")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    work: Path = options.work.resolve()
    for variable in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{variable}"] = str(work / "nnunet" / variable)
        (work / "nnunet" / variable).mkdir(parents=True, exist_ok=True)
    os.environ["nnUNet_def_n_proc"] = "2"
    os.environ["nnUNet_n_proc_DA"] = "1" if options.step == "prepare" else "0"
    os.environ["nnUNet_compile"] = "false"
    request = json.loads((work / "request.json").read_text())
    if options.step == "prepare":
        prepare(work, request)
    else:
        train(work, request, options)


def prepare(work: Path, request: dict) -> None:
    """Declare the cases without copying them, plan, preprocess, and hand over our folds."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
        preprocess_dataset,
    )

    raw = work / "nnunet" / "raw" / DATASET
    raw.mkdir(parents=True, exist_ok=True)
    description = {
        "channel_names": {str(index): name for index, name in enumerate(request["channels"])},
        "labels": request["labels"],
        "numTraining": len(request["cases"]),
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
        "dataset": request["cases"],
    }
    (raw / "dataset.json").write_text(json.dumps(description, indent=2))
    start = time.perf_counter()
    extract_fingerprint_dataset(501, num_processes=2, check_dataset_integrity=True, verbose=False)
    _, identifier = plan_experiment_dataset(501)
    preprocess_dataset(501, identifier, ("2d",), (2,))
    preprocessed = work / "nnunet" / "preprocessed" / DATASET
    (preprocessed / "splits_final.json").write_text(json.dumps(request["splits"], indent=2))
    plans_file = preprocessed / f"{identifier}.json"
    plans = json.loads(plans_file.read_text())
    if request.get("batch_size"):
        plans["configurations"]["2d"]["batch_size"] = request["batch_size"]
        plans_file.write_text(json.dumps(plans, indent=2))
    shutil.copy(plans_file, work / "nnunet_plans.json")
    (work / "prepare.json").write_text(json.dumps({"wall_s": time.perf_counter() - start}))


def train(work: Path, request: dict, options: argparse.Namespace) -> None:
    """Train one fold for a number of steps or minutes, then predict its validation cases."""
    fold, steps, minutes, name, device = options.fold, options.steps, options.minutes, options.name, options.device
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    torch.manual_seed(fold)
    started = time.perf_counter()
    trainer = _trainer(work, fold, device)
    if steps is None:
        if minutes is None:
            msg = "give --steps or --minutes"
            raise SystemExit(msg)
        steps = _steps_that_fit(trainer, minutes)
        trainer = _trainer(work, fold, device)
    trainer.num_iterations_per_epoch = max(1, min(10, steps))
    trainer.num_epochs = max(1, round(steps / trainer.num_iterations_per_epoch))
    trainer.num_val_iterations_per_epoch = 1
    trainer.initialize()
    step_seconds = []
    original = trainer.train_step

    def timed_step(batch: dict) -> dict:
        before = time.perf_counter()
        result = original(batch)
        step_seconds.append(time.perf_counter() - before)
        return result

    trainer.train_step = timed_step
    trainer.run_training()
    trained = time.perf_counter()

    predictor = nnUNetPredictor(
        use_mirroring=True, perform_everything_on_device=device == "cuda", device=torch.device(device), allow_tqdm=False
    )
    trainer.set_deep_supervision_enabled(False)
    predictor.manual_initialization(
        trainer.network.eval(),
        trainer.plans_manager,
        trainer.configuration_manager,
        [{key: value.clone() for key, value in trainer.network.state_dict().items()}],
        trainer.dataset_json,
        "nnUNetTrainer",
        trainer.inference_allowed_mirroring_axes,
    )
    out = work / f"predictions_{name}"
    out.mkdir(exist_ok=True)
    for case in request["splits"][fold]["val"]:
        predictor.predict_from_files_sequential([request["cases"][case]["images"]], [str(out / case)])
    record = {
        "steps": len(step_seconds),
        "batch_size": trainer.configuration_manager.batch_size,
        "median_step_s": sorted(step_seconds)[len(step_seconds) // 2],
        "train_wall_s": trained - started,
        "predict_wall_s": time.perf_counter() - trained,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    (work / f"{name}_fold_{fold}.json").write_text(json.dumps(record, indent=2))


def _trainer(work: Path, fold: int, device: str = "cpu"):  # noqa: ANN202 - a class of nnU-Net's
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans = json.loads((work / "nnunet_plans.json").read_text())
    plans["continue_training"] = False
    dataset = json.loads((work / "nnunet" / "raw" / DATASET / "dataset.json").read_text())
    return nnUNetTrainer(plans, "2d", fold, dataset, torch.device(device))


def _steps_that_fit(trainer, minutes: float) -> int:  # noqa: ANN001 - a class of nnU-Net's
    """Time a few steps, data loading included, on a trainer that is then thrown away."""
    trainer.initialize()
    trainer.on_train_start()
    times = []
    for _ in range(4):
        before = time.perf_counter()
        trainer.train_step(next(trainer.dataloader_train))
        times.append(time.perf_counter() - before)
    # One validation step for every ten training steps, at about a third of a training step's time.
    return max(1, int(minutes * 60 / (min(times[1:]) * 1.04)))


if __name__ == "__main__":
    main()
