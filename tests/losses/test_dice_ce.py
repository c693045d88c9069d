from math import log

import pytest
import torch

from equivox.losses.context import CaseContext
from equivox.losses.dice_ce import DiceCELoss, DiceCEOptions


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


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    logits, label = torch.randn(3, 4, 5, 6, 7), torch.randint(0, 4, (3, 5, 6, 7))
    together = loss_of(logits, label)
    alone = torch.cat([loss_of(logits[index, None], label[index, None]) for index in range(3)])
    torch.testing.assert_close(together, alone)


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
