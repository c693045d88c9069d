"""What the summary has beside the raw comparison of groups."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from equivox.datasets.cohort import AttributeConfig
from equivox.definitions import METRICS
from equivox.errors import InputError
from equivox.metrics.fairness.groups import Grouping
from equivox.options import flag, parse_options
from equivox.pipelines.evaluation.fairness_tables import check_attribute_names, crossings, presence_by_class
from equivox.pipelines.evaluation.options import EvaluateOptions
from equivox.pipelines.evaluation.tables import build_table, group_rows

FEW: dict[str, Any] = {"bootstrap_draws": 199, "permutation_draws": 399}
UNITS = {
    key: "mm" if metric.kind == "distance" else "ml" if metric.kind == "volume" else ""
    for key, metric in METRICS.items()
}


def made_up_rows(options: EvaluateOptions, patients: int = 60) -> pd.DataFrame:
    """One case and class a patient: Dice falls with the volume, and group F has the smaller volumes."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(patients):
        sex = "FM"[number % 2]
        volume = float(np.exp(rng.normal(1.0 if sex == "F" else 3.0, 0.7)))
        dice = float(np.clip(0.5 + 0.1 * np.log(volume) + rng.normal(0, 0.02), 0, 1))
        distance = 1 + 4 * (sex == "F") + float(rng.random())
        scores = {name: dice if METRICS[name].kind == "fraction" else distance for name in options.scores}
        scores["volume_error"] = (-1) ** (number // 2) * (2.0 if sex == "F" else 1.0)
        head = {"case_id": f"c{number}", "patient_id": f"p{number}", "class": "tumour", "outcome": "scored"}
        sizes = {"reference": volume, "prediction": volume, "reference_voxels": 100, "prediction_voxels": 100}
        groups = {"attribute:sex": sex, "attribute:site": "xyz"[number % 3]}
        rows.append(head | {"penalised": False, "slice_thickness_mm": 2.5} | sizes | scores | groups)
    return pd.DataFrame(rows)


def table_of(rows: pd.DataFrame, options: EvaluateOptions) -> dict[str, Any]:
    attributes = {"sex": AttributeConfig(), "site": AttributeConfig()}
    return build_table(rows, role="all", headline=False, attributes=attributes, units=UNITS, options=options)


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    options = EvaluateOptions(equity_scale=10.0, **FEW)
    return table_of(made_up_rows(options), options)


def test_a_difference_that_volume_explains_stays_and_the_adjusted_one_stands_beside_it(table: dict[str, Any]) -> None:
    sex = table["attributes"][0]
    raw = next(one for one in sex["contrasts"] if one["group"] == "F")
    adjusted = next(one for one in sex["adjusted"] if one["group"] == "F")
    assert raw["difference"] == pytest.approx(adjusted["raw"])
    assert raw["difference"] < -0.15
    assert abs(adjusted["adjusted"]) < 0.03
    assert adjusted["covariates"] == ("volume", "site")
    assert adjusted["dropped"] == {"slice_thickness": "the same for all patients"}
    sentence = sex["verdict"]["sentence"]
    assert sex["verdict"]["answer"] == "difference"
    assert sentence.startswith("Evidence of a difference: 'F' scores 0.")
    assert "After adjusting for structure volume and site, 'F' scores 0." in sentence
    assert sentence.endswith("this does not replace the raw difference, as volume may lie on the causal path.")


def test_where_it_cannot_be_adjusted_the_verdict_says_why() -> None:
    options = EvaluateOptions(case_mix=("slice_thickness",), **FEW)
    sex = table_of(made_up_rows(options), options)["attributes"][0]
    assert sex["verdict"]["sentence"].endswith(
        "What remains after adjusting for case mix is not given: there is nothing to adjust for."
    )


def test_an_attribute_is_not_adjusted_for_itself(table: dict[str, Any]) -> None:
    site = table["attributes"][1]
    assert all("site" not in {*one["covariates"], *one["dropped"]} for one in site["adjusted"])


def test_every_metric_has_its_spread_by_its_own_direction(table: dict[str, Any]) -> None:
    sex = table["attributes"][0]
    by_metric = sex["spread_by_metric"]
    assert list(by_metric) == [*EvaluateOptions().scores]
    assert (by_metric["hd95"]["worst_group"], by_metric["dice"]["worst_group"]) == ("F", "F")
    assert by_metric["hd95"]["unit"] == "mm"
    assert by_metric["hd95"]["es_sum"]["excess"] > 0
    # Errors of +-2 and +-1 ml: their sizes differ by 1, their means by 0.
    assert by_metric["volume_error"]["gap"]["value"] == pytest.approx(1.0)
    assert "es_sum" not in by_metric["volume_error"]
    # The same number is the same everywhere.
    assert sex["spread"]["es_sum"] == by_metric["dice"]["es_sum"]
    assert not any("low" in measure for one in by_metric.values() for measure in one.values() if type(measure) is dict)


def test_distances_have_no_equity_scaled_form_unless_a_scale_is_declared() -> None:
    options = EvaluateOptions(**FEW)
    by_metric = table_of(made_up_rows(options, 24), options)["attributes"][0]["spread_by_metric"]
    assert "es_sum" in by_metric["nsd"]
    assert "es_sum" not in by_metric["hd95"]


def test_the_flat_table_has_shrunken_means_and_adjusted_differences(table: dict[str, Any]) -> None:
    flat = group_rows([table]).set_index("group")
    female = next(group for group in table["attributes"][0]["groups"] if group["name"] == "F")
    assert flat.loc["F", "mean_shrunk"] == female["shrunk"]["mean"]
    assert female["mean"] < female["shrunk"]["mean"] < female["shrunk"]["towards"]
    assert flat.loc["F", "adjusted_for"] == "volume, site"
    assert flat.loc["F", "difference_adjusted_low"] < flat.loc["F", "difference_adjusted"]
    # Crossed groups are drawn to the mean of all as well, and are not adjusted.
    assert 0 < flat.loc["F & x", "shrinkage_weight"] < 1
    assert pd.isna(flat.loc["F & x", "difference_adjusted"])


def test_attributes_cross_in_pairs_or_as_declared() -> None:
    groupings = {
        name: Grouping(name, groups, tuple(dict.fromkeys(groups)))
        for name, groups in {"sex": ("F", "M"), "age": ("old", "old"), "site": ("1", "2")}.items()
    }
    pairs = crossings(groupings, EvaluateOptions())
    assert [one.name for one in pairs] == ["sex & age", "sex & site", "age & site"]
    (deep,) = crossings(groupings, EvaluateOptions(intersections=(("sex", "age", "site"),)))
    assert (deep.name, deep.order) == ("sex & age & site", ("F & old & 1", "M & old & 2"))


def test_attributes_that_are_not_declared_are_refused_before_anything_is_scored() -> None:
    with pytest.raises(InputError, match=r"--intersections: expected attributes .* \['sex'\], got 'age'"):
        check_attribute_names(EvaluateOptions(intersections=(("sex", "age"),)), ["sex"])
    with pytest.raises(InputError, match=r"--case-mix: expected attributes that are declared.*got 'scanner'"):
        check_attribute_names(EvaluateOptions(case_mix=("volume", "scanner")), ["sex"])
    # The default site is used where there is one.
    check_attribute_names(EvaluateOptions(), ["sex"])


@pytest.mark.parametrize("names", [["sex"], ["sex", "sex"], []])
def test_a_crossing_of_fewer_than_two_attributes_is_refused(names: list[str]) -> None:
    with pytest.raises(
        InputError, match=r"--intersections: .*expected two different attributes or more in each crossing"
    ):
        parse_options(EvaluateOptions, {"intersections": [names]}, flag)


def test_presence_counts_patients_without_any_score_and_missing_predictions_as_wrong() -> None:
    rows = pd.DataFrame(
        {
            "case_id": [f"c{number}" for number in range(20)],
            "patient_id": [f"p{number}" for number in range(20)],
            "class": "node",
            # Five with the node and five without it in either group.
            "reference_voxels": [5, 0] * 10,
            "prediction_voxels": [5, 0] * 10,
            "outcome": ["scored", "both_empty"] * 10,
            "attribute:sex": ["F"] * 10 + ["M"] * 10,
        }
    )
    rows.loc[0, ["outcome", "prediction_voxels"]] = ["no_prediction", 0]
    rows.loc[1, ["outcome", "prediction_voxels"]] = ["no_prediction", 0]
    options = EvaluateOptions(**FEW)
    found = presence_by_class(rows, "sex", options)["node"]["patient"]
    female, male = found["rates"]
    assert (female["present"], female["absent"]) == (5, 5)
    assert (female["true_positive_rate"], female["false_positive_rate"]) == (0.8, 0.2)
    assert (male["true_positive_rate"], male["false_positive_rate"]) == (1.0, 0.0)
    assert found["equalized_odds_difference"]["value"] == pytest.approx(0.2)
    # A group of fewer than ten patients is not compared.
    few = presence_by_class(rows[:19], "sex", options)["node"]["patient"]
    assert few["reason"] == "there are not two groups to compare"
    assert presence_by_class(rows[:9], "sex", options) == {}
