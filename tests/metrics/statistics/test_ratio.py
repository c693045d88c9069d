import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import share_interval
from equivox.metrics.statistics.ratio import ratio_interval


def test_interval_holds_the_pooled_ratio_and_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    total = rng.integers(1, 9, 40).astype(float)
    counted = rng.binomial(total.astype(int), 0.7).astype(float)
    found = ratio_interval(counted, total, draws=999)
    assert found.low < counted.sum() / total.sum() < found.high
    order = rng.permutation(40)
    assert ratio_interval(counted[order], total[order], draws=999) == found


def test_lesions_of_a_patient_stay_together() -> None:
    # 20 patients of 10 lesions, all found in half of them and none in the others: the ratio varies as a share of 20
    # patients (standard error .11), and not as one of 200 lesions (.035).
    total = np.full(20, 10.0)
    counted = np.where(np.arange(20) < 10, 10.0, 0.0)
    found = ratio_interval(counted, total)
    assert (found.low, found.high) == pytest.approx((0.5 - 1.96 * 0.112, 0.5 + 1.96 * 0.112), abs=0.04)


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


def test_coverage_is_about_nominal_with_fifty_patients() -> None:
    # Clustered lesions: each patient has a rate of its own around .7. Of 200 intervals 95 % should hold it.
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        total = rng.integers(1, 7, 50)
        counted = rng.binomial(total, rng.beta(3.5, 1.5, 50)).astype(float)
        found = ratio_interval(counted, total.astype(float), draws=399, seed=seed)
        held += found.low <= 0.7 <= found.high
    assert 0.89 <= held / 200 <= 0.99
