"""Calibration of one class's probability map: mergeable counts, and the errors and curve that come of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from equivox.errors import InputError

FINE_BINS: Final = 200
"""Bins of equal width that are counted; the bins of an error or a curve are made of whole ones or of shares of them."""

BINS: Final = 20
"""Bins of an error or a curve where no other number is asked for."""

_CHUNK: Final = 65_536


@dataclass(frozen=True, eq=False)
class CalibrationCounts:
    """How often probabilities came true, by fine bin; those of several cases add up.

    Bin k of n holds ``k/n <= p < (k + 1)/n``; the last one holds p = 1 as well. The edges are the doubles nearest to
    k/n, and a probability is compared with them as it is.

    Attributes:
        voxels: Voxels of each bin.
        confidence: Sum of their probabilities.
        hits: Voxels of the class among them.
        squared_error: Sum over all voxels of the squared difference between probability and truth.
    """

    voxels: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    hits: Int[np.ndarray, " bins"]
    squared_error: float

    def __add__(self, other: "CalibrationCounts") -> "CalibrationCounts":
        return CalibrationCounts(
            self.voxels + other.voxels,
            self.confidence + other.confidence,
            self.hits + other.hits,
            self.squared_error + other.squared_error,
        )

    @property
    def total(self) -> int:
        """All voxels."""
        return int(self.voxels.sum())


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Probability against frequency, by bins of equal width.

    Attributes:
        low: Lower edge of each bin.
        high: Upper edge of each bin.
        weight: Share of the voxels that are in it.
        confidence: Their mean probability; NaN in an empty bin.
        observed: The share of them that is of the class; NaN in an empty bin.
    """

    low: Float[np.ndarray, " bins"]
    high: Float[np.ndarray, " bins"]
    weight: Float[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    observed: Float[np.ndarray, " bins"]


def nothing_counted() -> CalibrationCounts:
    """Return the counts of no voxel."""
    none = np.zeros(FINE_BINS, dtype=np.int64)
    return CalibrationCounts(none, none.astype(np.float64), none, 0.0)


def count_calibration(probability: Float[np.ndarray, "*shape"], truth: Bool[np.ndarray, "*shape"]) -> CalibrationCounts:
    """Count how often the probabilities of one class came true.

    Args:
        probability: Of that class, in [0, 1].
        truth: Whether a voxel is of the class.

    Returns:
        The counts; all 0 for no voxel.

    Raises:
        InputError: If the shapes differ, or a probability is not in [0, 1] (NaN is not).

    Example:
        >>> counts = count_calibration(np.array([0.0, 0.995, 1.0]), np.array([False, True, True]))
        >>> counts.voxels[[0, -1]].tolist(), counts.hits[[0, -1]].tolist(), counts.total
        ([1, 2], [0, 2], 3)
    """
    check_probability(probability, truth.shape)
    order: Literal["F", "C"] = "F" if probability.flags.f_contiguous else "C"
    p, y = probability.ravel(order=order), truth.ravel(order=order)
    counts = nothing_counted()
    for start in range(0, len(p), _CHUNK):
        counts += _count(p[start : start + _CHUNK].astype(np.float64), y[start : start + _CHUNK])
    return counts


def expected_calibration_error(counts: CalibrationCounts, *, bins: int = BINS) -> float | None:
    """Return the ECE: the mean over voxels of how far their bin's mean probability is from its frequency.

    It is that of one class against all others, and not that of the most probable class: a background that fills the
    image would hide what is wrong at the structure. It is never negative, and a few voxels alone lift it above 0
    however well calibrated their probabilities are.

    Args:
        counts: Of one case, or of several together.
        bins: Of equal width; a divisor of `FINE_BINS`.

    Returns:
        In [0, 1]; None without a voxel.

    Raises:
        InputError: If the fine bins do not make that many.

    References:
        Guo et al., "On calibration of modern neural networks", ICML 2017 (https://arxiv.org/abs/1706.04599).

    Example:
        Two voxels of probability 0.5, one of them of the class, and two of 0.9, neither: (0 * 2 + 0.9 * 2) / 4.

        >>> truth = np.array([True, False, False, False])
        >>> expected_calibration_error(count_calibration(np.array([0.5, 0.5, 0.9, 0.9]), truth))
        0.45
    """
    voxels, confidence, hits = (part.reshape(_checked(bins), -1).sum(axis=1) for part in _parts(counts))
    return float(np.abs(confidence - hits).sum() / voxels.sum()) if voxels.any() else None


def adaptive_calibration_error(counts: CalibrationCounts, *, bins: int = BINS) -> float | None:
    """Return the ACE: as the ECE, but with bins that all hold as many voxels.

    Bins of equal width leave most of a segmentation in the first and the last one; these part it evenly. The bins are
    cut from the fine ones: voxels of a fine bin are taken for alike, and where an edge cuts through it, both sides get
    their share of its probabilities and hits. So no order of equal probabilities is made up, counts of several cases
    can be joined, and probabilities are told apart to 0.005.

    Args:
        counts: Of one case, or of several together.
        bins: Of equal mass, 1 or more.

    Returns:
        In [0, 1]; None without a voxel.

    Raises:
        InputError: If there is no bin.

    References:
        Nixon et al., "Measuring calibration in deep learning", CVPR workshops 2019 (https://arxiv.org/abs/1904.01685);
        there over all classes, here of one.
    """
    if bins < 1:
        msg = f"bins: expected 1 or more, got {bins}; give for example {BINS}"
        raise InputError(msg)
    voxels, confidence, hits = _parts(counts)
    if not voxels.any():
        return None
    mass = np.append(0.0, np.cumsum(voxels))
    gap = np.append(0.0, np.cumsum(confidence - hits))
    # Linear between fine edges: a share of a fine bin has the same share of its gap. Where a fine bin is empty, mass
    # stands still; np.interp needs it to rise.
    rising = np.append(True, np.diff(mass) > 0)
    at_edges = np.interp(np.linspace(0.0, mass[-1], bins + 1), mass[rising], gap[rising])
    return float(np.abs(np.diff(at_edges)).sum() / mass[-1])


def brier_score(counts: CalibrationCounts) -> float | None:
    """Return the mean squared difference between probability and truth, in [0, 1]; None without a voxel.

    It is that of one class against all others, so a binary task has half of what the sum over both classes is.

    References:
        Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 1950.

    Example:
        >>> brier_score(count_calibration(np.array([0.5, 1.0]), np.array([True, True])))
        0.125
    """
    return counts.squared_error / counts.total if counts.total else None


def reliability_curve(counts: CalibrationCounts, *, bins: int = BINS) -> ReliabilityCurve:
    """Return probability against frequency in bins of equal width.

    Args:
        counts: Of one case, or of several together.
        bins: A divisor of `FINE_BINS`.

    Raises:
        InputError: If the fine bins do not make that many.
    """
    voxels, confidence, hits = (part.reshape(_checked(bins), -1).sum(axis=1) for part in _parts(counts))
    edges = _edges(bins)
    with np.errstate(invalid="ignore"):
        return ReliabilityCurve(
            edges[:-1], edges[1:], voxels / max(1.0, voxels.sum()), confidence / voxels, hits / voxels
        )


def mean_reliability(curves: Sequence[ReliabilityCurve]) -> ReliabilityCurve:
    """Return the curve of several patients, each of them with the same weight however many voxels it has.

    Args:
        curves: One or more, with the same bins.

    Raises:
        InputError: If there is no curve, or the bins differ.
    """
    if not curves or any(len(curve.low) != len(curves[0].low) for curve in curves):
        msg = f"reliability: expected one or more curves with the same bins, got {len(curves)}; make them alike"
        raise InputError(msg)
    weights = np.stack([curve.weight for curve in curves])
    total = weights.sum(axis=0)

    def mean(values: list[Float[np.ndarray, " bins"]]) -> Float[np.ndarray, " bins"]:
        held = np.where(weights > 0, np.stack(values), 0.0)
        found: np.ndarray = (weights * held).sum(axis=0) / total
        return found

    with np.errstate(invalid="ignore"):
        confidence, observed = (mean([getattr(curve, name) for curve in curves]) for name in ("confidence", "observed"))
    return ReliabilityCurve(curves[0].low, curves[0].high, total / len(curves), confidence, observed)


def check_probability(probability: Float[np.ndarray, "..."], shape: tuple[int, ...]) -> None:
    """Refuse what is no map of probabilities.

    Raises:
        InputError: If it has another shape, or a number that is not in [0, 1] (NaN is not).
    """
    if probability.shape != shape:
        msg = (
            f"probability: expected the shape of the reference, {shape}, got {probability.shape}; resample it to the "
            "reference's grid"
        )
        raise InputError(msg)
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        msg = "probability: expected numbers from 0 to 1, got others; give probabilities and not logits or labels"
        raise InputError(msg)


def _count(p: Float[np.ndarray, " n"], y: Bool[np.ndarray, " n"]) -> CalibrationCounts:
    edges = _edges(FINE_BINS)
    places = np.minimum((p * FINE_BINS).astype(np.int32), FINE_BINS - 1)
    # The product may be rounded across an edge.
    places -= p < edges[places]
    places += (p >= edges[places + 1]) & (places < FINE_BINS - 1)
    voxels = np.bincount(places, minlength=FINE_BINS)
    confidence = np.bincount(places, weights=p, minlength=FINE_BINS)
    hits = np.bincount(places[y], minlength=FINE_BINS)
    error = p - y
    return CalibrationCounts(voxels, confidence, hits, float(error @ error))


def _parts(counts: CalibrationCounts) -> tuple[Float[np.ndarray, " bins"], ...]:
    return counts.voxels.astype(np.float64), counts.confidence, counts.hits.astype(np.float64)


def _edges(bins: int) -> Float[np.ndarray, " edges"]:
    return np.arange(bins + 1) / bins


def _checked(bins: int) -> int:
    if bins < 1 or FINE_BINS % bins:
        msg = f"bins: expected a divisor of {FINE_BINS}, got {bins}; give for example {BINS}"
        raise InputError(msg)
    return bins
