"""One group a patient, and one value a patient."""

import numpy as np
import pandas as pd
import pytest

from equivox.metrics.fairness.groups import Grouping, cross, one_group_per_patient
from equivox.metrics.statistics.patient_means import case_values, patient_values


def test_a_patient_whose_cases_contradict_one_another_has_no_group() -> None:
    groups, conflicting = one_group_per_patient(["a", "b", "a", "c"], ["F", "M", "M", None])
    assert groups == {"a": None, "b": "M", "c": None}
    assert conflicting == ["a"]


def test_one_known_case_tells_the_patients_group() -> None:
    assert one_group_per_patient(["a", "a"], [None, "F"]) == ({"a": "F"}, [])


def test_crossed_groups_keep_the_order_of_both_and_leave_out_what_is_unknown() -> None:
    age = Grouping("age", ("<9", "9-10", ">=10", None), ("<9", "9-10", ">=10"))
    sex = Grouping("sex", ("M", "F", "F", "F"), ("F", "M"))
    crossed = cross(age, sex)
    assert crossed.name == "age & sex"
    assert crossed.order == ("<9 & M", "9-10 & F", ">=10 & F")
    assert crossed.groups[3] is None
    assert crossed.unknown == 1


def test_value_of_a_patient_is_the_mean_over_cases_of_the_mean_over_classes() -> None:
    # p1: mean(.9, .7) = .8, p2: .6 (its tumour is in neither mask), so the patient has .7 and not mean(.9, .7, .6).
    rows = pd.DataFrame(
        {
            "patient_id": ["p", "p", "p", "p", "q"],
            "case_id": ["p1", "p1", "p2", "p2", "q1"],
            "class": ["liver", "tumour", "liver", "tumour", "liver"],
            "dice": [0.9, 0.7, 0.6, np.nan, np.nan],
        }
    )
    assert case_values(rows, "dice").to_dict() == {("p", "p1"): pytest.approx(0.8), ("p", "p2"): 0.6}
    assert patient_values(rows, "dice").to_dict() == {"p": pytest.approx(0.7)}


def test_no_scores_give_no_patients() -> None:
    rows = pd.DataFrame({"patient_id": ["p"], "case_id": ["p1"], "class": ["liver"], "dice": [np.nan]})
    assert patient_values(rows, "dice").empty
