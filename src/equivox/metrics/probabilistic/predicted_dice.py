"""The Dice that a model expects of its own mask, from its probabilities alone."""

import numpy as np
from jaxtyping import Bool, Float

from equivox.metrics.probabilistic.calibration import check_probability


def predicted_dice(probability: Float[np.ndarray, "*shape"], mask: Bool[np.ndarray, "*shape"]) -> float | None:
    r"""Return the Dice to be expected of a predicted mask if the probabilities are right.

    It is ``2 sum_mask(p) / (sum(p) + |mask|)``: the sum of p over the mask is the expected number of shared voxels, and
    that over the image the expected size of the reference. The ratio of two expectations stands for the expectation of
    a ratio; for a structure of many voxels the two are close, as both sums then scatter little. It does not matter for
    the expectations whether voxels are right and wrong together, which they are; it widens the scatter, so that the
    value is too high for a structure that may be missing as a whole. No reference is needed, and nothing is said if the
    probabilities are not calibrated: that is what comparing it with the real Dice shows.

    Args:
        probability: Of one class, in [0, 1].
        mask: What was predicted as that class.

    Returns:
        In [0, 1]. 0 for an empty mask, as whatever the class may have is then missed; None where the mask is empty and
        no voxel has a probability above 0, as both would then be empty.

    Raises:
        InputError: If the shapes differ, or a probability is not in [0, 1].

    References:
        Jungo and Reyes, "Assessing reliability and challenges of uncertainty estimations for medical image
        segmentation", MICCAI 2019 (telling failed cases from uncertainty; the ratio of expectations is ours).

    Example:
        The mask has two voxels and expects 1.5 of them to be right, of 2 in all: 3 / 4.

        >>> predicted_dice(np.array([0.9, 0.6, 0.3, 0.2]), np.array([True, True, False, False]))
        0.75
    """
    check_probability(probability, mask.shape)
    expected = float(probability.sum(dtype=np.float64))
    size = int(np.count_nonzero(mask))
    if expected + size == 0:
        return None
    return 2 * float(probability[mask].sum(dtype=np.float64)) / (expected + size)
