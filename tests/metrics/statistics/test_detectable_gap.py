import math

import numpy as np
import pytest

from equivox.metrics.statistics.contrast_design import Blocks
from equivox.metrics.statistics.detectable_gap import patients_needed
from equivox.metrics.statistics.permutation import Contrast, contrast_family


def two_groups(first: int, second: int) -> dict[str, list[str | None]]:
    return {"sex": ["a"] * first + ["b"] * second}


def first_within(values: np.ndarray, groups: list[str | None], blocks: list[str | None], **settings: int) -> Contrast:
    within = Blocks("site", tuple(blocks))
    return contrast_family(values, {"sex": groups}, blocks=within, minimum=5, **settings).contrasts[0]


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


def test_detectable_gap_within_blocks_depends_neither_on_the_observed_one_nor_on_the_sites() -> None:
    values = np.random.default_rng(3).beta(9, 3, 60)
    sex, site = two_groups(25, 35)["sex"], ["x", "y", "z"] * 20
    before = first_within(values, sex, [*site])
    moved = values - np.repeat([0.3, 0.0], [25, 35]) + 0.2 * (np.array(site) == "x")
    after = first_within(moved, sex, [*site])
    assert after.difference == pytest.approx(before.difference - 0.3)
    assert after.detectable_gap == pytest.approx(before.detectable_gap, rel=1e-6)


def test_detectable_gap_of_pairs_is_that_of_the_paired_test() -> None:
    # 30 pairs, each value with a standard deviation of .1 round the pair's mean: differences vary by .1 * sqrt(2), so
    # the gap is (t_29(.975) + .854) * .1 * sqrt(2 / 30) = .0749. Residuals that were not widened would give .053.
    rng = np.random.default_rng(6)
    pairs: list[str | None] = [str(index) for index in range(30)] * 2
    gaps = [
        first_within(
            np.tile(rng.beta(2, 2, 30), 2) + rng.normal(0, 0.1, 60), [*two_groups(30, 30)["sex"]], pairs, draws=999
        ).detectable_gap
        for _ in range(9)
    ]
    assert np.median(gaps) == pytest.approx(0.0749, rel=0.12)


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


def test_patients_needed_within_one_block_are_those_without_blocks_and_none_where_no_block_is_shared() -> None:
    values = np.array([0.7, 0.9] * 5 + [0.5, 0.7] * 5)
    groups = two_groups(10, 10)["sex"]

    def needed(blocks: tuple[str, ...], minimum: int = 10) -> int | None:
        within = Blocks("site", blocks)
        return patients_needed(values, groups, "a", target_gap=0.1, critical_value=2.0, blocks=within, minimum=minimum)

    assert needed(("1",) * 20) == 18
    assert needed(("1",) * 10 + ("2",) * 10) is None
    # Two of a and ten of b in one block: the pooled variance, times 10 / (2 * 10 / 12), times (2.8416 / .1)^2.
    assert needed(("2",) * 8 + ("1",) * 12) == math.ceil(
        10 * _pooled_within(values) / (2 * 10 / 12) * ((2 + 0.841621) / 0.1) ** 2
    )


def _pooled_within(values: np.ndarray) -> float:
    # Group and block: the eight a of block 2, the two a of block 1 and the ten b of block 1 have a mean each.
    parts = [values[:8], values[8:10], values[10:]]
    return float(sum(((part - part.mean()) ** 2).sum() for part in parts) / (20 - 3))
