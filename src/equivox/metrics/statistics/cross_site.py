"""What models trained at some sites are worth at others: the summary of a matrix of training pools by test sites."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, Interval, mean_interval
from equivox.metrics.statistics.paired import holm, sign_flip_p

PoolKind = Literal["own", "pool", "pool_matched", "leave_out", "leave_out_matched"]
ContrastKind = Literal["gap", "pooling_gain", "leave_out_gap", "matched_pooling_gain"]

FAMILY: Final[tuple[ContrastKind, ...]] = ("gap", "pooling_gain", "leave_out_gap")
"""The contrasts that are declared beforehand and adjusted together; the size-matched gain is exploratory."""

SITES_FOR_CLAIMS: Final = 5
"""With fewer sites nothing is said of sites that were not seen."""

Cells = Mapping["TrainingPool", Mapping[str, Float[np.ndarray, " _"]]]
"""Training pool -> test site -> one value a patient, the same patients in the same order for every pool."""


@dataclass(frozen=True)
class TrainingPool:
    """Whose patients a row's models were trained on.

    Attributes:
        kind: ``own`` is one site; ``pool`` all; ``leave_out`` all but one; the matched ones are as small as one site.
        site: The one site, or the one that is left out; None for all.
    """

    kind: PoolKind
    site: str | None = None

    @property
    def name(self) -> str:
        """A short name for tables.

        Example:
            >>> TrainingPool("own", "Bern").name, TrainingPool("leave_out", "Bern").name, TrainingPool("pool").name
            ('own: Bern', 'leave out: Bern', 'pool')
        """
        words = self.kind.replace("_", " ")
        return words if self.site is None else f"{words}: {self.site}"


@dataclass(frozen=True)
class SiteSummary:
    """One test site. Differences are turned so that above 0 is better, whatever the metric; means are as they are.

    Attributes:
        site: Its name.
        patients: Patients who are scored there.
        in_domain: D_jj, the mean of the site's own models; None where the site is for testing only.
        external: E_j, the mean over the other sites' models.
        gap: D_jj - E_j.
        pooled: Of the models of all sites.
        pooling_gain: Pooled - D_jj.
        matched: Of the models of all sites with as many patients as one site has.
        matched_pooling_gain: Matched - D_jj: what comes of diversity and not of size.
        leave_out: Of the models of all sites but this one.
        leave_out_gap: Pooled - leave-out.
        difficulty: T_j, the mean over all single-site models.
        source_quality: Q_j, the mean of this site's models over the other sites that models were trained at.
    """

    site: str
    patients: int
    in_domain: float | None
    external: float | None
    gap: float | None
    pooled: float | None
    pooling_gain: float | None
    matched: float | None
    matched_pooling_gain: float | None
    leave_out: float | None
    leave_out_gap: float | None
    difficulty: float | None
    source_quality: float | None


@dataclass(frozen=True)
class SiteContrast:
    """One difference between training pools, on the same patients of one site; above 0 the first is better.

    Attributes:
        kind: See `SiteSummary`.
        site: The test site.
        patients: Scored by both.
        difference: Mean over patients.
        low: Lower end of the bootstrap-t interval over patients; None with too few, as for the others.
        high: Upper end.
        p: Of the sign-flip test over patients.
        p_adjusted: By Holm over the family; None for what is not in it.
    """

    kind: ContrastKind
    site: str
    patients: int
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None = None


@dataclass(frozen=True)
class CrossSiteSummary:
    """The summary of one metric.

    Attributes:
        means: Training pool -> site -> mean over patients; sites without a scored patient are missing.
        macro: Training pool -> mean of the sites' means.
        micro: Training pool -> mean over all patients.
        sites: One entry a test site.
        contrasts: Site by site.
        worst: Training site, test site and mean of the worst single-site model away from home; None without one.
    """

    means: Mapping[TrainingPool, Mapping[str, float]]
    macro: Mapping[TrainingPool, float | None]
    micro: Mapping[TrainingPool, float | None]
    sites: tuple[SiteSummary, ...]
    contrasts: tuple[SiteContrast, ...]
    worst: tuple[str, str, float] | None


def summarise_sites(
    cells: Cells,
    *,
    higher_is_better: bool = True,
    draws: int = 2000,
    flips: int = 9999,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
) -> CrossSiteSummary:
    """Summarise how models of each training pool do at each site.

    All pools are compared on the same patients of a site, so that every contrast is paired: its interval resamples
    the patients' differences and its test flips their signs. With two sites, leaving one out is training on the other:
    the own row of the other site then stands for it.

    Args:
        cells: See `Cells`; the rows of kind ``own`` tell which sites have models of their own.
        higher_is_better: False turns the differences, so that above 0 stays better.
        draws: Resamples behind the intervals.
        flips: Of signs behind the tests.
        seed: Of both; each site uses the same.
        confidence: Of the intervals.
        minimum: With fewer patients a contrast has neither interval nor test.

    Raises:
        InputError: If two pools have another number of patients at one site, or a value is missing.

    Example:
        >>> here, there = TrainingPool("own", "A"), TrainingPool("own", "B")
        >>> one = lambda value: np.array([value])
        >>> found = summarise_sites({here: {"A": one(0.8), "B": one(0.5)}, there: {"A": one(0.6), "B": one(0.9)}})
        >>> [round(site.gap, 6) for site in found.sites], found.worst
        ([0.2, 0.4], ('A', 'B', 0.5))
    """
    _check(cells)
    means = {pool: {site: float(v.mean()) for site, v in row.items() if len(v)} for pool, row in cells.items()}
    sites = list(dict.fromkeys(site for row in cells.values() for site in row))
    sign = 1.0 if higher_is_better else -1.0
    summaries = tuple(_summarise(site, cells, means, sign) for site in sites)
    contrasts: list[SiteContrast] = []
    for site in sites:
        for kind, (first, second) in _pairs(site, cells).items():
            difference = sign * (first - second)
            # What rounding leaves of a difference of exactly zero favours nobody.
            difference[np.abs(difference) <= 1e-12 * np.abs(np.concatenate([first, second])).max(initial=0.0)] = 0.0
            n = len(difference)
            if not n:
                continue
            interval = mean_interval(difference, draws=draws, seed=seed, confidence=confidence, minimum=minimum)
            p = sign_flip_p(difference, flips=flips, seed=seed) if n >= minimum else None
            low, high = (None, None) if interval is None else (interval.low, interval.high)
            contrasts.append(SiteContrast(kind, site, n, float(difference.mean()), low, high, p))
    return CrossSiteSummary(
        means=means,
        macro={pool: _mean(list(row.values())) for pool, row in means.items()},
        micro={pool: _mean([float(one) for v in row.values() for one in v]) for pool, row in cells.items()},
        sites=summaries,
        contrasts=_adjusted(contrasts),
        worst=_worst(means, higher_is_better=higher_is_better),
    )


def leave_out_pool(site: str, pools: Sequence[TrainingPool]) -> TrainingPool | None:
    """Return the pool that has all sites but one; with two sites the own pool of the other, None where there is none.

    Example:
        >>> leave_out_pool("A", [TrainingPool("own", "A"), TrainingPool("own", "B")])
        TrainingPool(kind='own', site='B')
    """
    wanted = TrainingPool("leave_out", site)
    if wanted in pools:
        return wanted
    own = [pool for pool in pools if pool.kind == "own"]
    others = [pool for pool in own if pool.site != site]
    return others[0] if len(own) == 2 and len(others) == 1 else None


def over_sites(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, Interval | None]:
    """Return the mean over sites and its t interval, the site being the unit; no interval with fewer than 5 sites.

    Example:
        >>> over_sites([0.1, 0.3])[1] is None
        True
    """
    values = np.array(differences, dtype=np.float64)
    n, mean = len(values), float(values.mean())
    if n < SITES_FOR_CLAIMS:
        return mean, None
    half = float(stdtrit(n - 1, 0.5 + confidence / 2) * values.std(ddof=1) / np.sqrt(n))
    return mean, Interval(mean - half, mean + half)


@dataclass(frozen=True)
class CaseMix:
    """A quantity by site, as it is and at the same case mix.

    Attributes:
        patients: Site -> patients with all covariates.
        before: Site -> their mean.
        after: Site -> what the mean would be at the average of the covariates over all patients.
        used: Covariates that it is adjusted for.
        dropped: Covariates that it cannot be adjusted for -> why.
    """

    patients: Mapping[str, int]
    before: Mapping[str, float]
    after: Mapping[str, float]
    used: tuple[str, ...]
    dropped: Mapping[str, str]


def at_equal_case_mix(
    values: Mapping[str, Float[np.ndarray, " _"]],
    covariates: Mapping[str, Mapping[str, Float[np.ndarray, " _"]]],
) -> CaseMix | None:
    """Regress out covariates with one slope for all sites, and return each site's mean at their overall average.

    The adjusted number stands beside the raw one and never replaces it: a site may see small lesions because of how it
    images them. A covariate that does not vary within any site cannot be told from the site and is dropped.

    Args:
        values: Site -> one value a patient.
        covariates: Name -> site -> one value a patient; NaN where it is not known.

    Returns:
        None where no covariate is left, or there are fewer than 5 patients for each column.
    """
    sites = [site for site, one in values.items() if len(one)]
    if not sites:
        return None
    place = np.concatenate([np.full(len(values[site]), index) for index, site in enumerate(sites)])
    y = np.concatenate([values[site].astype(np.float64) for site in sites])
    columns = {name: np.concatenate([by_site[site] for site in sites]) for name, by_site in covariates.items()}
    dropped = {name: "not known" for name, one in columns.items() if not np.isfinite(one).any()}
    columns = {name: one for name, one in columns.items() if name not in dropped}
    known = np.isfinite(y)
    for one in columns.values():
        known &= np.isfinite(one)
    if not known.any():
        return None
    y, place = y[known], place[known]
    dummies = (place[:, None] == np.arange(len(sites))).astype(np.float64)
    design = dummies[:, dummies.any(axis=0)]
    used = []
    for name, one in columns.items():
        centred = one[known] - one[known].mean()
        wider = np.column_stack([design, centred])
        if np.linalg.matrix_rank(wider) == wider.shape[1]:
            design = wider
            used.append(name)
        else:
            dropped[name] = "the same for all patients of a site, so it cannot be told from the site"
    if not used or len(y) < 5 * design.shape[1]:
        return None
    weights = np.linalg.lstsq(design, y, rcond=None)[0]
    present = [site for index, site in enumerate(sites) if dummies[:, index].any()]
    rows = {site: dummies[:, sites.index(site)] > 0 for site in present}
    return CaseMix(
        patients={site: int(rows[site].sum()) for site in present},
        before={site: float(y[rows[site]].mean()) for site in present},
        after={site: float(weights[index]) for index, site in enumerate(present)},
        used=tuple(used),
        dropped=dropped,
    )


def gap_values(cells: Cells, sign: float = 1.0) -> dict[str, Float[np.ndarray, " _"]]:
    """Return for each site with models of its own the patients' gaps: own model minus the mean of the others'."""
    found = {}
    for site in dict.fromkeys(site for row in cells.values() for site in row):
        pair = _pairs(site, cells).get("gap")
        if pair is not None:
            found[site] = sign * (pair[0] - pair[1])
    return found


def _check(cells: Cells) -> None:
    lengths: dict[str, int] = {}
    for pool, row in cells.items():
        for site, values in row.items():
            if lengths.setdefault(site, len(values)) != len(values):
                msg = (
                    f"site '{site}': expected {lengths[site]} patients in the row '{pool.name}' as in the others, got "
                    f"{len(values)}; keep the patients that every row has"
                )
                raise InputError(msg)
            if not np.isfinite(values).all():
                msg = f"site '{site}': expected a value of each patient in the row '{pool.name}', got a missing one"
                raise InputError(f"{msg}; leave that patient out of all rows")


def _pairs(site: str, cells: Cells) -> dict[ContrastKind, tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]]:
    """Return the two sides of each contrast at a site, patient by patient."""

    def of(pool: TrainingPool | None) -> Float[np.ndarray, " _"] | None:
        return None if pool is None else cells.get(pool, {}).get(site)

    own = of(TrainingPool("own", site))
    others = [row[site] for pool, row in cells.items() if pool.kind == "own" and pool.site != site and site in row]
    sides: dict[ContrastKind, tuple[Float[np.ndarray, " _"] | None, Float[np.ndarray, " _"] | None]] = {
        "gap": (own, np.mean(others, axis=0) if others else None),
        "pooling_gain": (of(TrainingPool("pool")), own),
        "leave_out_gap": (of(TrainingPool("pool")) if own is not None else None, of(leave_out_pool(site, list(cells)))),
        "matched_pooling_gain": (of(TrainingPool("pool_matched")), own),
    }
    return {kind: (a, b) for kind, (a, b) in sides.items() if a is not None and b is not None}


def _summarise(site: str, cells: Cells, means: Mapping[TrainingPool, Mapping[str, float]], sign: float) -> SiteSummary:
    own_rows = {pool.site: row for pool, row in means.items() if pool.kind == "own"}
    in_domain = own_rows.get(site, {}).get(site)
    external = _mean([row[site] for source, row in own_rows.items() if source != site and site in row])
    pooled = means.get(TrainingPool("pool"), {}).get(site)
    matched = means.get(TrainingPool("pool_matched"), {}).get(site)
    left = leave_out_pool(site, list(cells))
    leave_out = None if left is None else means[left].get(site)

    def better(first: float | None, second: float | None) -> float | None:
        return None if first is None or second is None else sign * (first - second)

    return SiteSummary(
        site=site,
        patients=next(len(row[site]) for row in cells.values() if site in row),
        in_domain=in_domain,
        external=external,
        gap=better(in_domain, external),
        pooled=pooled,
        pooling_gain=better(pooled, in_domain),
        matched=matched,
        matched_pooling_gain=better(matched, in_domain),
        leave_out=leave_out,
        leave_out_gap=better(pooled, leave_out),
        difficulty=_mean([row[site] for row in own_rows.values() if site in row]),
        source_quality=_mean(
            [value for other, value in own_rows.get(site, {}).items() if other in own_rows and other != site]
        ),
    )


def _adjusted(contrasts: Sequence[SiteContrast]) -> tuple[SiteContrast, ...]:
    tested = [one for one in contrasts if one.kind in FAMILY and one.p is not None]
    found = iter(holm([one.p for one in tested if one.p is not None]))
    return tuple(replace(one, p_adjusted=next(found)) if one in tested else one for one in contrasts)


def _worst(
    means: Mapping[TrainingPool, Mapping[str, float]], *, higher_is_better: bool
) -> tuple[str, str, float] | None:
    away = [
        (pool.site, site, value)
        for pool, row in means.items()
        for site, value in row.items()
        if pool.kind == "own" and pool.site is not None and pool.site != site
    ]
    choose = min if higher_is_better else max
    return choose(away, key=lambda one: one[2]) if away else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
