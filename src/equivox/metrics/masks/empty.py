"""What a structure scores that is missing from the reference, from the prediction, or from both."""

from typing import Final, Literal, get_args

from equivox.definitions import METRICS
from equivox.errors import InputError

EmptyPolicy = Literal["penalise", "perfect", "exclude"]
"""How empty masks are scored; see `EMPTY_POLICIES`."""

Outcome = Literal["scored", "missed", "false_positive", "both_empty"]
"""What became of one class of one case: in both masks, in the reference alone, in the prediction alone, in neither."""

EMPTY_POLICIES: Final[dict[EmptyPolicy, str]] = {
    "penalise": (
        "A structure that is in neither mask is left out and counted. A missed structure or one that is in the "
        "prediction alone scores 0 in Dice, IoU, NSD and every other fraction that is then defined, and the diagonal "
        "of the image in each distance."
    ),
    "perfect": (
        "A structure that is in neither mask scores 1 in Dice, IoU, NSD and every other fraction, and 0 in each "
        "distance and error. One that is in a single mask is scored as under 'penalise'."
    ),
    "exclude": (
        "A structure that is in neither mask is left out and counted. One that is in a single mask scores 0 in Dice, "
        "IoU, NSD and every other fraction that is then defined, and is left out of the distances, which are not."
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


def score_of_empty(metric: str, outcome: Outcome, policy: EmptyPolicy, diagonal_mm: float) -> float | None:
    """Return what a fraction or a distance is where one of the masks, or both, is empty.

    Volumes and counts are computed from the masks as they are, empty or not; only where both are empty does the policy
    decide about them too.

    Args:
        metric: A key of `METRICS`.
        outcome: Any but ``scored``.
        policy: See `EMPTY_POLICIES`.
        diagonal_mm: The diagonal of the image.

    Returns:
        The score, or None where it is left out.

    Example:
        >>> score_of_empty("dice", "missed", "penalise", 250.0), score_of_empty("hd95", "missed", "penalise", 250.0)
        (0.0, 250.0)
        >>> score_of_empty("precision", "missed", "penalise", 250.0) is None
        True
    """
    definition = METRICS[metric]
    if outcome == "both_empty":
        if policy != "perfect":
            return None
        return 1.0 if definition.better == "high" else 0.0
    if (definition.needs, outcome) in (("reference", "false_positive"), ("prediction", "missed")):
        return None
    if definition.kind == "distance":
        return None if policy == "exclude" else diagonal_mm
    return 0.0


def check_policy(policy: str) -> None:
    """Refuse a policy that does not exist.

    Raises:
        InputError: If `policy` is not a key of `EMPTY_POLICIES`.
    """
    known = get_args(EmptyPolicy)
    if policy not in known:
        msg = f"empty: expected one of {', '.join(known)}, got '{policy}'; choose one of them"
        raise InputError(msg)
