import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.lesions.froc import CaseCandidates, froc, froc_candidates
from equivox.metrics.lesions.options import LesionOptions

SPACING = (1.0, 2.0, 3.0)


def candidates(lesions: list[float], false: list[float]) -> CaseCandidates:
    return CaseCandidates(np.array(lesions, dtype=float), np.array(false, dtype=float))


# Four patients, two of them without a lesion; five lesions, one that nothing hits. From the top:
# .9 lesion; .8 false; .7 lesion and two false (tied); .5 lesion; .3 false; .2 lesion and false.
CASES = [
    candidates([0.9, 0.7, -np.inf], [0.7]),
    candidates([0.5, 0.2], [0.8]),
    candidates([], [0.7, 0.3]),
    candidates([], [0.2]),
]
PATIENTS = ["a", "b", "c", "d"]


def test_curve_by_hand() -> None:
    curve = froc(CASES, PATIENTS)
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2]
    np.testing.assert_allclose(curve.sensitivity, [0, 1 / 5, 1 / 5, 2 / 5, 3 / 5, 3 / 5, 4 / 5])
    np.testing.assert_allclose(curve.false_positives_per_patient, [0, 0, 1 / 4, 3 / 4, 3 / 4, 1, 5 / 4])
    # At 1/8: .2; at 1/4: .2; at 1/2: .2, as the tie brings .75 at once; at 1: .6; from 2 on: .8.
    assert curve.at_points == pytest.approx((0.2, 0.2, 0.2, 0.6, 0.8, 0.8, 0.8))
    assert curve.cpm == pytest.approx(3.6 / 7)
    assert (curve.lesions, curve.patients, curve.cpm_interval) == (5, 4, None)


def test_an_operating_point_at_a_point_of_reading_counts() -> None:
    # The false positive comes first: the lesion is found at exactly one false positive per patient.
    assert froc([candidates([0.5], [0.9])], ["a"]).at_points == (0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0)


def test_interpolated_reading_by_hand() -> None:
    # From (0, .2) level to (1/4, .2), then to (3/4, .6): halfway at 1/2; (1, .6), (5/4, .8).
    curve = froc(CASES, PATIENTS, reading="linear")
    assert curve.at_points == pytest.approx((0.2, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8))


def test_false_positives_count_per_patient_and_not_per_case() -> None:
    curve = froc(CASES, ["a", "b", "b", "a"])
    assert curve.patients == 2
    assert curve.false_positives_per_patient[-1] == 5 / 2


def test_the_order_of_tied_candidates_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    cases = [
        candidates(rng.integers(2, 6, 3).astype(float) / 8, rng.integers(2, 6, 4).astype(float) / 8) for _ in range(5)
    ]
    one = froc(cases, list("abcde"))
    other = froc(cases[::-1], list("edcba"))
    np.testing.assert_array_equal(one.sensitivity, other.sensitivity)
    # By brute force: what is at or above each threshold.
    for threshold, found, rate in zip(one.thresholds, one.sensitivity, one.false_positives_per_patient, strict=True):
        assert found == pytest.approx(sum((case.lesion_scores >= threshold).sum() for case in cases) / 15)
        assert rate == pytest.approx(sum((case.false_scores >= threshold).sum() for case in cases) / 5)


def test_no_lesion_at_all_is_refused() -> None:
    for cases in ([], [candidates([], [0.5])]):
        with pytest.raises(InputError, match="expected a lesion in one of the cases, got none"):
            froc(cases, ["a"] * len(cases))


def test_no_candidate_at_all_finds_nothing() -> None:
    curve = froc([candidates([-np.inf], [])], ["a"])
    assert (curve.cpm, curve.sensitivity.tolist()) == (0.0, [0.0])


def test_interval_holds_the_value_and_needs_ten_patients_with_a_lesion() -> None:
    rng = np.random.default_rng(0)
    cases = [candidates(list(rng.random(2)), list(0.8 * rng.random(3))) for _ in range(20)]
    patients = [f"p{number}" for number in range(20)]
    curve = froc(cases, patients, draws=199)
    assert curve.cpm_interval is not None
    assert curve.cpm_interval.low < curve.cpm < curve.cpm_interval.high
    assert froc(cases, patients, draws=199).cpm_interval == curve.cpm_interval
    assert froc(cases[:9] + [candidates([], [0.4])] * 11, patients, draws=199).cpm_interval is None
    assert froc([candidates([0.9], [])] * 20, patients, draws=199).cpm_interval is None


def _map(shape: tuple[int, ...], **values: float) -> np.ndarray:
    probability = np.zeros(shape)
    for place, value in values.items():
        probability[int(place[1:])] = value
    return probability


def test_candidates_of_a_map_by_hand() -> None:
    # Along one row: 1-4 hits the lesion 2-3 at most .8, on average .4; 7 hits the lesion 7; 9 is false, at exactly the
    # seed threshold; 11 lies below it. Nothing hits the lesion 13.
    truth = np.zeros((15, 1, 1), dtype=bool)
    truth[[2, 3, 7, 13]] = True
    probability = _map((15, 1, 1), i1=0.1, i2=0.5, i3=0.8, i4=0.2, i7=0.6, i9=0.1, i11=0.05)
    best = froc_candidates(truth, probability, SPACING)
    assert best.lesion_scores.tolist() == [0.8, 0.6, -np.inf]
    assert best.false_scores.tolist() == [0.1]
    mean = froc_candidates(truth, probability, SPACING, score="mean")
    assert mean.lesion_scores == pytest.approx([0.4, 0.6, -np.inf])


def test_candidates_of_lesions_that_are_too_small_are_left_out() -> None:
    truth = np.zeros((15, 1, 1), dtype=bool)
    truth[[2, 3, 7]] = True
    probability = _map((15, 1, 1), i2=0.9, i3=0.9, i7=0.8, i8=0.7)
    options = LesionOptions(match="any_overlap", policy="merge", minimum_volume_mm3=12.0)
    found = froc_candidates(truth, probability, SPACING, options)
    assert (found.lesion_scores.tolist(), found.false_scores.tolist()) == ([0.9], [])


def test_maps_of_nothing() -> None:
    truth, probability = np.zeros((4, 3, 2), dtype=bool), np.zeros((4, 3, 2))
    found = froc_candidates(truth, probability, SPACING)
    assert len(found.lesion_scores) == len(found.false_scores) == 0


@pytest.mark.parametrize(
    ("probability", "seed", "match"),
    [
        (np.full((2, 2, 2), 1.5), 0.1, "numbers from 0 to 1"),
        (np.full((2, 2, 2), np.nan), 0.1, "numbers from 0 to 1"),
        (np.zeros((2, 2, 3)), 0.1, "shape of the reference"),
        (np.zeros((2, 2, 2)), 0.0, "above 0 and at most 1, got 0.0"),
    ],
)
def test_maps_that_cannot_be_used_are_refused(probability: np.ndarray, seed: float, match: str) -> None:
    with pytest.raises(InputError, match=match):
        froc_candidates(np.ones((2, 2, 2), dtype=bool), probability, SPACING, seed_threshold=seed)
