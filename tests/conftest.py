"""Fixtures that several rooms of the tests share."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Make run folders with random weights: ``make_run("name", folds=(0, 1), ...)``."""

    def make(name: str = "run", **choices: Any) -> Path:
        return _make_run(tmp_path / name, **choices)

    return make


@pytest.fixture(scope="session")
def make_run_at() -> Callable[..., Path]:
    """Make one at a path, for the tests of a module to share: ``make_run_at(path, folds=(0, 1), ...)``."""
    return _make_run


def _make_run(
    path: Path,
    *,
    channels: tuple[str, ...] = ("mr",),
    classes: tuple[str, ...] = ("tumour",),
    label_values: dict[int, str] | None = None,
    folds: tuple[int, ...] = (0,),
    split: dict[str, str] | None = None,
    dims: str = "3d",
    crop: str = "none",
    spacing_mm: tuple[float | None, ...] = (None, None, None),
    left_right_pairs: tuple[tuple[str, str], ...] = (),
    seed: int = 0,
) -> Path:
    import torch

    from equivox.datasets.cohort import ChannelConfig, CohortConfig
    from equivox.datasets.plan import IntensityPlan, NetworkPlan, Plan, PreprocessingPlan
    from equivox.options import save_options
    from equivox.pipelines.run_folder import RunFolder, write_weights
    from equivox.pipelines.training_config import ModelConfig, TrainingConfig

    axes = int(dims[0])
    indices = {name: number for number, name in enumerate(classes, 1)}
    plan = Plan(
        cohort="toy",
        classes=indices,
        left_right_pairs=left_right_pairs,
        preprocessing=PreprocessingPlan(
            channels=channels,
            spacing_mm=spacing_mm,
            intensity={name: IntensityPlan(scheme="standardise") for name in channels},
            resample_channels=dict.fromkeys(channels, "same_grid"),
            image_interpolation="linear",
            crop=crop,
        ),
        networks={
            dims: NetworkPlan(
                dimensions=axes,
                patch_size=(8,) * axes,
                batch_size=2,
                features=(4, 4),
                strides=((1,) * axes, (2,) * axes),
                memory_mib=10,
            )
        },
    )
    cohort = CohortConfig(
        name="toy",
        channels={name: ChannelConfig() for name in channels},
        classes=indices,
        label_values=label_values or {0: "background", **{number: name for name, number in indices.items()}},
        left_right_pairs=left_right_pairs,
    )
    path.mkdir()
    save_options(plan, path / "plan.yaml")
    save_options(cohort, path / "cohort.yaml")
    save_options(TrainingConfig(dims=dims, model=ModelConfig(name="plain_unet")), path / "config.yaml")
    rows = [f"{case},{case},{place}" for case, place in (split or {}).items()]
    (path / "split.csv").write_text("\n".join(["case_id,patient_id,fold", *rows]) + "\n")
    run = RunFolder(path)
    for fold in folds:
        with torch.random.fork_rng():
            torch.manual_seed(1000 * seed + fold)
            network = run.build_network()
            # The published start is so small that one class wins everywhere; a test wants to see both.
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(0.3 * torch.randn_like(parameter))
            write_weights(network, run.fold_folder(fold) / "model.safetensors", {})
    return path


@pytest.fixture
def training_cohort(tmp_path: Path) -> Path:
    """A split and planned cohort of six patients with bright balls, two slabs deep, and a test case."""
    return make_training_cohort(tmp_path / "cohort")


def make_training_cohort(folder: Path) -> Path:
    import nibabel as nib
    import numpy as np

    from equivox.datasets.cohort import AttributeConfig, ChannelConfig, CohortConfig
    from equivox.datasets.plan import IntensityPlan, NetworkPlan, Plan, PreprocessingPlan
    from equivox.options import save_options
    from equivox.pipelines.plan import write_plan

    folder.mkdir(parents=True)
    affine = np.diag([1.0, 1.5, 4.0, 1.0])
    rows, split = ["case_id,patient_id,image:mr,label,sex"], ["case_id,patient_id,fold"]
    for number in range(6):
        generator = np.random.default_rng(number)
        i, j, k = np.indices((22, 20, 6))
        centre = generator.uniform(7, 13, 2)
        label = ((i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (k - 3) ** 2 < 20).astype(np.uint8)
        image = 100 + 80 * label + generator.normal(0, 10, label.shape)
        for name, array in (("image", image.astype(np.float32)), ("label", label)):
            nib.Nifti1Image(array, affine).to_filename(folder / f"{name}{number}.nii.gz")
        rows.append(f"c{number},p{number},image{number}.nii.gz,label{number}.nii.gz,{'FM'[number % 2]}")
        split.append(f"c{number},p{number},{'test' if number == 5 else number % 2}")
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    (folder / "split.csv").write_text("\n".join(split) + "\n")
    config = CohortConfig(
        name="balls",
        channels={"mr": ChannelConfig(modality="MR")},
        classes={"ball": 1},
        label_values={0: "background", 1: "ball"},
        attributes={"sex": AttributeConfig(names={"F": "female", "M": "male"})},
    )
    save_options(config, folder / "cohort.yaml")
    preparation = PreprocessingPlan(
        channels=("mr",),
        intensity={"mr": IntensityPlan(scheme="standardise")},
        resample_channels={"mr": "same_grid"},
        crop="none",
    )
    flat = NetworkPlan(
        dimensions=2,
        patch_size=(16, 16),
        batch_size=4,
        features=(4, 6, 8),
        strides=((1, 1), (2, 2), (2, 2)),
        memory_mib=100,
    )
    deep = flat.model_copy(
        update={"dimensions": 3, "patch_size": (16, 16, 4), "strides": ((1, 1, 1), (2, 2, 1), (2, 2, 2))}
    )
    networks = {"2d": flat, "3d": deep}
    plan = Plan(cohort="balls", classes={"ball": 1}, preprocessing=preparation, networks=networks)
    write_plan(plan, folder / "plan.yaml")
    return folder


FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory) -> Callable[..., str]:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    binary = next(filter(None, map(shutil.which, names)), None)
    if binary is None:
        reason = f"none of {', '.join(names)} was found; install Chromium to run this test"
        if os.environ.get("EQUIVOX_REQUIRE_BROWSER") == "1":
            pytest.fail(f"EQUIVOX_REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(reason)

    def run(page: Path, *arguments: str) -> str:
        profile = tmp_path_factory.mktemp("profile")
        command = [binary, *FLAGS, f"--user-data-dir={profile}", *arguments, page.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=180, check=True)
        return done.stdout.decode("utf-8", errors="replace")

    return run
