import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import share_interval
from equivox.metrics.statistics.ratio import ratio_interval


def test_interval_holds_the_pooled_ratio_and_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    total = rng.integers(1, 9, 40).astype(float)
    counted = rng.binomial(total.astype(int), 0.7).astype(float)
    found = ratio_interval(counted, total)
    assert found.low < counted.sum() / total.sum() < found.high
    order = rng.permutation(40)
    assert ratio_interval(counted[order], total[order]) == found


def test_lesions_of_a_patient_stay_together() -> None:
    # 20 patients of 10 lesions, all found in half of them and none in the others: the ratio varies as a share of 20
    # patients, and not as one of 200 lesions: the variance is 20/19 * .25/20 = 1/76, as of 19 trials, which the t
    # quantile of 2.093 makes 16.66. Wilson: .5 -+ sqrt(z^2 (16.66 / 4 + z^2 / 4)) / (16.66 + z^2) = .5 -+ .2165.
    total = np.full(20, 10.0)
    counted = np.where(np.arange(20) < 10, 10.0, 0.0)
    found = ratio_interval(counted, total)
    assert (found.low, found.high) == pytest.approx((0.2835, 0.7165), abs=1e-4)


def test_patients_without_any_have_no_part() -> None:
    total, counted = np.array([3.0, 1.0] * 8), np.array([2.0, 1.0] * 8)
    with_others = ratio_interval(np.append(counted, np.zeros(30)), np.append(total, np.zeros(30)))
    assert with_others == ratio_interval(counted, total)
    assert ratio_interval(np.append(np.ones(9), np.zeros(30)), np.append(np.ones(9), np.zeros(30))) is None


@pytest.mark.parametrize("count", [0.0, 5.0])
def test_all_or_none_leaves_open_what_so_many_patients_leave_open(count: float) -> None:
    found = ratio_interval(np.full(12, count), np.full(12, 5.0))
    assert found == share_interval(12 if count else 0, 12)
    assert found.high - found.low > 0.2


@pytest.mark.parametrize(("counted", "match"), [(np.nan, "finite"), (-1.0, "at least 0"), (3.0, "no more than")])
def test_counts_that_cannot_be_are_refused(counted: float, match: str) -> None:
    with pytest.raises(InputError, match=match):
        ratio_interval(np.full(12, counted), np.full(12, 2.0))


def test_one_trial_a_patient_is_wilsons_interval_but_for_the_estimated_variance() -> None:
    counted = np.repeat([1.0, 0.0], [700, 300])
    found, wilson = ratio_interval(counted, np.ones(1000)), share_interval(700, 1000)
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=2e-4)


def test_equal_ratios_leave_no_width() -> None:
    found = ratio_interval(np.full(12, 1.0), np.full(12, 2.0))
    assert (found.low, found.high) == pytest.approx((0.5, 0.5), abs=1e-6)


@pytest.mark.parametrize(("patients", "rate"), [(10, 0.9), (20, 0.7), (40, 0.9), (100, 0.9), (100, 0.4)])
def test_simulated_coverage_is_about_nominal(patients: int, rate: float) -> None:
    # Each patient has a rate of its own around the true one, and 1 to 4 lesions.
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        total = rng.integers(1, 5, patients)
        counted = rng.binomial(total, rng.beta(3 * rate, 3 * (1 - rate), patients))
        found = ratio_interval(counted.astype(float), total.astype(float))
        held += found.low <= rate <= found.high
    assert 0.92 <= held / 400 <= 0.99
