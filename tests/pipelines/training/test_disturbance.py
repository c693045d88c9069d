"""Margins that are kept where the image is disturbed."""

import pytest
import torch
from torch import nn

from equivox.errors import InputError
from equivox.losses.margins import margin_change
from equivox.options import parse_options
from equivox.pipelines.training.batches import Batch
from equivox.pipelines.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from equivox.pipelines.training.disturbance import worst_nearby
from equivox.pipelines.training.learner import Learner
from equivox.pipelines.training.world import World
from equivox.pipelines.training_config import TrainingConfig


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Dropout(0.2), nn.Conv2d(4, 3, 1))

    def forward(self, image):
        logits = self.head(image)
        return (logits, logits[:, :, ::2]) if self.training else (logits,)


class Linear(nn.Module):
    """Class 1 gets ten times the first voxel, the background nothing."""

    def forward(self, image):
        first = torch.zeros_like(image[0])
        first[0, 0, 0] = 10
        return (torch.cat([0 * image, image * first], 1),)


def batch() -> Batch:
    image = torch.randn(3, 1, 6, 5, generator=torch.Generator().manual_seed(2))
    return Batch(image, (image[:, 0] > 0.5).long(), torch.arange(3))


def learner(**robustness: object) -> Learner:
    torch.manual_seed(5)
    values = {
        "batch_size": 3,
        "precision": "float32",
        "steps": 10,
        "optimizer": {"lr": 1e-2, "weight_decay": 0.0},
        "robustness": robustness,
    }
    return Learner(Small(), parse_options(TrainingConfig, values, "config.yaml"), World())


def test_the_search_stays_within_the_radius_and_finds_more_than_chance() -> None:
    torch.manual_seed(1)
    network, given = Small().train(), batch()
    found = worst_nearby(network, given.image, given.label, radius=0.1, steps=4)
    assert network.training
    change = (found - given.image).flatten(1)
    assert (change.square().mean(1).sqrt() <= 0.1 * (1 + 1e-5)).all()
    assert all(parameter.grad is None for parameter in network.parameters())
    network.eval()
    clean = network(given.image)[0]
    random = torch.randn_like(given.image)
    random *= 0.1 / random.flatten(1).square().mean(1).sqrt().reshape(-1, 1, 1, 1)
    by_search, by_chance = (
        margin_change(clean, network(image)[0], given.label) for image in (found, given.image + random)
    )
    assert (by_search > 1.2 * by_chance).all()


def test_the_search_of_a_linear_network_ends_at_the_one_voxel_that_counts() -> None:
    # A root mean square of .1 over 4 voxels, all of it in one: .2; the margin moves by 10 * .2 there, a quarter of that
    # in the mean.
    image, label = torch.zeros(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.int64)
    torch.manual_seed(0)
    found = worst_nearby(Linear(), image, label, radius=0.1, steps=8)
    assert abs(found[0, 0, 0, 0].item()) == pytest.approx(0.2, rel=0.01)
    change = margin_change(Linear()(image)[0], Linear()(found)[0], label)
    assert change.item() == pytest.approx(0.5, rel=0.01)


def test_margins_that_move_together_cost_nothing() -> None:
    logits, label = torch.randn(2, 3, 4), torch.randint(0, 3, (2, 4))
    torch.testing.assert_close(margin_change(logits, logits + 7, label), torch.zeros(2), atol=1e-5, rtol=0)


def test_the_slope_of_the_change_is_that_of_differences() -> None:
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    other, label = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True), torch.randint(0, 3, (2, 4))
    assert torch.autograd.gradcheck(lambda one, two: margin_change(one, two, label), (logits, other))
    flat = torch.zeros(1, 2, 3, requires_grad=True)
    margin_change(flat, flat.detach(), torch.zeros(1, 3, dtype=torch.int64)).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_a_step_adds_the_change_of_margins_once_it_counts() -> None:
    one = learner(weight=0.5, start_after=0.5)
    early, late = one.step(4, batch()), one.step(5, batch())
    assert early.terms.keys() == {"dice_ce"}
    assert late.loss == pytest.approx(late.terms["dice_ce"] + 0.5 * late.terms["robustness"], rel=1e-5)
    assert late.terms["robustness"] > 0


def test_training_for_it_makes_margins_move_less() -> None:
    given, changes = batch(), []
    for weight in (0.0, 5.0):
        one = learner(weight=weight, start_after=0.0, radius=0.2)
        for step in range(10):
            one.step(step, given)
        network = one.network.eval()
        torch.manual_seed(0)
        found = worst_nearby(network, given.image, given.label, radius=0.2, steps=3)
        changes.append(margin_change(network(given.image)[0], network(found)[0], given.label).mean().item())
    assert changes[1] < 0.9 * changes[0]


def test_a_checkpoint_brings_everything_back_to_the_bit(tmp_path) -> None:
    first, second = learner(weight=0.5, start_after=0.0), learner(weight=0.5, start_after=0.0)
    for step in range(2):
        first.step(step, batch())
    save_checkpoint(tmp_path, first, Progress(2))
    load_checkpoint(tmp_path, second)
    assert first.step(2, batch()) == second.step(2, batch())
    for mine, theirs in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_an_adversary_of_groups_and_disturbed_patches_exclude_each_other() -> None:
    values = {"robustness": {"weight": 1.0}, "fairness": {"attribute": "sex", "method": "adversarial"}}
    with pytest.raises(InputError, match=r"twice as many patches, .* leave one of them out"):
        parse_options(TrainingConfig, values, "config.yaml")
