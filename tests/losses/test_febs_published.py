"""The released fair error-bound scaling, with what follows from it."""

import math

import pytest
import torch

from equivox.losses.context import CaseContext
from equivox.losses.febs_published import FebsPublishedLoss, FebsPublishedOptions


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Six samples of three groups: group 0 is segmented well, group 2 is not."""
    generator = torch.Generator().manual_seed(3)
    label = torch.randint(0, 3, (6, 6, 5), generator=generator)
    group = torch.tensor([0, 1, 2, 0, 1, 2])
    sure = torch.tensor([4.0, 1.5, 0.2])[group][:, None, None, None]
    logits = torch.nn.functional.one_hot(label, 3).movedim(-1, 1).double() * sure
    return logits.requires_grad_(), label, group


def loss_of(logits, label, group, **options) -> torch.Tensor:
    loss = FebsPublishedLoss(FebsPublishedOptions(ce_weight=0.0, febs_weight=1.0, **options))
    return loss.per_sample(logits, label, CaseContext(group=group, groups=3))


def test_equal_groups_are_scaled_all_the_same() -> None:
    logits = torch.zeros(3, 2, 4, 4, dtype=torch.float64)
    label = torch.zeros(3, 4, 4, dtype=torch.int64)
    label[:, 0] = 1
    # p = w / 2, w = tanh 1; 48 voxels, 12 of class 1: D_1 = 1 - w * 12 / (48 w^2 / 4 + 12), D_0 likewise with 36.
    w = math.tanh(1.0)
    expected = sum(1 - w * n / (12 * w * w + n) for n in (12, 36)) / 2
    found = loss_of(logits, label, torch.tensor([0, 1, 2]))
    assert float(found.detach().mean()) == pytest.approx(expected, abs=1e-6)


def test_the_hardest_group_has_the_smallest_gradient() -> None:
    logits, label, group = batch()
    loss_of(logits, label, group).mean().backward()
    scaled = [float(logits.grad[group == index].abs().sum()) for index in range(3)]
    logits.grad = None
    loss_of(logits, label, group, gamma=0.0).mean().backward()
    plain = [float(logits.grad[group == index].abs().sum()) for index in range(3)]
    ratios = [one / other for one, other in zip(scaled, plain, strict=True)]
    assert ratios[0] > ratios[1] > ratios[2]


def test_a_batch_without_a_group_has_no_gradient() -> None:
    logits, label, _ = batch()
    found = loss_of(logits, label, torch.tensor([0, 1, 0, 0, 1, 1]))
    found.mean().backward()
    assert float(found.detach().mean()) == pytest.approx(1.0, abs=1e-5)
    assert not logits.grad.any()


def test_two_processes_share_one_scaled_dice(shared) -> None:
    logits, label, group = batch()
    loss = FebsPublishedLoss(FebsPublishedOptions())

    def part(rows: slice):
        return lambda add: loss.per_sample(
            logits[rows], label[rows], CaseContext(group=group[rows], groups=3, sum_over_processes=add)
        )

    whole = loss.per_sample(logits, label, CaseContext(group=group, groups=3))
    torch.testing.assert_close(torch.cat(shared([part(slice(0, 2)), part(slice(2, 6))])), whole)


def test_groups_are_needed() -> None:
    logits, label, _ = batch()
    with pytest.raises(ValueError, match="name an attribute under 'fairness'"):
        FebsPublishedLoss(FebsPublishedOptions()).per_sample(logits, label, CaseContext())
