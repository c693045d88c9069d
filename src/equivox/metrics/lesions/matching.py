"""Which detection belongs to which lesion."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Integer, Real
from scipy import ndimage

from equivox.errors import InputError
from equivox.metrics.lesions.components import Components

MatchRule = Literal["any_overlap", "dice", "iou", "cover", "suvmax"]
"""When a detection finds a lesion: they share a voxel; their Dice, their IoU, or the share of the lesion that the
detection covers exceeds a threshold; the detection covers the lesion's hottest voxel (one of them, where several are
equally hot)."""

MatchPolicy = Literal["one_to_one", "merge"]
"""``one_to_one``: each lesion has at most one detection and each detection at most one lesion, chosen among the pairs
that the rule accepts so that the sum of their overlaps is the largest; what remains is missed or false.
``merge``: all detections that touch a lesion count as one, their union is held against the rule, and a detection may
find several lesions."""

DetectionOutcome = Literal["true_positive", "false_positive", "ignored", "too_small"]
"""A detection is right or wrong; ``ignored`` (neither) where it matches a lesion that was set apart as too small; or
``too_small`` itself and removed."""

DEFAULT_THRESHOLDS: Final[dict[str, float]] = {"dice": 0.1, "iou": 0.5, "cover": 0.5}
"""The thresholds of the rules that have one."""


@dataclass(frozen=True)
class Matching:
    """What was matched.

    Attributes:
        partners: For each lesion the numbers of its detections, in rising order; none where it was missed or set apart.
        dice: For each lesion the Dice with its detections taken together; None without one.
        iou: The same as IoU.
        outcomes: The outcome of each detection.
    """

    partners: tuple[tuple[int, ...], ...]
    dice: tuple[float | None, ...]
    iou: tuple[float | None, ...]
    outcomes: tuple[DetectionOutcome, ...]


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The pairs of a lesion and a detection, or of a lesion and the union of its detections, that share a voxel.

    Attributes:
        lesion: Number of the lesion, from 0.
        detection: Number of the detection, from 0; -1 for a union.
        both: Shared voxels.
        of_lesion: Voxels of the lesion.
        of_detection: Voxels of the detection, or of the union.
        hot: Whether a hottest voxel is among the shared ones.
    """

    lesion: Integer[np.ndarray, " pairs"]
    detection: Integer[np.ndarray, " pairs"]
    both: Integer[np.ndarray, " pairs"]
    of_lesion: Integer[np.ndarray, " pairs"]
    of_detection: Integer[np.ndarray, " pairs"]
    hot: Bool[np.ndarray, " pairs"]

    @property
    def dice(self) -> Float[np.ndarray, " pairs"]:
        value: Float[np.ndarray, " pairs"] = 2 * self.both / (self.of_lesion + self.of_detection)
        return value

    @property
    def iou(self) -> Float[np.ndarray, " pairs"]:
        value: Float[np.ndarray, " pairs"] = self.both / (self.of_lesion + self.of_detection - self.both)
        return value

    @property
    def cover(self) -> Float[np.ndarray, " pairs"]:
        value: Float[np.ndarray, " pairs"] = self.both / self.of_lesion
        return value


def match_components(
    reference: Components,
    prediction: Components,
    *,
    rule: MatchRule,
    threshold: float | None = None,
    policy: MatchPolicy = "one_to_one",
    image: Real[np.ndarray, "i j k"] | None = None,
) -> Matching:
    """Match detections to lesions.

    Components that are not `kept` take no part, with one exception: a detection that found no lesion but would have
    found one that was set apart is neither right nor wrong. With ``one_to_one`` the overlap that is summed is the
    rule's own measure, and the Dice for ``any_overlap`` and ``suvmax``; pairs that the rule refuses are left out before
    the sum is made, and not after it as in some published code, where a refused pair can displace an accepted one.

    Args:
        reference: The lesions.
        prediction: The detections, on the same grid.
        rule: When a detection finds a lesion.
        threshold: To be exceeded, for the rules that have one; their own of `DEFAULT_THRESHOLDS` if None.
        policy: Whether several detections of one lesion are joined.
        image: The uptake, for the rule ``suvmax``.

    Raises:
        InputError: If the grids differ, or ``suvmax`` lacks an image of that grid with a finite value in each lesion's
            voxels.

    Example:
        One lesion of six voxels, found in two pieces:

        >>> from equivox.metrics.lesions.components import connected_components
        >>> truth, guess = np.zeros((2, 8, 1, 1), dtype=bool)
        >>> truth[1:7] = guess[1:3] = guess[4:8] = True
        >>> lesions, found = (connected_components(mask, (1.0, 1.0, 1.0)) for mask in (truth, guess))
        >>> match_components(lesions, found, rule="any_overlap").outcomes
        ('false_positive', 'true_positive')
        >>> match_components(lesions, found, rule="any_overlap", policy="merge").dice
        (0.8333333333333334,)
    """
    limit = DEFAULT_THRESHOLDS.get(rule, 0.0) if threshold is None else threshold
    _check(reference, prediction, rule, image)
    pairs = _overlaps(reference, prediction, image if rule == "suvmax" else None)
    if policy == "merge":
        joined = _joined(pairs, len(reference))
        passing = joined.lesion[_accepted(joined, rule, limit)]
        accepted = np.isin(pairs.lesion, passing)
        chosen = accepted & reference.kept[pairs.lesion]
        measured = joined
    else:
        accepted = _accepted(pairs, rule, limit)
        chosen = _assign(pairs, accepted & reference.kept[pairs.lesion], _score(pairs, rule))
        measured = _Pairs(*(getattr(pairs, name)[chosen] for name in _Pairs.__dataclass_fields__))
    outcomes = np.full(len(prediction), "false_positive", dtype=object)
    outcomes[pairs.detection[accepted & ~reference.kept[pairs.lesion]]] = "ignored"
    outcomes[pairs.detection[chosen]] = "true_positive"
    outcomes[~prediction.kept] = "too_small"
    partners: list[list[int]] = [[] for _ in range(len(reference))]
    for lesion, detection in zip(pairs.lesion[chosen].tolist(), pairs.detection[chosen].tolist(), strict=True):
        partners[lesion].append(detection + 1)
    dice: list[float | None] = [None] * len(reference)
    iou: list[float | None] = [None] * len(reference)
    for lesion, one, other in zip(measured.lesion.tolist(), measured.dice.tolist(), measured.iou.tolist(), strict=True):
        if partners[lesion]:
            dice[lesion], iou[lesion] = one, other
    return Matching(tuple(tuple(sorted(own)) for own in partners), tuple(dice), tuple(iou), tuple(outcomes))


def _check(
    reference: Components, prediction: Components, rule: MatchRule, image: Real[np.ndarray, "i j k"] | None
) -> None:
    if reference.labels.shape != prediction.labels.shape:
        msg = (
            f"prediction: expected the shape of the reference, {reference.labels.shape}, got "
            f"{prediction.labels.shape}; resample it to the reference's grid"
        )
        raise InputError(msg)
    if rule != "suvmax":
        return
    if image is None or image.shape != reference.labels.shape:
        what = "none" if image is None else f"one of shape {image.shape}"
        msg = (
            f"image: expected one of shape {reference.labels.shape} for the rule 'suvmax', got {what}; give the image "
            "on the masks' grid, or choose another rule"
        )
        raise InputError(msg)
    if not np.isfinite(image[reference.labels > 0]).all():
        msg = "image: expected finite values within the lesions, got others; mend the image, or choose another rule"
        raise InputError(msg)


def _overlaps(reference: Components, prediction: Components, image: Real[np.ndarray, "i j k"] | None) -> _Pairs:
    """Return all pairs that share a voxel, without detections that are set apart."""
    shared = (reference.labels > 0) & (prediction.labels > 0)
    width = len(prediction) + 1
    codes = reference.labels[shared].astype(np.int64) * width + prediction.labels[shared]
    pairs, both = np.unique(codes, return_counts=True)
    lesion, detection = pairs // width - 1, pairs % width - 1
    hot = np.zeros(len(pairs), dtype=bool)
    if image is not None and len(reference):
        peaks = np.asarray(ndimage.maximum(image, reference.labels, np.arange(len(reference) + 1)))
        hot = np.isin(pairs, codes[image[shared] == peaks[reference.labels[shared]]])
    kept = prediction.kept[detection]
    of_lesion, of_detection = reference.voxels[lesion], prediction.voxels[detection]
    return _Pairs(*(values[kept] for values in (lesion, detection, both, of_lesion, of_detection, hot)))


def _joined(pairs: _Pairs, lesions: int) -> _Pairs:
    """Return one pair for each lesion that is touched: the lesion and all detections that touch it."""
    touched = np.unique(pairs.lesion)

    def total(values: Integer[np.ndarray, " pairs"] | Bool[np.ndarray, " pairs"]) -> Integer[np.ndarray, " touched"]:
        sums: Integer[np.ndarray, " touched"] = np.bincount(pairs.lesion, values, lesions)[touched].astype(np.int64)
        return sums

    of_lesion = np.zeros(lesions, dtype=np.int64)
    of_lesion[pairs.lesion] = pairs.of_lesion
    return _Pairs(
        touched,
        np.full(len(touched), -1),
        total(pairs.both),
        of_lesion[touched],
        total(pairs.of_detection),
        total(pairs.hot) > 0,
    )


def _accepted(pairs: _Pairs, rule: MatchRule, threshold: float) -> Bool[np.ndarray, " pairs"]:
    if rule == "any_overlap":
        return np.ones(len(pairs.both), dtype=bool)
    if rule == "suvmax":
        return pairs.hot
    accepted: Bool[np.ndarray, " pairs"] = _score(pairs, rule) > threshold
    return accepted


def _score(pairs: _Pairs, rule: MatchRule) -> Float[np.ndarray, " pairs"]:
    return {"iou": pairs.iou, "cover": pairs.cover}.get(rule, pairs.dice)


def _assign(
    pairs: _Pairs, allowed: Bool[np.ndarray, " pairs"], score: Float[np.ndarray, " pairs"]
) -> Bool[np.ndarray, " pairs"]:
    """Choose among the allowed pairs so that none shares a lesion or a detection and the sum of scores is largest."""
    chosen = np.zeros(len(allowed), dtype=bool)
    places = np.flatnonzero(allowed)
    if not places.size:
        return chosen
    # Takes half a second to import, which every worker of an evaluation without lesions would pay.
    from scipy.optimize import linear_sum_assignment

    rows, row = np.unique(pairs.lesion[places], return_inverse=True)
    columns, column = np.unique(pairs.detection[places], return_inverse=True)
    # Lesions far apart do not compete: solving each neighbourhood by itself keeps the tables small.
    size = len(rows) + len(columns)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(places)), (row, len(rows) + column)), shape=(size, size))
    _, part = connected_components(graph, directed=False)
    order = np.argsort(part[row], kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(part[row][order])) + 1):
        if len(own) == 1:
            chosen[places[own]] = True
            continue
        near, a = np.unique(row[own], return_inverse=True)
        far, b = np.unique(column[own], return_inverse=True)
        table = np.zeros((len(near), len(far)))
        table[a, b] = score[places[own]]
        index = np.full(table.shape, -1)
        index[a, b] = places[own]
        picked = index[linear_sum_assignment(table, maximize=True)]
        chosen[picked[picked >= 0]] = True
    return chosen
