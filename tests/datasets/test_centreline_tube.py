"""Tubes round centrelines: by hand, and a piece of each class in one."""

import numpy as np
import pytest

from equivox.datasets.centreline_tube import centreline_tubes
from equivox.skeleton import skeleton


def test_a_tube_by_hand() -> None:
    # A line of one voxel is its own centreline and its own tube. Of a plate of 7 x 9 x 1 voxels, what lies within two
    # steps of the line, and nothing outside.
    label = np.zeros((9, 11, 3), dtype=np.int16)
    label[4, 1:10, 1] = 3
    np.testing.assert_array_equal(centreline_tubes(label), label)
    label[1:8, 1:10, 1] = 3
    line = np.argwhere(skeleton(label > 0))
    steps = np.abs(np.argwhere(label)[:, None] - line[None]).sum(2).min(1)
    tubes = centreline_tubes(label)
    assert 0 < np.count_nonzero(tubes) == np.count_nonzero(steps <= 2) < np.count_nonzero(label)
    assert set(np.unique(tubes)) == {0, 3}
    assert not tubes[label == 0].any()


def test_a_lesion_beside_the_centreline_has_a_tube_of_its_own_and_makes_no_hole() -> None:
    label = np.zeros((30, 13, 13), dtype=np.uint8)
    label[1:29, 1:12, 1:12] = 1
    whole = centreline_tubes(label)
    label[5:7, 9:11, 9:11] = 2
    assert not (whole[label == 2]).any()
    tubes = centreline_tubes(label)
    assert (tubes == 2).any()
    np.testing.assert_array_equal(tubes[label == 1], whole[label == 1])


def test_slices_have_centrelines_of_their_own() -> None:
    # A plate, whose centreline in 3D is one line. Across its thin axis each slice is a square; along it, a bar.
    label = np.zeros((12, 12, 4), dtype=np.uint8)
    label[1:11, 1:11, 1:3] = 1
    for axis in range(3):
        tubes = centreline_tubes(label, axis)
        planes = zip(np.moveaxis(label, axis, 0), np.moveaxis(tubes, axis, 0), strict=True)
        for plane, found in planes:
            assert found.any() == plane.any()
            assert not found[plane == 0].any()
    assert not np.array_equal(centreline_tubes(label, 0), centreline_tubes(label, 2))


@pytest.mark.parametrize("slice_axis", [None, 0, 2])
def test_nothing_one_voxel_and_everything(slice_axis: int | None) -> None:
    label = np.zeros((5, 4, 3), dtype=np.int16)
    assert not centreline_tubes(label, slice_axis).any()
    label[2, 1, 1] = 2
    np.testing.assert_array_equal(centreline_tubes(label, slice_axis), label)
    label[...] = 1
    tubes = centreline_tubes(label, slice_axis)
    assert tubes.dtype == label.dtype
    assert tubes.any()


def test_small_pieces_that_thinning_wipes_out_have_a_tube() -> None:
    label = np.zeros((8, 8, 8), dtype=np.uint8)
    label[1:3, 1:3, 1:3] = 1
    label[5:7, 5:7, 5:7] = 2
    tubes = centreline_tubes(label)
    assert set(np.unique(tubes)) == {0, 1, 2}
