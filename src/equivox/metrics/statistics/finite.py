"""Values of patients, none of them missing."""

import numpy as np
from jaxtyping import Float

from equivox.errors import InputError


def require_finite(values: Float[np.ndarray, "*samples patients"]) -> None:
    """Refuse values of which one is missing or infinite.

    Raises:
        InputError: If one is.
    """
    if not np.isfinite(values).all():
        msg = "values: expected one finite number a patient, got a missing one; leave that patient out and count it"
        raise InputError(msg)
