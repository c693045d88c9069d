import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equivox.errors import InputError
from equivox.metrics.conventions.catalog import CONVENTIONS
from equivox.metrics.conventions.convention import state_of
from equivox.metrics.conventions.reconcile import REASONS, Reconciliation, reconcile

TOOLS = tuple(CONVENTIONS)


def tables(*rows: tuple[str, str, str | None, float, float | None], metric: str = "hd95") -> Any:
    """Return both tables from rows of case, class, outcome (None for background), our value and the tool's."""
    ours = [
        {"case_id": case, "patient_id": case[0], "class": name, "outcome": outcome, metric: mine}
        for case, name, outcome, mine, _ in rows
        if outcome is not None
    ]
    theirs = [
        {"case_id": case, "class": name, "value": math.nan if value is None else value, "state": state_of(value)}
        for case, name, outcome, _, value in rows
        if outcome != "no_prediction"
    ]
    return pd.DataFrame(ours), pd.DataFrame(theirs, columns=["case_id", "class", "value", "state"])


def amounts(result: Reconciliation) -> dict[str, float]:
    return {one.reason: one.amount for one in result.contributions}


def test_missed_structures_make_monai_better_by_hand() -> None:
    ours, theirs = tables(
        ("a", "lesion", "scored", 4.0, 5.0),
        ("b", "lesion", "missed", 100.0, math.nan),
        ("c", "lesion", "false_positive", 80.0, math.nan),
        ("d", "lesion", "both_empty", math.nan, math.nan),
    )
    result = reconcile(ours, theirs, CONVENTIONS["monai"], "hd95")
    # (4 + 100 + 80) / 3; then a becomes 5; then c goes: (5 + 100) / 2; then b: 5.
    assert result.ours == pytest.approx(184 / 3)
    assert result.theirs == pytest.approx(5.0)
    expected = {
        "aggregation": 0.0,
        "surface_convention": 1 / 3,
        "empty_reference_dropped": 52.5 - 185 / 3,
        "missed_structure_dropped": 5.0 - 52.5,
    }
    assert amounts(result) == pytest.approx(expected)
    assert list(result.cells["reason"]) == [
        *("surface_convention", "missed_structure_dropped", "empty_reference_dropped", "left_out_by_both"),
    ]
    assert result.cells["words"][1] == "Missed: MONAI gives NaN and leaves it out of its mean."


def test_fairseg_rewards_what_is_found_where_there_is_none_by_hand() -> None:
    ours, theirs = tables(
        ("a", "cup", "scored", 0.8, 0.8),
        ("b", "cup", "false_positive", 0.0, 1.0),
        ("c", "cup", "both_empty", math.nan, 0.0),
        ("d", "cup", "missed", 0.0, 0.0),
        metric="dice",
    )
    result = reconcile(ours, theirs, CONVENTIONS["fairseg"], "dice")
    # 0.8/3; with c (0.8 + 0)/4 = 0.2; with b (0.8 + 1)/4 = 0.45.
    assert (result.ours, result.theirs) == (pytest.approx(0.8 / 3), pytest.approx(0.45))
    assert amounts(result) == pytest.approx(
        {"aggregation": 0.0, "both_empty_scored": 0.2 - 0.8 / 3, "empty_reference_scored": 0.25, "equal": 0.0}
    )


def test_another_average_of_equal_values_by_hand() -> None:
    # Patient a has two cases, b one; the lesion is in one case of a alone.
    ours, theirs = tables(
        ("a1", "organ", "scored", 0.9, 0.9),
        ("a1", "lesion", "scored", 0.5, 0.5),
        ("a2", "organ", "scored", 0.8, 0.8),
        ("a2", "lesion", "both_empty", math.nan, math.nan),
        ("b1", "organ", "scored", 0.4, 0.4),
        ("b1", "lesion", "both_empty", math.nan, math.nan),
        metric="dice",
    )
    result = reconcile(ours, theirs, CONVENTIONS["nnunet"], "dice")
    # Ours: a (0.7 + 0.8)/2 = 0.75, b 0.4. nnU-Net: organ 0.7, lesion 0.5.
    assert (result.ours, result.theirs) == (pytest.approx(0.575), pytest.approx(0.6))
    assert amounts(result) == pytest.approx({"aggregation": 0.025, "equal": 0.0})
    # MONAI: cases 0.7, 0.8, 0.4.
    assert amounts(reconcile(ours, theirs, CONVENTIONS["monai"], "dice"))["aggregation"] == pytest.approx(
        1.9 / 3 - 0.575
    )


def test_background_and_missing_predictions_by_hand() -> None:
    ours, theirs = tables(
        ("a", "organ", "scored", 0.6, 0.6),
        ("a", "background", None, math.nan, 1.0),
        ("b", "organ", "no_prediction", 0.0, None),
        metric="dice",
    )
    result = reconcile(ours, theirs, CONVENTIONS["monai"], "dice")
    # 0.3; with the background a is 0.8: 0.4; without b 0.8.
    assert amounts(result) == pytest.approx(
        {"aggregation": 0.0, "background_scored": 0.1, "equal": 0.0, "missing_prediction_ignored": 0.4}
    )
    assert result.cells.set_index(["case_id", "class"]).loc[("b", "organ"), "words"] == (
        "No prediction: MONAI does not see the case; Equivox counts it as a failure."
    )


def test_infinity_comes_last_and_swallows_the_mean() -> None:
    ours, theirs = tables(("a", "organ", "scored", 3.0, 4.0), ("b", "organ", "missed", 50.0, math.inf))
    result = reconcile(ours, theirs, CONVENTIONS["surface-distance"], "hd95")
    assert result.theirs == math.inf
    assert amounts(result) == {"aggregation": 0.0, "surface_convention": 0.5, "infinite": math.inf}


def test_errors_are_told_from_nan() -> None:
    ours, theirs = tables(("a", "organ", "scored", 3.0, 3.0), ("b", "organ", "missed", 50.0, None))
    result = reconcile(ours, theirs, CONVENTIONS["medpy"], "hd95")
    assert result.cells["words"][1].startswith("Missed: MedPy stops with an error")
    assert result.theirs == 3.0


def test_a_mean_that_does_not_exist_is_not_split() -> None:
    ours, theirs = tables(
        ("a", "organ", "scored", 0.5, 0.5), ("a", "lesion", "both_empty", math.nan, math.nan), metric="dice"
    )
    result = reconcile(ours, theirs, CONVENTIONS["nnunet"], "dice")
    assert (result.ours, result.contributions) == (0.5, ())
    assert math.isnan(result.theirs)
    nothing, theirs = tables(("a", "organ", "both_empty", math.nan, 0.0), metric="dice")
    result = reconcile(nothing, theirs, CONVENTIONS["fairseg"], "dice")
    assert (math.isnan(result.ours), result.theirs, result.contributions) == (True, 0.0, ())


def test_a_cohort_without_any_prediction_is_told_too() -> None:
    ours, theirs = tables(("a", "organ", "no_prediction", 0.0, None), metric="dice")
    for tool in TOOLS:
        result = reconcile(ours, theirs, CONVENTIONS[tool], "dice")
        assert (result.ours, result.contributions) == (0.0, ())
        assert math.isnan(result.theirs)
        assert list(result.cells["reason"]) == ["missing_prediction_ignored"]


@st.composite
def cohorts(draw: st.DrawFn) -> Any:
    """Cases of a few patients with any mixture of outcomes, and any value of the tool for each."""
    number = st.one_of(st.sampled_from([0.0, 1.0, 0.25]), st.floats(0, 300, allow_subnormal=False))
    rows = []
    for case in range(draw(st.integers(1, 5))):
        patient = draw(st.sampled_from("pq"))
        missing = draw(st.booleans()) and draw(st.booleans())
        for name in ("organ", "lesion"):
            outcome = (
                "no_prediction"
                if missing
                else draw(st.sampled_from(["scored", "scored", "missed", "false_positive", "both_empty"]))
            )
            mine = draw(number) if outcome in ("scored", "no_prediction") or draw(st.booleans()) else math.nan
            other = mine if draw(st.booleans()) else draw(st.one_of(number, st.sampled_from([math.nan, None])))
            rows.append((f"{patient}{case}", name, outcome, mine, other))
        if not missing and draw(st.booleans()):
            rows.append((f"{patient}{case}", "background", None, math.nan, draw(st.one_of(number, st.just(math.nan)))))
    return rows


@pytest.mark.parametrize("tool", TOOLS)
@settings(max_examples=25, deadline=None)
@given(rows=cohorts())
def test_contributions_add_up_to_the_difference_of_the_means(tool: str, rows: Any) -> None:
    ours, theirs = tables(*rows, metric="dice")
    result = reconcile(ours, theirs, CONVENTIONS[tool], "dice")
    reasons = [one.reason for one in result.contributions]
    assert reasons == [reason for reason in REASONS if reason in reasons]
    if math.isnan(result.ours) or math.isnan(result.theirs):
        assert not reasons
        return
    assert all(math.isfinite(one.amount) for one in result.contributions)
    total = math.fsum(one.amount for one in result.contributions)
    assert total == pytest.approx(result.theirs - result.ours, rel=1e-9, abs=1e-9)
    for one in result.contributions[1:]:
        told = result.cells[result.cells["reason"] == one.reason]
        assert (one.structures, one.cases) == (len(told), told["case_id"].nunique())
    counted = sum(one.structures for one in result.contributions[1:])
    assert counted == len(result.cells) - (result.cells["reason"] == "left_out_by_both").sum()


@settings(max_examples=15, deadline=None)
@given(rows=cohorts(), seed=st.integers(0, 3))
def test_the_order_of_the_rows_changes_nothing(rows: Any, seed: int) -> None:
    ours, theirs = tables(*rows, metric="dice")
    expected = reconcile(ours, theirs, CONVENTIONS["medpy"], "dice")
    mixed = [table.sample(frac=1, random_state=seed) for table in (ours, theirs)]
    found = reconcile(*mixed, CONVENTIONS["medpy"], "dice")
    assert found.theirs == pytest.approx(expected.theirs, nan_ok=True)
    assert amounts(found) == pytest.approx(amounts(expected), abs=1e-9)


def test_each_reason_is_a_sentence_about_the_tool() -> None:
    for reason, sentence in REASONS.items():
        words = sentence.format(tool="MONAI", words="the mean")
        assert words.endswith(".")
        assert "MONAI" in words or reason in ("equal", "left_out_by_both")


def test_tables_that_do_not_fit_are_refused() -> None:
    ours, theirs = tables(("a", "organ", "scored", 3.0, 4.0), ("b", "organ", "scored", 3.0, 4.0))
    with pytest.raises(InputError, match="got none of case b, class organ"):
        reconcile(ours, theirs[:1], CONVENTIONS["monai"], "hd95")
    with pytest.raises(InputError, match="ours: expected one row a case and class, got two of case a, class organ"):
        reconcile(ours.iloc[[0, 1, 0]], theirs, CONVENTIONS["monai"], "hd95")
    assert np.isfinite(reconcile(ours, theirs, CONVENTIONS["monai"], "hd95").theirs)
