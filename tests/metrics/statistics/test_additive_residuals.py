import numpy as np
import pytest

from equivox.metrics.statistics.additive_residuals import additive_residuals


def test_one_attribute_takes_the_means_of_its_groups_away_and_the_unknown_are_a_group() -> None:
    values = np.array([1.0, 3.0, 5.0, 9.0, 4.0])
    residuals = additive_residuals(values, {"sex": ["a", "a", "b", "b", None]})
    assert residuals == pytest.approx([-1.0, 1.0, -2.0, 2.0, 0.0])


def test_effects_that_add_up_leave_nothing() -> None:
    sex, site = ["a", "a", "b", "b"], ["1", "2", "1", "2"]
    assert additive_residuals(np.array([1.0, 3.0, 5.0, 7.0]), {"sex": sex, "site": site}) == pytest.approx(np.zeros(4))
    # What does not add up stays: one in four corners, with the sign of the corner.
    left = additive_residuals(np.array([1.0, 3.0, 5.0, 11.0]), {"sex": sex, "site": site})
    assert left == pytest.approx([1.0, -1.0, -1.0, 1.0])


def test_without_attributes_the_mean_is_taken_away() -> None:
    assert additive_residuals(np.array([1.0, 3.0]), {}) == pytest.approx([-1.0, 1.0])
