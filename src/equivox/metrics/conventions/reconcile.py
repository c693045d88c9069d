"""Why two evaluators of the same masks report different means, structure by structure and as a sum of reasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from equivox.errors import InputError
from equivox.metrics.conventions.convention import Convention
from equivox.metrics.conventions.value_table import ValueTable
from equivox.metrics.statistics.patient_means import patient_values

Reason = Literal[
    "aggregation",
    "background_scored",
    "both_empty_scored",
    "empty_reference_scored",
    "missed_structure_scored",
    "definition",
    "surface_convention",
    "voxel_units",
    "other_tolerance",
    "equal",
    "missing_prediction_ignored",
    "both_empty_dropped",
    "empty_reference_dropped",
    "missed_structure_dropped",
    "infinite",
    "left_out_by_both",
]
"""Why a value, or a mean, is not ours; see `REASONS`."""

REASONS: Final[dict[Reason, str]] = {
    "aggregation": "The same values are averaged in another way: {tool} takes {words}; Equivox takes the mean over "
    "patients of the mean over each one's cases and classes.",
    "background_scored": "{tool} scores the background as a class too; Equivox does not.",
    "both_empty_scored": "A structure that is in neither mask has another value in {tool} than in Equivox.",
    "empty_reference_scored": "A structure that is found where there is none has another value in {tool} than in "
    "Equivox.",
    "missed_structure_scored": "A missed structure has another value in {tool} than in Equivox.",
    "definition": "{tool} defines the metric otherwise.",
    "surface_convention": "{tool} takes the surface, or its percentile, otherwise, and so gets another value for the "
    "same masks.",
    "voxel_units": "{tool} counts the distance in voxels, whatever their size.",
    "other_tolerance": "{tool} has a tolerance of its own, and takes the surface otherwise.",
    "equal": "The value is the same, up to rounding.",
    "missing_prediction_ignored": "A case without a prediction is not in the mean of {tool}; Equivox counts it as a "
    "failure.",
    "both_empty_dropped": "A structure that is in neither mask has no value in {tool} and is left out of its mean.",
    "empty_reference_dropped": "A structure that is found where there is none has no value in {tool} (NaN, or an "
    "error) and drops out of its mean.",
    "missed_structure_dropped": "A missed structure has no value in {tool} (NaN, or an error) and drops out of its "
    "mean.",
    "infinite": "The value of {tool} is infinite, and so is every mean that has it in it.",
    "left_out_by_both": "Neither has a value.",
}
"""Each reason as a sentence, with ``{tool}`` for the tool and ``{words}`` for its way of averaging.

They are applied in this order: first the other average of the same values; then the values that the tool adds; then
those that differ; then those that it leaves out; last the infinite ones. So the mean exists after every step. How much
falls to which reason depends on the order, their sum does not.
"""

_OUTCOMES: Final[dict[str, str]] = {
    "scored": "In both masks",
    "missed": "Missed",
    "false_positive": "Found where there is none",
    "both_empty": "In neither mask",
    "no_prediction": "No prediction",
}
_WHEN_SCORED: Final[dict[str, Reason]] = {
    "both_empty": "both_empty_scored",
    "false_positive": "empty_reference_scored",
    "missed": "missed_structure_scored",
}
_WHEN_DROPPED: Final[dict[str, Reason]] = {
    "no_prediction": "missing_prediction_ignored",
    "both_empty": "both_empty_dropped",
    "false_positive": "empty_reference_dropped",
    "missed": "missed_structure_dropped",
}
_CELL: Final = ["case_id", "class"]


@dataclass(frozen=True)
class Contribution:
    """What one reason does to the mean.

    Attributes:
        reason: A key of `REASONS`.
        words: The reason as a sentence.
        structures: Classes of cases that it concerns.
        cases: Cases that it concerns.
        amount: What it adds to the mean; infinite for infinite values; NaN where, once they are there, no mean existed
            before them.
    """

    reason: Reason
    words: str
    structures: int
    cases: int
    amount: float


@dataclass(frozen=True, eq=False)
class Reconciliation:
    """Why a tool's mean of one metric is not ours.

    Attributes:
        ours: Our mean over patients; NaN where no structure has a value.
        theirs: The tool's mean, NaN or infinite where the tool's is.
        contributions: What each reason adds, in the order of `REASONS`: their sum is ``theirs - ours``. There are
            none where either mean is NaN.
        cells: One row a case and class: case_id, class, outcome (None for the background), ours and theirs (NaN where
            there is none), state (None without a prediction), difference, reason, words.
    """

    ours: float
    theirs: float
    contributions: tuple[Contribution, ...]
    cells: pd.DataFrame


def reconcile(ours: pd.DataFrame, theirs: pd.DataFrame, convention: Convention, metric: str) -> Reconciliation:
    """Explain structure by structure why a tool's values differ from ours, and split the difference of the means.

    Args:
        ours: One row a case and class with the columns case_id, patient_id, class, outcome (see `Outcome`, or
            ``no_prediction``) and the metric (NaN where the empty policy leaves it out).
        theirs: One row a case and class with the columns case_id, class, value (NaN where there is no number) and state
            (see `ValueState`); of a case without a prediction there is none. Classes that `ours` lacks are background.
        convention: Of the tool.
        metric: The metric, in `ours` and in the convention.

    Raises:
        InputError: If a structure stands twice in either table, or one with a prediction is missing from `theirs`.

    Example:
        Two patients, one structure missed. MONAI leaves it out of HD95, where we count the diagonal.

        >>> from equivox.metrics.conventions.monai import MONAI
        >>> ours = pd.DataFrame({
        ...     "case_id": ["a", "b"], "patient_id": ["a", "b"], "class": "lesion", "outcome": ["scored", "missed"],
        ...     "hd95": [4.0, 100.0],
        ... })
        >>> theirs = pd.DataFrame({
        ...     "case_id": ["a", "b"], "class": "lesion", "value": [5.0, np.nan], "state": ["number", "nan"],
        ... })
        >>> result = reconcile(ours, theirs, MONAI, "hd95")
        >>> result.ours, result.theirs
        (52.0, 5.0)
        >>> [(one.reason, one.amount) for one in result.contributions]
        [('aggregation', 0.0), ('surface_convention', 0.5), ('missed_structure_dropped', -47.5)]
    """
    cells = _cells(ours, theirs, convention, metric)
    table = ValueTable(cells)
    ours_at, theirs_at = table.of(cells["ours"].to_numpy()), table.of(cells["theirs"].to_numpy())
    predicted = ~table.cases.isin(cells.loc[cells["outcome"] == "no_prediction", "case_id"])
    patients = patient_values(ours, metric)
    mean_ours = float(patients.mean()) if len(patients) else np.nan
    mean_theirs = convention.averaging.reported(theirs_at[predicted])
    contributions: tuple[Contribution, ...] = ()
    if not (np.isnan(mean_ours) or np.isnan(mean_theirs)):
        reasons = cells["reason"].to_numpy()
        masks = {reason: table.mask(reasons == reason) for reason in REASONS}
        contributions = _contributions(mean_ours, ours_at, theirs_at, masks, convention)
    return Reconciliation(mean_ours, mean_theirs, contributions, cells)


def _cells(ours: pd.DataFrame, theirs: pd.DataFrame, convention: Convention, metric: str) -> pd.DataFrame:
    for what, rows in (("ours", ours), ("theirs", theirs)):
        twice = rows[rows.duplicated(_CELL)]
        if len(twice):
            first = twice.iloc[0]
            msg = (
                f"{what}: expected one row a case and class, got two of case {first['case_id']}, class "
                f"{first['class']}; drop one"
            )
            raise InputError(msg)
    left = ours[[*_CELL, "outcome", metric]].rename(columns={metric: "ours"})
    left = left.astype({"ours": "float64"})
    right = theirs[[*_CELL, "value", "state"]].rename(columns={"value": "theirs"})
    right = right.astype({"theirs": "float64"})
    # A tool that is asked for no case at all has no rows, and then no type of their keys either.
    right = right.astype({name: left[name].dtype for name in _CELL})
    cells = left.merge(right, on=_CELL, how="outer", sort=False)
    order = pd.MultiIndex.from_frame(pd.concat([left[_CELL], right[_CELL]]).drop_duplicates())
    cells = cells.set_index(_CELL).reindex(order).reset_index()
    for name in ("outcome", "state"):
        cells[name] = cells[name].astype(object).where(cells[name].notna(), None)
    lost = cells[cells["state"].isna() & (cells["outcome"] != "no_prediction")]
    if len(lost):
        first = lost.iloc[0]
        msg = (
            f"theirs: expected a value of every structure with a prediction, got none of case {first['case_id']}, "
            f"class {first['class']}; compute the tool's values for it"
        )
        raise InputError(msg)
    cells.loc[cells["outcome"] == "no_prediction", "theirs"] = np.nan
    cells["difference"] = cells["theirs"] - cells["ours"]
    cells["reason"] = _reasons(cells, convention, metric)
    cells["words"] = _words(cells, convention)
    return cells


def _reasons(cells: pd.DataFrame, convention: Convention, metric: str) -> list[Reason]:
    differs_by = convention.metrics[metric].differs_by
    ours, theirs = cells["ours"].to_numpy(), cells["theirs"].to_numpy()
    equal = np.isclose(ours, theirs, rtol=1e-9, atol=1e-12)
    return [
        _reason(outcome, mine, other, differs_by, same=bool(same))
        for outcome, mine, other, same in zip(cells["outcome"], ours, theirs, equal, strict=True)
    ]


def _reason(outcome: str | None, ours: float, theirs: float, differs_by: Reason, *, same: bool) -> Reason:
    if np.isnan(ours) and np.isnan(theirs):
        return "left_out_by_both"
    if np.isinf(theirs):
        return "infinite"
    if outcome is None:
        return "background_scored"
    if same:
        return "equal"
    if np.isnan(theirs):
        return _WHEN_DROPPED.get(outcome, differs_by)
    return _WHEN_SCORED.get(outcome, differs_by)


def _words(cells: pd.DataFrame, convention: Convention) -> list[str]:
    """Return what became of each structure as a sentence; there are only a few different ones."""
    tool = convention.title
    known: dict[tuple[str | None, Reason, str | None, bool], str] = {}
    rows = zip(cells["outcome"], cells["reason"], cells["state"], cells["ours"].isna(), strict=True)
    words = []
    for outcome, reason, state, none in rows:
        key = (outcome, reason, state, bool(none))
        if key not in known:
            known[key] = _sentence(*key, tool)
        words.append(known[key])
    return words


def _sentence(outcome: str | None, reason: Reason, state: str | None, none: bool, tool: str) -> str:
    what = "Background" if outcome is None else _OUTCOMES[outcome]
    if reason == "left_out_by_both":
        does = "neither has a value."
    elif outcome == "no_prediction":
        does = f"{tool} does not see the case; Equivox counts it as a failure."
    elif outcome is None:
        does = f"{tool} scores it as a class too; Equivox does not."
    elif state == "error":
        does = f"{tool} stops with an error, and a script that goes on leaves it out of the mean."
    elif state == "nan":
        does = f"{tool} gives NaN and leaves it out of its mean."
    elif state == "infinite":
        does = f"{tool} gives infinity{'; Equivox leaves it out' if none else ''}."
    elif reason == "equal":
        does = "the value is the same."
    elif none:
        does = f"{tool} gives it a value; Equivox leaves it out."
    elif outcome == "scored":
        does = REASONS[reason].format(tool=tool)
    else:
        does = f"{tool} gives it another value than Equivox."
    return f"{what}: {does}"


def _contributions(
    mean_ours: float,
    ours: Float[np.ndarray, "cases classes"],
    theirs: Float[np.ndarray, "cases classes"],
    masks: Mapping[Reason, Bool[np.ndarray, "cases classes"]],
    convention: Convention,
) -> tuple[Contribution, ...]:
    averaging = convention.averaging
    current, before = ours.copy(), mean_ours
    result = []
    for reason, sentence in REASONS.items():
        cells = ~np.isnan(ours) if reason == "aggregation" else masks[reason]
        if reason == "left_out_by_both" or not cells.any():
            continue
        if reason != "aggregation":
            current[cells] = theirs[cells]
        after = averaging.mean(current)
        words = sentence.format(tool=convention.title, words=averaging.words)
        counts = int(cells.sum()), int(cells.any(axis=1).sum())
        # Only before infinite values can a mean be missing, as all others that are there stay in it.
        amount = np.inf if np.isinf(after) else after - before
        result.append(Contribution(reason, words, *counts, float(amount)))
        before = after
    return tuple(result)
