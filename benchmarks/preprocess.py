"""Preprocessing of a cohort against nnU-Net's default preprocessor and its torch planner: CPU, wall, memory, error.

    python benchmarks/preprocess.py [--small] [--cases 3]

The same made-up CT scans with 8 classes (512x512x240 at 0.8x0.8x1.5 mm) are read from .nii.gz, cropped, clipped and
standardised, resampled to 1.2x1.2x2 mm and written to chunked blosc2, one after the other in one process:

* order 3: nnU-Net's `resample_data_or_seg_to_shape` (its default) and ours with `image_interpolation: cubic`;
* order 1: nnU-Net's `resample_torch_fornnunet` (its torch planner) and ours with `image_interpolation: linear`.

nnU-Net is driven through its own `DefaultPreprocessor.run_case_save`; planning is left out for both. Every line runs in
a process of its own, with one thread, as both tools run a case a core; its imports are printed apart as start-up.
Labels are interpolated linearly, class by class, in every line.

The error is that of the prepared image: against scipy's B-spline in double precision (the same interpolation; float32
rounding should be all that is left), and against the noise-free scene itself at the new voxels.
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
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, describe_machine, machine_line

# Scripts beside this one must not stand for modules of Python's own.
sys.path = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent.resolve()]

LINES = ("nnunet default, order 3", "equivox cubic, order 3", "nnunet torch, order 1", "equivox linear, order 1")
SPACING, TARGET = (0.8, 0.8, 1.5), (1.2, 1.2, 2.0)
LOW, HIGH, MEAN, STD = -400.0, 600.0, 60.0, 120.0
CLASSES = 8


def main() -> None:
    """Measure every line, or one where this is the process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small scans: does it run at all?")
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for preprocess.json and preprocess.md")
    parser.add_argument("--line", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.line:
        print(json.dumps(measure_line(options.line, options.work, options.cases)))
        return
    shape = (192, 192, 80) if options.small else (512, 512, 240)
    facts = describe_machine("nnunetv2", "scikit-image", "scipy", "blosc2")
    results: dict[str, Any] = {"machine": facts, "shape": shape, "cases": options.cases, "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for number in range(options.cases):
            write_scan(work, number, shape)
        results["lines"] = {name: in_own_process(name, work, options.cases) for name in LINES}
        results["errors"] = errors(work, shape)
    text = as_markdown(results)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "preprocess.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.results / "preprocess.md").write_text(text, encoding="utf-8")
    print(text)


def scene(number: int, shape: tuple[int, ...], grid: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth noise-free scene and its classes, sampled on `grid` voxels over the extent of `shape` voxels."""
    random = np.random.default_rng(number)
    axes = [(np.arange(side) + 0.5) / side for side in grid]
    i, j, k = np.meshgrid(*axes, indexing="ij", sparse=True)
    image = np.full(grid, -200.0, dtype=np.float32)
    label = np.zeros(grid, dtype=np.uint8)
    texture = np.zeros(grid, dtype=np.float32)
    for _ in range(4):
        # Waves of 5 to 20 voxels, so that an interpolation has something to get wrong.
        waves = [2 * np.pi * side / random.uniform(5, 20) for side in shape]
        texture += 12 * np.sin(waves[0] * i + 1) * np.sin(waves[1] * j + 2) * np.sin(waves[2] * k + 3)
    for index in range(1, CLASSES + 1):
        centre, radius = random.uniform(0.3, 0.7, 3), random.uniform(0.08, 0.2, 3)
        axes_of_ball = zip((i, j, k), centre, radius, strict=True)
        ball = sum(((axis - middle) / half) ** 2 for axis, middle, half in axes_of_ball)
        image += (30.0 * index) / (1 + np.exp(np.clip(12 * (ball - 1), -30, 30))).astype(np.float32)
        label[ball < 1] = index
    return image + texture, label


def write_scan(work: Path, number: int, shape: tuple[int, int, int]) -> None:
    """Write one scan and its labels as .nii.gz."""
    import nibabel as nib

    image, label = scene(number, shape, shape)
    noisy = image + np.random.default_rng(number).normal(0, 8, shape)
    affine = np.diag([*SPACING, 1.0])
    nib.save(nib.Nifti1Image(np.rint(noisy).astype(np.int16), affine), work / f"{number}_ct.nii.gz")
    nib.save(nib.Nifti1Image(label, affine), work / f"{number}_label.nii.gz")


def in_own_process(name: str, work: Path, cases: int) -> dict[str, Any]:
    """Run one line and return what it measured of itself."""
    command = [sys.executable, __file__, "--line", name, "--work", str(work), "--cases", str(cases)]
    # One thread for everybody: cases, not threads, are what both tools run side by side.
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **threads})
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        sys.exit(f"{name} failed")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_line(name: str, work: Path, cases: int) -> dict[str, Any]:
    """Prepare every case and measure; what comes before the first case is start-up."""
    began = cpu_seconds(), time.perf_counter()
    cubic = "order 3" in name
    prepare = (equivox if name.startswith("equivox") else nnunet)(work, cubic=cubic)
    start_up = cpu_seconds() - began[0], time.perf_counter() - began[1]
    began = cpu_seconds(), time.perf_counter()
    for number in range(cases):
        prepare(number)
    return {
        "cpu_s": cpu_seconds() - began[0],
        "wall_s": time.perf_counter() - began[1],
        "start_up_cpu_s": start_up[0],
        "start_up_wall_s": start_up[1],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "stored_mib": sum(path.stat().st_size for path in stored(name, work).rglob("*") if path.is_file()) / 2**20,
    }


def cpu_seconds() -> float:
    """CPU seconds of this process and its children so far."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def stored(name: str, work: Path) -> Path:
    """Where a line writes its prepared cases."""
    return work / name.replace(",", "").replace(" ", "_")


def equivox(work: Path, *, cubic: bool) -> Callable[[int], None]:
    """Import what is needed and return a function that prepares and stores one case."""
    from equivox.datasets import transforms  # noqa: F401 - so that its import counts as start-up
    from equivox.datasets.plan import IntensityPlan, PreprocessingPlan
    from equivox.datasets.prepare import prepare_case
    from equivox.datasets.store import Store

    plan = PreprocessingPlan(
        channels=("ct",),
        spacing_mm=TARGET,
        intensity={"ct": IntensityPlan(scheme="clip_standardise", low=LOW, high=HIGH, mean=MEAN, std=STD)},
        resample_channels={"ct": "same_grid"},
        image_interpolation="cubic" if cubic else "linear",
    )
    indices = {value: value for value in range(CLASSES + 1)}
    store = Store(stored(LINES[1] if cubic else LINES[3], work))

    def prepare(number: int) -> None:
        images, label = {"ct": work / f"{number}_ct.nii.gz"}, work / f"{number}_label.nii.gz"
        key = store.key(images, label, indices, plan)
        store.write(key, prepare_case(images, label, indices, plan))
        (store.folder / f"{number}.key").write_text(key)

    return prepare


def nnunet(work: Path, *, cubic: bool) -> Callable[[int], None]:
    """Do the same with nnU-Net's preprocessor, from a plan of the same content."""
    os.environ.update({name: str(work) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")})
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    if cubic:
        function = "resample_data_or_seg_to_shape"
        image = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
        label = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
    else:
        function = "resample_torch_fornnunet"
        image = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}
        label = {**image, "is_seg": True}
        image["num_threads"] = label["num_threads"] = 1
    plans = PlansManager(
        {
            "dataset_name": "phantom",
            "plans_name": "plans",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "foreground_intensity_properties_per_channel": {
                "0": {"mean": MEAN, "std": STD, "percentile_00_5": LOW, "percentile_99_5": HIGH}
            },
            "configurations": {
                "3d_fullres": {
                    "data_identifier": "phantom",
                    "preprocessor_name": "DefaultPreprocessor",
                    "architecture": {},
                    "batch_size": 2,
                    "patch_size": [64, 128, 128],
                    "spacing": list(reversed(TARGET)),
                    "normalization_schemes": ["CTNormalization"],
                    "use_mask_for_norm": [False],
                    "resampling_fn_data": function,
                    "resampling_fn_data_kwargs": image,
                    "resampling_fn_seg": function,
                    "resampling_fn_seg_kwargs": label,
                }
            },
        }
    )
    configuration = plans.get_configuration("3d_fullres")
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{f"class{index}": index for index in range(1, CLASSES + 1)}},
        "file_ending": ".nii.gz",
    }
    preprocessor = DefaultPreprocessor(verbose=False)
    folder = stored(LINES[0] if cubic else LINES[2], work)
    folder.mkdir(exist_ok=True)

    def prepare(number: int) -> None:
        files = [str(work / f"{number}_ct.nii.gz")], str(work / f"{number}_label.nii.gz")
        preprocessor.run_case_save(str(folder / str(number)), *files, plans, configuration, dataset)

    return prepare


def errors(work: Path, shape: tuple[int, int, int]) -> dict[str, dict[str, float]]:
    """Compare the prepared image of the first case with scipy's spline, and with the scene itself, in HU."""
    import nibabel as nib
    from scipy import ndimage

    source = np.asarray(nib.load(work / "0_ct.nii.gz").dataobj, dtype=np.float64)
    source = np.clip(source, LOW, HIGH)
    prepared = {name: prepared_image(name, work) * STD + MEAN for name in LINES}
    grid = next(iter(prepared.values())).shape
    truth, _ = scene(0, shape, grid)
    factors = [new / old for new, old in zip(grid, shape, strict=True)]
    result = {}
    for name, image in prepared.items():
        order = 3 if "order 3" in name else 1
        spline = ndimage.zoom(source, factors, order=order, mode="nearest", grid_mode=True)
        difference = np.abs(image - spline)
        result[name] = {
            "spline_largest_hu": float(difference.max()),
            "spline_rms_hu": float(np.sqrt((difference**2).mean())),
            "scene_rms_hu": float(np.sqrt(((image - np.clip(truth, LOW, HIGH)) ** 2).mean())),
        }
    return result


def prepared_image(name: str, work: Path) -> np.ndarray:
    """Return the prepared image (i, j, k) of the first case."""
    if name.startswith("equivox"):
        from equivox.datasets.store import Store

        store = Store(stored(name, work))
        ours: np.ndarray = store.read((store.folder / "0.key").read_text()).image[0]
        return ours
    import blosc2

    theirs: np.ndarray = blosc2.open(str(stored(name, work) / "0.b2nd"))[0]
    return theirs.transpose(2, 1, 0)


def as_markdown(results: dict[str, Any]) -> str:
    """Return the tables."""
    lines, cases = results["lines"], results["cases"]
    sides = "x".join(map(str, results["shape"]))
    text = [
        "# Preprocessing",
        "",
        f"{machine_line(results['machine'])}, load before {results['load']:.1f}.",
        "",
        f"{cases} made-up CT scans of {sides}, {CLASSES} classes, from .nii.gz to blosc2; seconds a case.",
        "",
        "| line | CPU s | wall s | peak MiB | stored MiB | start-up CPU s | CPU against nnU-Net, same order |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in lines.items():
        peer = lines[LINES[0] if "order 3" in name else LINES[2]]
        less = f"{peer['cpu_s'] / row['cpu_s']:.1f}x less"
        text.append(
            f"| {name} | {row['cpu_s'] / cases:.2f} | {row['wall_s'] / cases:.2f} | {row['peak_mib']:.0f} | "
            f"{row['stored_mib'] / cases:.0f} | {row['start_up_cpu_s']:.1f} | {less} |"
        )
    text += [
        "",
        "| line | largest difference to scipy's spline, HU | RMS, HU | RMS to the noise-free scene, HU (noise 8) |",
        "|---|---|---|---|",
    ]
    for name, row in results["errors"].items():
        largest, rms = f"{row['spline_largest_hu']:.2g}", f"{row['spline_rms_hu']:.2g}"
        text.append(f"| {name} | {largest} | {rms} | {row['scene_rms_hu']:.2f} |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
