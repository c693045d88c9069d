"""What an additive model of the patients' groups leaves of their values."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float


def additive_residuals(
    values: Float[np.ndarray, " patients"], attributes: Mapping[str, Sequence[str | None]]
) -> Float[np.ndarray, " patients"]:
    """Return what is left of the values when the mean of every group of every attribute is fitted and taken away."""
    columns = [np.ones(len(values))]
    for groups in attributes.values():
        columns += [np.array([float(label == name) for label in groups]) for name in dict.fromkeys(groups)]
    design = np.stack(columns, axis=1)
    solution = np.linalg.lstsq(design, values, rcond=None)[0]
    residuals: np.ndarray = values - design @ solution
    return residuals
