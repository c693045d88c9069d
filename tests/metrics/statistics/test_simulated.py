"""The shipped simulations: what they say, and that they can be made again."""

import math

import numpy as np
import pytest

from equivox.metrics.statistics.simulated import (
    ESTIMATES,
    POPULATIONS,
    SITUATIONS,
    SIZES,
    Estimate,
    SkewedDice,
    neighbours,
    simulate_coverage,
    simulate_test,
    simulated_table,
)

TABLE = simulated_table()


@pytest.mark.parametrize("miss_rate", [0.0, 0.08, 0.3])
def test_population_has_its_mean_and_quantiles(miss_rate: float) -> None:
    population = SkewedDice(miss_rate)
    drawn = population.draw(np.random.default_rng(0), 400_000)
    assert drawn.mean() == pytest.approx(population.mean, abs=0.003)
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(drawn, share) == pytest.approx(population.quantile(share), abs=0.005)


def test_every_cell_is_there_once_with_two_thousand_repeats_or_more() -> None:
    cells = [(row["scores"], row["patients"]) for row in TABLE.coverage]
    assert sorted(cells) == sorted((scores, n) for scores in POPULATIONS for n in SIZES)
    assert {row["situation"] for row in TABLE.tests} == set(SITUATIONS)
    rows = [*TABLE.coverage, *TABLE.tests, *TABLE.power, *TABLE.verdicts]
    assert min(row["repeats"] for row in rows) >= 2000
    assert all(0 <= row[estimate] <= 1 for row in TABLE.coverage for estimate in ESTIMATES)


@pytest.mark.parametrize(
    ("scores", "patients", "estimate"),
    [("3 % missed", 10, "bootstrap_t"), ("8 % missed", 20, "bca"), ("no misses", 40, "worst_decile")],
)
def test_a_shipped_coverage_can_be_simulated_again(scores: str, patients: int, estimate: Estimate) -> None:
    (row,) = [row for row in TABLE.coverage if (row["scores"], row["patients"]) == (scores, patients)]
    again = simulate_coverage(POPULATIONS[scores], patients, estimate, repeats=2000, seed=99)
    share = row[estimate]
    # Four standard errors of the difference; fifty samples share the chance error of their 999 resamples.
    assert abs(again - share) < 4 * math.sqrt(share * (1 - share) * (1 / 2000 + 1 / row["repeats"])) + 0.004


def test_a_shipped_size_can_be_simulated_again() -> None:
    (row,) = [
        row
        for row in TABLE.tests
        if (row["situation"], row["scores"], row["smallest"]) == ("sites_differ", "no misses", 20)
    ]
    again = simulate_test("sites_differ", POPULATIONS["no misses"], 20, repeats=400, draws=199, seed=77)
    assert abs(again - row["found"]) < 4 * math.sqrt(0.05 * 0.95 * (1 / 400 + 1 / row["repeats"]))


def test_permuting_freely_would_take_a_difference_of_sites_for_one_of_groups() -> None:
    # The same simulation without the blocks: the sites' difference of .2 is found in nearly every table.
    rng = np.random.default_rng(0)
    from equivox.metrics.statistics.permutation import smallest_ps

    small = np.arange(80) < 20
    first = rng.random(80) < np.where(small, 0.6, 0.3)
    values = POPULATIONS["no misses"].draw(rng, 60, 80) - 0.2 * first
    found = smallest_ps(values, {"sex": np.where(small, "F", "M").tolist()}, draws=199)
    assert found is not None
    assert (found < 0.05).mean() > 0.2


def test_promises_of_the_shipped_table() -> None:
    for row in TABLE.tests:
        if row["situation"] in ("exchangeable", "two_attributes", "sites_differ", "sites_tested"):
            assert row["found"] < 0.065, row
    for row in TABLE.verdicts:
        if row["true_gap"] == row["margin"]:
            assert row["ruled_out"] <= 0.06, row
        else:
            assert row["difference"] <= 0.065, row


def test_neighbours_are_the_sizes_on_either_side() -> None:
    assert neighbours([]) == ()
    assert neighbours([10]) == (10,)
    assert neighbours([11, 24], (10, 20, 50)) == (10, 20, 50)


def test_bootstrap_t_keeps_its_coverage_at_a_hundred_patients_and_covers_more_than_bca_below() -> None:
    for row in TABLE.coverage:
        if row["patients"] >= 100:
            assert 0.93 <= row["bootstrap_t"] <= 0.97, row
        assert row["bootstrap_t"] >= row["bca"], row


def test_unequal_variances_of_continuous_scores_are_stood() -> None:
    for row in TABLE.tests:
        if row["situation"] in ("wider", "narrower"):
            assert row["found"] <= 0.075, row
