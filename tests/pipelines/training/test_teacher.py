"""Training with what other networks say: a teacher's logits, and features."""

import json
import logging
import shutil
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.pipelines.run_folder import RunFolder, read_tensors
from equivox.pipelines.train import train as train_with_workers
from equivox.pipelines.training.features import load_features
from equivox.pipelines.training.learner import Learner
from equivox.pipelines.training.logs import read_log
from equivox.pipelines.training_config import FeaturesConfig

train = partial(train_with_workers, workers=0)
QUICK = ("steps=3", "precision=float32", "validation.every_steps=0", "checkpoint.every_steps=1", "ema.decay=0")
DISTILLED = "loss=[{name: dice_ce}, {name: bpkd, start_after: 0.3, edge_mm: 1.5}]"


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_training_cohort_at) -> tuple[Path, Path]:
    """A cohort that is prepared, and a run on it."""
    folder = tmp_path_factory.mktemp("taught")
    cohort = make_training_cohort_at(folder / "cohort")
    return cohort, train(cohort, folder / "teacher", overrides=(*QUICK, "optimizer.lr=0.01")).path


@pytest.fixture
def training_cohort(trained) -> Path:
    return trained[0]


@pytest.fixture
def teacher(trained, tmp_path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(trained[1], tmp_path / "teacher")))


def terms(run: Path) -> list[dict[str, float]]:
    return [record["loss_terms"] for record in read_log(run / "fold_0" / "metrics.jsonl")]


def set_in(path: Path, *keys: str, value: object) -> None:
    """Change one value of a YAML file of a run, and its hash in the manifest, so that it looks whole."""
    whole = yaml.safe_load(path.read_text())
    section = whole
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["hashes"][f"run/{path.name}"] = file_sha256(path)
    (path.parent / "manifest.json").write_text(json.dumps(manifest))


def test_a_network_learns_from_a_run(teacher, training_cohort, tmp_path) -> None:
    taught = train(training_cohort, tmp_path / "run", overrides=(*QUICK, DISTILLED, f"teacher.run={teacher.path}"))
    found = terms(taught.path)
    assert [step.keys() for step in found] == [{"dice_ce"}, {"dice_ce", "bpkd"}, {"dice_ce", "bpkd"}]
    assert all(step["bpkd"] > 0 for step in found[1:])
    weights = file_sha256(teacher.fold_folder(0) / "model.safetensors")
    assert taught.manifest["teacher"] == {"0": weights}
    assert "the teacher is the run `teacher`" in (taught.path / "MODEL_CARD.md").read_text()
    # The teacher stays as it is, and is no part of what is saved.
    assert file_sha256(teacher.fold_folder(0) / "model.safetensors") == weights
    own = read_tensors(taught.path / "fold_0/model.safetensors")
    assert own.keys() == read_tensors(teacher.fold_folder(0) / "model.safetensors").keys()


def test_a_network_that_is_its_own_teacher_costs_nothing_at_first(teacher, training_cohort, tmp_path) -> None:
    # The teacher's first weights are those of the run that it teaches; what it has learned is the difference.
    loss = "loss=[{name: bpkd, start_after: 0}]"
    untaught = train(training_cohort, tmp_path / "same", overrides=(*QUICK[1:], "steps=1", "optimizer.lr=1e-12"))
    settings = (*QUICK[1:], "steps=1", loss, f"teacher.run={untaught.path}")
    (found,) = terms(train(training_cohort, tmp_path / "run", overrides=settings).path)
    assert found["bpkd"] == pytest.approx(0, abs=1e-6)
    (other,) = terms(
        train(training_cohort, tmp_path / "other", overrides=(*settings[:-1], f"teacher.run={teacher.path}")).path
    )
    assert other["bpkd"] > 1e-4


@pytest.mark.parametrize("sharpness", ["{method: sam}", "{method: mesa, start_after: 0}"])
def test_a_taught_run_that_was_killed_goes_on_to_the_bit(
    teacher, training_cohort, tmp_path, monkeypatch, sharpness
) -> None:
    settings = (
        *QUICK,
        DISTILLED,
        f"teacher.run={teacher.path}",
        "loss_weighting=uncertainty",
        f"sharpness={sharpness}",
        "ema.decay=0.5",
    )
    whole = train(training_cohort, tmp_path / "whole", overrides=settings)
    assert read_log(whole.path / "fold_0" / "metrics.jsonl")[-1]["loss_weights"].keys() == {"dice_ce", "bpkd"}
    original = Learner.step

    def killed(self, number, batch):
        if number == 2:
            raise Killed
        return original(self, number, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", killed)
        with pytest.raises(Killed):
            train(training_cohort, tmp_path / "killed", overrides=settings)
    weights_file = teacher.fold_folder(0) / "model.safetensors"
    kept = weights_file.read_bytes()
    weights_file.write_bytes(kept[:-4] + b"abcd")
    with pytest.raises(InputError, match=r"cannot resume, as fold 0 of teacher\.run changed"):
        train(training_cohort, tmp_path / "killed", resume=True)
    weights_file.write_bytes(kept)
    resumed = train(training_cohort, tmp_path / "killed", resume=True)
    first, second = (read_tensors(run.path / "fold_0/model.safetensors") for run in (whole, resumed))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert terms(whole.path) == terms(resumed.path)


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        ("plan.yaml", ("classes",), {"blob": 1}, r"expected the classes that are trained \(ball = 1\), got blob = 1"),
        ("config.yaml", ("dims",), "3d", r"expected the dimensions that are trained \(2\), got 3"),
        (
            "plan.yaml",
            ("networks", "2d", "strides"),
            [[1, 1], [8, 2], [3, 2]],
            r"expected a network for patches of 16 x 16, got one whose sides must be divisible by 24 x 4",
        ),
    ],
)
def test_a_teacher_of_something_else_is_refused(teacher, training_cohort, tmp_path, file, keys, value, message) -> None:
    if keys == ("classes",):
        set_in(teacher.path / "cohort.yaml", "classes", value=value)
        set_in(teacher.path / "cohort.yaml", "label_values", value={0: "background", 1: "blob"})
    set_in(teacher.path / file, *keys, value=value)
    with pytest.raises(InputError, match=f"teacher.run .*{message}; choose another"):
        train(training_cohort, tmp_path / "run", overrides=(*QUICK, DISTILLED, f"teacher.run={teacher.path}"))
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_another_fold_or_preparation_is_warned_of(teacher, training_cohort, tmp_path, caplog) -> None:
    set_in(teacher.path / "plan.yaml", "preprocessing", "crop", value="nonzero")
    settings = (*QUICK, DISTILLED, f"teacher.run={teacher.path}", "teacher.fold=0")
    with caplog.at_level(logging.WARNING):
        train(training_cohort, tmp_path / "run", overrides=settings, fold="1")
    assert "prepared otherwise (crop)" in caplog.text
    assert "fold 0, was trained on 2 of the cases that fold 1 validates, first c1" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((DISTILLED,), "the loss bpkd needs another network; give a run folder as 'teacher.run'"),
        (("loss=perceptual",), "the loss perceptual needs another network; give 'features.run' or"),
        (("teacher.run=nowhere",), "'teacher' names a network, but no term of the loss needs it"),
        ((DISTILLED, "teacher.run=nowhere"), "nowhere: expected a run folder"),
        (("loss=perceptual", "features.torchscript=nowhere.pt"), "expected a file, got nowhere.pt"),
        (("loss=perceptual", "features.torchscript=a.pt", "features.run=b"), "expected a run or a torchscript, got"),
    ],
)
def test_networks_that_are_missing_are_told_and_nothing_is_written(
    training_cohort, tmp_path, overrides, message
) -> None:
    with pytest.raises(InputError, match=message):
        train(training_cohort, tmp_path / "run", overrides=(*QUICK, *overrides))
    assert not (tmp_path / "run").exists()


def test_a_teacher_without_the_fold_is_told(teacher, training_cohort, tmp_path) -> None:
    with pytest.raises(InputError, match=r"teacher.fold: expected one of the trained folds of .* \(0\), got 1"):
        train(training_cohort, tmp_path / "run", overrides=(*QUICK, DISTILLED, f"teacher.run={teacher.path}"), fold="1")


class Pyramid(nn.Module):
    """Two layers of features; takes the number of layers as the second argument."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, stride=2, padding=1)

    def forward(self, image: torch.Tensor, layers: torch.Tensor) -> list[torch.Tensor]:
        found = [self.first(image)]
        if int(layers[0]) > 1:
            found.append(self.second(found[0].relu()))
        return found


@pytest.fixture
def script(tmp_path) -> Path:
    torch.manual_seed(3)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.script(Pyramid()).save(str(tmp_path / "pyramid.pt"))
    return tmp_path / "pyramid.pt"


def test_a_torchscript_network_is_opened_only_where_it_is_trusted(script, training_cohort, tmp_path) -> None:
    settings = (*QUICK, "loss=[{name: dice_ce}, {name: perceptual, weight: 0.1}]", "features.channels=3")
    named = (*settings, f"features.torchscript={script}")
    with pytest.raises(InputError, match=r"can run any code when it is opened; .* give features.trust=true"):
        train(training_cohort, tmp_path / "run", overrides=named)
    run = train(training_cohort, tmp_path / "run", overrides=(*named, "features.trust=true", "features.outputs=2"))
    assert all(step["perceptual"] > 0 for step in terms(run.path))
    assert run.manifest["features"] == file_sha256(script)
    script.write_bytes(script.read_bytes() + b" ")
    with pytest.raises(InputError, match="cannot resume, as the network of 'features' changed"):
        train(training_cohort, tmp_path / "run", resume=True)


def test_features_of_a_run_are_those_of_its_named_layers(teacher, training_cohort, tmp_path) -> None:
    plan = teacher.network_plan
    deepest = load_features(FeaturesConfig(run=str(teacher.path)), plan, torch.device("cpu"))
    image = torch.rand(2, 1, 16, 16, requires_grad=True)
    (layer,) = deepest(image)
    assert layer.shape[:2] == (2, plan.features[-1])
    layer.sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    names = [name for name, module in teacher.network(0).named_modules() if isinstance(module, nn.Conv2d)][:2]
    two = load_features(FeaturesConfig(run=str(teacher.path), layers=tuple(names)), plan, torch.device("cpu"))
    assert len(two(image)) == 2
    with pytest.raises(InputError, match=r"features.layers: expected modules of the network of .*, got 'nothing'"):
        load_features(FeaturesConfig(run=str(teacher.path), layers=("nothing",)), plan, torch.device("cpu"))
    settings = (*QUICK, "loss=[{name: dice_ce}, {name: perceptual}]", f"features.run={teacher.path}")
    assert all(
        "perceptual" in step for step in terms(train(training_cohort, tmp_path / "run", overrides=settings).path)
    )


def test_a_network_for_other_images_and_a_file_that_is_none_are_told(script, teacher, tmp_path) -> None:
    plan, here = teacher.network_plan, torch.device("cpu")
    with pytest.raises(InputError, match=r"expected a network that takes patches of 16 x 16, got '.*; choose another"):
        load_features(FeaturesConfig(torchscript=str(script), trust=True, channels=2), plan, here)
    with pytest.raises(InputError, match=r"got '2 outputs where 3 are asked for'"):
        load_features(FeaturesConfig(torchscript=str(script), trust=True, channels=3, outputs=3), plan, here)
    (tmp_path / "other.pt").write_bytes(b"no network")
    with pytest.raises(InputError, match=r"other.pt: expected TorchScript, got '.*export it again"):
        load_features(FeaturesConfig(torchscript=str(tmp_path / "other.pt"), trust=True), plan, here)
