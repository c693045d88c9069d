import torch
from torch import nn

from equivox.models.plain_unet import PlainUNet, PlainUNetOptions, kernel_sizes


def test_outputs_follow_the_strides() -> None:
    network = PlainUNet(1, 2, (4, 6, 8), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), PlainUNetOptions())
    shapes = [tuple(output.shape[2:]) for output in network(torch.zeros(1, 1, 4, 16, 8))]
    assert shapes == [(4, 16, 8), (4, 8, 4)]


def test_thick_slices_are_not_convolved_along_at_first() -> None:
    network = PlainUNet(1, 2, (4, 4, 4), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), PlainUNetOptions())
    kernels = [layer.kernel_size for layer in network.network.encoder.modules() if isinstance(layer, nn.Conv3d)]
    assert kernels[0] == (1, 3, 3)
    assert kernels[-1] == (3, 3, 3)


def test_an_axis_that_is_never_downsampled_is_convolved_along() -> None:
    assert kernel_sizes(((1, 1, 1), (1, 2, 2))) == ((3, 3, 3), (3, 3, 3))
