import pytest
import torch

from equivox.models.catalog import MODELS, build_network
from equivox.models.layout import with_channels_last


class Size:
    def __init__(self, dimensions: int) -> None:
        self.features = (4, 8)
        self.strides = ((1,) * dimensions, (2,) * dimensions)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_layout_changes_neither_outputs_nor_gradients(name, dimensions) -> None:
    image = torch.randn((2, 3, *(8, 12, 6)[:dimensions]), generator=torch.Generator().manual_seed(0))
    found = []
    for place in (lambda network: network, lambda network: with_channels_last(network, dimensions)):
        torch.manual_seed(0)
        network = place(build_network(name, {}, Size(dimensions), 3, 2)).train()
        outputs = network(image)
        sum(output.square().mean() for output in outputs).backward()
        found.append((outputs, {key: value.grad for key, value in network.named_parameters()}))
    (outputs, gradients), (placed_outputs, placed_gradients) = found
    torch.testing.assert_close(outputs, placed_outputs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradients, placed_gradients, rtol=1e-3, atol=1e-4)
