import json

import numpy as np
import pytest

from equivox.datasets.cohort import AttributeConfig
from equivox.errors import InputError
from equivox.metrics.lesions.detection_summary import IntervalSettings
from equivox.metrics.lesions.froc import CaseCandidates
from equivox.metrics.lesions.options import LesionOptions
from equivox.pipelines.evaluation.lesions import (
    CaseLesions,
    describe_lesions,
    lesion_table,
    lesions_of_case,
    summarise_lesions,
)

CLASSES = {"node": 1, "cyst": 3}
SPACING = (1.0, 2.0, 3.0)
FAST = IntervalSettings(draws=199)
PATIENTS = {"c1": "p1", "c2": "p1", "c3": "p2", "c4": "p3"}


def label_map(**lesions: tuple[int, int, int]) -> np.ndarray:
    """Return labels of one row: ``node=(start, stop, value)``."""
    labels = np.zeros((30, 4, 3), dtype=np.uint8)
    for start, stop, value in lesions.values():
        labels[start:stop, 1, 1] = value
    return labels


def score(reference: np.ndarray, prediction: np.ndarray | None, **options) -> CaseLesions:
    arguments = {"classes": CLASSES, "spacing_mm": SPACING, "options": LesionOptions(), "in_voxels": False} | options
    return lesions_of_case(reference, prediction, **arguments)


@pytest.fixture
def cases() -> dict[str, CaseLesions]:
    two, none = label_map(a=(0, 4, 1), b=(10, 16, 1)), label_map()
    return {
        "c1": score(two, label_map(a=(0, 4, 1), b=(20, 22, 1))),  # one found, one missed, one false
        "c2": score(none, none),
        "c3": score(label_map(a=(0, 2, 3)), label_map(a=(0, 2, 3))),  # the other class
        "c4": score(label_map(a=(3, 6, 1)), None),  # no prediction
    }


def summarise(cases: dict[str, CaseLesions], **changes) -> dict:
    arguments = {
        "groups": {"sex": {"p1": "F", "p2": "M", "p3": None}},
        "attributes": {"sex": AttributeConfig()},
        "options": LesionOptions(),
        "in_voxels": False,
        "intervals": FAST,
    } | changes
    return summarise_lesions(cases, PATIENTS, **arguments)


def test_rows_and_counts_of_a_case_by_hand(cases) -> None:
    lesions = [row for row in cases["c1"].rows if row["kind"] == "lesion"]
    assert [(row["class"], row["outcome"], row["voxels"], row["volume"]) for row in lesions] == [
        ("node", "found", 4, 24.0),
        ("node", "missed", 6, 36.0),
    ]
    # 4 pixels of 1 mm by one of 2 mm: 20^.5, and 2 * 20^.5 / 4 across.
    assert (lesions[0]["long_axis"], lesions[0]["short_axis"]) == pytest.approx((20**0.5, 20**0.5 / 2))
    assert (lesions[0]["dice"], lesions[0]["partners"]) == (1.0, "1")
    node, cyst = cases["c1"].counts
    assert (node["tp"], node["fn"], node["fp"], node["recall"], node["precision"]) == (1, 1, 1, 0.5, 0.5)
    assert (node["pq"], node["sq"], node["rq"]) == (0.5, 1.0, 0.5)
    assert (cyst["class"], cyst["true_negative"], cyst["recall"], cyst["pq"]) == ("cyst", True, None, None)


def test_a_missing_prediction_misses_every_lesion_and_rightly_leaves_none_alone(cases) -> None:
    node, cyst = cases["c4"].counts
    assert (node["tp"], node["fn"], node["fp"], node["predicted"]) == (0, 1, 0, False)
    assert (cyst["tp"], cyst["fn"], cyst["true_negative"]) == (0, 0, False)


def test_sizes_that_are_not_real_are_counted_in_voxels() -> None:
    case = score(label_map(a=(0, 4, 1)), label_map(), in_voxels=True)
    assert [(row["volume"], row["long_axis"]) for row in case.rows] == [(4.0, 17**0.5)]
    table = lesion_table({"c1": case}, PATIENTS, length_unit="voxels", volume_unit="voxels")
    assert "volume" not in table
    assert {"voxels", "short_axis_voxels"} <= set(table)


def test_lesions_do_not_depend_on_where_they_lie() -> None:
    reference, prediction = label_map(a=(5, 9, 1)), label_map(a=(7, 12, 1))
    moved = score(np.roll(reference, 9, axis=0), np.roll(prediction, 9, axis=0))
    assert moved == score(reference, prediction)


def test_the_table_names_its_units_and_has_a_row_a_component(cases) -> None:
    table = lesion_table(cases, PATIENTS, length_unit="mm", volume_unit="ml")
    assert list(table) == [
        *("case_id", "patient_id", "class", "kind", "number", "outcome", "voxels", "volume_mm3", "short_axis_mm"),
        *("long_axis_mm", "dice", "partners"),
    ]
    assert table.groupby(["case_id", "kind"]).size().to_dict() == {
        ("c1", "detection"): 2,
        ("c1", "lesion"): 2,
        ("c3", "detection"): 1,
        ("c3", "lesion"): 1,
        ("c4", "lesion"): 1,
    }
    assert "volume_mm2" in lesion_table(cases, PATIENTS, length_unit="mm", volume_unit="mm2")
    assert len(lesion_table({}, {}, length_unit="mm", volume_unit="ml")) == 0


def test_summary_by_hand(cases) -> None:
    node = summarise(cases)["node"]
    overall = node["overall"]
    assert (overall["patients"], overall["cases"], overall["lesions"], overall["found"]) == (3, 4, 3, 1)
    # c2 and c3 have no node and none was claimed; c4 has no prediction.
    assert (overall["cases_without_lesion"], overall["true_negative_cases"]) == (2, 2)
    assert overall["cases_without_prediction"] == 1
    assert overall["recall"]["value"] == pytest.approx(1 / 3)
    assert overall["patient_recall"]["value"] == pytest.approx((1 / 2 + 0) / 2)
    assert overall["false_positives_per_patient"]["value"] == pytest.approx(1 / 3)
    female, male = node["groups"]["sex"]
    assert (female["name"], female["small"], female["patients"], female["lesions"]) == ("F", True, 1, 2)
    assert (male["recall"]["value"], male["true_negative_cases"]) == (None, 1)


def test_strata_in_mm_only_where_sizes_are_real(cases) -> None:
    def measures(summary: dict) -> list[str]:
        return [stratum["measure"] for stratum in summary["node"]["strata"]]

    assert measures(summarise(cases)) == ["short_axis"] * 3 + ["volume"] * 3
    assert measures(summarise(cases, in_voxels=True)) == ["volume"] * 3
    for measure in ("short_axis", "volume"):
        strata = [one for one in summarise(cases)["node"]["strata"] if one["measure"] == measure]
        assert sum(one["lesions"] for one in strata) == 3


def test_the_summary_is_plain_json(cases) -> None:
    found = {"node": {case: CaseCandidates(np.array([0.9]), np.array([0.4])) for case in PATIENTS}}
    found["cyst"] = {"c1": CaseCandidates(np.zeros(0), np.array([0.4]))}
    summary = summarise(cases, candidates=found)
    assert json.loads(json.dumps(summary, allow_nan=False))["node"]["froc"]["lesions"] == 4
    # p1 has two cases: 4 false positives of 3 patients.
    assert summary["node"]["froc"]["curve"][-1] == pytest.approx([4 / 3, 1.0])
    assert summary["cyst"]["froc"] is None
    assert "froc" not in summarise(cases)["node"]


def test_the_hottest_voxel_rule_goes_through_to_the_image() -> None:
    labels = label_map(a=(3, 6, 1))
    uptake = np.arange(labels.size, dtype=float).reshape(labels.shape)
    options = LesionOptions(match="suvmax")
    hit = score(labels, label_map(a=(5, 6, 1)), options=options, image=uptake)
    missed = score(labels, label_map(a=(3, 5, 1)), options=options, image=uptake)
    assert (hit.counts[0]["tp"], missed.counts[0]["tp"]) == (1, 0)
    with pytest.raises(InputError, match="image"):
        score(labels, labels, options=options)


def test_masks_of_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="expected the shape of the reference"):
        score(label_map(), label_map()[:3])
    with pytest.raises(InputError, match="image: expected the shape of the reference"):
        score(label_map(), label_map(), image=np.zeros((4, 4, 3)))


def test_the_settings_are_told_in_words() -> None:
    options = LesionOptions(
        match="iou", minimum_volume_mm3=30, minimum_short_axis_mm=10, policy="merge", connectivity=6
    )
    assert describe_lesions(options, volume_unit="ml", length_unit="mm") == [
        "Lesions are connected components (6-connectivity).",
        "A detection finds a lesion where their IoU exceeds 0.5; all detections that touch a lesion count as one, and "
        "one detection may find several lesions.",
        "Components of less than 30 mm³ and reference lesions with a short axis below 10 mm are set apart; to detect "
        "one is neither right nor wrong.",
    ]
