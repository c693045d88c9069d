import pytest
import torch
from torch import nn

from equivox.models.norm import InstanceNorm, with_fast_instance_norm


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 4, 3, 1, 6)])
def test_it_is_torchs_instance_norm_with_its_gradients(shape) -> None:
    kind = nn.InstanceNorm2d if len(shape) == 4 else nn.InstanceNorm3d
    theirs, ours = kind(shape[1], affine=True), InstanceNorm(shape[1])
    with torch.no_grad():
        theirs.weight.normal_()
        theirs.bias.normal_()
    ours.load_state_dict(theirs.state_dict())
    images = [torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True) for _ in range(2)]
    outputs = [norm(image) for norm, image in zip((theirs, ours), images, strict=True)]
    torch.testing.assert_close(outputs[0], outputs[1])
    for output in outputs:
        (output * torch.arange(output.numel()).reshape(shape)).sum().backward()
    torch.testing.assert_close(images[0].grad, images[1].grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(theirs.weight.grad, ours.weight.grad, rtol=1e-3, atol=1e-3)


def test_a_single_voxel_has_no_spread_to_divide_by() -> None:
    with pytest.raises(ValueError, match="expected more than one voxel a channel"):
        InstanceNorm(3)(torch.zeros(2, 3, 1, 1))


def test_only_affine_instance_norms_are_replaced() -> None:
    network = nn.Sequential(nn.InstanceNorm2d(2, affine=True), nn.Sequential(nn.InstanceNorm3d(2)), nn.BatchNorm2d(2))
    with_fast_instance_norm(network)
    assert [type(layer).__name__ for layer in (network[0], network[1][0], network[2])] == [
        "InstanceNorm",
        "InstanceNorm3d",
        "BatchNorm2d",
    ]


def test_a_norm_with_two_names_stays_one_module() -> None:
    norm = nn.InstanceNorm2d(2, affine=True)
    network = nn.ModuleDict({"block": nn.Sequential(norm), "norm": norm})
    with_fast_instance_norm(network)
    assert isinstance(network["norm"], InstanceNorm)
    assert network["block"][0] is network["norm"]
