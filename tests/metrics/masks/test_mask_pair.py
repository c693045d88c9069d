import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.masks.mask_pair import cropped_pair, without_flat_axis


@pytest.mark.parametrize("flat", [0, 1, 2])
def test_one_voxel_along_an_axis_is_2d(flat: int) -> None:
    mask = np.random.default_rng(0).random((4, 5)) < 0.5
    np.testing.assert_array_equal(without_flat_axis(np.expand_dims(mask, flat)), mask)


def test_of_several_flat_axes_one_is_dropped() -> None:
    assert without_flat_axis(np.ones((1, 5, 1), dtype=bool)).shape == (1, 5)
    assert without_flat_axis(np.ones((1, 1, 1), dtype=bool)).shape == (1, 1)
    assert without_flat_axis(np.ones((1, 5), dtype=bool)).shape == (1, 5)


def test_the_box_holds_both_masks_and_no_more() -> None:
    first, second = np.zeros((2, 7, 8, 9), dtype=bool)
    first[1, 2, 3] = second[4, 1, 8] = second[2, 6, 4] = True
    one, other = cropped_pair(first, second)
    assert one.shape == other.shape == (4, 6, 6)
    assert np.argwhere(one).tolist() == [[0, 1, 0]]
    assert np.argwhere(other).tolist() == [[1, 5, 1], [3, 0, 5]]


def test_a_crop_of_one_voxels_thickness_stays_3d() -> None:
    mask = np.zeros((5, 5, 5), dtype=bool)
    mask[2, 1:4, 3] = True
    assert cropped_pair(mask, mask)[0].shape == (1, 3, 1)


def test_two_empty_masks_have_an_empty_box() -> None:
    empty = np.zeros((4, 5, 6), dtype=bool)
    assert [mask.size for mask in cropped_pair(empty, empty)] == [0, 0]


@pytest.mark.parametrize(
    ("shapes", "dtype", "message"),
    [
        (((4, 4), (4, 5)), bool, r"prediction: expected the shape of the reference, \(4, 4\), got \(4, 5\)"),
        (((4,), (4,)), bool, r"reference: expected a boolean array of two or three axes, got bool of shape \(4,\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(shapes: tuple, dtype: type, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cropped_pair(*(np.zeros(shape, dtype=dtype) for shape in shapes))
