"""Projections: by hand, along the right axis, within slabs."""

import pytest
import torch

from equivox.losses.context import CaseContext
from equivox.losses.focal_tversky import FocalTverskyLoss, FocalTverskyOptions
from equivox.losses.mip import MipLoss, MipOptions, projected


def sure(label: torch.Tensor, classes: int = 2) -> torch.Tensor:
    """Logits that are sure of a label."""
    return 40.0 * torch.nn.functional.one_hot(label, classes).movedim(-1, 1).float()


def loss_of(logits: torch.Tensor, label: torch.Tensor, facts: CaseContext | None = None, **options) -> torch.Tensor:
    return MipLoss(MipOptions(**options)).per_sample(logits, label, facts or CaseContext())


def vessel(gap: bool) -> torch.Tensor:
    """A vessel of 6 voxels along the first axis, in a volume of 6 x 5 x 3; one voxel is missing."""
    label = torch.zeros(1, 6, 5, 3, dtype=torch.int64)
    label[0, :, 2, 1] = 1
    if gap:
        label[0, 3, 2, 1] = 0
    return label


def test_a_gap_by_hand() -> None:
    # Along the last axis: 5 hits of 6; TI = (5 + 1) / (5 + 0.7 + 1). So it is along the middle one; along the vessel
    # itself the projection is one voxel, which is hit.
    expected = 2 * (1 - 6 / 6.7) ** 0.75 / 3
    found = loss_of(sure(vessel(gap=True)), vessel(gap=False))
    assert float(found) == pytest.approx(expected, abs=1e-5)
    assert float(loss_of(sure(vessel(gap=True)), vessel(gap=False), axes=[0])) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_turning_prediction_and_label_alike_changes_nothing(order: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 3, 6, 5, 4, generator=generator)
    label = torch.randint(0, 3, (2, 6, 5, 4), generator=generator)
    turned = loss_of(
        logits.permute(0, 1, *(2 + axis for axis in order)), label.permute(0, *(1 + axis for axis in order))
    )
    torch.testing.assert_close(turned, loss_of(logits, label))


def test_a_perfect_prediction_costs_nothing_but_in_the_released_order() -> None:
    label = (torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.02).long()
    assert float(loss_of(sure(label), label)) == pytest.approx(0.0, abs=1e-4)
    assert float(loss_of(sure(label), label, axis_order="published")) > 0.2


def test_a_target_of_the_whole_volume_asks_for_what_lies_outside() -> None:
    label = vessel(gap=False)
    whole = torch.stack([~label.bool().any(3), label.bool().any(3)], dim=1)
    whole[0, 1, :, 4] = True  # another vessel, in slices that the patch lacks
    facts = CaseContext(projections={2: whole})
    assert float(loss_of(sure(label), label, facts, axes=[2], target="full")) > 0.1
    with pytest.raises(ValueError, match="use target: patch"):
        loss_of(sure(label), label, facts, axes=[1], target="full")


def test_a_coarser_head_is_compared_with_the_coarser_projection() -> None:
    # Sides of 6 x 4 x 2 at full size and 3 x 2 x 1 at the coarse head. A vessel of two voxels' width is of one there.
    label = torch.zeros(1, 6, 4, 2, dtype=torch.int64)
    label[:, :, 2:] = 1
    coarse = label[:, ::2, ::2, ::2]
    planes = {axis: torch.stack([(label == index).any(1 + axis) for index in range(2)], dim=1) for axis in range(3)}
    found = loss_of(sure(coarse), coarse, CaseContext(projections=planes), target="full")
    assert float(found) == pytest.approx(0.0, abs=1e-4)
    flat = {axis: torch.stack([(label[..., 0] == 1).any(1 + axis)] * 2, dim=1) for axis in range(2)}
    assert float(loss_of(sure(coarse[..., 0]), coarse[..., 0], CaseContext(projections=flat), target="full")) < 1e-4


def test_slabs_are_of_their_thickness_in_mm() -> None:
    # Spacing 2 along the last axis: a slab of 4 mm has 2 voxels, so 5 slices make slabs of 2, 2 and 1.
    volume = torch.arange(5.0).expand(1, 1, 3, 4, 5)
    assert projected(volume, 2, 2)[0, 0, 0, 0].tolist() == [1.0, 3.0, 4.0]
    label = torch.zeros(1, 3, 4, 5, dtype=torch.int64)
    label[0, 1, 1, 0] = 1
    guess = torch.zeros_like(label)
    guess[0, 1, 1, 1] = 1  # the neighbour along the axis, in the same slab of 2
    facts = CaseContext(spacing_mm=(1.0, 1.0, 2.0))
    assert float(loss_of(sure(guess), label, facts, axes=[2], slab_mm=4.0)) == pytest.approx(0.0, abs=1e-5)
    assert float(loss_of(sure(guess), label, facts, axes=[2], slab_mm=2.0)) > 0.3


def test_axes_that_a_slice_does_not_have_are_told() -> None:
    with pytest.raises(ValueError, match="expected axes from 0 to 1, got 2"):
        loss_of(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), axes=[2])


@pytest.mark.parametrize("options", [{"axes": []}, {"axes": [0, 0]}, {"axes": [3]}, {"slab_mm": 0}])
def test_options_that_make_no_sense_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"expected|greater than 0"):
        MipOptions(**options)


@pytest.mark.parametrize("loss", [MipLoss(MipOptions()), FocalTverskyLoss(FocalTverskyOptions())])
def test_gradients_are_those_of_differences(loss) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, 4, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    label = torch.randint(0, 3, (2, 4, 3, 2), generator=generator)
    assert torch.autograd.gradcheck(lambda value: loss.per_sample(value, label, CaseContext()), logits)


@pytest.mark.parametrize("loss", [MipLoss(MipOptions()), FocalTverskyLoss(FocalTverskyOptions())])
def test_a_perfect_prediction_has_a_finite_gradient(loss) -> None:
    label = vessel(gap=False)
    logits = (1e4 * sure(label)).requires_grad_()
    loss.per_sample(logits, label, CaseContext()).sum().backward()
    assert torch.isfinite(logits.grad).all()
