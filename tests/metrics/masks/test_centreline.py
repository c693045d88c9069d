import itertools

import numpy as np
import pytest
import torch
from monai.losses import SoftclDiceLoss
from scipy import ndimage

from equivox.errors import InputError
from equivox.metrics.masks.centreline import CentrelineScores, cldice
from equivox.skeleton import skeleton


def random_masks(shape: tuple[int, ...], seed: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.random(shape) < share, generator.random(shape) < share


@pytest.mark.parametrize("shape", [(7, 11), (7, 11, 5), (7, 11, 1)])
def test_lines_by_hand(shape: tuple[int, ...]) -> None:
    # A line of one voxel's width is its own skeleton. R has 8 voxels, P 5 of them and 5 more on a line beside it:
    # precision 5/10, sensitivity 5/8, and 2 * 5/10 * 5/8 / (5/10 + 5/8) = 10/18.
    truth, guess = np.zeros((2, *shape), dtype=bool)
    truth[2, 1:9] = guess[2, 1:6] = guess[5, 3:8] = True
    if len(shape) == 3:
        for mask in (truth, guess):
            mask[..., 1:] = False
    assert cldice(truth, guess) == CentrelineScores(10 / 18, 5 / 10, 5 / 8)
    assert cldice(guess, truth) == CentrelineScores(10 / 18, 5 / 8, 5 / 10)


def test_a_tube_that_holds_the_others_centreline_is_right_whatever_its_width() -> None:
    thin, thick = np.zeros((2, 9, 9, 20), dtype=bool)
    thin[3:6, 3:6, 2:18] = True
    thick[2:7, 2:7, 2:18] = True
    assert cldice(thin, thick) == CentrelineScores(1.0, 1.0, 1.0)


def test_a_gap_costs_sensitivity_alone() -> None:
    truth = np.zeros((9, 9, 30), dtype=bool)
    truth[3:6, 3:6, 2:28] = True
    guess = truth.copy()
    guess[..., 13:17] = False
    scores = cldice(truth, guess)
    # The centreline lies along the middle, so that the gap takes 4 of its voxels.
    length = int(skeleton(truth).sum())
    assert (scores.topology_precision, scores.topology_sensitivity) == (1.0, (length - 4) / length)


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 5)])
def test_equal_masks_score_one_and_masks_apart_zero(shape: tuple[int, ...]) -> None:
    mask = np.zeros(shape, dtype=bool)
    mask[1:3, 2:5] = True
    assert cldice(mask, mask) == CentrelineScores(1.0, 1.0, 1.0)
    assert cldice(mask, np.roll(mask, 3, axis=0)) == CentrelineScores(0.0, 0.0, 0.0)


@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 5), (1, 1), (1, 1, 1), (3, 1, 4)])
def test_a_single_voxel_is_its_own_centreline(shape: tuple[int, ...]) -> None:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(side // 2 for side in shape)] = True
    np.testing.assert_array_equal(skeleton(mask), mask)
    assert cldice(mask, mask).cldice == 1.0


def test_a_piece_that_thinning_wipes_out_keeps_one_voxel() -> None:
    # Lee's thinning leaves nothing of a block of 2 x 2 x 2 voxels.
    mask = np.zeros((4, 4, 12), dtype=bool)
    mask[1:3, 1:3, 1:3] = True
    assert np.argwhere(skeleton(mask)).tolist() == [[1, 1, 1]]
    mask[2, 2, 6:11] = True
    assert skeleton(mask).sum() == 6
    assert cldice(mask, mask).cldice == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_each_piece_has_a_centreline_and_none_lies_outside(seed: int) -> None:
    for shape, share in itertools.product([(9, 8), (6, 7, 5)], [0.2, 0.6]):
        mask, _ = random_masks(shape, seed, share)
        line = skeleton(mask)
        assert not (line & ~mask).any()
        pieces, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
        assert set(np.unique(pieces[line])) == set(range(1, count + 1))


def test_what_surrounds_the_masks_changes_nothing() -> None:
    truth, guess = random_masks((6, 7, 8), 3, 0.6)
    assert cldice(np.pad(truth, (3, 2)), np.pad(guess, (3, 2))) == cldice(truth, guess)


def test_thin_lines_score_as_with_monais_soft_skeleton() -> None:
    truth, guess = np.zeros((2, 16, 16), dtype=bool)
    truth[3, 2:14] = truth[6:12, 8] = True
    guess[3, 4:15] = guess[10, 2:9] = True
    loss = SoftclDiceLoss(smooth=1e-12, smooth_nr=1e-12, smooth_dr=1e-12)
    soft = loss(*(torch.tensor(mask, dtype=torch.float64)[None, None] for mask in (truth, guess)))
    assert cldice(truth, guess).cldice == pytest.approx(1 - float(soft), abs=1e-9)


@pytest.mark.parametrize("empty", ["reference", "prediction"])
def test_an_empty_mask_is_left_to_the_empty_policy(empty: str) -> None:
    full, none = np.ones((3, 3, 3), dtype=bool), np.zeros((3, 3, 3), dtype=bool)
    pair = (none, full) if empty == "reference" else (full, none)
    with pytest.raises(InputError, match=f"clDice: expected a voxel in the {empty}, got none"):
        cldice(*pair)
    assert not skeleton(none).any()
