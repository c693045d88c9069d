"""Where voxels lie: spacing, volume, corners, and when two grids are the same."""

import numpy as np
import pytest

from equivox.volume import Grid, Volume


def test_spacing_and_volume_by_hand() -> None:
    # A quarter turn about z swaps the axes; the columns keep their lengths 2, 3 and 5 mm.
    affine = np.array([[0, -3.0, 0, 1], [2, 0, 0, 1], [0, 0, 5, 1], [0, 0, 0, 1]])
    grid = Grid((4, 1, 7), affine)
    assert grid.spacing_mm == (2, 3, 5)
    assert grid.voxel_volume_mm3 == pytest.approx(30)


def test_corners_are_the_centres_of_the_corner_voxels() -> None:
    corners = Grid((3, 1, 2), np.diag([2.0, 3, 5, 1])).corners_mm()
    assert sorted(map(tuple, corners.tolist())) == sorted([(0, 0, 0), (0, 0, 5), (4, 0, 0), (4, 0, 5)] * 2)


def test_a_tenth_of_the_smallest_voxel_side_is_the_tolerance() -> None:
    affine = np.diag([1.0, 2, 5, 1])
    moved = affine.copy()
    moved[2, 3] = 0.09
    assert Grid((4, 4, 4), affine).matches(Grid((4, 4, 4), moved))
    assert Grid((4, 4, 4), affine).distance_mm(Grid((4, 4, 4), moved)) == pytest.approx(0.09)
    moved[2, 3] = 0.11
    assert not Grid((4, 4, 4), affine).matches(Grid((4, 4, 4), moved))
    assert not Grid((4, 4, 4), affine).matches(Grid((4, 4, 5), affine))


def test_a_scale_that_is_slightly_off_shows_at_the_far_corner() -> None:
    # 0.1 % of 1 mm over 200 voxels is 0.2 mm.
    near, far = np.eye(4), np.diag([1.001, 1, 1, 1])
    assert Grid((201, 1, 1), near).distance_mm(Grid((201, 1, 1), far)) == pytest.approx(0.2)
    assert not Grid((201, 1, 1), near).matches(Grid((201, 1, 1), far))


def test_an_array_of_another_shape_does_not_take_the_place_of_a_volumes() -> None:
    volume = Volume(np.zeros((1, 2, 3, 4)), np.eye(4))
    assert volume.with_array(np.ones((5, 2, 3, 4))).array.shape == (5, 2, 3, 4)
    with pytest.raises(ValueError, match=r"expected an array of spatial shape \(2, 3, 4\), got \(4, 3, 2\)"):
        volume.with_array(np.zeros((1, 4, 3, 2)))
