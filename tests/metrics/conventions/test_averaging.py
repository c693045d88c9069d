import math

import numpy as np
import pytest
import torch
from monai.metrics.utils import do_metric_reduction

from equivox.metrics.conventions.averaging import Averaging
from equivox.metrics.conventions.catalog import CONVENTIONS

# Two classes: means 0.6 (of 0.4, 0.8) and 0.9; cases: 0.65 (of 0.4, 0.9) and 0.8.
VALUES = np.array([[0.4, 0.9], [0.8, np.nan]])


def test_classes_first_or_cases_first_by_hand() -> None:
    assert Averaging("cases", "skip", "").mean(VALUES) == pytest.approx((0.6 + 0.9) / 2)
    assert Averaging("classes", "skip", "").mean(VALUES) == pytest.approx((0.65 + 0.8) / 2)


def test_what_is_undefined_is_left_out_or_carried_on() -> None:
    gone = np.array([[0.4, np.nan], [0.8, np.nan]])
    assert [Averaging("cases", how, "").reported(VALUES) for how in ("skip", "class")] == [pytest.approx(0.75)] * 2
    assert math.isnan(Averaging("cases", "any", "").reported(VALUES))
    assert Averaging("cases", "skip", "").reported(gone) == pytest.approx(0.6)
    assert math.isnan(Averaging("cases", "class", "").reported(gone))
    assert math.isnan(Averaging("classes", "skip", "", of_nothing=0.0).reported(np.zeros((0, 2))))


def test_one_infinite_value_makes_its_means_infinite() -> None:
    values = np.array([[np.inf, 1.0], [2.0, 3.0]])
    assert Averaging("cases", "skip", "").mean(values) == math.inf
    assert Averaging("cases", "skip", "").by_class(values) == [math.inf, 2.0]


def test_means_by_class_follow_the_tool() -> None:
    assert Averaging("cases", "skip", "").by_class(VALUES) == pytest.approx([0.6, 0.9])
    assert Averaging("cases", "any", "").by_class(VALUES) == pytest.approx([0.6, math.nan], nan_ok=True)
    nothing = np.array([[0.5, np.nan]])
    assert Averaging("classes", "skip", "", of_nothing=0.0).by_class(nothing) == [0.5, 0.0]


@pytest.mark.parametrize("seed", range(4))
def test_monai_averages_as_its_reduction_does(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.random((7, 3))
    values[generator.random(values.shape) < 0.25 * seed] = np.nan
    averaging = CONVENTIONS["monai"].averaging
    for found, reduction in ((averaging.reported(values), "mean"), (averaging.by_class(values), "mean_batch")):
        expected, _ = do_metric_reduction(torch.from_numpy(values.copy()), reduction)
        np.testing.assert_allclose(np.atleast_1d(found), np.atleast_1d(expected), rtol=1e-6)


def test_monai_says_zero_where_nothing_is_left() -> None:
    values = np.full((3, 2), np.nan)
    expected, _ = do_metric_reduction(torch.from_numpy(values.copy()), "mean")
    assert CONVENTIONS["monai"].averaging.reported(values) == expected.item() == 0.0
