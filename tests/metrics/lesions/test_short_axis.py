import numpy as np
import pytest
from scipy import ndimage

from equivox.errors import InputError
from equivox.metrics.lesions.short_axis import lesion_axes


def axes(mask: np.ndarray, spacing: tuple[float, float, float], **options) -> tuple[float, float, int]:
    found = lesion_axes(mask, spacing, **options)
    return found.long_axis_mm, found.short_axis_mm, found.slice_index


def brute_force(plane: np.ndarray, spacing: tuple[float, float]) -> tuple[float, float]:
    """Every corner against every other; chords between all segments of two corners, without any hull."""
    corners = {(i + a, j + b) for i, j in np.argwhere(plane) for a in (0, 1) for b in (0, 1)}
    points = np.array(sorted(corners), dtype=float) * spacing
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    widest = 0.0
    for a, b in np.argwhere(np.triu(squared > squared.max() - 1e-9)):
        step = (points[b] - points[a]) / np.sqrt(squared[a, b])
        along, across = points @ step, points @ [-step[1], step[0]]
        for place in along:
            reach = [across[np.isclose(along, place)]]
            low, high = np.flatnonzero(along < place - 1e-9), np.flatnonzero(along > place + 1e-9)
            share = (place - along[low][:, None]) / (along[high][None] - along[low][:, None])
            reach.append((across[low][:, None] + share * (across[high][None] - across[low][:, None])).ravel())
            widest = max(widest, np.ptp(np.concatenate(reach)))
    return float(np.sqrt(squared.max())), float(widest)


def test_one_voxel_has_the_extent_of_its_pixel() -> None:
    # A pixel of 3 x 4 mm: its diagonal, 5; a chord at right angles from a corner to the longer side, 3 * 5 / 4.
    assert axes(np.ones((1, 1, 1), dtype=bool), (3.0, 4.0, 7.0)) == pytest.approx((5.0, 3.75, 0))


def test_rectangle_with_unequal_in_plane_spacing_by_hand() -> None:
    # 6 x 5 pixels of 2 x 1 mm are 12 x 5 mm: diagonal 13, chord 5 * 13 / 12.
    mask = np.zeros((9, 8, 3), dtype=bool)
    mask[2:8, 1:6, 1] = True
    assert axes(mask, (2.0, 1.0, 5.0)) == pytest.approx((13.0, 5 * 13 / 12, 1))


def test_a_strip_of_one_pixel_is_about_one_pixel_wide() -> None:
    # Its shadow across the diagonal would be 2 * 10 / sqrt(101), twice its width.
    assert axes(np.ones((10, 1, 1), dtype=bool), (1.0, 1.0, 1.0)) == pytest.approx((101**0.5, 101**0.5 / 10, 0))


def test_of_several_longest_diameters_the_one_with_the_widest_chord_counts() -> None:
    # From the corner (0, 0) it is 65^.5 both to (8, 1) and to (7, 4), and the outline is not symmetric about them.
    plane = np.zeros((8, 4), dtype=bool)
    plane[[0, 7, 6], [0, 0, 3]] = True
    expected = brute_force(plane, (1.0, 1.0))
    assert expected[0] == pytest.approx(65**0.5)
    assert axes(plane[:, :, None], (1.0, 1.0, 2.0))[:2] == pytest.approx(expected)


def test_holes_and_bays_are_filled() -> None:
    full = np.ones((6, 6, 1), dtype=bool)
    ring = full.copy()
    ring[1:5, 1:5] = False
    bay = ring.copy()
    bay[2:4, 0] = False
    for mask in (full, ring, bay):
        assert axes(mask, (1.0, 1.0, 2.0)) == pytest.approx((72**0.5, 72**0.5, 0))


def test_the_slice_of_the_longest_diameter_is_measured() -> None:
    # Slice 0 is a square of 3 (diagonal 4.2, as wide); slice 2 a strip of 5 (5.1 and 1.02): the strip is reported.
    mask = np.zeros((6, 6, 3), dtype=bool)
    mask[:3, :3, 0] = mask[1, 1, 1] = True
    mask[:5, 1, 2] = True
    assert axes(mask, (1.0, 1.0, 4.0)) == pytest.approx((26**0.5, 26**0.5 / 5, 2))


def test_among_slices_of_the_same_length_the_widest_is_measured() -> None:
    # Both slices are 5 pixels long on the diagonal of a 3 x 4 box; the second one is filled.
    mask = np.zeros((3, 4, 2), dtype=bool)
    mask[[0, 1, 1, 2], [0, 1, 2, 3], 0] = True
    mask[:, :, 1] = True
    assert axes(mask, (1.0, 1.0, 1.0)) == pytest.approx((5.0, 3.75, 1))


def test_slices_are_stacked_along_the_axis_that_is_given() -> None:
    # A box of 1 x 3 x 4 voxels of side 1: in planes across i it is 3 x 4.
    mask = np.ones((1, 3, 4), dtype=bool)
    assert axes(mask, (9.0, 1.0, 1.0), axis=0) == pytest.approx((5.0, 3.75, 0))
    assert axes(mask, (1.0, 1.0, 1.0), axis=1) == pytest.approx((17**0.5, 17**0.5 / 4, 0))


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_every_corner_against_every_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, _ = ndimage.label(rng.random((7, 6)) < 0.55)
    spacing = (0.7, 1.9)
    plane = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    assert axes(plane[:, :, None], (*spacing, 3.0))[:2] == pytest.approx(brute_force(plane, spacing))


def test_a_disc_has_two_axes_of_about_its_diameter() -> None:
    i, j = np.indices((41, 41)) - 20
    disc = (i**2 + j**2 <= 15**2)[:, :, None]
    long_axis, short_axis, _ = axes(disc, (1.0, 1.0, 1.0))
    assert 30 <= short_axis <= long_axis <= 32


def test_an_empty_mask_and_an_axis_that_is_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="at least one voxel"):
        lesion_axes(np.zeros((2, 2, 2), dtype=bool), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="0, 1 or 2, got 3"):
        lesion_axes(np.ones((2, 2, 2), dtype=bool), (1.0, 1.0, 1.0), axis=3)
