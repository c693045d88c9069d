"""Sign flips of patients, against patterns counted by hand and distributions that are known."""

import itertools

import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_1samp

from equivox.errors import InputError
from equivox.metrics.statistics.paired import (
    holm,
    paired_difference,
    paired_power,
    sign_flip_p,
    smallest_sign_flip_p,
)


def test_patterns_counted_by_hand() -> None:
    # Differences +3, +2, -1 add up to 4. Of the 8 patterns the sums are +-6, +-4, +-2, +-0: 4 reach 4 either way.
    assert sign_flip_p(np.array([3.0, 2.0, -1.0])) == 0.5
    # All of one sign: only the pattern itself and its mirror, 2 of 2^5.
    assert sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == 2 / 32
    # Sums of 1, 1, 1, -1: the observed 2 is reached by 4 + 4 of one minority sign and by 1 + 1 of none.
    assert sign_flip_p(np.array([1.0, 1.0, 1.0, -1.0])) == 10 / 16


def test_enumerated_p_is_that_of_a_plain_loop_and_of_scipy() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, 9)
    observed = abs(differences.sum())
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=9)]
    p = sign_flip_p(differences)
    assert p == np.mean([value >= observed - 1e-9 for value in sums])
    theirs = permutation_test(
        (differences, np.zeros(9)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert p == pytest.approx(theirs.pvalue)


def test_studentised_and_raw_mean_give_the_same_p() -> None:
    differences = np.random.default_rng(1).normal(0.4, 1, 8)
    flipped = np.array(list(itertools.product((-1, 1), repeat=8))) * differences

    def t(values: np.ndarray) -> np.ndarray:
        return np.abs(ttest_1samp(values, 0, axis=-1).statistic)

    assert sign_flip_p(differences) == (t(flipped) >= t(differences) - 1e-9).mean()


def test_drawn_p_is_near_that_of_the_t_distribution() -> None:
    # For normal differences the flips of T follow nearly the t distribution.
    differences = np.random.default_rng(2).normal(0.25, 1, 60)
    p = sign_flip_p(differences, flips=49_999)
    assert p == pytest.approx(float(ttest_1samp(differences, 0).pvalue), abs=0.006)


def test_thirteen_patients_are_enumerated_and_fourteen_are_drawn() -> None:
    assert sign_flip_p(np.ones(13)) == 2 / 2**13 == smallest_sign_flip_p(13)
    # With 99 patterns p is (1 + b) / 100, and hardly any of 99 patterns out of 16,384 is one of the two extreme ones.
    assert sign_flip_p(np.ones(14), flips=99) == 0.01 == smallest_sign_flip_p(14, flips=99)


def test_order_of_patients_and_of_models_changes_nothing() -> None:
    differences = np.random.default_rng(3).normal(0.2, 1, 30)
    p = sign_flip_p(differences)
    assert sign_flip_p(differences[::-1].copy()) == p
    assert sign_flip_p(-differences) == p
    assert sign_flip_p(1000 * differences) == p


def test_many_patients_in_chunks_give_what_few_draws_would() -> None:
    differences = np.random.default_rng(4).normal(0.01, 1, 3000)
    assert sign_flip_p(differences, flips=999) == pytest.approx(float(ttest_1samp(differences, 0).pvalue), abs=0.05)


def test_equal_scores_give_one() -> None:
    assert sign_flip_p(np.zeros(20)) == 1.0
    found = paired_difference(np.full(20, 0.1 + 0.2), np.full(20, 0.3))
    assert (found.greater, found.smaller, found.equal, found.p_value, found.mean) == (0, 0, 20, 1.0, 0.0)
    assert (found.low, found.high) == (0.0, 0.0)


def test_size_of_the_test_under_skewed_differences() -> None:
    # 600 tables of 15 symmetric, heavy-tailed differences: 5 % +- 3 standard errors of 0.9 %.
    rng = np.random.default_rng(5)
    found = [sign_flip_p(rng.standard_t(2, 15), flips=199) < 0.05 for _ in range(600)]
    assert 0.023 <= np.mean(found) <= 0.077


def test_difference_by_hand_and_missing_values_are_counted() -> None:
    first = np.array([0.50, 0.60, np.nan, 0.70, 0.80])
    second = np.array([0.60, 0.55, 0.90, np.nan, 0.80])
    found = paired_difference(first, second)
    # Differences +0.10, -0.05, 0: mean 0.05 / 3, median 0.
    assert found.mean == pytest.approx(0.05 / 3)
    assert found.median == 0
    assert (found.patients, found.left_out) == (3, 2)
    assert (found.greater, found.smaller, found.equal) == (1, 1, 1)
    assert found.low is None
    assert found.high is None


def test_no_patient_with_both_scores_gives_no_number() -> None:
    found = paired_difference(np.array([np.nan, 0.5]), np.array([0.5, np.nan]))
    assert (found.patients, found.left_out, found.mean, found.p_value) == (0, 2, None, None)


def test_interval_starts_at_ten_patients() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.uniform(0.5, 0.7, 10), rng.uniform(0.7, 0.9, 10)
    ten = paired_difference(first, second)
    assert ten.low is not None
    assert ten.high is not None
    assert ten.mean is not None
    assert ten.low < ten.mean < ten.high
    assert paired_difference(first[:9], second[:9]).low is None


def test_models_of_other_patients_are_refused() -> None:
    with pytest.raises(InputError, match="expected 3 of both models, one a patient, got 2; align"):
        paired_difference(np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="got a missing one"):
        sign_flip_p(np.array([0.1, np.nan]))
    with pytest.raises(InputError, match="got a missing one"):
        sign_flip_p(np.zeros(0))


def test_holm_by_hand() -> None:
    # Sorted .01 * 4 = .04, .02 * 3 = .06, .03 * 2 = .06, .5 * 1.
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    # .04 * 2 = .08, then .03 would be smaller than the one before it; .9 * 2 is cut at 1.
    assert holm([0.04, 0.05]) == pytest.approx([0.08, 0.08])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(InputError, match="from 0 to 1, got nan"):
        holm([0.1, float("nan")])


def test_detectable_difference_is_that_of_the_t_test_and_found_as_often_as_said() -> None:
    rng = np.random.default_rng(7)
    differences = rng.normal(0, 0.1, 40)
    found = paired_power(differences, target=0.05)
    assert found is not None
    # Paired t test, n = 40, sd s: (t_.975 + about t_.80) s / sqrt(40) = (2.023 + 0.851) s / 6.325.
    assert found.detectable == pytest.approx(2.874 / np.sqrt(40) * differences.std(ddof=1), rel=0.06)
    # (1.960 + 0.842)^2 s^2 / 0.05^2
    assert found.patients_needed == int(np.ceil((2.8016 / 0.05) ** 2 * differences.var(ddof=1)))
    residuals = (differences - differences.mean()) * np.sqrt(40 / 39)
    seen = [sign_flip_p(rng.choice(residuals, 40) + found.detectable, flips=199) < 0.05 for _ in range(400)]
    assert 0.73 <= np.mean(seen) <= 0.87


def test_observed_difference_plays_no_part_in_what_could_be_seen() -> None:
    differences = np.random.default_rng(8).normal(0, 0.1, 25)
    shifted, plain = paired_power(differences + 5, target=0.05), paired_power(differences, target=0.05)
    assert shifted is not None
    assert plain is not None
    assert shifted.detectable == pytest.approx(plain.detectable)
    assert paired_power(differences[:9], target=0.05) is None


def test_level_that_ten_patients_cannot_reach_has_no_detectable_difference() -> None:
    differences = np.random.default_rng(9).normal(0, 0.1, 10)
    found = paired_power(differences, target=0.05, level=0.001)
    assert found is not None
    assert found.detectable == np.inf
    equal = paired_power(np.full(12, 0.3), target=0.05)
    assert equal is not None
    assert equal.detectable == pytest.approx(0)
