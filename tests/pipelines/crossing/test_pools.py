from pathlib import Path

import pandas as pd
import pytest

from equivox.datasets.cohort import Cohort, CohortConfig
from equivox.errors import InputError
from equivox.metrics.statistics.cross_site import TrainingPool
from equivox.pipelines.cross_site_config import CrossSiteConfig
from equivox.pipelines.crossing import pools
from equivox.pipelines.crossing.pools import (
    Model,
    all_folds,
    draw_matched,
    matched_size,
    models_of,
    refuse_leakage,
    site_folds,
)
from equivox.pipelines.crossing.sites import SiteCase, Sites

CONFIG = CohortConfig(name="toy", channels={"mr": {}}, classes={"ball": 1}, label_values={0: "background", 1: "ball"})


def sites_of(sizes: dict[str, int], small: dict[str, int] | None = None, prefix: str = "") -> Sites:
    """Patients `a0`, `a1`, ... of the first site and so on, whose names say nothing of the site's."""
    cases = []
    for place, (site, count) in enumerate({**sizes, **(small or {})}.items()):
        for number in range(count):
            patient = f"{'abcdefg'[place]}{number:02d}"
            cases.append(SiteCase(f"c-{patient}", patient, prefix + site, float(number * 7 % 11), 2.0, "hash"))
    names = tuple(sorted(prefix + site for site in sizes))
    cohort = Cohort(Path("toy"), CONFIG, pd.DataFrame())
    tested = tuple(prefix + site for site in small or {})
    return Sites(cohort, tuple(cases), names, tested, {"ball": 1}, {}, {}, {}, in_voxels=False)


def config(**values) -> CrossSiteConfig:
    return CrossSiteConfig(cohort="toy", **values)


def test_each_fold_has_its_share_of_small_medium_and_large_lesions() -> None:
    volumes = {f"p{number:02d}": float(number) for number in range(31)}
    folds = site_folds(volumes, 5, seed=3)
    for fold in range(5):
        own = [int(patient[1:]) for patient, place in folds.items() if place == fold]
        assert len(own) in (6, 7)
        for low, high in ((0, 10), (10, 20), (20, 31)):
            assert sum(low <= one < high for one in own) in (2, 3)
    assert site_folds(volumes, 5, seed=3) == folds
    assert site_folds(volumes, 5, seed=4) != folds


def test_every_row_is_tested_on_the_same_patients_of_a_fold() -> None:
    sites = sites_of({"A": 7, "B": 9, "C": 8})
    settings = config(folds=3, minimum_patients=5)
    folds = all_folds(sites, settings)
    models = models_of(sites, folds, settings)
    # 3 own, 1 pool, 1 size-matched with 3 draws and 3 that leave one out, each 3 times.
    assert len(models) == 3 * (3 + 1 + 3 + 3)
    assert len({model.name for model in models}) == len(models)
    for site in "ABC":
        own = {model.fold: model.tested[site] for model in models if model.pool == TrainingPool("own", site)}
        assert sorted(one for patients in own.values() for one in patients) == list(sites.patients(site))
        for model in models:
            if model.pool.kind in ("pool", "pool_matched"):
                assert model.tested[site] == own[model.fold]
            if model.pool == TrainingPool("leave_out", site):
                assert model.tested[site] == sites.patients(site)
                assert not set(model.patients) & set(sites.patients(site))


def test_a_training_pool_has_the_other_folds_of_its_sites_and_nobody_else() -> None:
    sites = sites_of({"A": 7, "B": 9})
    settings = config(folds=3, minimum_patients=5)
    folds = all_folds(sites, settings)
    for model in models_of(sites, folds, settings):
        there = {"own": [model.pool.site], "pool": ["A", "B"]}.get(model.pool.kind)
        if there is not None:
            wanted = {one for site in there for one in sites.patients(site) if folds[one] != model.fold}
            assert set(model.patients) == wanted
        assert model.curve_patient in model.patients


def test_a_size_matched_pool_has_exactly_as_many_patients_as_the_median_site() -> None:
    sites = sites_of({"A": 6, "B": 12, "C": 24})
    settings = config(folds=3, minimum_patients=5, rows=["own", "pool_matched", "leave_out_matched"])
    folds = all_folds(sites, settings)
    matched = [model for model in models_of(sites, folds, settings) if model.pool.kind.endswith("_matched")]
    assert len(matched) == 3 * 3 * (1 + 3)
    for model in matched:
        # 4, 8 and 16 training patients: the median site has 8.
        assert len(model.patients) == 8
        sites_there = set("abc") - {"abc"["ABC".index(model.pool.site)] if model.pool.site else ""}
        assert {one[0] for one in model.patients} == sites_there
    first, second, *_ = matched
    assert (first.fold, first.draw, second.fold, second.draw) == (0, 0, 0, 1)
    assert first.patients != second.patients


def test_shares_of_a_draw_follow_the_sites() -> None:
    there = [[f"a{number}" for number in range(4)], [f"b{number:02d}" for number in range(16)]]
    drawn = draw_matched(there, 10, seed=(1,))
    assert sum(name[0] == "a" for name in drawn) == 2
    assert draw_matched(there[::-1], 10, seed=(1,)) == drawn
    # A tiny site keeps one, and more than there are cannot be drawn.
    assert sum(name[0] == "a" for name in draw_matched([["a0"], there[1]], 3, seed=(1,))) == 1
    assert len(draw_matched(there, 100, seed=(1,))) == 20
    assert matched_size([4, 8, 16, 5]) == 6


def test_renaming_sites_changes_nobody_s_fold_and_no_draw() -> None:
    settings = config(folds=3, minimum_patients=5)
    first = sites_of({"A": 7, "B": 9, "C": 8})
    second = sites_of({"Z": 7, "X": 9, "Y": 8})
    assert all_folds(first, settings) == all_folds(second, settings)
    names = dict(zip("ABC", "ZXY", strict=True))

    def trained(sites: Sites, rename: dict[str, str]) -> set:
        return {
            (
                model.pool.kind,
                rename.get(model.pool.site or "", model.pool.site),
                model.fold,
                model.draw,
                model.patients,
            )
            for model in models_of(sites, all_folds(sites, settings), settings)
        }

    assert trained(first, names) == trained(second, {})


def test_a_lite_budget_trains_one_fold_of_each_row_and_tests_on_it() -> None:
    sites = sites_of({"A": 8, "B": 8, "C": 8}, {"D": 3})
    settings = config(folds=4, minimum_patients=5, budget="lite")
    models = models_of(sites, all_folds(sites, settings), settings)
    assert [model.pool.kind for model in models] == ["own"] * 3 + ["pool"] + ["leave_out"] * 3
    for model in models:
        assert {site: len(patients) for site, patients in model.tested.items()} == {"A": 2, "B": 2, "C": 2, "D": 3}
    assert len({model.tested["A"] for model in models}) == 1


def test_a_small_site_is_tested_on_by_all_and_trained_on_by_none() -> None:
    sites = sites_of({"A": 8, "B": 8}, {"D": 3})
    settings = config(folds=2, minimum_patients=5)
    for model in models_of(sites, all_folds(sites, settings), settings):
        assert model.tested["D"] == sites.patients("D")
        assert not set(model.patients) & set(sites.patients("D"))


def test_a_patient_in_training_and_test_is_leakage() -> None:
    model = Model("own-a-fold0", TrainingPool("own", "A"), 0, None, ("p1", "p2"), "p1", {"B": ("p3", "p2")})
    with pytest.raises(InputError, match="own: A, fold 0: expected no patient both in training and in the test at 'B'"):
        refuse_leakage(model)


def test_models_that_would_leak_are_never_returned(monkeypatch) -> None:
    sites = sites_of({"A": 6, "B": 6})
    settings = config(folds=2, minimum_patients=5)
    folds = all_folds(sites, settings)
    monkeypatch.setattr(pools, "_tested_on", lambda site, *_: sites.patients(site))
    with pytest.raises(InputError, match="which is leakage"):
        models_of(sites, folds, settings)


def test_sites_whose_names_look_alike_have_folders_of_their_own() -> None:
    sites = sites_of({"St. Gallen": 6, "St Gallen": 6})
    settings = config(folds=2, minimum_patients=5)
    names = [model.name for model in models_of(sites, all_folds(sites, settings), settings)]
    assert len(set(names)) == len(names)
