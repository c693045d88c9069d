"""Probabilities of cases as a part of the summary."""

import numpy as np
import pandas as pd
import pytest

from equivox.datasets.cohort import AttributeConfig
from equivox.errors import InputError
from equivox.metrics.lesions.detection_summary import IntervalSettings
from equivox.pipelines.evaluation.calibration import (
    ClassProbability,
    class_probability,
    describe_calibration,
    summarise_calibration,
)

SPACING = (1.0, 1.0, 3.0)


def make_probability(fill: float, *, there: bool = True) -> ClassProbability:
    """A bar of 4 voxels in 8, of one probability, predicted where that is above a half; the reference may lack it."""
    bar = np.zeros((8, 1, 1), dtype=bool)
    bar[:4] = True
    truth, probability = bar & there, np.where(bar, fill, 0.0)
    return class_probability("bar", probability, truth, probability > 0.5, SPACING, in_voxels=True)


def summarise(cases: dict[str, tuple[str, str, float, ClassProbability]], groups: dict[str, str] | None = None) -> dict:
    rows = [
        (case, patient, "bar", outcome, dice, 0 if outcome in ("missed", "both_empty") else 4)
        for case, (patient, outcome, dice, _) in cases.items()
    ]
    columns = ["case_id", "patient_id", "class", "outcome", "dice", "prediction_voxels"]
    return summarise_calibration(
        {case: (one,) for case, (*_, one) in cases.items()},
        pd.DataFrame(rows, columns=columns),
        classes=["other", "bar"],
        groups={"sex": dict(groups or {})},
        attributes={"sex": AttributeConfig()},
        intervals=IntervalSettings(draws=199),
    )


def test_predicted_and_real_dice_are_means_over_a_patients_cases() -> None:
    # All voxels of the bar with .8 or .6: the expected Dice is 2 * .8 / 1.8 and 2 * .6 / 1.6 = 8/9 and 3/4.
    found = summarise(
        {
            "a1": ("a", "scored", 1.0, make_probability(0.8)),
            "a2": ("a", "scored", 0.8, make_probability(0.6)),
            "b": ("b", "missed", 0.0, make_probability(0.4)),
            "c": ("c", "both_empty", 1.0, make_probability(0.3, there=False)),
        }
    )
    assert list(found) == ["bar"]
    assert (found["bar"]["overall"]["patients"], found["bar"]["overall"]["cases"]) == (3, 4)
    # The patient without the structure, though scored 1 under some policies, and the missed one, which expects 0.
    assert found["bar"]["selective"]["patients"] == 2
    assert found["bar"]["selective"]["empty_predictions"] == 1
    gap = (8 / 9 + 3 / 4) / 2 - 0.9
    assert found["bar"]["overall"]["dice_bias"]["value"] == pytest.approx(gap / 2)
    assert found["bar"]["overall"]["dice_error"]["value"] == pytest.approx(abs(gap) / 2)
    # Risks .1 and 1, in the right order: .1 and .55.
    assert found["bar"]["selective"]["curve"] == [[0.5, pytest.approx(0.1)], [1.0, pytest.approx(0.55)]]
    assert found["bar"]["selective"]["excess_aurc"] == pytest.approx(0)


def test_a_structure_that_is_in_neither_mask_has_a_score_over_the_whole_image_alone() -> None:
    overall = summarise({"c": ("c", "both_empty", np.nan, make_probability(0.0, there=False))})["bar"]["overall"]
    assert overall["ece"] == {"patients": 0, "value": None, "low": None, "high": None}
    assert overall["whole_ece"]["value"] == 0.0


def test_small_groups_have_no_interval_and_unknown_ones_no_row() -> None:
    cases = {
        f"c{number}": (f"p{number}", "scored", 0.5 + number / 50, make_probability(0.6 + number / 60))
        for number in range(16)
    }
    people = {f"p{number}": "F" if number < 11 else "M" for number in range(15)}
    bar = summarise(cases, people)["bar"]
    first, second = bar["groups"]["sex"]
    assert [(one["name"], one["patients"], one["small"]) for one in (first, second)] == [
        ("F", 11, False),
        ("M", 4, True),
    ]
    assert first["ece"]["low"] < first["ece"]["value"] < first["ece"]["high"]
    assert (second["ece"]["low"], second["ece"]["high"]) == (None, None)
    assert bar["overall"]["patients"] == 16


@pytest.mark.parametrize(("in_voxels", "near", "edge"), [(True, 7, 2), (False, 9, 4)])
def test_regions_are_in_voxels_where_sizes_are_not_real(in_voxels: bool, near: int, edge: int) -> None:
    # 4 voxels and 3 or 5 beyond; 1 or 2 on each side of the end.
    truth = np.zeros((20, 1, 1), dtype=bool)
    truth[:4] = True
    one = class_probability("bar", truth.astype(float), truth, truth, (1.0, 1.0, 1.0), in_voxels=in_voxels)
    assert (one.counts.foreground.total, one.counts.boundary.total) == (near, edge)
    unit = "voxels" if in_voxels else "mm"
    assert f"within {'3 voxels' if in_voxels else '5 mm'} of its mask" in describe_calibration(length_unit=unit)


def test_a_mask_that_was_cleaned_up_still_fits_its_map_and_one_that_moved_does_not() -> None:
    probability = np.zeros((9, 9, 3))
    probability[1:4, 1:4, 1] = 0.9
    truth = probability > 0.5
    less, moved = np.zeros((2, 9, 9, 3), dtype=bool)
    less[1, 1:4, 1], moved[5:8, 5:8, 1] = True, True
    assert class_probability("bar", probability, truth, less, SPACING, in_voxels=False).predicted_dice is not None
    with pytest.raises(InputError, match=r"probabilities of bar: expected those of the predicted mask"):
        class_probability("bar", probability, truth, moved, SPACING, in_voxels=False)
