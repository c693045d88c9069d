"""Patients with something in the scan and patients without it, among those whose lesions are alike in volume."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS
from equivox.metrics.statistics.contrast_design import Blocks
from equivox.metrics.statistics.permutation import contrast_family
from equivox.pipelines.auditing.options import AuditOptions
from equivox.pipelines.auditing.outcomes import Outcome, by_patient, over_networks
from equivox.pipelines.auditing.sources import AuditSource

_STRATA: Final = 5
_FEW_STRATA: Final = 3
_MANY: Final = 50
"""Patients from which on volume is cut into five strata, and not three."""

STRATUM: Final = "strata of lesion volume"


def shortcut_records(
    source: AuditSource, outcomes: Mapping[tuple[str, int], Outcome], options: AuditOptions
) -> dict[str, Any]:
    """Compare patients with and without each flag, matched on lesion volume.

    Patients whose references have a foreground are cut into strata of equally many by the volume of their lesions, and
    compared within the strata: differences are the mean over strata, each weighted by how many pairs of a patient with
    and one without it has, and labels are permuted within the strata. Patients without any lesion cannot be matched:
    they are negatives of both sides alike, and their false detections are told once.

    Args:
        source: Who is held out; its `shortcuts` are the flags.
        outcomes: Case and fold -> how the network segments the scan.
        options: Draws and seed.
    """
    means = over_networks(by_patient(source, outcomes))
    negatives = over_networks(by_patient(source, outcomes, positive=False))
    return {
        "flags": [_flag_record(name, source.shortcuts[name], means, source, options) for name in source.shortcuts],
        "negatives": {
            "patients": len(negatives),
            "with_false_detections": sum(one.false_detections > 0 for one in negatives.values()),
            "false_detections": _mean([one.false_detections for one in negatives.values()]),
        },
    }


def volume_strata(volumes: Float[np.ndarray, " patients"]) -> Int[np.ndarray, " patients"]:
    """Return the stratum of each volume from 0: five of equally many patients, or three of fewer than 50.

    Equal volumes are never parted, so there can be fewer.

    Example:
        >>> volume_strata(np.array([5.0, 1.0, 3.0, 3.0, 9.0, 7.0]))
        array([1, 0, 0, 0, 2, 2])
    """
    count = _STRATA if len(volumes) >= _MANY else _FEW_STRATA
    edges = np.quantile(volumes, np.arange(1, count) / count, method="inverted_cdf")
    strata: np.ndarray = np.unique(np.searchsorted(edges, volumes, side="left"), return_inverse=True)[1]
    return strata


def _flag_record(
    flag: str,
    groups: Mapping[str, str],
    means: Mapping[str, Outcome],
    source: AuditSource,
    options: AuditOptions,
) -> dict[str, Any]:
    without, having = source.cohort.config.attributes[flag].sort_groups(groups.values())
    patients = [patient for patient in means if patient in groups]
    inside = np.array([groups[patient] == having for patient in patients], dtype=bool)
    volumes = np.array([means[patient].volume for patient in patients], dtype=np.float64)
    counts = {"patients_with": int(inside.sum()), "patients_without": int((~inside).sum())}
    record: dict[str, Any] = {"flag": flag, "with": having, "without": without, **counts, "reason": ""}
    if min(counts.values()) < MINIMUM_PATIENTS:
        reason = f"fewer than {MINIMUM_PATIENTS} patients with a lesion on a side"
        return record | {"reason": reason, "strata": [], "volume_ratio": None, "scores": []}
    strata = volume_strata(volumes)
    scores = {
        "Dice": np.array([means[patient].dice for patient in patients], dtype=np.float64),
        "lesion recall": np.array([means[patient].recall for patient in patients], dtype=np.float64),
    }
    rows = []
    for stratum in range(int(strata.max()) + 1):
        here = strata == stratum
        row: dict[str, Any] = {"low": float(volumes[here].min()), "high": float(volumes[here].max())}
        for side, chosen in (("with", here & inside), ("without", here & ~inside)):
            row[f"patients_{side}"] = int(chosen.sum())
            row |= {f"{name} {side}": _mean(values[chosen].tolist()) for name, values in scores.items()}
        rows.append(row)
    return record | {
        "strata": rows,
        "volume_ratio": _volume_ratio(volumes, inside, strata),
        "scores": [
            {"score": name, **_matched(flag, having, values, inside, strata, options)}
            for name, values in scores.items()
        ],
    }


def _matched(
    flag: str,
    having: str,
    values: Float[np.ndarray, " patients"],
    inside: np.ndarray,
    strata: Int[np.ndarray, " patients"],
    options: AuditOptions,
) -> dict[str, Any]:
    named = [having if one else "" for one in inside.tolist()]
    blocks = Blocks(STRATUM, tuple(map(str, strata.tolist())))
    family = contrast_family(values, {flag: named}, blocks=blocks, draws=options.draws, seed=options.seed)
    contrast = next((one for one in family.contrasts if one.group == having), None)
    return {
        "mean_with": float(values[inside].mean()),
        "mean_without": float(values[~inside].mean()),
        "raw": float(values[inside].mean() - values[~inside].mean()),
        "compared_with": contrast and contrast.patients,
        "compared_without": contrast and contrast.rest_patients,
        "difference": contrast and contrast.difference,
        "low": contrast and contrast.low,
        "high": contrast and contrast.high,
        "p": contrast and contrast.p_adjusted,
    }


def _volume_ratio(
    volumes: Float[np.ndarray, " patients"], inside: np.ndarray, strata: Int[np.ndarray, " patients"]
) -> float | None:
    """Return how many times as large the lesions with the flag are within the strata: what matching leaves."""
    parts = []
    for stratum in range(int(strata.max()) + 1):
        own, rest = (np.log(volumes[(strata == stratum) & side]) for side in (inside, ~inside))
        if len(own) and len(rest):
            parts.append((len(own) * len(rest) / (len(own) + len(rest)), own.mean() - rest.mean()))
    if not parts:
        return None
    weights, apart = np.array(parts).T
    return math.exp(float(weights @ apart / weights.sum()))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if len(values) else None
