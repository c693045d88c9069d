"""Losses of single voxels: their limits, their gradients, and what they do where nothing can be said."""

import pytest
import torch

from equivox.losses.any_loss import AnyLoss, AnyLossOptions
from equivox.losses.comp_sum import CompSumLoss, CompSumOptions
from equivox.losses.context import CaseContext
from equivox.losses.label_distribution import AldrLoss, AldrOptions, LdrLoss, LdrOptions

LOSSES = {
    "comp_sum": CompSumLoss(CompSumOptions(warm_up=0.0)),
    "comp_sum over classes": CompSumLoss(CompSumOptions(tau=0.5, warm_up=0.0, mean_over="classes")),
    "ldr": LdrLoss(LdrOptions()),
    "aldr": AldrLoss(AldrOptions(alpha=3.0)),
    "f_beta": AnyLoss(AnyLossOptions(beta=2.0)),
    "balanced_accuracy": AnyLoss(AnyLossOptions(score="balanced_accuracy")),
    "g_mean": AnyLoss(AnyLossOptions(score="g_mean")),
}


def batch(classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, classes, 4, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    return logits, torch.randint(0, classes, (2, 4, 3, 2), generator=generator)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "aldr"])
def test_gradients_are_those_of_differences(name: str) -> None:
    logits, label = batch()
    assert torch.autograd.gradcheck(lambda value: LOSSES[name].per_sample(value, label, CaseContext()), logits)


@pytest.mark.parametrize("name", list(LOSSES))
def test_being_right_is_better_than_knowing_nothing_and_that_than_being_wrong(name: str) -> None:
    _, label = batch()
    right = 5.0 * torch.nn.functional.one_hot(label, 3).movedim(-1, 1).double()
    losses = [LOSSES[name].per_sample(factor * right, label, CaseContext()).mean() for factor in (1.0, 0.0, -1.0)]
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("logits", [torch.zeros(2, 3, 4, 5), torch.full((2, 3, 4, 5), 80.0).cumsum(1)])
@pytest.mark.parametrize("fill", [0, 1])
def test_flat_and_extreme_logits_and_labels_of_one_class_are_finite(name: str, logits: torch.Tensor, fill: int) -> None:
    value = logits.clone().requires_grad_()
    loss = LOSSES[name].per_sample(value, torch.full((2, 4, 5), fill), CaseContext())
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert value.grad is not None
    assert torch.isfinite(value.grad).all()


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_sample_does_not_depend_on_its_neighbours(name: str) -> None:
    logits, label = batch()
    together = LOSSES[name].per_sample(logits, label, CaseContext())
    alone = [LOSSES[name].per_sample(logits[[place]], label[[place]], CaseContext()) for place in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_tau_moves_from_cross_entropy_over_the_warm_up() -> None:
    logits, label = batch()
    loss = CompSumLoss(CompSumOptions(tau=1.8, warm_up=0.5))
    entropy = torch.nn.functional.cross_entropy(logits, label, reduction="none").flatten(1).mean(1)
    torch.testing.assert_close(loss.per_sample(logits, label, CaseContext(progress=0.0)), entropy)
    halfway = CompSumLoss(CompSumOptions(tau=1.4, warm_up=0.0)).per_sample(logits, label, CaseContext())
    torch.testing.assert_close(loss.per_sample(logits, label, CaseContext(progress=0.25)), halfway)


def test_generalised_cross_entropy_forgives_a_wrong_label() -> None:
    # One voxel in twenty is labelled wrongly and the network is sure: its share of the gradient is small.
    logits = torch.zeros(1, 2, 20)
    logits[0, 0] = 4.0
    label = torch.zeros(1, 20, dtype=torch.int64)
    label[0, 7] = 1

    def share(loss) -> float:
        value = logits.clone().requires_grad_()
        loss.per_sample(value, label, CaseContext()).sum().backward()
        size = value.grad.abs().sum(1)[0]
        return float(size[7] / size.sum())

    forgiving = share(CompSumLoss(CompSumOptions(tau=1.7, warm_up=0.0)))
    assert forgiving < 0.8 * share(CompSumLoss(CompSumOptions(tau=1.0, warm_up=0.0)))


def test_a_class_that_cannot_be_scored_is_left_out() -> None:
    logits, label = batch()
    label = torch.where(label == 2, 0, label)
    label[1] = 0
    loss = LOSSES["balanced_accuracy"].per_sample(logits, label, CaseContext()).detach()
    # Sample 1 is background alone. Of sample 0, class 2 is absent: what the logits say of it moves class 1 alone.
    assert float(loss[1]) == 0.0
    votes = torch.sigmoid(10.0 * (logits.detach().softmax(1)[0, 1] - 0.5))
    inside = label[0] == 1
    balanced = (votes[inside].mean() + (1 - votes[~inside]).mean()) / 2
    assert float(loss[0]) == pytest.approx(1 - float(balanced), abs=1e-5)
