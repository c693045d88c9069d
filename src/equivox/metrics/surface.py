"""Distances between the surfaces of two masks."""

from typing import Literal

import edt
import numpy as np
from jaxtyping import Bool
from scipy import ndimage

HD95Convention = Literal["directed_max", "pooled"]


def surface_scores(
    reference: Bool[np.ndarray, "..."],
    prediction: Bool[np.ndarray, "..."],
    spacing_mm: tuple[float, ...],
    tolerance_mm: float,
    hd95: HD95Convention,
) -> tuple[float, float, float]:
    """Return NSD, HD95 and ASSD."""
    reference, prediction = np.pad(reference, 1), np.pad(prediction, 1)
    border_a, border_b = (mask & ~ndimage.binary_erosion(mask) for mask in (reference, prediction))
    a_to_b = edt.edt(np.ascontiguousarray(~border_b), anisotropy=spacing_mm)[border_a].astype(np.float64)
    b_to_a = edt.edt(np.ascontiguousarray(~border_a), anisotropy=spacing_mm)[border_b].astype(np.float64)
    pooled = np.concatenate([a_to_b, b_to_a])
    if hd95 == "pooled":
        hd = float(np.percentile(pooled, 95))
    else:
        hd = float(max(np.percentile(a_to_b, 95), np.percentile(b_to_a, 95)))
    return float((pooled <= tolerance_mm).mean()), hd, float(pooled.mean())
