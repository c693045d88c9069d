import math

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.energy import case_energy, percentile_rank


def test_energy_by_hand() -> None:
    # Two voxels: logits (0, log 3) give -log(1 + 3) = -log 4, and (1, 1) - no foreground, as ties go to the
    # background - give -(1 + log 2).
    logits = np.array([[[[0.0, 1.0]]], [[[math.log(3), 1.0]]]])
    found = case_energy(logits)
    assert found.foreground == pytest.approx(-math.log(4))
    assert found.everywhere == pytest.approx((-math.log(4) - 1 - math.log(2)) / 2)


def test_large_logits_do_not_overflow_and_rows_are_all_counted() -> None:
    rng = np.random.default_rng(0)
    logits = (1000 * rng.normal(size=(3, 5, 4, 3))).astype(np.float32)
    shifted = logits.astype(np.float64) - 5000
    assert case_energy(shifted).everywhere == pytest.approx(case_energy(logits).everywhere + 5000)
    # Far apart, the sum is its largest term.
    assert case_energy(1000 * logits).everywhere == pytest.approx(-1000 * float(logits.max(axis=0).mean()), rel=1e-5)


def test_a_scan_without_foreground_has_no_energy_there() -> None:
    assert case_energy(np.stack([np.ones((1, 2, 2)), np.zeros((1, 2, 2))])).foreground is None


def test_broken_logits_are_refused() -> None:
    with pytest.raises(InputError, match="expected finite logits, got others"):
        case_energy(np.full((2, 1, 1, 1), np.nan))
    with pytest.raises(InputError, match="expected logits of a voxel"):
        case_energy(np.zeros((2, 0, 1, 1)))


def test_percentile_rank_counts_equal_ones_half() -> None:
    assert percentile_rank(5.0, [1.0, 2.0]) == 100
    assert percentile_rank(1.0, [1.0, 1.0, 1.0, 1.0]) == 50
    with pytest.raises(InputError, match="expected cases to compare with, got none"):
        percentile_rank(1.0, [])
