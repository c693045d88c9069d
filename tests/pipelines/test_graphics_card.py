"""Training and prediction on a graphics card give what they give on the processor; skipped where there is no card."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from equivox.pipelines.predict import PredictionOptions, predict
from equivox.pipelines.run_folder import RunFolder, read_tensors
from equivox.pipelines.train import train
from equivox.pipelines.training.learner import Learner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card that torch can use")

QUICK = (
    "steps=6", "precision=float32", "validation.every_steps=3", "checkpoint.every_steps=2", "ema.decay=0.9",
    # Adam's first steps are as large for a gradient of 1e-9 as for one of 1: rounding would show.
    "optimizer.name=sgd", "optimizer.momentum=0.9",
)  # fmt: skip


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFloat-32, which convolutions use on a card, keeps ten bits: too few to compare with the processor."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(run / "fold_0" / "model.safetensors")


def assert_close(one: Path, other: Path, atol: float) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    worst = max(float((first[name] - second[name]).abs().max()) for name in first)
    assert worst < atol


@pytest.mark.parametrize("dims", ["2d", "3d"])
@pytest.mark.parametrize("model", ["unetpp", "plain_unet"])
def test_training_on_a_card_goes_as_on_the_processor(training_cohort, tmp_path, dims, model) -> None:
    for device in ("cpu", "cuda"):
        train(
            training_cohort,
            tmp_path / device,
            model=model,
            dims=dims,
            workers=0,
            overrides=(*QUICK, f"device={device}"),
        )
    assert RunFolder(tmp_path / "cuda").config.device == "cuda"
    assert_close(tmp_path / "cpu", tmp_path / "cuda", 1e-3)


def test_a_run_on_a_card_goes_on_where_it_was_stopped(training_cohort, tmp_path, monkeypatch) -> None:
    train(training_cohort, tmp_path / "whole", dims="2d", workers=2, overrides=(*QUICK, "device=cuda"))
    original = Learner.step

    def stopping(self, number, batch):
        if number == 5:
            raise KeyboardInterrupt
        return original(self, number, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(training_cohort, tmp_path / "part", dims="2d", workers=0, overrides=(*QUICK, "device=cuda"))
    assert RunFolder(tmp_path / "part").folds == ()
    train(training_cohort, tmp_path / "part", resume=True, workers=2)
    assert_close(tmp_path / "whole", tmp_path / "part", 1e-4)


def test_time_and_precision_are_measured_on_the_card(training_cohort, tmp_path) -> None:
    run = train(training_cohort, tmp_path / "run", max_minutes=0.5, workers=2)
    assert run.config.device == "cuda"
    assert run.config.dims == "3d"
    assert run.config.precision in {"float32", "bfloat16"}
    assert run.config.steps >= 10
    assert run.manifest["machine"]["graphics_card"] == torch.cuda.get_device_name()


@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_labels_and_probabilities_from_a_card_are_those_of_the_processor(
    make_run: Callable[..., Path], tmp_path: Path, dims: str
) -> None:
    run = make_run(folds=(0, 1), dims=dims)
    scan = tmp_path / "scan.nii.gz"
    values = np.random.default_rng(0).normal(size=(13, 17, 11)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([0.7, 1.1, 2.5, 1.0])), scan)
    found = {}
    for device in ("cpu", "cuda"):
        options = PredictionOptions(device=device, mirror=True, probabilities=True)
        (result,) = predict(run, [scan], tmp_path / device, options=options)
        assert result.status == "done", result.message
        found[device] = (
            np.asarray(nib.load(tmp_path / device / "scan.nii.gz").dataobj),
            nib.load(next((tmp_path / device / "probabilities" / "scan").glob("1-*.nii.gz"))).get_fdata(),
        )
    assert (found["cpu"][0] != found["cuda"][0]).mean() < 0.005
    np.testing.assert_allclose(found["cpu"][1], found["cuda"][1], atol=2e-3)


def test_a_card_whose_memory_runs_out_fails_the_scan_with_what_to_do(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.float32), np.eye(4)), scan)

    def too_much(*_, **__):
        return torch.empty(2**50, device="cuda")

    monkeypatch.setattr("equivox.pipelines.predict.sliding_window_probabilities", too_much)
    (result,) = predict(make_run(), [scan], tmp_path / "out")
    assert result.status == "failed"
    assert not result.our_fault
    assert "expected memory enough, got too little (CUDA out of memory)" in result.message
