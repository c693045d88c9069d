"""Distances of another network's features."""

import pytest
import torch
from torch import nn

from equivox.errors import InputError
from equivox.losses.context import CaseContext
from equivox.losses.perceptual import PerceptualLoss, PerceptualOptions, feature_distance
from equivox.options import parse_options


def features(image: torch.Tensor) -> list[torch.Tensor]:
    """The image itself, and the means of halves along the first axis."""
    half = image.shape[2] // 2
    return [image, torch.stack([image[:, :, :half].mean((2, 3)), image[:, :, half:].mean((2, 3))], 2)]


def loss_of(logits, label, **options: object) -> torch.Tensor:
    context = CaseContext(features=features)
    return PerceptualLoss(PerceptualOptions(**options)).per_sample(logits, label, context)


def test_the_distance_by_hand() -> None:
    label = torch.tensor([[[0, 0, 0], [1, 1, 1]]])
    # p = 1/2 everywhere: every voxel is off by 1/2, and so are the means of both halves.
    loss = loss_of(torch.zeros(1, 2, 2, 3), label)
    torch.testing.assert_close(loss, torch.tensor([0.5]))
    torch.testing.assert_close(loss_of(torch.zeros(1, 2, 2, 3), label, distance="l2"), torch.tensor([0.25]))


def test_classes_are_shown_one_by_one_and_averaged() -> None:
    label = torch.tensor([[[0, 1], [2, 2]], [[0, 0], [0, 0]]])
    right = 30.0 * nn.functional.one_hot(label, 3).movedim(-1, 1)
    torch.testing.assert_close(loss_of(right, label), torch.zeros(2), atol=1e-6, rtol=0)
    # Class 2 missed and given to class 1: half of the voxels are off for both
    wrong = 30.0 * nn.functional.one_hot(torch.tensor([[[0, 1], [1, 1]], [[0, 0], [0, 0]]]), 3).movedim(-1, 1)
    torch.testing.assert_close(loss_of(wrong, label), torch.tensor([0.5, 0.0]), atol=1e-6, rtol=0)


def test_gradients_reach_the_logits_alone() -> None:
    network = nn.Conv2d(1, 2, 3).requires_grad_(requires_grad=False)
    logits = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    label = torch.randint(0, 3, (2, 5, 6))
    context = CaseContext(features=lambda image: [network.double()(image)])
    loss = PerceptualLoss(PerceptualOptions(distance="l2"))
    assert torch.autograd.gradcheck(lambda values: loss.per_sample(values, label, context), (logits,), atol=1e-4)
    assert network.weight.grad is None


def test_layers_are_weighed() -> None:
    one, zero = torch.ones(2, 1, 3), torch.zeros(2, 1, 3)
    options = PerceptualOptions(layer_weights=(0.0, 2.0))
    assert feature_distance([one, 3 * one], [zero, zero], options).tolist() == [3.0, 3.0]
    with pytest.raises(ValueError, match="a weight for each of 1 layers, got 2"):
        feature_distance([one], [zero], options)
    for weights in ([0.0], [-1.0, 2.0]):
        with pytest.raises(InputError, match="numbers from 0 on, not all of them 0"):
            parse_options(PerceptualOptions, {"layer_weights": weights}, "loss perceptual")


def test_missing_features_are_told() -> None:
    with pytest.raises(ValueError, match="expected the features of a network, got none"):
        PerceptualLoss(PerceptualOptions()).per_sample(
            torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64), CaseContext()
        )
