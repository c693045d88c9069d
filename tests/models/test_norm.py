import pytest
import torch
from torch import nn

from equivox.models.norm import InstanceNorm, with_fast_instance_norm

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 4, 3, 1, 6), (2, 1, 3, 3)])
def test_it_is_torchs_instance_norm_with_its_gradients(shape, channels_last) -> None:
    kind = nn.InstanceNorm2d if len(shape) == 4 else nn.InstanceNorm3d
    theirs, ours = kind(shape[1], affine=True), InstanceNorm(shape[1])
    with torch.no_grad():
        theirs.weight.normal_()
        theirs.bias.normal_()
    ours.load_state_dict(theirs.state_dict())
    images = [torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True) for _ in range(2)]
    layout = LAYOUTS[len(shape)] if channels_last else torch.contiguous_format
    inputs = (images[0], images[1].contiguous(memory_format=layout))
    outputs = [norm(image) for norm, image in zip((theirs, ours), inputs, strict=True)]
    torch.testing.assert_close(outputs[0], outputs[1])
    for output in outputs:
        (output * torch.arange(output.numel()).reshape(shape)).sum().backward()
    torch.testing.assert_close(images[0].grad, images[1].grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(theirs.weight.grad, ours.weight.grad, rtol=1e-3, atol=1e-3)


def test_the_gradients_of_channels_last_are_exact_to_double_precision_and_in_pieces(monkeypatch) -> None:
    # 5 values at once are one row of 3 channels: sums go over 35 pieces a sample.
    monkeypatch.setattr("equivox.models.norm._VALUES_AT_ONCE", 5)
    generator = torch.Generator().manual_seed(2)
    features = (5 + 3 * torch.randn((2, 3, 5, 7), generator=generator)).contiguous(memory_format=torch.channels_last)
    towards = torch.randn((2, 3, 5, 7), generator=generator)
    ours, exact = InstanceNorm(3), nn.InstanceNorm2d(3, affine=True).double()
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([0.5, -2.0, 1.5]))
        exact.weight.copy_(ours.weight)
    inputs = (features.clone().requires_grad_(), features.double().requires_grad_())
    (ours(inputs[0]) * towards).sum().backward()
    (exact(inputs[1]) * towards).sum().backward()
    assert inputs[0].grad.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(inputs[0].grad.double(), inputs[1].grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad.double(), exact.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.bias.grad.double(), exact.bias.grad, rtol=1e-5, atol=1e-5)


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
