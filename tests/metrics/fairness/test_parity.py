"""The conventions of fairlearn, against fairlearn itself and by hand."""

import math

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.fairness.parity import (
    PresenceParity,
    difference_between_groups,
    difference_to_overall,
    presence_parity,
    ratio_between_groups,
    ratio_to_overall,
)

fairlearn = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed")


@pytest.mark.parametrize(
    "values",
    [[0.8, 0.7, 0.95], [0.0, 0.5, 0.5], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]],
    ids=["any", "zero", "zeros", "ones"],
)
def test_differences_and_ratios_are_those_of_metric_frame(values: list[float]) -> None:
    scores = np.repeat(values, [5, 2, 3])
    frame = fairlearn.MetricFrame(
        metrics=lambda truth, _found: float(np.mean(truth)),
        y_true=scores,
        y_pred=scores,
        sensitive_features=np.repeat(["a", "b", "c"], [5, 2, 3]),
    )
    overall = float(scores.mean())
    pairs = [
        (difference_between_groups(values), frame.difference(method="between_groups")),
        (difference_to_overall(values, overall), frame.difference(method="to_overall")),
        (ratio_between_groups(values), frame.ratio(method="between_groups")),
        (ratio_to_overall(values, overall), frame.ratio(method="to_overall")),
    ]
    for ours, theirs in pairs:
        assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)


def test_undefined_groups_are_refused() -> None:
    with pytest.raises(InputError, match="expected one finite number a group"):
        difference_between_groups([0.5, math.nan])
    with pytest.raises(InputError, match="expected one finite number a group"):
        ratio_to_overall([], 0.5)


def one_class(present: list[int], predicted: list[int], groups: str, **options: object) -> PresenceParity:
    columns = [np.array(side, dtype=bool)[:, None] for side in (present, predicted)]
    patients = [f"p{place}" for place in range(len(groups))]
    return presence_parity(*columns, patients, list(groups), **options)[0]  # type: ignore[arg-type]


def test_presence_parity_is_that_of_fairlearn() -> None:
    rng = np.random.default_rng(4)
    present, predicted = rng.random(60) < 0.6, rng.random(60) < 0.5
    groups = rng.choice(list("abc"), 60)
    found = one_class(present.tolist(), predicted.tolist(), "".join(groups), unit="case", draws=50)
    for name in (
        "demographic_parity_difference",
        "demographic_parity_ratio",
        "equalized_odds_difference",
        "equalized_odds_ratio",
    ):
        theirs = getattr(fairlearn, name)(present, predicted, sensitive_features=groups)
        assert getattr(found, name).value == pytest.approx(theirs, abs=1e-12)


def test_rates_by_hand() -> None:
    # a: present 3 of 4, found in 2 of them, and in the absent one. b: present 1 of 3, found; absent 2, found in none.
    found = one_class([1, 1, 1, 0, 1, 0, 0], [1, 1, 0, 1, 1, 0, 0], "aaaabbb", draws=50)
    a, b = found.rates
    assert (a.patients, a.present, a.absent) == (4, 3, 1)
    assert (a.selection_rate, a.true_positive_rate, a.false_positive_rate) == (0.75, pytest.approx(2 / 3), 1.0)
    assert (b.selection_rate, b.true_positive_rate, b.false_positive_rate) == (pytest.approx(1 / 3), 1.0, 0.0)
    assert found.demographic_parity_difference is not None
    assert found.demographic_parity_difference.value == pytest.approx(0.75 - 1 / 3)
    assert found.equalized_odds_difference is not None
    assert found.equalized_odds_difference.value == pytest.approx(1.0)
    assert found.equalized_odds_ratio is not None
    assert found.equalized_odds_ratio.value == 0.0


def test_a_patient_counts_once_whatever_the_number_of_cases() -> None:
    # p has four cases with the class, all found; q one, missed. By case 4 of 5, by patient the mean of 1 and 0.
    present = np.array([1, 1, 1, 1, 1, 0, 1, 0], dtype=bool)[:, None]
    predicted = np.array([1, 1, 1, 1, 0, 0, 1, 0], dtype=bool)[:, None]
    patients, groups = list("ppppqrst"), list("aaaaaabb")
    by_patient = presence_parity(present, predicted, patients, groups, draws=50)[0].rates[0]
    by_case = presence_parity(present, predicted, patients, groups, unit="case", draws=50)[0].rates[0]
    assert (by_patient.true_positive_rate, by_patient.present) == (0.5, 2)
    assert (by_case.true_positive_rate, by_case.present) == (0.8, 5)


def test_not_defined_where_a_group_has_no_present_or_no_absent_reference() -> None:
    always = one_class([1, 1, 1, 0], [1, 1, 1, 0], "aabb")
    assert always.reason == "no reference lacks this class in 'a'"
    assert always.demographic_parity_difference is None
    assert always.rates[0].false_positive_rate is None
    never = one_class([0, 0, 1, 0], [1, 0, 1, 0], "aabb")
    assert never.reason == "no reference has this class in 'a'"
    assert one_class([1, 0], [1, 0], "aa").reason == "there are not two groups to compare"


def test_without_any_false_positive_the_odds_ratio_is_that_of_the_true_positives() -> None:
    found = one_class([1, 1, 0, 1, 1, 0], [1, 0, 0, 1, 1, 0], "aaabbb", draws=50)
    assert found.equalized_odds_ratio is not None
    assert found.equalized_odds_ratio.value == 0.5


def test_what_chance_alone_gives_by_all_orders() -> None:
    # Selected 1, 1, 0, 0 in pairs: of the 6 splits 2 put equal ones together (difference 1), 4 do not (0).
    found = one_class([1, 0, 1, 0], [1, 1, 0, 0], "aabb", draws=20_000)
    assert found.demographic_parity_difference is not None
    assert found.demographic_parity_difference.permutation_mean == pytest.approx(1 / 3, abs=0.015)
    assert found.demographic_parity_difference.excess == pytest.approx(2 / 3, abs=0.015)


def test_cases_of_a_patient_stay_together_and_in_one_group() -> None:
    with pytest.raises(InputError, match="patient p: expected one group, got 'b' and 'a'"):
        presence_parity(np.ones((2, 1), dtype=bool), np.ones((2, 1), dtype=bool), ["p", "p"], ["a", "b"])


def test_no_cases_have_no_parity() -> None:
    nothing = np.zeros((0, 1), dtype=bool)
    assert presence_parity(nothing, nothing, [], [])[0].reason == "there are not two groups to compare"
