import re

import numpy as np
import pytest

from equivox.definitions import METRICS
from equivox.errors import InputError
from equivox.metrics.conventions import class_masks
from equivox.metrics.conventions.case_values import BACKGROUND, reported_values
from equivox.metrics.conventions.catalog import CONVENTIONS, check_tools

TOOLS = tuple(CONVENTIONS)


def values_of(reference: np.ndarray, prediction: np.ndarray, **options) -> dict[tuple[str, str, str], float | None]:
    arguments = {"classes": {"lesion": 1}, "spacing_mm": (1.0, 2.0, 3.0), "tolerance_mm": 1.0, "tools": TOOLS} | options
    found = reported_values(reference, prediction, **arguments)
    return {(value.tool, value.class_name, value.metric): value.value for value in found}


def line(*places: int) -> np.ndarray:
    labels = np.zeros((8, 3, 5), dtype=np.uint8)
    labels[list(places), 1, 2] = 1
    return labels


def test_the_tools_disagree_by_hand() -> None:
    # Voxels 1 mm apart along i: R at 0 to 3, P at 3 and 7. From R 3, 2, 1, 0, from P 0 and 4.
    values = values_of(line(0, 1, 2, 3), line(3, 7))
    assert values["nnunet", "lesion", "dice"] == pytest.approx(2 / 6)
    # The larger of P95 of 0, 1, 2, 3, at position 2.85, and of 0, 4, at position 0.95.
    assert values["monai", "lesion", "hd95"] == pytest.approx(3.8)
    # P95 of 0, 0, 1, 2, 3, 4, at position 4.75.
    assert values["medpy", "lesion", "hd95"] == pytest.approx(3.75)
    assert values["fairseg", "lesion", "hd95"] == pytest.approx(3.75)
    assert values["monai", "lesion", "assd"] == values["medpy", "lesion", "assd"] == pytest.approx(10 / 6)
    assert values["medpy", "lesion", "asd"] == pytest.approx(2.0)
    # Within 1 mm: two of four and one of two voxels.
    assert values["monai", "lesion", "nsd"] == pytest.approx(3 / 6)
    assert values["fairseg", "lesion", "nsd"] == 1.0


def test_fairseg_measures_in_voxels() -> None:
    reference, prediction = (np.moveaxis(line(*places), 0, 2) for places in ((1,), (3,)))
    values = values_of(reference, prediction)
    # Two steps along k, of 3 mm each.
    assert values["medpy", "lesion", "hd95"] == pytest.approx(6.0)
    assert values["fairseg", "lesion", "hd95"] == pytest.approx(2.0)


def test_only_monai_scores_the_background_by_hand() -> None:
    values = values_of(line(0, 1), line(1))
    # 120 voxels: background 118 and 119, 118 in both.
    assert values["monai", BACKGROUND, "dice"] == pytest.approx(2 * 118 / (118 + 119))
    assert {tool for tool, name, _ in values if name == BACKGROUND} == {"monai"}
    assert {metric for _, name, metric in values if name == BACKGROUND} == {"dice", "iou"}


def test_other_values_count_as_background_and_a_class_of_value_0_is_it() -> None:
    reference, prediction = line(0, 1), line(1)
    reference[7, 1, 2] = 5
    assert values_of(reference, prediction)["monai", BACKGROUND, "dice"] == pytest.approx(2 * 118 / (118 + 119))
    named = values_of(line(0, 1), line(1), classes={"air": 0, "lesion": 1})
    assert {name for _, name, _ in named} == {"air", "lesion"}
    assert named["nnunet", "air", "dice"] == pytest.approx(2 * 118 / (118 + 119))


def test_the_distances_of_a_class_are_found_once_for_all_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    whole = class_masks.boundary_distances
    monkeypatch.setattr(class_masks, "boundary_distances", lambda *given: (calls.append(given[2]), whole(*given))[1])
    values_of(line(0, 1), line(1, 2))
    # In mm for MONAI and MedPy, and in voxels for FairSeg.
    assert calls == [(1.0, 2.0, 3.0), (1.0, 1.0, 1.0)]
    calls.clear()
    values_of(line(0, 1), line(1, 2), spacing_mm=(1.0, 1.0, 1.0))
    assert calls == [(1.0, 1.0, 1.0)]


def test_each_tool_reports_the_metrics_that_its_convention_names() -> None:
    values = values_of(line(0, 1), line(1, 2))
    for tool, convention in CONVENTIONS.items():
        found = {metric for other, name, metric in values if other == tool and name == "lesion"}
        assert found == set(convention.metrics)
        for key, metric in convention.metrics.items():
            if key in METRICS:
                assert metric.label == METRICS[key].label


@pytest.mark.parametrize("tool", TOOLS)
def test_rules_are_sentences(tool: str) -> None:
    convention = CONVENTIONS[tool]
    for sentence in (*convention.rules, convention.missing_prediction):
        assert re.fullmatch(r"[A-Z].*\.", sentence, flags=re.ASCII | re.DOTALL) or sentence.startswith("nnUNet")


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match=r"compat: expected one of nnunet, monai, .*, got 'elastix'"):
        check_tools(["monai", "elastix"])
    with pytest.raises(InputError, match="prediction: expected the shape of the reference"):
        values_of(line(0), line(0)[:4])
    with pytest.raises(InputError, match="spacing_mm: expected three positive numbers"):
        values_of(line(0), line(0), spacing_mm=(1.0, 0.0, 1.0))
