import itertools

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.probabilistic.selective import dice_agreement, risk_coverage


def test_area_by_hand() -> None:
    # By confidence: .1, .4, .2, .9. Means of the first k: .1, .25, .7/3, .4.
    found = risk_coverage(np.array([0.2, 0.9, 0.7, 0.5]), np.array([0.9, 0.1, 0.4, 0.2]))
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.risk.tolist() == pytest.approx([0.1, 0.25, 0.7 / 3, 0.4])
    assert found.aurc == pytest.approx((0.1 + 0.25 + 0.7 / 3 + 0.4) / 4)
    # The best order: .1, .2, .4, .9.
    assert found.oracle == pytest.approx((0.1 + 0.15 + 0.7 / 3 + 0.4) / 4)
    assert found.excess == pytest.approx(0.1 / 4)
    assert found.random == pytest.approx(0.4)
    assert found.interval is None


def test_ties_are_the_mean_over_all_their_orders() -> None:
    confidence = np.array([0.5, 0.9, 0.5, 0.2, 0.5, 0.2])
    risk = np.array([0.3, 0.1, 0.8, 0.0, 0.2, 0.7])
    areas = []
    for first in itertools.permutations([0, 2, 4]):
        for last in itertools.permutations([3, 5]):
            order = [1, *first, *last]
            areas.append(np.mean(np.cumsum(risk[order]) / np.arange(1, 7)))
    assert risk_coverage(confidence, risk).aurc == pytest.approx(np.mean(areas))


def test_a_perfect_order_has_no_excess_and_an_order_that_says_nothing_has_the_mean() -> None:
    risk = np.random.default_rng(0).random(30)
    assert risk_coverage(1 - risk, risk).excess == pytest.approx(0, abs=1e-12)
    flat = risk_coverage(np.full(30, 0.5), risk)
    assert flat.aurc == pytest.approx(flat.random) == pytest.approx(risk.mean())
    assert flat.risk.tolist() == pytest.approx([risk.mean()] * 30)


def test_one_patient_and_too_few_have_no_interval() -> None:
    one = risk_coverage(np.array([0.4]), np.array([0.2]))
    assert (one.aurc, one.excess, one.interval) == (0.2, 0.0, None)
    rng = np.random.default_rng(2)
    confidence, risk = rng.random((2, 10))
    interval = risk_coverage(confidence, risk, draws=199).interval
    assert interval is not None
    assert interval.low < risk_coverage(confidence, risk).aurc < interval.high
    assert risk_coverage(confidence[:9], risk[:9], draws=199).interval is None


@pytest.mark.parametrize(("confidence", "risk"), [([0.1], [0.1, 0.2]), ([], []), ([np.nan], [0.1])])
def test_what_has_no_curve_is_refused(confidence: list[float], risk: list[float]) -> None:
    with pytest.raises(InputError, match="as many finite risks"):
        risk_coverage(np.array(confidence), np.array(risk))


def test_agreement_by_hand_and_by_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(4)
    real = rng.beta(8, 2, 25)
    predicted = np.clip(real + rng.normal(0.05, 0.1, 25), 0, 1)
    predicted[3] = real[7] = np.nan
    known = np.isfinite(predicted) & np.isfinite(real)
    found = dice_agreement(predicted, real, draws=199)
    assert found.patients == 23
    assert found.pearson == pytest.approx(stats.pearsonr(predicted[known], real[known]).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(predicted[known], real[known]).statistic)
    assert found.error == pytest.approx(np.abs(predicted - real)[known].mean())
    assert found.bias == pytest.approx((predicted - real)[known].mean())
    for value, interval in (
        (found.pearson, found.pearson_interval),
        (found.spearman, found.spearman_interval),
        (found.error, found.error_interval),
        (found.bias, found.bias_interval),
    ):
        assert interval is not None
        assert interval.low < value < interval.high


def test_agreement_of_nobody_is_not_defined() -> None:
    found = dice_agreement(np.array([np.nan, 0.5]), np.array([0.5, np.nan]))
    assert (found.patients, found.pearson, found.error, found.bias_interval) == (0, None, None, None)
