"""Where it fails: slices of the patients with large errors, and the scores against numbers of the patients."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import pandas as pd

from equivox.metrics.fairness.groups import Grouping
from equivox.metrics.fairness.residuals import Trend, residual_trends
from equivox.metrics.fairness.slices import ALPHA, ErrorSlice, discover_slices
from equivox.pipelines.columns import NUMBER_PREFIX
from equivox.pipelines.evaluation.fairness_tables import log_volume, patient_mean, reference_volume
from equivox.pipelines.evaluation.options import EvaluateOptions
from equivox.pipelines.patient_summary import interval_ends
from equivox.reports.numbers import number, unit_text

DISCOVERY_REFERENCES: Final = (
    "Sagadeeva S, Boehm M. SliceLine: fast, linear-algebra-based slice finding for ML model debugging. SIGMOD 2021.",
    "Benjamini Y, Hochberg Y. Controlling the false discovery rate. J R Stat Soc B 1995.",
    "Cleveland WS. Robust locally weighted regression and smoothing scatterplots. J Am Stat Assoc 1979. (without the "
    "robust rounds)",
)

_MOST_DRAWS: Final = 1999
"""Behind each correlation: p and q then have the digits that are shown."""

_FEW_VALUES: Final = 5
"""A number of no more values than these makes a group of each, one of more values makes thirds."""

_THICKNESS: Final = "slice_thickness_mm"


def discover(
    rows: pd.DataFrame,
    primary: "pd.Series[float]",
    groupings: Mapping[str, Grouping],
    units: Mapping[str, str],
    options: EvaluateOptions,
) -> dict[str, Any]:
    """Return the slices and the residuals of one table, as plain values.

    Args:
        rows: One row a case and class, with a column ``number:<name>`` for each continuous attribute.
        primary: The primary endpoint of each patient.
        groupings: Attribute -> the groups of these patients.
        units: Score -> unit.
        options: Draws, seed, level, smallest group.
    """
    return {
        "slices": _slices(rows, primary, groupings, units, options),
        "residuals": _residuals(rows, primary, groupings, units, options),
    }


def discovery_methods(options: EvaluateOptions) -> dict[str, str]:
    """Return the methods of both in words."""
    level = f"{1 - options.confidence:.2g}"
    draws = min(options.bootstrap_draws, _MOST_DRAWS)
    return {
        "slices": (
            "The patients are halved at random. In one half SliceLine looks for slices of up to 3 predicates (groups "
            "of the attributes, and thirds of reference volume and slice thickness over all patients) whose mean "
            "error, 1 - the primary endpoint, is large: score α (ē_S / ē - 1) - (1 - α)(n / |S| - 1) with α = "
            f"{ALPHA:g}, at least {options.minimum_group} patients in either half. The other half, which played no "
            "part in finding a slice, tells whether it holds: one-sided Welch statistic, patients permuted "
            f"{options.permutation_draws} times, q over all slices found (Benjamini and Hochberg), confirmed where q < "
            f"{level}. Means, differences and their bootstrap-t intervals, each for its slice alone, are those of the "
            "other half. Slices of the same patients are told once. What was not found may still be there."
        ),
        "residuals": (
            "Scores against numbers of the patients (means over the patient's cases): Spearman's rank correlation with "
            f"its percentile bootstrap interval ({draws} resamples) and p by permutation, q over all of them "
            "(Benjamini and Hochberg). Residual: the primary endpoint minus its fitted mean at the patient's log "
            "reference volume, a local linear fit; beside it the endpoint as it is. Lines in plots are local linear "
            "fits, for the eye alone."
        ),
    }


def predicate_words(one: ErrorSlice) -> str:
    """Return the predicates of a slice as a reader would say them; groups are named as elsewhere.

    Example:
        >>> predicate_words(ErrorSlice((("sex", "F"), ("site", None), ("age", ">=65")), 0, 0, 0, *[0.0] * 7, False))
        'sex = F and site = unknown and age >=65'
    """
    return " and ".join(
        f"{column} {value}"
        if value is not None and value.startswith(("<", ">"))
        else f"{column} = {value or 'unknown'}"
        for column, value in one.predicates
    )


def _slices(
    rows: pd.DataFrame,
    primary: "pd.Series[float]",
    groupings: Mapping[str, Grouping],
    units: Mapping[str, str],
    options: EvaluateOptions,
) -> dict[str, Any]:
    unit = unit_text(units["volume_error"])
    table = {name: list(grouping.groups) for name, grouping in groupings.items()}
    table.setdefault(_size_name(units), _ranges(reference_volume(rows, primary.index), unit))
    if _THICKNESS in rows:
        table.setdefault("slice thickness", _ranges(patient_mean(rows, _THICKNESS, primary.index), "mm"))
    search = discover_slices(
        # Rounding may leave a Dice of 1 a little above it.
        np.clip(1 - primary.to_numpy(dtype=np.float64), 0, None),
        table,
        minimum=options.minimum_group,
        draws=options.permutation_draws,
        bootstrap_draws=options.bootstrap_draws,
        seed=options.seed,
        confidence=options.confidence,
    )
    return {
        "reason": search.reason,
        "columns": list(search.columns),
        "found_in": search.found_in,
        "confirmed_in": search.confirmed_in,
        "alpha": ALPHA,
        "level": round(1 - options.confidence, 12),
        "slices": [
            {"words": predicate_words(one)}
            | {key: value for key, value in asdict(one).items() if key != "predicates"}
            | {"predicates": [{"column": column, "value": value} for column, value in one.predicates]}
            for one in search.slices
        ],
    }


def _residuals(
    rows: pd.DataFrame,
    primary: "pd.Series[float]",
    groupings: Mapping[str, Grouping],
    units: Mapping[str, str],
    options: EvaluateOptions,
) -> dict[str, Any]:
    size = f"log10 of the {_size_name(units)} ({unit_text(units['volume_error'])})"
    numbers = {size: log_volume(rows, primary.index) / math.log(10)}
    if _THICKNESS in rows:
        numbers["slice thickness (mm)"] = patient_mean(rows, _THICKNESS, primary.index)
    for name in groupings:
        if NUMBER_PREFIX + name in rows:
            numbers[name] = patient_mean(rows, NUMBER_PREFIX + name, primary.index)
    # A number that is the same for all, or known of nobody, has nothing to tell.
    numbers = {name: one for name, one in numbers.items() if len(np.unique(one[np.isfinite(one)])) > 1}
    scores = primary.to_numpy(dtype=np.float64)
    found = residual_trends(
        scores,
        numbers,
        size if size in numbers else None,
        minimum=options.minimum_group,
        draws=min(options.bootstrap_draws, _MOST_DRAWS),
        permutations=min(options.permutation_draws, _MOST_DRAWS),
        seed=options.seed,
        confidence=options.confidence,
    )
    return {
        "size": size if size in numbers else None,
        "fit": [list(place) for place in found.fit],
        "trends": [
            {
                "number": name,
                "raw": _plain(found.raw[name]),
                "residual": _plain(found.residual[name]) if name in found.residual else None,
            }
            for name in numbers
        ],
        "points": {
            "scores": _rounded(scores),
            "residuals": _rounded(found.residuals),
            "numbers": {name: _rounded(one) for name, one in numbers.items()},
        },
    }


def _plain(trend: Trend) -> dict[str, Any]:
    return {
        "patients": trend.patients,
        "spearman": trend.spearman,
        **interval_ends(trend.interval),
        "p": trend.p,
        "q": trend.q,
        "line": [list(place) for place in trend.line],
    }


def _rounded(values: np.ndarray) -> list[float | None]:
    """Return values to be drawn: five digits are finer than any screen."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]


def _size_name(units: Mapping[str, str]) -> str:
    return "reference area" if units["volume_error"] == "mm2" else "reference volume"


def _ranges(values: np.ndarray, unit: str) -> list[str | None]:
    """Return the range that each number lies in: thirds of the patients, or each value where there are few."""
    known = values[np.isfinite(values)]
    if len(np.unique(known)) <= _FEW_VALUES:
        return [f"{_short(value)} {unit}" if math.isfinite(value) else None for value in values.tolist()]
    edges = np.unique(np.quantile(known, [1 / 3, 2 / 3], method="inverted_cdf")).tolist()
    names = [f"<={_short(edges[0])} {unit}"]
    names += [f"{_short(low)}-{_short(high)} {unit}" for low, high in itertools.pairwise(edges)]
    names += [f">{_short(edges[-1])} {unit}"]
    places = np.searchsorted(edges, values, side="left").tolist()
    return [
        names[place] if math.isfinite(value) else None for place, value in zip(places, values.tolist(), strict=True)
    ]


def _short(value: float) -> str:
    """Write three digits of a number, all of those before the point, and no zeros at its end."""
    places = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = number(value, places)
    return text.rstrip("0").rstrip(".") if "." in text else text
