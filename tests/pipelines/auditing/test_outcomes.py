from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from equivox.pipelines.auditing.outcomes import Outcome, by_patient, mean_dice, outcome_of, over_networks
from equivox.pipelines.auditing.sources import AuditSource, HeldOutCase

MakeSource = Callable[..., AuditSource]
SPACING = (0.5, 1.0, 3.0)


def test_dice_is_the_mean_over_the_classes_that_either_holds() -> None:
    reference, labels = np.array([[[1, 1, 2, 0]]]), np.array([[[1, 0, 0, 0]]])
    # Class 1: 2 * 1 / (2 + 1); class 2 is missed; class 3 is nowhere.
    assert mean_dice(reference, labels, 4) == pytest.approx((2 / 3 + 0) / 2)
    assert mean_dice(0 * reference, 0 * labels, 4) is None


def test_lesions_of_each_class_are_found_missed_or_false() -> None:
    reference, labels = np.zeros((2, 9, 1, 3), dtype=np.int16)
    reference[0:3, 0, 0] = 1
    reference[5, 0, 2] = 1
    reference[7:9, 0, 1] = 2
    labels[1:3, 0, 0] = 1
    labels[7:9, 0, 1] = 1
    found = outcome_of(reference, labels, 3, SPACING)
    # Class 1: one of two lesions is found, and what lies on the lesion of class 2 is false; that of class 2 is missed.
    assert found.recall == pytest.approx(1 / 3)
    assert found.false_detections == 1
    # Six voxels of 1.5 mm3; class 1 shares 2 of 4 + 4 voxels.
    assert found.volume == pytest.approx((3 + 1 + 2) * 1.5)
    assert found.dice == pytest.approx((2 * 2 / (4 + 4) + 0) / 2)


def test_an_empty_reference_has_no_recall_and_a_false_detection_costs_the_dice() -> None:
    empty, one = np.zeros((1, 1, 1), dtype=np.int16), np.ones((1, 1, 1), dtype=np.int16)
    assert outcome_of(empty, empty, 2, SPACING) == Outcome(None, 0.0, None, 0)
    assert outcome_of(empty, one, 2, SPACING) == Outcome(0.0, 0.0, None, 1)
    assert outcome_of(one, one, 2, SPACING) == Outcome(1.0, 1.5, 1.0, 0)


def test_only_scans_with_a_lesion_count_for_a_patient_and_negatives_have_none(make_source: MakeSource) -> None:
    source = make_source(3, {}, folds=(0, 1))
    # A second scan of p002, who has a lesion in the first.
    later = replace(source.cases[2].case, case_id="later")
    source = replace(source, cases=(*source.cases, HeldOutCase(later, "test", (0, 1))))
    found = {
        ("p000", 0): Outcome(0.8, 10.0, 1.0, 0),
        ("p000", 1): Outcome(0.6, 30.0, 0.5, 2),
        ("p001", 0): Outcome(0.0, 0.0, None, 3),
        ("p002", 1): Outcome(0.4, 8.0, 0.0, 0),
        ("later", 1): Outcome(None, 0.0, None, 0),
    }
    positive = by_patient(source, found)
    assert set(positive) == {("p000", 0), ("p000", 1), ("p002", 1)}
    expected = {"p000": Outcome(0.7, 20.0, 0.75, 1.0), "p002": Outcome(0.4, 8.0, 0.0, 0.0)}
    assert over_networks(positive) == expected
    assert over_networks(by_patient(source, found, positive=False)) == {"p001": Outcome(0.0, 0.0, None, 3.0)}
