"""Sliding window and export against MONAI's and nnU-Net's: time, CPU time, peak memory, agreement; in one run.

    python benchmarks/predict.py [--small] [--run RUN --cohort COHORT [--cases 4]] [--only export|inference]
    python benchmarks/predict.py --only inference --device cuda

Export: the same float32 probabilities of 16 classes, 150x256x256, to a label map of 300x512x512, by nnU-Net's own
function with its default resampling and with its `resample_torch`, and by ours. Inference: the same network, patches,
overlap and Gaussian over the same prepared scans, by MONAI's `sliding_window_inference`, nnU-Net's predictor and ours,
float32 against float32; bfloat16 is a line of its own. With `--run` and `--cohort` it is a trained run on cases that it
was not trained on; without, networks fitted here to made-up scans. On a graphics card nnU-Net knows only float16
autocast, and float32 is exact float32 for all (no TensorFloat-32); the peak is then the card's.

Every line is measured in a process of its own, which imports nothing but what it needs, so that its peak memory is its
own. Start-up is not in the times.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from machine import RESULTS, describe_machine, machine_line, result_name
from torch.nn import functional

if TYPE_CHECKING:
    from equivox.datasets.plan import NetworkPlan
    from equivox.pipelines.run_folder import RunFolder

EXPORTS = ("equivox", "nnunet default", "nnunet resample_torch")
INFERENCES = ("equivox", "monai", "nnunet", "equivox bfloat16", "monai bfloat16")


def main() -> None:
    """Measure everything, or one line where this is the process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small arrays: does it run at all?")
    parser.add_argument("--only", choices=("export", "inference"))
    parser.add_argument("--run", type=Path, help="a trained run")
    parser.add_argument("--cohort", type=Path, help="the cohort that it was trained on")
    parser.add_argument("--cases", type=int, default=4, help="cases of the cohort to use")
    parser.add_argument("--repeats", type=int, default=3, help="of each inference; the fastest counts")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the inference")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for predict.json and predict.md")
    parser.add_argument("--line", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.line:
        part, _, name = options.line.partition(":")
        print(json.dumps({"export": export_line, "inference": inference_line}[part](name, options.work, options)))
        return
    facts = describe_machine("monai", "nnunetv2", device=options.device)
    results: dict[str, Any] = {"machine": facts, "small": options.small, "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if options.only != "inference":
            results["export"] = compare_exports(work, options)
        if options.only != "export":
            results["inference"] = compare_inference(work, options)
    text = as_markdown(results)
    options.results.mkdir(parents=True, exist_ok=True)
    name = result_name("predict", options.device)
    (options.results / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n")
    (options.results / f"{name}.md").write_text(text)
    print(text)


def measure(line: str, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one line in a process of its own."""
    command = [sys.executable, __file__, "--line", line, "--work", str(work), "--repeats", str(options.repeats)]
    command += ["--device", options.device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{line} failed:\n{done.stderr}")
    print(f"{line}: {done.stdout.splitlines()[-1]}", file=sys.stderr, flush=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return the work's result with its wall and CPU time, children included, and the memory before and at peak."""
    before_mib = peak_mib()
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = work()
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": cpu_seconds() - cpu}
    return result, {**seconds, "start_mib": before_mib, "peak_mib": peak_mib()}


def cpu_seconds() -> float:
    """Return the user and system time of this process and its children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_mib() -> float:
    """Return the largest resident memory that this process has had."""
    # Not getrusage: its figure is inherited from the parent that started this process.
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024


# Export


def compare_exports(work: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure each export and how its labels differ from the full-resolution argmax of the linear interpolation."""
    classes, low, full = (16, (150, 256, 256), (300, 512, 512))
    if options.small:
        classes, low, full = (8, (30, 48, 48), (60, 96, 96))
    np.save(work / "probabilities.npy", made_up_probabilities(classes, low))
    (work / "export.json").write_text(json.dumps({"full": full}))
    rows = [{"name": name, **measure(f"export:{name}", work, options)} for name in EXPORTS]
    reference = np.load(work / "nnunet resample_torch.npy", mmap_mode="r")
    for row in rows:
        labels = np.load(work / f"{row['name']}.npy", mmap_mode="r")
        row["voxels"] = int(reference.size)
        row["differ_from_full_argmax"] = int(sum((a != b).sum() for a, b in zip(labels, reference, strict=True)))
    return rows


def made_up_probabilities(classes: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Return smooth regions of every class with ragged borders, as a network gives them."""
    random = np.random.default_rng(0)
    coarse = random.normal(size=(1, classes, *(max(2, side // 24) for side in shape))).astype(np.float32)
    logits = functional.interpolate(torch.from_numpy(coarse), shape, mode="trilinear")[0] * 12
    for one in logits:
        one += 0.5 * torch.from_numpy(random.standard_normal(shape, dtype=np.float32))
    return logits.softmax(0).numpy()


def export_line(name: str, work: Path, _: argparse.Namespace) -> dict[str, float]:
    """Export once, by one of `EXPORTS`."""
    full = tuple(json.loads((work / "export.json").read_text())["full"])
    export = export_by_equivox(full) if name == "equivox" else export_by_nnunet(full, name.removeprefix("nnunet "))
    probabilities = np.load(work / "probabilities.npy")
    labels, found = timed(lambda: export(probabilities))
    np.save(work / f"{name}.npy", labels)
    return found


def export_by_equivox(full: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """Return our export to a grid of this shape."""
    from equivox.datasets.prepare import PreparedGeometry
    from equivox.pipelines.prediction.export import export_labels

    def export(probabilities: np.ndarray) -> np.ndarray:
        i, j, k = probabilities.shape[1:]
        geometry = PreparedGeometry(
            source_shape=full,
            source_affine=np.diag([1.25, 0.8, 0.8, 1.0]),
            orientation="RAS",
            turned_shape=full,
            crop_start=(0, 0, 0),
            crop_stop=full,
            prepared_shape=(i, j, k),
            prepared_spacing_mm=(2.5, 1.6, 1.6),
        )
        return export_labels(probabilities, geometry)

    return export


def export_by_nnunet(full: tuple[int, ...], resampling: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return nnU-Net's export, with its default resampling or `resample_torch`, as its planners set them."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    functions = {
        "default": (
            "resample_data_or_seg_to_shape",
            {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        ),
        "resample_torch": (
            "resample_torch_fornnunet",
            {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False},
        ),
    }
    function, arguments = functions[resampling]
    configuration = {
        "spacing": [2.5, 1.6, 1.6],
        "architecture": {},
        "resampling_fn_probabilities": function,
        "resampling_fn_probabilities_kwargs": arguments,
    }
    plans = PlansManager(
        {
            "configurations": {"3d": configuration},
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "label_manager": "LabelManager",
        }
    )
    properties = {
        "spacing": [1.25, 0.8, 0.8],
        "shape_before_cropping": full,
        "shape_after_cropping_and_before_resampling": full,
        "bbox_used_for_cropping": [[0, side] for side in full],
    }
    threads = torch.get_num_threads()

    def export(probabilities: np.ndarray) -> np.ndarray:
        names = {"background": 0, **{f"class_{number}": number for number in range(1, len(probabilities))}}
        labels = plans.get_label_manager({"labels": names})
        found = convert_predicted_logits_to_segmentation_with_correct_shape(
            torch.from_numpy(probabilities),
            plans,
            plans.get_configuration("3d"),
            labels,
            properties,
            num_threads_torch=threads,
        )
        return np.asarray(found)

    return export


# Inference


def compare_inference(work: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure each sliding window over the same scans, and how the label maps agree."""
    from equivox.pipelines.run_folder import RunFolder

    if options.run:
        parts = {RunFolder(options.run).config.dims: prepare_run(options.run, options.cohort, options.cases, work)}
    else:
        parts = {dims: prepare_made_up(dims, work, small=options.small) for dims in ("2d", "3d")}
    rows = []
    for dims, folder in parts.items():
        found = [{"dims": dims, "name": name, **measure(f"inference:{name}", folder, options)} for name in INFERENCES]
        for row in found:
            row |= agreement(folder, row["name"])
        rows += found
    return rows


def prepare_run(run_path: Path, cohort_path: Path, count: int, work: Path) -> Path:
    """Prepare cases that one trained network was not trained on."""
    from equivox.datasets.cohort import load_cohort
    from equivox.datasets.prepare import prepare_case
    from equivox.pipelines.run_folder import RunFolder

    run, cohort = RunFolder(run_path), load_cohort(cohort_path)
    fold = run.folds[0]
    unseen = [case for case in cohort.cases if run.split.get(case.case_id) in (fold, "test")][:count]
    folder = work / "run"
    folder.mkdir()
    for case in unseen:
        prepared = prepare_case(case.images, case.label, cohort.config.label_indices, run.plan.preprocessing)
        np.savez(folder / f"case_{case.case_id}.npz", image=prepared.image, label=prepared.label)
    (folder / "inference.json").write_text(json.dumps({"run": str(run_path.resolve()), "fold": fold}))
    return folder


def prepare_made_up(dims: str, work: Path, *, small: bool) -> Path:
    """Make scans of balls and fit a network to some of them, so that its labels are decided as a trained one's are."""
    from equivox.datasets.plan import NetworkPlan
    from equivox.pipelines.run_folder import write_weights

    axes = int(dims[0])
    side, features = (32, (8, 16)) if small else ((256, (32, 64, 128, 256)) if axes == 2 else (64, (32, 64, 128)))
    shape = (48, 40, 36) if small else ((320, 300, 24) if axes == 2 else (128, 120, 96))
    network_plan = NetworkPlan(
        dimensions=axes,
        patch_size=(side,) * axes,
        batch_size=2,
        features=features,
        strides=((1,) * axes, *((2,) * axes for _ in features[1:])),
        memory_mib=1000,
    )
    folder = work / dims
    folder.mkdir()
    run = write_run(folder / "run", network_plan, dims)
    for number in range(2):
        image, label = balls(shape, seed=number)
        np.savez(folder / f"case_{number}.npz", image=image, label=label)
    network = fit(run.build_network(), network_plan, shape, steps=20 if small else 60)
    write_weights(network, run.fold_folder(0) / "model.safetensors", {})
    (folder / "inference.json").write_text(json.dumps({"run": str(folder / "run"), "fold": 0}))
    return folder


def write_run(path: Path, network: "NetworkPlan", dims: str) -> "RunFolder":
    """Write a run folder without weights."""
    from equivox.datasets.cohort import ChannelConfig, CohortConfig
    from equivox.datasets.plan import IntensityPlan, Plan, PreprocessingPlan
    from equivox.options import save_options
    from equivox.pipelines.run_folder import RunFolder
    from equivox.pipelines.training_config import ModelConfig, TrainingConfig

    classes = {"large": 1, "small": 2}
    preprocessing = PreprocessingPlan(
        channels=("mr",), intensity={"mr": IntensityPlan(scheme="keep")}, resample_channels={"mr": "same_grid"}
    )
    plan = Plan(cohort="made up", classes=classes, preprocessing=preprocessing, networks={dims: network})
    cohort = CohortConfig(
        name="made up", channels={"mr": ChannelConfig()}, classes=classes, label_values={1: "large", 2: "small"}
    )
    path.mkdir()
    save_options(plan, path / "plan.yaml")
    save_options(cohort, path / "cohort.yaml")
    save_options(TrainingConfig(dims=dims, model=ModelConfig(name="plain_unet")), path / "config.yaml")
    (path / "split.csv").write_text("case_id,patient_id,fold\n")
    return RunFolder(path)


def balls(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy scan ``(1, i, j, k)`` and its labels: large balls and small ones of another contrast."""
    random = np.random.default_rng(seed)
    image = random.normal(scale=0.5, size=shape).astype(np.float32)
    label = np.zeros(shape, dtype=np.int16)
    grid = np.ogrid[tuple(slice(side) for side in shape)]
    for index, radius, level in [(1, 0.22, 1.0), (1, 0.15, 1.0), (2, 0.1, -1.0), (2, 0.08, -1.0)]:
        size = radius * min(shape[:2])
        centre = [random.uniform(0.2, 0.8) * side for side in shape]
        scale = (1, 1, shape[0] / shape[2])
        inside = sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, scale, strict=True)) < size**2
        image[inside] += level
        label[inside] = index
    return image[None], label


def fit(network: torch.nn.Module, plan: "NetworkPlan", shape: tuple[int, int, int], steps: int) -> torch.nn.Module:
    """Train for some steps on patches of other made-up scans."""
    torch.manual_seed(0)
    random = np.random.default_rng(9)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    image, label = balls(shape, seed=99)
    sides = [min(48 if plan.dimensions == 3 else 128, side) for side in plan.patch_size]
    network.train()
    for _ in range(steps):
        start = [int(random.integers(0, max(1, n - s + 1))) for n, s in zip(shape, [*sides, 1], strict=False)]
        cut = tuple(slice(first, first + size) for first, size in zip(start, [*sides, 1], strict=False))
        x, y = (torch.from_numpy(np.ascontiguousarray(array[cut])) for array in (image[0], label))
        if plan.dimensions == 2:
            x, y = x[..., 0], y[..., 0]
        logits = network(x[None, None])[0]
        loss = functional.cross_entropy(logits, y[None].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def inference_line(name: str, work: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run one sliding window over every case; the times are the sums of each case's fastest."""
    from equivox.pipelines.run_folder import RunFolder

    settings = json.loads((work / "inference.json").read_text())
    run = RunFolder(Path(settings["run"]))
    network = run.network(settings["fold"])
    tool, _, precision = name.partition(" ")
    slide = {"equivox": slide_equivox, "monai": slide_monai, "nnunet": slide_nnunet}[tool]
    total = {"seconds": 0.0, "cpu_seconds": 0.0, "start_mib": peak_mib(), "peak_mib": 0.0}
    if options.device == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        total["start_mib"] = 0.0
    for path in sorted(work.glob("case_*.npz")):
        image = np.load(path)["image"]
        tries = []
        for _ in range(options.repeats):
            slided = partial(slide, network, run, image, options.device, bfloat16=precision == "bfloat16")
            logits, found = timed(lambda slided=slided: slided().cpu())
            tries.append(found)
        best = min(tries, key=lambda one: one["seconds"])
        total["seconds"] += best["seconds"]
        total["cpu_seconds"] += best["cpu_seconds"]
        np.save(work / f"{name}_{path.stem}.npy", logits.argmax(0).numpy().astype(np.uint8))
        del logits
    total["peak_mib"] = peak_mib() if options.device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
    return total


def slide_equivox(
    network: torch.nn.Module, run: "RunFolder", image: np.ndarray, device: str, *, bfloat16: bool
) -> torch.Tensor:
    """Ours, as `equivox predict` calls it."""
    from equivox.pipelines.prediction.sliding_window import ready_network, sliding_window_logits

    plan = run.network_plan
    network = ready_network(network, plan, device)
    batch_size = 1 if plan.dimensions == 3 else 4
    classes = len(run.plan.classes) + 1
    return sliding_window_logits(network, image, plan, num_classes=classes, batch_size=batch_size, bfloat16=bfloat16)


def slide_monai(
    network: torch.nn.Module, run: "RunFolder", image: np.ndarray, device: str, *, bfloat16: bool
) -> torch.Tensor:
    """MONAI's, slice by slice where the network is 2D."""
    from monai.inferers import SlidingWindowInferer

    plan = run.network_plan
    slide = SlidingWindowInferer(plan.patch_size, sw_batch_size=1, overlap=0.5, mode="gaussian", sigma_scale=0.125)
    network = network.to(device)
    tensor = torch.from_numpy(image).to(device)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bfloat16):
        if plan.dimensions == 3:
            return slide(tensor[None], lambda patch: network(patch)[0])[0].float()
        slices = tensor.movedim(plan.slice_axis + 1, 0)
        found = [slide(one[None], lambda patch: network(patch)[0])[0].float() for one in slices]
    return torch.stack(found, dim=plan.slice_axis + 1)


def slide_nnunet(
    network: torch.nn.Module, run: "RunFolder", image: np.ndarray, device: str, *, bfloat16: bool
) -> torch.Tensor:
    """nnU-Net's predictor, which has no bfloat16, and on a graphics card no float32."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    if bfloat16:
        raise SystemExit("nnU-Net has no bfloat16")
    plan = run.network_plan
    predictor = nnUNetPredictor(
        use_mirroring=False,
        perform_everything_on_device=device == "cuda",
        device=torch.device(device),
        allow_tqdm=False,
    )
    predictor.network = FirstOutput(network).to(device)
    predictor.configuration_manager = SimpleNamespace(patch_size=plan.patch_size)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=len(run.plan.classes) + 1)
    # nnU-Net's 2D networks see slices of the first axis.
    tensor = torch.from_numpy(image)
    axis = plan.slice_axis + 1 if plan.dimensions == 2 else 1
    logits = predictor.predict_sliding_window_return_logits(tensor.movedim(axis, 1))
    return logits.movedim(1, axis).float()


class FirstOutput(torch.nn.Module):
    """A network that returns its logits alone."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the first of the network's outputs."""
        logits: torch.Tensor = self.network(image)[0]
        return logits


def agreement(work: Path, name: str) -> dict[str, float]:
    """Return the worst Dice to our float32 labels, and the largest change of Dice to the reference."""
    worst, change = 1.0, 0.0
    for path in sorted(work.glob("case_*.npz")):
        reference = np.load(path)["label"]
        these, ours = (np.load(work / f"{one}_{path.stem}.npy") for one in (name, INFERENCES[0]))
        for index in range(1, int(max(ours.max(), these.max(), reference.max())) + 1):
            mine, other, truth = these == index, ours == index, reference == index
            worst = min(worst, dice(mine, other))
            change = max(change, abs(dice(mine, truth) - dice(other, truth)))
    return {"worst_dice_to_ours": worst, "largest_change_of_dice": change}


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return the overlap; 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2 * int((a & b).sum()) / total


# Tables


def as_markdown(results: dict[str, Any]) -> str:
    """Return both tables with the machine that they were measured on."""
    lines = ["# Prediction", "", machine_line(results["machine"]), ""]
    if results["small"]:
        lines += ["Small arrays: a check that the benchmark runs, not a result.", ""]
    if "export" in results:
        lines += export_table(results["export"])
    if "inference" in results:
        lines += inference_table(results["inference"], float16="graphics card" in results["machine"])
    return "\n".join(lines) + "\n"


def export_table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of exports; ratios are to ours."""
    ours = rows[0]
    lines = [
        "## Export of probabilities to labels",
        "",
        "| | s | CPU s | peak MiB (process) | of it before | CPU / ours | peak / ours | voxels that differ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratios = f"{row['cpu_seconds'] / ours['cpu_seconds']:.1f} | {row['peak_mib'] / ours['peak_mib']:.1f}"
        differ = f"{row['differ_from_full_argmax']} of {row['voxels']}"
        lines.append(f"| {row['name']} | {figures(row)} | {ratios} | {differ} |")
    return [*lines, "", "Differences are to the argmax of torch's interpolation at full resolution.", ""]


def inference_table(rows: list[dict[str, Any]], *, float16: bool) -> list[str]:
    """Return the table of sliding windows; `float16` where nnU-Net's autocast was on."""
    lines = [
        "## Sliding window",
        "",
        "| network | | s | CPU s | peak MiB (process) | of it before | worst Dice to ours float32 | change of Dice |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = row["name"]
        if "bfloat16" not in name:
            name += " float16" if float16 and name == "nnunet" else " float32"
        found = f"{row['worst_dice_to_ours']:.4f} | {row['largest_change_of_dice']:.4f}"
        lines.append(f"| {row['dims']} | {name} | {figures(row)} | {found} |")
    return [*lines, "", "Dice is the worst, and its change the largest, over cases and classes.", ""]


def figures(row: dict[str, Any]) -> str:
    """Return the cells that both tables share."""
    return f"{row['seconds']:.2f} | {row['cpu_seconds']:.2f} | {row['peak_mib']:.0f} | {row['start_mib']:.0f}"


if __name__ == "__main__":
    main()
