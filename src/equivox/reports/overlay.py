"""Cases to look at: the image with the contours of reference and prediction."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Integer, Real

Rank = Literal["worst", "median", "best"]


@dataclass(frozen=True, eq=False, kw_only=True)
class OverlayCase:
    """One case of the gallery, on its own grid.

    Attributes:
        case_id: The cohort's own id.
        rank: Why it is shown.
        dice: The case's mean Dice over classes, in [0, 1].
        image: One channel, in file order.
        reference: Class indices; 0 is background.
        prediction: Class indices; 0 is background.
        spacing_mm: Size of a voxel along i, j, k; only its proportions are used, so that nominal sizes do no harm.
        modality: ``CT``, ``MR``, ``PET``, ``XR``, ``RGB`` or ``OTHER``; chooses the window.
        orientation: Axis codes of i, j, k, such as ``LPS``; None where unknown: then i runs to the right and j down,
            and the sides are not marked.
        classes: Class name -> index; classes are named in the legend when given.
    """

    case_id: str
    rank: Rank
    dice: float
    image: Real[np.ndarray, "i j k"]
    reference: Integer[np.ndarray, "i j k"]
    prediction: Integer[np.ndarray, "i j k"]
    spacing_mm: tuple[float, float, float]
    modality: str
    orientation: str | None = None
    classes: dict[str, int] = field(default_factory=dict)
