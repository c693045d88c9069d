import numpy as np
import pytest

from equivox.metrics.lesions.detection_summary import (
    IntervalSettings,
    PatientLesions,
    summarise_detection,
    summarise_strata,
    volume_tertiles,
)
from equivox.metrics.lesions.panoptic import PanopticQuality
from equivox.metrics.statistics.bootstrap import share_interval

FAST = IntervalSettings(draws=299)


def patient(
    found: list[bool], sizes: list[float] | None = None, false: list[float] | None = None, **counts
) -> PatientLesions:
    axis = np.array(sizes if sizes is not None else [12.0] * len(found), dtype=float)
    wrong = np.array(false or [], dtype=float)
    dice = np.where(np.array(found, dtype=bool), 0.8, np.nan)
    return PatientLesions(np.array(found, dtype=bool), 10 * axis, axis, dice, 10 * wrong, wrong, **counts)


def test_pooled_and_per_patient_numbers_by_hand() -> None:
    # Lesions found: 1 of 1, 1 of 4, none of none. False: 0, 1, 3.
    summary = summarise_detection(
        [
            patient([True]),
            patient([True, False, False, False], false=[5.0], ignored=2, removed_lesions=1, cases=2),
            patient([], false=[5.0, 5.0, 5.0], cases_without_lesion=1),
        ]
    )
    assert (summary.patients, summary.patients_with_lesions, summary.cases) == (3, 2, 4)
    assert (summary.lesions, summary.found, summary.false_positives) == (5, 2, 4)
    assert (summary.ignored, summary.removed_lesions, summary.cases_without_lesion) == (2, 1, 1)
    assert summary.recall.value == pytest.approx(2 / 5)
    assert summary.patient_recall.value == pytest.approx((1 + 1 / 4) / 2)
    assert summary.precision.value == pytest.approx(2 / 6)
    assert summary.f1.value == pytest.approx(4 / (4 + 4 + 3))
    assert summary.false_positives_per_patient.value == pytest.approx(4 / 3)
    assert summary.matched_dice.value == pytest.approx(0.8)
    assert summary.recall.low is summary.recall.high is None


def test_without_any_lesion_or_detection_nothing_is_defined() -> None:
    summary = summarise_detection([patient([], cases_without_lesion=1, true_negative_cases=1) for _ in range(12)])
    for name in ("recall", "patient_recall", "precision", "f1", "matched_dice", "pq", "sq", "rq"):
        assert getattr(summary, name).value is None
    # No false positive was seen: what so many patients leave open is not made up.
    assert (summary.false_positives_per_patient.value, summary.false_positives_per_patient.high) == (0.0, None)
    assert summary.true_negative_cases == 12
    assert summarise_detection([]).false_positives_per_patient.value is None


def test_panoptic_quality_is_pooled() -> None:
    parts = [PanopticQuality(1, 0, 1, 0.9), PanopticQuality(1, 2, 0, 0.6)]
    summary = summarise_detection([patient([True], panoptic=part) for part in parts])
    # IoU 1.5 over 2 + 2/2 + 1/2.
    assert (summary.pq.value, summary.sq.value, summary.rq.value) == pytest.approx((1.5 / 3.5, 0.75, 2 / 3.5))


def test_intervals_hold_their_values_and_come_with_ten_patients() -> None:
    rng = np.random.default_rng(0)
    patients = [
        patient(list(rng.random(rng.integers(1, 5)) < 0.6), false=list(rng.random(rng.integers(0, 3))))
        for _ in range(30)
    ]
    summary = summarise_detection(patients, FAST)
    for name in ("recall", "patient_recall", "precision", "f1", "false_positives_per_patient"):
        one = getattr(summary, name)
        assert one.low < one.value < one.high
    assert summarise_detection(patients[:9], FAST).recall.low is None


def test_where_every_lesion_is_found_the_interval_is_that_of_a_share_of_patients() -> None:
    summary = summarise_detection([patient([True, True]) for _ in range(15)], FAST)
    expected = share_interval(15, 15)
    for one in (summary.recall, summary.patient_recall, summary.precision):
        assert (one.value, one.low, one.high) == (1.0, expected.low, expected.high)


def test_strata_by_hand_with_edges_in_the_larger_one() -> None:
    patients = [
        patient([True, False], [9.9, 10.0], false=[4.0]),
        patient([True, True], [14.9, 15.0], false=[15.0, 30.0]),
        patient([]),
    ]
    small, middle, large = summarise_strata(patients, "short_axis", (10.0, 15.0))
    assert [(one.low, one.high) for one in (small, middle, large)] == [(None, 10.0), (10.0, 15.0), (15.0, None)]
    assert [(one.lesions, one.found) for one in (small, middle, large)] == [(1, 1), (2, 1), (1, 1)]
    assert [one.false_positives for one in (small, middle, large)] == [1, 0, 2]
    assert middle.recall.value == middle.patient_recall.value == 0.5
    assert (middle.patients_with_lesions, small.patients_with_lesions) == (2, 1)
    assert large.false_positives_per_patient.value == pytest.approx(2 / 3)


def test_an_axis_that_equals_an_edge_but_for_its_last_digit_belongs_to_the_larger_stratum() -> None:
    small, large = summarise_strata([patient([True], [np.nextafter(10.0, 0)])], "short_axis", (10.0,))
    assert (small.lesions, large.lesions) == (0, 1)


def test_every_lesion_is_in_one_stratum() -> None:
    rng = np.random.default_rng(0)
    patients = [patient([True] * 7, list(rng.uniform(2, 30, 7)), false=[3.0]) for _ in range(5)]
    for measure, edges in (("short_axis", (10.0, 15.0)), ("volume", volume_tertiles(patients))):
        strata = summarise_strata(patients, measure, edges, FAST)
        assert sum(one.lesions for one in strata) == 35
        assert sum(one.false_positives for one in strata) == 5


@pytest.mark.parametrize(
    ("sizes", "edges"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (30.0, 50.0)),
        ([1.0, 2.0, 3.0], (20.0, 30.0)),
        ([1.0, 2.0], (20.0,)),
        ([1.0], ()),
        ([4.0, 4.0, 4.0], ()),
        ([4.0, 4.0, 9.0], (90.0,)),
        ([], ()),
    ],
)
def test_thirds_by_volume(sizes: list[float], edges: tuple[float, ...]) -> None:
    assert volume_tertiles([patient([True] * len(sizes), sizes)]) == edges
