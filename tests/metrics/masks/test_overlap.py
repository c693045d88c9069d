import pytest

from equivox.errors import InputError
from equivox.metrics.masks.overlap import dice, iou, precision, sensitivity


def test_dice_and_iou_by_hand() -> None:
    # 4 and 6 voxels, 3 shared: Dice 2*3/10, IoU 3/7
    assert dice(4, 6, 3) == pytest.approx(0.6)
    assert iou(4, 6, 3) == pytest.approx(3 / 7)


@pytest.mark.parametrize("score", [dice, iou])
def test_masks_that_share_nothing_score_zero_and_equal_masks_one(score) -> None:
    assert score(5, 0, 0) == 0.0
    assert score(0, 5, 0) == 0.0
    assert score(2, 3, 0) == 0.0
    assert score(7, 7, 7) == 1.0


@pytest.mark.parametrize("score", [dice, iou, sensitivity, precision])
@pytest.mark.parametrize("counts", [(0, 0, 0), (3, 2, 3), (3, 2, -1)])
def test_counts_that_cannot_be_are_refused(score, counts: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="check the counts"):
        score(*counts)


def test_sensitivity_and_precision_need_the_mask_that_they_are_shares_of() -> None:
    assert (sensitivity(4, 0, 0), precision(0, 4, 0)) == (0.0, 0.0)
    with pytest.raises(InputError, match="a voxel in the reference, got none"):
        sensitivity(0, 4, 0)
    with pytest.raises(InputError, match="a voxel in the prediction, got none"):
        precision(4, 0, 0)


def test_dice_and_iou_of_the_same_masks_agree() -> None:
    # D = 2J / (1 + J) for any two masks
    for counts in [(10, 3, 2), (1, 1, 1), (100, 99, 57)]:
        jaccard = iou(*counts)
        assert dice(*counts) == pytest.approx(2 * jaccard / (1 + jaccard))
