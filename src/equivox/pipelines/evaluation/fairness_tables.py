"""What stands beside the raw comparison of groups: adjusted, shrunken, spread of every metric, presence, crossings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from itertools import combinations
from typing import Any, Final

import numpy as np
import pandas as pd

from equivox.definitions import METRICS
from equivox.errors import InputError
from equivox.metrics.fairness.case_mix import PER_PARAMETER, AdjustedDifference, adjusted_difference
from equivox.metrics.fairness.equity import PatientScore, Spread, spreads
from equivox.metrics.fairness.groups import Grouping, cross
from equivox.metrics.fairness.parity import PARITIES, presence_parity
from equivox.metrics.fairness.shrinkage import shrink_groups
from equivox.metrics.statistics.patient_means import patient_values
from equivox.options import flag
from equivox.pipelines.columns import GROUP_PREFIX, patient_groups
from equivox.pipelines.evaluation.options import CASE_MIX, EvaluateOptions
from equivox.reports.fairness_views import covariate_words
from equivox.reports.numbers import decimals, interval, number

_PRESENCE_DRAWS: Final = 999
"""Permutations behind what chance alone gives in presence: a mean of that many is known well enough."""


def check_attribute_names(options: EvaluateOptions, attributes: Iterable[str]) -> None:
    """Check before anything is scored that the settings name attributes that there are.

    Raises:
        InputError: If an attribute to cross or to adjust for is not declared.
    """
    known = list(attributes)
    crossed = () if options.intersections == "pairs" else options.intersections
    wanted = [("intersections", name) for names in crossed for name in names]
    wanted += [("case_mix", name) for name in options.case_mix if name not in CASE_MIX]
    for setting, name in wanted:
        if name not in known:
            msg = (
                f"{flag(setting)}: expected attributes that are declared, {known}, got '{name}'; declare it or leave "
                "it out"
            )
            raise InputError(msg)


def crossings(groupings: Mapping[str, Grouping], options: EvaluateOptions) -> list[Grouping]:
    """Return the attributes crossed as the settings say: all pairs, or those that they name."""
    chosen: Iterable[Sequence[str]] = (
        combinations(groupings, 2) if options.intersections == "pairs" else options.intersections
    )
    return [reduce(cross, [groupings[name] for name in names]) for names in chosen]


def with_shrunk_means(groups: list[dict[str, Any]], values: np.ndarray, grouping: Grouping) -> list[dict[str, Any]]:
    """Give each group its shrunken mean, None where there is none."""
    found = shrink_groups(values, grouping.groups)
    if found is None:
        return [group | {"shrunk": None} for group in groups]
    shared = {"towards": found.towards, "between_sd": found.between_sd}
    return [
        group
        | {"shrunk": {"mean": found.of(group["name"]).estimate, "weight": found.of(group["name"]).weight} | shared}
        for group in groups
    ]


def adjusted_differences(
    rows: pd.DataFrame, primary: "pd.Series[float]", grouping: Grouping, options: EvaluateOptions
) -> list[dict[str, Any]]:
    """Return the difference of each group to the rest with the case mix taken into account, with a sentence on it."""
    covariates = _covariates(rows, primary.index, grouping.name, options)
    result = []
    for group in grouping.order:
        found = adjusted_difference(
            primary.to_numpy(dtype=np.float64),
            grouping.groups,
            group,
            covariates,
            minimum=options.minimum_group,
            confidence=options.confidence,
        )
        result.append(asdict(found) | {"sentence": _sentence(found, options)})
    return result


def spread_by_metric(
    rows: pd.DataFrame,
    patients: "pd.Index[Any]",
    grouping: Grouping,
    units: Mapping[str, str],
    options: EvaluateOptions,
) -> dict[str, dict[str, Any]]:
    """Return how far the groups lie apart in every metric; the size of a signed error is taken first."""
    scores = {}
    for name in options.scores:
        metric = METRICS[name]
        column = rows.assign(**{name: rows[name].abs()}) if metric.better == "zero" else rows
        scores[name] = PatientScore(
            patient_values(column, name).reindex(patients).to_numpy(dtype=np.float64),
            better="high" if metric.better == "high" else "low",
            fraction=metric.kind == "fraction",
            scale=options.equity_scale if metric.kind == "distance" else None,
        )
    found = spreads(scores, grouping.groups, draws=options.permutation_draws, seed=options.seed)
    return {name: _plain_spread(one) | {"unit": units.get(name, "")} for name, one in found.items()}


def primary_spread(by_metric: Mapping[str, Mapping[str, Any]], options: EvaluateOptions) -> dict[str, Any] | None:
    """Return the spread of the primary endpoint, as it stands among those of all metrics."""
    found = by_metric.get(options.primary_endpoint)
    return None if found is None else {key: value for key, value in found.items() if key != "unit"}


def presence_by_class(rows: pd.DataFrame, attribute: str, options: EvaluateOptions) -> dict[str, Any]:
    """Return for each class how its presence is told in the groups, by patient and by case.

    Groups of fewer patients than are judged elsewhere are left out. A case without a prediction counts as wrongly told
    either way, as in the specificity by class.
    """
    cases = rows.drop_duplicates("case_id")
    groups = patient_groups(cases, attribute)
    sizes = pd.Series(list(groups.values()), dtype=object).value_counts()
    judged = set(sizes[sizes >= options.minimum_group].index)
    kept = cases[cases["patient_id"].map(groups).isin(judged)]
    if kept.empty:
        return {}
    told = rows.assign(
        present=rows["reference_voxels"] > 0,
        predicted=np.where(
            rows["outcome"] == "no_prediction", rows["reference_voxels"] == 0, rows["prediction_voxels"] > 0
        ),
    )
    classes = list(dict.fromkeys(rows["class"]))
    present, predicted = (
        told.pivot_table(index="case_id", columns="class", values=side, aggfunc="first")
        .reindex(index=kept["case_id"], columns=classes, fill_value=False)
        .to_numpy(dtype=bool)
        for side in ("present", "predicted")
    )
    patients = kept["patient_id"].tolist()
    result: dict[str, Any] = {str(name): {} for name in classes}
    for unit in ("patient", "case"):
        found = presence_parity(
            present,
            predicted,
            patients,
            [str(groups[patient]) for patient in patients],
            unit=unit,
            draws=min(options.permutation_draws, _PRESENCE_DRAWS),
            seed=options.seed,
        )
        for name, parity in zip(classes, found, strict=True):
            result[str(name)][unit] = {
                "rates": [asdict(one) for one in parity.rates],
                **{key: None if (one := getattr(parity, key)) is None else asdict(one) for key in PARITIES},
                "reason": parity.reason,
            }
    return result


def fairness_methods(options: EvaluateOptions, units: Mapping[str, str]) -> dict[str, str]:
    """Return what the report says of these numbers."""
    unit = units["hd95"]
    scale = (
        f"The equity-scaled form of a distance is mean × (1 + gaps / s) with the declared s = {options.equity_scale:g} "
        f"{unit}: lower is better, and gaps that add up to s double it."
        if options.equity_scale is not None
        else "No scale was declared, so distances have no equity-scaled form."
    )
    return {
        "spread_by_metric": (
            "In every metric the groups' means are over patients, and all metrics share the permutations. Signed "
            f"errors enter by their size, and where lower is better the worst group has the highest mean. {scale}"
        ),
        "case_mix": (
            "Adjusted difference: least squares of the primary endpoint on the group and "
            f"{', '.join(covariate_words(name) for name in options.case_mix) or 'nothing'} (volume by its logarithm; "
            "attribute values of fewer than 5 patients together), one row a patient, HC3 standard errors, "
            f"{100 * options.confidence:g} % t interval of each group alone. Not given for fewer than "
            f"{options.minimum_group} patients in the group or the rest, or {PER_PARAMETER} patients a parameter. It "
            "stands beside the raw difference and never replaces it: what is adjusted for, above all volume, may lie "
            "on the causal path."
        ),
        "shrinkage": (
            "Shrunken means: empirical Bayes with a normal model, the variance of patients pooled over groups and that "
            "between groups by DerSimonian and Laird. They draw the mean of a small group to that of all by as much as "
            "chance may have moved it; with two or three groups the variance between them is itself uncertain."
        ),
        "presence": (
            "Demographic parity and equalised odds, as fairlearn defines them, of whether a class is predicted in a "
            "patient at all, each patient weighing the same; only where every judged group has references with the "
            "class and without it. Demographic parity is not 0 where the class is truly more frequent in one group. A "
            "missing prediction counts as wrong either way."
        ),
    }


FAIRNESS_REFERENCES: Final = (
    "Morris CN. Parametric empirical Bayes inference. J Am Stat Assoc 1983. (shrinkage)",
    "DerSimonian R, Laird N. Meta-analysis in clinical trials. Control Clin Trials 1986. (variance between groups)",
    "MacKinnon JG, White H. Heteroskedasticity-consistent covariance matrix estimators. J Econom 1985. (HC3)",
    "Hardt M, Price E, Srebro N. Equality of opportunity in supervised learning. NeurIPS 2016. (equalised odds)",
    "Weerts H et al. Fairlearn. J Mach Learn Res 2023. (parity measures)",
)


def case_mix_sentence(adjusted: Sequence[Mapping[str, Any]], group: str | None) -> str:
    """Return what remains of a group's difference, to be added to the verdict on it."""
    return next((f" {one['sentence']}" for one in adjusted if one["group"] == group), "")


def _sentence(found: AdjustedDifference, options: EvaluateOptions) -> str:
    if found.adjusted is None or found.low is None or found.high is None:
        return f"What remains after adjusting for case mix is not given: {found.reason}."
    places = decimals("fraction", found.adjusted, found.low, found.high)
    ends = interval(found.low, found.high, places, sign=True)
    size = number(abs(found.adjusted), places)
    amount = f"{size} {'lower' if found.adjusted < 0 else 'higher'}" if float(size) else "no lower or higher"
    named = [covariate_words(name) for name in found.covariates]
    listed = ", ".join(named[:-1]) + (" and " if len(named) > 1 else "") + named[-1]
    path = "volume" if "volume" in found.covariates else "what is adjusted for"
    return (
        f"After adjusting for {listed}, '{found.group}' scores {amount} ({100 * options.confidence:g} % interval "
        f"{ends}); this does not replace the raw difference, as {path} may lie on the causal path."
    )


def _covariates(
    rows: pd.DataFrame, patients: "pd.Index[Any]", attribute: str, options: EvaluateOptions
) -> dict[str, Any]:
    """Return the case mix of each patient; an attribute is never adjusted for itself."""
    found: dict[str, Any] = {}
    for name in options.case_mix:
        column = GROUP_PREFIX + name
        if name == "volume":
            found[name] = log_volume(rows, patients)
        elif name == "slice_thickness":
            if "slice_thickness_mm" in rows:
                found[name] = patient_mean(rows, "slice_thickness_mm", patients)
        elif name != attribute and column in rows:
            groups = patient_groups(rows, name)
            found[name] = [groups[patient] for patient in patients]
    return found


def reference_volume(rows: pd.DataFrame, patients: "pd.Index[Any]") -> np.ndarray:
    """Return each patient's mean volume of the reference's classes together, in the unit of the rows."""
    whole = rows.groupby(["patient_id", "case_id"])["reference"].sum().groupby("patient_id").mean()
    return whole.reindex(patients).to_numpy(dtype=np.float64)


def log_volume(rows: pd.DataFrame, patients: "pd.Index[Any]") -> np.ndarray:
    """Return the natural logarithm of the reference's volume; an empty one counts as the smallest."""
    volume = reference_volume(rows, patients)
    positive = volume[volume > 0]
    return np.log(np.maximum(volume, positive.min())) if len(positive) else np.full(len(volume), np.nan)


def patient_mean(rows: pd.DataFrame, column: str, patients: "pd.Index[Any]") -> np.ndarray:
    """Return each patient's mean over cases of what a column says of the whole case; NaN where it says nothing."""
    cases = rows.drop_duplicates("case_id").groupby("patient_id")[column].mean()
    return cases.reindex(patients).to_numpy(dtype=np.float64)


def _plain_spread(found: Spread) -> dict[str, Any]:
    return {name: asdict(measure) for name, measure in found.measures.items()} | {"worst_group": found.worst_group}
