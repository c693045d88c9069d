"""Contrasts of groups: size, p-values and intervals."""

import itertools
import math

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.statistics.contrast_design import Blocks
from equivox.metrics.statistics.permutation import Contrast, ContrastFamily, contrast_family, smallest_ps


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
        p = smallest_ps(values[None, :], groups, draws=299, seed=repeat)
        assert p is not None
        studentised += p[0] < 0.05
        difference = values[:20].mean() - values[20:].mean()
        shuffled = rng.permuted(np.tile(values, (299, 1)), axis=1)
        differences = np.abs(shuffled[:, :20].mean(axis=1) - shuffled[:, 20:].mean(axis=1))
        raw += (1 + (differences >= abs(difference)).sum()) / 300 < 0.05
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
        p = smallest_ps(rng.beta(9, 1.5, (1, 60)), attributes, draws=299, seed=repeat)
        assert p is not None
        found += p[0] < 0.05
    # Nominal .05, s.e. .015; testing the contrasts one by one would find something in about .2 of the repeats.
    assert found / 200 <= 0.10


@pytest.mark.parametrize("within", [False, True])
def test_smallest_p_of_many_samples_is_that_of_each_family_of_its_own(within: bool) -> None:
    rng = np.random.default_rng(5)
    attributes: dict[str, list[str | None]] = {"sex": ["F", "M"] * 20, "age": [*"aab"] * 13 + [None]}
    blocks = Blocks("site", ("1",) * 24 + ("2",) * 16) if within else None
    # More samples than share their permutations, of different means: nothing may leak from one into another.
    samples = rng.normal(np.arange(60)[:, None], 1.0, (60, 40)) + 0.9 * np.array([0, 1] * 20)
    found = smallest_ps(samples, attributes, blocks=blocks, draws=999)
    assert found is not None
    for sample, p in zip(samples[::15], found[::15], strict=True):
        family = contrast_family(sample, attributes, blocks=blocks, draws=1999)
        expected = min(contrast.p_adjusted for contrast in family.contrasts)
        assert p == pytest.approx(expected, abs=0.01 + 4 * math.sqrt(expected / 999))
    assert 0.1 < (found < 0.05).mean() < 1.0


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


def in_blocks(
    values: np.ndarray, groups: list[str | None], blocks: list[str | None], **settings: int
) -> ContrastFamily:
    return contrast_family(values, {"sex": groups}, blocks=Blocks("site", tuple(blocks)), minimum=5, **settings)


def test_one_block_gives_the_test_without_blocks() -> None:
    values = np.random.default_rng(5).beta(9, 2, 40)
    attributes: dict[str, list[str | None]] = {**two_groups(12, 28), "age": ["x", "y"] * 20}
    free = contrast_family(values, attributes).contrasts
    within = contrast_family(values, attributes, blocks=Blocks("site", ("1",) * 40)).contrasts
    for one, other in zip(free, within, strict=True):
        assert other.difference == pytest.approx(one.difference, abs=1e-12)
        assert (other.low, other.high) == (pytest.approx(one.low), pytest.approx(one.high))
        assert (other.p_adjusted, other.patients) == (one.p_adjusted, one.patients)
        assert other.detectable_gap == pytest.approx(one.detectable_gap)
        assert (one.within, other.within) == (None, "site")


def test_blocks_of_two_give_the_paired_t_test_by_hand() -> None:
    # Differences within the pairs .1, .2, .3, .4, .5, .6: mean .35, variance .035, standard error sqrt(.035 / 6).
    # All signs are equal, so of the 2^6 exchanges only one other (all exchanged) is as large: p = 2/64.
    first = np.array([0.9, 0.8, 0.7, 0.95, 0.85, 0.75])
    second = first - np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    values = np.concatenate([first, second])
    family = in_blocks(values, ["a"] * 6 + ["b"] * 6, [*"123456"] * 2)
    contrast = only(family.contrasts, "a")
    assert contrast.difference == pytest.approx(0.35)
    assert contrast.raw_difference == pytest.approx(0.35)
    assert (contrast.high - contrast.difference) / family.critical_value == pytest.approx(math.sqrt(0.035 / 6))
    assert contrast.p_adjusted == pytest.approx(2 / 64, abs=0.006)


def test_difference_within_blocks_is_that_of_the_regression_with_hc2_errors() -> None:
    # An independent way to it: the normal equations of group and block indicators, and MacKinnon and White's formula.
    rng = np.random.default_rng(9)
    site = rng.choice(list("123"), 60)
    inside = rng.random(60) < np.where(site == "1", 0.6, 0.3)
    values = rng.normal(0, 1, 60) * np.where(inside, 2, 1) + 3 * (site == "1")
    design = np.column_stack([inside, *(site == name for name in "123")]).astype(float)
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ values
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    weights = (values - design @ coefficients) ** 2 / (1 - leverage)
    error = math.sqrt((inverse @ (design.T * weights) @ design @ inverse)[0, 0])
    family = contrast_family(
        values, {"sex": np.where(inside, "F", "M").tolist()}, blocks=Blocks("site", tuple(site)), bounds=(-99.0, 99.0)
    )
    contrast = only(family.contrasts, "F")
    assert contrast.difference == pytest.approx(coefficients[0])
    assert contrast.high - contrast.difference == pytest.approx(family.critical_value * error)
    assert contrast.raw_difference == pytest.approx(values[inside].mean() - values[~inside].mean())


def test_a_difference_between_sites_is_none_between_groups_within_them() -> None:
    # Site 1 scores .3 lower and has most of the F: over all patients F is far lower, within a site not at all.
    rng = np.random.default_rng(1)
    site = ["1"] * 40 + ["2"] * 40
    sex: list[str | None] = ["F"] * 30 + ["M"] * 10 + ["F"] * 10 + ["M"] * 30
    values = rng.normal(0.8, 0.05, 80) - 0.3 * np.repeat([1, 0], 40)
    free = only(contrast_family(values, {"sex": sex}).contrasts, "F")
    within = only(in_blocks(values, sex, [*site]).contrasts, "F")
    assert free.p_adjusted < 0.001
    assert within.p_adjusted > 0.05
    assert within.low < 0 < within.high
    assert within.raw_difference == pytest.approx(free.difference)


def test_the_blocking_attribute_is_tested_by_free_permutations_in_the_same_family() -> None:
    rng = np.random.default_rng(2)
    site = ["1"] * 30 + ["2"] * 30
    attributes: dict[str, list[str | None]] = {"sex": ["F", "M"] * 30, "site": [*site]}
    values = rng.normal(0.8, 0.05, 60) - 0.1 * np.repeat([1, 0], 30)
    family = contrast_family(values, attributes, blocks=Blocks("site", tuple(site)))
    sites = family.of("site")
    assert [contrast.within for contrast in sites] == [None, None]
    assert sites[0].p_adjusted < 0.001
    assert sites[0].difference == pytest.approx(values[:30].mean() - values[30:].mean())
    assert [contrast.within for contrast in family.of("sex")] == ["site", "site"]
    # Of one normal statistic the 95 % point is some 2.0, of the larger of two independent ones 2.24 (more here, as
    # the degrees of freedom are few): both kinds of permutation are in the family's maximum.
    assert in_blocks(values, attributes["sex"], [*site]).critical_value < 2.15
    assert 2.2 < family.critical_value < 2.4


def test_a_group_alone_in_its_blocks_is_not_tested() -> None:
    values = np.linspace(0.5, 0.9, 48)
    groups: list[str | None] = ["a"] * 12 + ["b"] * 12 + ["c"] * 24
    blocks: list[str | None] = ["1"] * 24 + ["2"] * 24
    family = in_blocks(values, groups, blocks)
    assert [contrast.group for contrast in family.contrasts] == ["a", "b"]
    # The patients of c are nobody's rest in site 1.
    assert [(contrast.patients, contrast.rest_patients) for contrast in family.contrasts] == [(12, 12), (12, 12)]
    (alone,) = family.untested
    assert (alone.group, alone.patients, alone.compared, alone.rest_compared, alone.within) == ("c", 24, 0, 0, "site")
    nobody = in_blocks(values, ["a"] * 24 + ["b"] * 24, blocks)
    assert (nobody.contrasts, len(nobody.untested)) == ((), 2)


def test_patients_of_unknown_block_are_a_block_of_their_own() -> None:
    rng = np.random.default_rng(4)
    values, sex = rng.beta(9, 2, 40), ["F", "M"] * 20
    named = in_blocks(values, [*sex], ["1"] * 20 + ["2"] * 20, draws=199)
    unknown = in_blocks(values, [*sex], [None] * 20 + ["2"] * 20, draws=199)
    assert named == unknown


def test_interval_within_blocks_leaves_zero_out_exactly_when_p_is_below_the_level() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    blocks: list[str | None] = rng.choice(list("123"), 40).tolist()
    for repeat in range(40):
        values = rng.normal(0, 0.3, 40) + np.repeat([rng.uniform(0, 0.4), 0], 20)
        contrast = in_blocks(values, ["a"] * 20 + ["b"] * 20, blocks, draws=199, seed=repeat).contrasts[0]
        significant = contrast.p_adjusted < 0.05
        assert significant == (contrast.low > 0 or contrast.high < 0)
        seen.add(significant)
    assert seen == {True, False}


def test_blocks_that_do_not_align_are_refused() -> None:
    with pytest.raises(InputError, match="blocks of site: expected 12 groups"):
        contrast_family(np.full(12, 0.5), {"sex": ["a"] * 12}, blocks=Blocks("site", ("1",) * 11))


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
