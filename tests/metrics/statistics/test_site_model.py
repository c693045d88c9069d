import numpy as np
import pytest

from equivox.metrics.statistics.cross_site import Cells, TrainingPool, over_sites, summarise_sites
from equivox.metrics.statistics.site_model import model_sites

SITES = ("A", "B", "C", "D", "E", "F")


def of_sites(sites: tuple[str, ...] = SITES, *, slope: float = 0.05) -> tuple[Cells, dict[str, np.ndarray]]:
    """Own models lose 0.1 away from home, by more or less at each site; large lesions are segmented better."""
    rng = np.random.default_rng(4)
    volumes = {site: rng.normal(0, 1, 12) for site in sites}
    base = {site: 0.7 + rng.normal(0, 0.05) + rng.normal(0, 0.03, 12) + slope * volumes[site] for site in sites}
    loss = dict(zip(sites, 0.1 + rng.normal(0, 0.03, len(sites)), strict=True))
    cells: dict[TrainingPool, dict[str, np.ndarray]] = {
        TrainingPool("own", source): {
            site: base[site] - (0.0 if site == source else loss[site]) + rng.normal(0, 0.01, 12) for site in sites
        }
        for source in sites
    }
    cells[TrainingPool("pool")] = {site: base[site] + rng.normal(0.02, 0.01, 12) for site in sites}
    for left in sites:
        cells[TrainingPool("leave_out", left)] = {site: base[site] - 0.04 * (site == left) for site in sites}
    return cells, volumes


def test_row_types_stand_against_own_models_with_the_site_as_the_unit() -> None:
    cells, volumes = of_sites()
    found = model_sites(cells, volumes)
    assert [one.name for one in found.effects] == ["away", "pool", "leave_out", "lesion_volume"]
    away, pool, left, slope = found.effects
    gaps = [one.gap for one in summarise_sites(cells).sites]
    # All sites have as many patients: the effect is the mean gap, and its interval about that of the t test over sites.
    assert away.estimate == pytest.approx(-np.mean(gaps))
    _, interval = over_sites(gaps)
    assert interval.low < -away.high < -away.low < interval.high
    assert -away.high == pytest.approx(interval.low, abs=0.015)
    assert pool.estimate == pytest.approx(0.02, abs=0.01)
    assert left.estimate == pytest.approx(-0.04, abs=0.01)
    assert slope.low < 0.05 < slope.high
    assert (away.degrees, slope.degrees) == (5, 6 * 12 - 6 - 1)
    assert (found.sites, found.patients) == (6, 72)
    assert set(found.deviations) == {"site", "site_and_row", "patient"}


def test_of_a_distance_the_effects_are_turned() -> None:
    cells, volumes = of_sites()
    turned = model_sites(cells, volumes, higher_is_better=False)
    for one, other in zip(model_sites(cells, volumes).effects, turned.effects, strict=True):
        assert other.estimate == pytest.approx(-one.estimate, rel=1e-4)
        assert (other.low, other.high) == pytest.approx((-one.high, -one.low), rel=1e-3)


def test_four_sites_have_no_model_and_one_for_testing_only_takes_no_part() -> None:
    cells, volumes = of_sites()
    assert model_sites(*of_sites(SITES[:4])) is None
    only_tested = {pool: row for pool, row in cells.items() if pool.site != "F"}
    assert model_sites(only_tested, volumes).sites == 5


def test_patients_without_a_volume_take_no_part_and_one_volume_has_no_slope() -> None:
    cells, volumes = of_sites(slope=0.0)
    some = {site: np.where(np.arange(12) < 2, np.nan, one) for site, one in volumes.items()}
    assert model_sites(cells, some).patients == 60
    same = {site: np.zeros(12) for site in volumes}
    assert [one.name for one in model_sites(cells, same).effects] == ["away", "pool", "leave_out"]
    none = {site: np.full(12, np.nan) for site in volumes}
    assert model_sites(cells, none) is None


def test_values_that_no_model_changes_have_no_model() -> None:
    cells, volumes = of_sites()
    same = {pool: {site: np.full(12, 0.5) for site in row} for pool, row in cells.items()}
    assert model_sites(same, volumes) is None
