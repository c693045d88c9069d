"""Patches: where they are cut, and that their chance is their own."""

import numpy as np
import pytest
import torch

from equivox.datasets.patches import PatchSource
from equivox.datasets.plan import IntensityPlan, NetworkPlan, Plan, PreprocessingPlan, TransformOptions
from equivox.datasets.prepare import PreparedCase, PreparedGeometry
from equivox.datasets.store import Store, StoredCase
from equivox.datasets.transforms import AugmentationOptions
from equivox.errors import InputError


def network(patch: tuple[int, ...], slice_axis: int = 2) -> NetworkPlan:
    return NetworkPlan(
        dimensions=2 if len(patch) == 2 else 3,
        slice_axis=slice_axis,
        patch_size=patch,
        batch_size=4,
        features=(8, 16),
        strides=((1,) * len(patch), (2,) * len(patch)),
        memory_mib=1,
    )


def stored(folder, image: np.ndarray, label: np.ndarray | None, key: str = "k") -> StoredCase:
    i, j, k = image.shape[1:]
    shape = (i, j, k)
    geometry = PreparedGeometry(shape, np.eye(4), "RAS", shape, (0, 0, 0), shape, shape, (1.0, 1.0, 1.0))
    store = Store(folder)
    store.write(key, PreparedCase(image.astype(np.float32), label, geometry))
    return store.read(key)


@pytest.fixture
def scan(tmp_path) -> StoredCase:
    # Every voxel has its own value, and the one voxel of the class is at (7, 20, 3).
    image = np.arange(1, 1 + 16 * 30 * 9, dtype=np.float32).reshape(1, 16, 30, 9)
    label = np.zeros((16, 30, 9), dtype=np.int16)
    label[7, 20, 3] = 1
    return stored(tmp_path, image, label)


def test_a_patch_is_a_piece_of_the_scan(scan) -> None:
    source = PatchSource([scan], network((4, 6, 3)), seed=0, augment=False)
    patch = source.patch(3, 1)
    assert patch.image.shape == (1, 4, 6, 3)
    assert patch.image.dtype == torch.float32
    assert patch.label.dtype == torch.int64
    whole = scan.image[...][0]
    i, j, k = (int(index) for index in np.argwhere(whole == patch.image[0, 0, 0, 0].item())[0])
    np.testing.assert_array_equal(patch.image[0], whole[i : i + 4, j : j + 6, k : k + 3])


@pytest.mark.parametrize(("axis", "size"), [(0, (6, 5)), (1, (6, 5)), (2, (6, 5))])
def test_a_2d_patch_lies_in_one_slice_across_its_axis(scan, axis, size) -> None:
    source = PatchSource([scan], network(size, axis), seed=0, foreground_share=1.0, augment=False)
    patch = source.patch(0, 0)
    assert patch.image.shape == (1, *size)
    # The class voxel is in the patch, so the slice is its slice.
    value = scan.image[...][0, 7, 20, 3]
    place = np.argwhere(patch.label.numpy() == 1)
    assert len(place) == 1
    assert patch.image[0][tuple(place[0])] == value


def test_the_share_of_foreground_patches_is_exact(scan) -> None:
    source = PatchSource([scan], network((2, 2, 2)), seed=0, foreground_share=1 / 3, augment=False)
    wanted = [source._wants_foreground(step, index) for step in range(30) for index in range(4)]
    assert sum(wanted) == 40
    hits = [bool(source.patch(step, index).label.any()) for step in range(30) for index in range(4)]
    assert all(hit for hit, want in zip(hits, wanted, strict=True) if want)
    assert sum(hits) < 50


def test_without_foreground_share_patches_lie_anywhere(scan) -> None:
    source = PatchSource([scan], network((4, 6, 3)), seed=0, foreground_share=0.0, augment=False)
    corners = {source.patch(step, 0).image[0, 0, 0, 0].item() for step in range(300)}
    whole = scan.image[...][0]
    # Every place where the patch fits is possible: 13 x 25 x 7; the first and last along k are both met.
    assert {int(np.argwhere(whole == corner)[0][2]) for corner in corners} == set(range(7))
    assert {int(np.argwhere(whole == corner)[0][0]) for corner in corners} == set(range(13))


def test_a_scan_smaller_than_the_patch_is_padded_with_zeros_round_it(tmp_path) -> None:
    image = np.ones((1, 3, 2, 1))
    small = stored(tmp_path, image, np.ones((3, 2, 1), dtype=np.int16))
    patch = PatchSource([small], network((7, 4, 2)), seed=0, augment=False).patch(0, 2)
    assert patch.image.sum() == patch.label.sum() == 6
    assert patch.image[0, 2:5, 1:3, 0].all()


def test_cases_with_foreground_are_chosen_for_foreground_patches(tmp_path, scan) -> None:
    empty = stored(tmp_path, np.ones((1, 9, 9, 9)), np.zeros((9, 9, 9), dtype=np.int16), "empty")
    source = PatchSource([empty, scan], network((4, 4, 4)), seed=1, foreground_share=0.5, augment=False)
    patches = [source.patch(step, index) for step in range(20) for index in range(4)]
    chosen = [patch.case_index for patch in patches]
    assert 0 in chosen
    foreground = [patch for patch, want in zip(patches, [False, True] * 40, strict=True) if want]
    assert all(patch.case_index == 1 and patch.label.any() for patch in foreground)


def test_without_any_foreground_training_still_gets_patches(tmp_path) -> None:
    empty = stored(tmp_path, np.ones((1, 9, 9, 9)), np.zeros((9, 9, 9), dtype=np.int16))
    assert (
        not PatchSource([empty], network((4, 4, 4)), seed=1, foreground_share=1.0, augment=True).patch(0, 0).label.any()
    )


def test_rare_classes_are_chosen_as_often_as_common_ones(tmp_path) -> None:
    label = np.ones((12, 12, 12), dtype=np.int16)
    label[1, 2, 3] = 2
    case = stored(tmp_path, np.ones((1, 12, 12, 12)), label)
    source = PatchSource([case], network((2, 2, 2)), seed=1, foreground_share=1.0, augment=False)
    rare = sum(bool((source.patch(step, 0).label == 2).any()) for step in range(200))
    assert 75 < rare < 130


def test_a_patch_depends_on_seed_step_and_index_alone(scan) -> None:
    def make(seed: int) -> PatchSource:
        return PatchSource([scan], network((12, 12)), seed=seed, augment=True, mirror_axes=(0, 1))

    first = make(1)
    wanted = first.patch(5, 2)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - to show that the global state does not matter
    other = make(1)
    for step in range(3):
        other.patch(step, 0)
    again = other.patch(5, 2)
    assert torch.equal(wanted.image, again.image)
    assert torch.equal(wanted.label, again.label)
    differing = [first.patch(5, 3), first.patch(6, 2), make(2).patch(5, 2)]
    assert all(not torch.equal(wanted.image, patch.image) for patch in differing)


def test_no_two_patches_of_a_run_share_their_chance(scan) -> None:
    source = PatchSource([scan], network((4, 4, 4)), seed=1, foreground_share=0.0, augment=False)
    corners = [source.patch(step, index).image[0, 0, 0, 0].item() for step in range(3) for index in range(4)]
    assert len(set(corners)) == 12


def test_cutting_patches_leaves_the_global_random_state_alone(scan) -> None:
    source = PatchSource([scan], network((12, 12)), seed=0, augment=True)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    source.patch(0, 0)
    torch.testing.assert_close(torch.rand(4), expected)


@pytest.mark.parametrize("patch", [(12, 14), (8, 12, 6)])
def test_augmented_patches_keep_shape_type_and_classes(scan, patch) -> None:
    options = AugmentationOptions(affine_probability=1.0)
    source = PatchSource([scan], network(patch), seed=0, augment=True, augmentation=options, foreground_share=1.0)
    for step in range(4):
        made = source.patch(step, 0)
        assert made.image.shape == (1, *patch)
        assert made.image.dtype == torch.float32
        assert made.label.dtype == torch.int64
        assert set(made.label.unique().tolist()) <= {0, 1}
        assert torch.isfinite(made.image).all()


def test_a_transform_of_the_user_is_part_of_the_augmentation(scan) -> None:
    extra = (TransformOptions(name="ScaleIntensityd", arguments={"minv": 2.0, "maxv": 3.0}),)
    options = AugmentationOptions(extra_transforms=extra)
    patch = PatchSource([scan], network((12, 12)), seed=0, augment=True, augmentation=options).patch(0, 0)
    assert patch.image.min() == pytest.approx(2.0)
    assert patch.image.max() == pytest.approx(3.0)


def test_cases_without_labels_are_refused(tmp_path) -> None:
    case = stored(tmp_path, np.ones((1, 4, 4, 4)), None)
    with pytest.raises(InputError, match="expected cases with labels, got 1 without of 1"):
        PatchSource([case], network((2, 2, 2)), seed=0, augment=False)


@pytest.mark.parametrize(
    ("pairs", "axis", "patch", "allowed"),
    [
        ((), 2, (8, 8), (0, 1)),
        ((("left", "right"),), 2, (8, 8), (1,)),
        # Sagittal slices: left-right is the axis that they are cut across, both others may be mirrored.
        ((("left", "right"),), 0, (8, 8), (0, 1)),
        ((("left", "right"),), 2, (8, 8, 8), (1, 2)),
    ],
)
def test_left_and_right_are_never_swapped_where_classes_depend_on_it(pairs, axis, patch, allowed) -> None:
    plan = Plan(
        cohort="c",
        classes={"left": 1, "right": 2},
        left_right_pairs=pairs,
        preprocessing=PreprocessingPlan(
            channels=("mr",), intensity={"mr": IntensityPlan(scheme="keep")}, resample_channels={"mr": "same_grid"}
        ),
        networks={},
    )
    assert plan.mirror_axes(network(patch, axis)) == allowed


@pytest.mark.parametrize("patch", [(10, 12, 6), (10, 12)])
def test_tubes_are_cut_and_turned_as_the_labels_are(tmp_path, patch) -> None:
    # Blobs of two classes; tubes lie within their class, and the labels are those that one gets without tubes.
    generator = np.random.default_rng(3)
    label = (generator.random((16, 30, 9)) > 0.4).astype(np.int16) * 2
    label[:8] //= 2
    scan = stored(tmp_path, generator.normal(size=(1, 16, 30, 9)), label)
    tubes = Store(tmp_path).tubes("k")
    options = {"seed": 0, "augment": True, "mirror_axes": range(len(patch))}
    with_tubes = PatchSource([scan], network(patch), tubes=[tubes], **options)
    without = PatchSource([scan], network(patch), **options)
    for step in range(12):
        found, plain = with_tubes.patch(step, 0), without.patch(step, 0)
        torch.testing.assert_close(found.image, plain.image)
        assert torch.equal(found.label, plain.label)
        assert plain.skeleton is None
        assert found.skeleton.shape == found.label.shape
        assert found.skeleton.dtype == torch.int64
        assert torch.equal(found.skeleton, torch.where(found.skeleton > 0, found.label, 0))
        assert found.skeleton.any()
    whole = PatchSource([scan], network(patch), tubes=[scan.label], **options)
    assert torch.equal(whole.patch(1, 2).skeleton, whole.patch(1, 2).label)
