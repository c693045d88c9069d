"""Soft skeletons and clDice: by hand, and against MONAI."""

import pytest
import torch
from monai.losses import SoftclDiceLoss
from monai.losses.cldice import soft_skel

from equivox.losses.cldice import ClDiceLoss, ClDiceOptions, centreline_shares
from equivox.losses.context import CaseContext
from equivox.losses.soft_skeleton import soft_skeleton


def sure(label: torch.Tensor, classes: int = 2) -> torch.Tensor:
    return 60.0 * torch.nn.functional.one_hot(label, classes).movedim(-1, 1).float()


def loss_of(logits: torch.Tensor, label: torch.Tensor, **options) -> torch.Tensor:
    return ClDiceLoss(ClDiceOptions(**options)).per_sample(logits, label, CaseContext())


def vessels() -> torch.Tensor:
    """Two lines of 6 and 4 voxels, of classes 1 and 2, in a volume of 7 x 5 x 3."""
    label = torch.zeros(1, 7, 5, 3, dtype=torch.int64)
    label[0, :6, 1, 1] = 1
    label[0, 2:6, 3, 1] = 2
    return label


@pytest.mark.parametrize("shape", [(9, 6), (7, 5, 6), (1, 4), (1, 1, 1), (2, 1, 3)])
@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_the_soft_skeleton_and_its_gradient_are_monais(shape: tuple[int, ...], iterations: int) -> None:
    generator = torch.Generator().manual_seed(1)
    volume = torch.rand(2, 2, *shape, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.rand(2, 2, *shape, dtype=torch.float64, generator=generator)
    found = soft_skeleton(volume, iterations)
    wanted = soft_skel(volume, iterations)
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad((skeleton * weight).sum(), volume)[0] for skeleton in (found, wanted)]
    torch.testing.assert_close(*gradients)


def test_a_gap_by_hand() -> None:
    # Lines of one voxel are their own soft skeletons, but where they end at the border nothing is lost either. The
    # prediction lacks one voxel of the first line: precision 1, sensitivity (5 + 1) / (6 + 1); the second is perfect.
    label, guess = vessels(), vessels()
    guess[0, 3, 1, 1] = 0
    share = 6 / 7
    expected = (1 - 2 * share / (1 + share)) / 2
    assert float(loss_of(sure(guess, 3), label)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("spatial", [(8, 7), (6, 7, 5)])
def test_one_class_is_monais_but_for_its_small_number(spatial: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 2, *spatial, dtype=torch.float64, generator=generator)
    label = (torch.rand(3, *spatial, generator=generator) < 0.4).long()
    probability, truth = logits.softmax(1)[:, 1:], label[:, None].double()
    precision, sensitivity = centreline_shares(probability, truth, ClDiceOptions(iterations=2, smooth=0.5))
    monai = SoftclDiceLoss(iter_=2, smooth_nr=0.5, smooth_dr=0.5, reduction="none")(probability, truth)
    theirs = 1 - 2 * precision * sensitivity / (precision + sensitivity + 1e-4)
    torch.testing.assert_close(theirs[:, 0], monai)
    ours = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    torch.testing.assert_close(loss_of(logits, label, iterations=2, smooth=0.5), ours[:, 0])


@pytest.mark.parametrize("fill", [0, 1, 2])
def test_empty_and_full_labels_have_finite_losses_and_gradients(fill: int) -> None:
    logits = torch.randn(2, 3, 5, 4, 3, generator=torch.Generator().manual_seed(3)).bfloat16().requires_grad_()
    loss = loss_of(logits, torch.full((2, 5, 4, 3), fill))
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert ((loss >= 0) & (loss < 1)).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("fill", [None, 0, 1])
def test_a_perfect_prediction_costs_nothing(fill: int | None) -> None:
    label = vessels() if fill is None else torch.full((1, 5, 4, 3), fill)
    assert float(loss_of(sure(label, 3), label)) == pytest.approx(0.0, abs=1e-6)


def test_gradients_are_those_of_differences() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, 4, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    label = torch.randint(0, 3, (2, 4, 3, 2), generator=generator)
    assert torch.autograd.gradcheck(lambda value: loss_of(value, label), logits)


def test_a_sample_does_not_depend_on_the_others_and_classes_may_change_names() -> None:
    generator = torch.Generator().manual_seed(5)
    logits, label = torch.randn(2, 3, 6, 5, generator=generator), torch.randint(0, 3, (2, 6, 5), generator=generator)
    together = loss_of(logits, label)
    torch.testing.assert_close(together[[1]], loss_of(logits[[1]], label[[1]]))
    renamed = torch.tensor([0, 2, 1])
    torch.testing.assert_close(together, loss_of(logits[:, renamed], renamed[label]))
