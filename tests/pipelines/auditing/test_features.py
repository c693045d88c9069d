"""Pooled features against sums over the whole scan, with networks that look at one voxel or one block alone."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equivox.datasets.plan import NetworkPlan
from equivox.metrics.energy import case_energy
from equivox.pipelines.auditing import features
from equivox.pipelines.auditing.features import case_features, segment, without_directions
from equivox.pipelines.auditing.options import AuditOptions


class Voxelwise(nn.Module):
    """Features x, 2x and x^2 of each voxel (or of each block's mean); the class is 1 where x is above 0."""

    def __init__(self, block: int = 1) -> None:
        super().__init__()
        self.bottleneck, self.last_decoder = "deep.powers", "last"
        self.block = block
        self.unused = nn.Parameter(torch.zeros(1))
        self.deep = nn.ModuleDict({"powers": _Powers()})
        self.last = nn.Identity()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pool = nn.functional.avg_pool3d if image.ndim == 5 else nn.functional.avg_pool2d
        deep = self.deep["powers"](pool(image, self.block) if self.block > 1 else image)
        self.last(torch.cat([-image, 0 * image + 3], dim=1))
        if self.block > 1:
            return (torch.cat([0 * image, image], dim=1),)
        return (torch.cat([0 * deep[:, :1], deep[:, :1]], dim=1),)


class _Powers(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([image, 2 * image, image**2], dim=1)


def plan(patch: tuple[int, ...]) -> NetworkPlan:
    ones = (1,) * len(patch)
    return NetworkPlan(
        dimensions=len(patch), patch_size=patch, batch_size=1, features=(3,), strides=(ones,), memory_mib=1
    )


def scan(shape: tuple[int, ...] = (1, 11, 8, 5)) -> np.ndarray:
    return np.random.default_rng(0).normal(0.3, 1.0, shape).astype(np.float32)


@pytest.mark.parametrize("patch", [(4, 6, 4), (16, 16, 16), (4, 6)])
def test_pooled_features_are_means_over_the_scan_however_it_is_cut(patch: tuple[int, ...]) -> None:
    image = scan()
    found = case_features(Voxelwise().eval(), Voxelwise().eval(), image, plan(patch), 2, AuditOptions())
    values = image.astype(np.float64).ravel()
    powers = np.stack([values, 2 * values, values**2])
    mean = powers.mean(axis=1)
    np.testing.assert_allclose(found.trained["bottleneck"]["mean"], mean, rtol=1e-4)
    np.testing.assert_allclose(found.trained["bottleneck"]["mean_sd"], [*mean, *powers.std(axis=1)], rtol=1e-4)
    np.testing.assert_allclose(found.trained["bottleneck"]["foreground"], powers[:, values > 0].mean(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(found.labels, image[0] > 0)
    np.testing.assert_allclose(found.untrained["bottleneck"]["mean"], mean, rtol=1e-4)
    logits = np.concatenate([np.zeros_like(image), image])
    assert found.energy.everywhere == pytest.approx(case_energy(logits).everywhere, rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_layers_are_pooled_apart_and_few_channels_at_a_time(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_CHUNK", chunk)
    image = scan()
    options = AuditOptions(features=("bottleneck", "last_decoder"))
    found = case_features(Voxelwise(2).eval(), Voxelwise().eval(), image, plan((4, 6, 4)), 2, options)
    assert list(found.trained) == list(found.untrained) == ["bottleneck", "last_decoder"]
    values = image.astype(np.float64).ravel()
    last = found.trained["last_decoder"]
    np.testing.assert_allclose(last["mean_sd"], [-values.mean(), 3, values.std(), 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last["foreground"], [-values[values > 0].mean(), 3], rtol=1e-4)
    assert found.untrained["bottleneck"]["mean"].shape == (3,)


def test_coarse_features_count_as_the_voxels_that_they_stand_for() -> None:
    # One patch of 4 x 4 x 4 in blocks of 2: the Gaussian makes no difference where no patches overlap.
    image = scan((1, 4, 4, 4))
    found = case_features(Voxelwise(2).eval(), Voxelwise(2).eval(), image, plan((4, 4, 4)), 2, AuditOptions())
    blocks = image[0].astype(np.float64).reshape(2, 2, 2, 2, 2, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(
        found.trained["bottleneck"]["mean"], [blocks.mean(), 2 * blocks.mean(), (blocks**2).mean()], rtol=1e-5
    )
    inside = (image[0] > 0).reshape(2, 2, 2, 2, 2, 2).mean(axis=(1, 3, 5))
    expected = (blocks * inside).sum() / inside.sum()
    np.testing.assert_allclose(found.trained["bottleneck"]["foreground"][0], expected, rtol=1e-5)


def test_the_untrained_network_is_pooled_over_the_trained_ones_foreground() -> None:
    image = scan()
    with torch.no_grad():
        other = Voxelwise().eval()
        other.deep["powers"] = _Negative()
    found = case_features(Voxelwise().eval(), other, image, plan((4, 6, 4)), 2, AuditOptions())
    np.testing.assert_allclose(found.untrained["bottleneck"]["foreground"], [-image[image > 0].mean()] * 3, rtol=1e-4)


class _Negative(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([-image] * 3, dim=1)


def test_a_scan_without_foreground_has_no_mean_over_it() -> None:
    image = -np.abs(scan())
    found = case_features(Voxelwise().eval(), Voxelwise().eval(), image, plan((4, 6)), 2, AuditOptions())
    assert found.trained["bottleneck"]["foreground"] is None
    assert found.untrained["bottleneck"]["foreground"] is None
    assert found.energy.foreground is None


@pytest.mark.parametrize("patch", [(4, 6, 4), (4, 6)])
def test_directions_are_projected_out_at_every_voxel_and_come_back_afterwards(patch: tuple[int, ...]) -> None:
    # The logit of class 1 is the first feature, x: without it every voxel has that of the centre, 0.25.
    image, network = scan(), Voxelwise().eval()
    before = segment(network, image, plan(patch), 2, AuditOptions())
    with without_directions(network, np.array([[1.0, 0.0, 0.0]]), np.array([0.25, 9.0, 9.0])):
        without = segment(network, image, plan(patch), 2, AuditOptions())
    np.testing.assert_allclose(without[1].numpy(), 0.25, rtol=1e-5)
    # Along (3, 4, 0) / 5 the features (x, 2x) have 11 x / 5; the centre, 0: 3 / 5 of it is taken from x.
    with without_directions(network, np.array([[0.6, 0.8, 0.0]]), np.zeros(3)):
        turned = segment(network, image, plan(patch), 2, AuditOptions())
    np.testing.assert_allclose(turned[1].numpy(), image[0] * (1 - 0.6 * 2.2), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(segment(network, image, plan(patch), 2, AuditOptions()).numpy(), before.numpy())
