"""Energy of a network's logits: how unlike what it was trained on a case may be."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from equivox.errors import InputError


@dataclass(frozen=True)
class CaseEnergy:
    """The energy of one case.

    Attributes:
        everywhere: Mean over all voxels.
        foreground: Mean over the voxels whose largest logit is not the background's; None where there is none.
    """

    everywhere: float
    foreground: float | None


def case_energy(logits: Float[np.ndarray, "classes i j k"]) -> CaseEnergy:
    """Return the mean of ``E = -log(sum over classes of exp(logit))`` over a case.

    The higher, the less the network's logits resemble those it gives where it is sure. A logit's scale is that of its
    network: energies of different networks cannot be compared.

    Args:
        logits: Background first; in any dtype, summed in float64.

    Raises:
        InputError: If there is no voxel, or a logit is not finite.

    References:
        Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020.

    Example:
        >>> case_energy(np.zeros((2, 1, 1, 3)))
        CaseEnergy(everywhere=-0.6931471805599453, foreground=None)
    """
    if logits[0].size == 0:
        msg = f"energy: expected logits of a voxel, got shape {logits.shape}; check the scan"
        raise InputError(msg)
    total, inside, voxels = 0.0, 0.0, 0
    # Row by row: nothing of the array's own size is needed beside it.
    for row in range(logits.shape[1]):
        values = logits[:, row].astype(np.float64)
        if not np.isfinite(values).all():
            msg = "energy: expected finite logits, got others; the network or its input is broken"
            raise InputError(msg)
        highest = values.max(axis=0)
        energy = -(highest + np.log(np.exp(values - highest).sum(axis=0)))
        foreground = values.argmax(axis=0) > 0
        total += float(energy.sum())
        inside += float(energy[foreground].sum())
        voxels += int(foreground.sum())
    return CaseEnergy(total / logits[0].size, inside / voxels if voxels else None)


def percentile_rank(value: float, reference: Sequence[float]) -> float:
    """Return which percent of the reference lies below the value, equal ones counting half.

    Raises:
        InputError: If there is no reference.

    Example:
        >>> percentile_rank(2.0, [1.0, 2.0, 3.0, 4.0])
        37.5
    """
    if not len(reference):
        msg = "energy: expected cases to compare with, got none; give a cohort with more held-out cases"
        raise InputError(msg)
    numbers = np.asarray(reference, dtype=np.float64)
    return float(100 * ((numbers < value).sum() + 0.5 * (numbers == value).sum()) / len(numbers))
