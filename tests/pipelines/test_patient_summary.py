import numpy as np
import pytest

from equivox.metrics.statistics.bootstrap import mean_interval, quantile_interval
from equivox.pipelines.patient_summary import Resampling, distribution, failure_rate

RESAMPLING: Resampling = {"draws": 199, "seed": 3, "confidence": 0.9, "minimum": 5}


def test_distribution_by_hand_with_the_intervals_of_the_statistics() -> None:
    values = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    found = distribution(values, RESAMPLING, worst=0.1, bounds=(0.0, 1.0))
    assert (found["mean"], found["median"]) == (pytest.approx(0.75), pytest.approx(0.75))
    # Halfway between the two lowest.
    assert found["worst_decile"] == pytest.approx(0.55)
    mean = mean_interval(values, bounds=(0.0, 1.0), **RESAMPLING)
    decile = quantile_interval(values, 0.1, **RESAMPLING)
    assert mean is not None
    assert decile is not None
    assert (found["low"], found["high"]) == (mean.low, mean.high)
    assert (found["worst_decile_low"], found["worst_decile_high"]) == (decile.low, decile.high)


def test_worst_decile_may_be_of_other_values_than_the_mean() -> None:
    errors = np.array([-3.0, 0.0, 1.0, 2.0])
    found = distribution(errors, RESAMPLING, worst=0.9, bounds=(-np.inf, np.inf), tail=np.abs(errors))
    # Of 0, 1, 2, 3: 2 + 0.7 * 1.
    assert found["worst_decile"] == pytest.approx(2.7)
    assert found["mean"] == 0.0
    assert (found["low"], found["median_low"], found["worst_decile_low"]) == (None, None, None)


def test_nobody_has_no_distribution_and_no_failure_rate() -> None:
    assert set(distribution(np.zeros(0), RESAMPLING, worst=0.1, bounds=(0.0, 1.0)).values()) == {None}
    found = failure_rate(0, 0, confidence=0.95, minimum=10)
    assert found == {"value": None, "failed": 0, "patients": 0, "low": None, "high": None}


def test_failure_rate_of_few_patients_has_no_interval() -> None:
    few, many = (failure_rate(2, patients, confidence=0.95, minimum=10) for patients in (8, 20))
    assert (few["value"], few["low"]) == (0.25, None)
    # Wilson, 2 of 20: 0.028 to 0.301.
    assert (many["low"], many["high"]) == (pytest.approx(0.028, abs=1e-3), pytest.approx(0.301, abs=1e-3))
