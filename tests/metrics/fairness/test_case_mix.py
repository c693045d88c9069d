"""The difference at equal case mix, beside the raw one."""

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.fairness.case_mix import adjusted_difference


def test_coefficient_and_hc3_error_by_hand() -> None:
    # A balanced two-by-two layout of 40 patients: group in {0, 1}, covariate in {-1, 1}, both orthogonal. The
    # coefficient of the group is then the difference of means, .2. Residuals are +-.1 everywhere, all leverages are
    # 3 / 40: HC3 variance of a difference of two means of 20 is (.1 / (1 - 3/40))^2 (1/20 + 1/20).
    group = np.repeat([0, 1], 20)
    covariate = np.tile(np.repeat([-1.0, 1.0], 10), 2)
    residual = np.tile([0.1, -0.1], 20)
    values = 0.5 + 0.2 * group + 0.05 * covariate + residual
    found = adjusted_difference(values, ["b" if one else "a" for one in group], "b", {"size": covariate})
    assert found.raw == pytest.approx(0.2)
    assert found.adjusted == pytest.approx(0.2)
    assert found.covariates == ("size",)
    error = 0.1 / (1 - 3 / 40) * np.sqrt(0.1)
    # The t distribution with 37 degrees of freedom: 2.026192.
    assert found.high == pytest.approx(0.2 + 2.026192 * error, abs=1e-6)
    assert found.low == pytest.approx(0.2 - 2.026192 * error, abs=1e-6)


def test_an_unbalanced_design_agrees_with_the_sandwich_written_out() -> None:
    rng = np.random.default_rng(8)
    group = np.array([0.0] * 13 + [1.0] * 24)
    size, values = rng.normal(0, 3, 37) + group, rng.random(37) ** 3
    x = np.column_stack([np.ones(37), group, size])
    inverse = np.linalg.inv(x.T @ x)
    beta = inverse @ x.T @ values
    meat = np.zeros((3, 3))
    for row, value in zip(x, values, strict=True):
        error = (value - row @ beta) / (1 - row @ inverse @ row)
        meat += error**2 * np.outer(row, row)
    found = adjusted_difference(values, ["b" if one else "a" for one in group], "b", {"size": size})
    assert found.adjusted == pytest.approx(beta[1], abs=1e-12)
    assert found.high is not None
    # The t distribution with 34 degrees of freedom: 2.032245.
    reach = 2.032245 * np.sqrt((inverse @ meat @ inverse)[1, 1])
    assert found.high == pytest.approx(beta[1] + reach, abs=1e-6)


def test_a_gap_that_volume_explains_vanishes_and_one_that_it_hides_appears() -> None:
    rng = np.random.default_rng(1)
    groups = ["a"] * 60 + ["b"] * 60
    volume = np.concatenate([rng.normal(2, 1, 60), rng.normal(3, 1, 60)])
    noise = rng.normal(0, 0.02, 120)
    explained = adjusted_difference(0.5 + 0.1 * volume + noise, groups, "a", {"volume": volume})
    assert explained.raw is not None
    assert explained.adjusted is not None
    assert explained.raw < -0.05
    assert abs(explained.adjusted) < 0.015
    hidden = adjusted_difference(
        0.5 + 0.1 * volume + noise + 0.1 * (np.arange(120) < 60), groups, "a", {"volume": volume}
    )
    assert hidden.adjusted == pytest.approx(explained.adjusted + 0.1)
    assert hidden.low is not None
    assert hidden.low > 0


def test_covariates_that_do_not_vary_or_tell_the_group_or_repeat_others_are_named() -> None:
    rng = np.random.default_rng(0)
    groups: list[str | None] = ["a"] * 20 + ["b"] * 20
    size = rng.normal(0, 1, 40)
    found = adjusted_difference(
        rng.random(40),
        groups,
        "a",
        {
            "thickness": np.full(40, 1.5),
            "missing": np.full(40, np.nan),
            "size": size,
            "twice": 2 * size + 1,
            # Hospitals x and y have all of group a, z all of the rest.
            "site": ["x"] * 10 + ["y"] * 10 + ["z"] * 20,
            "one": ["s"] * 40,
        },
    )
    assert found.covariates == ("size",)
    assert found.dropped == {
        "thickness": "the same for all patients",
        "missing": "not known for any patient",
        "twice": "follows from the other covariates",
        "site": "tells the group: no patient of the group has like ones in the rest",
        "one": "the same for all patients",
    }


def test_categorical_covariate_by_its_levels() -> None:
    # Site y scores .3 lower; group a is mostly at y. Within each site a and b are equal.
    sites: list[str | None] = ["x"] * 6 + ["y"] * 14 + ["x"] * 14 + ["y"] * 6
    groups = ["a"] * 20 + ["b"] * 20
    values = np.array([0.9 if site == "x" else 0.6 for site in sites]) + np.tile([0.01, -0.01], 20)
    found = adjusted_difference(values, groups, "a", {"site": sites})
    # .9 * .3 + .6 * .7 = .69 against .9 * .7 + .6 * .3 = .81.
    assert found.raw == pytest.approx(-0.12)
    assert found.adjusted == pytest.approx(0.0, abs=1e-9)


def test_rare_and_unknown_levels_take_few_parameters_and_no_infinite_error() -> None:
    rng = np.random.default_rng(5)
    sites = [*["x"] * 18, "q", "r", *["y"] * 19, None]
    values, groups = rng.random(40), ["a"] * 15 + ["b"] * 25
    found = adjusted_difference(values, groups, "a", {"site": sites})
    # q, r and the unknown one are three patients: too few even together, so they are with the smallest level, x.
    assert found.covariates == ("site",)
    assert found.low is not None
    assert found.high is not None
    assert np.isfinite([found.low, found.high]).all()
    joined = ["y" if site == "y" else "x" for site in sites]
    assert found.adjusted == pytest.approx(adjusted_difference(values, groups, "a", {"site": joined}).adjusted)


def test_patients_of_unknown_group_or_covariate_play_no_part() -> None:
    rng = np.random.default_rng(2)
    size = rng.normal(0, 1, 30)
    values = rng.random(30)
    groups: list[str | None] = ["a"] * 14 + ["b"] * 16
    alone = adjusted_difference(values, groups, "a", {"size": size})
    more = adjusted_difference(
        np.append(values, [0.0, 1.0]), [*groups, None, "b"], "a", {"size": np.append(size, [0.0, np.nan])}
    )
    assert more.adjusted == pytest.approx(alone.adjusted)
    assert (more.patients, more.rest_patients) == (14, 16)


def test_too_few_patients_or_nothing_to_adjust_for_gives_the_reason() -> None:
    rng = np.random.default_rng(0)
    few = adjusted_difference(rng.random(20), ["a"] * 9 + ["b"] * 11, "a", {"size": rng.random(20)})
    assert few.adjusted is None
    assert few.raw is not None
    assert few.reason == "fewer than 10 patients in the group or the rest"
    sizes = {f"c{place}": rng.random(20) for place in range(3)}
    assert adjusted_difference(rng.random(20), ["a"] * 10 + ["b"] * 10, "a", sizes).reason == (
        "20 patients are too few for 5 parameters"
    )
    nothing = adjusted_difference(rng.random(20), ["a"] * 10 + ["b"] * 10, "a", {})
    assert nothing.reason == "there is nothing to adjust for"
    gone = adjusted_difference(rng.random(2), ["a", None], "a", {})
    assert gone.raw is None


def test_a_missing_value_and_another_number_of_patients_are_refused() -> None:
    with pytest.raises(InputError, match="expected one finite number a patient"):
        adjusted_difference(np.array([np.nan]), ["a"], "a", {})
    with pytest.raises(InputError, match="covariate size: expected 2 values, one a patient, got 1"):
        adjusted_difference(np.array([0.1, 0.2]), ["a", "b"], "a", {"size": np.zeros(1)})
