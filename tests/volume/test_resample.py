"""Resampling against scikit-image, hand-made numbers, and functions that splines reproduce exactly."""

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import resize as skimage_resize

from equivox.volume.grid import Grid
from equivox.volume.resample import resample_to_grid, resize, resize_labels, resized_shape
from equivox.volume.volume import Volume

SHAPES = [((20, 33, 7), (31, 20, 9)), ((5, 64, 50), (5, 33, 80)), ((1, 9, 140), (3, 1, 200)), ((2, 3, 4), (5, 7, 9))]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("shape", "new_shape"), SHAPES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_resize_equals_scikit_image(shape, new_shape, order) -> None:
    image = noise(2, *shape)
    expected = [
        skimage_resize(channel.astype(np.float64), new_shape, order, mode="edge", anti_aliasing=False, clip=False)
        for channel in image
    ]
    np.testing.assert_allclose(resize(image, new_shape, order), expected, atol=5e-5)


def test_linear_resize_by_hand() -> None:
    # Two voxels to four: positions -0.25, 0.25, 0.75, 1.25, the outer two held at the edge.
    image = np.array([0.0, 4.0], dtype=np.float32).reshape(1, 2, 1, 1)
    assert resize(image, (4, 1, 1), 1).ravel().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_cubic_resize_passes_through_the_voxels() -> None:
    # Three times as many voxels: the middle one of each three lies where an old one was.
    image = noise(1, 9, 8, 7)
    np.testing.assert_allclose(resize(image, (27, 24, 21), 3)[:, 1::3, 1::3, 1::3], image, atol=1e-5)


def test_long_axes_lose_nothing_by_cutting_the_spline_map() -> None:
    image = noise(1, 1, 700, 2)
    expected = skimage_resize(
        image[0].astype(np.float64), (1, 1000, 2), 3, mode="edge", anti_aliasing=False, clip=False
    )
    np.testing.assert_allclose(resize(image, (1, 1000, 2), 3)[0], expected, atol=2e-6)


def test_the_same_shape_gives_the_same_values() -> None:
    image = noise(1, 3, 1, 2).astype(np.float64)
    same = resize(image, (3, 1, 2), 3)
    np.testing.assert_array_equal(same, image.astype(np.float32))
    assert same.dtype == np.float32


def test_an_array_that_cannot_be_written_to_is_read_without_a_warning() -> None:
    image = noise(1, 4, 4, 4)
    image.setflags(write=False)
    assert resize(image, (2, 2, 2), 3).shape == (1, 2, 2, 2)


def test_a_shape_without_voxels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"positive sides, got \(2, 0, 1\)"):
        resize(noise(1, 2, 2, 2), (2, 0, 1), 1)


def test_resized_shape_keeps_at_least_one_voxel() -> None:
    assert resized_shape((100, 50, 2), (0.5, 1.0, 5.0), (1.0, 1.0, 30.0)) == (50, 50, 1)


def test_labels_take_the_largest_share_by_hand() -> None:
    # Three voxels of classes 0, 5, 5 to two: positions 0.25 and 1.75. At 0.25 class 0 has 0.75.
    labels = np.array([0, 5, 5], dtype=np.uint8).reshape(3, 1, 1)
    resized = resize_labels(labels, (2, 1, 1))
    assert resized.ravel().tolist() == [0, 5]
    assert resized.dtype == np.uint8


@pytest.mark.parametrize(
    ("shape", "new_shape"), [((9, 11, 5), (7, 16, 5)), ((6, 7, 8), (13, 4, 3)), ((1, 2, 3), (2, 1, 7))]
)
def test_labels_equal_the_largest_of_all_interpolated_masks(shape, new_shape) -> None:
    labels = np.random.default_rng(1).integers(0, 5, shape).astype(np.int16)
    shares = [resize((labels == value)[None].astype(np.float32), new_shape, 1)[0] for value in range(5)]
    # A thousandth of float32's rounding decides nothing: classes within it of the largest are all right.
    resized = resize_labels(labels, new_shape)
    won = np.take_along_axis(np.array(shares), resized[None].astype(np.int64), axis=0)[0]
    np.testing.assert_allclose(won, np.max(shares, axis=0), atol=1e-5)


def test_ties_fall_to_the_smaller_class() -> None:
    # One voxel halfway between the two.
    for pair in ([3, 1], [1, 3]):
        assert resize_labels(np.array(pair, dtype=np.int16).reshape(2, 1, 1), (1, 1, 1)).item() == 1


def test_labels_never_get_a_class_between_two_others() -> None:
    labels = np.zeros((8, 8, 3), dtype=np.int16)
    labels[4:] = 2
    assert set(np.unique(resize_labels(labels, (13, 11, 5)))) == {0, 2}


def test_a_ball_keeps_its_volume_through_label_resizing() -> None:
    i, j, k = np.ogrid[:40, :40, :16]
    ball = ((i - 19.5) ** 2 + (j - 19.5) ** 2 + (2.5 * (k - 7.5)) ** 2 <= 15**2).astype(np.int16)
    share = resize_labels(ball, (27, 27, 24)).mean() / ball.mean()
    assert share == pytest.approx(1.0, abs=0.02)


def oblique(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    angle = math.radians(20)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = (-3.0, 2.0, 1.0)
    return Grid(shape, affine)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_ramp_in_the_patient_stays_that_ramp_on_an_oblique_grid(interpolation) -> None:
    source = Grid(
        (40, 40, 30),
        np.diag([1.5, 1.5, 2.0, 1.0]) + np.array([[0, 0, 0, -30], [0, 0, 0, -30], [0, 0, 0, -20], [0] * 4]),
    )
    positions = np.stack(np.meshgrid(*map(np.arange, source.shape), indexing="ij"), -1) @ source.affine[:3, :3].T
    positions = positions + source.affine[:3, 3]
    ramp = (positions @ np.array([0.3, -0.7, 0.2]) + 5).astype(np.float32)
    target = oblique((9, 8, 7), (1.1, 0.9, 1.7))
    moved = resample_to_grid(Volume(ramp[None], source.affine), target, interpolation)
    indices = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), -1)
    expected = (indices @ target.affine[:3, :3].T + target.affine[:3, 3]) @ np.array([0.3, -0.7, 0.2]) + 5
    np.testing.assert_allclose(moved.array[0], expected, atol=2e-3)
    np.testing.assert_array_equal(moved.affine, target.affine)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_aligned_grids_agree_with_the_general_way(interpolation) -> None:
    image = noise(1, 12, 10, 9)
    affine = np.diag([-2.0, 3.0, 1.0, 1.0])
    affine[:3, 3] = (5, -4, 2)
    target = np.zeros((4, 4))
    # Axes of the target are k, i, j of the source, one of them flipped, at other spacings.
    target[2, 0], target[0, 1], target[1, 2], target[3, 3] = 0.7, -1.3, -2.1, 1
    target[:3, 3] = affine[:3] @ np.array([1.2, 8.0, 0.4, 1.0])
    moved = resample_to_grid(Volume(image, affine), Grid((10, 9, 8), target), interpolation)
    order = {"linear": 1, "cubic": 3}[interpolation]
    matrix = np.linalg.inv(affine) @ target
    expected = ndimage.affine_transform(
        image[0].astype(np.float64), matrix[:3, :3], matrix[:3, 3], output_shape=(10, 9, 8), order=order, mode="nearest"
    )
    np.testing.assert_allclose(moved.array[0], expected, atol=1e-4)


def test_what_lies_outside_gets_the_smallest_value() -> None:
    volume = Volume(np.full((1, 2, 2, 2), 7.0, dtype=np.float32), np.eye(4))
    volume.array[0, 0, 0, 0] = -1000.0
    moved = resample_to_grid(volume, Grid((4, 1, 1), np.eye(4)), "nearest")
    assert moved.array.ravel().tolist() == [-1000.0, 7.0, -1000.0, -1000.0]


def test_nearest_keeps_the_type_and_the_values_of_labels() -> None:
    labels = np.arange(8, dtype=np.int16).reshape(1, 2, 2, 2) * 1000
    moved = resample_to_grid(Volume(labels, np.eye(4)), Grid((2, 2, 2), np.eye(4)), "nearest")
    assert moved.array.dtype == np.int16
    np.testing.assert_array_equal(moved.array, labels)
