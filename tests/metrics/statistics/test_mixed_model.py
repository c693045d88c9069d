import numpy as np
import pytest
from scipy.optimize import minimize

from equivox.errors import InputError
from equivox.metrics.statistics.mixed_model import fit_mixed_model

SITES, PATIENTS, ROWS = 6, 7, 3


def split_plot(seed: int = 0, site_by_row: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every patient of every site scored under every row: values, site, patient and row of each."""
    rng = np.random.default_rng(seed)
    site, patient, row = (one.ravel() for one in np.indices((SITES, PATIENTS, ROWS)))
    values = (
        np.array([5.0, 4.0, 4.5])[row]
        + rng.normal(0, 1.0, SITES)[site]
        + rng.normal(0, 0.8, (SITES, PATIENTS))[site, patient]
        + rng.normal(0, site_by_row, (SITES, ROWS))[site, row]
        + rng.normal(0, 0.3, len(row))
    )
    return values, site, site * PATIENTS + patient, row


def columns_of(row: np.ndarray) -> dict[str, np.ndarray]:
    return {"own": np.ones(len(row)), "away": (row == 1) * 1.0, "pool": (row == 2) * 1.0}


def names(*codes: np.ndarray) -> list[str]:
    return ["/".join(map(str, one)) for one in zip(*codes, strict=True)]


def fit(values, site, patient, row, **more):
    intercepts = {"site": names(site), "site and row": names(site, row), "patient": names(patient)}
    degrees = {"own": SITES - 1, "away": SITES - 1, "pool": SITES - 1}
    return fit_mixed_model(values, columns_of(row), intercepts, degrees=degrees, **more)


def restricted(values, design, indicators, variances) -> float:
    """Minus twice the restricted log-likelihood from the whole covariance, the residual's variance last."""
    covariance = variances[-1] * np.eye(len(values))
    for one, variance in zip(indicators, variances, strict=False):
        covariance += variance * one @ one.T
    inverse = np.linalg.inv(covariance)
    information = design.T @ inverse @ design
    left = values - design @ np.linalg.solve(information, design.T @ inverse @ values)
    free = len(values) - design.shape[1]
    logs = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1]
    return float(logs + left @ inverse @ left + free * np.log(2 * np.pi))


def test_in_a_balanced_table_the_variances_are_those_of_the_analysis_of_variance() -> None:
    values, *codes = split_plot()
    table = values.reshape(SITES, PATIENTS, ROWS)
    total, by_site, by_row = table.mean(), table.mean((1, 2)), table.mean((0, 1))
    by_patient, by_both = table.mean(2), table.mean(1)
    both = by_both - by_site[:, None] - by_row + total
    left = table - by_patient[:, :, None] - by_both[:, None, :] + by_site[:, None, None]
    # Mean squares and what they are expected to be, with e, p, b and s the variances of the residual, of patients, of
    # site and row together, and of sites: e + P R s + P b + R p, e + R p, e + P b, e.
    of_sites = PATIENTS * ROWS * ((by_site - total) ** 2).sum() / (SITES - 1)
    of_patients = ROWS * ((by_patient - by_site[:, None]) ** 2).sum() / (SITES * (PATIENTS - 1))
    of_both = PATIENTS * (both**2).sum() / ((SITES - 1) * (ROWS - 1))
    residual = (left**2).sum() / (SITES * (PATIENTS - 1) * (ROWS - 1))
    found = fit(values, *codes)
    assert found.residual**2 == pytest.approx(residual, rel=1e-5)
    assert found.deviations["patient"] ** 2 == pytest.approx((of_patients - residual) / ROWS, rel=1e-4)
    assert found.deviations["site and row"] ** 2 == pytest.approx((of_both - residual) / PATIENTS, rel=1e-4)
    site = (of_sites - of_patients - of_both + residual) / (PATIENTS * ROWS)
    assert found.deviations["site"] ** 2 == pytest.approx(site, rel=1e-4)
    own, away, pool = found.fixed
    assert [own.estimate, away.estimate, pool.estimate] == pytest.approx(
        [by_row[0], by_row[1] - by_row[0], by_row[2] - by_row[0]]
    )
    # Between rows of a site stands what site and row do together, over sites: patients are no units of it.
    assert away.standard_error == pytest.approx(np.sqrt(2 * of_both / (SITES * PATIENTS)), rel=1e-4)


def test_with_two_rows_the_interval_is_that_of_the_paired_t_test_over_sites() -> None:
    from scipy.stats import ttest_1samp

    values, site, patient, row = split_plot(3)
    kept = row < 2
    values, site, patient, row = values[kept], site[kept], patient[kept], row[kept]
    means = np.array([[values[(site == one) & (row == each)].mean() for each in range(2)] for one in range(SITES)])
    columns = {"own": np.ones(len(row)), "away": (row == 1) * 1.0}
    intercepts = {"site": names(site), "patient": names(patient), "site and row": names(site, row)}
    found = fit_mixed_model(values, columns, intercepts, degrees={"own": 5, "away": 5}, confidence=0.9)
    wanted = ttest_1samp(means[:, 1] - means[:, 0], 0).confidence_interval(0.9)
    away = found.fixed[1]
    assert (away.low, away.high) == pytest.approx((wanted.low, wanted.high), rel=1e-4)
    # Without the intercept of site and row patients would pass for sites, and the interval be too narrow.
    narrow = fit_mixed_model(
        values, columns, {name: intercepts[name] for name in ("site", "patient")}, degrees={"own": 5, "away": 5}
    )
    assert narrow.fixed[1].standard_error < 0.6 * away.standard_error


def test_an_unbalanced_table_has_the_likelihood_of_its_whole_covariance_and_no_larger_one_is_found() -> None:
    values, site, patient, row = split_plot(1)
    rng = np.random.default_rng(5)
    kept = rng.random(len(values)) < 0.6
    values, site, patient, row = values[kept], site[kept], patient[kept], row[kept]
    volume = rng.normal(0, 1, len(values))
    columns = {**columns_of(row), "volume": volume}
    # Readers are crossed with patients.
    reader = rng.integers(0, 4, len(values))
    intercepts = {"site": names(site), "patient": names(patient), "reader": names(reader)}
    found = fit_mixed_model(values, columns, intercepts, degrees=dict.fromkeys(columns, 5))
    indicators = [(code[:, None] == np.unique(code)).astype(float) for code in (site, patient, reader)]
    design = np.column_stack(list(columns.values()))
    at = [found.deviations[name] ** 2 for name in intercepts] + [found.residual**2]
    assert found.deviance == pytest.approx(restricted(values, design, indicators, at), rel=1e-9)
    searched = minimize(
        lambda logs: restricted(values, design, indicators, np.exp(logs)),
        np.log(np.maximum(at, 1e-3)) + 0.3,
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000, "maxfev": 4000},
    )
    assert found.deviance <= searched.fun + 1e-6
    assert found.levels == {"site": SITES, "patient": len(set(patient)), "reader": 4}
    inverse = np.linalg.inv(
        sum(v * one @ one.T for v, one in zip(at, indicators, strict=False)) + at[-1] * np.eye(len(values))
    )
    covariance = np.linalg.inv(design.T @ inverse @ design)
    assert [one.standard_error for one in found.fixed] == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-6)
    assert [one.estimate for one in found.fixed] == pytest.approx(covariance @ design.T @ inverse @ values, rel=1e-6)


@pytest.mark.parametrize("residual", [0.03, 0.3, 3.0])
def test_no_search_is_caught_where_the_likelihood_is_level(residual) -> None:
    rng = np.random.default_rng(37)
    for _ in range(4):
        site, patient, row = (one.ravel() for one in np.indices((5, 4, 3)))
        codes = (site, site * 4 + patient, site * 3 + row)
        variances = [0.3**2, 1.0**2, 0.2**2, residual**2]
        indicators = [(code[:, None] == np.unique(code)).astype(float) for code in codes]
        values = rng.normal(0, residual, len(row)) + sum(
            one @ rng.normal(0, np.sqrt(variance), one.shape[1])
            for one, variance in zip(indicators, variances, strict=False)
        )
        intercepts = {str(place): names(code) for place, code in enumerate(codes)}
        columns = columns_of(row)
        found = fit_mixed_model(values, columns, intercepts, degrees=dict.fromkeys(columns, 4))
        # No variances are likelier than those that are found, least of all the true ones.
        assert found.deviance <= restricted(values, np.column_stack(list(columns.values())), indicators, variances)


def test_levels_that_do_not_differ_have_a_deviation_of_0_and_the_fit_is_least_squares() -> None:
    # Within each level the values lie farther apart than by chance: the levels' means are all 0.
    values = np.array([-1.0, 1.0, -2.0, 2.0, -1.5, 1.5])
    found = fit_mixed_model(values, {"mean": np.ones(6)}, {"level": list("aabbcc")}, degrees={"mean": 5})
    assert found.deviations["level"] == 0.0
    assert found.residual == pytest.approx(values.std(ddof=1))
    assert found.fixed[0].standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(6))


def test_the_order_of_rows_and_levels_changes_nothing() -> None:
    values, *codes = split_plot(2)
    mixed = np.random.default_rng(0).permutation(len(values))
    before, after = fit(values, *codes), fit(values[mixed], *(code[mixed] for code in codes))
    assert [one.low for one in after.fixed] == pytest.approx([one.low for one in before.fixed], rel=1e-5)
    assert after.deviations == pytest.approx(before.deviations, rel=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6])
def test_values_that_levels_tell_without_error_have_no_model(scale) -> None:
    level = np.repeat(np.arange(4.0), 3)
    columns = {"mean": np.ones(12), "third": np.tile([0.0, 0.0, 1.0], 4)}
    degrees = {"mean": 3, "third": 3}
    assert fit_mixed_model(scale * level + columns["third"], columns, {"level": names(level)}, degrees=degrees) is None


def test_missing_values_and_columns_that_tell_the_same_are_refused() -> None:
    values, one = np.array([1.0, 2.0, np.nan]), {"mean": np.ones(3)}
    with pytest.raises(InputError, match="got a missing one; leave that row out"):
        fit_mixed_model(values, one, {"level": list("aab")}, degrees={"mean": 1})
    twice = {"mean": np.ones(3), "again": np.ones(3)}
    with pytest.raises(InputError, match="got dependent ones; leave one out"):
        fit_mixed_model(np.arange(3.0), twice, {"level": list("aab")}, degrees={"mean": 1, "again": 1})
    with pytest.raises(InputError, match=r"a level of each of 3 values .* got 2 in 'level'"):
        fit_mixed_model(np.arange(3.0), one, {"level": list("ab")}, degrees={"mean": 1})
