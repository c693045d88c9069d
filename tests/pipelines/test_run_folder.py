import pytest
import torch

from equivox.datasets.cohort import ChannelConfig, CohortConfig
from equivox.datasets.plan import IntensityPlan, NetworkPlan, Plan, PreprocessingPlan
from equivox.errors import InputError
from equivox.options import save_options
from equivox.pipelines.run_folder import RunFolder, write_weights
from equivox.pipelines.training.config import TrainingConfig


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
