"""Weights of terms that are learned."""

import math

import pytest
import torch
from torch import nn

from equivox.errors import InputError
from equivox.losses.catalog import LOSSES, build_term
from equivox.losses.combined import CombinedLoss, LossValues, Term
from equivox.losses.context import CaseContext
from equivox.losses.deep_supervision import DeepSupervisionLoss
from equivox.losses.term_weights import TermWeights
from equivox.losses.uu_mamba_published import UUMambaPublishedLoss, UUMambaPublishedOptions, weighed_by_sigma
from equivox.options import parse_options
from equivox.pipelines.training_config import TrainingConfig


class Fixed(nn.Module):
    """A loss that is the same for every sample but for the last, which costs nothing."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def per_sample(self, logits, label, context):
        return self.value * torch.tensor([1.0, 0.0]) + 0 * logits.flatten(1).sum(1)


def combined(*values: float, **schedule: float) -> CombinedLoss:
    terms = [
        Term(str(place), DeepSupervisionLoss(Fixed(value)), **(schedule if place else {}))
        for place, value in enumerate(values)
    ]
    return CombinedLoss(terms, "uncertainty")


def ask(loss: CombinedLoss, progress: float = 0.0) -> LossValues:
    outputs = [torch.zeros(2, 2, 3, requires_grad=True)]
    return loss.per_sample(outputs, torch.zeros(2, 3, dtype=torch.int64), CaseContext(progress=progress))


def test_each_term_is_weighed_by_half_its_precision() -> None:
    loss = combined(3.0, 5.0)
    assert loss.weights is not None
    with torch.no_grad():
        loss.weights.log_variance.copy_(torch.tensor([0.0, math.log(4)]))
    values = ask(loss)
    # 3 / 2 + 5 / 8 for the first sample, and log 2 + log 5 once
    torch.testing.assert_close(values.total, torch.tensor([2.125, 0.0]))
    assert values.penalty.item() == pytest.approx(math.log(10))
    assert {name: float(factor) for name, factor in values.learned.items()} == pytest.approx({"0": 0.5, "1": 0.125})


def test_the_learned_factor_settles_where_the_slope_is_zero() -> None:
    # d/ds: -exp(-s) L / 2 + 1 / (1 + exp(-s)) = 0, so with u = exp(s): u^2 = (1 + u) L / 2; for L = 4: u = 1 + sqrt(3)
    loss = combined(4.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        values = ask(loss)
        (values.total[0] + values.penalty).backward()
        optimizer.step()
    assert loss.weights is not None
    assert loss.weights.log_variance.exp().item() == pytest.approx(1 + math.sqrt(3), rel=1e-4)


@pytest.mark.parametrize("far", [-9.0, 9.0])
def test_a_factor_that_was_moved_out_of_bounds_can_come_back(far: float) -> None:
    loss = combined(1e-6 if far > 0 else 1e6)
    assert loss.weights is not None
    with torch.no_grad():
        loss.weights.log_variance.fill_(far)
    values = ask(loss)
    (values.total[0] + values.penalty).backward()
    assert loss.weights.log_variance.item() == math.copysign(4.0, far)
    gradient = loss.weights.log_variance.grad
    assert gradient is not None
    assert math.copysign(1.0, float(gradient)) == math.copysign(1.0, far)  # a step against it goes back


def test_a_term_that_does_not_count_yet_learns_nothing() -> None:
    loss = combined(1.0, 1.0, start_after=0.5, ramp=0.2)
    assert loss.weights is not None
    early = ask(loss, 0.4)
    assert early.learned.keys() == {"0"}
    (early.total.mean() + early.penalty).backward()
    gradient = loss.weights.log_variance.grad
    assert gradient is not None
    assert float(gradient[1]) == 0
    # Half way up its penalty counts by half, as the term itself does.
    assert ask(loss, 0.6).penalty.item() == pytest.approx(1.5 * math.log(2))


def test_fixed_weights_have_no_parameters_and_no_penalty() -> None:
    loss = CombinedLoss([build_term("dice_ce", {})])
    assert list(loss.parameters()) == []
    assert ask(loss).penalty.item() == 0


@pytest.mark.parametrize("name", [name for name, entry in LOSSES.items() if entry.can_be_negative])
def test_terms_that_can_be_negative_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"needs terms that are never negative, and {name} can be"):
        parse_options(TrainingConfig, {"loss": name, "loss_weighting": "uncertainty"}, "config.yaml")


KNOWN = {"group", "teacher", "features"}
"""What the next test tells the losses."""


@pytest.mark.parametrize(
    "name", [name for name, entry in LOSSES.items() if not entry.can_be_negative and {*entry.needs} <= KNOWN]
)
def test_no_other_term_of_the_table_is_negative(name: str) -> None:
    generator = torch.Generator().manual_seed(7)
    label = torch.randint(0, 3, (2, 6, 5), generator=generator)
    sure = 20 * torch.nn.functional.one_hot(label, 3).movedim(-1, 1).float()
    context = CaseContext(
        torch.tensor([0, 1]),
        group=torch.tensor([0, 1]),
        groups=2,
        teacher=torch.randn(2, 3, 6, 5, generator=generator),
        features=lambda image: [image],
    )
    for logits in (sure, -sure, torch.randn(2, 3, 6, 5, generator=generator), torch.zeros(2, 3, 6, 5)):
        assert (build_term(name, {}).loss.per_sample([logits], label, context) >= -1e-6).all()


def test_a_learned_factor_stays_finite_with_a_term_of_zero() -> None:
    weights = TermWeights(1)
    (weights.factors() * 0.0 + weights.penalties()).sum().backward()
    assert torch.isfinite(weights.log_variance.grad).all()


def test_the_released_weighing_falls_without_bound_with_a_negative_term() -> None:
    sigmas = torch.tensor([[1.0, 0.1, 0.01]])
    # -0.5 / (2 * 1e-4) = -2500
    values = weighed_by_sigma(torch.full((1, 3), -0.5), sigmas)
    assert values[0] > values[1] > values[2]
    assert float(values[2]) == pytest.approx(-2500, rel=1e-3)


def test_the_released_loss_has_a_sigma_a_part_and_is_lower_for_a_right_prediction() -> None:
    loss = UUMambaPublishedLoss(UUMambaPublishedOptions())
    assert [tuple(parameter.shape) for parameter in loss.parameters()] == [(3,)]
    label = torch.tensor([[[0, 1, 1], [0, 0, 2]], [[0, 0, 0], [0, 0, 0]]])
    right = 8 * torch.nn.functional.one_hot(label, 3).movedim(-1, 1).float()
    good, bad = (loss.per_sample(logits, label, CaseContext()) for logits in (right, -right))
    assert (good < bad).all()
    assert torch.isfinite(loss.per_sample(0 * right, label, CaseContext())).all()
