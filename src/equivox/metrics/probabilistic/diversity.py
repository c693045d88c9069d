"""How a model's samples of a segmentation compare with what several raters drew."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Integer

from equivox.errors import InputError
from equivox.metrics.masks.label_maps import class_boxes, union

EnergyForm = Literal["unbiased", "kohl"]
"""``unbiased``: pairs of two different samples (or raters) alone. ``kohl``: all ordered pairs, each with itself too, as
published; it is too high by the distances that are not there, the more so the fewer samples there are, and favours
models whose samples are alike where there are few raters."""


@dataclass(frozen=True)
class EnergyDistance:
    """The squared generalised energy distance, ``2 between - within_samples - within_references``.

    Attributes:
        value: Mean over the classes; 0 where samples and raters cannot be told apart. The unbiased form scatters about
            that and can be negative.
        by_class: Class -> its own.
        between: Mean distance of a sample and a rater.
        within_samples: Mean distance of two samples: the diversity of the model.
        within_references: Mean distance of two raters: what they disagree.
    """

    value: float
    by_class: dict[int, float]
    between: float
    within_samples: float
    within_references: float


def generalised_energy_distance(
    samples: Integer[np.ndarray, "samples i j k"],
    references: Integer[np.ndarray, "raters _ _ _"],
    classes: Sequence[int],
    *,
    form: EnergyForm = "unbiased",
) -> EnergyDistance:
    """Return how far the distribution of a model's samples is from that of the raters.

    The distance of two masks is 1 - IoU, and 0 where both are empty, as they agree. Of several classes the mean is
    taken, classes that both lack among them: with samples and raters that all lack a class it counts as 0.

    Args:
        samples: Label maps drawn from the model, one or more.
        references: Label maps of the raters on the same grid, one or more; not necessarily as many.
        classes: The values that are classes.
        form: See `EnergyForm`; the unbiased form needs two samples and two raters.

    Raises:
        InputError: If the grids differ, there is no class, or there are too few samples or raters for the form.

    References:
        Kohl et al., "A probabilistic U-Net for segmentation of ambiguous images", NeurIPS 2018
        (https://arxiv.org/abs/1806.05034).
        Szekely and Rizzo, "Energy statistics", J Stat Plan Inference 2013 (U- and V-statistics).

    Example:
        The model always draws the first voxel; one rater drew it, the other both: distances 0 and 1/2.

        >>> samples, references = np.zeros((2, 2, 2, 1, 1), dtype=np.uint8)
        >>> samples[:, 0] = references[:, 0] = references[1, 1] = 1
        >>> found = generalised_energy_distance(samples, references, [1])
        >>> found.between, found.within_samples, found.within_references, found.value
        (0.25, 0.0, 0.5, 0.0)
        >>> generalised_energy_distance(samples, references, [1], form="kohl").value
        0.25
    """
    least = 2 if form == "unbiased" else 1
    if min(len(samples), len(references)) < least:
        msg = (
            f"energy distance: expected {least} samples and raters or more, got {len(samples)} and {len(references)}; "
            + ("give more, or choose the form 'kohl'" if form == "unbiased" else "give one of each")
        )
        raise InputError(msg)
    if samples.shape[1:] != references.shape[1:]:
        msg = (
            f"samples: expected the shape of the references, {references.shape[1:]}, got {samples.shape[1:]}; "
            "resample them to the reference's grid"
        )
        raise InputError(msg)
    if not classes:
        msg = "classes: expected one or more, got none; name the values that are classes"
        raise InputError(msg)
    parts = np.array([_parts(samples, references, index, form) for index in classes])
    between, first, second = parts.mean(axis=0).tolist()
    by_class = {index: float(2 * part[0] - part[1] - part[2]) for index, part in zip(classes, parts, strict=True)}
    return EnergyDistance(2 * between - first - second, by_class, between, first, second)


def best_rater_dice(
    prediction: Integer[np.ndarray, "i j k"], references: Integer[np.ndarray, "raters _ _ _"], classes: Sequence[int]
) -> dict[int, float]:
    """Return for each class the Dice with the rater whose mask it fits best.

    It asks whether the prediction is one that a rater could have drawn. With more raters it rises on its own, so it
    compares models on the same raters only.

    Args:
        prediction: Class indices.
        references: Those of each rater on the same grid, one or more.
        classes: The values that are classes.

    Returns:
        Class -> Dice in [0, 1]; 1 where the prediction and a rater both lack the class, as they agree.

    Raises:
        InputError: If the grids differ, or there is no rater.

    Example:
        >>> raters = np.array([[[[1, 1, 0]]], [[[1, 1, 1]]]])
        >>> best_rater_dice(np.array([[[1, 0, 0]]]), raters, [1])
        {1: 0.6666666666666666}
    """
    if not len(references) or references.shape[1:] != prediction.shape:
        msg = (
            f"references: expected one or more of the shape {prediction.shape}, got {references.shape}; resample them "
            "to the prediction's grid"
        )
        raise InputError(msg)
    result = {}
    for index in classes:
        mask = prediction == index
        size = int(np.count_nonzero(mask))
        scores = []
        for rater in references == index:
            whole = size + int(np.count_nonzero(rater))
            scores.append(2 * int(np.count_nonzero(mask & rater)) / whole if whole else 1.0)
        result[index] = max(scores)
    return result


def _parts(
    samples: Integer[np.ndarray, "samples i j k"],
    references: Integer[np.ndarray, "raters i j k"],
    index: int,
    form: EnergyForm,
) -> tuple[float, float, float]:
    """Return the mean distances of one class: between both, within the samples, within the raters."""
    boxes = [class_boxes(one, [index])[index] for one in (*samples, *references)]
    held = [box for box in boxes if box is not None]
    if not held:
        return 0.0, 0.0, 0.0
    window = (slice(None), *union(held))
    first, second = samples[window] == index, references[window] == index
    own, theirs = _distances(first, first), _distances(second, second)
    return float(_distances(first, second).mean()), _within(own, form), _within(theirs, form)


def _within(distances: Float[np.ndarray, "n n"], form: EnergyForm) -> float:
    n = len(distances)
    # That of each with itself is 0.
    return float(distances.sum() / (n * (n - 1) if form == "unbiased" else n * n))


def _distances(first: Bool[np.ndarray, "n i j k"], second: Bool[np.ndarray, "m i j k"]) -> Float[np.ndarray, "n m"]:
    """Return 1 - IoU of each pair, 0 where both are empty."""
    sizes = [np.array([np.count_nonzero(one) for one in masks], dtype=np.float64) for masks in (first, second)]
    both = np.array([[np.count_nonzero(one & other) for other in second] for one in first], dtype=np.float64)
    either = sizes[0][:, None] + sizes[1][None, :] - both
    found: Float[np.ndarray, "n m"] = 1 - np.divide(both, either, out=np.ones_like(both), where=either > 0)
    return found
