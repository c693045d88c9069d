"""Where it fails, as the summary has it."""

import json
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

from equivox.definitions import METRICS
from equivox.metrics.fairness.groups import Grouping
from equivox.metrics.statistics.patient_means import patient_values
from equivox.pipelines.evaluation.discovery import discover, discovery_methods
from equivox.pipelines.evaluation.options import EvaluateOptions
from equivox.pipelines.evaluation.schema import summary_schema

OPTIONS = EvaluateOptions(bootstrap_draws=199, permutation_draws=199)
UNITS = {
    key: "mm" if metric.kind == "distance" else "ml" if metric.kind == "volume" else ""
    for key, metric in METRICS.items()
}


def made_up_rows(patients: int = 240, *, thickness: bool = True) -> pd.DataFrame:
    """Two cases of every fourth patient; the old of site C score 0.3 lower, and small volumes a little."""
    rng = np.random.default_rng(0)
    rows = []
    for one in range(patients):
        age, site = int(rng.integers(30, 90)), "ABC"[int(rng.integers(3))]
        volume = float(np.exp(rng.normal(1, 1)))
        for visit in range(1 + (one % 4 == 0)):
            dice = 0.8 + 0.03 * np.log(volume) - 0.3 * (age >= 65 and site == "C") + rng.normal(0, 0.02)
            rows.append(
                {
                    "case_id": f"c{one:03d}_{visit}",
                    "patient_id": f"p{one:03d}",
                    "class": "tumour",
                    "dice": float(np.clip(dice, 0, 1)),
                    "reference": volume,
                    "slice_thickness_mm": (1.0, 3.0, 5.0)[one % 3] if thickness else np.nan,
                    "attribute:site": site,
                    "attribute:age": ">=65" if age >= 65 else "<65",
                    "number:age": float(age + visit) if one else np.nan,
                }
            )
    return pd.DataFrame(rows)


def discovered(rows: pd.DataFrame, **changes: Any) -> dict[str, Any]:
    primary = patient_values(rows, "dice")
    first = rows.drop_duplicates("patient_id").set_index("patient_id").reindex(primary.index)
    groupings = {
        name: Grouping(name, tuple(first[f"attribute:{name}"]), tuple(sorted(set(first[f"attribute:{name}"]))))
        for name in ("site", "age")
    }
    return discover(rows, primary, groupings, UNITS | changes, OPTIONS)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return discovered(made_up_rows())


def test_the_planted_slice_comes_first_in_words_and_is_confirmed(found: dict[str, Any]) -> None:
    slices = found["slices"]
    assert (slices["found_in"], slices["confirmed_in"], slices["reason"]) == (120, 120, None)
    assert slices["columns"] == ["site", "age", "reference volume", "slice thickness"]
    first = slices["slices"][0]
    assert first["words"] == "site = C and age >=65"
    assert first["predicates"] == [{"column": "site", "value": "C"}, {"column": "age", "value": ">=65"}]
    assert first["confirmed"]
    assert first["difference"] == pytest.approx(0.3, abs=0.05)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("part", ["slices", "residuals"])
def test_slices_and_trends_fit_the_schema_of_the_summary(found: dict[str, Any], part: str) -> None:
    assert found["slices"]["slices"]
    plain = json.loads(json.dumps(found[part]))
    whole = {"$defs": summary_schema()["$defs"], "$ref": f"#/$defs/{part}"}
    jsonschema.validate(plain, whole, jsonschema.Draft202012Validator)


def test_nothing_of_the_half_that_was_searched_but_its_counts_is_told(found: dict[str, Any]) -> None:
    keys = {"words", "predicates", "found_patients", "patients", "rest_patients", "mean", "rest_mean", "difference"}
    assert set(found["slices"]["slices"][0]) == keys | {"low", "high", "p", "q", "confirmed"}


def test_the_age_and_the_thickness_stand_beside_the_volume(found: dict[str, Any]) -> None:
    residuals = found["residuals"]
    volume, thickness, age = residuals["trends"]
    assert volume["number"] == residuals["size"] == "log10 of the reference volume (ml)"
    assert (volume["residual"], thickness["number"], age["number"]) == (None, "slice thickness (mm)", "age")
    assert age["residual"]["spearman"] < -0.1
    assert age["residual"]["q"] < 0.05
    # The age of one patient is not known.
    assert (volume["raw"]["patients"], age["raw"]["patients"]) == (240, 239)
    assert abs(thickness["raw"]["spearman"]) < 0.3
    points = residuals["points"]
    assert {len(column) for column in (points["scores"], points["residuals"], *points["numbers"].values())} == {240}
    assert points["numbers"]["age"][0] is None


def test_a_patient_with_several_cases_has_the_mean_of_their_numbers(found: dict[str, Any]) -> None:
    rows = made_up_rows()
    ages = rows[rows["patient_id"] == "p004"]["number:age"].tolist()
    assert ages[1] == ages[0] + 1
    assert found["residuals"]["points"]["numbers"]["age"][4] == ages[0] + 0.5


def test_volumes_make_thirds_and_few_thicknesses_a_group_each() -> None:
    rows = made_up_rows(90)
    # A Dice that the smallest third and the thickest slices spoil.
    small = rows["reference"] <= rows.groupby("patient_id")["reference"].first().quantile(1 / 3)
    rows["dice"] = np.where(small, 0.3, 0.9) - 0.0001 * np.arange(len(rows))
    first = discovered(rows)["slices"]["slices"][0]
    assert first["predicates"][0]["column"] == "reference volume"
    assert first["words"].startswith("reference volume <=")
    assert first["words"].endswith(" ml")
    rows["dice"] = np.where(rows["slice_thickness_mm"] == 5, 0.3, 0.9)
    assert discovered(rows)["slices"]["slices"][0]["words"] == "slice thickness = 5 mm"


def test_nothing_is_in_millimetres_or_millilitres_where_sizes_are_not_real() -> None:
    found = discovered(made_up_rows(60, thickness=False), volume_error="voxels", hd95="voxels")
    text = json.dumps(found)
    assert " mm" not in text
    assert " ml" not in text
    assert found["residuals"]["size"] == "log10 of the reference volume (voxels)"
    assert [trend["number"] for trend in found["residuals"]["trends"]] == [found["residuals"]["size"], "age"]


def test_few_patients_get_a_reason_and_no_numbers() -> None:
    found = discovered(made_up_rows(12))
    assert found["slices"]["reason"] == "12 patients are too few: to find a slice of 10 and to confirm it takes 40"
    assert found["slices"]["slices"] == []
    assert found["residuals"]["trends"][0]["raw"]["p"] is not None
    few = discovered(made_up_rows(8))["residuals"]
    assert all(trend["raw"]["p"] is None and trend["residual"] is None for trend in few["trends"])


def test_empty_references_and_no_scores_are_no_trend() -> None:
    rows = made_up_rows(50)
    rows["reference"] = 0.0
    assert [one["number"] for one in discovered(rows)["residuals"]["trends"]] == ["slice thickness (mm)", "age"]
    rows["dice"] = np.nan
    found = discovered(rows)
    assert found["slices"]["reason"].startswith("0 patients are too few")
    assert found["residuals"]["trends"] == []


def test_the_methods_name_the_rule() -> None:
    methods = discovery_methods(EvaluateOptions(minimum_group=12))
    assert "at least 12 patients in either half" in methods["slices"]
    assert "α = 0.95" in methods["slices"]
    assert "log reference volume" in methods["residuals"]
