"""What intervals, tests and verdicts are worth at a given number of patients: simulated once, shipped as a table.

The populations are named distributions of a patient's Dice, and not the patients at hand: these cannot show how often a
rare failure is missing from a sample. `benchmarks/report_statistics.py` makes the table, by the functions of this file.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float

from equivox.metrics.statistics.bootstrap import MeanMethod, mean_intervals, quantile_intervals
from equivox.metrics.statistics.contrast_design import Blocks
from equivox.metrics.statistics.permutation import SHARED, smallest_ps

SIZES: Final = (5, 10, 20, 40, 100)
"""Patients of the simulated samples."""

SMALLEST: Final = (10, 20, 50)
"""Patients of the smaller group in the simulated tests."""

Estimate = Literal["bootstrap_t", "bca", "percentile", "median", "worst_decile"]

ESTIMATES: Final[dict[Estimate, str]] = {
    "bootstrap_t": "mean, bootstrap-t",
    "bca": "mean, BCa",
    "percentile": "mean, percentile",
    "median": "median, percentile",
    "worst_decile": "worst decile, percentile",
}
"""What an interval was simulated of, in words."""

Situation = Literal[
    "exchangeable", "wider", "narrower", "more_misses", "two_attributes", "sites_differ", "sites_tested"
]

SITUATIONS: Final[dict[Situation, str]] = {
    "exchangeable": "two groups that do not differ",
    "wider": "same mean, the smaller group varies three times as much",
    "narrower": "same mean, the smaller group varies a third as much",
    "more_misses": "same mean, only the smaller group has misses",
    "two_attributes": "two attributes as one family, no difference",
    "sites_differ": "sites differ by 0.2 and in their mix of groups, permuted within sites",
    "sites_tested": "permuted within sites and the sites tested too, as one family, no difference",
}
"""What was simulated for a test, in words."""


@dataclass(frozen=True)
class SkewedDice:
    """Patients' Dice: Beta(9, 1.5), skewed to the left round 0.86, but 0 for those whose structures are missed.

    Attributes:
        miss_rate: The share of patients that are missed.

    Example:
        >>> dice = SkewedDice(0.08)
        >>> round(dice.mean, 4), round(dice.quantile(0.5), 4)
        (0.7886, 0.8685)
    """

    miss_rate: float

    @property
    def mean(self) -> float:
        """The population's mean."""
        return (1 - self.miss_rate) * 9 / 10.5

    def quantile(self, share: float) -> float:
        """Return the population's quantile."""
        from scipy.special import betaincinv

        if share <= self.miss_rate:
            return 0.0
        return float(betaincinv(9, 1.5, (share - self.miss_rate) / (1 - self.miss_rate)))

    def draw(self, rng: np.random.Generator, *shape: int) -> Float[np.ndarray, "..."]:
        """Draw patients."""
        found: np.ndarray = np.where(rng.random(shape) < self.miss_rate, 0.0, rng.beta(9, 1.5, shape))
        return found


POPULATIONS: Final[dict[str, SkewedDice]] = {
    "no misses": SkewedDice(0.0),
    "3 % missed": SkewedDice(0.03),
    "8 % missed": SkewedDice(0.08),
}
"""The simulated populations: skewed Dice with more or fewer misses."""


@dataclass(frozen=True)
class Table:
    """The shipped table; its rows are plain mappings, as they stand in the summary of an evaluation.

    Attributes:
        made: Machine, versions and settings.
        coverage: Rows with ``scores``, ``patients``, ``repeats`` and the coverage of each of `ESTIMATES`.
        tests: Rows with ``situation``, ``scores``, ``smallest``, ``groups``, ``found`` and ``repeats``.
        power: Rows with ``scores``, ``smallest``, ``groups``, ``gap``, ``found`` and ``repeats``.
        verdicts: Rows with ``scores``, ``smallest``, ``groups``, ``true_gap``, ``margin``, ``repeats`` and the share of
            each answer.
    """

    made: Mapping[str, Any]
    coverage: Sequence[Mapping[str, Any]]
    tests: Sequence[Mapping[str, Any]]
    power: Sequence[Mapping[str, Any]]
    verdicts: Sequence[Mapping[str, Any]]


@lru_cache(maxsize=1)
def simulated_table() -> Table:
    """Return the shipped table."""
    text = files(__package__).joinpath("simulated.json").read_text(encoding="utf-8")
    return Table(**json.loads(text))


def neighbours(sizes: Iterable[int], simulated: Sequence[int] = SIZES) -> tuple[int, ...]:
    """Return the simulated sizes next to these: for each the largest that is not above it, and the next one.

    Example:
        >>> neighbours([12, 37])
        (10, 20, 40)
        >>> neighbours([3]), neighbours([500])
        ((5,), (100,))
    """
    near = set()
    for size in sizes:
        below = [other for other in simulated if other <= size]
        above = [other for other in simulated if other > size]
        near |= set(below[-1:]) | (set(above[:1]) if not below or below[-1] != size else set())
    return tuple(sorted(near))


def simulate_coverage(
    population: SkewedDice,
    patients: int,
    estimate: Estimate,
    *,
    repeats: int = 10_000,
    draws: int = 999,
    seed: int = 0,
    confidence: float = 0.95,
) -> float:
    """Return how often the interval covers the population's value.

    Args:
        population: Where the patients come from.
        patients: Of each sample. Five get an interval here, though the report gives none.
        estimate: What the interval is of.
        repeats: Samples.
        draws: Resamples behind each interval; so many put the ends at the same order statistics as 9,999 do.
        seed: Of the samples and resamples.
        confidence: What the intervals aim at.
    """
    rng = np.random.default_rng(seed)
    quantile = {"median": 0.5, "worst_decile": 0.1}.get(estimate)
    truth = population.mean if quantile is None else population.quantile(quantile)
    covered = 0
    for start in range(0, repeats, SHARED):
        samples = population.draw(rng, min(SHARED, repeats - start), patients)
        settings: dict[str, Any] = {"draws": draws, "seed": int(rng.integers(2**31)), "confidence": confidence}
        if quantile is None:
            method: MeanMethod = estimate  # type: ignore[assignment]
            # The means of Dice lie in [0, 1], and so do the ends.
            low, high = mean_intervals(samples, method=method, **settings).clip(0, 1).T
        else:
            low, high = quantile_intervals(samples, quantile, **settings).T
        covered += int(((low - 1e-12 <= truth) & (truth <= high + 1e-12)).sum())
    return covered / repeats


def simulate_test(
    situation: Situation,
    population: SkewedDice,
    smallest: int,
    *,
    ratio: int = 3,
    shift: float = 0.0,
    repeats: int = 4000,
    draws: int = 399,
    seed: int = 0,
) -> float:
    """Return how often the family of contrasts finds a difference at the 5 % level.

    Args:
        situation: One of `SITUATIONS`.
        population: Where the patients come from.
        smallest: Patients of the smaller group.
        ratio: How many times as many the larger group has.
        shift: What is taken from every patient of the smaller group; without it there is nothing to find.
        repeats: Samples; with sites, each of 20 plans of who is where serves as many of them.
        draws: Permutations. A p-value that equals the level counts as a finding: so few would test below it otherwise.
        seed: Of the samples and of the permutations.
    """
    rng = np.random.default_rng(seed)
    n = smallest * (1 + ratio)
    small = np.arange(n) < smallest
    sex = np.where(small, "F", "M").tolist()
    found, plans = 0, 20
    for plan in range(plans):
        values = population.draw(rng, repeats // plans, n)
        attributes: dict[str, Sequence[str | None]] = {"sex": sex}
        blocks = None
        if situation in ("wider", "narrower"):
            times = 3.0 if situation == "wider" else 1 / 3
            values = population.mean + (values - population.mean) * np.where(small, times, 1.0)
        elif situation == "more_misses":
            whole = SkewedDice(0.0)
            others = whole.draw(rng, repeats // plans, n)
            values = np.where(small, values - population.mean, others - whole.mean)
        elif situation == "two_attributes":
            attributes["site"] = rng.permutation(np.repeat(["a", "b"], [n // 2, n - n // 2])).tolist()
        elif situation in ("sites_differ", "sites_tested"):
            # Most F are at one site, most M at the other.
            first = rng.random(n) < np.where(small, 0.6, 0.3)
            site = np.where(first, "a", "b").tolist()
            blocks = Blocks("site", tuple(site))
            if situation == "sites_differ":
                values = values - 0.2 * first
            else:
                attributes["site"] = site
        values -= shift * small
        # A group of ten may have fewer than ten patients whose site has others too.
        smallest_of_all = smallest_ps(values, attributes, blocks=blocks, minimum=5, draws=draws, seed=seed + plan)
        if smallest_of_all is not None:
            found += int((smallest_of_all <= 0.05 + 1e-12).sum())
    return found / (repeats // plans * plans)
