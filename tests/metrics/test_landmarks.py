import math

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.landmarks import SUCCESS_RADII_MM, landmark_errors

NOWHERE = [math.nan, math.nan, math.nan]


def test_distances_by_hand() -> None:
    # Distances 5 (3, 4, 0), 2 (along k) and 0: mean 7/3, median 2, RMSE sqrt(29/3).
    truth = np.array([[0.0, 0.0, 0.0], [10.0, 20.0, 30.0], [1.0, 2.0, 3.0]])
    guess = truth + np.array([[3.0, -4.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    scores = landmark_errors(truth, guess)
    assert scores.errors_mm == {"1": 5.0, "2": 2.0, "3": 0.0}
    assert scores.mean_radial_error_mm == pytest.approx(7 / 3)
    assert scores.median_error_mm == 2.0
    assert scores.rmse_mm == pytest.approx(math.sqrt(29 / 3))
    # A distance equal to the radius counts.
    assert scores.success_rates == dict.fromkeys(SUCCESS_RADII_MM, 2 / 3)
    assert (scores.matched, scores.missed, scores.extra, scores.absent) == (3, 0, 0, 0)


def test_a_distance_equal_to_the_radius_in_decimals_is_a_success() -> None:
    # 4.4 - 2.4 is 2.0000000000000004 in binary numbers.
    scores = landmark_errors(np.array([[2.4, 0.0]]), np.array([[4.4, 0.0]]), radii_mm=(1.999, 2.0))
    assert scores.success_rates == {1.999: 0.0, 2.0: 1.0}


def test_missing_points_are_counted_and_a_missed_one_fails_at_every_radius() -> None:
    truth = np.array([[0.0, 0.0, 0.0], [5.0, 5.0, 5.0], NOWHERE, NOWHERE])
    guess = np.array([[0.0, 0.0, 1.0], NOWHERE, [1.0, 1.0, 1.0], NOWHERE])
    scores = landmark_errors(truth, guess, radii_mm=(0.5, 1.0, 100.0))
    assert scores.errors_mm == {"1": 1.0, "2": None, "3": None, "4": None}
    assert (scores.matched, scores.missed, scores.extra, scores.absent) == (1, 1, 1, 1)
    assert scores.success_rates == {0.5: 0.0, 1.0: 0.5, 100.0: 0.5}
    assert scores.mean_radial_error_mm == scores.median_error_mm == scores.rmse_mm == 1.0


def test_nothing_found_has_no_distance_and_no_success() -> None:
    truth, guess = np.zeros((2, 3)), np.full((2, 3), math.nan)
    scores = landmark_errors(truth, guess, radii_mm=(2.0,))
    assert (scores.mean_radial_error_mm, scores.median_error_mm, scores.rmse_mm) == (None, None, None)
    assert (scores.missed, scores.success_rates) == (2, {2.0: 0.0})


def test_without_a_landmark_in_the_reference_there_is_no_rate() -> None:
    guess = np.zeros((2, 3))
    scores = landmark_errors(np.full((2, 3), math.nan), guess, radii_mm=(2.0,))
    assert (scores.extra, scores.success_rates) == (2, {2.0: None})
    none = landmark_errors(np.zeros((0, 2)), np.zeros((0, 2)), radii_mm=(2.0,))
    assert (none.matched, none.absent, none.success_rates) == (0, 0, {2.0: None})


def test_points_are_matched_by_name_in_any_order() -> None:
    truth = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    guess = np.array([[0.0, 12.0], [7.0, 7.0], [0.0, 3.0]])
    scores = landmark_errors(
        truth, guess, names=["sella", "nasion", "menton"], prediction_names=["menton", "porion", "sella"]
    )
    assert scores.errors_mm == {"sella": 3.0, "nasion": None, "menton": 2.0, "porion": None}
    assert (scores.matched, scores.missed, scores.extra) == (2, 1, 1)
    assert scores.success_rates[2.0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((3, 2))}, "prediction: expected 2 points, as the reference has, got 3"),
        ({"prediction": np.zeros((2, 3))}, "prediction: expected points of 2 coordinates, as the reference has, got 3"),
        ({"reference": np.zeros((2, 4))}, "reference: expected points of two or three coordinates"),
        ({"prediction": np.array([[0.0, 0.0], [0.0, math.nan]])}, r"prediction: .* got \[0.0, nan\] in row 2"),
        ({"reference": np.array([[math.inf, 0.0], [0.0, 0.0]])}, r"reference: .* got \[inf, 0.0\] in row 1"),
        ({"reference": np.array([[0.0, 0.0], [-1e308, 0.0]])}, r"reference: .* within ±1e\+09 .* in row 2"),
        ({"names": ["a"]}, "names: expected one name for each of 2 points, got 1"),
        ({"names": ["a", "a"]}, "names: expected a name for one point only, got 'a' more than once"),
        ({"prediction_names": ["a", "b"]}, "names: expected the names of the reference's points"),
        ({"names": ["a", "b"], "prediction_names": ["a"]}, "prediction_names: expected one name for each of 2"),
        ({"radii_mm": (2.0, 0.0)}, "radii_mm: expected positive numbers, got 0.0"),
        ({"radii_mm": (math.nan,)}, "radii_mm: expected positive numbers, got nan"),
    ],
)
def test_input_that_does_not_fit_is_named(change: dict, message: str) -> None:
    given = {"reference": np.zeros((2, 2)), "prediction": np.zeros((2, 2))} | change
    with pytest.raises(InputError, match=message):
        landmark_errors(given.pop("reference"), given.pop("prediction"), **given)
