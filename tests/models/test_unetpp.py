import pytest
import torch
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus

from equivox.models.unetpp import UNetPlusPlus, UNetPlusPlusOptions
from equivox.models.weights import network_tensors


def test_with_halving_strides_it_is_monais_network() -> None:
    torch.manual_seed(3)
    ours = UNetPlusPlus(1, 2, (4, 4, 6, 6, 8), ((1, 1), *[(2, 2)] * 4), UNetPlusPlusOptions())
    theirs = BasicUNetPlusPlus(2, 1, 2, features=(4, 4, 6, 6, 8, 4), deep_supervision=True)
    theirs.load_state_dict({key.removeprefix("network."): value for key, value in network_tensors(ours).items()})
    image = torch.randn(2, 1, 32, 32)
    for mine, yours in zip(ours(image), reversed(theirs(image)), strict=True):
        torch.testing.assert_close(mine, yours)


@pytest.mark.parametrize("upsample", ["deconv", "nontrainable"])
def test_thin_patches_are_not_halved_across_the_slices(upsample) -> None:
    strides = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2))
    network = UNetPlusPlus(1, 2, (4, 4, 4, 4, 4), strides, UNetPlusPlusOptions(upsample=upsample))
    assert network.divisors == (2, 16, 16)
    assert network(torch.zeros(1, 1, 2, 32, 32))[0].shape == (1, 2, 2, 32, 32)


def test_of_a_longer_plan_the_first_five_stages_are_used() -> None:
    network = UNetPlusPlus(1, 2, (4,) * 7, ((1, 1), *[(2, 2)] * 6), UNetPlusPlusOptions())
    assert network.divisors == (16, 16)
