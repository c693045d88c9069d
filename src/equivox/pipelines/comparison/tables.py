"""From matched evaluations to the tables of a comparison: pairs, families of tests, rankings, groups."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from equivox.definitions import METRICS
from equivox.metrics.fairness.groups import Grouping
from equivox.metrics.statistics.bootstrap import mean_interval
from equivox.metrics.statistics.paired import (
    PairedPower,
    holm,
    paired_difference,
    paired_power,
    smallest_sign_flip_p,
)
from equivox.metrics.statistics.patient_means import patient_values
from equivox.metrics.statistics.ranking import RANKING_VIEWS, rank_stability
from equivox.pipelines.columns import GROUP_PREFIX
from equivox.pipelines.comparison.match import MatchedEvaluations
from equivox.pipelines.comparison.options import CompareOptions
from equivox.pipelines.patient_summary import interval_ends

ALL_CLASSES: Final = "all classes"
"""What stands for the mean over classes in the column `class`."""

Values = dict[tuple[str, str], Float[np.ndarray, "models patients"]]
"""(metric, class) -> one value a model and patient, NaN where a model has none."""


def value_table(matched: MatchedEvaluations) -> Values:
    """Return every metric of every class as one value a model and patient.

    Signed errors come without their sign, structure by structure: a model that is too large here and too small there
    is not right on average. With one class only, its rows are those of all classes.
    """
    names: list[str] = [ALL_CLASSES, *(matched.classes if len(matched.classes) > 1 else ())]
    index = list(matched.patients)
    table: Values = {}
    for name in names:
        parts = [rows if name == ALL_CLASSES else rows[rows["class"] == name] for rows in matched.rows]
        for metric in matched.units:
            columns = []
            for part in parts:
                scores = part[metric].abs() if METRICS[metric].better == "zero" else part[metric]
                values = patient_values(part.assign(**{metric: scores}), metric)
                columns.append(values.reindex(index).to_numpy(dtype=np.float64))
            table[metric, name] = np.stack(columns)
    # Metric by metric, as they are shown.
    return {(metric, name): table[metric, name] for metric in matched.units for name in names}


def pair_tests(matched: MatchedEvaluations, values: Values, options: CompareOptions) -> list[dict[str, Any]]:
    """Compare each pair of models in each metric and class: one record each, adjusted within its family.

    The family ``primary`` holds the primary endpoint over all classes of the first model against each other one. All
    other tests are the family ``rest``. Pairs with fewer patients than `minimum_patients` are not tested and belong to
    no family.
    """
    contrasts = len(matched.names) - 1
    records = []
    for a, b in combinations(range(len(matched.names)), 2):
        for (metric, name), table in values.items():
            primary = a == 0 and metric == matched.primary and name == ALL_CLASSES
            # The intervals of the contrasts that are judged hold together, as their tests do.
            confidence = 1 - options.level / contrasts if primary else options.confidence
            records.append(
                _pair_record(
                    matched, (a, b), (metric, name), table, "primary" if primary else "rest", confidence, options
                )
            )
    for family in ("primary", "rest"):
        tested = [record for record in records if record["family"] == family]
        for record, p in zip(tested, holm([record["p_value"] for record in tested]), strict=True):
            record["p_adjusted"] = p
            record["family_size"] = len(tested)
    return records


def _pair_record(
    matched: MatchedEvaluations,
    pair: tuple[int, int],
    key: tuple[str, str],
    table: Float[np.ndarray, "models patients"],
    family: str,
    confidence: float,
    options: CompareOptions,
) -> dict[str, Any]:
    first, second = table[pair[0]], table[pair[1]]
    found = _difference(first, second, options, confidence)
    both = np.isfinite(first) & np.isfinite(second)
    tested = found.patients >= options.minimum_patients
    high = METRICS[key[0]].better == "high"
    ahead, behind = (found.greater, found.smaller) if high else (found.smaller, found.greater)
    return {
        "first": matched.names[pair[0]],
        "second": matched.names[pair[1]],
        "metric": key[0],
        "class": key[1],
        "unit": matched.units[key[0]],
        "better": METRICS[key[0]].better,
        "family": family if tested else "",
        "patients": found.patients,
        "patients_left_out": found.left_out,
        "first_mean": float(first[both].mean()) if both.any() else None,
        "second_mean": float(second[both].mean()) if both.any() else None,
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "confidence": confidence,
        "median_difference": found.median,
        "second_better": ahead,
        "first_better": behind,
        "equal": found.equal,
        "second_better_share": ahead / found.patients if found.patients else None,
        "p_value": found.p_value if tested else None,
        "p_adjusted": None,
        "family_size": 0,
    }


def _difference(
    first: Float[np.ndarray, " patients"],
    second: Float[np.ndarray, " patients"],
    options: CompareOptions,
    confidence: float,
) -> Any:
    return paired_difference(
        first,
        second,
        flips=options.permutation_draws,
        draws=options.bootstrap_draws,
        seed=options.seed,
        confidence=confidence,
        minimum=options.minimum_patients,
    )


def families(records: Sequence[Mapping[str, Any]], options: CompareOptions) -> dict[str, dict[str, Any]]:
    """Return the size of each family, and the smallest adjusted p-value that it can give."""
    result = {}
    for family in ("primary", "rest"):
        tested = [record for record in records if record["family"] == family]
        least = min(
            (smallest_sign_flip_p(record["patients"], flips=options.permutation_draws) for record in tested),
            default=1.0,
        )
        result[family] = {
            "tests": len(tested),
            "smallest_adjusted_p": min(1.0, len(tested) * least) if tested else None,
        }
    return result


def primary_powers(
    matched: MatchedEvaluations, values: Values, options: CompareOptions
) -> dict[str, PairedPower | None]:
    """Return for each model but the first what its comparison with the first could have seen."""
    table = values[matched.primary, ALL_CLASSES]
    result = {}
    for place, name in enumerate(matched.names[1:], 1):
        change = table[place] - table[0]
        result[name] = paired_power(
            change[np.isfinite(change)],
            target=2 * options.margin,
            flips=options.permutation_draws,
            seed=options.seed,
            level=options.level / (len(matched.names) - 1),
            minimum=options.minimum_patients,
        )
    return result


def model_records(matched: MatchedEvaluations, values: Values, options: CompareOptions) -> list[dict[str, Any]]:
    """Return each model with its mean in the primary endpoint."""
    result = []
    bounds = (0.0, 1.0) if METRICS[matched.primary].kind == "fraction" else (-np.inf, np.inf)
    for place, name in enumerate(matched.names):
        own = values[matched.primary, ALL_CLASSES][place]
        own = own[np.isfinite(own)]
        ends = mean_interval(
            own,
            draws=options.bootstrap_draws,
            seed=options.seed,
            confidence=options.confidence,
            minimum=options.minimum_patients,
            bounds=bounds,
        )
        summary = matched.evaluations[place].summary
        result.append(
            {
                "name": name,
                "baseline": place == 0,
                "folder": matched.evaluations[place].folder.resolve().name,
                "model": summary["model"],
                "created": summary.get("created"),
                "equivox_version": summary.get("equivox_version"),
                "patients": len(own),
                "mean": float(own.mean()) if len(own) else None,
                **interval_ends(ends),
                "median": float(np.median(own)) if len(own) else None,
                "inputs": dict(summary["inputs"]),
            }
        )
    return result


def rankings(matched: MatchedEvaluations, values: Values, options: CompareOptions) -> list[dict[str, Any]]:
    """Rank the models by each metric over all classes, in both views."""
    result = []
    for metric in matched.units:
        sign = 1 if METRICS[metric].better == "high" else -1
        for view in RANKING_VIEWS:
            found = rank_stability(
                sign * values[metric, ALL_CLASSES],
                view=view,
                draws=options.bootstrap_draws,
                seed=options.seed,
                minimum=options.minimum_patients,
            )
            record = asdict(found)
            if view == "mean" and found.scores is not None:
                record["scores"] = tuple(sign * score for score in found.scores)
            result.append({"metric": metric} | record)
    return result


def ranking_rows(matched: MatchedEvaluations, found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rankings as one flat table: a row a metric, view and model."""
    rows = []
    for record in found:
        for place, name in enumerate(matched.names):
            shares = record["probabilities"][place] if record["probabilities"] else [None] * len(matched.names)
            rows.append(
                {
                    "metric": record["metric"],
                    "view": record["view"],
                    "model": name,
                    "patients": record["patients"],
                    "score": record["scores"][place] if record["scores"] else None,
                    "rank": record["ranks"][place] if record["ranks"] else None,
                    **{f"share_rank_{rank}": share for rank, share in enumerate(shares, 1)},
                    "kendall_tau": record["tau"],
                }
            )
    return pd.DataFrame(rows)


def group_differences(matched: MatchedEvaluations, values: Values, options: CompareOptions) -> list[dict[str, Any]]:
    """Compare each model with the first within each group: exploratory, without tests."""
    table = values[matched.primary, ALL_CLASSES]
    return [
        {
            "first": matched.names[0],
            "second": matched.names[place],
            "attributes": [
                _attribute_record(grouping, table[0], table[place], options) for grouping in matched.groupings
            ],
        }
        for place in range(1, len(matched.names))
    ]


def _attribute_record(
    grouping: Grouping,
    first: Float[np.ndarray, " patients"],
    second: Float[np.ndarray, " patients"],
    options: CompareOptions,
) -> dict[str, Any]:
    groups = list(_group_records(grouping, first, second, options))
    judged = [group for group in groups if group["patients"] >= options.minimum_patients]
    gap: dict[str, Any] = {"groups": len(judged), "first": None, "second": None, "change": None}
    if len(judged) > 1:
        for side in ("first", "second"):
            means = [group[f"{side}_mean"] for group in judged]
            gap[side] = max(means) - min(means)
        gap["change"] = gap["second"] - gap["first"]
    return {"name": grouping.name, "unknown_patients": grouping.unknown, "groups": groups, "gap": gap}


def _group_records(
    grouping: Grouping,
    first: Float[np.ndarray, " patients"],
    second: Float[np.ndarray, " patients"],
    options: CompareOptions,
) -> Iterator[dict[str, Any]]:
    for name in grouping.order:
        inside = np.array([group == name for group in grouping.groups])
        here = inside & np.isfinite(first) & np.isfinite(second)
        found = _difference(first[inside], second[inside], options, options.confidence)
        yield {
            "name": name,
            "patients": found.patients,
            "first_mean": float(first[here].mean()) if here.any() else None,
            "second_mean": float(second[here].mean()) if here.any() else None,
            "difference": found.mean,
            "low": found.low,
            "high": found.high,
            "greater": found.greater,
            "smaller": found.smaller,
            "small": found.patients < options.minimum_patients,
        }


def patient_table(matched: MatchedEvaluations, values: Values) -> pd.DataFrame:
    """Return each patient's value of the primary endpoint from each model, with the patient's groups."""
    table = values[matched.primary, ALL_CLASSES]
    columns: dict[str, Any] = {"patient_id": list(matched.patients)}
    columns |= {f"model:{name}": table[place] for place, name in enumerate(matched.names)}
    columns |= {GROUP_PREFIX + grouping.name: list(grouping.groups) for grouping in matched.groupings}
    return pd.DataFrame(columns)
