"""A linear mixed model with random intercepts, by restricted maximum likelihood."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import stdtrit

from equivox.errors import InputError

# A standard deviation in parts of the residual's: beyond it the residual is nothing but rounding.
_LARGEST_RATIO: Final = 1e4

# Of ``log(1 + ratio^2)``.
_STARTS: Final = (0.7, 3.0)


@dataclass(frozen=True)
class FixedEffect:
    """One coefficient.

    Attributes:
        name: Its column.
        estimate: Its value.
        standard_error: Of the estimate.
        low: Lower end of the t interval.
        high: Upper end.
        degrees: Degrees of freedom of the t distribution.
    """

    name: str
    estimate: float
    standard_error: float
    low: float
    high: float
    degrees: int


@dataclass(frozen=True)
class MixedModel:
    """A fitted model.

    Attributes:
        fixed: The coefficients, in the order of the columns.
        deviations: Random intercept -> standard deviation, in the unit of the values.
        residual: Standard deviation of what is left.
        deviance: Minus twice the restricted log-likelihood.
        observations: Values.
        levels: Random intercept -> its levels.
    """

    fixed: tuple[FixedEffect, ...]
    deviations: Mapping[str, float]
    residual: float
    deviance: float
    observations: int
    levels: Mapping[str, int]


def fit_mixed_model(
    values: Float[np.ndarray, " n"],
    columns: Mapping[str, Float[np.ndarray, " n"]],
    intercepts: Mapping[str, Sequence[str]],
    *,
    degrees: Mapping[str, int],
    confidence: float = 0.95,
) -> MixedModel | None:
    r"""Fit ``y = X b + sum_k Z_k u_k + e`` with independent normal ``u_k`` and ``e``.

    The restricted likelihood is that of Bates et al., with the standard deviations of the intercepts, in parts of that
    of the residual, as its only parameters (at 0 or above). Levels may be crossed or nested. The largest intercept is
    eliminated level by level, so that thousands of patients take no more than those that are left take: sites, say.

    Args:
        values: What is explained.
        columns: Name -> one column of the fixed part; a column of ones is the caller's to give.
        intercepts: Name -> the level of each value.
        degrees: Name of a column -> degrees of freedom of its interval, which are the units of that comparison less
            what they are compared by. The likelihood does not tell them.
        confidence: Of the intervals.

    Returns:
        None where nothing is left for the residual, as with values that the levels tell without error.

    Raises:
        InputError: If there are too few values, one is missing, or columns tell the same.

    Example:
        Two patients, each measured twice under two conditions, which differ by 1:

        >>> values = np.array([1.0, 1.1, 2.0, 2.1, 3.1, 3.0, 4.0, 4.1])
        >>> columns = {"mean": np.ones(8), "second": np.array([0.0, 0, 1, 1, 0, 0, 1, 1])}
        >>> found = fit_mixed_model(values, columns, {"patient": list("ppppqqqq")}, degrees={"mean": 1, "second": 5})
        >>> round(found.fixed[1].estimate, 6), round(found.deviations["patient"], 3), round(found.residual, 3)
        (1.0, 1.414, 0.063)

    References:
        Bates et al., "Fitting linear mixed-effects models using lme4", J Stat Softw 2015, for the profiled deviance.
    """
    table = np.column_stack([*columns.values(), values]).astype(np.float64)
    n, p = len(values), len(columns)
    _check(table, n, p, intercepts)
    codes = {name: np.unique(np.asarray(levels), return_inverse=True)[1] for name, levels in intercepts.items()}
    order = sorted(codes, key=lambda name: -int(codes[name].max()))
    parts = _Parts.of(table, [codes[name] for name in order])
    spread = float(np.linalg.norm(_left(table)))
    if spread <= 1e-9 * float(np.linalg.norm(table[:, -1])):
        return None
    ratios, fit = _best(parts, n, p)
    if np.any(ratios >= 0.99 * _LARGEST_RATIO):
        return None
    errors = fit.sigma * np.sqrt(np.diag(fit.inverse))
    fixed = []
    for name, estimate, error in zip(columns, fit.weights.tolist(), errors.tolist(), strict=True):
        half = float(stdtrit(degrees[name], 0.5 + confidence / 2)) * error
        fixed.append(FixedEffect(name, estimate, error, estimate - half, estimate + half, degrees[name]))
    found = dict(zip(order, (fit.sigma * ratios).tolist(), strict=True))
    return MixedModel(
        fixed=tuple(fixed),
        deviations={name: found[name] for name in intercepts},
        residual=fit.sigma,
        deviance=fit.deviance,
        observations=n,
        levels={name: int(codes[name].max()) + 1 for name in intercepts},
    )


@dataclass(frozen=True, eq=False)
class _Parts:
    """Products that do not depend on the parameters: of the largest intercept, of the others and of the table."""

    counts: Float[np.ndarray, " largest"]
    with_others: Float[np.ndarray, "largest others"]
    others: Float[np.ndarray, "others others"]
    largest_table: Float[np.ndarray, "largest columns"]
    others_table: Float[np.ndarray, "others columns"]
    table: Float[np.ndarray, "columns columns"]
    owner: Int[np.ndarray, " others"]

    @staticmethod
    def of(table: Float[np.ndarray, "n columns"], codes: Sequence[Int[np.ndarray, " n"]]) -> "_Parts":
        largest, *rest = codes
        indicators = [(code[:, None] == np.arange(code.max() + 1)).astype(np.float64) for code in rest]
        others = np.hstack(indicators) if indicators else np.zeros((len(table), 0))
        levels = int(largest.max()) + 1
        return _Parts(
            counts=np.bincount(largest, minlength=levels).astype(np.float64),
            with_others=_sums(others, largest, levels),
            others=others.T @ others,
            largest_table=_sums(table, largest, levels),
            others_table=others.T @ table,
            table=table.T @ table,
            owner=np.repeat(np.arange(1, len(codes)), [one.shape[1] for one in indicators]),
        )


@dataclass(frozen=True, eq=False)
class _Fit:
    deviance: float
    sigma: float
    weights: Float[np.ndarray, " columns"]
    inverse: Float[np.ndarray, "columns columns"]


def _sums(
    rows: Float[np.ndarray, "n columns"], code: Int[np.ndarray, " n"], levels: int
) -> Float[np.ndarray, "levels columns"]:
    sums = np.zeros((levels, rows.shape[1]))
    np.add.at(sums, code, rows)
    return sums


def _best(parts: _Parts, n: int, p: int) -> tuple[Float[np.ndarray, " intercepts"], _Fit]:
    """Return the parameters of the smallest deviance, the best of several searches.

    They search over ``log(1 + ratio^2)``. Over the ratio itself the deviance is level at 0, where a search would stay
    that a long first step has brought there.
    """
    number = 1 + int(parts.owner.max(initial=0))
    searches = [_search(parts, np.full(number, start), n, p) for start in _STARTS]
    best = min(searches, key=lambda one: float(one.fun))
    ratios = _ratios(best.x)
    return ratios, _fit(parts, ratios, n, p)


def _search(parts: _Parts, start: Float[np.ndarray, " intercepts"], n: int, p: int) -> Any:
    from scipy.optimize import minimize

    def deviance(logs: Float[np.ndarray, " intercepts"]) -> float:
        return _fit(parts, _ratios(logs), n, p).deviance

    return minimize(
        deviance,
        start.tolist(),
        method="L-BFGS-B",
        bounds=[(0.0, float(np.log1p(_LARGEST_RATIO**2)))] * len(start),
        jac="3-point",
        options={"ftol": 1e-13, "gtol": 1e-6, "maxiter": 500},
    )


def _ratios(logs: Float[np.ndarray, " intercepts"]) -> Float[np.ndarray, " intercepts"]:
    ratios: Float[np.ndarray, " intercepts"] = np.sqrt(np.expm1(np.asarray(logs, dtype=np.float64)))
    return ratios


def _fit(parts: _Parts, ratios: Float[np.ndarray, " intercepts"], n: int, p: int) -> _Fit:
    """Return the model at given standard deviations of the intercepts, in parts of the residual's."""
    own, scale = float(ratios[0]), np.asarray(ratios)[parts.owner]
    diagonal = 1 + own**2 * parts.counts
    aside = own * parts.with_others * scale
    schur = np.eye(len(scale)) + scale[:, None] * parts.others * scale - aside.T @ (aside / diagonal[:, None])
    first = own * parts.largest_table
    second = scale[:, None] * parts.others_table - aside.T @ (first / diagonal[:, None])
    explained = first.T @ (first / diagonal[:, None])
    log_determinant = float(np.log(diagonal).sum())
    if len(scale):
        lower = np.linalg.cholesky(schur)
        half = solve_triangular(lower, second, lower=True)
        explained = explained + half.T @ half
        log_determinant += 2 * float(np.log(np.diag(lower)).sum())
    cross = parts.table - explained
    factor = cho_factor(cross[:p, :p], lower=True)
    weights = cho_solve(factor, cross[:p, p])
    squares = max(float(cross[p, p] - cross[:p, p] @ weights), np.finfo(np.float64).tiny)
    log_determinant += 2 * float(np.log(np.diag(factor[0])).sum())
    variance = squares / (n - p)
    deviance = log_determinant + (n - p) * (1 + float(np.log(2 * np.pi * variance)))
    return _Fit(deviance, float(np.sqrt(variance)), weights, cho_solve(factor, np.eye(p)))


def _left(table: Float[np.ndarray, "n columns"]) -> Float[np.ndarray, " n"]:
    design, values = table[:, :-1], table[:, -1]
    left: Float[np.ndarray, " n"] = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return left


def _check(table: Float[np.ndarray, "n columns"], n: int, p: int, intercepts: Mapping[str, Sequence[str]]) -> None:
    wrong = next((name for name, levels in intercepts.items() if len(levels) != n), None)
    if wrong is not None or not intercepts:
        got = "none" if wrong is None else f"{len(intercepts[wrong])} in '{wrong}'"
        msg = f"mixed model: expected a level of each of {n} values in one intercept or more, got {got}; give them all"
        raise InputError(msg)
    if not np.isfinite(table).all():
        msg = "mixed model: expected a number in each row and column, got a missing one; leave that row out"
        raise InputError(msg)
    if n <= p or np.linalg.matrix_rank(table[:, :-1]) < p:
        msg = f"mixed model: expected {p} columns that each tell something else, got dependent ones; leave one out"
        raise InputError(msg)
