"""Contrasts of groups: size, intervals, and what could have been seen."""

import itertools
import math

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.statistics.permutation import Contrast, contrast_family, patients_needed


def only(family: tuple[Contrast, ...], group: str) -> Contrast:
    return next(contrast for contrast in family if contrast.group == group)


def two_groups(first: int, second: int) -> dict[str, list[str | None]]:
    return {"sex": ["a"] * first + ["b"] * second}


def test_size_is_held_with_unequal_variances_and_group_sizes() -> None:
    # The small group varies three times as much. A raw difference of means is rejected in about a quarter of the
    # repeats (.254 in the literature's setting), the studentised one in about .05 to .07. 300 repeats: s.e. .013.
    rng = np.random.default_rng(11)
    labels = np.repeat([True, False], [20, 100])
    groups = two_groups(20, 100)
    raw = studentised = 0
    for repeat in range(300):
        values = np.where(labels, rng.normal(0.8, 0.15, 120), rng.normal(0.8, 0.05, 120))
        contrast = contrast_family(values, groups, draws=299, seed=repeat).contrasts[0]
        studentised += contrast.p_adjusted < 0.05
        shuffled = rng.permuted(np.tile(values, (299, 1)), axis=1)
        differences = np.abs(shuffled[:, :20].mean(axis=1) - shuffled[:, 20:].mean(axis=1))
        raw += (1 + (differences >= abs(contrast.difference)).sum()) / 300 < 0.05
    assert 0.02 <= studentised / 300 <= 0.10
    assert raw / 300 > 0.18


def test_family_of_three_attributes_holds_its_size() -> None:
    rng = np.random.default_rng(4)
    found = 0
    for repeat in range(200):
        attributes: dict[str, list[str | None]] = {
            "sex": rng.choice(["F", "M"], 60).tolist(),
            "site": rng.choice(["1", "2", "3"], 60).tolist(),
            "age": rng.choice(["<40", ">=40"], 60).tolist(),
        }
        family = contrast_family(rng.beta(9, 1.5, 60), attributes, draws=299, seed=repeat)
        found += any(contrast.p_adjusted < 0.05 for contrast in family.contrasts)
    # Nominal .05, s.e. .015; testing the contrasts one by one would find something in about .2 of the repeats.
    assert found / 200 <= 0.10


def test_difference_and_standard_error_by_hand() -> None:
    # a: 0.7 and 0.9 in turn, mean .8, variance .01 * 10/9; b: 0.5 and 0.7 in turn. Difference .2,
    # standard error sqrt(2 * .01 * 10/9 / 10) = .0471405
    values = np.array([0.7, 0.9] * 5 + [0.5, 0.7] * 5)
    family = contrast_family(values, two_groups(10, 10))
    contrast = only(family.contrasts, "a")
    assert contrast.difference == pytest.approx(0.2)
    half = family.critical_value * math.sqrt(2 * 0.01 * 10 / 9 / 10)
    assert contrast.low == pytest.approx(0.2 - half)
    assert contrast.high == pytest.approx(0.2 + half)
    other = only(family.contrasts, "b")
    assert other.difference == pytest.approx(-0.2)
    assert (other.low, other.high) == (pytest.approx(-contrast.high), pytest.approx(-contrast.low))
    assert other.detectable_gap == contrast.detectable_gap


def test_p_value_agrees_with_all_permutations() -> None:
    # 5 + 5 patients have 252 splits: the p-value of the drawn permutations must come near the exact one.
    values = np.array([0.61, 0.72, 0.55, 0.81, 0.67, 0.74, 0.83, 0.79, 0.91, 0.70])

    def welch(first: np.ndarray, second: np.ndarray) -> float:
        error = math.sqrt(first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))
        return abs(first.mean() - second.mean()) / error

    observed = welch(values[:5], values[5:])
    exact = [
        welch(values[list(chosen)], np.delete(values, list(chosen))) >= observed - 1e-12
        for chosen in itertools.combinations(range(10), 5)
    ]
    contrast = contrast_family(values, two_groups(5, 5), minimum=5).contrasts[0]
    assert contrast.p_adjusted == pytest.approx(np.mean(exact), abs=0.015)


def test_interval_leaves_zero_out_exactly_when_p_is_below_the_level() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for repeat in range(60):
        values = rng.normal(0, 1, 40) + np.repeat([rng.uniform(0, 1.3), 0], 20)
        contrast = contrast_family(values, two_groups(20, 20), draws=199, seed=repeat, bounds=(-9.0, 9.0)).contrasts[0]
        significant = contrast.p_adjusted < 0.05
        assert significant == (contrast.low > 0 or contrast.high < 0)
        seen.add(significant)
    assert seen == {True, False}


def test_unknown_groups_take_no_side() -> None:
    values = np.concatenate([np.linspace(0.7, 0.9, 12), np.linspace(0.6, 0.8, 12), [0.0, 0.0]])
    contrast = contrast_family(values, {"sex": ["a"] * 12 + ["b"] * 12 + [None, None]}).contrasts[0]
    assert (contrast.patients, contrast.rest_patients) == (12, 12)
    assert contrast.difference == pytest.approx(0.1)


def test_groups_under_the_minimum_are_not_tested_but_are_part_of_the_rest() -> None:
    values = np.linspace(0.5, 0.9, 33)
    groups: list[str | None] = ["a"] * 12 + ["b"] * 12 + ["c"] * 9
    family = contrast_family(values, {"site": groups})
    assert [(c.group, c.patients, c.rest_patients) for c in family.contrasts] == [("a", 12, 21), ("b", 12, 21)]
    assert contrast_family(values, {"sex": ["a"] * 24 + ["b"] * 9}).contrasts == ()
    assert contrast_family(values, {}).contrasts == ()


def test_equal_values_are_no_difference_and_constant_groups_a_sure_one() -> None:
    same = contrast_family(np.full(24, 0.8), two_groups(12, 12)).contrasts[0]
    assert (same.difference, same.low, same.high, same.p_adjusted) == (0.0, 0.0, 0.0, 1.0)
    apart = contrast_family(np.repeat([0.8, 0.6], 12), two_groups(12, 12)).contrasts[0]
    assert apart.p_adjusted < 0.001
    assert apart.low == pytest.approx(apart.high) == pytest.approx(0.2)


def test_detectable_gap_does_not_depend_on_the_observed_one() -> None:
    rng = np.random.default_rng(3)
    values = rng.beta(9, 3, 60)
    attributes: dict[str, list[str | None]] = {**two_groups(25, 35), "site": (["x", "y", "z"] * 20)}
    before = contrast_family(values, attributes).contrasts
    after = contrast_family(values - np.repeat([0.3, 0.0], [25, 35]), attributes).contrasts
    assert after[0].difference < before[0].difference - 0.25
    for one, other in zip(before[:2], after[:2], strict=True):
        assert one.detectable_gap == pytest.approx(other.detectable_gap, rel=1e-6)


def test_detectable_gap_is_found_with_the_stated_power() -> None:
    # Normal values, 30 against 30: by theory (t_58(.975) + .842) * sd * sqrt(2/30) = 2.844 * .1 * .2582 = .0734.
    rng = np.random.default_rng(8)
    groups = two_groups(30, 30)
    gap = float(
        np.median(
            [
                contrast_family(rng.normal(0.8, 0.1, 60), groups, draws=499).contrasts[0].detectable_gap
                for _ in range(15)
            ]
        )
    )
    assert gap == pytest.approx(0.0734, rel=0.07)
    found = sum(
        contrast_family(rng.normal(0.8, 0.1, 60) - np.repeat([gap, 0], 30), groups, draws=299).contrasts[0].p_adjusted
        < 0.05
        for _ in range(200)
    )
    # 80 % power, s.e. .03.
    assert 0.70 <= found / 200 <= 0.90


def test_patients_needed_by_hand() -> None:
    # Both groups have variance .01 * 10/9; the error per patient of a is .02222, and with q = 2, z = .8416 and a gap
    # of .1: .02222 * (2.8416 / .1)^2 = 17.94
    values = np.array([0.7, 0.9] * 5 + [0.5, 0.7] * 5)
    groups = two_groups(10, 10)["sex"]
    assert patients_needed(values, groups, "a", target_gap=0.1, critical_value=2.0) == 18
    assert patients_needed(values, groups, "a", target_gap=0.5, critical_value=2.0) == 10


def test_patients_needed_of_a_single_patient_borrows_the_spread_of_the_others() -> None:
    values = np.array([0.7, 0.9] * 10 + [0.1])
    needed = patients_needed(values, ["a"] * 20 + ["b"], "b", target_gap=0.1, critical_value=2.0)
    # Pooled variance .01 * 20/19 for b, and 1/20 of it from the rest: .01105 * (2.8416 / .1)^2 = 8.9, so the minimum.
    assert needed == 10
    finer = patients_needed(values, ["a"] * 20 + ["b"], "b", target_gap=0.05, critical_value=2.0)
    assert finer == 36


def test_so_few_patients_do_not_tell_how_many_are_needed() -> None:
    values = np.array([0.7, 0.9, 0.5, 0.6])
    assert patients_needed(values, ["a", "a", "b", "b"], "a", target_gap=0.1, critical_value=2.0) is None
    # Ten patients round the means of two groups have eight degrees of freedom, one fewer than ten round one mean.
    values = np.array([0.7, 0.9] * 5 + [0.1])
    assert patients_needed(values[:10], ["a"] * 8 + ["b"] * 2, "b", target_gap=0.1, critical_value=2.0) is None
    assert patients_needed(values, ["a"] * 10 + ["b"], "b", target_gap=0.1, critical_value=2.0) == 10


def test_inputs_that_do_not_align_are_refused() -> None:
    with pytest.raises(InputError, match="expected 12 groups"):
        contrast_family(np.full(12, 0.5), {"sex": ["a"] * 11})
    with pytest.raises(InputError, match="expected one finite number"):
        contrast_family(np.array([np.nan] * 12), {"sex": ["a"] * 12})


def test_statistics_of_two_hundred_patients_take_seconds() -> None:
    import time

    rng = np.random.default_rng(0)
    attributes: dict[str, list[str | None]] = {
        name: rng.choice(list("abcd"), 200).tolist() for name in ("sex", "site", "age")
    }
    started = time.process_time()
    contrast_family(rng.beta(9, 1.5, 200), attributes)
    assert time.process_time() - started < 10
