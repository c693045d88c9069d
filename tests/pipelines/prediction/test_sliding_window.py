"""The sliding window against whole-image application and an independent float64 blend."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from equivox.datasets.plan import NetworkPlan
from equivox.pipelines.prediction.sliding_window import (
    ready_network,
    sliding_window_logits,
    sliding_window_probabilities,
    softmax_,
    window_count,
    window_starts,
)


def plan_2d(patch: tuple[int, ...], slice_axis: int = 2) -> NetworkPlan:
    return NetworkPlan(
        dimensions=2,
        slice_axis=slice_axis,
        patch_size=patch,
        batch_size=2,
        features=(1,),
        strides=((1, 1),),
        memory_mib=1,
    )


def plan_3d(patch: tuple[int, ...]) -> NetworkPlan:
    return NetworkPlan(dimensions=3, patch_size=patch, batch_size=2, features=(1,), strides=((1, 1, 1),), memory_mib=1)


def scan(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def voxelwise(image: Tensor) -> tuple[Tensor, ...]:
    """A network that looks at one voxel alone: patches and blending must not show."""
    return (torch.cat([image[:, :1], image[:, :1] ** 2, 1 - image[:, :1]], dim=1),)


def place_in_patch(image: Tensor) -> tuple[Tensor, ...]:
    """A network whose answer depends on the place in the patch, so that the blending weights show."""
    number = torch.arange(math.prod(image.shape[2:]), dtype=torch.float32).reshape(image.shape[2:])
    return (torch.stack([image.sum(1), image.sum(1) + number], dim=1),)


def blended_in_float64(
    network: Callable[[Tensor], tuple[Tensor, ...]], image: np.ndarray, patch: tuple[int, ...]
) -> np.ndarray:
    """3D patches with step patch/2 at most, weight maps summed and divided, all in float64."""
    total, weights = 0.0, 0.0
    starts = []
    for size, side in zip(image.shape[1:], patch, strict=True):
        steps = math.ceil((size - side) / (side / 2))
        starts.append([round((size - side) * step / max(1, steps)) for step in range(steps + 1)])
    bells = [np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) for side in patch]
    bell = bells[0][:, None, None] * bells[1][:, None] * bells[2]
    for corner in itertools.product(*starts):
        region = (slice(None), *(slice(first, first + side) for first, side in zip(corner, patch, strict=True)))
        answer = network(torch.from_numpy(image[region])[None])[0][0].double().numpy()
        part, weight = np.zeros((len(answer), *image.shape[1:])), np.zeros(image.shape[1:])
        part[region], weight[region[1:]] = answer * bell, bell
        total, weights = total + part, weights + weight
    return np.asarray(total / weights)


@pytest.mark.parametrize("shape", [(9, 7, 5), (4, 4, 4), (2, 11, 1), (1, 1, 1)])
@pytest.mark.parametrize("plan", [plan_3d((4, 4, 4)), plan_2d((4, 6)), plan_2d((3, 4), 0), plan_2d((5, 4), 1)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_patches_of_a_voxelwise_network_cannot_be_seen(
    shape: tuple[int, ...], plan: NetworkPlan, batch_size: int
) -> None:
    image = scan((2, *shape))
    logits = sliding_window_logits(voxelwise, image, plan, num_classes=3, batch_size=batch_size)
    expected = voxelwise(torch.from_numpy(image)[None])[0][0]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_overlapping_patches_are_blended_by_a_gaussian_of_an_eighth_of_the_patch(batch_size: int) -> None:
    image = scan((1, 13, 10, 6))
    logits = sliding_window_logits(place_in_patch, image, plan_3d((8, 6, 4)), num_classes=2, batch_size=batch_size)
    np.testing.assert_allclose(logits, blended_in_float64(place_in_patch, image, (8, 6, 4)), rtol=2e-5, atol=2e-5)


def test_a_scan_smaller_than_the_patch_is_padded_with_zeros_on_both_sides() -> None:
    def patch_sum(image: Tensor) -> tuple[Tensor, ...]:
        assert image.shape[2:] == (6, 5, 4)
        assert float(image[0, 0, 0].abs().sum()) == 0  # 3 of 6: one before, two after
        assert float(image[0, 0, 1].abs().sum()) > 0
        assert float(image[0, 0, 4:].abs().sum()) == 0
        return (image.sum((2, 3, 4), keepdim=True).expand(image.shape),)

    image = scan((1, 3, 5, 4))
    logits = sliding_window_logits(patch_sum, image, plan_3d((6, 5, 4)), num_classes=1)
    torch.testing.assert_close(logits, torch.full((1, 3, 5, 4), float(image.sum())), rtol=1e-5, atol=1e-5)


def test_2d_network_gets_slices_with_the_other_axes_in_order() -> None:
    seen: list[tuple[int, ...]] = []

    def remember(image: Tensor) -> tuple[Tensor, ...]:
        seen.append(tuple(image.shape))
        return (image,)

    image = scan((1, 5, 3, 4))
    logits = sliding_window_logits(remember, image, plan_2d((5, 4), 1), num_classes=1, batch_size=2)
    assert seen == [(2, 1, 5, 4), (1, 1, 5, 4)]
    torch.testing.assert_close(logits, torch.from_numpy(image))


def test_mirrors_are_averaged_in_probability_space() -> None:
    image = scan((1, 4, 3, 2))
    plan = plan_3d((4, 3, 2))
    logits = sliding_window_logits(place_in_patch, image, plan, num_classes=2, mirror_axes=(0, 2))
    whole = torch.from_numpy(image)[None]
    mirrors: list[tuple[int, ...]] = [(), (2,), (4,), (2, 4)]
    passes = [place_in_patch(whole.flip(axes))[0].softmax(1).flip(axes)[0] for axes in mirrors]
    torch.testing.assert_close(logits.softmax(0), torch.stack(passes).mean(0), rtol=1e-5, atol=1e-6)


def test_mirrored_logits_stay_finite_where_a_class_is_impossible() -> None:
    def certain(image: Tensor) -> tuple[Tensor, ...]:
        return (torch.cat([torch.full_like(image, 500.0), torch.full_like(image, -500.0)], 1),)

    logits = sliding_window_logits(certain, scan((1, 4, 4, 4)), plan_3d((4, 4, 4)), num_classes=2, mirror_axes=(1,))
    assert bool(torch.isfinite(logits).all())
    assert bool((logits.argmax(0) == 0).all())


def test_starts_by_hand() -> None:
    # 20 voxels, patch 8, half overlap: 12 left to go in steps of 4 at most: 3 steps.
    assert window_starts(20, 8, 0.5) == (0, 4, 8, 12)
    assert window_starts(8, 8, 0.5) == (0,)
    assert window_starts(9, 8, 0.5) == (0, 1)
    assert window_starts(3, 8, 0.5) == (0,)
    # An overlap of 99 % of 8 voxels cannot step by less than a voxel.
    assert window_starts(10, 8, 0.99) == (0, 1, 2)


def test_count_is_the_number_of_network_calls() -> None:
    calls = 0

    def count(image: Tensor) -> tuple[Tensor, ...]:
        nonlocal calls
        calls += 1
        return (image,)

    for plan, shape, batch in [(plan_3d((4, 4, 4)), (9, 4, 5), 4), (plan_2d((4, 4)), (9, 4, 5), 2)]:
        calls = 0
        sliding_window_logits(count, scan((1, *shape)), plan, num_classes=1, batch_size=batch)
        assert window_count(shape, plan, batch_size=batch) == calls


def test_progress_grows_to_one() -> None:
    parts: list[float] = []
    sliding_window_logits(
        voxelwise, scan((1, 9, 4, 4)), plan_3d((4, 4, 4)), num_classes=3, mirror_axes=(0,), on_progress=parts.append
    )
    assert parts == sorted(parts)
    assert parts[-1] == 1


def test_image_is_not_changed_and_numpy_equals_torch() -> None:
    image = scan((1, 5, 6, 3))
    copy = image.copy()
    one = sliding_window_logits(voxelwise, image, plan_3d((4, 4, 4)), num_classes=3)
    two = sliding_window_logits(voxelwise, torch.from_numpy(image), plan_3d((4, 4, 4)), num_classes=3)
    np.testing.assert_array_equal(image, copy)
    assert torch.equal(one, two)


def test_bfloat16_is_close_to_float32_and_returns_float32() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1).eval()
    image = scan((1, 8, 8, 8))
    exact = sliding_window_logits(network, image, plan_3d((8, 8, 8)), num_classes=3)
    rounded = sliding_window_logits(network, image, plan_3d((8, 8, 8)), num_classes=3, bfloat16=True)
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - exact).abs().max()) < 0.05


@pytest.mark.parametrize("plan", [plan_2d((8, 8)), plan_3d((8, 8, 8))])
def test_a_network_made_ready_gives_the_same_numbers(plan: NetworkPlan) -> None:
    torch.manual_seed(0)
    kinds = (
        (torch.nn.Conv2d, torch.nn.InstanceNorm2d)
        if plan.dimensions == 2
        else (torch.nn.Conv3d, torch.nn.InstanceNorm3d)
    )
    network = torch.nn.Sequential(kinds[0](2, 4, 3, padding=1), kinds[1](4), kinds[0](4, 3, 3, padding=1)).eval()
    image = scan((2, 12, 9, 8))
    before = sliding_window_logits(network, image, plan, num_classes=3)
    ready = ready_network(network.train(), plan, "cpu")
    assert not ready.training
    torch.testing.assert_close(sliding_window_logits(ready, image, plan, num_classes=3), before, rtol=1e-4, atol=1e-4)


def test_several_networks_are_averaged_in_probability_space() -> None:
    image, plan = scan((1, 5, 4, 4)), plan_3d((4, 4, 4))
    networks = [voxelwise, lambda batch: (voxelwise(batch)[0].flip(1),)]
    parts: list[float] = []
    mean = sliding_window_probabilities(networks, image, plan, num_classes=3, on_progress=parts.append)
    alone = [sliding_window_logits(network, image, plan, num_classes=3).softmax(0) for network in networks]
    torch.testing.assert_close(mean, (alone[0] + alone[1]) / 2)
    assert parts[-1] == 1
    with pytest.raises(ValueError, match="at least one network"):
        sliding_window_probabilities([], image, plan, num_classes=3)


def test_softmax_in_place_is_the_softmax() -> None:
    logits = torch.from_numpy(scan((4, 3, 5, 2)))
    expected = logits.softmax(0)
    assert softmax_(logits) is logits
    torch.testing.assert_close(logits, expected)


def test_network_with_other_classes_is_named() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 3, 4, 4, 4\)"):
        sliding_window_logits(voxelwise, scan((1, 4, 4, 4)), plan_3d((4, 4, 4)), num_classes=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overlap": 1.0}, "overlap"),
        ({"mirror_axes": (3,)}, "mirror axes"),
        ({"mirror_axes": (1, 1)}, "mirror axes"),
        ({"batch_size": 0}, "batch"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sliding_window_logits(voxelwise, scan((1, 4, 4, 4)), plan_3d((4, 4, 4)), num_classes=3, **options)


@pytest.mark.parametrize("plan", [plan_3d((6, 8, 4)), plan_3d((32, 4, 4)), plan_2d((6, 8)), plan_2d((4, 16), 0)])
def test_each_voxel_of_the_scan_has_one_share_and_padding_none(plan: NetworkPlan) -> None:
    image = scan((2, 15, 9, 7))
    total, voxels, calls = 0.0, 0.0, 0

    def on_batch(batch: Tensor, shares: Tensor) -> None:
        nonlocal total, voxels, calls
        assert shares.shape == (len(batch), *batch.shape[2:])
        total += float((batch * shares[:, None]).double().sum())
        voxels += float(shares.double().sum())
        calls += 1

    sliding_window_logits(voxelwise, image, plan, num_classes=3, batch_size=2, on_batch=on_batch)
    assert voxels == pytest.approx(15 * 9 * 7, rel=1e-5)
    assert total == pytest.approx(float(image.astype(np.float64).sum()), rel=1e-4)
    assert calls == window_count((15, 9, 7), plan, batch_size=2)
