"""Transforms by name, and the augmentation pipeline."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from equivox.datasets.plan import TransformOptions
from equivox.datasets.transforms import AugmentationOptions, augmentation_steps, named_transform
from equivox.errors import InputError

NOTHING = {name: 0.0 for name in AugmentationOptions.model_fields if name.endswith("_probability")}


def augmented(options, image, label, *, axes=(), affine=False, seed=0, size=None):
    steps = augmentation_steps(options, size or image.shape[1:], axes, affine=affine)
    steps.set_random_state(seed=seed)
    changed = steps({"image": MetaTensor(image), "label": MetaTensor(label)})
    return changed["image"].as_tensor(), changed["label"].as_tensor()


def test_a_transform_is_built_with_the_users_arguments() -> None:
    made = named_transform(TransformOptions(name="RandGaussianNoised", arguments={"prob": 0.25}))
    assert made.keys == ("image",)
    assert made.prob == 0.25


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [
        ("RandGausianNoised", {}, "did you mean 'RandGaussianNoised'"),
        ("RandGaussianNoise", {}, "did you mean 'RandGaussianNoised'"),
        ("Compose", {}, "expected a dictionary transform"),
        ("os", {}, "no MONAI transform 'os'"),
        ("RandGaussianNoised", {"probability": 1}, "refused its arguments: .*probability"),
    ],
)
def test_a_wrong_name_or_argument_says_what_to_do(name, arguments, match) -> None:
    with pytest.raises(InputError, match=match):
        named_transform(TransformOptions(name=name, arguments=arguments), "here")


@pytest.mark.parametrize("shape", [(24, 20), (12, 10, 6)])
def test_without_probabilities_nothing_changes(shape) -> None:
    image, label = torch.rand(2, *shape), torch.ones(1, *shape)
    same, same_label = augmented(AugmentationOptions(**NOTHING), image, label, axes=range(len(shape)))
    torch.testing.assert_close(same, image)
    torch.testing.assert_close(same_label, label)


@pytest.mark.parametrize("shape", [(24, 20), (12, 10, 6)])
def test_every_change_at_once_keeps_shape_and_classes(shape) -> None:
    always = AugmentationOptions(**dict.fromkeys(NOTHING, 1.0))
    image = torch.rand(2, *shape)
    larger = tuple(side + 6 for side in shape)
    big, big_label = torch.rand(2, *larger), (torch.rand(1, *larger) > 0.5).float() * 3
    changed, changed_label = augmented(always, big, big_label, axes=range(len(shape)), affine=True, size=shape)
    assert changed.shape == image.shape
    assert torch.isfinite(changed).all()
    assert set(changed_label.unique().tolist()) <= {0.0, 3.0}
    assert isinstance(augmentation_steps(always, shape, (), affine=True), Compose)


def test_mirroring_turns_image_and_label_alike_and_only_along_the_allowed_axis() -> None:
    image = torch.arange(12.0).reshape(1, 3, 4)
    mirror = AugmentationOptions(**{**NOTHING, "mirror_probability": 1.0})
    changed, changed_label = augmented(mirror, image, image + 100, axes=(1,))
    torch.testing.assert_close(changed, image.flip(2))
    torch.testing.assert_close(changed_label, (image + 100).flip(2))


def test_zoom_of_two_doubles_a_square_by_hand() -> None:
    # An 8 x 8 square in the middle becomes 16 x 16.
    image = torch.zeros(1, 40, 40)
    image[:, 16:24, 16:24] = 1
    zoom = AugmentationOptions(**NOTHING, rotation_degrees=0.0, scale=(2.0, 2.0))
    _, label = augmented(zoom, image, image, affine=True, size=(32, 32))
    assert label.sum() == 256
    assert label[0, 8:24, 8:24].all()


def test_rotation_keeps_the_place_of_image_and_label_together() -> None:
    image = torch.zeros(1, 48, 48)
    image[:, 10:30, 20:28] = 1
    turn = AugmentationOptions(**NOTHING, rotation_degrees=30.0, scale=(1.0, 1.0))
    changed, label = augmented(turn, image, image, affine=True, size=(40, 40), seed=5)
    overlap = ((changed > 0.5) == (label > 0.5)).float().mean()
    assert overlap > 0.99
    assert not np.array_equal(label.numpy(), image[:, 4:44, 4:44].numpy())


def test_the_same_seed_gives_the_same_patch_and_another_another() -> None:
    options = AugmentationOptions()
    image, label = torch.rand(1, 32, 32), torch.zeros(1, 32, 32)
    runs = [augmented(options, image, label, axes=(0, 1), seed=seed)[0] for seed in (4, 4, *range(5, 12))]
    assert torch.equal(runs[0], runs[1])
    assert any(not torch.equal(runs[0], other) for other in runs[2:])
