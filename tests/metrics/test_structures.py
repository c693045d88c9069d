import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.structures import cut_faces, measure_structure

# Voxels of 1 x 2 x 3 mm, turned and moved.
AFFINE = np.array([[0.0, 2.0, 0.0, 10.0], [-1.0, 0.0, 0.0, 20.0], [0.0, 0.0, 3.0, -5.0], [0.0, 0.0, 0.0, 1.0]])


def test_size_intensities_and_place_by_hand() -> None:
    mask = np.zeros((5, 4, 3), dtype=bool)
    image = np.zeros((5, 4, 3), dtype=np.float32)
    mask[1, 1, 1] = mask[3, 1, 1] = True
    image[1, 1, 1], image[3, 1, 1] = 0.25, 0.75
    found = measure_structure(mask, image, AFFINE)
    assert found is not None
    assert (found.voxels, found.volume_mm3) == (2, pytest.approx(12.0))
    assert (found.mean, found.median, found.minimum, found.maximum) == (0.5, 0.5, 0.25, 0.75)
    assert found.sd == pytest.approx(np.sqrt(0.125))
    # p5 of two values lies a twentieth of the way between them.
    assert (found.p5, found.p95) == (pytest.approx(0.275), pytest.approx(0.725))
    # The middle is voxel (2, 1, 1): x = 2 * 1 + 10, y = -2 + 20, z = 3 - 5.
    assert found.centroid_mm == pytest.approx((12.0, 18.0, -2.0))
    assert found.box == ((1, 3), (1, 1), (1, 1))


def test_a_ball_of_a_known_radius_has_its_volume_on_an_oblique_grid() -> None:
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 0.9, 1.1])
    grid = np.stack(np.meshgrid(*(np.arange(60) - 29.6 for _ in range(3)), indexing="ij"), axis=-1)
    mask = np.linalg.norm(grid * [0.7, 0.9, 1.1], axis=-1) <= 15.0
    found = measure_structure(mask, None, affine)
    assert found is not None
    assert found.volume_mm3 == pytest.approx(4 / 3 * np.pi * 15.0**3, rel=0.01)
    assert found.mean is None
    assert found.intensity_voxels == 0


def test_an_empty_mask_is_absent_and_not_of_size_zero() -> None:
    assert measure_structure(np.zeros((3, 3, 3), dtype=bool), None, AFFINE) is None


def test_one_voxel_has_no_spread() -> None:
    mask = np.zeros((3, 1, 2), dtype=bool)
    mask[0, 0, 0] = True
    found = measure_structure(mask, np.full((3, 1, 2), 7, dtype=np.int16), AFFINE)
    assert found is not None
    assert (found.mean, found.sd, found.intensity_voxels) == (7.0, None, 1)


def test_fractions_of_suv_are_kept() -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    found = measure_structure(mask, np.full((2, 2, 2), 0.6, dtype=np.float32), AFFINE)
    assert found is not None
    assert found.mean == pytest.approx(0.6)


def test_erosion_leaves_out_the_edge_in_millimetres_but_not_the_image_border() -> None:
    # 9 x 9 x 5 voxels of 1 x 2 x 3 mm, the mask from i = 0 to 6 over all of j and k: only i = 6 has a voxel outside
    # beside it, 1 mm away, and i = 5 one that is 2 mm away.
    mask = np.zeros((9, 9, 5), dtype=bool)
    mask[:7] = True
    image = np.broadcast_to(np.arange(9.0)[:, None, None], mask.shape).copy()
    found = measure_structure(mask, image, np.diag([1.0, 2.0, 3.0, 1.0]), erode_mm=1.5)
    assert found is not None
    assert (found.minimum, found.maximum) == (0.0, 5.0)
    assert found.voxels == mask.sum()


def test_erosion_may_leave_nothing_to_average() -> None:
    mask = np.zeros((5, 5, 5), dtype=bool)
    mask[2, 2, 2] = True
    found = measure_structure(mask, np.ones((5, 5, 5)), AFFINE, erode_mm=2.0)
    assert found is not None
    assert (found.voxels, found.intensity_voxels, found.mean) == (1, 0, None)


def test_an_image_of_another_shape_or_without_numbers_is_refused() -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(InputError, match="expected the shape of the mask"):
        measure_structure(mask, np.zeros((2, 2, 3)), AFFINE)
    with pytest.raises(InputError, match="not finite"):
        measure_structure(mask, np.full((2, 2, 2), np.nan), AFFINE)


def test_faces_are_touched_within_the_layers_asked_for() -> None:
    box = ((1, 3), (0, 4), (2, 2))
    assert cut_faces(box, (9, 5, 1)) == [(1, False), (1, True)]
    assert cut_faces(box, (9, 5, 1), border_voxels=2) == [(0, False), (1, False), (1, True)]
    assert cut_faces(((2, 6), (1, 1), (1, 1)), (9, 3, 3)) == []
