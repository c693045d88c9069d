import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.probabilistic.calibration import brier_score, expected_calibration_error
from equivox.metrics.probabilistic.case_calibration import calibrate_case
from equivox.metrics.probabilistic.regions import near_boundary, near_mask

SPACING = (1.0, 2.0, 4.0)


def test_the_neighbourhood_follows_the_voxel_sizes() -> None:
    mask = np.zeros((13, 9, 7), dtype=bool)
    mask[6, 4, 3] = True
    i, j, k = np.indices(mask.shape)
    distance = np.sqrt((i - 6) ** 2 + (2.0 * (j - 4)) ** 2 + (4.0 * (k - 3)) ** 2)
    assert (near_mask(mask, SPACING, 5.0) == (distance <= 5)).all()
    assert (near_mask(mask, SPACING, 0.0) == mask).all()
    assert not near_mask(np.zeros_like(mask), SPACING, 5.0).any()


def test_the_boundary_has_both_sides_however_thick_the_slices_are() -> None:
    mask = np.zeros((9, 3, 6), dtype=bool)
    mask[:4, :, :3] = True
    found = near_boundary(mask, (1.0, 1.0, 10.0), 2.0)
    # Along i two voxels on each side; along k one on each side, as it shares a face.
    assert found[:, 1, 0].tolist() == [False, False, True, True, True, True, False, False, False]
    assert found[0, 1].tolist() == [False, False, True, True, False, False]
    # The border of the image, which the mask touches, is no boundary.
    assert not found[0, 0, 0]


@pytest.mark.parametrize("fill", [False, True])
def test_a_mask_that_is_empty_or_everything_has_no_boundary(fill: bool) -> None:
    assert not near_boundary(np.full((3, 4, 5), fill), SPACING, 3.0).any()


def test_cropping_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    truth, guess = np.zeros((2, 31, 17, 9), dtype=bool)
    truth[10:15, 6:9, 3:5] = guess[12:17, 5:9, 4:6] = True
    probability = np.clip(0.8 * guess + 0.2 * rng.random(truth.shape), 0, 1).astype(np.float32)
    found = calibrate_case(probability, truth, guess, SPACING, foreground_mm=5.0, boundary_mm=3.0)
    near, edge = near_mask(truth | guess, SPACING, 5.0), near_boundary(truth, SPACING, 3.0)
    assert found.foreground.total == near.sum()
    assert found.boundary.total == edge.sum()
    assert found.whole.total == truth.size
    wide = np.where(near, (probability - truth) ** 2, np.nan)
    assert brier_score(found.foreground) == pytest.approx(np.nanmean(wide))
    assert found.boundary.hits.sum() == (edge & truth).sum()


def test_a_sure_background_does_not_hide_a_wrong_structure() -> None:
    # One voxel of 20 x 20 x 20 is found with probability 1 and is not there: within 1 mm there are 7 voxels.
    truth, probability = np.zeros((20, 20, 20), dtype=bool), np.zeros((20, 20, 20))
    probability[9, 9, 9] = 1
    found = calibrate_case(probability, truth, probability > 0.5, (1.0, 1.0, 1.0), foreground_mm=1.0)
    assert expected_calibration_error(found.foreground) == pytest.approx(1 / 7)
    assert expected_calibration_error(found.whole) == pytest.approx(1 / 8000)
    assert expected_calibration_error(found.boundary) is None


def test_without_foreground_only_the_whole_image_is_defined() -> None:
    empty = np.zeros((3, 5, 1), dtype=bool)
    found = calibrate_case(np.full((3, 5, 1), 0.25), empty, empty, SPACING)
    assert expected_calibration_error(found.foreground) is None
    assert brier_score(found.foreground) is None
    assert expected_calibration_error(found.boundary) is None
    assert expected_calibration_error(found.whole) == pytest.approx(0.25)
    assert brier_score(found.whole) == pytest.approx(0.0625)
    both = found + found
    assert (both.whole.total, both.foreground.total) == (30, 0)


def test_one_voxel_images_are_counted() -> None:
    one = np.ones((1, 1, 1), dtype=bool)
    found = calibrate_case(np.full((1, 1, 1), 0.75), one, one, SPACING)
    assert (found.foreground.total, found.boundary.total) == (1, 0)


def test_lengths_and_shapes_that_do_not_fit_are_refused() -> None:
    mask = np.zeros((3, 3, 3), dtype=bool)
    with pytest.raises(InputError, match="within_mm: expected a number of at least 0, got -1"):
        near_mask(mask, SPACING, -1.0)
    with pytest.raises(InputError, match="three positive numbers"):
        near_boundary(mask, (1.0, 0.0, 1.0), 1.0)
    with pytest.raises(InputError, match="expected the shape of the reference"):
        calibrate_case(np.zeros((3, 3, 3)), mask, mask[:2], SPACING)
