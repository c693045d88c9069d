"""Several models on the same patients: their ranking, and how much of it other patients would have kept."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS

RankingView = Literal["mean", "mean_rank"]
"""Models are ranked by the mean of their values over patients, or by the mean of their ranks within each patient."""

RANKING_VIEWS: Final[tuple[RankingView, ...]] = ("mean", "mean_rank")

_CHUNK = 1_000_000
"""Comparisons of two models held in memory at a time."""

_ROUNDED = 12
"""Decimals, relative to the largest value, beyond which a difference of two means is rounding."""


@dataclass(frozen=True)
class RankStability:
    """The ranking of models on these patients, and in resamples of them.

    Attributes:
        view: What the models are ranked by.
        patients: Patients with a value from every model; only they count.
        left_out: Patients that lack the value of one model or more.
        scores: What each model is ranked by: its mean, or its mean rank within patients; None without a patient.
        ranks: Rank of each model, 1 for the best; tied ones share the mean of their places.
        probabilities: For each model the share of resamples in which it has rank 1, 2, ...; None with too few patients.
        tau: Mean of Kendall's tau between the ranking of a resample and that observed; None with too few patients, or
            where one of the two rankings always is one tie.
    """

    view: RankingView
    patients: int
    left_out: int
    scores: tuple[float, ...] | None
    ranks: tuple[float, ...] | None
    probabilities: tuple[tuple[float, ...], ...] | None
    tau: float | None


def rank_stability(
    values: Float[np.ndarray, "models patients"],
    *,
    view: RankingView = "mean",
    draws: int = 4999,
    seed: int = 0,
    minimum: int = MINIMUM_PATIENTS,
) -> RankStability:
    """Rank models on the same patients, and again in each bootstrap resample of the patients.

    The patients are resampled jointly: a resample has the same patients for every model. Models that tie share the
    places that they take: of two models tied at the top, each counts half for rank 1 and half for rank 2, so that the
    shares of a model, and those of a rank, add up to 1. Kendall's tau is the tie-corrected one (tau-b).

    A share of resamples says how firmly these patients carry the ranking. It is not the probability that a model is
    the best one.

    Args:
        values: One a model and patient, where greater is better; NaN where a model has none.
        view: What to rank by.
        draws: Resamples.
        seed: The same seed resamples the same patients.
        minimum: With fewer patients nothing is resampled.

    Raises:
        InputError: If there are fewer than two models.

    References:
        Wiesenfarth et al., "Methods and open-source toolkit for analyzing and visualizing challenge results", Sci Rep
        2021. Kendall, "The treatment of ties in ranking problems", Biometrika 1945.

    Example:
        >>> found = rank_stability(np.array([[0.9] * 12, [0.8] * 12]))
        >>> found.ranks, found.probabilities, found.tau
        ((1.0, 2.0), ((1.0, 0.0), (0.0, 1.0)), 1.0)
    """
    models, patients = values.shape
    if models < 2:
        msg = f"values: expected two models or more, got {models}; there is nothing to rank"
        raise InputError(msg)
    known = np.isfinite(values).all(axis=0)
    # Sorted, so that the resamples do not depend on the order of the patients.
    kept = values[:, known].astype(np.float64)
    kept = kept[:, np.lexsort(kept)]
    n = kept.shape[1]
    if not n:
        return RankStability(view, 0, patients, None, None, None, None)
    scored = kept if view == "mean" else -_ranks(kept.T, kept).T
    means = scored.mean(axis=1)
    observed = _ranks(means[None, :], scored)[0]
    shown = means if view == "mean" else -means
    probabilities, tau = None, None
    if n >= minimum:
        probabilities, tau = _resampled(scored, observed, draws, seed)
    return RankStability(view, n, patients - n, tuple(shown.tolist()), tuple(observed.tolist()), probabilities, tau)


def _resampled(
    scored: Float[np.ndarray, "models patients"], observed: Float[np.ndarray, " models"], draws: int, seed: int
) -> tuple[tuple[tuple[float, ...], ...], float | None]:
    models, n = scored.shape
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(models * models, models * n))
    shares = np.zeros((models, models))
    taus = []
    for start in range(0, draws, rows):
        chosen = rng.integers(0, n, (min(rows, draws - start), n))
        means = scored[:, chosen].mean(axis=2).T
        shares += _shares(means, scored)
        taus.append(_tau(means, observed, scored))
    tau = np.concatenate(taus)
    defined = tau[np.isfinite(tau)]
    return (
        tuple(tuple(row) for row in (shares / draws).tolist()),
        float(defined.mean()) if len(defined) else None,
    )


def _signs(means: Float[np.ndarray, "draws models"], scale: np.ndarray) -> Float[np.ndarray, "draws models models"]:
    """Return 1 where the first model's mean is the greater one, -1 where the second's, 0 where they tie."""
    apart = means[:, :, None] - means[:, None, :]
    apart[np.abs(apart) <= 10.0**-_ROUNDED * np.abs(scale).max(initial=0.0)] = 0.0
    result: np.ndarray = np.sign(apart)
    return result


def _ranks(means: Float[np.ndarray, "draws models"], scale: np.ndarray) -> Float[np.ndarray, "draws models"]:
    signs = _signs(means, scale)
    ranks: np.ndarray = 1 + (signs < 0).sum(axis=2) + ((signs == 0).sum(axis=2) - 1) / 2
    return ranks


def _shares(means: Float[np.ndarray, "draws models"], scale: np.ndarray) -> Float[np.ndarray, "models models"]:
    """Return for each model the sum over resamples of its share in each rank."""
    signs = _signs(means, scale)
    above, tied = (signs < 0).sum(axis=2)[:, :, None], (signs == 0).sum(axis=2)[:, :, None]
    places = np.arange(means.shape[1])[None, None, :]
    shares: np.ndarray = (((places >= above) & (places < above + tied)) / tied).sum(axis=0)
    return shares


def _tau(
    means: Float[np.ndarray, "draws models"], observed: Float[np.ndarray, " models"], scale: np.ndarray
) -> Float[np.ndarray, " draws"]:
    signs = _signs(means, scale)
    # The smallest rank is the best, the greatest mean.
    reference = np.sign(observed[None, :] - observed[:, None])
    agreement = (signs * reference[None]).sum(axis=(1, 2))
    size = np.sqrt(np.abs(signs).sum(axis=(1, 2)) * np.abs(reference).sum())
    result = np.full(len(means), np.nan)
    np.divide(agreement, size, out=result, where=size > 0)
    return result
