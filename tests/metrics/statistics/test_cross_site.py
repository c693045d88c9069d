import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.statistics.cross_site import (
    FAMILY,
    Cells,
    TrainingPool,
    at_equal_case_mix,
    leave_out_pool,
    over_sites,
    summarise_sites,
)
from equivox.metrics.statistics.paired import holm

SITES = ("A", "B", "C")


def one(value: float) -> np.ndarray:
    return np.array([value])


def by_hand() -> Cells:
    """Own models 3 x 3, the pool, the size-matched pool, and the pools that leave one out."""
    own = {"A": (0.8, 0.5, 0.6), "B": (0.4, 0.9, 0.5), "C": (0.6, 0.7, 0.7)}
    cells = {TrainingPool("own", source): dict(zip(SITES, map(one, row), strict=True)) for source, row in own.items()}
    cells[TrainingPool("pool")] = dict(zip(SITES, map(one, (0.85, 0.9, 0.8)), strict=True))
    cells[TrainingPool("pool_matched")] = dict(zip(SITES, map(one, (0.75, 0.8, 0.75)), strict=True))
    for site, value in zip(SITES, (0.65, 0.6, 0.7), strict=True):
        cells[TrainingPool("leave_out", site)] = dict.fromkeys(SITES, one(value))
    return cells


def of_sites(offset: float, patients: int = 30, seed: int = 0) -> Cells:
    """Models that lose `offset` away from home, on patients who differ among themselves."""
    rng = np.random.default_rng(seed)
    base = {site: rng.normal(0.8, 0.05, patients) for site in SITES}
    return {
        TrainingPool("own", source): {
            site: base[site] - offset * (site != source) + rng.normal(0, 0.02, patients) for site in SITES
        }
        for source in SITES
    }


def test_the_summary_of_a_matrix_by_hand() -> None:
    a, b, c = summarise_sites(by_hand()).sites
    assert (a.in_domain, b.in_domain, c.in_domain) == (0.8, 0.9, 0.7)
    # E_A = (0.4 + 0.6) / 2, E_B = (0.5 + 0.7) / 2, E_C = (0.6 + 0.5) / 2
    assert [site.external for site in (a, b, c)] == pytest.approx([0.5, 0.6, 0.55])
    assert [site.gap for site in (a, b, c)] == pytest.approx([0.3, 0.3, 0.15])
    assert [site.pooling_gain for site in (a, b, c)] == pytest.approx([0.05, 0.0, 0.1])
    assert [site.matched_pooling_gain for site in (a, b, c)] == pytest.approx([-0.05, -0.1, 0.05])
    assert [site.leave_out for site in (a, b, c)] == pytest.approx([0.65, 0.6, 0.7])
    assert [site.leave_out_gap for site in (a, b, c)] == pytest.approx([0.2, 0.3, 0.1])
    # Q_A = (0.5 + 0.6) / 2, Q_B = (0.4 + 0.5) / 2, Q_C = (0.6 + 0.7) / 2
    assert [site.source_quality for site in (a, b, c)] == pytest.approx([0.55, 0.45, 0.65])
    # T_A = (0.8 + 0.4 + 0.6) / 3, T_B = (0.5 + 0.9 + 0.7) / 3, T_C = (0.6 + 0.5 + 0.7) / 3
    assert [site.difficulty for site in (a, b, c)] == pytest.approx([0.6, 0.7, 0.6])


def test_worst_cell_and_means_over_sites_and_patients() -> None:
    cells = {pool: dict(row) for pool, row in by_hand().items()}
    for pool, row in cells.items():
        row["A"] = np.array([row["A"][0], row["A"][0] + 0.2])
        cells[pool] = row
    found = summarise_sites(cells)
    # B at A: (0.4 + 0.6) / 2 = 0.5, which A at B and B at C are as well; the first of them is named.
    assert found.worst == ("A", "B", 0.5)
    pool = TrainingPool("pool")
    # A is (0.85 + 1.05) / 2 = 0.95 in two patients.
    assert found.macro[pool] == pytest.approx((0.95 + 0.9 + 0.8) / 3)
    assert found.micro[pool] == pytest.approx((0.85 + 1.05 + 0.9 + 0.8) / 4)
    assert found.sites[0].patients == 2


def test_of_a_distance_lower_is_better_and_differences_are_turned() -> None:
    found = summarise_sites(by_hand(), higher_is_better=False)
    assert [site.gap for site in found.sites] == pytest.approx([-0.3, -0.3, -0.15])
    assert found.sites[0].external == pytest.approx(0.5)
    assert found.worst == ("C", "B", 0.7)
    gap = next(contrast for contrast in found.contrasts if contrast.kind == "gap")
    assert gap.difference == pytest.approx(-0.3)


def test_renaming_sites_renames_the_matrix_and_changes_no_number() -> None:
    names = dict(zip(SITES, ("Z", "X", "Y"), strict=True))
    cells = of_sites(0.1)
    renamed = {
        TrainingPool(pool.kind, names[pool.site]): {names[site]: values for site, values in row.items()}
        for pool, row in reversed(cells.items())
    }
    before, after = summarise_sites(cells), summarise_sites(renamed)
    for pool, row in before.means.items():
        other = after.means[TrainingPool(pool.kind, names[pool.site])]
        assert {names[site]: mean for site, mean in row.items()} == other
    ends = {(names[contrast.site], contrast.kind): contrast for contrast in before.contrasts}
    assert len(ends) == 3
    for contrast in after.contrasts:
        twin = ends[contrast.site, contrast.kind]
        assert (contrast.low, contrast.high, contrast.p, contrast.p_adjusted) == pytest.approx(
            (twin.low, twin.high, twin.p, twin.p_adjusted)
        )


def test_own_models_win_by_the_offset_between_sites_and_without_one_the_interval_covers_0() -> None:
    means = []
    for offset in (0.0, 0.05, 0.1):
        gaps = [contrast for contrast in summarise_sites(of_sites(offset)).contrasts if contrast.kind == "gap"]
        assert len(gaps) == 3
        means.append(np.mean([gap.difference for gap in gaps]))
        for gap in gaps:
            assert gap.low <= offset <= gap.high
            assert (gap.p_adjusted < 0.05) == (offset > 0)
    assert means == sorted(means)


def test_pairing_by_patient_sees_what_the_spread_of_patients_would_hide() -> None:
    # Patients spread by 0.05 and sites differ by 0.02: the paired interval is narrow all the same.
    gap = next(one for one in summarise_sites(of_sites(0.02)).contrasts if one.kind == "gap")
    assert gap.high - gap.low < 0.03


def test_few_patients_have_a_difference_and_neither_interval_nor_test() -> None:
    for contrast in summarise_sites(by_hand()).contrasts:
        assert contrast.patients == 1
        assert (contrast.low, contrast.high, contrast.p, contrast.p_adjusted) == (None, None, None, None)


def test_holm_goes_over_the_declared_contrasts_and_the_matched_gain_is_not_among_them() -> None:
    cells = dict(of_sites(0.05))
    for kind, worth in (("pool", 0.03), ("pool_matched", 0.01)):
        cells[TrainingPool(kind)] = {site: cells[TrainingPool("own", site)][site] + worth for site in SITES}
    for left in SITES:
        cells[TrainingPool("leave_out", left)] = {site: cells[TrainingPool("own", site)][site] - 0.04 for site in SITES}
    contrasts = summarise_sites(cells).contrasts
    family = [contrast for contrast in contrasts if contrast.kind in FAMILY]
    assert len(family) == 9
    assert [contrast.p_adjusted for contrast in family] == holm([contrast.p for contrast in family])
    matched = [contrast for contrast in contrasts if contrast.kind == "matched_pooling_gain"]
    assert [contrast.p_adjusted for contrast in matched] == [None] * 3
    assert all(contrast.p is not None and contrast.low is not None for contrast in matched)
    assert [contrast.difference for contrast in matched] == pytest.approx([0.01] * 3)


def test_with_two_sites_leaving_one_out_is_training_on_the_other() -> None:
    rows = {"A": (0.8, 0.5), "B": (0.6, 0.9)}
    cells = {TrainingPool("own", name): {"A": one(a), "B": one(b)} for name, (a, b) in rows.items()}
    cells[TrainingPool("pool")] = {"A": one(0.9), "B": one(0.9)}
    assert leave_out_pool("A", list(cells)) == TrainingPool("own", "B")
    a, b = summarise_sites(cells).sites
    assert (a.leave_out, b.leave_out) == (0.6, 0.5)
    assert (a.leave_out_gap, b.leave_out_gap) == pytest.approx((0.3, 0.4))
    assert leave_out_pool("A", list(by_hand())) == TrainingPool("leave_out", "A")


def test_a_site_for_testing_only_has_an_external_mean_and_no_gap() -> None:
    cells = {pool: {**row, "small": one(0.2 if pool.site == "A" else 0.4)} for pool, row in by_hand().items()}
    found = summarise_sites(cells)
    small = found.sites[-1]
    assert (small.site, small.in_domain, small.gap, small.leave_out) == ("small", None, None, None)
    assert small.external == pytest.approx((0.2 + 0.4 + 0.4) / 3)
    # What models are worth there is no part of their quality as sources.
    assert found.sites[0].source_quality == pytest.approx(0.55)
    assert not [contrast for contrast in found.contrasts if contrast.site == "small"]
    assert found.worst == ("A", "small", 0.2)


def test_rows_of_other_patients_and_missing_values_are_refused() -> None:
    cells = {TrainingPool("own", "A"): {"A": np.zeros(3)}, TrainingPool("own", "B"): {"A": np.zeros(4)}}
    with pytest.raises(InputError, match="site 'A': expected 3 patients in the row 'own: B'"):
        summarise_sites(cells)
    with pytest.raises(InputError, match="a missing one"):
        summarise_sites({TrainingPool("own", "A"): {"A": np.array([0.1, np.nan])}})


def test_a_site_without_a_scored_patient_is_left_out() -> None:
    cells = {pool: {**row, "none": np.zeros(0)} for pool, row in by_hand().items()}
    found = summarise_sites(cells)
    assert found.sites[-1].patients == 0
    assert found.sites[-1].external is None
    assert found.macro[TrainingPool("pool")] == pytest.approx(0.85)


def test_the_site_is_the_unit_of_a_claim_over_sites() -> None:
    # Mean 0.3, SD 0.15811, t(4 df) = 2.7764: 2.7764 * 0.15811 / sqrt(5) = 0.19632
    mean, interval = over_sites([0.1, 0.2, 0.3, 0.4, 0.5])
    assert mean == pytest.approx(0.3)
    assert (interval.low, interval.high) == pytest.approx((0.3 - 0.19632, 0.3 + 0.19632), abs=1e-5)
    assert over_sites([0.1, 0.2, 0.3, 0.4])[1] is None


def test_sites_of_other_lesions_are_alike_at_equal_case_mix() -> None:
    rng = np.random.default_rng(0)
    volumes = {"A": rng.normal(1.0, 0.5, 40), "B": rng.normal(2.0, 0.5, 20)}
    values = {site: 0.5 + 0.1 * volume for site, volume in volumes.items()}
    mix = at_equal_case_mix(values, {"volume": volumes})
    assert mix.before["B"] - mix.before["A"] > 0.08
    # A line without noise: at the mean volume of all patients both are 0.5 + 0.1 * mean.
    whole = float(np.concatenate(list(volumes.values())).mean())
    assert mix.after == pytest.approx({"A": 0.5 + 0.1 * whole, "B": 0.5 + 0.1 * whole})
    assert mix.used == ("volume",)
    assert mix.patients == {"A": 40, "B": 20}


def test_what_is_the_same_for_all_patients_of_a_site_cannot_be_told_from_it() -> None:
    rng = np.random.default_rng(0)
    values = {site: rng.normal(0.8, 0.1, 20) for site in ("A", "B")}
    thickness = {"A": np.full(20, 1.0), "B": np.full(20, 3.0)}
    assert at_equal_case_mix(values, {"thickness": thickness}) is None
    volumes = {site: rng.normal(1, 1, 20) for site in values}
    unknown = {site: np.full(20, np.nan) for site in values}
    mix = at_equal_case_mix(values, {"thickness": thickness, "volume": volumes, "age": unknown})
    assert mix.used == ("volume",)
    assert set(mix.dropped) == {"thickness", "age"}
    assert "cannot be told from the site" in mix.dropped["thickness"]


def test_too_few_patients_are_not_adjusted_and_unknown_ones_are_left_out() -> None:
    values = {"A": np.arange(4.0), "B": np.arange(4.0)}
    volumes = {"A": np.array([1.0, 2.0, 4.0, 3.0]), "B": np.array([1.0, 5.0, 2.0, 3.0])}
    assert at_equal_case_mix(values, {"volume": volumes}) is None  # 8 patients, 3 columns
    more = {site: np.tile(one, 5) for site, one in values.items()}
    known = {site: np.tile(one, 5) for site, one in volumes.items()}
    known["A"][0] = np.nan
    assert at_equal_case_mix(more, {"volume": known}).patients == {"A": 19, "B": 20}
