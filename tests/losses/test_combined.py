"""Terms of a loss: their sum, their schedules, and what each costs."""

import pytest
import torch
from torch import nn

from equivox.losses.combined import CombinedLoss, Term
from equivox.losses.context import CaseContext
from equivox.losses.deep_supervision import DeepSupervisionLoss


class Scaled(nn.Module):
    """The mean of the logits times a factor of its own; counts how often it is asked."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.asked = 0

    def per_sample(self, logits, label, context):
        self.asked += 1
        return self.factor * logits.flatten(1).mean(1)


def term(name: str, factor: float, **schedule: float) -> Term:
    return Term(name, DeepSupervisionLoss(Scaled(factor)), **schedule)


def batch() -> tuple[list[torch.Tensor], torch.Tensor]:
    """Two samples whose logits are 1 and 3 everywhere."""
    logits = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 2, 4, 3).clone().requires_grad_()
    return [logits], torch.zeros(2, 4, 3, dtype=torch.int64)


def test_the_sum_is_weighted_and_each_term_is_told_apart() -> None:
    loss = CombinedLoss([term("one", 2.0), term("other", 10.0, weight=0.3)])
    values = loss.per_sample(*batch(), CaseContext())
    # 2 * 1 + 0.3 * 10 * 1 = 5, and three times that
    torch.testing.assert_close(values.total, torch.tensor([5.0, 15.0]))
    torch.testing.assert_close(values.terms["one"], torch.tensor([2.0, 6.0]))
    torch.testing.assert_close(values.terms["other"], torch.tensor([10.0, 30.0]))
    assert not values.terms["one"].requires_grad


def test_a_term_that_does_not_count_yet_is_not_computed() -> None:
    late = term("late", 1.0, weight=4.0, start_after=0.5, ramp=0.2)
    loss = CombinedLoss([term("one", 1.0), late])
    early = loss.per_sample(*batch(), CaseContext(progress=0.49))
    assert late.loss.loss.asked == 0
    assert set(early.terms) == {"one"}
    # at .6 it is halfway up: 1 + 2
    torch.testing.assert_close(loss.per_sample(*batch(), CaseContext(progress=0.6)).total, torch.tensor([3.0, 9.0]))
    torch.testing.assert_close(loss.per_sample(*batch(), CaseContext(progress=0.9)).total, torch.tensor([5.0, 15.0]))


def test_a_step_before_every_term_has_a_gradient_of_zero() -> None:
    outputs, label = batch()
    values = CombinedLoss([term("late", 1.0, start_after=0.5)]).per_sample(outputs, label, CaseContext(progress=0.1))
    values.total.sum().backward()
    assert values.terms == {}
    assert outputs[0].grad is not None
    assert not outputs[0].grad.any()


def test_parameters_of_terms_are_trained_and_saved() -> None:
    loss = CombinedLoss([term("one", 2.0), term("other.two", 10.0)])
    assert sorted(loss.state_dict()) == ["losses.one.factor", "losses.other_two.factor"]
    loss.per_sample(*batch(), CaseContext()).total.mean().backward()
    assert all(parameter.grad == pytest.approx(2.0) for parameter in loss.parameters())


def test_a_loss_of_the_first_head_leaves_the_coarser_ones_out() -> None:
    outputs, label = batch()
    coarse = torch.zeros(2, 2, 2, 1, requires_grad=True)
    loss = CombinedLoss([Term("one", DeepSupervisionLoss(Scaled(1.0), first_alone=True))])
    total = loss.per_sample([*outputs, coarse], label, CaseContext()).total
    torch.testing.assert_close(total, torch.tensor([1.0, 3.0]))
    total.sum().backward()
    assert coarse.grad is None


def test_a_term_that_counts_at_every_so_many_steps_is_left_out_at_the_others_and_weighs_no_more() -> None:
    rare = term("rare", 1.0, weight=4.0, every=3)
    loss = CombinedLoss([term("one", 1.0), rare])
    for step in range(7):
        values = loss.per_sample(*batch(), CaseContext(step=step))
        counts = step in (0, 3, 6)
        torch.testing.assert_close(values.total, torch.tensor([5.0, 15.0]) if counts else torch.tensor([1.0, 3.0]))
        assert set(values.terms) == ({"one", "rare"} if counts else {"one"})
    assert rare.loss.loss.asked == 3
