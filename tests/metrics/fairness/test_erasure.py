import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.fairness.erasure import erase, inlp_directions, random_directions


def planted(axis: np.ndarray, n: int = 200) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    sex = rng.integers(0, 2, n)
    return rng.normal(0, 0.5, (n, len(axis))) + 2.0 * sex[:, None] * axis, ["FM"[one] for one in sex]


def test_the_first_direction_is_the_planted_one() -> None:
    axis = np.array([0.0, 0.6, 0.0, 0.8])
    (found,) = inlp_directions(*planted(axis), 1)
    assert abs(found @ axis) > 0.98


def test_directions_are_orthonormal_and_the_first_of_many_are_the_few() -> None:
    vectors, sex = planted(np.array([0.0, 0.6, 0.0, 0.8]))
    three = inlp_directions(vectors, sex, 3)
    np.testing.assert_allclose(three @ three.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(inlp_directions(vectors, sex, 2), three[:2], atol=1e-9)


def test_the_direction_of_a_number_and_of_three_groups_is_found() -> None:
    rng = np.random.default_rng(1)
    age = rng.uniform(20, 90, 150)
    vectors = rng.normal(size=(150, 5))
    vectors[:, 3] += age / 10
    assert abs(inlp_directions(vectors, age.tolist(), 1)[0, 3]) > 0.97
    site = ["abc"[place % 3] for place in range(150)]
    vectors = rng.normal(size=(150, 5))
    vectors[:, 2] += np.array([{"a": -4.0, "b": 0.0, "c": 4.0}[one] for one in site])
    assert abs(inlp_directions(vectors, site, 1)[0, 2]) > 0.95


def test_dimensions_of_very_different_size_do_not_hide_a_direction() -> None:
    vectors, sex = planted(np.array([1.0, 0.0, 0.0]))
    small = vectors * np.array([1e-4, 1.0, 1e4])
    left = erase(small, inlp_directions(small, sex, 1), small.mean(axis=0))
    males = np.array(sex) == "M"
    # What is left of the difference of means, in standard deviations of the axis that it was planted on.
    apart = (left[males, 0].mean() - left[~males, 0].mean()) / 1e-4
    assert abs(apart) < 0.2


def test_erasing_sets_every_vector_to_the_centre_along_the_directions() -> None:
    # Along (3, 4) / 5 the vector (5, 0) has 3 and the centre (0, 5) has 4: 1 / 5 of (3, 4) is added.
    left = erase(np.array([[5.0, 0.0]]), np.array([[0.6, 0.8]]), np.array([0.0, 5.0]))
    np.testing.assert_allclose(left, [[5.6, 0.8]])


def test_a_removed_direction_that_leaves_nothing_gives_some_other_one() -> None:
    vectors = np.zeros((20, 3))
    vectors[10:, 0] = 1.0
    found = inlp_directions(vectors, ["a"] * 10 + ["b"] * 10, 2)
    np.testing.assert_allclose(np.abs(found[0]), [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-9)


def test_random_directions_are_orthonormal_and_repeatable() -> None:
    found = random_directions(3, 7, seed=5)
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(found, random_directions(3, 7, seed=5))
    assert not np.allclose(found, random_directions(3, 7, seed=6))


def test_what_cannot_be_removed_is_refused() -> None:
    vectors, sex = planted(np.array([1.0, 0.0]))
    with pytest.raises(InputError, match="expected 1 to 1 directions of 2 dimensions, got 2"):
        inlp_directions(vectors, sex, 2)
    with pytest.raises(InputError, match="expected 200 labels of two kinds or more, got 200 labels of 1 kinds"):
        inlp_directions(vectors, ["F"] * 200, 1)
    with pytest.raises(InputError, match="expected 1 to 2 directions of 2 dimensions, got 0"):
        random_directions(0, 2, seed=0)
