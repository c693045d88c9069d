"""Measures of spread: published numbers, and what chance alone gives."""

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.fairness.equity import (
    PatientScore,
    es_distance_std,
    es_distance_sum,
    es_std,
    es_sum,
    gap,
    ratio,
    spread,
    spreads,
)

GROUPS = [[0.80, 0.82, 0.84], [0.70, 0.74], [0.90, 0.88, 0.86, 0.90]]


def test_equity_scaled_scores_of_the_published_code_by_hand() -> None:
    # Group means .82, .72, .885; overall 7.44 / 9 = .826667. Gaps .006667 + .106667 + .058333 = .171667, so
    # .826667 / 1.171667 = .705548. The means' own mean is .808333, their squared distances .000136 + .007803 +
    # .005878 = .013817, the standard deviation sqrt(.013817 / 2) = .083116, so .826667 / 1.083116 = .763230.
    means = [float(np.mean(group)) for group in GROUPS]
    overall = float(np.mean(np.concatenate(GROUPS)))
    assert overall == pytest.approx(0.826667, abs=1e-6)
    assert es_sum(means, overall) == pytest.approx(0.7055476529160738, abs=1e-12)
    assert es_std(means, overall) == pytest.approx(0.7632297679878867, abs=1e-12)


def test_spread_reproduces_them_from_patients() -> None:
    groups = [name for name, values in zip("abc", GROUPS, strict=True) for _ in values]
    found = spread(np.concatenate(GROUPS), groups, draws=999)
    assert found is not None
    assert found.measures["es_sum"].value == pytest.approx(0.705548, abs=1e-6)
    assert found.measures["es_std"].value == pytest.approx(0.763230, abs=1e-6)
    assert found.measures["gap"].value == pytest.approx(0.165)
    assert found.measures["ratio"].value == pytest.approx(0.72 / 0.885)
    assert found.worst_group == "b"


def test_unknown_groups_enter_the_overall_mean_alone() -> None:
    # Overall (0.8 + 0.8 + 0.6 + 0.6 + 0.2) / 5 = .6: gaps .2 and 0, es_sum .6 / 1.2 = .5.
    found = spread(np.array([0.8, 0.8, 0.6, 0.6, 0.2]), ["a", "a", "b", "b", None], draws=99)
    assert found is not None
    assert found.measures["es_sum"].value == pytest.approx(0.5)
    assert found.measures["gap"].value == pytest.approx(0.2)


def test_permutation_mean_by_all_orders() -> None:
    # Values 0, 0, 1, 1 in pairs: of the 6 splits 2 put equal values together (gap 1) and 4 mix them (gap 0).
    found = spread(np.array([0.0, 0.0, 1.0, 1.0]), ["a", "a", "b", "b"], draws=20_000)
    assert found is not None
    assert found.measures["gap"].value == 1.0
    assert found.measures["gap"].permutation_mean == pytest.approx(1 / 3, abs=0.015)
    assert found.measures["gap"].excess == pytest.approx(2 / 3, abs=0.015)
    # ES: overall .5, gaps 0 or .5 + .5: the mean of .5 (4 in 6) and .25 (2 in 6).
    assert found.measures["es_sum"].permutation_mean == pytest.approx(0.5 * 4 / 6 + 0.25 * 2 / 6, abs=0.01)


def test_excess_is_near_zero_without_disparity_though_the_gap_is_not() -> None:
    rng = np.random.default_rng(0)
    groups = ["a"] * 40 + ["b"] * 15 + ["c"] * 5
    found = [spread(rng.beta(9, 1.5, 60), groups, draws=199) for _ in range(60)]
    gaps = [one.measures["gap"] for one in found if one is not None]
    assert np.mean([one.value for one in gaps]) > 0.04
    assert abs(np.mean([one.excess for one in gaps])) < 0.02


def test_adding_groups_lowers_es_sum_without_any_disparity() -> None:
    values = np.random.default_rng(1).beta(9, 1.5, 120)
    few = spread(values, (["a", "b"] * 60), draws=199)
    many = spread(values, list("abcdefghijkl") * 10, draws=199)
    assert few is not None
    assert many is not None
    assert many.measures["es_sum"].permutation_mean < few.measures["es_sum"].permutation_mean - 0.05


def test_one_group_has_no_spread() -> None:
    assert spread(np.array([0.5, 0.6]), ["a", None]) is None
    with pytest.raises(InputError, match="expected two groups or more"):
        es_std([0.5], 0.5)


@pytest.mark.parametrize("wrong", [82.0, -0.1, float("nan")])
def test_percent_and_other_non_fractions_are_refused(wrong: float) -> None:
    with pytest.raises(InputError, match=r"expected fractions in \[0, 1\].*divide percent by 100"):
        es_sum([0.8, wrong], 0.8)
    with pytest.raises(InputError, match=r"expected fractions in \[0, 1\]"):
        spread(np.array([0.8, wrong]), ["a", "b"])


def test_groups_that_all_score_zero_are_equal() -> None:
    assert ratio([0.0, 0.0]) == 1.0
    assert gap([0.0, 0.0]) == 0.0
    assert es_sum([0.0, 0.0], 0.0) == 0.0


def test_a_distance_grows_with_its_gaps_on_the_declared_scale() -> None:
    # Overall 5, gaps 1 and 1, s = 10: 5 (1 + 2 / 10) = 6; sd of 4 and 6 is sqrt(2): 5 (1 + .141421) = 5.707107.
    assert es_distance_sum([4.0, 6.0], 5.0, scale=10.0) == pytest.approx(6.0)
    assert es_distance_std([4.0, 6.0], 5.0, scale=10.0) == pytest.approx(5.707107, abs=1e-6)
    # The same distances in voxels of 2 mm, and the scale with them, give the same score in voxels.
    assert es_distance_sum([2.0, 3.0], 2.5, scale=5.0) == pytest.approx(3.0)
    # No gaps, no change.
    assert es_distance_sum([5.0, 5.0], 5.0, scale=1.0) == 5.0


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_no_length_is_refused(scale: float) -> None:
    with pytest.raises(InputError, match="equity scale: expected a length above 0"):
        es_distance_sum([4.0, 6.0], 5.0, scale=scale)
    with pytest.raises(InputError, match="equity scale: expected a length above 0"):
        spreads({"hd": PatientScore(np.array([1.0, 2.0]), "low", False, scale)}, ["a", "b"])


def test_where_lower_is_better_the_worst_group_has_the_highest_mean() -> None:
    hd = PatientScore(np.array([2.0, 4.0, 6.0, 8.0]), better="low", fraction=False, scale=2.0)
    found = spreads({"hd": hd}, ["a", "a", "b", "b"], draws=999)["hd"]
    assert found.worst_group == "b"
    assert found.measures["gap"].value == pytest.approx(4.0)
    assert found.measures["ratio"].value == pytest.approx(3 / 7)
    # Means 3 and 7 around 5: 5 (1 + 4 / 2) = 15. By chance less, and the excess is above 0: further apart is worse.
    assert found.measures["es_sum"].value == pytest.approx(15.0)
    assert found.measures["es_sum"].excess > 0
    assert found.measures["es_std"].value == pytest.approx(es_distance_std([3.0, 7.0], 5.0, 2.0))


def test_without_a_declared_scale_a_distance_has_no_equity_scaled_form() -> None:
    found = spreads({"hd": PatientScore(np.array([2.0, 8.0]), "low", False)}, ["a", "b"], draws=199)["hd"]
    assert list(found.measures) == ["gap", "ratio"]


def test_scores_share_their_permutations_and_leave_out_patients_without_a_value() -> None:
    rng = np.random.default_rng(0)
    dice = rng.random(30)
    groups: list[str | None] = [*"aaaaaaaaaabbbbbbbbbbccccccccc", None]
    iou = dice / (2 - dice)
    iou[:3] = np.nan
    scores = {"dice": dice, "iou": iou, "copy": dice, "again": dice}
    found = spreads({name: PatientScore(values) for name, values in scores.items()}, groups, draws=99)
    assert list(found) == list(scores)
    assert found["dice"] == found["copy"]
    for alone, name in ((spread(dice, groups, draws=99), "dice"), (spread(iou[3:], groups[3:], draws=99), "iou")):
        assert alone is not None
        for key, measure in alone.measures.items():
            assert measure.permutation_mean == pytest.approx(found[name].measures[key].permutation_mean, abs=1e-12)
            assert measure.value == pytest.approx(found[name].measures[key].value, abs=1e-12)


def test_a_group_without_any_value_of_a_score_is_not_among_its_groups() -> None:
    values = np.array([0.1, 0.2, np.nan, 0.4])
    found = spreads({"one": PatientScore(values)}, ["a", "a", "b", "c"], draws=99)["one"]
    assert found.measures["gap"].value == pytest.approx(0.25)
    assert spreads({"one": PatientScore(values[:3])}, ["a", "a", "b"], draws=99) == {}


def test_signed_errors_are_refused_as_sizes() -> None:
    with pytest.raises(InputError, match="take the size of a signed error first"):
        spreads({"volume": PatientScore(np.array([-2.0, 2.0]), "low", False)}, ["a", "b"])
