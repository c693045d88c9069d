"""What stands beside the raw comparison of groups, in the words and digits of the page."""

from typing import Any

from equivox.reports.fairness_views import fairness_view
from equivox.reports.page import render_report

SETTINGS: dict[str, Any] = {"primary_endpoint": "dice", "distance_unit": "mm", "volume_unit": "ml"}


def attribute(**parts: Any) -> dict[str, Any]:
    shrunk = {"towards": 0.765, "between_sd": 0.109}
    groups = [
        {"name": "F", "mean": 0.604, "low": 0.53, "high": 0.67, "small": False},
        {"name": "X", "mean": 0.84, "low": None, "high": None, "small": True},
    ]
    for group, mean, weight in zip(groups, (0.62, 0.81), (0.88, 0.614), strict=True):
        group["shrunk"] = shrunk | {"mean": mean, "weight": weight}
    adjusted = [
        {
            "group": "F",
            "raw": -0.22,
            "adjusted": -0.117,
            "low": -0.2,
            "high": 0.03,
            "covariates": ["volume", "site"],
            "dropped": {"slice_thickness": "the same for all patients"},
            "reason": None,
        },
        {"group": "X", "raw": 0.09, "adjusted": None, "low": None, "high": None, "covariates": [], "dropped": {}}
        | {"reason": "fewer than 10 patients in the group or the rest"},
    ]
    contrast = {"group": "F", "difference": -0.22, "low": -0.34, "high": -0.09}
    return {"groups": groups, "contrasts": [contrast], "adjusted": adjusted} | parts


def test_raw_adjusted_and_shrunken_stand_side_by_side() -> None:
    view = fairness_view(attribute(), SETTINGS)
    first, small = view.beside
    assert (first.mean, first.shrunk, first.weight) == ("0.60", "0.62", "88 %")
    assert (first.raw, first.raw_interval) == ("−0.22", "−0.34 to −0.09")
    assert (first.adjusted, first.adjusted_interval) == ("−0.12", "−0.20 to +0.03")
    assert first.adjusted_for == "structure volume, site"
    assert small.small
    assert (small.raw, small.raw_interval, small.adjusted) == ("–", "", "–")
    assert small.reason == "fewer than 10 patients in the group or the rest"
    assert view.not_adjusted_for == "Not adjusted for: slice thickness (the same for all patients)."
    assert "drawn towards 0.765" in view.shrunk_words
    assert "standard deviation of 0.109" in view.shrunk_words


def test_equal_groups_are_said_to_lie_no_further_apart_than_by_chance() -> None:
    one = attribute()
    for group in one["groups"]:
        group["shrunk"]["between_sd"] = 0.0
    assert "no further apart than chance alone would put them" in fairness_view(one, SETTINGS).shrunk_words


def test_a_covariate_dropped_for_some_groups_names_them() -> None:
    one = attribute()
    one["adjusted"].append(
        one["adjusted"][0] | {"group": "M", "dropped": {"site": "tells the group", **one["adjusted"][0]["dropped"]}}
    )
    assert fairness_view(one, SETTINGS).not_adjusted_for == (
        "Not adjusted for: slice thickness (the same for all patients); site for 'M' (tells the group)."
    )


def test_spread_has_the_unit_of_its_metric_and_its_ratio_has_none() -> None:
    measure = {"value": 3.384, "permutation_mean": 6.683, "excess": -3.299}
    ratio = {"value": 0.656, "permutation_mean": 0.405, "excess": 0.251}
    signed = {"value": 0.04, "permutation_mean": 0.048, "excess": -0.008}
    view = fairness_view(
        attribute(
            spread_by_metric={
                "hd95": {"gap": measure, "ratio": ratio, "worst_group": "X"},
                "volume_error": {"gap": signed, "worst_group": "F"},
            }
        ),
        SETTINGS,
    )
    gap, share, volume = view.spread
    assert (gap.metric, gap.unit, gap.rows, gap.worst_group) == ("HD95", "mm", 2, "X")
    assert (gap.value, gap.chance, gap.excess) == ("3.384", "6.683", "−3.299")
    assert (share.unit, share.rows, share.value) == ("", 0, "0.656")
    assert (volume.metric, volume.unit) == ("Volume error, size", "ml")


def test_presence_that_is_not_defined_gives_its_reason_once() -> None:
    difference = {"value": 0.235, "permutation_mean": 0.166, "excess": 0.069}
    defined = {
        "reason": None,
        "demographic_parity_difference": difference,
        "demographic_parity_ratio": None,
        "equalized_odds_difference": difference,
        "equalized_odds_ratio": {"value": 0.5, "permutation_mean": 0.6, "excess": -0.1},
    }
    gone = {"reason": "no reference lacks this class in 'F'"}
    view = fairness_view(
        attribute(
            presence_parity={"liver": {"patient": gone}, "aorta": {"patient": gone}, "node": {"patient": defined}}
        ),
        SETTINGS,
    )
    (row,) = view.presence
    assert row.class_name == "node"
    assert list(row.cells) == ["0.235", "0.166", "+0.069", "–", "0.235", "0.166", "+0.069", "0.50"]
    assert view.presence_not == (
        "Demographic parity and equalised odds of a class's presence are not defined for liver, aorta: no reference "
        "lacks this class in 'F'."
    )


def test_a_summary_without_these_numbers_has_an_empty_part() -> None:
    bare = {"groups": [{"name": "F", "mean": None, "small": False}], "contrasts": []}
    view = fairness_view(bare, SETTINGS)
    assert (view.beside, view.spread, view.presence) == ([], [], [])
    assert (view.presence_not, view.shrunk_words, view.not_adjusted_for) == ("", "", "")


def test_the_page_has_them_and_says_what_adjusting_may_take_away(make) -> None:
    example = make(patients=60)
    page = render_report(example.summary, example.cases, [])
    assert "Beside the raw numbers: shrunken means, and differences at equal case mix; exploratory" in page
    assert "may lie on the causal path" in page
    assert "Spread by metric" in page
    assert "Presence of each class: demographic parity and equalised odds" in page
    assert "not given: fewer than 10 patients in the group or the rest" in page


def test_the_settings_tell_the_scale_with_its_unit_and_keep_crossings_apart(make) -> None:
    example = make(patients=30, overlays=False)
    example.summary["settings"] |= {"equity_scale": 10.0, "intersections": [["sex", "age"], ["sex", "site"]]}
    page = render_report(example.summary, example.cases, [])
    assert "10.0 mm" in page
    assert "sex, age; sex, site" in page
