from math import log

import monai.losses
import pytest
import torch

from equivox.losses.context import CaseContext
from equivox.losses.dice_ce import DiceCELoss, DiceCEOptions

MONAI_SMOOTH = {"smooth_nr": 1e-5, "smooth_dr": 1e-5}


def loss_of(logits: torch.Tensor, label: torch.Tensor, **options: object) -> torch.Tensor:
    return DiceCELoss(DiceCEOptions(**options)).per_sample(logits, label, CaseContext())


def test_uniform_prediction_by_hand() -> None:
    # 4 voxels, 1 foreground, p = 1/2 everywhere, smooth 1, background left out:
    # Dice = (2 * 0.5 + 1) / (2 + 1 + 1) = 1/2; cross-entropy = log 2.
    label = torch.tensor([[[[0, 0], [0, 1]]]])
    loss = loss_of(torch.zeros(1, 2, 1, 2, 2), label, smooth=1.0)
    torch.testing.assert_close(loss, torch.tensor([0.5 + log(2)]))


def test_background_counts_where_it_is_wanted() -> None:
    # Background: (2 * 1.5 + 1) / (2 + 3 + 1) = 2/3; foreground 1/2 as above.
    label = torch.tensor([[[0, 0], [0, 1]]])
    loss = loss_of(torch.zeros(1, 2, 2, 2), label, smooth=1.0, include_background=True, ce_weight=0.0)
    torch.testing.assert_close(loss, torch.tensor([1 - (2 / 3 + 1 / 2) / 2]))


def test_a_sample_does_not_depend_on_its_neighbours_where_dice_is_of_each() -> None:
    logits, label = torch.randn(3, 4, 5, 6, 7), torch.randint(0, 4, (3, 5, 6, 7))
    together = loss_of(logits, label, dice_over="sample")
    alone = torch.cat([loss_of(logits[index, None], label[index, None], dice_over="sample") for index in range(3)])
    torch.testing.assert_close(together, alone)


def test_one_dice_of_two_samples_by_hand() -> None:
    # Two samples of 2 voxels, p = 1/2 everywhere, smooth 1; the second has no foreground. Overlaps 2 * 0.5 = 1 and 0,
    # sizes 1 + 1 = 2 and 1 + 0 = 1: Dice of all (1 + 1) / (3 + 1) = 1/2.
    # Shares: 1 - 1/2 + 2 * (1/2 * 2 - 1 - 1/4) / 4 = 3/8 and 1 - 1/2 + 2 * (1/2 * 1 - 0 - 1/4) / 4 = 5/8.
    label = torch.tensor([[[0, 1]], [[0, 0]]])
    loss = loss_of(torch.zeros(2, 2, 1, 2), label, smooth=1.0, ce_weight=0.0)
    torch.testing.assert_close(loss, torch.tensor([3 / 8, 5 / 8]))


@pytest.mark.parametrize("dice_over", ["batch", "sample"])
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("spatial", [(5, 7), (3, 5, 7), (1, 1)])
def test_value_and_gradient_are_monais(dice_over: str, background: bool, spatial: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    logits = torch.randn(3, 4, *spatial, requires_grad=True)
    label = torch.randint(0, 4, (3, *spatial))
    label[1] = 0  # a sample without foreground
    theirs = monai.losses.DiceCELoss(
        to_onehot_y=True, softmax=True, batch=dice_over == "batch", include_background=background, **MONAI_SMOOTH
    )(logits, label[:, None])
    ours = loss_of(logits, label, dice_over=dice_over, include_background=background).mean()
    torch.testing.assert_close(ours, theirs)
    (expected,) = torch.autograd.grad(theirs, logits)
    (gradient,) = torch.autograd.grad(ours, logits)
    torch.testing.assert_close(gradient, expected)


def test_a_share_of_the_batch_moves_its_own_sample_alone() -> None:
    logits = torch.randn(3, 2, 4, 5, requires_grad=True)
    loss = loss_of(logits, torch.randint(0, 2, (3, 4, 5)))
    (gradient,) = torch.autograd.grad(loss[1], logits)
    assert gradient[1].abs().min() > 0
    torch.testing.assert_close(gradient[[0, 2]], torch.zeros(2, 2, 4, 5))


def test_two_processes_share_one_dice() -> None:
    logits, label = torch.randn(5, 3, 4, 5), torch.randint(0, 3, (5, 4, 5))
    whole = loss_of(logits, label)
    shares = [slice(0, 2), slice(2, 5)]
    asked: list[torch.Tensor] = []
    for share in shares:  # what each process asks to add up

        def note(value: torch.Tensor) -> torch.Tensor:
            asked.append(value)
            return value

        DiceCELoss(DiceCEOptions()).per_sample(logits[share], label[share], CaseContext(sum_over_processes=note))
    total = asked[0] + asked[1]
    parts = [
        DiceCELoss(DiceCEOptions()).per_sample(
            logits[share], label[share], CaseContext(sum_over_processes=lambda _: total)
        )
        for share in shares
    ]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_false_voxels_of_an_empty_slice_count_in_proportion() -> None:
    # A slice of 100 tumour voxels, all found, beside an empty one with 1 or 50 false voxels.
    # Dice of all: 200 / 201 and 200 / 250; Dice of each pays 1 for the empty slice in both cases.
    def dice(false_voxels: int, over: str) -> float:
        truth = torch.zeros(2, 10, 20, dtype=torch.int64)
        truth[0, :, :10] = 1
        found = truth.clone()
        found[1].view(-1)[:false_voxels] = 1
        logits = torch.stack([(1 - found) * 60.0, found * 60.0], dim=1)
        return float(loss_of(logits, truth, ce_weight=0.0, dice_over=over).mean())

    assert dice(1, "batch") == pytest.approx(1 / 201, abs=1e-5)
    assert dice(50, "batch") == pytest.approx(50 / 250, abs=1e-5)
    assert dice(1, "sample") == pytest.approx(0.5, abs=1e-5)
    assert dice(50, "sample") == pytest.approx(0.5, abs=1e-5)


def test_an_empty_label_with_an_empty_prediction_costs_nothing() -> None:
    logits = torch.stack([torch.full((1, 3, 3), 50.0), torch.full((1, 3, 3), -50.0)], dim=1)
    loss = loss_of(logits, torch.zeros(1, 3, 3, dtype=torch.int64))
    torch.testing.assert_close(loss, torch.zeros(1), atol=1e-6, rtol=0)


def test_one_voxel_is_enough() -> None:
    loss = loss_of(torch.tensor([[[[-20.0]], [[20.0]]]]), torch.ones(1, 1, 1, dtype=torch.int64))
    torch.testing.assert_close(loss, torch.zeros(1), atol=1e-5, rtol=0)


def test_half_precision_logits_are_computed_in_full() -> None:
    logits, label = torch.randn(1, 2, 8, 8), torch.randint(0, 2, (1, 8, 8))
    half = loss_of(logits.bfloat16(), label)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss_of(logits.bfloat16().float(), label))


def test_a_single_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        loss_of(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))
