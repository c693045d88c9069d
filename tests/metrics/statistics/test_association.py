import numpy as np
import pytest
from scipy import stats

from equivox.errors import InputError
from equivox.metrics.statistics.association import associate, correlation, false_discovery
from equivox.metrics.statistics.smooth import local_linear


def planted(n: int = 60, slope: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 90, n)
    return age, slope * age + rng.normal(0, 20, n)


def test_correlations_are_those_of_scipy() -> None:
    x, y = planted()
    found = associate(x, y, draws=199, permutations=199)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)


def test_a_planted_slope_is_found_within_its_interval() -> None:
    found = associate(*planted(200), draws=199, permutations=199)
    assert found.slope_interval is not None
    assert found.slope_interval.low < 2.0 < found.slope_interval.high
    assert found.p == pytest.approx(1 / 200)


def test_the_slopes_standard_error_is_hc3_by_hand() -> None:
    # x = 0, 0, 1, 1 with y = 0, 2, 1, 5, three times over: slope 3 - 1 = 2. In each half of 6 the leverage is 1/6 and
    # the residuals are -1, 1 and -2, 2: HC3 variance = sum (e / (1 - 1/6))^2 / 36 = (6 + 24) / (25/36) / 36 = 1.2.
    x = np.tile([0.0, 0.0, 1.0, 1.0], 3)
    y = np.tile([0.0, 2.0, 1.0, 5.0], 3)
    found = associate(x, y, draws=199, permutations=199)
    assert found.slope == pytest.approx(2.0)
    assert found.slope_interval is not None
    assert found.slope_interval.high - 2.0 == pytest.approx(stats.t.ppf(0.975, 10) * np.sqrt(1.2))


def test_what_a_covariate_explains_is_taken_out() -> None:
    # Volume depends on sex alone, and so does height.
    rng = np.random.default_rng(1)
    sex = np.repeat(["F", "M"], 100)
    height = np.where(sex == "M", 178, 165) + rng.normal(0, 5, 200)
    volume = np.where(sex == "M", 60, 50) + rng.normal(0, 3, 200)
    found = associate(height, volume, [sex.tolist()], draws=199, permutations=199)
    assert found.spearman is not None
    assert found.adjusted is not None
    assert found.spearman > 0.5
    assert abs(found.adjusted) < 0.15


def test_a_covariate_that_says_the_same_twice_or_nothing_changes_nothing() -> None:
    x, y = planted()
    sex = ["F", "M"] * 30
    once = associate(x, y, [sex], draws=199, permutations=199)
    twice = associate(x, y, [sex, sex, ["one"] * 60], draws=199, permutations=199)
    assert twice.adjusted == pytest.approx(once.adjusted)
    assert twice.slope == pytest.approx(once.slope)


def test_a_patient_with_an_unknown_covariate_is_left_out_of_the_adjusted_alone() -> None:
    x, y = planted()
    sex: list[str | None] = ["F", "M"] * 30
    without = associate(x[1:], y[1:], [sex[1:]], draws=199, permutations=199)
    found = associate(x, y, [[None, *sex[1:]]], draws=199, permutations=199)
    assert found.patients == 60
    assert found.slope == pytest.approx(without.slope)


def test_few_patients_get_a_number_without_interval_or_test() -> None:
    x, y = planted(9)
    found = associate(x, y)
    assert found.patients == 9
    assert found.spearman is not None
    assert (found.spearman_interval, found.p, found.slope, found.adjusted) == (None, None, None, None)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_patient_gives_nothing(n: int) -> None:
    assert associate(np.arange(float(n)), np.arange(float(n))).spearman is None


def test_a_single_value_has_no_correlation() -> None:
    found = associate(np.arange(20.0), np.ones(20))
    assert (found.patients, found.spearman, found.p) == (20, None, None)


def test_missing_numbers_are_left_out() -> None:
    x, y = planted()
    x[3] = y[7] = np.nan
    kept = np.isfinite(x) & np.isfinite(y)
    found = associate(x, y, draws=199, permutations=199)
    assert found.patients == 58
    assert found.spearman == pytest.approx(stats.spearmanr(x[kept], y[kept]).statistic)


def test_the_interval_covers_and_the_test_holds_its_level() -> None:
    covered = found = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=30)
        one = associate(x, rng.normal(size=30), draws=299, permutations=199, seed=seed)
        assert one.spearman_interval is not None
        assert one.p is not None
        covered += one.spearman_interval.low <= 0 <= one.spearman_interval.high
        found += one.p < 0.05
    assert covered >= 105
    assert found <= 13


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="expected 3 values"):
        associate(np.arange(3.0), np.arange(3.0), [["F", "M"]])


def test_equal_values_do_not_correlate() -> None:
    assert correlation(np.ones(4), np.arange(4.0)) is None


def test_q_values_are_those_of_scipy_and_skip_what_was_not_tested() -> None:
    p = [0.001, 0.2, 0.03, 0.04]
    found = false_discovery([p[0], None, *p[1:]])
    assert found[1] is None
    assert [q for q in found if q is not None] == pytest.approx(stats.false_discovery_control(p).tolist())
    assert false_discovery([None]) == [None]


def test_the_smooth_follows_a_bend_and_takes_equal_numbers() -> None:
    x = np.linspace(-1, 1, 101)
    line = local_linear(x, np.abs(x), np.array([-0.9, 0.0, 0.9]), span=0.2)
    assert line == pytest.approx([0.9, 0.0, 0.9], abs=0.07)
    assert local_linear(np.ones(5), np.arange(5.0), np.array([1.0])) == pytest.approx([2.0])


def test_the_interval_is_that_of_ranking_every_resample_anew() -> None:
    rng = np.random.default_rng(8)
    # Whole numbers, so that many are equal.
    number = rng.integers(0, 6, 15).astype(float)
    measure = number + rng.integers(0, 4, 15)
    found = associate(number, measure, draws=300, permutations=19, seed=5)
    places = np.random.default_rng(5).integers(0, 15, (300, 15))
    expected = [stats.spearmanr(number[row], measure[row]).statistic for row in places]
    ends = np.quantile(expected, [0.025, 0.975], method="inverted_cdf")
    assert found.spearman_interval is not None
    assert (found.spearman_interval.low, found.spearman_interval.high) == pytest.approx(tuple(ends))
