"""Rankings of few patients whose resamples can be counted, and the tau of another library."""

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata

from equivox.errors import InputError
from equivox.metrics.statistics.ranking import rank_stability


def test_shares_of_two_models_counted_by_hand() -> None:
    # Differences of the three patients: +2, +2, -3. Of the 27 resamples with k times the third patient
    # (8, 12, 6, 1 of them), the sum is 6, 1, -4, -9: the first model leads in 20.
    values = np.array([[2.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    found = rank_stability(values, draws=20_000, minimum=3)
    assert found.ranks == (1.0, 2.0)
    assert found.probabilities is not None
    assert found.probabilities[0][0] == pytest.approx(20 / 27, abs=0.012)
    assert found.probabilities[1][0] == pytest.approx(7 / 27, abs=0.012)
    # tau is 1 where the order stays and -1 where it turns: (20 - 7) / 27.
    assert found.tau == pytest.approx(13 / 27, abs=0.025)


def test_the_two_views_may_disagree() -> None:
    # The first model is far ahead in one patient of three and a little behind in two.
    values = np.array([[9.0, 1.0, 1.0], [1.0, 2.0, 2.0]])
    assert rank_stability(values).ranks == (1.0, 2.0)
    by_rank = rank_stability(values, view="mean_rank")
    # Ranks within patients 1, 2, 2 and 2, 1, 1.
    assert by_rank.scores == pytest.approx((5 / 3, 4 / 3))
    assert by_rank.ranks == (2.0, 1.0)


def test_tied_models_share_their_places() -> None:
    values = np.array([[0.7] * 12, [0.9] * 12, [0.9] * 12])
    for view in ("mean", "mean_rank"):
        found = rank_stability(values, view=view)
        assert found.ranks == (3.0, 1.5, 1.5)
        assert found.probabilities == ((0.0, 0.0, 1.0), (0.5, 0.5, 0.0), (0.5, 0.5, 0.0))
        assert found.tau == pytest.approx(1.0)


def test_what_rounding_makes_of_two_equal_sums_is_a_tie() -> None:
    # 0.1 + 0.2 + 0.3 is 0.6 and a bit, 0.3 + 0.2 + 0.1 is 0.6.
    assert rank_stability(np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])).ranks == (1.5, 1.5)


def test_models_that_are_all_alike_have_no_tau() -> None:
    found = rank_stability(np.full((2, 12), 0.1 + 0.2))
    assert found.ranks == (1.5, 1.5)
    assert found.probabilities == ((0.5, 0.5), (0.5, 0.5))
    assert found.tau is None


def test_every_resample_of_three_patients_against_scipy() -> None:
    # All 27 resamples, ranked by scipy; the bootstrap draws from the same 27.
    values = np.array([[0.9, 0.2, 0.5], [0.6, 0.6, 0.4], [0.1, 0.8, 0.7], [0.5, 0.5, 0.55]])
    observed = values.mean(axis=1)
    taus, shares = [], np.zeros((4, 4))
    for chosen in itertools.product(range(3), repeat=3):
        means = np.round(values[:, chosen].mean(axis=1), 12)
        taus.append(kendalltau(means, observed).statistic)
        low, high = rankdata(-means, method="min").astype(int), rankdata(-means, method="max").astype(int)
        for model in range(4):
            shares[model, low[model] - 1 : high[model]] += 1 / (high[model] - low[model] + 1) / 27
    found = rank_stability(values, draws=40_000, minimum=3)
    np.testing.assert_allclose(np.array(found.probabilities), shares, atol=0.01)
    assert found.tau == pytest.approx(np.mean(taus), abs=0.015)


def test_patients_without_every_model_are_left_out_and_counted() -> None:
    values = np.array([[0.9, np.nan, 0.7], [0.1, 0.9, 0.2]])
    found = rank_stability(values)
    assert (found.patients, found.left_out) == (2, 1)
    assert found.scores == pytest.approx((0.8, 0.15))
    assert found.probabilities is None
    assert found.tau is None
    nobody = rank_stability(np.array([[np.nan], [0.5]]))
    assert (nobody.patients, nobody.ranks) == (0, None)


def test_shares_add_up_and_do_not_depend_on_the_order_of_patients() -> None:
    values = np.random.default_rng(0).uniform(size=(4, 25))
    found = rank_stability(values, draws=999)
    shares = np.array(found.probabilities)
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert rank_stability(values[:, ::-1].copy(), draws=999) == found


def test_one_model_has_no_ranking() -> None:
    with pytest.raises(InputError, match="two models or more, got 1"):
        rank_stability(np.zeros((1, 12)))
