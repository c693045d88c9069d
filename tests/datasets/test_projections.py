"""Projections of the classes along the axes: in the store, and beside patches."""

import itertools

import numpy as np
import pytest
import torch

from equivox.datasets import store as module
from equivox.datasets.patches import PatchSource
from equivox.datasets.plan import NetworkPlan, TransformOptions
from equivox.datasets.prepare import PreparedCase, PreparedGeometry
from equivox.datasets.projections import class_projections
from equivox.datasets.store import Store
from equivox.datasets.transforms import AugmentationOptions, moving_changes
from equivox.errors import InputError

SHAPE = (9, 12, 7)
STILL = AugmentationOptions(affine_probability=0.0)


def network(patch: tuple[int, ...], slice_axis: int = 2) -> NetworkPlan:
    return NetworkPlan(
        dimensions=len(patch),
        slice_axis=slice_axis,
        patch_size=patch,
        batch_size=4,
        features=(8, 16),
        strides=((1,) * len(patch), (2,) * len(patch)),
        memory_mib=1,
    )


def written(folder, label: np.ndarray | None) -> Store:
    """A store with one case, whose voxels all have their own value; voxels are 0.5 x 1 x 3 mm."""
    shape = SHAPE if label is None else label.shape
    geometry = PreparedGeometry(
        shape, np.diag([0.5, 1.0, 3.0, 1.0]), "RAS", shape, (0, 0, 0), shape, shape, (0.5, 1.0, 3.0)
    )
    image = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(1, *shape)
    store = Store(folder)
    store.write("k", PreparedCase(image, label, geometry))
    return store


def source(store: Store, patch: tuple[int, ...], slice_axis: int = 2, **options) -> PatchSource:
    options = {"augment": False, "foreground_share": 0.0, **options}
    return PatchSource(
        [store.read("k")],
        network(patch, slice_axis),
        seed=0,
        projections=[store.projections("k")],
        classes=3,
        **options,
    )


def scattered() -> np.ndarray:
    return np.random.default_rng(4).choice(3, SHAPE, p=[0.94, 0.03, 0.03]).astype(np.int16)


def test_projections_of_a_line_and_of_nothing_by_hand() -> None:
    label = np.zeros((2, 3, 4), dtype=np.int16)
    label[1, 2, :] = 2
    along = class_projections(label)
    assert [one.shape for one in along] == [(3, 3, 4), (3, 2, 4), (3, 2, 3)]
    # Along its own axis a line is a point; seen from the side it is a row.
    assert [int(one[2].sum()) for one in along] == [4, 4, 1]
    assert [int(one[1].sum()) for one in along] == [0, 0, 0]
    # No ray along the line's own direction that meets the line meets background; from the side all do.
    assert [int(one[0].sum()) for one in along] == [12, 8, 5]
    empty = class_projections(np.zeros((1, 1, 1), dtype=np.int16))
    assert [one.tolist() for one in empty] == [[[[1]]]] * 3


def test_projections_are_made_once_and_belong_to_the_case(tmp_path, monkeypatch) -> None:
    label = scattered()
    store = written(tmp_path, label)
    found = store.projections("k")
    for one, wanted in zip(found, class_projections(label), strict=True):
        np.testing.assert_array_equal(one[...], wanted)
    assert len({store.projections_key("k"), store.projections_key("other"), store.tubes_key("k")}) == 3
    monkeypatch.setattr(module, "class_projections", lambda *_: pytest.fail("made again"))
    store.projections("k")


def test_a_case_without_a_label_has_no_projections(tmp_path) -> None:
    with pytest.raises(InputError, match="expected a case with a label, got one without"):
        written(tmp_path, None).projections("k")


def test_a_vessel_outside_of_the_patch_is_in_its_projection(tmp_path) -> None:
    # The vessel runs along axis 1 at (8, :, 6), beyond a patch at the near corner of axis 0.
    label = np.zeros(SHAPE, dtype=np.int16)
    label[8, :, 6] = 1
    cut = source(written(tmp_path, label), (4, 5, 7))
    patches = [cut.patch(step, index) for step, index in itertools.product(range(6), range(4))]
    without = [patch for patch in patches if not patch.label.any()]
    assert without
    for patch in without:
        along, *others = patch.projections
        assert along.shape == (3, 5, 7)
        assert along[1].nonzero()[:, 1].tolist() == [6] * 5
        # Nothing of it is within the window of the other two: that leaves the rows of axis 0 out in which it lies.
        assert not any(one[1].any() for one in others)


@pytest.mark.parametrize("augmentation", [None, STILL])
@pytest.mark.parametrize("patch_size", [(4, 5, 3), (9, 12, 7), (11, 4, 8)])
def test_a_projection_is_that_of_the_window_mirrored_as_the_patch(tmp_path, patch_size, augmentation) -> None:
    # The window is found by the image's first and last values, which are all different; it is compared with a
    # projection of the whole label, padded as the patch is.
    label = scattered()
    store = written(tmp_path, label)
    plain = AugmentationOptions(
        **{name: 0.0 for name in AugmentationOptions.model_fields if name.endswith("_probability")}
    ).model_copy(update={"mirror_probability": 0.5})
    cut = source(store, patch_size, augment=augmentation is not None, augmentation=plain, mirror_axes=(0, 1, 2))
    margins = [
        (max(side - length, 0) // 2, max(side - length, 0)) for side, length in zip(patch_size, SHAPE, strict=True)
    ]
    pads = [(low, both - low) for low, both in margins]
    image = np.pad(np.asarray(store.read("k").image)[0], pads)
    whole = np.pad(label, pads)
    mirrored = set()
    for step in range(8):
        patch = cut.patch(step, 0)
        inside = patch.image[0] > 0
        places = [np.argwhere(image == value)[0] for value in patch.image[0][inside].tolist()]
        at = inside.nonzero().numpy()
        for axis in range(3):
            rest = [other for other in range(3) if other != axis]
            rays = np.stack([(whole == index).any(axis=axis) for index in range(3)])
            for own, place in zip(at[:: len(at) // 12 + 1], places[:: len(at) // 12 + 1], strict=True):
                wanted = rays[:, place[rest[0]], place[rest[1]]]
                got = patch.projections[axis][:, own[rest[0]], own[rest[1]]].numpy()
                # Background in front of or behind the case is no voxel of the case.
                np.testing.assert_array_equal(got[1:], wanted[1:])
            assert patch.projections[axis].dtype == torch.bool
            for index in range(1, 3):
                lit = (patch.label == index).any(dim=axis)
                assert bool(patch.projections[axis][index][lit].all())
        mirrored.add(tuple(int(np.sign(places[-1][axis] - places[0][axis])) for axis in range(3)))
    assert (len(mirrored) > 1) == (augmentation is not None)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_in_2d_the_projection_is_that_of_the_slice(tmp_path, slice_axis) -> None:
    label = scattered()
    sides = [side for axis, side in enumerate(SHAPE) if axis != slice_axis]
    # Patches as wide as the slice: the projection along each axis is that of the patch.
    cut = source(written(tmp_path, label), (sides[0], sides[1]), slice_axis, augment=True, augmentation=STILL)
    seen = 0
    for step in range(6):
        patch = cut.patch(step, 0)
        for axis in range(2):
            assert patch.projections[axis].shape == (3, sides[1 - axis])
            for index in range(3):
                found = patch.projections[axis][index]
                assert torch.equal(found, (patch.label == index).any(dim=axis))
                seen += int(found.sum()) if index else 0
    assert seen


def test_beyond_the_case_all_is_background(tmp_path) -> None:
    label = np.ones((1, 1, 1), dtype=np.int16)
    patch = source(written(tmp_path, label), (3, 2, 1)).patch(0, 0)
    assert patch.projections[2][1].tolist() == (patch.label[..., 0] == 1).tolist()
    assert patch.projections[2][0].tolist() == (patch.label[..., 0] == 0).tolist()


def test_what_moves_structures_is_named() -> None:
    def extra(name: str, *keys: str) -> TransformOptions:
        return TransformOptions(name=name, arguments={"keys": list(keys)} if keys else {})

    options = AugmentationOptions(
        extra_transforms=(
            extra("RandHistogramShiftd"),
            extra("RandZoomd", "image", "label"),
            extra("RandGridDistortiond"),
            extra("KeepLargestConnectedComponentd", "label"),
            extra("RandSpatialCropd").model_copy(update={"arguments": {"roi_size": [2, 2], "keys": ["image"]}}),
        )
    )
    wanted = ("RandZoomd", "RandGridDistortiond", "KeepLargestConnectedComponentd", "RandSpatialCropd")
    assert moving_changes(options) == ("affine_probability", *wanted)
    assert moving_changes(STILL) == ()


def test_a_source_refuses_to_turn_what_has_projections(tmp_path) -> None:
    store = written(tmp_path, scattered())
    with pytest.raises(ValueError, match="patches with projections cannot follow affine_probability"):
        source(store, (4, 4, 4), augment=True)
