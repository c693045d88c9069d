import math

import numpy as np
import pytest

from equivox.metrics.statistics.contrast_design import one_contrast
from equivox.metrics.statistics.permuted_maximum import critical_quantile, largest_under_permutation, permuted


def test_values_are_permuted_inside_their_block_alone() -> None:
    blocks = np.array([0, 1, 0, 1, 1, 2])
    rows = np.concatenate(list(permuted(np.arange(6.0), 50, 0, blocks)))
    for block in range(3):
        here = blocks == block
        assert (np.sort(rows[:, here], axis=1) == np.arange(6)[here]).all()
    assert len(np.unique(rows, axis=0)) > 6


def test_critical_quantile_by_hand() -> None:
    # 99 draws at the level .05: p = (1 + b) / 100 < .05 for b of 3 at most, so the fourth largest is exceeded.
    assert critical_quantile(np.arange(1.0, 100.0), 0.95) == 96.0
    # 18 draws cannot give less than 1/19 > .05.
    assert critical_quantile(np.arange(18.0), 0.95) == math.inf


def test_largest_statistic_of_constant_values_is_zero() -> None:
    design = one_contrast(["a"] * 5 + ["b"] * 7, "a")
    assert largest_under_permutation(np.full(12, 0.5), design, 20, 0).tolist() == [0.0] * 20


def test_statistics_of_permuted_values_are_those_of_the_splits() -> None:
    # Of 1, 2, 3, 4 in twos: means 1.5 and 3.5, 2 and 3, 2.5 and 2.5; variances .5 + .5, 2 + 2, 4.5 + .5 (each over 2).
    design = one_contrast(["a", "a", "b", "b"], "a")
    found = np.unique(largest_under_permutation(np.arange(1.0, 5.0), design, 200, 0).round(9))
    assert found.tolist() == pytest.approx([0.0, 1 / math.sqrt(2), 2 / math.sqrt(0.5)])
