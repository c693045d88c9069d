"""From the scores of all models to the summary of the comparison and its tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from equivox.metrics.statistics.bootstrap import mean_interval
from equivox.metrics.statistics.contrast_design import Blocks
from equivox.metrics.statistics.cross_site import (
    SITES_FOR_CLAIMS,
    Cells,
    CrossSiteSummary,
    TrainingPool,
    at_equal_case_mix,
    gap_values,
    over_sites,
    summarise_sites,
)
from equivox.metrics.statistics.permutation import contrast_family
from equivox.metrics.statistics.site_model import model_sites
from equivox.pipelines.cross_site_config import CrossSiteConfig
from equivox.pipelines.crossing.cells import Cell
from equivox.pipelines.crossing.measures import MEASURES, asked_of, label_of, output_key
from equivox.pipelines.crossing.sites import Sites
from equivox.pipelines.evaluation.lesions import describe_lesions
from equivox.pipelines.patient_summary import interval_ends

_BOUNDS = {"fraction": (0.0, 1.0), "distance": (0.0, math.inf), "count": (0.0, math.inf), "volume": (0.0, math.inf)}

GROUP_COLUMNS = ("attribute", "group", "scope", "site", "patients", "mean", "difference", "low", "high", "p_adjusted")
"""Of `groups.csv`. The scope is ``all`` sites, ``within`` sites (patients of a site with one another, all sites
together), or one ``site``."""


def patient_table(cells: Iterable[Cell]) -> pd.DataFrame:
    """Return `patients.csv`: one row a model, patient and metric."""
    parts = []
    for cell in cells:
        model = cell.model
        parts.append(cell.scores.assign(row=model.pool.name, model=model.name, fold=model.fold, draw=model.draw))
    table = pd.concat(parts, ignore_index=True)
    table["draw"] = table["draw"].astype("Int64")
    order = ["row", "model", "fold", "draw", "patient_id", "site", "metric", "value"]
    return table[order]


def site_cells(
    cells: Sequence[Cell], sites: Sequence[str], metric: str
) -> tuple[Cells, dict[str, tuple[str, ...]], dict[str, list[str]]]:
    """Return one value a patient for each row and site: the mean over the row's models that the patient is a test for.

    Every contrast is paired, so that a patient without a value in one row is left out of all of them.

    Args:
        cells: All models.
        sites: All sites.
        metric: As `output_key` names it.

    Returns:
        The values, the patients of each site in their order, and those left out.
    """
    pools = list(dict.fromkeys(cell.model.pool for cell in cells))
    values: dict[TrainingPool, dict[str, pd.Series[float]]] = {}
    tested: dict[str, set[str]] = {site: set() for site in sites}
    for pool in pools:
        own = [cell for cell in cells if cell.model.pool == pool]
        table = pd.concat([cell.scores for cell in own], ignore_index=True)
        table = table[table["metric"] == metric]
        values[pool] = {
            site: table[table["site"] == site].groupby("patient_id", sort=True)["value"].mean() for site in sites
        }
        for cell in own:
            for site, patients in cell.model.tested.items():
                tested[site] |= set(patients)
    common = {
        site: tuple(sorted(set.intersection(*(set(values[pool][site].index) for pool in pools)))) for site in sites
    }
    left_out = {site: sorted(tested[site] - set(common[site])) for site in sites}
    arrays = {
        pool: {
            site: values[pool][site].reindex(list(common[site])).to_numpy(dtype=np.float64)
            for site in sites
            if common[site]
        }
        for pool in pools
    }
    return arrays, common, {site: names for site, names in left_out.items() if names}


def summarise_metric(
    cells: Sequence[Cell], sites: Sites, metric: str, unit: str, config: CrossSiteConfig
) -> dict[str, Any]:
    """Return everything about one metric as plain values.

    Args:
        cells: All models.
        sites: The sites and their patients.
        metric: A key of `MEASURES`.
        unit: Of it.
        config: Draws, seeds.
    """
    arrays, patients, left_out = site_cells(cells, sites.names, output_key(metric))
    definition = MEASURES[metric]
    higher = definition.better == "high"
    found = summarise_sites(
        arrays,
        higher_is_better=higher,
        draws=config.bootstrap_draws,
        flips=config.permutation_draws,
        seed=config.seed,
        confidence=config.confidence,
        minimum=config.minimum_group,
    )
    gaps = [one.gap for one in found.sites if one.gap is not None]
    covariates = _covariates(patients, sites, (*config.case_mix, "lesion_volume"))
    mean, interval = over_sites(gaps, config.confidence) if gaps else (None, None)
    return {
        "metric": output_key(metric),
        "label": label_of(
            metric,
            tolerance=config.tolerance,
            wide_tolerance=config.wide_tolerance,
            length_unit="voxels" if sites.in_voxels else "mm",
        ),
        "kind": definition.kind,
        "unit": unit,
        "details": definition.details,
        "better": "high" if higher else "low",
        "rows": [_matrix_row(pool, found, arrays, sites, definition.kind, config) for pool in arrays],
        "sites": [asdict(one) for one in found.sites],
        "contrasts": [asdict(one) for one in found.contrasts],
        "worst": None if found.worst is None else dict(zip(("trained", "tested", "mean"), found.worst, strict=True)),
        "over_sites": None if mean is None else {"gap": mean, "sites": len(gaps), **interval_ends(interval)},
        "mixed_model": _mixed_model(arrays, covariates["lesion_volume"], config, higher_is_better=higher),
        "case_mix": _case_mix(arrays, {name: covariates[name] for name in config.case_mix}, higher_is_better=higher),
        "left_out": left_out,
    }


def lesion_rules(sites: Sites, config: CrossSiteConfig) -> list[str]:
    """Say in sentences how lesions were told apart and matched; nothing where no metric counts them."""
    if not asked_of(config.metrics, "lesions"):
        return []
    volume, length = ("voxels", "voxels") if sites.in_voxels else ("ml", "mm")
    return describe_lesions(config.lesions, volume_unit=volume, length_unit=length)


def _matrix_row(
    pool: TrainingPool,
    found: CrossSiteSummary,
    arrays: Cells,
    sites: Sites,
    kind: str,
    config: CrossSiteConfig,
) -> dict[str, Any]:
    cells = {}
    for site in sites.names:
        values = arrays[pool].get(site)
        if values is None:
            continue
        interval = mean_interval(
            values,
            draws=config.bootstrap_draws,
            seed=config.seed,
            confidence=config.confidence,
            minimum=config.minimum_group,
            bounds=_BOUNDS.get(kind, (-math.inf, math.inf)),
        )
        home = found.means.get(TrainingPool("own", site), {}).get(site)
        mean = found.means[pool][site]
        against = None if home is None else (mean - home)
        cells[site] = {"mean": mean, **interval_ends(interval), "patients": len(values), "against_own": against}
    return {
        "row": pool.name,
        "kind": pool.kind,
        "site": pool.site,
        "cells": cells,
        "macro": found.macro[pool],
        "micro": found.micro[pool],
    }


def _covariates(
    patients: Mapping[str, Sequence[str]], sites: Sites, wanted: Sequence[str]
) -> dict[str, dict[str, Float[np.ndarray, " _"]]]:
    """Return log volume and slice thickness of the patients; a volume of 0 has no logarithm."""
    found: dict[str, dict[str, Float[np.ndarray, " _"]]] = {}
    for name in wanted:
        found[name] = {}
        for site, names in patients.items():
            if name == "lesion_volume":
                volumes = np.array([sites.patient_volume(one) for one in names], dtype=np.float64)
                found[name][site] = np.log(volumes, out=np.full(len(volumes), np.nan), where=volumes > 0)
            else:
                found[name][site] = np.array([sites.patient_thickness(one) for one in names], dtype=np.float64)
    return found


def _mixed_model(
    arrays: Cells,
    log_volumes: Mapping[str, Float[np.ndarray, " _"]],
    config: CrossSiteConfig,
    *,
    higher_is_better: bool,
) -> dict[str, Any] | None:
    found = model_sites(arrays, log_volumes, higher_is_better=higher_is_better, confidence=config.confidence)
    return None if found is None else asdict(found)


def _case_mix(
    arrays: Cells,
    covariates: Mapping[str, Mapping[str, Float[np.ndarray, " _"]]],
    *,
    higher_is_better: bool,
) -> dict[str, Any]:
    own = {site: row[site] for pool, row in arrays.items() if pool.kind == "own" for site in row if site == pool.site}
    found: dict[str, Any] = {}
    for name, values in (("gap", gap_values(arrays, 1.0 if higher_is_better else -1.0)), ("in_domain", own)):
        columns = {one: {site: by_site[site] for site in values} for one, by_site in covariates.items()}
        mix = at_equal_case_mix(values, columns)
        found[name] = None if mix is None else asdict(mix)
    return found


def group_table(cells: Sequence[Cell], sites: Sites, config: CrossSiteConfig) -> list[dict[str, Any]]:
    """Return each group's mean of the endpoint, and its difference to the rest: over all sites, within sites, at each.

    Of the models of all sites where there are such, else of each site's own. What is left of a difference within sites
    is none between the sites, whose patients are of the groups in other shares.
    """
    metric = output_key(config.metrics[0])
    arrays, patients, _ = site_cells(cells, sites.names, metric)
    pooled = TrainingPool("pool")
    rows: list[dict[str, Any]] = []
    for attribute, by_patient in sites.attributes.items():
        parts: list[tuple[str, list[str], Float[np.ndarray, " _"]]] = []
        for site, there in patients.items():
            pool = pooled if pooled in arrays else TrainingPool("own", site)
            if there and pool in arrays:
                parts.append((site, list(there), arrays[pool][site]))
        if not parts:
            continue
        people = [(site, one) for site, names, _ in parts for one in names]
        values = np.concatenate([one for _, _, one in parts])
        blocks = Blocks("site", tuple(site for site, _ in people))
        scopes: list[tuple[str, str, list[str], Float[np.ndarray, " _"], Blocks | None]] = []
        scopes += [("all", "", [one for _, one in people], values, None)]
        scopes += [("within", "", [one for _, one in people], values, blocks)] if len(parts) > 1 else []
        scopes += [("site", site, names, own, None) for site, names, own in parts]
        for scope, site, names, own, within in scopes:
            groups = [by_patient.get(one) for one in names]
            family = contrast_family(
                own,
                {attribute: groups},
                blocks=within,
                minimum=config.minimum_group,
                draws=config.permutation_draws,
                seed=config.seed,
                confidence=config.confidence,
                bounds=(-np.inf, np.inf),
            )
            tested = {one.group: one for one in family.contrasts}
            for group in sites.orders[attribute]:
                mine = own[np.array([one == group for one in groups], dtype=bool)]
                found = tested.get(group)
                rows.append(
                    {
                        "attribute": attribute,
                        "group": group,
                        "scope": scope,
                        "site": site or None,
                        # Within sites: those whose site has patients of the rest too.
                        "patients": found.patients if found and within else len(mine),
                        "mean": float(mine.mean()) if len(mine) else None,
                        "difference": found.difference if found else None,
                        "low": found.low if found else None,
                        "high": found.high if found else None,
                        "p_adjusted": found.p_adjusted if found else None,
                    }
                )
    return rows


def matrix_table(metric: Mapping[str, Any], sites: Sequence[str]) -> pd.DataFrame:
    """Return `matrix_<metric>.csv`: one row a training pool, one column a test site."""
    rows = []
    for row in metric["rows"]:
        cells = {site: row["cells"].get(site, {}).get("mean") for site in sites}
        rows.append({"row": row["row"], **cells, "macro": row["macro"], "micro": row["micro"]})
    return pd.DataFrame(rows, columns=["row", *sites, "macro", "micro"])


def contrast_table(metrics: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return `contrasts.csv`: one row a metric, site and contrast."""
    columns = ("metric", "kind", "site", "patients", "difference", "low", "high", "p", "p_adjusted")
    rows = [{"metric": metric["metric"], **one} for metric in metrics for one in metric["contrasts"]]
    return pd.DataFrame(rows, columns=list(columns))


def site_rows(sites: Sites) -> list[dict[str, Any]]:
    """Return what is known of each site's patients."""
    rows = []
    for site in sites.names:
        patients = sites.patients(site)
        volumes = [sites.patient_volume(one) for one in patients]
        thickness = [sites.patient_thickness(one) for one in patients]
        known = [one for one in thickness if math.isfinite(one)]
        rows.append(
            {
                "site": site,
                "trained": site in sites.trained,
                "patients": len(patients),
                "cases": sum(case.site == site for case in sites.cases),
                "volume": {
                    name: float(np.quantile(volumes, at)) for name, at in (("q1", 0.25), ("median", 0.5), ("q3", 0.75))
                },
                "thickness_mm": float(np.median(known)) if known else None,
                "label_protocols": list(sites.protocols.get(site, ())),
            }
        )
    return rows


def population_claim(sites: Sites) -> bool:
    """Tell whether there are sites enough to say something of sites that were not seen."""
    return len(sites.trained) >= SITES_FOR_CLAIMS


__all__ = [
    "GROUP_COLUMNS",
    "contrast_table",
    "group_table",
    "lesion_rules",
    "matrix_table",
    "patient_table",
    "population_claim",
    "site_cells",
    "site_rows",
    "summarise_metric",
]
