"""What a structure scores that is missing from the reference, from the prediction, or from both."""

from typing import Final, Literal, get_args

from equivox.errors import InputError

EmptyPolicy = Literal["penalise", "perfect", "exclude"]
"""How empty masks are scored; see `EMPTY_POLICIES`."""

Outcome = Literal["scored", "missed", "false_positive", "both_empty"]
"""What became of one class of one case: in both masks, in the reference alone, in the prediction alone, in neither."""

EMPTY_POLICIES: Final[dict[EmptyPolicy, str]] = {
    "penalise": (
        "A structure that is in neither mask is left out and counted. A missed structure or one that is in the "
        "prediction alone scores 0 in Dice, IoU and NSD, and the diagonal of the image in each distance."
    ),
    "perfect": (
        "A structure that is in neither mask scores 1 in Dice, IoU and NSD, and 0 in each distance and in the volume "
        "error. One that is in a single mask is scored as under 'penalise'."
    ),
    "exclude": (
        "A structure that is in neither mask is left out and counted. One that is in a single mask scores 0 in Dice, "
        "IoU and NSD, which are defined, and is left out of the distances, which are not."
    ),
}
"""Each policy in the words that a report prints."""


def outcome_of(reference_voxels: int, prediction_voxels: int) -> Outcome:
    """Name what became of a class from the number of voxels that each mask gives it.

    Example:
        >>> outcome_of(12, 0)
        'missed'
    """
    if reference_voxels and prediction_voxels:
        return "scored"
    if reference_voxels:
        return "missed"
    return "false_positive" if prediction_voxels else "both_empty"


def check_policy(policy: str) -> None:
    """Refuse a policy that does not exist.

    Raises:
        InputError: If `policy` is not a key of `EMPTY_POLICIES`.
    """
    known = get_args(EmptyPolicy)
    if policy not in known:
        msg = f"empty: expected one of {', '.join(known)}, got '{policy}'; choose one of them"
        raise InputError(msg)
