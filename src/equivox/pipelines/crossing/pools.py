"""Folds of each site, and the models of each row: whom each is trained on and whom it is tested on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from equivox.errors import InputError
from equivox.metrics.statistics.cross_site import TrainingPool
from equivox.pipelines.cross_site_config import CrossSiteConfig
from equivox.pipelines.crossing.sites import Sites
from equivox.reports.file_stem import file_stem


@dataclass(frozen=True)
class Model:
    """One training: a row, a fold of it and, where it is size-matched, a draw.

    Attributes:
        name: Of its folder.
        pool: The row.
        fold: Patients of this fold of the pool's sites are not trained on.
        draw: Of a size-matched row; None for others.
        patients: Trained on, sorted.
        curve_patient: One of them, set aside for the training's curve; nothing is chosen by it.
        tested: Site -> patients to test on, sorted.
    """

    name: str
    pool: TrainingPool
    fold: int
    draw: int | None
    patients: tuple[str, ...]
    curve_patient: str
    tested: Mapping[str, tuple[str, ...]]

    @property
    def words(self) -> str:
        """What it is, for a reader."""
        draw = "" if self.draw is None else f", draw {self.draw}"
        return f"{self.pool.name}, fold {self.fold}{draw}"


def site_folds(volumes: Mapping[str, float], folds: int, seed: int) -> dict[str, int]:
    """Deal the patients of one site into folds, each with its share of small, medium and large lesions.

    The result depends on the patients, their volumes and the seed, and not on the name of the site.

    Args:
        volumes: Patient -> volume.
        folds: How many; their sizes differ by one at most.
        seed: Chooses another deal.

    Example:
        >>> folds = site_folds({f"p{n}": float(n) for n in range(6)}, 2, seed=0)
        >>> sorted(folds.values())
        [0, 0, 0, 1, 1, 1]
    """
    rng = np.random.default_rng([seed, 2])
    ordered = sorted(volumes, key=lambda patient: (volumes[patient], patient))
    thirds = [ordered[place * len(ordered) // 3 : (place + 1) * len(ordered) // 3] for place in range(3)]
    dealt = [third[index] for third in thirds for index in rng.permutation(len(third)).tolist()]
    return {patient: place % folds for place, patient in enumerate(dealt)}


def all_folds(sites: Sites, config: CrossSiteConfig) -> dict[str, int | None]:
    """Return patient -> fold for every site; None at sites that are for testing only, which are tested on whole."""
    found: dict[str, int | None] = {}
    for site in sites.names:
        patients = sites.patients(site)
        if site in sites.trained:
            found |= site_folds({one: sites.patient_volume(one) for one in patients}, config.folds, config.seed)
        else:
            found |= dict.fromkeys(patients)
    return found


def models_of(sites: Sites, folds: Mapping[str, int | None], config: CrossSiteConfig) -> tuple[Model, ...]:
    """Return every training, row by row.

    Raises:
        InputError: If a patient would be trained and tested on.
    """
    models = []
    slugs = _slugs(sites.trained)
    for pool in pools_of(sites.trained, config):
        matched = pool.kind.endswith("_matched")
        for fold in config.trained_folds:
            for draw in range(config.matched_draws) if matched else (None,):
                name = pool.kind + ("" if pool.site is None else f"-{slugs[pool.site]}") + f"-fold{fold}"
                name += "" if draw is None else f"-draw{draw}"
                patients = _trained_on(pool, fold, draw, sites, folds, config)
                rng = np.random.default_rng([config.seed, 3, fold])
                curve = patients[int(rng.integers(len(patients)))]
                tested = {
                    site: _tested_on(site, site in _sites_of(pool, sites.trained), fold, sites, folds, config)
                    for site in sites.names
                }
                models.append(Model(name, pool, fold, draw, patients, curve, tested))
    for model in models:
        refuse_leakage(model)
    return tuple(models)


def pools_of(trained: Sequence[str], config: CrossSiteConfig) -> list[TrainingPool]:
    """Return the rows of the matrix; with two sites none that leaves one out, as it would be the other's own."""
    pools = []
    for kind in config.kinds:
        if kind in ("pool", "pool_matched"):
            pools.append(TrainingPool(kind))
        elif kind == "own" or len(trained) > 2:
            pools += [TrainingPool(kind, site) for site in trained]
    return pools


def refuse_leakage(model: Model) -> None:
    """Refuse a model that would be tested on a patient whom it was trained on.

    Raises:
        InputError: If there is such a patient.
    """
    for site, patients in model.tested.items():
        both = sorted(set(model.patients) & set(patients))
        if both:
            msg = (
                f"{model.words}: expected no patient both in training and in the test at '{site}', got '{both[0]}', "
                "which is leakage; split by patient"
            )
            raise InputError(msg)


def _sites_of(pool: TrainingPool, trained: Sequence[str]) -> tuple[str, ...]:
    if pool.kind == "own":
        return tuple(site for site in trained if site == pool.site)
    return tuple(site for site in trained if site != pool.site)


def _trained_on(
    pool: TrainingPool,
    fold: int,
    draw: int | None,
    sites: Sites,
    folds: Mapping[str, int | None],
    config: CrossSiteConfig,
) -> tuple[str, ...]:
    by_site = {
        site: [patient for patient in sites.patients(site) if folds[patient] != fold]
        for site in _sites_of(pool, sites.trained)
    }
    if draw is None:
        return tuple(sorted(patient for patients in by_site.values() for patient in patients))
    size = matched_size([sum(folds[patient] != fold for patient in sites.patients(site)) for site in sites.trained])
    return draw_matched(list(by_site.values()), size, seed=(config.seed, 4, fold, draw))


def matched_size(sizes: Sequence[int]) -> int:
    """Return how many patients a size-matched pool has: the median of the single sites, rounded down.

    Example:
        >>> matched_size([16, 21, 40]), matched_size([16, 21])
        (21, 18)
    """
    return math.floor(median(sizes))


def draw_matched(pools: Sequence[Sequence[str]], size: int, *, seed: tuple[int, ...]) -> tuple[str, ...]:
    """Draw exactly `size` patients, from each site its share (by largest remainder, one at least); all if too few.

    Args:
        pools: The patients of each site.
        size: How many in all.
        seed: Chooses them.

    Example:
        >>> drawn = draw_matched([["a1", "a2"], ["b1", "b2", "b3", "b4"]], 3, seed=(0,))
        >>> [name[0] for name in drawn]
        ['a', 'b', 'b']
    """
    total = sum(map(len, pools))
    size = min(size, total)
    # By the first patient and not by the name or the place of the site, so that renaming sites changes nothing.
    order = sorted(pools, key=lambda patients: min(patients, default=""))
    shares = [size * len(patients) / total for patients in order]
    counts = [math.floor(share + 1e-9) for share in shares]
    if size >= len(order):
        counts = [max(1, count) for count in counts]
    while sum(counts) != size:
        # One more to whom most is owed, or one less from whom most is taken.
        owed = [share - count for share, count in zip(shares, counts, strict=True)]
        step = 1 if sum(counts) < size else -1
        open_places = [
            place
            for place, (count, patients) in enumerate(zip(counts, order, strict=True))
            if (count < len(patients) if step > 0 else count > 1)
        ]
        place = max(open_places, key=lambda place: (step * owed[place], -place))
        counts[place] += step
    drawn = []
    for count, patients in zip(counts, order, strict=True):
        ordered = sorted(patients)
        chosen = np.random.default_rng(seed).permutation(len(ordered))[:count]
        drawn += [ordered[index] for index in chosen.tolist()]
    return tuple(sorted(drawn))


def _tested_on(
    site: str,
    trained_there: bool,
    fold: int,
    sites: Sites,
    folds: Mapping[str, int | None],
    config: CrossSiteConfig,
) -> tuple[str, ...]:
    """Return whom a model is tested on at a site: those of its fold, or of all folds where it knows nobody there."""
    patients = sites.patients(site)
    if site not in sites.trained:
        return patients
    wanted = {fold} if trained_there else set(config.trained_folds)
    return tuple(patient for patient in patients if folds[patient] in wanted)


def _slugs(sites: Sequence[str]) -> dict[str, str]:
    """Return a name for files of each site; alike ones are numbered."""
    slugs: dict[str, str] = {}
    for site in sites:
        plain = file_stem(site, "site", 40)
        slugs[site] = plain if plain not in slugs.values() else f"{plain}-{len(slugs)}"
    return slugs
