"""Training in which rare cases count more."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from equivox.datasets.cohort import load_cohort
from equivox.datasets.store import Store
from equivox.errors import InputError
from equivox.pipelines.run_folder import RunFolder
from equivox.pipelines.train import train
from equivox.pipelines.training import setup
from equivox.pipelines.training.batches import Batch
from equivox.pipelines.training.learner import Learner
from equivox.pipelines.training.objective import CaseFacts
from equivox.pipelines.training.rarity import (
    CaseRarity,
    _Pooled,
    case_embeddings,
    case_rarity,
    image_statistics,
    open_encoder,
    read_rarity,
)
from equivox.pipelines.training.resolve import ask, updated
from equivox.pipelines.training.world import World
from equivox.pipelines.training_config import RarityConfig, TrainingConfig

QUICK = ("steps=2", "precision=float32", "validation.every_steps=0", "batch_size=2", "augment=false")


class Head(nn.Module):
    """One convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 2, 1)

    def forward(self, image):
        return (self.head(image),)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, make_training_cohort_at) -> Path:
    """A cohort whose training cases of fold 1 (0, 2 and 4) are two women and a man, for tests that do not change it."""
    cohort = make_training_cohort_at(tmp_path_factory.mktemp("rarity") / "cohort")
    table = cohort / "cohort.csv"
    table.write_text(table.read_text().replace("label4.nii.gz,F", "label4.nii.gz,M"))
    return cohort


@pytest.fixture(scope="module")
def by_attributes(shared, tmp_path_factory) -> Path:
    """A run that goes by sex."""
    out = tmp_path_factory.mktemp("runs") / "sex"
    chosen = ("rarity.by=attributes", "rarity.attributes=sex", "rarity.gamma=1")
    train(shared, out, dims="2d", fold="1", overrides=(*QUICK, *chosen), workers=0)
    return out


def test_the_loss_of_a_case_is_multiplied_by_its_weight() -> None:
    def loss_of(cases: list[int], weights: torch.Tensor | None) -> float:
        torch.manual_seed(1)
        config = TrainingConfig(batch_size=2, precision="float32", steps=10)
        learner = Learner(
            Head(), updated(config, {"optimizer": {"lr": 1e-2}}), World(), CaseFacts(case_weights=weights)
        )
        image = torch.randn(2, 1, 6, 5, generator=torch.Generator().manual_seed(3))
        return learner.step(0, Batch(image, (image[:, 0] > 0.5).long(), torch.tensor(cases))).loss

    weights = torch.tensor([0.5, 2.0, 0.5])
    plain = loss_of([1, 1], None)
    assert loss_of([1, 1], weights) == pytest.approx(2 * plain)
    assert loss_of([0, 2], weights) == pytest.approx(plain / 2)
    first, second = loss_of([1, 0], weights), loss_of([0, 1], weights)
    assert first + second == pytest.approx(2.5 * plain)


def test_rarity_by_attributes_by_hand(shared) -> None:
    config = RarityConfig(by="attributes", attributes=("sex",), gamma=1.0)
    found = case_rarity(config, load_cohort(shared), ["c0", "c2", "c4"])
    assert found.likelihood.tolist() == [1.0, 1.0, 0.5]
    # (1 + 0) / 2, the same, (1 + 0.5) / 2: 0.5, 0.5 and 0.75, of which the mean is 7/12.
    np.testing.assert_allclose(found.weights, [6 / 7, 6 / 7, 9 / 7])


def test_rarity_is_that_among_the_training_cases_alone(shared) -> None:
    config = RarityConfig(by="embedding", neighbours=1)
    vectors = {"c0": [0.0], "c1": [50.0], "c2": [1.0], "c4": [51.0]}
    embeddings = {case: np.array(vector) for case, vector in vectors.items()}
    found = case_rarity(config, load_cohort(shared), ["c0", "c2", "c4"], embeddings)
    # Case 4 has a neighbour in case 1, which is validated and does not count.
    assert found.likelihood.tolist() == [0.75, 0.75, 0.0]
    assert found.weights[2] == found.weights.max()


def test_the_run_says_what_each_case_weighs(by_attributes) -> None:
    run = RunFolder(by_attributes)
    found = read_rarity(run.fold_folder(1))
    assert found.case_ids == ("c0", "c2", "c4")
    np.testing.assert_allclose(found.weights, [6 / 7, 6 / 7, 9 / 7], rtol=1e-15)
    card = (run.path / "MODEL_CARD.md").read_text()
    assert "Rare cases count more, by how few others share their sex: their loss is multiplied (gamma 1, eta 1)" in card
    # (3)^2 / (36 + 36 + 81) * 49 = 2.88
    assert "| 1 | 0.86 | 1.29 | 2.9 of 3 |" in card


def test_a_run_that_goes_on_keeps_its_weights(by_attributes, shared, monkeypatch) -> None:
    before = (by_attributes / "fold_1" / "rarity.csv").read_text()
    monkeypatch.setattr(setup, "case_rarity", lambda *_: pytest.fail("computed again"))
    train(shared, by_attributes, resume=True, fold="1", workers=0)
    assert (by_attributes / "fold_1" / "rarity.csv").read_text() == before
    (by_attributes / "fold_1" / "rarity.csv").write_text(before.replace("c2", "c3"))
    try:
        with pytest.raises(InputError, match=r"rarity.csv: expected the training cases, got others"):
            train(shared, by_attributes, resume=True, fold="1", workers=0)
    finally:
        (by_attributes / "fold_1" / "rarity.csv").write_text(before)


def test_cases_are_drawn_by_what_an_encoder_makes_of_them(by_attributes, shared, tmp_path, monkeypatch) -> None:
    drawn = []
    real = setup.PatchRecipe
    monkeypatch.setattr(setup, "PatchRecipe", lambda **values: drawn.append(values["case_weights"]) or real(**values))
    chosen = ("rarity.by=embedding", f"rarity.run={by_attributes}", "rarity.fold=1", "rarity.use=sampling")
    run = train(
        shared, tmp_path / "run", dims="2d", fold="1", overrides=(*QUICK, *chosen, "rarity.neighbours=1"), workers=0
    )
    found = read_rarity(run.fold_folder(1))
    assert drawn[-1] == tuple(found.weights.tolist())
    # The nearest two tie, and the third is alone.
    assert sorted(found.likelihood) == [0.0, 0.75, 0.75]
    assert len(str(run.manifest["rarity"])) == 64
    assert (
        "(to the encoder of the run `sex`): their patches are drawn more often"
        in (run.path / "MODEL_CARD.md").read_text()
    )


def test_statistics_of_an_image_by_hand() -> None:
    # One channel of 1 x 2 x 3 voxels.
    found = image_statistics(np.array([[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]], dtype=np.float32))
    np.testing.assert_allclose(found[:3], np.log([1, 2, 3]))
    np.testing.assert_allclose(found[3:5], [2.5, np.sqrt(35 / 12)])
    np.testing.assert_allclose(found[5:10], [0.25, 1.25, 2.5, 3.75, 4.75])
    # Neighbours along the axes differ by nothing (there are none), 3 and 1.
    assert found[10:].tolist() == [0.0, 3.0, 1.0]


def test_statistics_are_those_of_each_prepared_case(by_attributes, shared) -> None:
    run = RunFolder(by_attributes)
    keys = {case: run.manifest["cases"][case]["key"] for case in ("c0", "c4")}
    config, device = RarityConfig(by="embedding"), torch.device("cpu")
    found = case_embeddings(config, run.plan, shared / "store", keys, device, workers=1)
    image = np.asarray(Store(shared / "store").read(keys["c4"]).image)
    np.testing.assert_array_equal(found["c4"], image_statistics(image))
    assert not np.array_equal(found["c0"], found["c4"])
    with pytest.raises(InputError, match=r"the rarity of case c0: .*no such prepared case"):
        case_embeddings(config, run.plan, shared / "store", {"c0": "none"}, device, workers=1)


def test_an_encoder_of_other_channels_is_refused(by_attributes) -> None:
    plan = RunFolder(by_attributes).plan
    other = plan.model_copy(update={"preprocessing": plan.preprocessing.model_copy(update={"channels": ("ct",)})})
    with pytest.raises(InputError, match=r"rarity.run .*: expected the channels ct, got mr; choose another"):
        open_encoder(RarityConfig(by="embedding", run=str(by_attributes), fold=1), other)


def test_the_deepest_features_are_averaged_over_all_patches(by_attributes) -> None:
    run = RunFolder(by_attributes)
    pooled = _Pooled(run.network(1))
    few = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for part in few.split(2):
            pooled.network(part)
        together = pooled.take()
        singly = []
        for one in few:
            pooled.network(one[None])
            singly.append(pooled.take())
    np.testing.assert_allclose(together, np.mean(singly, axis=0), rtol=1e-5)


def test_a_table_comes_back_to_the_bit(tmp_path) -> None:
    written = CaseRarity(("a,b", "007"), np.array([1 / 3, np.nan]), np.array([1.1, 0.9 + 1e-16]))
    written.write(tmp_path / "fold_0")
    found = read_rarity(tmp_path / "fold_0")
    assert found.case_ids == written.case_ids
    np.testing.assert_array_equal(found.likelihood, written.likelihood)
    np.testing.assert_array_equal(found.weights, written.weights)
    (tmp_path / "fold_0" / "rarity.csv").write_text("case_id,likelihood,weight\na,1,0\n")
    with pytest.raises(InputError, match="expected weights above 0, got others"):
        read_rarity(tmp_path / "fold_0")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rarity.by=attributes"], "name attributes of the cohort under 'attributes'"),
        (["rarity.attributes=sex"], "give by 'attributes', or leave both out"),
        (["rarity.run=somewhere"], "'run' gives embeddings, and rarity goes by 'none'"),
        (["rarity.eta=0"], "expected a number greater than 0"),
        (
            [
                "rarity.by=embedding",
                "rarity.use=sampling",
                "fairness.attribute=sex",
                "fairness.method=balanced_sampling",
            ],
            "both say how often a case is drawn; give rarity.use=loss",
        ),
    ],
)
def test_rarity_that_cannot_be_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(TrainingConfig(), model=None, dims=None, max_minutes=None, overrides=tuple(overrides))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["rarity.by=attributes", "rarity.attributes=age"], "^rarity.attributes: expected attributes of the cohort"),
        (["rarity.by=embedding", "rarity.run={run}"], "^rarity.fold: expected a trained fold of .* .1., got 0"),
    ],
)
def test_what_is_not_there_is_told_before_training(shared, by_attributes, tmp_path, chosen, message) -> None:
    overrides = [*QUICK, *(each.format(run=by_attributes) for each in chosen)]
    with pytest.raises(InputError, match=message):
        train(shared, tmp_path / "run", dims="2d", fold="1", overrides=overrides, workers=0)
    assert not (tmp_path / "run").exists()
    assert "folds" in json.loads((by_attributes / "manifest.json").read_text())
