"""How far the centrelines of two masks lie inside each other: clDice."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from equivox.errors import InputError
from equivox.metrics.masks.mask_pair import cropped_pair
from equivox.skeleton import skeleton


@dataclass(frozen=True)
class CentrelineScores:
    """Scores of the centrelines of two masks that are both not empty, each in [0, 1].

    Attributes:
        cldice: The harmonic mean of the other two; 0 where both are 0.
        topology_precision: The share of the prediction's centreline that lies inside the reference.
        topology_sensitivity: The share of the reference's centreline that lies inside the prediction.
    """

    cldice: float
    topology_precision: float
    topology_sensitivity: float


def cldice(reference: Bool[np.ndarray, "..."], prediction: Bool[np.ndarray, "..."]) -> CentrelineScores:
    """Compare the centrelines of two masks that both have at least one voxel.

    The centreline of a mask is its skeleton, one voxel wide: by Lee's thinning in 3D and Zhang and Suen's in 2D. Its
    voxels are counted, whatever the length of their sides: voxel sides have no part in it. Thinning goes through the
    array in one order, so that a mirrored mask can have another centreline by a voxel. It wipes out some small pieces
    altogether, such as 2 x 2 x 2 voxels; of those, the voxel nearest to the middle stands for the centreline, so that
    no connected piece (across corners) goes uncounted.

    The soft skeletons of clDice losses, made of minima and maxima over windows, are wider and have other numbers.

    Args:
        reference: Two or three axes; an array with one voxel along one of three axes is 2D. Only the surroundings of
            both masks matter.
        prediction: Of the same shape.

    Raises:
        InputError: If a mask is empty, as a share of its centreline is then 0/0 (an empty policy decides what such a
            case scores), or the arrays are not boolean and of one shape.

    Example:
        A line of four pixels, of which the prediction has three.

        >>> truth, guess = np.zeros((2, 3, 6), dtype=bool)
        >>> truth[1, 1:5] = guess[1, 1:4] = True
        >>> cldice(truth, guess)
        CentrelineScores(cldice=0.8571428571428571, topology_precision=1.0, topology_sensitivity=0.75)

    References:
        Shit et al., "clDice: a novel topology-preserving loss function for tubular structure segmentation", CVPR 2021
        (https://arxiv.org/abs/2003.07311).
        Lee et al., "Building skeleton models via 3-D medial surface/axis thinning algorithms", CVGIP 1994.
        Zhang and Suen, "A fast parallel algorithm for thinning digital patterns", CACM 1984.
    """
    first, second = cropped_pair(reference, prediction)
    for what, mask in (("reference", first), ("prediction", second)):
        if not mask.any():
            msg = f"clDice: expected a voxel in the {what}, got none; an empty policy decides what such a case scores"
            raise InputError(msg)
    sensitivity = float(second[skeleton(first)].mean())
    precision = float(first[skeleton(second)].mean())
    total = precision + sensitivity
    return CentrelineScores(2 * precision * sensitivity / total if total else 0.0, precision, sensitivity)
