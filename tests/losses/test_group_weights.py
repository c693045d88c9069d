"""Weights of groups: by hand, without a group, across processes."""

import math

import pytest
import torch

from equivox.losses.context import CaseContext
from equivox.losses.group_weights import GroupErrors, GroupWeights, group_shares


def context(group: list[int], **facts: object) -> CaseContext:
    return CaseContext(group=torch.tensor(group), groups=3, **facts)


SHARES = torch.tensor([0.5, 0.3, 0.2])


def test_shares_leave_unknown_groups_out() -> None:
    shares = group_shares(torch.tensor([0, 0, 1, -1, 0]), 3)
    torch.testing.assert_close(shares, torch.tensor([0.75, 0.25, 0.0]))


def test_running_means_wait_for_groups_that_a_batch_lacks() -> None:
    errors = GroupErrors(3, momentum=0.9)
    errors.update(torch.tensor([1.0, 3.0, 9.0]), context([0, 0, -1]))
    torch.testing.assert_close(errors.mean, torch.tensor([2.0, 0.0, 0.0]))
    assert errors.seen.tolist() == [True, False, False]
    errors.update(torch.tensor([1.0, 4.0]), context([0, 2]))
    # .9 * 2 + .1 * 1 = 1.9; the first loss of a group counts whole
    torch.testing.assert_close(errors.mean, torch.tensor([1.9, 0.0, 4.0]))


def test_errors_are_those_of_all_processes() -> None:
    # Another process has two samples of group 0 that add up to 6.
    other = torch.tensor([[6.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    errors = GroupErrors(3)
    errors.update(torch.tensor([3.0]), context([0], sum_over_processes=lambda value: value + other))
    torch.testing.assert_close(errors.mean[0], torch.tensor(3.0))


@pytest.mark.parametrize("method", ["none", "inverse_frequency", "group_dro", "febs_corrected"])
def test_weights_average_one_over_the_training_cases(method) -> None:
    weights = GroupWeights(method, SHARES)
    for losses in ([0.2, 0.4, 0.9], [0.1, 0.5, 1.4]):
        weights(torch.tensor(losses), context([0, 1, 2]))
    assert float((weights.of_groups() * SHARES).sum()) == pytest.approx(1.0)


def test_inverse_frequency_lets_each_group_count_alike() -> None:
    # 1/f = 2, 10/3, 5; their mean over the cases is 3 (one a group).
    found = GroupWeights("inverse_frequency", SHARES)(torch.zeros(4), context([0, 1, 2, -1]))
    torch.testing.assert_close(found, torch.tensor([2 / 3, 10 / 9, 5 / 3, 1.0]))


def test_group_dro_by_hand() -> None:
    weights = GroupWeights("group_dro", SHARES, step_size=0.5)
    found = weights(torch.tensor([1.0, 2.0, 2.0]), context([0, 1, 1]))
    raised = [math.exp(0.5), math.exp(1.0), 1.0]  # group 2 is absent
    q = [value / sum(raised) for value in raised]
    torch.testing.assert_close(weights.q, torch.tensor(q))
    # sum of f * q/f is 1
    torch.testing.assert_close(found, torch.tensor([q[0] / 0.5, q[1] / 0.3, q[1] / 0.3]))


def test_corrected_scaling_by_hand_and_clipped() -> None:
    weights = GroupWeights("febs_corrected", SHARES, clip=(0.5, 1.5))
    weights(torch.tensor([0.1, 0.5, 0.6]), context([0, 1, 2]))
    # mean .4: ratios .25, 1.25, 1.5 become .5, 1.25, 1.5; over the cases .25 + .375 + .3 = .925
    torch.testing.assert_close(weights.of_groups(), torch.tensor([0.5, 1.25, 1.5]) / 0.925)


def test_corrected_scaling_favours_the_group_that_fares_worse() -> None:
    weights = GroupWeights("febs_corrected", SHARES)
    before = 0.0
    for loss in (0.3, 0.5, 0.7, 0.9):
        weights.errors.seen.zero_()
        weights(torch.tensor([0.4, 0.4, loss]), context([0, 1, 2]))
        after = float(weights.of_groups()[2] / weights.of_groups()[0])
        assert after > before
        before = after


def test_a_loss_that_is_not_finite_leaves_no_trace() -> None:
    weights = GroupWeights("group_dro", SHARES)
    weights(torch.tensor([math.nan, 1.0, 1.0]), context([0, 1, 2]))
    assert not weights.errors.seen.any()
    torch.testing.assert_close(weights.q, torch.full((3,), 1 / 3))


def test_missing_groups_are_told() -> None:
    with pytest.raises(ValueError, match="expected the group of each sample"):
        GroupWeights("none", SHARES)(torch.zeros(2), CaseContext())
