"""From the scores of structures to the tables of a report: overall, by class, by group, with intervals and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from equivox.datasets.cohort import AttributeConfig
from equivox.definitions import METRICS
from equivox.metrics.fairness.groups import Grouping
from equivox.metrics.fairness.verdict import varies, verdict
from equivox.metrics.statistics.contrast_design import Blocks
from equivox.metrics.statistics.detectable_gap import patients_needed
from equivox.metrics.statistics.patient_means import case_table, patient_table, patient_values
from equivox.metrics.statistics.permutation import Contrast, ContrastFamily, contrast_family
from equivox.metrics.statistics.simulation import simulated_coverage, simulated_size
from equivox.pipelines.columns import GROUP_PREFIX, patient_groups
from equivox.pipelines.evaluation.discovery import discover
from equivox.pipelines.evaluation.fairness_tables import (
    adjusted_differences,
    case_mix_sentence,
    crossings,
    presence_by_class,
    primary_spread,
    spread_by_metric,
    with_shrunk_means,
)
from equivox.pipelines.evaluation.options import EvaluateOptions
from equivox.pipelines.patient_summary import distribution, failure_rate
from equivox.reports.numbers import decimals, interval, number, unit_text

_BOUNDS = {"fraction": (0.0, 1.0), "distance": (0.0, np.inf), "count": (0.0, np.inf)}


def build_table(
    rows: pd.DataFrame,
    *,
    role: str,
    headline: bool,
    attributes: Mapping[str, AttributeConfig],
    units: Mapping[str, str],
    options: EvaluateOptions,
) -> dict[str, Any]:
    """Summarise the scored structures of one role.

    Args:
        rows: One row a case and class: case_id, patient_id, class, outcome, the scores, voxel counts, and one column
            ``attribute:<name>`` an attribute (None where unknown).
        role: The name of the table.
        headline: Whether it comes first in the report.
        attributes: How each attribute's groups are ordered.
        units: Score -> unit.
        options: Margin, draws, seeds.
    """
    primary = patient_values(rows, options.primary_endpoint)
    groupings = {name: _grouping(name, rows, primary.index, config) for name, config in attributes.items()}
    membership = {name: grouping.groups for name, grouping in groupings.items()}
    blocks = _blocks(groupings, options)
    strata = None if options.strata is None else dict(zip(primary.index, groupings[options.strata].groups, strict=True))
    family = contrast_family(
        primary.to_numpy(dtype=np.float64),
        membership,
        blocks=blocks,
        minimum=options.minimum_group,
        draws=options.permutation_draws,
        seed=options.seed,
        confidence=options.confidence,
    )
    return {
        "role": role,
        "headline": headline,
        "patients": int(rows["patient_id"].nunique()),
        "cases": int(rows["case_id"].nunique()),
        "overall": _metrics(rows, units, options, strata),
        "failure_rate": _failure_rate(primary, options),
        "by_class": _by_class(rows, units, options, strata),
        "attributes": [
            _attribute(rows, primary, grouping, family, blocks, attributes[name], units, options)
            for name, grouping in groupings.items()
        ],
        "simulated": _simulated(primary.to_numpy(dtype=np.float64), membership, blocks, options) if headline else None,
        "intersections": [
            {"name": grouping.name, "groups": _groups(rows, primary, grouping, options)}
            for grouping in crossings(groupings, options)
        ],
        **(discover(rows, primary, groupings, units, options) if headline else {}),
    }


def _blocks(groupings: Mapping[str, Grouping], options: EvaluateOptions) -> Blocks | None:
    within = options.permute_within
    return None if within is None else Blocks(within, groupings[within].groups)


def _simulated(
    values: np.ndarray,
    attributes: Mapping[str, Sequence[str | None]],
    blocks: Blocks | None,
    options: EvaluateOptions,
) -> dict[str, Any]:
    """Return what intervals and tests are worth at these sizes; None where it was not simulated."""
    settings: dict[str, Any] = {
        "repeats": options.simulation_repeats,
        "seed": options.seed,
        "confidence": options.confidence,
        "minimum": options.minimum_group,
    }
    return {
        "repeats": options.simulation_repeats,
        "coverage": simulated_coverage(values, method=options.interval, **settings),
        "size": simulated_size(values, attributes, blocks=blocks, **settings),
    }


def group_rows(tables: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the groups of all tables as one flat table, the intersections of attributes below."""
    flat = []
    for table in tables:
        for attribute in table["attributes"]:
            contrasts = {contrast["group"]: contrast for contrast in attribute["contrasts"]}
            adjusted = {one["group"]: one for one in attribute.get("adjusted", [])}
            for group in attribute["groups"]:
                contrast, remaining = contrasts.get(group["name"], {}), adjusted.get(group["name"], {})
                flat.append(
                    _flat_group(table["role"], attribute["name"], "group", group)
                    | {
                        "difference": contrast.get("difference"),
                        "raw_difference": contrast.get("raw_difference"),
                        "difference_low": contrast.get("low"),
                        "difference_high": contrast.get("high"),
                        "p_adjusted": contrast.get("p_adjusted"),
                        "detectable_gap": contrast.get("detectable_gap"),
                        "difference_adjusted": remaining.get("adjusted"),
                        "difference_adjusted_low": remaining.get("low"),
                        "difference_adjusted_high": remaining.get("high"),
                        "adjusted_for": ", ".join(remaining.get("covariates", ())) or None,
                    }
                )
        for crossing in table["intersections"]:
            flat += [
                _flat_group(table["role"], crossing["name"], "intersection", group) for group in crossing["groups"]
            ]
    return pd.DataFrame(flat, columns=_GROUP_COLUMNS)


_GROUP_COLUMNS = [
    *("role", "attribute", "kind", "group", "patients", "cases", "mean", "low", "high", "median", "worst_decile"),
    *("missed", "failure_rate", "small"),
    *("difference", "difference_low", "difference_high", "p_adjusted", "detectable_gap"),
    "raw_difference",
    *("mean_shrunk", "shrinkage_weight"),
    *("difference_adjusted", "difference_adjusted_low", "difference_adjusted_high", "adjusted_for"),
]


def _flat_group(role: str, attribute: str, kind: str, group: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: value for key, value in group.items() if key in _GROUP_COLUMNS}
    shrunk = group.get("shrunk") or {}
    values |= {"mean_shrunk": shrunk.get("mean"), "shrinkage_weight": shrunk.get("weight")}
    return {"role": role, "attribute": attribute, "kind": kind, "group": group["name"]} | values


def _metrics(
    rows: pd.DataFrame, units: Mapping[str, str], options: EvaluateOptions, strata: Mapping[Any, str | None] | None
) -> dict[str, Any]:
    cases = case_table(rows, options.scores)
    patients = patient_table(cases)
    empty = (rows["outcome"] == "both_empty").to_numpy()
    all_empty = pd.Series(empty).groupby(rows["case_id"].to_numpy()).all()
    # Whether all structures of a case are in neither mask, in the order of `cases`.
    with_empty = len(set(rows["case_id"].to_numpy()[empty]))
    none_there = all_empty.loc[cases.index.get_level_values("case_id")].to_numpy()
    found = {}
    for score in options.scores:
        values, without = patients[score].dropna(), cases[score].isna().to_numpy()
        of = None if strata is None else [strata.get(patient) for patient in values.index]
        found[score] = {
            "unit": units[score],
            **_distribution(values.to_numpy(dtype=np.float64), score, options, of),
            "patients": len(values),
            "cases_used": int((~without).sum()),
            "cases_both_empty": with_empty,
            # A case without any value: all its structures are in neither mask, or one that is has no such score.
            "cases_all_empty": int((without & none_there).sum()),
            "cases_undefined": int((without & ~none_there).sum()),
            **_structures(rows, score),
            "structures_both_empty": int(empty.sum()),
        }
    return found


def _structures(rows: pd.DataFrame, score: str) -> dict[str, int]:
    """Count the structures that a score has, and those whose value the policy put in."""
    defined = rows[score].notna().to_numpy()
    # The error of a missed structure is what it is; only that of a missing prediction is put in.
    fixed = ["no_prediction"]
    if METRICS[score].kind in ("fraction", "distance"):
        fixed += ["missed", "false_positive"]
    penalised = defined & rows["outcome"].isin(fixed).to_numpy()
    return {
        "cases_penalised": len(set(rows["case_id"].to_numpy()[penalised])),
        "structures_used": int(defined.sum()),
        "structures_penalised": int(penalised.sum()),
    }


def _distribution(
    values: np.ndarray, score: str, options: EvaluateOptions, strata: Sequence[str | None] | None = None
) -> dict[str, float | None]:
    """Return mean, median and worst decile of patients with their intervals; all None without a patient."""
    metric = METRICS[score]
    return distribution(
        values,
        {
            "draws": options.bootstrap_draws,
            "seed": options.seed,
            "confidence": options.confidence,
            "minimum": options.minimum_group,
        },
        worst=0.1 if metric.better == "high" else 0.9,
        bounds=_BOUNDS.get(metric.kind, (-np.inf, np.inf)),
        # A signed error is as bad in either direction.
        tail=np.abs(values) if metric.better == "zero" else values,
        method=options.interval,
        strata=strata,
    )


def _failure_rate(primary: "pd.Series[float]", options: EvaluateOptions) -> dict[str, float | int | None]:
    failed = int((primary < options.failure_threshold).sum())
    return failure_rate(failed, len(primary), confidence=options.confidence, minimum=options.minimum_group)


def _by_class(
    rows: pd.DataFrame, units: Mapping[str, str], options: EvaluateOptions, strata: Mapping[Any, str | None] | None
) -> dict[str, Any]:
    result = {}
    for name, part in rows.groupby("class", sort=False):
        predicted = part["prediction_voxels"] > 0
        present = part["reference_voxels"] > 0
        # Without a prediction nothing was rightly left out either.
        rejected = ~predicted & (part["outcome"] != "no_prediction")
        result[str(name)] = {
            "metrics": _metrics(part, units, options, strata),
            "presence": {
                "sensitivity": _share(int((present & predicted).sum()), int(present.sum())),
                "specificity": _share(int((~present & rejected).sum()), int((~present).sum())),
                "present": int(present.sum()),
                "absent": int((~present).sum()),
            },
        }
    return result


def _share(count: int, total: int) -> float | None:
    return count / total if total else None


def _grouping(name: str, rows: pd.DataFrame, patients: "pd.Index[Any]", config: AttributeConfig) -> Grouping:
    by_patient = patient_groups(rows, name)
    groups = tuple(by_patient[patient] for patient in patients)
    # A group of which no patient has a score is still a group: it must not vanish.
    known = [group for group in by_patient.values() if group is not None]
    return Grouping(name, groups, tuple(config.sort_groups(known)))


def _attribute(
    rows: pd.DataFrame,
    primary: "pd.Series[float]",
    grouping: Grouping,
    family: ContrastFamily,
    blocks: Blocks | None,
    config: AttributeConfig,
    units: Mapping[str, str],
    options: EvaluateOptions,
) -> dict[str, Any]:
    values = primary.to_numpy(dtype=np.float64)
    within = None if blocks is None or blocks.attribute == grouping.name else blocks

    def needed(group: str) -> int | None:
        if group not in grouping.groups:
            return None
        return patients_needed(
            values,
            grouping.groups,
            group,
            target_gap=2 * options.margin,
            critical_value=family.critical_value,
            blocks=within,
            power=family.power,
            minimum=options.minimum_group,
        )

    by_group = {contrast.group: contrast for contrast in family.of(grouping.name)}
    contrasts = [by_group[group] for group in grouping.order if group in by_group]
    answer = verdict(
        grouping.name,
        grouping.sizes,
        contrasts,
        needed,
        untested=[group for group in family.untested if group.attribute == grouping.name],
        margin=options.margin,
        minimum=options.minimum_group,
        confidence=options.confidence,
    )
    written = asdict(answer)
    if answer.answer == "difference" and answer.group is not None and units["volume_error"] != "voxels":
        volume = _volume_difference(rows, primary.index, grouping, within, answer.group, options)
        if volume is not None:
            written["volume_difference"] = volume | {"unit": units["volume_error"]}
            written["sentence"] += _volume_sentence(volume, units["volume_error"])
    adjusted = adjusted_differences(rows, primary, grouping, options)
    if answer.answer == "difference":
        written["sentence"] += case_mix_sentence(adjusted, answer.group)
    by_metric = spread_by_metric(rows, primary.index, grouping, units, options)
    return {
        "name": grouping.name,
        "kind": config.kind,
        "unknown_patients": grouping.unknown,
        "groups": _groups(rows, primary, grouping, options),
        "verdict": {key: value for key, value in written.items() if key != "attribute"},
        "contrasts": [_plain_contrast(contrast) for contrast in contrasts],
        "adjusted": adjusted,
        "spread": primary_spread(by_metric, options),
        "spread_by_metric": by_metric,
        "presence_parity": presence_by_class(rows, grouping.name, options),
    }


def _plain_contrast(contrast: Contrast) -> dict[str, Any]:
    """Return a contrast as plain values; without any variation it has no interval and no gap."""
    nothing = {} if varies(contrast) else dict.fromkeys(("low", "high", "detectable_gap"))
    return asdict(contrast) | nothing


def _volume_difference(
    rows: pd.DataFrame,
    patients: "pd.Index[Any]",
    grouping: Grouping,
    blocks: Blocks | None,
    group: str,
    options: EvaluateOptions,
) -> dict[str, float] | None:
    """Return by how much the mean absolute volume error of a group exceeds that of the rest (exploratory)."""
    sizes = patient_values(rows.assign(volume_error=rows["volume_error"].abs()), "volume_error").reindex(patients)
    known = sizes.notna().to_numpy()
    family = contrast_family(
        sizes[known].to_numpy(dtype=np.float64),
        {grouping.name: [name for name, kept in zip(grouping.groups, known, strict=True) if kept]},
        blocks=None if blocks is None else Blocks(blocks.attribute, tuple(np.array(blocks.groups, object)[known])),
        minimum=options.minimum_group,
        draws=options.permutation_draws,
        seed=options.seed,
        confidence=options.confidence,
        bounds=(-np.inf, np.inf),
    )
    for contrast in family.contrasts:
        if contrast.group == group:
            return {"difference": contrast.difference, "low": contrast.low, "high": contrast.high}
    return None


def _volume_sentence(volume: Mapping[str, float], unit: str) -> str:
    difference, low, high = volume["difference"], volume["low"], volume["high"]
    places = decimals("volume", difference, low, high)
    size = f"{number(abs(difference), places)} {unit_text(unit)} {'larger' if difference >= 0 else 'smaller'}"
    ends = f"{interval(low, high, places, sign=True)} {unit_text(unit)}"
    return f" Its mean absolute volume error is {size} ({ends})."


def _groups(
    rows: pd.DataFrame, primary: "pd.Series[float]", grouping: Grouping, options: EvaluateOptions
) -> list[dict[str, Any]]:
    result = []
    by_patient = pd.Series(list(grouping.groups), index=primary.index, dtype=object)
    group_of_row = rows["patient_id"].map(by_patient)
    column = GROUP_PREFIX + grouping.name
    if column in rows:
        group_of_row = group_of_row.where(rows["patient_id"].isin(primary.index), rows[column])
    for name in grouping.order:
        part = primary[(by_patient == name).to_numpy()]
        own = rows[group_of_row == name]
        missed = own["outcome"].isin(("missed", "no_prediction")) & (own["reference_voxels"] > 0)
        failure = _failure_rate(part, options)
        result.append(
            {
                "name": name,
                "patients": len(part),
                "cases": int(own["case_id"].nunique()),
                **_distribution(part.to_numpy(dtype=np.float64), options.primary_endpoint, options),
                "missed": int(missed.sum()),
                "failure_rate": failure["value"],
                "failure_low": failure["low"],
                "failure_high": failure["high"],
                "small": len(part) < options.minimum_group,
            }
        )
    return with_shrunk_means(result, primary.to_numpy(dtype=np.float64), grouping)
