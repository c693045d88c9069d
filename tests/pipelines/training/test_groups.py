"""Training that looks after groups of patients."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from equivox.datasets.cohort import load_cohort
from equivox.errors import InputError
from equivox.pipelines.train import train
from equivox.pipelines.training.batches import Batch
from equivox.pipelines.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from equivox.pipelines.training.groups import TrainingGroups, training_groups
from equivox.pipelines.training.learner import Learner
from equivox.pipelines.training.objective import CaseFacts
from equivox.pipelines.training.resolve import ask, updated
from equivox.pipelines.training.world import World
from equivox.pipelines.training_config import FairnessConfig, TrainingConfig

GROUPS = TrainingGroups(("F", "M"), torch.tensor([0, 0, 0, 1, -1]))


class Small(nn.Module):
    """A convolution whose first half counts as the bottleneck."""

    bottleneck = "deep"

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv2d(1, 3, 3, padding=1)
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, image):
        return (self.head(self.deep(image).relu()),)


def learner(method: str, **options: object) -> Learner:
    optimizer = {"lr": 1e-2, "weight_decay": 1e-2}
    base = updated(TrainingConfig(batch_size=4, precision="float32", steps=10), {"optimizer": optimizer})
    fairness = FairnessConfig(attribute=("sex",), method=method, **options)  # type: ignore[arg-type]
    torch.manual_seed(5)
    return Learner(Small(), updated(base, {"fairness": fairness}), World(), CaseFacts(GROUPS, None, 3))


def batch(cases: list[int]) -> Batch:
    image = torch.randn(len(cases), 1, 8, 6, generator=torch.Generator().manual_seed(sum(cases)))
    return Batch(image, (image[:, 0] > 0.5).long(), torch.tensor(cases))


@pytest.mark.parametrize("method", ["none", "inverse_frequency", "group_dro", "febs_corrected", "adversarial"])
def test_every_method_follows_the_groups_and_goes_on_where_it_was_saved(tmp_path: Path, method: str) -> None:
    first = learner(method)
    for step, cases in enumerate(([0, 3], [1, 2], [3, 4], [0, 1])):
        result = first.step(step, batch(cases))
    assert set(result.groups) == {"F", "M"}
    save_checkpoint(tmp_path, first, Progress(4))
    second = learner(method)
    load_checkpoint(tmp_path, second)
    for one in (first, second):
        last = one.step(4, batch([0, 3]))
    assert last.groups == first.objective.group_errors() == second.objective.group_errors()
    for mine, theirs in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_rare_group_counts_more_where_groups_count_alike() -> None:
    # F is 3 of 4 known cases: weights (4/3, 4) over their mean 2.
    for case, weight in ((0, 2 / 3), (3, 2.0)):
        plain, weighed = (learner(method).step(0, batch([case, case])).loss for method in ("none", "inverse_frequency"))
        assert weighed == pytest.approx(weight * plain, rel=1e-5)


def test_an_unknown_group_keeps_its_weight() -> None:
    losses = [learner(method).step(0, batch([4, 4])).loss for method in ("none", "inverse_frequency")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_an_adversary_turns_the_gradient_of_the_deepest_features_round() -> None:
    # At the start its strength is 0: the network learns as without it, and the classifier learns alone.
    plain, watched = learner("none"), learner("adversarial")
    before = [parameter.clone() for parameter in watched.objective.parameters()]
    one, other = plain.step(0, batch([0, 3])), watched.step(0, batch([0, 3]))
    # Two of the batch's four samples, each about log 2.
    assert other.terms["adversary"] == pytest.approx(0.35, abs=0.1)
    assert one.groups == other.groups
    torch.testing.assert_close(plain.network.deep.weight, watched.network.deep.weight)
    assert any(not torch.equal(old, new) for old, new in zip(before, watched.objective.parameters(), strict=True))
    for each in (plain, watched):
        each.step(8, batch([0, 3]))
    assert not torch.equal(plain.network.deep.weight, watched.network.deep.weight)


def test_balanced_cases_by_hand() -> None:
    # 4 of 5 cases have a known group: each group gets 2/5, F's three cases 2/15 each; the unknown one keeps 1/5.
    assert GROUPS.balanced() == pytest.approx((2 / 15, 2 / 15, 2 / 15, 2 / 5, 1 / 5))


def with_groups(cohort: Path, column: str) -> Path:
    """Give the training cases of fold 0 (1 and 3) and of fold 1 (0, 2 and 4) other groups."""
    table = cohort / "cohort.csv"
    head, *rows = table.read_text().splitlines()
    cells = [row.rsplit(",", 1)[0] + f",{value}" for row, value in zip(rows, column.split(), strict=True)]
    table.write_text("\n".join([head, *cells]) + "\n")
    return cohort


def test_groups_are_those_of_the_training_cases(training_cohort: Path) -> None:
    cohort = load_cohort(with_groups(training_cohort, "F F M M unknown F"))
    groups = training_groups(cohort, ["sex"], ["c4", "c3", "c1"])
    assert groups.names == ("female", "male")
    assert groups.of_case.tolist() == [-1, 1, 0]
    both = training_groups(cohort, ["sex", "sex"], ["c3", "c1"])
    assert both.names == ("female and female", "male and male")


@pytest.mark.parametrize(
    ("column", "attribute", "message"),
    [
        ("F F M M F F", "age", "expected attributes of the cohort .sex., got 'age'"),
        ("F F F F F M", "sex", "expected two or more groups of training cases, got 1"),
    ],
)
def test_groups_that_there_are_not_are_told_before_training(
    training_cohort: Path, tmp_path: Path, column: str, attribute: str, message: str
) -> None:
    with_groups(training_cohort, column)
    with pytest.raises(InputError, match=message):
        train(training_cohort, tmp_path / "run", dims="2d", overrides=[f"fairness.attribute={attribute}", "steps=2"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["balanced_sampling", "febs_published"])
def test_a_run_logs_the_loss_of_each_group_and_term(training_cohort: Path, tmp_path: Path, method: str) -> None:
    with_groups(training_cohort, "F F M M F F")
    chosen = ["fairness.attribute=sex", f"fairness.method={method}", "steps=3", "precision=float32", "batch_size=2"]
    run = train(
        training_cohort, tmp_path / "run", dims="2d", overrides=[*chosen, "validation.every_steps=0"], workers=0
    )
    lines = [json.loads(line) for line in (run.path / "fold_0" / "metrics.jsonl").read_text().splitlines()]
    assert set(lines[-1]["group_loss"]) == {"female", "male"}
    name = "febs_published" if method == "febs_published" else "dice_ce"
    assert list(lines[-1]["loss_terms"]) == [name]
    assert f"`{name}`" in (run.path / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fairness.method=group_dro"], "needs groups; name an attribute"),
        (["fairness.method=fair"], "expected 'none'"),
        (["fairness.attribute=sex", "fairness.clip=[1.5, 2]"], "two numbers around 1"),
        (["loss=febs_published"], "a term of the loss needs groups"),
        (
            ["fairness.attribute=sex", "fairness.method=febs_published", "loss=[{name: mip}]"],
            "trains with its own loss alone",
        ),
    ],
)
def test_fairness_that_cannot_be_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(TrainingConfig(), model=None, dims=None, max_minutes=None, overrides=tuple(overrides))
