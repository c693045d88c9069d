"""Sums over groups of shuffled patients."""

import numpy as np
import pytest

from equivox.metrics.statistics.permuted_sums import permuted_sums


@pytest.mark.parametrize("columns", [1, 4], ids=["fewer columns than groups", "more columns than groups"])
def test_every_draw_shares_out_all_patients(columns: int) -> None:
    values = np.arange(12.0).reshape(6, 2)[:, :1] * np.arange(1, columns + 1)
    members = np.eye(3)[[0, 0, 1, 1, 1, 2]]
    sums = np.concatenate(list(permuted_sums(values, members, 500, 0)))
    assert sums.shape == (500, 3, columns)
    np.testing.assert_allclose(sums.sum(axis=1), np.tile(values.sum(axis=0), (500, 1)))
    # Columns of a patient stay together: every column is a multiple of the first.
    np.testing.assert_allclose(sums, sums[:, :, :1] * np.arange(1, columns + 1))
    # The mean of every group is that of all, 5.
    np.testing.assert_allclose(sums[:, :, 0].mean(axis=0) / [2, 3, 1], 5.0, atol=0.5)


def test_many_patients_come_in_several_parts() -> None:
    parts = list(permuted_sums(np.ones((1_000_000, 1)), np.ones((1_000_000, 1)), 3, 0))
    assert [len(part) for part in parts] == [2, 1]
    assert {float(value) for part in parts for value in part.ravel()} == {1_000_000.0}


def test_further_columns_do_not_change_the_orders() -> None:
    values = np.random.default_rng(0).random((7, 4))
    members = np.eye(3)[[0, 1, 2, 0, 1, 2, 0]]
    (wide,) = permuted_sums(values, members, 20, 0)
    (narrow,) = permuted_sums(values[:, :1], members, 20, 0)
    np.testing.assert_allclose(wide[:, :, :1], narrow)
