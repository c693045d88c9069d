"""Overlap of two masks, from their voxel counts alone."""

from equivox.errors import InputError


def dice(reference_voxels: int, prediction_voxels: int, both_voxels: int) -> float:
    """Return twice the shared voxels over the sum of both masks' voxels, in [0, 1].

    Raises:
        InputError: If both masks are empty, as Dice is then 0/0; an empty policy decides what such a case scores.

    Example:
        >>> dice(4, 2, 2)
        0.6666666666666666
    """
    counts = reference_voxels, prediction_voxels, both_voxels
    return _fraction(counts, 2 * both_voxels, reference_voxels + prediction_voxels)


def iou(reference_voxels: int, prediction_voxels: int, both_voxels: int) -> float:
    """Return the shared voxels over the voxels of either mask (Jaccard's index), in [0, 1].

    Raises:
        InputError: If both masks are empty, as IoU is then 0/0; an empty policy decides what such a case scores.

    Example:
        >>> iou(4, 2, 2)
        0.5
    """
    counts = reference_voxels, prediction_voxels, both_voxels
    return _fraction(counts, both_voxels, reference_voxels + prediction_voxels - both_voxels)


def sensitivity(reference_voxels: int, prediction_voxels: int, both_voxels: int) -> float:
    """Return the shared voxels over those of the reference, in [0, 1].

    Raises:
        InputError: If the reference is empty, as it is then 0/0.

    Example:
        >>> sensitivity(4, 2, 1)
        0.25
    """
    counts = reference_voxels, prediction_voxels, both_voxels
    return _fraction(counts, both_voxels, reference_voxels, "reference")


def precision(reference_voxels: int, prediction_voxels: int, both_voxels: int) -> float:
    """Return the shared voxels over those of the prediction, in [0, 1].

    Raises:
        InputError: If the prediction is empty, as it is then 0/0.

    Example:
        >>> precision(4, 2, 1)
        0.5
    """
    counts = reference_voxels, prediction_voxels, both_voxels
    return _fraction(counts, both_voxels, prediction_voxels, "prediction")


def _fraction(counts: tuple[int, int, int], part: int, whole: int, of: str = "two masks") -> float:
    """Return part over whole, if two masks can have such counts and the whole is not empty."""
    reference, prediction, both = counts
    if not 0 <= both <= min(reference, prediction) or reference + prediction == 0:
        msg = (
            "overlap: expected a voxel in either mask and no more shared voxels than each has, "
            f"got reference {reference}, prediction {prediction}, shared {both}; check the counts"
        )
        raise InputError(msg)
    if whole == 0:
        msg = f"overlap: expected a voxel in the {of}, got none; an empty policy decides what such a case scores"
        raise InputError(msg)
    return part / whole
