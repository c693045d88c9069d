"""Distances between samples of a network and raters."""

import math

import pytest
import torch

from equivox.losses.sample_distances import (
    energy_distance,
    frechet_distance,
    sinkhorn_divergence,
    transport_distance,
)

DISTANCES = [energy_distance, sinkhorn_divergence, transport_distance, frechet_distance]


def clouds(samples: int = 3, raters: int = 3, voxels: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(2, samples, voxels, generator=generator, dtype=torch.float64)
    return drawn, torch.randint(0, 2, (2, raters, voxels), generator=generator).double()


@pytest.mark.parametrize("distance", DISTANCES)
def test_equal_sets_are_at_distance_zero_whatever_their_order(distance) -> None:
    _, raters = clouds()
    torch.testing.assert_close(distance(raters[:, [2, 0, 1]], raters), torch.zeros(2).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_order_of_points_does_not_matter(distance) -> None:
    samples, raters = clouds(4)
    torch.testing.assert_close(distance(samples[:, [3, 1, 0, 2]], raters[:, [1, 2, 0]]), distance(samples, raters))


@pytest.mark.parametrize("distance", DISTANCES)
def test_raters_that_a_case_lacks_do_not_count(distance) -> None:
    samples, raters = clouds(raters=3)
    present = torch.tensor([[True, True, True], [True, False, True]])
    filled = raters.clone()
    filled[1, 1] = math.nan
    found = distance(samples, filled, present)
    torch.testing.assert_close(found[:1], distance(samples[:1], raters[:1]))
    torch.testing.assert_close(found[1:], distance(samples[1:], raters[1:, [0, 2]]))


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_patch_of_twice_the_voxels_with_the_same_differences_is_as_far(distance) -> None:
    samples, raters = clouds()
    twice = distance(samples.repeat(1, 1, 2), raters.repeat(1, 1, 2))
    torch.testing.assert_close(twice, distance(samples, raters))
    # As released, squares grow with the voxels and distances with their root.
    published = distance(samples, raters, scaling="published")
    factor = math.sqrt(12) if distance is energy_distance else 12.0
    torch.testing.assert_close(published, distance(samples, raters) * factor, rtol=0.1, atol=0)


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_are_those_of_differences(distance) -> None:
    samples, raters = clouds(voxels=5)
    if distance is sinkhorn_divergence:
        # Its gradient is that of potentials that have settled: let them.
        def settled(points):
            return distance(points, raters, blur=0.5, cooling=0.98)
    else:

        def settled(points):
            return distance(points, raters)

    assert torch.autograd.gradcheck(settled, (samples.requires_grad_(),), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("distance", DISTANCES)
def test_one_sample_that_is_a_raters_has_a_finite_gradient(distance) -> None:
    _, raters = clouds()
    one = raters[:, :1].float().requires_grad_()
    distance(one, raters).sum().backward()
    assert one.grad is not None
    assert torch.isfinite(one.grad).all()


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_case_without_raters_is_refused(distance) -> None:
    samples, raters = clouds()
    with pytest.raises(ValueError, match="at least one rater of each case"):
        distance(samples, raters, torch.tensor([[True] * 3, [False] * 3]))


@pytest.mark.parametrize("distance", DISTANCES)
def test_bfloat16_samples_are_compared_in_float32(distance) -> None:
    samples, raters = clouds()
    found = distance(samples.bfloat16(), raters.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, distance(samples, raters).float(), rtol=0.05, atol=1e-3)


def test_the_energy_distance_by_hand() -> None:
    # Points 0 and 1 against 3 and 3: mean across 2.5, within (0 + 1 + 1 + 0) / 4 = 1/2 and 0
    found = energy_distance(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[3.0], [3.0]]]))
    torch.testing.assert_close(found, torch.tensor([2.25]))


def test_samples_that_are_all_the_mean_are_far_from_raters_who_disagree() -> None:
    raters = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    mean = torch.full((1, 2, 2), 0.5)
    for distance in DISTANCES:
        assert float(distance(mean, raters)) > float(distance(raters.flip(1), raters)) + 0.1


def test_transport_pairs_each_sample_with_its_own_rater() -> None:
    samples = torch.tensor([[[0.0], [10.0]]])
    raters = torch.tensor([[[11.0], [2.0]]])
    # (2^2 / 2 + 1^2 / 2) / 2
    torch.testing.assert_close(transport_distance(samples, raters), torch.tensor([1.25]))
    # Two samples and three raters 0, 4, 8: the first sends 1/3 to 0 and 1/6 to 4, the second 1/6 to 4 and 1/3 to 8;
    # from 0 and 8: (0 + 16/2 / 6) twice
    found = transport_distance(torch.tensor([[[0.0], [8.0]]]), torch.tensor([[[0.0], [4.0], [8.0]]]))
    torch.testing.assert_close(found, torch.tensor([8 / 3]))
    assert found.dtype == torch.float32


def test_too_many_points_for_an_exact_transport_are_told() -> None:
    with pytest.raises(ValueError, match="a common multiple up to 64, got 9 and 8"):
        transport_distance(torch.zeros(1, 9, 2), torch.zeros(1, 8, 2))


def test_a_small_blur_approaches_exact_transport() -> None:
    samples, raters = clouds(4, 3)
    exact = transport_distance(samples, raters)
    gaps = [
        float((sinkhorn_divergence(samples, raters, blur=blur, cooling=0.99) / exact - 1).abs().max())
        for blur in (0.3, 0.1, 0.02)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.01


def test_the_sinkhorn_value_of_a_case_does_not_depend_on_the_others() -> None:
    samples, raters = clouds(4, 3)
    together = sinkhorn_divergence(samples, raters)
    alone = torch.cat([sinkhorn_divergence(samples[:1], raters[:1]), sinkhorn_divergence(samples[1:], raters[1:])])
    torch.testing.assert_close(together, alone)


def test_the_frechet_distance_of_one_dimension_by_hand() -> None:
    # Means 1 and 4, standard deviations sqrt 2 and 3 sqrt 2: 9 + (2 sqrt 2)^2 = 17
    found = frechet_distance(torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[1.0], [7.0]]]))
    torch.testing.assert_close(found, torch.tensor([17.0]))
    # A single sample has no spread: 3^2 + 18
    torch.testing.assert_close(
        frechet_distance(torch.tensor([[[1.0]]]), torch.tensor([[[1.0], [7.0]]])), torch.tensor([27.0])
    )
