"""Free-response ROC: the lesions that are found against the false positives that a patient has, over all thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from equivox.errors import InputError
from equivox.metrics.lesions.detection import find_lesions
from equivox.metrics.lesions.matching import match_components
from equivox.metrics.lesions.options import LesionOptions
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, Interval

FROC_POINTS: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The false positives per patient at which the sensitivity is read (LUNA16)."""

Reading = Literal["attainable", "linear"]
"""``attainable``: the highest sensitivity of a threshold with no more false positives. ``linear``: interpolated between
thresholds as LUNA16 does; between two thresholds there is no operating point that attains it."""

_NOT_HIT: Final = -np.inf
_CHUNK: Final = 4_000_000


@dataclass(frozen=True, eq=False)
class CaseCandidates:
    """What a probability map says of one case, for any threshold above the seed's.

    Attributes:
        lesion_scores: For each lesion the highest score of a candidate that hits it; minus infinity without one.
        false_scores: The scores of the candidates that hit nothing.
    """

    lesion_scores: Float[np.ndarray, " lesions"]
    false_scores: Float[np.ndarray, " false"]


@dataclass(frozen=True, eq=False)
class FrocCurve:
    """The curve, one operating point for each distinct score, from the highest threshold to the lowest.

    Attributes:
        thresholds: Candidates of at least this score count; infinity first, where nothing does.
        sensitivity: Lesions found over all lesions.
        false_positives_per_patient: Over all patients, those without a lesion too.
        points: Where it was read.
        at_points: The sensitivity there.
        cpm: The mean of these: the competition performance metric.
        cpm_interval: Percentile interval by resampling patients; None for few patients with a lesion, or without
            spread.
        lesions: All lesions.
        patients: All patients.
    """

    thresholds: Float[np.ndarray, " n"]
    sensitivity: Float[np.ndarray, " n"]
    false_positives_per_patient: Float[np.ndarray, " n"]
    points: tuple[float, ...]
    at_points: tuple[float, ...]
    cpm: float
    cpm_interval: Interval | None
    lesions: int
    patients: int


def froc_candidates(
    reference: Bool[np.ndarray, "i j k"],
    probability: Float[np.ndarray, "_ _ _"],
    spacing_mm: Sequence[float],
    options: LesionOptions | None = None,
    *,
    seed_threshold: float = 0.1,
    score: Literal["max", "mean"] = "max",
) -> CaseCandidates:
    """Find the candidates of one case in a probability map.

    The candidates are the components of what lies at or above a low seed threshold, found once: with another labelling
    for each threshold, components would split and merge along the curve. Matching and sizes are as in
    `detect_lesions`, at the seed threshold; candidates of lesions that are set apart as too small are left out.

    Args:
        reference: The mask of one class.
        probability: Of that class, in [0, 1], on the same grid.
        spacing_mm: Voxel sides along i, j, k.
        options: How lesions are told apart and matched. The default is any overlap with joined candidates, since a
            component at a low threshold is larger than its lesion.
        seed_threshold: Above 0.
        score: Whether a candidate's score is the highest or the mean probability in it.

    Raises:
        InputError: If the grids differ, or a probability or the seed threshold is out of range.

    Example:
        >>> truth, guess = np.zeros((9, 1, 1), dtype=bool), np.zeros((9, 1, 1))
        >>> truth[1:3], guess[1:4, 0, 0], guess[6, 0, 0] = True, [0.2, 0.9, 0.4], 0.3
        >>> found = froc_candidates(truth, guess, (1.0, 1.0, 1.0))
        >>> found.lesion_scores.tolist(), found.false_scores.tolist()
        ([0.9], [0.3])
    """
    chosen = options or LesionOptions(match="any_overlap", policy="merge")
    if not 0 < seed_threshold <= 1:
        msg = f"seed_threshold: expected a number above 0 and at most 1, got {seed_threshold}; give for example 0.1"
        raise InputError(msg)
    if probability.shape != reference.shape:
        msg = (
            f"probability: expected the shape of the reference, {reference.shape}, got {probability.shape}; resample "
            "it to the reference's grid"
        )
        raise InputError(msg)
    # Also refuses NaN.
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        msg = "probability: expected numbers from 0 to 1, got others; give probabilities and not logits or labels"
        raise InputError(msg)
    lesions, _ = find_lesions(reference, spacing_mm, chosen, is_reference=True)
    candidates, _ = find_lesions(probability >= seed_threshold, spacing_mm, chosen, is_reference=False)
    matching = match_components(
        lesions, candidates, rule=chosen.match, threshold=chosen.threshold, policy=chosen.policy, image=None
    )
    measure = ndimage.maximum if score == "max" else ndimage.mean
    numbers = np.arange(1, len(candidates) + 1)
    scores = np.asarray(measure(probability, candidates.labels, numbers) if len(numbers) else [], dtype=np.float64)
    hits = [
        max((float(scores[partner - 1]) for partner in partners), default=_NOT_HIT)
        for partners, kept in zip(matching.partners, lesions.kept.tolist(), strict=True)
        if kept
    ]
    false = np.array([outcome == "false_positive" for outcome in matching.outcomes], dtype=bool)
    return CaseCandidates(np.array(hits, dtype=np.float64), scores[false])


def froc(
    cases: Sequence[CaseCandidates],
    patients: Sequence[str],
    *,
    points: Sequence[float] = FROC_POINTS,
    reading: Reading = "attainable",
    draws: int = 999,
    seed: int = 0,
    confidence: float = 0.95,
    minimum: int = MINIMUM_PATIENTS,
) -> FrocCurve:
    """Return the FROC curve over patients, with the sensitivity at given false positives per patient.

    Candidates of the same score enter together: no threshold tells them apart.

    Args:
        cases: The candidates of each case.
        patients: The patient of each case; false positives are counted per patient.
        points: Where the sensitivity is read, in false positives per patient.
        reading: How it is read between operating points.
        draws: Resamples behind the interval.
        seed: The same seed resamples the same patients.
        confidence: Coverage that is aimed at.
        minimum: With fewer patients with a lesion there is no interval.

    Raises:
        InputError: If no case has a lesion, as there is nothing to find then.

    References:
        Setio et al., "Validation, comparison, and combination of algorithms for automatic detection of pulmonary
        nodules in CT images: the LUNA16 challenge", Med Image Anal 2017.

    Example:
        Found at 0.9; then one false positive at 0.6; then the second lesion at 0.4, tied with a false positive.

        >>> case = CaseCandidates(np.array([0.9, 0.4]), np.array([0.6, 0.4]))
        >>> curve = froc([case], ["p"])
        >>> curve.false_positives_per_patient.tolist(), curve.sensitivity.tolist()
        ([0.0, 0.0, 1.0, 2.0], [0.0, 0.5, 0.5, 1.0])
        >>> curve.at_points, round(curve.cpm, 4)
        ((0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0), 0.7143)
    """
    names, index = np.unique(np.array(list(patients), dtype=object), return_inverse=True)
    lesions = np.concatenate([case.lesion_scores for case in cases]) if cases else np.zeros(0)
    if not len(lesions):
        msg = "FROC: expected a lesion in one of the cases, got none; there is no sensitivity without one"
        raise InputError(msg)
    false = np.concatenate([case.false_scores for case in cases])
    of_lesion = np.repeat(index, [len(case.lesion_scores) for case in cases])
    of_false = np.repeat(index, [len(case.false_scores) for case in cases])
    scores, is_lesion = np.concatenate([lesions, false]), np.arange(len(lesions) + len(false)) < len(lesions)
    owner = np.concatenate([of_lesion, of_false])
    # A lesion that nothing hits is found at no threshold.
    order = np.argsort(-scores, kind="stable")[: int(np.isfinite(scores).sum())]
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)) if len(order) else np.zeros(0, dtype=np.int64)
    weights = np.ones((1, len(names)))
    found, wrong = _cumulated(weights, owner[order], is_lesion[order], last)
    sensitivity, rate = found[0] / len(lesions), wrong[0] / len(names)
    at_points = _read(sensitivity, rate, points, reading)
    cpm = float(np.mean(at_points))
    interval = None
    if len(np.unique(of_lesion)) >= minimum:
        totals = np.bincount(of_lesion, minlength=len(names)).astype(np.float64)
        interval = _interval(
            owner[order], is_lesion[order], last, totals, points, reading, draws=draws, seed=seed, confidence=confidence
        )
    return FrocCurve(
        np.append(np.inf, scores[order][last]),
        sensitivity,
        rate,
        tuple(points),
        at_points,
        cpm,
        interval,
        len(lesions),
        len(names),
    )


def _cumulated(
    weights: Float[np.ndarray, "draws patients"],
    owner: Int[np.ndarray, " events"],
    is_lesion: Bool[np.ndarray, " events"],
    last: Int[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, "draws m"], Float[np.ndarray, "draws m"]]:
    """Return lesions found and false positives down to each distinct score, after a first column of none."""
    mine = weights[:, owner]
    parts = (np.where(is_lesion, mine, 0.0), np.where(is_lesion, 0.0, mine))
    none = np.zeros((len(weights), 1))
    found, wrong = (np.concatenate([none, np.cumsum(part, axis=1)[:, last]], axis=1) for part in parts)
    return found, wrong


def _read(
    sensitivity: Float[np.ndarray, " n"], rate: Float[np.ndarray, " n"], points: Sequence[float], reading: Reading
) -> tuple[float, ...]:
    if reading == "linear":
        # Of several operating points with as many false positives, the one that finds most.
        best = np.append(np.diff(rate) > 0, True)
        return tuple(np.interp(points, rate[best], sensitivity[best]).tolist())
    places = np.searchsorted(rate, np.asarray(points), side="right") - 1
    return tuple(sensitivity[places].tolist())


def _interval(
    owner: Int[np.ndarray, " events"],
    is_lesion: Bool[np.ndarray, " events"],
    last: Int[np.ndarray, " n"],
    totals: Float[np.ndarray, " patients"],
    points: Sequence[float],
    reading: Reading,
    *,
    draws: int,
    seed: int,
    confidence: float,
) -> Interval | None:
    rng = np.random.default_rng(seed)
    n = len(totals)
    rows = max(1, _CHUNK // max(1, len(owner)))
    means: list[float] = []
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=count).astype(np.float64)
        found, wrong = _cumulated(weights, owner, is_lesion, last)
        for of_draw, fp, total in zip(found, wrong, (weights @ totals).tolist(), strict=True):
            # A resample of patients without any lesion has no sensitivity.
            if total:
                means.append(float(np.mean(_read(of_draw / total, fp / n, points, reading))))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], method="inverted_cdf")
    return None if low == high else Interval(float(low), float(high))
