"""Fixtures that several rooms of the tests share."""

import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock


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


@pytest.fixture(scope="session")
def make_training_cohort_at() -> Callable[[Path], Path]:
    """Make one at a path, for the tests of a module to share."""
    return make_training_cohort


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


@pytest.fixture(scope="session")
def make_sites() -> Callable[..., Path]:
    """Make cohorts of several sites whose scanners differ by an offset: ``make_sites(folder, {"A": (12, 0.0)})``."""
    return _make_sites


def _make_sites(folder: Path, sites: dict[str, tuple[int, float]], *, classes: tuple[str, ...] = ("ball",)) -> Path:
    import nibabel as nib
    import numpy as np

    from equivox.datasets.cohort import AttributeConfig, ChannelConfig, CohortConfig
    from equivox.options import save_options

    folder.mkdir(parents=True)
    affine = np.diag([1.0, 1.5, 4.0, 1.0])
    rows = ["case_id,patient_id,image:mr,label,site,sex"]
    number = 0
    for site, (count, offset) in sites.items():
        for _ in range(count):
            generator = np.random.default_rng(number)
            i, j, k = np.indices((14, 12, 5))
            centre, radius = generator.uniform(5, 7, 2), generator.uniform(2.0, 4.0)
            label = ((i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (2 * (k - 2)) ** 2 < radius**2).astype(np.uint8)
            image = 100 + 80 * label + generator.normal(0, 25, label.shape) + offset
            for name, array in (("image", image.astype(np.float32)), ("label", label)):
                nib.Nifti1Image(array, affine).to_filename(folder / f"{name}{number:03d}.nii.gz")
            files = f"image{number:03d}.nii.gz,label{number:03d}.nii.gz"
            rows.append(f"c{number:03d},p{number:03d},{files},{site},{'FM'[number % 2]}")
            number += 1
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    config = CohortConfig(
        name="sites",
        channels={"mr": ChannelConfig(modality="MR")},
        classes={name: index for index, name in enumerate(classes, 1)},
        label_values={0: "background", **dict(enumerate(classes, 1))},
        attributes={"site": AttributeConfig(), "sex": AttributeConfig()},
    )
    save_options(config, folder / "cohort.yaml")
    return folder


class Thresholds:
    """Takes the place of networks: learns the threshold between inside and outside, and notes what it was shown."""

    def __init__(self) -> None:
        self.trained: dict[str, list[str]] = {}
        self.segmented: dict[str, list[str]] = {}

    def learn(self, cohort_folder: Path, run: Path, config: Any, workers: int) -> dict[str, Any]:
        import nibabel as nib

        from equivox.datasets.cohort import load_cohort
        from equivox.hashing import file_sha256

        inside, outside = [], []
        cases = load_cohort(cohort_folder).cases
        for case in cases:
            image, label = (nib.load(path).get_fdata() for path in (case.images["mr"], case.label))
            if label.any():
                inside.append(image[label > 0].mean())
                outside.append(image[label == 0].mean())
        run.mkdir()
        (run / "threshold.txt").write_text(f"{(sum(inside) + sum(outside)) / (2 * len(inside)):.6f}")
        self.trained[run.parent.name] = [case.case_id for case in cases]
        return {"sha256": file_sha256(run / "threshold.txt"), "dims": "2d", "steps": 0}

    def segment(self, run: Path, targets: Path, predictions: Path, config: Any) -> None:
        import nibabel as nib
        import numpy as np

        from equivox.datasets.cohort import load_cohort

        predictions.mkdir(exist_ok=True)
        threshold = float((run / "threshold.txt").read_text())
        cases = load_cohort(targets).cases
        for case in cases:
            image = nib.load(case.images["mr"])
            mask = (image.get_fdata() > threshold).astype(np.uint8)
            nib.Nifti1Image(mask, image.affine).to_filename(predictions / f"{case.case_id}.nii.gz")
            if "ece" in config.metrics:
                maps = predictions / "probabilities" / case.case_id
                maps.mkdir(parents=True)
                certain = 1 / (1 + np.exp((threshold - image.get_fdata()) / 20))
                nib.Nifti1Image(certain.astype(np.float32), image.affine).to_filename(maps / "1-ball.nii.gz")
        (predictions / "labels.json").write_text('{"0": "background", "1": "ball"}')
        self.segmented[run.parent.name] = [case.case_id for case in cases]


@pytest.fixture
def thresholds() -> Thresholds:
    return Thresholds()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Any]], Any]:
    """Make something once for all workers of a test run: ``made_once("name", make)``, with what `make(folder)` returns.

    A fixture of the session is made by every worker that asks for it; this one by the first, and the others wait.
    """

    def get(name: str, make: Callable[[Path], Any]) -> Any:
        base = tmp_path_factory.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once-{name}"
        kept = folder / "made.pickle"
        with FileLock(f"{folder}.lock"):
            if not kept.is_file():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                kept.write_bytes(pickle.dumps(make(folder)))
            return pickle.loads(kept.read_bytes())  # noqa: S301  written above

    return get


@pytest.fixture(scope="session")
def crossed(make_sites: Callable[..., Path], made_once: Callable[..., Any]) -> Any:
    """A finished comparison: three sites, of which one is off by an offset, and a small one for testing only."""

    def make(folder: Path) -> Any:
        from equivox.pipelines.cross_site import cross_site

        make_sites(folder / "cohort", {"Bern": (10, 0.0), "Cork": (10, 8.0), "Graz": (10, 40.0), "Lund": (2, 0.0)})
        (folder / "sites.yaml").write_text(
            "cohort: cohort\nminimum_patients: 10\nfolds: 2\nmatched_draws: 2\nmetrics: [dice, volume_error]\n"
            "bootstrap_draws: 499\npermutation_draws: 999\ntraining: {seed: 7}\n"
        )
        learner = Thresholds()
        out = folder / "out"
        return cross_site(folder / "sites.yaml", out, learn=learner.learn, segment=learner.segment, figures=True)

    return made_once("crossed", make)
