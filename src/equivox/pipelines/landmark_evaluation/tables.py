"""From the errors of landmarks to the tables over patients: overall, by landmark, by group, and the error curve."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from equivox.datasets.cohort import AttributeConfig
from equivox.metrics.fairness.groups import Grouping
from equivox.metrics.landmarks import within_radius
from equivox.metrics.statistics.patient_means import patient_values
from equivox.metrics.statistics.permutation import Contrast, contrast_family
from equivox.metrics.statistics.ratio import ratio_interval
from equivox.pipelines.columns import patient_groups
from equivox.pipelines.landmark_evaluation.cases import EXPECTED
from equivox.pipelines.landmark_evaluation.options import LandmarkOptions
from equivox.pipelines.patient_summary import Resampling, distribution, failure_rate, interval_ends

_CURVE_POINTS: Final = 200


def describe(rows: pd.DataFrame, options: LandmarkOptions) -> dict[str, Any]:
    """Return one record over patients: errors of the matched landmarks, and how many there are of all.

    Args:
        rows: One row a case and landmark, see `measure_landmarks`: all of them, or those of a group or a landmark.
        options: Radii, draws, seed.
    """
    expected = rows[rows["state"].isin(EXPECTED)]
    errors = patient_values(expected, "error")
    total = expected.groupby("patient_id", sort=True).size().to_numpy(np.float64)
    matched = int((expected["state"] == "matched").sum())
    unpredicted = expected[expected["state"] == "no_prediction"]
    return {
        "patients": len(total),
        "patients_measured": len(errors),
        "cases": int(expected["case_id"].nunique()),
        "cases_without_prediction": int(unpredicted["case_id"].nunique()),
        "landmarks": len(expected),
        "matched": matched,
        "missed": len(expected) - matched,
        **_distribution(errors.to_numpy(np.float64), options),
        "success": [_success(radius, _within(expected, radius), total, options) for radius in options.success_radii],
        "failure_rate": _failure_rate(_within(expected, options.fails_beyond), total, options),
    }


def by_landmark(rows: pd.DataFrame, landmarks: Sequence[str], options: LandmarkOptions) -> list[dict[str, Any]]:
    """Return one record a landmark, in the given order: a patient's value is the mean over the patient's cases."""
    records = []
    for name in landmarks:
        part = rows[rows["landmark"] == name]
        if len(part):
            record = describe(part, options)
            del record["failure_rate"]  # of a patient as a whole
            counts = {state: int((part["state"] == state).sum()) for state in ("extra", "absent")}
            records.append({"name": name, **record, **counts})
    return records


def by_group(
    rows: pd.DataFrame, cases: pd.DataFrame, attributes: Mapping[str, AttributeConfig], options: LandmarkOptions
) -> list[dict[str, Any]]:
    """Return one record an attribute, its groups each with the difference to the rest (exploratory).

    Two families are tested, each over all attributes at once: the mean errors, which missed landmarks are not in, and
    the success at the first radius, which they are.
    """
    expected = rows[rows["state"].isin(EXPECTED)]
    groupings = {name: _grouping(name, cases, config) for name, config in attributes.items()}
    group_of = {
        name: dict(zip(cases["patient_id"].unique(), grouping.groups, strict=True))
        for name, grouping in groupings.items()
    }
    total = expected.groupby("patient_id", sort=True).size()
    shares = pd.Series(_within(expected, options.success_radii[0]) / total.to_numpy(np.float64), index=total.index)
    errors = _contrasts(patient_values(expected, "error"), group_of, (-np.inf, np.inf), options)
    success = _contrasts(shares, group_of, (-1.0, 1.0), options)
    records = []
    for name, grouping in groupings.items():
        group_of_row = rows["patient_id"].map(group_of[name])
        groups = []
        for group in grouping.order:
            record = describe(rows[(group_of_row == group).to_numpy()], options)
            error = errors.get((name, group))
            groups.append(
                {
                    "name": group,
                    "small": record["patients_measured"] < options.minimum_group,
                    **record,
                    "difference": None if error is None else _difference(error, options.margin),
                    "success_difference": None
                    if (name, group) not in success
                    else _difference(success[name, group], None),
                }
            )
        records.append(
            {
                "name": name,
                "kind": attributes[name].kind,
                "unknown_patients": grouping.unknown,
                "groups": groups,
            }
        )
    return records


def error_curve(rows: pd.DataFrame, options: LandmarkOptions) -> list[tuple[float, float]]:
    """Return the cumulative curve of errors: distance, and the share of the reference's landmarks within it.

    Shares are means over patients, as the success rates are; the curve ends below 1 where landmarks are missed. It goes
    on to twice the last radius, and farther where more than a twentieth of the matched landmarks lie beyond.
    """
    expected = rows[rows["state"].isin(EXPECTED)]
    total = expected.groupby("patient_id", sort=True).size().to_numpy(np.float64)
    found = expected["error"].dropna().to_numpy(np.float64)
    last = 2 * options.success_radii[-1]
    if found.size:
        last = max(last, float(np.quantile(found, 0.95)))
    distances = np.linspace(0, last, _CURVE_POINTS + 1)
    return [(float(distance), float((_within(expected, distance) / total).mean())) for distance in distances]


def group_rows(groups: Sequence[Mapping[str, Any]], unit: str) -> pd.DataFrame:
    """Return the groups of all attributes as one flat table."""
    flat = []
    for attribute in groups:
        for group in attribute["groups"]:
            row = {"attribute": attribute["name"], "group": group["name"], "unit": unit}
            row |= {key: group[key] for key in _GROUP_COLUMNS}
            row["failure_rate"] = group["failure_rate"]["value"]
            for success in group["success"]:
                row |= {f"success_{success['radius']:g}{end}": success[key] for key, end in _SUCCESS_COLUMNS.items()}
            for kind in ("difference", "success_difference"):
                contrast = group[kind] or {}
                row |= {kind + end: contrast.get(key) for key, end in _DIFFERENCE_COLUMNS.items()}
            flat.append(row)
    return pd.DataFrame(flat)


_GROUP_COLUMNS: Final = (
    *("patients", "patients_measured", "cases", "cases_without_prediction", "landmarks", "matched", "missed"),
    *("mean", "low", "high", "median", "worst_decile"),
)
_SUCCESS_COLUMNS: Final = {"value": "", "low": "_low", "high": "_high"}
_DIFFERENCE_COLUMNS: Final = {
    **{"difference": "", "low": "_low", "high": "_high", "p_adjusted": "_p_adjusted"},
    "detectable_gap": "_detectable_gap",
}


def _within(expected: pd.DataFrame, radius: float) -> Float[np.ndarray, " patients"]:
    """Return how many landmarks of each patient lie within a radius, by the patient's id; a missed one does not."""
    near = within_radius(expected["error"].to_numpy(np.float64), radius)
    who, patients = pd.factorize(expected["patient_id"], sort=True)
    return np.bincount(who, weights=near, minlength=len(patients))


def _distribution(values: Float[np.ndarray, " patients"], options: LandmarkOptions) -> dict[str, float | None]:
    """Return mean, median and worst decile of patients with their intervals; all None without a patient."""
    resampling: Resampling = {
        "draws": options.bootstrap_draws,
        "seed": options.seed,
        "confidence": options.confidence,
        "minimum": options.minimum_group,
    }
    return distribution(values, resampling, worst=0.9, bounds=(0.0, np.inf))


def _success(
    radius: float,
    within: Float[np.ndarray, " patients"],
    total: Float[np.ndarray, " patients"],
    options: LandmarkOptions,
) -> dict[str, float | None]:
    """Return the mean over patients of the share of landmarks within a radius, and the share of all landmarks."""
    if not len(total):
        return {"radius": radius} | dict.fromkeys(("value", "low", "high", "pooled", "pooled_low", "pooled_high"))
    settings: dict[str, Any] = {"confidence": options.confidence, "minimum": options.minimum_group}
    shares = within / total
    return {
        "radius": radius,
        "value": float(shares.mean()),
        **interval_ends(ratio_interval(shares, np.ones(len(shares)), **settings)),
        "pooled": float(within.sum() / total.sum()),
        **interval_ends(ratio_interval(within, total, **settings), "pooled_"),
    }


def _failure_rate(
    within: Float[np.ndarray, " patients"], total: Float[np.ndarray, " patients"], options: LandmarkOptions
) -> dict[str, float | int | None]:
    failed = int((2 * within <= total).sum())
    return failure_rate(failed, len(total), confidence=options.confidence, minimum=options.minimum_group)


def _grouping(name: str, cases: pd.DataFrame, config: AttributeConfig) -> Grouping:
    groups = tuple(patient_groups(cases, name).values())
    return Grouping(name, groups, tuple(config.sort_groups(group for group in groups if group is not None)))


def _contrasts(
    values: "pd.Series[float]",
    group_of: Mapping[str, Mapping[str, str | None]],
    bounds: tuple[float, float],
    options: LandmarkOptions,
) -> dict[tuple[str, str], Contrast]:
    family = contrast_family(
        values.to_numpy(np.float64),
        {name: [groups[patient] for patient in values.index] for name, groups in group_of.items()},
        minimum=options.minimum_group,
        draws=options.permutation_draws,
        seed=options.seed,
        confidence=options.confidence,
        bounds=bounds,
    )
    return {(contrast.attribute, contrast.group): contrast for contrast in family.contrasts}


def _difference(contrast: Contrast, margin: float | None) -> dict[str, Any]:
    kept = ("patients", "rest_patients", "difference", "low", "high", "p_adjusted", "detectable_gap")
    record = {key: value for key, value in asdict(contrast).items() if key in kept}
    inside = None if margin is None else -margin < contrast.low and contrast.high < margin
    return record | {"inside_margin": inside}
