"""What every network of the table keeps to."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from equivox.errors import InputError
from equivox.models.catalog import MODELS, build_network, layer_name
from equivox.models.weights import load_network_tensors, network_tensors


@dataclass(frozen=True)
class Size:
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


FLAT = Size((4, 4, 6, 6, 8), ((1, 1), (2, 2), (2, 2), (2, 2), (2, 2)))
THIN = Size((4, 4, 6), ((1, 1, 1), (1, 2, 2), (2, 2, 2)))
CASES = [
    pytest.param(name, size, shape, id=f"{name}-{len(shape)}d")
    for name in MODELS
    for size, shape in ((FLAT, (32, 48)), (THIN, (6, 16, 12)))
]


def build(name: str, size: Size, **options: object) -> nn.Module:
    torch.manual_seed(7)
    return build_network(name, options, size, 2, 3)


@pytest.mark.parametrize(("name", "size", "shape"), CASES)
def test_first_output_has_the_full_resolution_and_eval_gives_it_alone(name, size, shape) -> None:
    network = build(name, size)
    image = torch.randn(2, 2, *shape)
    outputs = network(image)
    assert isinstance(outputs, tuple)
    assert outputs[0].shape == (2, 3, *shape)
    assert len(outputs) > 1
    alone = network.eval()(image)
    assert len(alone) == 1
    torch.testing.assert_close(alone[0], outputs[0])


@pytest.mark.parametrize("supervised", [True, False])
@pytest.mark.parametrize(("name", "size", "shape"), CASES)
def test_gradient_reaches_every_parameter(name, size, shape, supervised) -> None:
    network = build(name, size, deep_supervision=supervised)
    outputs = network(torch.randn(1, 2, *shape))
    assert supervised or len(outputs) == 1
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    without = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize(("name", "size", "shape"), CASES)
def test_a_side_that_does_not_fit_is_refused_with_the_pad(name, size, shape) -> None:
    network = build(name, size)
    sides = (*shape[:-1], shape[-1] + 1)
    with pytest.raises(ValueError, match=rf"{name}: expected spatial sides divisible by .*; pad to \("):
        network(torch.zeros(1, 2, *sides))


@pytest.mark.parametrize(("name", "size", "shape"), CASES)
def test_weights_survive_a_round_trip(name, size, shape) -> None:
    first, second = build(name, size), build_network(name, {}, size, 2, 3)
    image = torch.randn(1, 2, *shape)
    assert not torch.equal(first.eval()(image)[0], second.eval()(image)[0])
    load_network_tensors(second, {key: value.clone() for key, value in network_tensors(first).items()}, "here")
    assert torch.equal(first(image)[0], second(image)[0])


@pytest.mark.parametrize(("name", "size", "shape"), CASES)
def test_the_same_seed_builds_the_same_network(name, size, shape) -> None:
    first, second = network_tensors(build(name, size)), network_tensors(build(name, size))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_unknown_network_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"expected one of unetpp, plain_unet, got 'unet'"):
        build("unet", FLAT)


def test_unknown_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean 'upsample'"):
        build("unetpp", FLAT, upsampel="deconv")


def test_weights_of_another_network_are_refused() -> None:
    tensors = network_tensors(build("unetpp", FLAT))
    with pytest.raises(ValueError, match=r"w.safetensors: expected network\.\S+ of shape"):
        load_network_tensors(build("unetpp", FLAT, features=(4, 4, 6, 6, 8, 6)), tensors, "w.safetensors")
    with pytest.raises(ValueError, match="other names"):
        load_network_tensors(build("plain_unet", FLAT), tensors, "w.safetensors")


@pytest.mark.parametrize(("name", "size", "shape"), CASES)
def test_the_bottleneck_gives_the_coarsest_features(name, size, shape) -> None:
    network = build(name, size).eval()
    seen = []
    network.get_submodule(layer_name(network, "bottleneck")).register_forward_hook(
        lambda _m, _i, output: seen.append(output)
    )
    network(torch.zeros(1, 2, *shape))
    strides = [math.prod(row[axis] for row in size.strides) for axis in range(len(shape))]
    coarsest = tuple(side // stride for side, stride in zip(shape, strides, strict=True))
    assert [tuple(features.shape) for features in seen] == [(1, size.features[-1], *coarsest)]


@pytest.mark.parametrize(("name", "size", "shape"), CASES)
def test_the_last_decoder_gives_all_that_the_logits_are_made_of(name, size, shape) -> None:
    network = build(name, size).eval()
    seen = []

    def without(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(output.shape[2:]))
        return torch.zeros_like(output)

    network.get_submodule(layer_name(network, "last_decoder")).register_forward_hook(without)
    logits = network(torch.randn(1, 2, *shape))[0]
    assert seen == [shape]
    # Nothing but the head's bias is left.
    assert logits.flatten(2).std(dim=2).max() == 0


def test_a_network_that_names_no_bottleneck_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a network that names its bottleneck, got Identity"):
        layer_name(nn.Identity(), "bottleneck")
