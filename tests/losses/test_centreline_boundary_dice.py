"""cbDice: by hand, bounded, and in millimetres."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from equivox.losses.centreline_boundary_dice import CentrelineBoundaryDiceLoss, CentrelineBoundaryDiceOptions
from equivox.losses.context import CaseContext
from equivox.skeleton import skeleton


def loss_of(
    logits: torch.Tensor, label: torch.Tensor, spacing_mm: tuple[float, ...] | None = None, **options
) -> torch.Tensor:
    loss = CentrelineBoundaryDiceLoss(CentrelineBoundaryDiceOptions(**options))
    return loss.per_sample(logits, label, CaseContext(spacing_mm=spacing_mm))


def logits_of(probability: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.zeros_like(probability), torch.logit(probability)], dim=1)


def line(start: int, stop: int, value: float) -> torch.Tensor:
    probability = torch.full((1, 3, 9), 0.01, dtype=torch.float64)
    probability[0, 1, start:stop] = value
    return probability


@pytest.mark.parametrize("skeleton", ["thinning", "morphological"])
def test_a_line_that_ends_too_early_by_hand(skeleton: str) -> None:
    # Lines of radius 1: all weights, depths and radii are 1, and 0.8 in the prediction. Its centreline lies in the
    # label: precision 1. Of the label's 5 voxels it has 3: (3 * 0.8 + 1) / (3 * 0.8 + 2 * 1 + 1).
    share = 3.4 / 5.4
    label = (line(2, 7, 1.0) > 0.5).long()
    found = loss_of(logits_of(line(2, 5, 0.8)), label, skeleton=skeleton)
    assert float(found) == pytest.approx(1 - 2 * share / (1 + share))


def test_a_thick_part_by_hand() -> None:
    # Three rows from border to border. The centreline has 7 pixels of radius 2 in the middle row, which weigh
    # (2 - 2 + 1) / 2, and at the end one of radius 1, which weighs (2 - 1 + 1) / 2 and whose measure is 1/2.
    label = torch.zeros(1, 7, 9, dtype=torch.int64)
    label[0, 2:5] = 1
    assert np.argwhere(skeleton(label[0].numpy() > 0))[:, 0].tolist() == [2, *[3] * 7]
    # The prediction is the row below the middle, with 0.9: it lies at half the depth, and is measured by itself, 0.9.
    guess = torch.full((1, 7, 9), 0.01, dtype=torch.float64)
    guess[0, 4] = 0.9
    precision = (9 * 0.9 * 0.5 + 1) / (9 * 0.9 * 0.9 + 1)
    sensitivity = 1 / (7 * 0.5 + 1 * 0.5 + 1)
    expected = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    assert float(loss_of(logits_of(guess), label)) == pytest.approx(expected)


def test_distances_are_in_millimetres() -> None:
    generator = np.random.default_rng(1)
    field = ndimage.gaussian_filter(generator.normal(size=(16, 14)), 2)
    label = torch.from_numpy(field > 0.02).long()[None]
    logits = logits_of(torch.sigmoid(torch.from_numpy(30 * ndimage.shift(field, (1, 2), mode="nearest")))[None])
    unit = loss_of(logits, label)
    torch.testing.assert_close(loss_of(logits, label, (2.5, 2.5)), unit)
    stretched = loss_of(logits, label, (1.0, 3.0))
    assert abs(float(stretched - unit)) > 1e-3
    torch.testing.assert_close(loss_of(logits, label, (0.5, 1.5)), stretched)


def test_only_the_released_form_prefers_a_wrong_prediction_to_a_perfect_one() -> None:
    generator = np.random.default_rng(80)
    first = ndimage.gaussian_filter(generator.normal(size=(24, 24)), generator.uniform(1, 3))
    other = ndimage.gaussian_filter(generator.normal(size=(24, 24)), generator.uniform(1, 3))
    first, other = first / first.std(), other / other.std()
    share = generator.uniform(0, 1)
    label = torch.from_numpy(first > 0.3).long()[None]
    value = torch.from_numpy(generator.uniform(0.2, 3) * ((1 - share) * (first - 0.3) + share * other))[None]
    logits = torch.stack([torch.zeros_like(value), value], dim=1)
    perfect = 50.0 * torch.stack([1 - label, label], dim=1).double()
    assert float(loss_of(perfect, label, form="published")) == pytest.approx(0.0, abs=1e-9)
    assert float(loss_of(logits, label, form="published")) < -1e-3
    assert float(loss_of(logits, label)) > 1e-3
    assert float(loss_of(perfect, label)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 5)])
@pytest.mark.parametrize("fill", [0, 1, 2])
@pytest.mark.parametrize("form", ["bounded", "published"])
def test_empty_and_full_labels_have_finite_losses_and_gradients(shape, fill: int, form: str) -> None:
    logits = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(3)).bfloat16().requires_grad_()
    loss = loss_of(logits, torch.full((2, *shape), fill), form=form)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("voxels", ["none", "one", "all"])
def test_a_perfect_prediction_costs_nothing(voxels: str) -> None:
    label = torch.full((1, 5, 4, 3), int(voxels == "all"))
    label[0, 2, 1, 1] = int(voxels != "none")
    logits = 50.0 * torch.stack([1 - label, label], dim=1).float()
    assert float(loss_of(logits, label)) == pytest.approx(0.0, abs=1e-6)


def test_a_prediction_without_a_voxel_above_a_half_has_no_gradient() -> None:
    logits = logits_of(line(2, 7, 0.4)).requires_grad_()
    loss = loss_of(logits, (line(2, 7, 1.0) > 0.5).long())
    # The label's 5 voxels are not in it: precision 1, sensitivity 1 / (5 + 1).
    assert float(loss.detach()) == pytest.approx(1 - 2 / 7)
    loss.sum().backward()
    assert not logits.grad.any()


def test_gradients_are_those_of_differences() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    label = torch.randint(0, 3, (2, 4, 5), generator=generator)
    assert torch.autograd.gradcheck(lambda value: loss_of(value, label, (1.0, 2.0)), logits)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="expected logits of 2 classes or more"):
        loss_of(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64))
