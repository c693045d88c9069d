"""How far predicted landmarks lie from those of the reference, and how many are found."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from equivox.errors import InputError

SUCCESS_RADII_MM: Final = (2.0, 2.5, 3.0, 4.0)
"""The radii at which success is counted by default, those of the challenges on cephalometric X-rays."""


FARTHEST: Final = 1e9
"""A coordinate beyond this, either way, is no place in an image: the square of it would overflow in the end."""


@dataclass(frozen=True)
class LandmarkErrors:
    """The errors of the landmarks of one case.

    Attributes:
        errors_mm: Landmark -> distance between the two points; None unless both have it. In the order of the reference,
            then what the prediction alone names.
        matched: Landmarks that both have: every distance below is over these alone.
        missed: Landmarks that the reference alone has.
        extra: Landmarks that the prediction alone has.
        absent: Landmarks that neither has; they count nowhere.
        mean_radial_error_mm: The mean distance; None where nothing is matched.
        median_error_mm: The median distance; None where nothing is matched.
        rmse_mm: The root of the mean squared distance; None where nothing is matched.
        success_rates: Radius in mm -> the share of the reference's landmarks that the prediction has within that
            distance, a missed one being a failure. None where the reference has no landmark.
    """

    errors_mm: Mapping[str, float | None]
    matched: int
    missed: int
    extra: int
    absent: int
    mean_radial_error_mm: float | None
    median_error_mm: float | None
    rmse_mm: float | None
    success_rates: Mapping[float, float | None]


def landmark_errors(
    reference: Float[np.ndarray, "points dims"],
    prediction: Float[np.ndarray, "_ _"],
    *,
    names: Sequence[str] | None = None,
    prediction_names: Sequence[str] | None = None,
    radii_mm: Sequence[float] = SUCCESS_RADII_MM,
) -> LandmarkErrors:
    """Measure the distance of each predicted landmark from that of the reference.

    A landmark that one side lacks has NaN in all its coordinates, or is not named on that side. A missed landmark is
    never left out silently: it is counted, and is a failure at every radius. Distances are over the matched ones, so
    read them beside `LandmarkErrors.missed`.

    Args:
        reference: Points in mm along two or three axes. Where voxel sides are not real, points in voxels give every
            length in voxels, the radii being voxels too.
        prediction: Points of the same unit and frame.
        names: The landmark of each reference point; by default ``"1"``, ``"2"``, and so on.
        prediction_names: The landmark of each predicted point, in any order; by default that of the reference point in
            the same row.
        radii_mm: The distances at which success is counted; a distance equal to the radius is a success.

    Raises:
        InputError: If the points, names or radii do not fit together, a coordinate lies beyond `FARTHEST`, or a point
            has some coordinates but not all.

    Example:
        Three landmarks: one 3 mm off, one found exactly, one missed.

        >>> truth = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
        >>> guess = np.array([[0.0, 3.0], [10.0, 0.0], [np.nan, np.nan]])
        >>> scores = landmark_errors(truth, guess, radii_mm=(2.0, 3.0))
        >>> scores.mean_radial_error_mm, scores.matched, scores.missed
        (1.5, 2, 1)
        >>> scores.success_rates
        {2.0: 0.3333333333333333, 3.0: 0.6666666666666666}

    References:
        Wang et al., "A benchmark for comparison of dental radiography analysis algorithms", Medical Image Analysis
        2016, for the mean radial error and the success detection rate.
    """
    _check_radii(radii_mm)
    has_reference, has_prediction = _present(reference, "reference"), _present(prediction, "prediction")
    if prediction.shape[1] != reference.shape[1]:
        msg = (
            f"prediction: expected points of {reference.shape[1]} coordinates, as the reference has, "
            f"got {prediction.shape[1]}; give both in one frame"
        )
        raise InputError(msg)
    if names is None and prediction_names is not None:
        msg = "names: expected the names of the reference's points beside prediction_names, got none; give both"
        raise InputError(msg)
    own = _checked_names(names, len(reference), "names")
    if prediction_names is None and len(prediction) != len(reference):
        msg = (
            f"prediction: expected {len(reference)} points, as the reference has, got {len(prediction)}; "
            "give NaN for a landmark that was not found, or prediction_names"
        )
        raise InputError(msg)
    theirs = own if prediction_names is None else _checked_names(prediction_names, len(prediction), "prediction_names")
    rows, other_rows = ({name: row for row, name in enumerate(side)} for side in (own, theirs))
    errors: dict[str, float | None] = {}
    missed = extra = 0
    for name in dict.fromkeys([*own, *theirs]):
        row, other = rows.get(name), other_rows.get(name)
        in_reference = row is not None and bool(has_reference[row])
        in_prediction = other is not None and bool(has_prediction[other])
        both = in_reference and in_prediction
        errors[name] = float(np.linalg.norm(prediction[other] - reference[row])) if both else None
        missed += in_reference and not in_prediction
        extra += in_prediction and not in_reference
    found = np.array([error for error in errors.values() if error is not None])
    expected = found.size + missed
    return LandmarkErrors(
        errors_mm=errors,
        matched=found.size,
        missed=missed,
        extra=extra,
        absent=len(errors) - expected - extra,
        mean_radial_error_mm=float(found.mean()) if found.size else None,
        median_error_mm=float(np.median(found)) if found.size else None,
        rmse_mm=float(np.sqrt((found**2).mean())) if found.size else None,
        success_rates={
            float(radius): float(np.count_nonzero(within_radius(found, radius))) / expected if expected else None
            for radius in radii_mm
        },
    )


def within_radius(errors: Float[np.ndarray, " points"], radius: float) -> Bool[np.ndarray, " points"]:
    """Return which errors are at most `radius`, those of NaN not.

    Example:
        Tables hold decimals that binary numbers do not: such a landmark lies 2 mm off all the same.

        >>> 4.4 - 2.4 <= 2.0, within_radius(np.array([4.4 - 2.4, np.nan]), 2.0).tolist()
        (False, [True, False])
    """
    return np.asarray(errors <= radius * (1 + 1e-9))


def _present(points: Float[np.ndarray, "points dims"], what: str) -> Bool[np.ndarray, " points"]:
    """Return which points are there."""
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        msg = f"{what}: expected points of two or three coordinates, got shape {points.shape}; give one row a point"
        raise InputError(msg)
    lacking: Bool[np.ndarray, "points dims"] = np.isnan(points)
    beyond = ~lacking & (np.abs(points) > FARTHEST)
    broken = np.flatnonzero(beyond.any(axis=1) | (lacking.any(axis=1) & ~lacking.all(axis=1)))
    if broken.size:
        first = int(broken[0])
        msg = (
            f"{what}: expected a number within ±{FARTHEST:g} for every coordinate, or NaN for all of them, "
            f"got {points[first].tolist()} in row {first + 1}; mend that point"
        )
        raise InputError(msg)
    return np.asarray(~lacking.any(axis=1))


def _checked_names(names: Sequence[str] | None, points: int, what: str) -> list[str]:
    if names is None:
        return [str(number) for number in range(1, points + 1)]
    if len(names) != points:
        msg = f"{what}: expected one name for each of {points} points, got {len(names)}; name each point"
        raise InputError(msg)
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        msg = f"{what}: expected a name for one point only, got '{twice[0]}' more than once; rename one of them"
        raise InputError(msg)
    return list(names)


def _check_radii(radii_mm: Sequence[float]) -> None:
    for radius in radii_mm:
        if not (math.isfinite(radius) and radius > 0):
            msg = f"radii_mm: expected positive numbers, got {radius}; give for example 2"
            raise InputError(msg)
