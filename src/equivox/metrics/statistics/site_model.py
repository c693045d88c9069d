"""All patients of all sites under all training pools in one mixed model, the site being the unit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

from equivox.metrics.statistics.cross_site import SITES_FOR_CLAIMS, Cells, TrainingPool, leave_out_pool
from equivox.metrics.statistics.mixed_model import FixedEffect, MixedModel, fit_mixed_model

ROW_TYPES: Final[tuple[str, ...]] = ("own", "away", "pool", "pool_matched", "leave_out", "leave_out_matched")
"""What a value is of, seen from its test site: its own models, those of the other single sites, and the pools."""

VOLUME: Final[str] = "lesion_volume"


@dataclass(frozen=True)
class SiteModel:
    """The mixed model of one metric; above 0 is better, whatever the metric.

    Attributes:
        sites: Test sites in it: those that models were trained at.
        patients: Patients in it.
        effects: Each row type against the own models, and the slope of the log lesion volume where it is known.
        deviations: Of the intercepts: ``site``, ``site_and_row`` and ``patient``.
        residual: Standard deviation of what is left.
    """

    sites: int
    patients: int
    effects: tuple[FixedEffect, ...]
    deviations: Mapping[str, float]
    residual: float


def model_sites(
    cells: Cells,
    log_volumes: Mapping[str, Float[np.ndarray, " _"]],
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
) -> SiteModel | None:
    """Fit value ~ row type + log lesion volume + (1 | site) + (1 | site and row type) + (1 | patient).

    A patient has one value a row type; that of other single sites' models is their mean. The intercept of site and
    row type together is not in the model that is usually written for this. Without it a difference between row types
    would be one between rows of the same patients, as if what pooling brings were the same at all sites, and its
    interval would hold for these sites alone. With it the site is the unit: intervals of row types have as many degrees
    of freedom as there are sites, less one, as a t test over sites has (more where row types vary alike over sites, so
    that these are on the safe side); that of the slope has patients, less sites, less one.

    Args:
        cells: See `Cells`.
        log_volumes: Site -> one value a patient, in the order of `cells`; NaN where it is not known (or is of 0), and
            that patient takes no part.
        higher_is_better: False turns the values.
        confidence: Of the intervals.

    Returns:
        None with fewer than 5 sites that models were trained at, or where the values leave nothing for a residual.
    """
    by_type = {site: _row_types(site, cells) for site in dict.fromkeys(site for row in cells.values() for site in row)}
    by_type = {site: rows for site, rows in by_type.items() if "own" in rows}
    known = {site: np.isfinite(log_volumes[site]) for site in by_type}
    by_type = {site: rows for site, rows in by_type.items() if known[site].any()}
    if len(by_type) < SITES_FOR_CLAIMS:
        return None
    sign = 1.0 if higher_is_better else -1.0
    values, sites, rows, patients, volumes = [], [], [], [], []
    for site, types in by_type.items():
        for kind, one in types.items():
            for place in np.flatnonzero(known[site]).tolist():
                values.append(sign * float(one[place]))
                sites.append(site)
                rows.append(kind)
                patients.append(f"{place} {site}")
                volumes.append(float(log_volumes[site][place]))
    kinds = [kind for kind in ROW_TYPES if kind in set(rows)]
    columns: dict[str, Float[np.ndarray, " _"]] = {"own": np.ones(len(values))}
    columns |= {kind: np.array([one == kind for one in rows], dtype=np.float64) for kind in kinds if kind != "own"}
    centred = np.array(volumes) - np.mean(volumes)
    if np.abs(centred).max() > 1e-9:
        columns[VOLUME] = centred
    people = len(set(patients))
    degrees = dict.fromkeys(columns, len(by_type) - 1) | {VOLUME: max(people - len(by_type) - 1, 1)}
    intercepts = {
        "site": sites,
        "site_and_row": [f"{kind} {site}" for kind, site in zip(rows, sites, strict=True)],
        "patient": patients,
    }
    found = fit_mixed_model(np.array(values), columns, intercepts, degrees=degrees, confidence=confidence)
    return None if found is None else _summary(found, len(by_type), people)


def _summary(model: MixedModel, sites: int, patients: int) -> SiteModel:
    effects = tuple(one for one in model.fixed if one.name != "own")
    return SiteModel(sites, patients, effects, model.deviations, model.residual)


def _row_types(site: str, cells: Cells) -> dict[str, Float[np.ndarray, " _"]]:
    """Return one value a patient of a site for each row type that there is."""
    left = leave_out_pool(site, list(cells))
    pools = {
        "own": TrainingPool("own", site),
        "pool": TrainingPool("pool"),
        "pool_matched": TrainingPool("pool_matched"),
        "leave_out": left or TrainingPool("leave_out", site),
        "leave_out_matched": TrainingPool("leave_out_matched", site),
    }
    found = {kind: cells[pool][site] for kind, pool in pools.items() if pool in cells and site in cells[pool]}
    others = [row[site] for pool, row in cells.items() if pool.kind == "own" and pool.site != site and site in row]
    return found | ({"away": np.mean(others, axis=0)} if others else {})
