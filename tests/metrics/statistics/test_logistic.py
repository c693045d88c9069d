import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from equivox.errors import InputError
from equivox.metrics.statistics.logistic import balanced_logistic

STRENGTHS = (1e-4, 1.0, 1e2)


@pytest.mark.parametrize("apart", [0.0, 6.0])
def test_weights_are_those_of_scikit_learn(apart: float) -> None:
    rng = np.random.default_rng(0)
    inside = rng.random(60) < 0.2
    rows = rng.normal(size=(60, 5)) + apart * inside[:, None]
    for strength, found in zip(STRENGTHS, balanced_logistic(rows, inside, STRENGTHS), strict=True):
        model = LogisticRegression(C=strength, class_weight="balanced", solver="newton-cholesky", tol=1e-8)
        model.fit(rows, inside)
        np.testing.assert_allclose(found[:-1], model.coef_[0], atol=1e-4)
        np.testing.assert_allclose(found[-1], model.intercept_[0], atol=1e-4)


def test_a_weight_by_hand() -> None:
    # Of rows -1 | 0, 0 | 1 the middle two cost the same at any weight w: 2 log(1 + exp(-w)) + w^2 / 2 is least where
    # w = 2 / (1 + exp(w)), that is at 0.675; by symmetry the intercept is 0.
    rows = np.array([[-1.0], [0.0], [0.0], [1.0]])
    ((weight, intercept),) = balanced_logistic(rows, np.array([False, False, True, True]), (1.0,))
    assert weight == pytest.approx(2 / (1 + np.exp(weight)), abs=1e-6)
    assert intercept == pytest.approx(0, abs=1e-9)


def test_one_side_alone_is_refused() -> None:
    with pytest.raises(InputError, match="inside and outside of the group, got one side alone"):
        balanced_logistic(np.zeros((3, 1)), np.array([True, True, True]), (1.0,))
