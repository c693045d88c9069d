import numpy as np
import pytest

from equivox.metrics.statistics.contrast_design import Blocks, family_design, one_contrast, studentised

GROUPS = ["a", "a", "b", "b", None, "a", "b"]
BLOCKS = Blocks("site", ("1", "1", "1", "2", "2", "3", None))


def test_one_contrast_leaves_out_patients_of_unknown_group() -> None:
    one = one_contrast(GROUPS, "a")
    assert one.members[:, 0].tolist() == [True, True, False, False, False, True, False]
    assert one.rests[:, 0].tolist() == [False, False, True, True, False, False, True]
    assert one.known.sum() == 6


def test_one_contrast_within_blocks_counts_only_patients_of_shared_blocks() -> None:
    # Blocks 2 and 3 and the unknown one hold a single group each.
    one = one_contrast(GROUPS, "a", BLOCKS)
    assert np.flatnonzero(one.members[:, 0]).tolist() == [0, 1]
    assert np.flatnonzero(one.rests[:, 0]).tolist() == [2]


def test_contrasts_come_in_two_kinds_and_the_free_ones_have_one_block() -> None:
    design, untested = family_design({"sex": GROUPS, "site": BLOCKS.groups}, BLOCKS, 1)
    assert design.keys == [("sex", "a"), ("sex", "b"), ("site", "1"), ("site", "2"), ("site", "3")]
    kinds = [(free, chosen.tolist(), np.unique(blocks).tolist()) for free, chosen, blocks in design.kinds()]
    assert kinds == [
        (True, [False, False, True, True, True], [0]),
        (False, [True, True, False, False, False], [0, 1, 2, 3]),
    ]
    assert untested == ()


def test_welch_by_hand() -> None:
    # 1, 3 against 2, 6: means 2 and 4, variances 2 and 8, standard error sqrt(2/2 + 8/2).
    difference, error = one_contrast(["a", "a", "b", "b"], "a").welch(np.array([[1.0, 3.0, 2.0, 6.0]]))
    assert difference.tolist() == [[-2.0]]
    assert error[0, 0] == pytest.approx(5**0.5)


def test_constant_sides_have_no_statistic_or_a_sure_one() -> None:
    difference, error = np.array([[0.0, -2.0, 1.0]]), np.array([[0.0, 0.0, 0.5]])
    assert studentised(difference, error).tolist() == [[0.0, np.inf, 2.0]]
