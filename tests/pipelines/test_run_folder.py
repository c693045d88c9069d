import errno
import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from equivox.datasets.cohort import ChannelConfig, CohortConfig
from equivox.datasets.plan import IntensityPlan, NetworkPlan, Plan, PreprocessingPlan
from equivox.errors import InputError
from equivox.options import save_options
from equivox.pipelines.run_folder import HASHED, RunFolder, read_tensors, write_tensors, write_weights
from equivox.pipelines.training.manifest import write_manifest
from equivox.pipelines.training_config import TrainingConfig


@pytest.fixture
def folder(tmp_path):
    network = NetworkPlan(
        dimensions=2,
        patch_size=(16, 16),
        batch_size=2,
        features=(4, 4, 4),
        strides=((1, 1), (2, 2), (2, 2)),
        memory_mib=10,
    )
    preprocessing = PreprocessingPlan(
        channels=("mr",), intensity={"mr": IntensityPlan(scheme="standardise")}, resample_channels={"mr": "same_grid"}
    )
    plan = Plan(cohort="toy", classes={"ball": 1}, preprocessing=preprocessing, networks={"2d": network})
    cohort = CohortConfig(
        name="toy", channels={"mr": ChannelConfig()}, classes={"ball": 1}, label_values={0: "background", 1: "ball"}
    )
    save_options(plan, tmp_path / "plan.yaml")
    save_options(cohort, tmp_path / "cohort.yaml")
    save_options(TrainingConfig(dims="2d"), tmp_path / "config.yaml")
    (tmp_path / "split.csv").write_text("case_id,patient_id,fold\n001,p1,0\nb,p2,1\nNA,p3,test\n")
    return tmp_path


def test_everything_comes_back_as_it_was_written(folder) -> None:
    run = RunFolder(folder)
    assert run.config.model.options["upsample"] == "deconv"
    assert run.network_plan.patch_size == (16, 16)
    assert run.cohort_config.name == "toy"
    assert run.split == {"001": 0, "b": 1, "NA": "test"}
    assert run.folds == ()


def test_a_trained_fold_gives_its_network_in_eval_mode(folder) -> None:
    run = RunFolder(folder)
    trained = run.build_network()
    write_weights(trained, run.fold_folder(3) / "model.safetensors", {"step": "5"})
    assert run.folds == (3,)
    network = run.network(3)
    assert not network.training
    image = torch.randn(1, 1, 16, 32)
    outputs = network(image)
    assert len(outputs) == 1
    assert torch.equal(outputs[0], trained.eval()(image)[0])


def test_a_fold_that_is_not_trained_is_named(folder) -> None:
    with pytest.raises(InputError, match=r"fold_1/model.safetensors: expected the weights of fold 1, got no file"):
        RunFolder(folder).network(1)


def test_a_folder_that_is_no_run_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"expected a run folder with config.yaml"):
        RunFolder(tmp_path)


def test_damaged_weights_are_named(folder) -> None:
    (folder / "fold_0").mkdir()
    (folder / "fold_0" / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"model.safetensors: expected safetensors, got a damaged file"):
        RunFolder(folder).network(0)


def test_weights_of_another_network_are_refused(folder) -> None:
    run = RunFolder(folder)
    write_weights(torch.nn.Linear(2, 2), run.fold_folder(0) / "model.safetensors", {})
    with pytest.raises(InputError, match=r"is config.yaml or plan.yaml from another run"):
        run.network(0)


def test_damaged_weights_are_not_put_down_to_another_run(folder) -> None:
    run = RunFolder(folder)
    path = run.fold_folder(0) / "model.safetensors"
    write_weights(run.build_network(), path, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"got a damaged file \(.*\); copy it again$"):
        run.network(0)


def test_weights_that_changed_since_the_training_are_refused(folder) -> None:
    run = RunFolder(folder)
    path = run.fold_folder(0) / "model.safetensors"
    write_weights(run.build_network(), path, {})
    whole = path.read_bytes()
    write_manifest(folder, MANIFEST | {"folds": {"0": {"weights_sha256": hashlib.sha256(whole).hexdigest()}}})
    RunFolder(folder).network(0)
    # One bit of one number: still safetensors, still the same shapes.
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"model.safetensors: expected the weights as the training wrote them"):
        RunFolder(folder).network(0)


def test_tensors_that_are_gone_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"ema.safetensors: expected safetensors, got no file; copy it again"):
        read_tensors(tmp_path / "ema.safetensors")


def test_a_folder_that_is_named_like_a_fold_is_none(folder) -> None:
    run = RunFolder(folder)
    for name in ("fold_0", "fold_0 (copy)"):
        write_weights(torch.nn.Linear(2, 2), folder / name / "model.safetensors", {})
    (folder / "fold_1" / "model.safetensors").mkdir(parents=True)
    assert run.folds == (0,)


MANIFEST = {"asked": {}, "hashes": {}, "cases": {}, "folds": {}}


@pytest.mark.parametrize("name", HASHED)
def test_a_file_that_is_not_as_the_training_wrote_it_is_named(folder, name) -> None:
    write_manifest(folder, MANIFEST)
    RunFolder(folder).require_unchanged()
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-4])
    with pytest.raises(InputError, match=rf"{name}: expected the file as the training wrote it.*; copy the run again"):
        RunFolder(folder).require_unchanged()


def test_a_file_that_is_gone_is_named(folder) -> None:
    write_manifest(folder, MANIFEST)
    (folder / "split.csv").unlink()
    with pytest.raises(InputError, match=r"split.csv: .*, got another or none; copy the run again"):
        RunFolder(folder).require_unchanged()


def test_a_run_without_a_manifest_is_used_with_a_warning(folder, caplog) -> None:
    RunFolder(folder).require_unchanged()
    assert "there is no manifest.json, so nobody can tell whether the run is whole" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"asked": {', r"expected JSON, got Expecting .*; copy the run again"),
        (b"\xff\xfe", r"expected JSON, got 'utf-8' codec .*; copy the run again"),
        (b"[1]", r"expected the manifest of a run, got other JSON; copy the run again"),
        (b'{"asked": {}, "hashes": {}}', r"expected the manifest of a run, got other JSON; copy"),
        (b'{"asked": {}, "hashes": {}, "cases": {}, "folds": {"0": 5}}', r"expected the manifest of a run, got other"),
        (b'{"asked": 1, "hashes": 1, "cases": 1, "folds": 1}', r"expected the manifest of a run, got other JSON"),
    ],
)
def test_a_damaged_manifest_is_named(folder, content, message) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match="manifest.json: " + message):
        RunFolder(folder).require_unchanged()


@pytest.mark.parametrize("table", ["case_id,patient_id,fold\na,p,\n", "case_id,patient_id\na,p\n"])
def test_a_split_without_folds_is_named(folder, table) -> None:
    (folder / "split.csv").write_text(table)
    with pytest.raises(InputError, match=r"split.csv: expected a fold or 'test' for each case_id, got .*; copy the"):
        _ = RunFolder(folder).split


def test_weights_on_a_full_disk_are_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_, **__) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("equivox.pipelines.run_folder.save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_tensors({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
