"""From the measures of cases to the tables over patients: by structure, by group, and against age and the like."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from equivox.datasets.cohort import AttributeConfig
from equivox.metrics.statistics.association import associate, false_discovery
from equivox.metrics.statistics.bootstrap import mean_interval
from equivox.metrics.statistics.permutation import contrast_family
from equivox.metrics.statistics.smooth import local_linear
from equivox.pipelines.columns import NUMBER_PREFIX, patient_groups
from equivox.pipelines.measurement.options import MeasureOptions
from equivox.pipelines.patient_summary import interval_ends

MEASURES: Final = ("size", "mean")
"""What is compared over patients: the size, and the mean intensity."""


def by_structure(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one record a structure: how often it is there, cut off, how large and how bright.

    Args:
        rows: One row a case and structure, see `measure_case`, with `case_id`, `patient_id` and the attributes.
    """
    records = []
    for name, part in rows.groupby("class", sort=False):
        present = part[part["present"]]
        record: dict[str, Any] = {
            "structure": str(name),
            "cases": len(part),
            "present": len(present),
            "absent": len(part) - len(present),
            "cut_off": int(present["cut_off"].sum()),
        }
        for measure in MEASURES:
            record[measure] = _describe(_patient_values(part, measure))
        records.append(record)
    return records


def by_group(
    rows: pd.DataFrame, attributes: Mapping[str, AttributeConfig], options: MeasureOptions
) -> list[dict[str, Any]]:
    """Return one record a structure, attribute, group and measure, with the difference of the group to the rest."""
    records = []
    for name, part in rows.groupby("class", sort=False):
        for attribute, config in attributes.items():
            groups = pd.Series(patient_groups(part, attribute), dtype=object)
            for measure in MEASURES:
                values = _patient_values(part, measure)
                known = groups.reindex(values.index)
                contrasts = _contrasts(values, attribute, known.tolist(), options)
                for group in config.sort_groups([one for one in known if one is not None]):
                    own = values[(known == group).to_numpy()]
                    interval = mean_interval(own.to_numpy(np.float64), **_settings(options))
                    records.append(
                        {
                            "structure": str(name),
                            "attribute": attribute,
                            "group": group,
                            "measure": measure,
                            **_describe(own),
                            **interval_ends(interval),
                            **contrasts.get(group, _NO_CONTRAST),
                        }
                    )
    return _with_q(records)


def associations(
    rows: pd.DataFrame, attributes: Mapping[str, AttributeConfig], options: MeasureOptions
) -> list[dict[str, Any]]:
    """Return one record a structure, continuous attribute and measure: how the one goes with the other."""
    adjust = options.adjust_for or tuple(name for name, config in attributes.items() if config.kind == "categorical")
    records = []
    for name, part in rows.groupby("class", sort=False):
        adjusting = [patient_groups(part, other) for other in adjust]
        for attribute in (name for name, config in attributes.items() if config.kind == "continuous"):
            numbers = part.groupby("patient_id", sort=True)[NUMBER_PREFIX + attribute].mean()
            for measure in MEASURES:
                values = _patient_values(part, measure)
                covariates = [[found[patient] for patient in values.index] for found in adjusting]
                x, y = numbers.reindex(values.index).to_numpy(np.float64), values.to_numpy(np.float64)
                found = associate(
                    x,
                    y,
                    covariates,
                    draws=options.draws,
                    permutations=options.draws,
                    seed=options.seed,
                    confidence=options.confidence,
                    minimum=options.minimum_group,
                )
                records.append(
                    {
                        "structure": str(name),
                        "attribute": attribute,
                        "measure": measure,
                        "patients": found.patients,
                        "spearman": found.spearman,
                        **interval_ends(found.spearman_interval, "spearman_"),
                        "pearson": found.pearson,
                        **interval_ends(found.pearson_interval, "pearson_"),
                        "adjusted": found.adjusted,
                        "adjusted_for": list(adjust),
                        "slope": found.slope,
                        **interval_ends(found.slope_interval, "slope_"),
                        "p": found.p,
                        "smooth": _smooth(x, y) if found.patients >= options.minimum_group else [],
                    }
                )
    return _with_q(records)


def usable(part: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are compared over patients: structures that are there and that the image does not cut."""
    return part[part["present"] & ~part["cut_off"].astype(bool)]


def _patient_values(part: pd.DataFrame, measure: str) -> "pd.Series[float]":
    """Return one value a patient, the mean over the cases in which the whole structure is seen."""
    kept = usable(part)
    values: pd.Series[float] = kept[kept[measure].notna()].groupby("patient_id", sort=True)[measure].mean()
    return values.astype(np.float64)


def _describe(values: "pd.Series[float]") -> dict[str, Any]:
    if not len(values):
        return {"patients": 0} | dict.fromkeys(("mean", "sd", "median", "q1", "q3"))
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    return {
        "patients": len(values),
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "median": float(median),
        "q1": float(q1),
        "q3": float(q3),
    }


def _smooth(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    known = np.isfinite(x) & np.isfinite(y)
    at = np.linspace(x[known].min(), x[known].max(), 25)
    return list(zip(at.tolist(), local_linear(x[known], y[known], at).tolist(), strict=True))


_NO_CONTRAST: Final = dict.fromkeys(("difference", "difference_low", "difference_high", "p"))


def _contrasts(
    values: "pd.Series[float]", attribute: str, groups: Sequence[str | None], options: MeasureOptions
) -> dict[str, dict[str, float]]:
    family = contrast_family(
        values.to_numpy(np.float64),
        {attribute: groups},
        minimum=options.minimum_group,
        draws=options.draws,
        seed=options.seed,
        confidence=options.confidence,
        bounds=(-np.inf, np.inf),
    )
    return {
        one.group: {
            "difference": one.difference,
            "difference_low": one.low,
            "difference_high": one.high,
            "p": one.p_adjusted,
        }
        for one in family.contrasts
    }


def _with_q(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the share of false discoveries among all structures of one attribute and measure."""
    for members in _families(records):
        for record, q in zip(members, false_discovery([record["p"] for record in members]), strict=True):
            record["q"] = q
    return records


def _families(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for key in dict.fromkeys((record["attribute"], record["measure"]) for record in records):
        yield [record for record in records if (record["attribute"], record["measure"]) == key]


def _settings(options: MeasureOptions) -> dict[str, Any]:
    return {
        "draws": options.draws,
        "seed": options.seed,
        "confidence": options.confidence,
        "minimum": options.minimum_group,
    }
