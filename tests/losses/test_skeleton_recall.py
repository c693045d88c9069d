"""Skeleton recall: by hand, with classes that have no tube, and over a shared batch."""

import pytest
import torch

from equivox.losses.context import CaseContext
from equivox.losses.skeleton_recall import SkeletonRecallLoss, SkeletonRecallOptions


def loss_of(logits: torch.Tensor, tube: torch.Tensor, total=None, **options) -> torch.Tensor:
    context = CaseContext(skeleton=tube) if total is None else CaseContext(skeleton=tube, sum_over_processes=total)
    return SkeletonRecallLoss(SkeletonRecallOptions(**options)).per_sample(logits, tube, context)


def example() -> tuple[torch.Tensor, torch.Tensor]:
    """Two samples of four voxels, three classes: probabilities 1/2 of the tube's class on all, and 3/4 in the second.

    The first has tubes of one voxel of class 1 and two of class 2, the second three of class 1.
    """
    tube = torch.tensor([[1, 2, 2, 0], [1, 1, 1, 0]])
    share = torch.tensor([0.5, 0.75], dtype=torch.float64).reshape(2, 1, 1)
    hit = torch.nn.functional.one_hot(tube, 3).movedim(-1, 1).double()
    return torch.log(hit * share + (1 - hit) * (1 - share) / 2), tube


def test_recall_by_hand_with_the_absent_class_left_out() -> None:
    # 1/2 missed of both classes; 1/4 of class 1, and class 2 has no tube.
    logits, tube = example()
    wanted = torch.tensor([0.5, 0.25], dtype=torch.float64)
    torch.testing.assert_close(loss_of(logits, tube), wanted, rtol=0, atol=1e-4)
    # The released form counts class 2 as found.
    torch.testing.assert_close(loss_of(logits, tube, absent="published")[1], wanted[1] / 2, rtol=0, atol=1e-4)


def test_recall_over_the_batch_by_hand() -> None:
    # Class 1: (0.5 + 2.25) / 4 found, class 2: 1 / 2.
    logits, tube = example()
    wanted = ((1 - 2.75 / 4) + (1 - 1 / 2)) / 2
    assert float(loss_of(logits, tube, over="batch").mean()) == pytest.approx(wanted, abs=1e-4)


def test_processes_that_share_a_batch_get_its_recall(shared) -> None:
    logits, tube = example()
    whole = loss_of(logits, tube, over="batch")
    parts = shared(
        [lambda total, place=place: loss_of(logits[[place]], tube[[place]], total, over="batch") for place in range(2)]
    )
    torch.testing.assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize("over", ["sample", "batch"])
@pytest.mark.parametrize("absent", ["masked", "published"])
def test_a_sample_without_a_tube_costs_nothing_and_has_no_gradient(over: str, absent: str) -> None:
    logits = torch.randn(2, 3, 5, 3, 1, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    loss = loss_of(logits, torch.zeros(2, 5, 3, 1, dtype=torch.int64), over=over, absent=absent)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.zeros(2), rtol=0, atol=1e-6)
    assert not logits.grad.any()


@pytest.mark.parametrize("over", ["sample", "batch"])
def test_a_perfect_prediction_costs_nothing_and_gradients_are_those_of_differences(over: str) -> None:
    generator = torch.Generator().manual_seed(2)
    tube = torch.randint(0, 3, (2, 3, 4, 2), generator=generator)
    perfect = 60.0 * torch.nn.functional.one_hot(tube, 3).movedim(-1, 1).double()
    torch.testing.assert_close(loss_of(perfect, tube, over=over), torch.zeros(2).double(), rtol=0, atol=1e-9)
    logits = torch.randn(2, 3, 3, 4, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    # Over the batch, the mean alone is a plain function: each share has a gradient in its own sample.
    assert torch.autograd.gradcheck(lambda value: loss_of(value, tube, over=over).mean(), logits)


def test_what_is_missing_is_told() -> None:
    loss, logits = SkeletonRecallLoss(SkeletonRecallOptions()), torch.zeros(1, 2, 4, 4)
    label = torch.zeros(1, 4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="expected the tubes round the labels' centrelines, got none"):
        loss.per_sample(logits, label, CaseContext())
    with pytest.raises(ValueError, match=r"expected tubes of the labels' shape \(1, 4, 4\), got \(1, 3, 4\)"):
        loss.per_sample(logits, label, CaseContext(skeleton=label[:, :3]))
