from typing import get_args

import pytest

from equivox.errors import InputError
from equivox.metrics.masks.empty import EMPTY_POLICIES, EmptyPolicy, Outcome, check_policy, outcome_of


def test_each_pair_of_counts_has_its_outcome() -> None:
    outcomes = [outcome_of(3, 4), outcome_of(3, 0), outcome_of(0, 4), outcome_of(0, 0)]
    assert outcomes == ["scored", "missed", "false_positive", "both_empty"]
    assert set(outcomes) == set(get_args(Outcome))


def test_every_policy_is_explained() -> None:
    assert set(EMPTY_POLICIES) == set(get_args(EmptyPolicy))


def test_unknown_policy_is_named_with_the_choices() -> None:
    for policy in EMPTY_POLICIES:
        check_policy(policy)
    with pytest.raises(InputError, match="penalise, perfect, exclude, got 'drop'"):
        check_policy("drop")
