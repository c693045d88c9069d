import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.lesions.components import connected_components

SPACING = (1.0, 2.0, 3.0)


def mask_of(*voxels: tuple[int, int, int], shape: tuple[int, int, int] = (5, 5, 5)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


@pytest.mark.parametrize(("connectivity", "count"), [(26, 1), (18, 2), (6, 3)])
def test_face_edge_and_corner_neighbours(connectivity: int, count: int) -> None:
    # (0,0,0) and (1,1,0) share an edge, (1,1,0) and (2,2,1) a corner alone.
    mask = mask_of((0, 0, 0), (1, 1, 0), (2, 2, 1))
    assert len(connected_components(mask, SPACING, connectivity=connectivity)) == count


@pytest.mark.parametrize(("connectivity", "count"), [(26, 1), (18, 1), (6, 2)])
def test_a_slice_has_the_connectivity_of_pixels(connectivity: int, count: int) -> None:
    mask = mask_of((0, 0, 0), (1, 1, 0), shape=(3, 3, 1))
    assert len(connected_components(mask, SPACING, connectivity=connectivity)) == count


def test_volumes_and_the_smallest_volume_by_hand() -> None:
    # 1, 2 and 3 voxels of 6 mm3; 12 mm3 is not below 12.
    mask = mask_of((0, 0, 0), (0, 2, 0), (0, 2, 1), (4, 4, 0), (4, 4, 1), (4, 4, 2))
    found = connected_components(mask, SPACING, minimum_volume_mm3=12.0)
    assert found.volume_mm3.tolist() == [6.0, 12.0, 18.0]
    assert found.kept.tolist() == [False, True, True]
    assert found.too_small == 1


def test_a_volume_of_exactly_the_smallest_is_kept_where_sides_are_no_binary_fractions() -> None:
    mask = mask_of((0, 0, 0), (0, 0, 1), (0, 0, 2))
    assert connected_components(mask, (0.1, 0.7, 1.1), minimum_volume_mm3=0.231).kept.all()


def test_an_empty_mask_has_no_components() -> None:
    for shape in ((3, 4, 1), (0, 4, 1)):
        found = connected_components(np.zeros(shape, dtype=bool), SPACING)
        assert len(found) == found.too_small == 0
        assert found.labels.shape == shape


def test_numbers_do_not_depend_on_the_memory_order() -> None:
    mask = np.random.default_rng(2).random((7, 6, 5)) < 0.2
    first, second = (connected_components(part, SPACING) for part in (mask, np.asfortranarray(mask)))
    np.testing.assert_array_equal(first.labels, second.labels)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "three positive numbers"),
        ({"minimum_volume_mm3": -1.0}, "at least 0, got -1"),
        ({"minimum_volume_mm3": float("nan")}, "at least 0, got nan"),
    ],
)
def test_settings_that_cannot_be_used_are_named(change: dict, match: str) -> None:
    arguments = {"spacing_mm": SPACING} | change
    with pytest.raises(InputError, match=match):
        connected_components(mask_of((0, 0, 0)), **arguments)
