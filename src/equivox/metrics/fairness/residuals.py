"""How the patients' scores go with numbers of theirs, as they are and with the size of the structure taken out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float

from equivox.errors import InputError
from equivox.metrics.statistics.association import associate, false_discovery
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, Interval
from equivox.metrics.statistics.smooth import local_linear

_PLACES: Final = 41
"""Where smooth lines are fitted: straight between them, which the eye cannot tell."""


@dataclass(frozen=True, eq=False)
class Trend:
    """How one number of the patients goes with another.

    Attributes:
        patients: Patients with both.
        spearman: Rank correlation; None where either has a single value.
        interval: Of it; None with too few patients.
        p: Of no association; None with too few patients.
        q: The same with all trends that are told together taken into account (Benjamini and Hochberg).
        line: Places and fits of a smooth line, for the eye alone; empty where there is no correlation.
    """

    patients: int
    spearman: float | None
    interval: Interval | None
    p: float | None
    q: float | None
    line: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class ResidualTrends:
    """How the scores go with each number of the patients.

    Attributes:
        raw: Number -> the scores as they are.
        residual: Number -> what the structure's size leaves of the scores; without the size itself, and empty where
            the size is not known.
        residuals: One a patient, NaN where the size or the score is not known.
        fit: Places and fits of the mean score by size.
    """

    raw: dict[str, Trend]
    residual: dict[str, Trend]
    residuals: Float[np.ndarray, " patients"]
    fit: tuple[tuple[float, float], ...]


def residual_trends(
    scores: Float[np.ndarray, " patients"],
    numbers: Mapping[str, Float[np.ndarray, " patients"]],
    size: str | None,
    *,
    minimum: int = MINIMUM_PATIENTS,
    draws: int = 1999,
    permutations: int = 1999,
    seed: int = 0,
    confidence: float = 0.95,
) -> ResidualTrends:
    """Describe how scores go with numbers of the patients, such as age, and what of that their structures' size leaves.

    Small structures score lower, whoever has them. So each number is held against the scores as they are and against
    their residuals: score minus its fitted mean at that size, a local linear fit with tricube weights (linear between
    the places where it is fitted). The number itself is not made free of the size, so where it goes with the size its
    residual correlation is, if anything, too small. The size is held against the raw scores alone. Associations
    only: nothing is said about causes.

    Args:
        scores: One a patient, such as the mean Dice; NaN where not known.
        numbers: Name -> one number a patient; NaN where not known.
        size: Which of them is the size, such as the logarithm of the reference's volume; None if none.
        minimum: With fewer patients there is no interval and no p, and no residual without as many sizes.
        draws: Resamples behind the intervals, which are percentile intervals of Spearman's correlation.
        permutations: Behind each p.
        seed: Of both.
        confidence: Of the intervals.

    Returns:
        The trends; q is over all of them together, raw and residual.

    Raises:
        InputError: If `size` is none of the numbers, or lengths differ.

    References:
        Cleveland, "Robust locally weighted regression and smoothing scatterplots", JASA 1979.
        Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 1995.
    """
    if size is not None and size not in numbers:
        msg = f"size: expected one of {list(numbers)}, got '{size}'; name one of them"
        raise InputError(msg)

    def trend(number: Float[np.ndarray, " patients"], values: Float[np.ndarray, " patients"]) -> Trend:
        found = associate(
            number,
            values,
            draws=draws,
            permutations=permutations,
            seed=seed,
            confidence=confidence,
            minimum=minimum,
        )
        line = () if found.spearman is None else _line(number, values)
        return Trend(found.patients, found.spearman, found.spearman_interval, found.p, None, line)

    raw = {name: trend(number, scores) for name, number in numbers.items()}
    residuals = np.full(len(scores), np.nan)
    fit: tuple[tuple[float, float], ...] = ()
    if size is not None and raw[size].patients >= minimum:
        # Where all are of one size their mean is the fit.
        fit = _line(numbers[size], scores)
        residuals = scores - np.interp(numbers[size], *np.array(fit).T)
    residual = {name: trend(number, residuals) for name, number in numbers.items() if name != size and fit}
    told = [*raw.values(), *residual.values()]
    q_values = iter(false_discovery([one.p for one in told]))
    return ResidualTrends(
        {name: replace(one, q=next(q_values)) for name, one in raw.items()},
        {name: replace(one, q=next(q_values)) for name, one in residual.items()},
        residuals,
        fit,
    )


def _line(
    number: Float[np.ndarray, " patients"], values: Float[np.ndarray, " patients"]
) -> tuple[tuple[float, float], ...]:
    known = np.isfinite(number) & np.isfinite(values)
    x, y = number[known].astype(np.float64), values[known].astype(np.float64)
    # Places where the patients are, as a tail of few large numbers would take most of an even grid.
    at = np.unique(np.quantile(x, np.linspace(0, 1, _PLACES)))
    return tuple(zip(at.tolist(), local_linear(x, y, at).tolist(), strict=True))
