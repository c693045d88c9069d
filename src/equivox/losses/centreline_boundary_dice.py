"""The centreline boundary Dice loss (cbDice): clDice that minds the radius of what it follows."""

from typing import Literal

import edt
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from equivox.losses.context import CaseContext
from equivox.losses.logits import in_float
from equivox.losses.soft_skeleton import soft_skeleton
from equivox.options import Options
from equivox.skeleton import skeleton

_CUT = 0.5


class CentrelineBoundaryDiceOptions(Options):
    """What a user can choose of `CentrelineBoundaryDiceLoss`.

    Attributes:
        form: ``bounded``: no voxel of a centreline counts for more than it is measured by, so that no loss is below 0.
            ``published`` is for comparison: as released, where a hesitant prediction can score a little better than a
            perfect one.
        skeleton: ``thinning`` makes centrelines one voxel wide that keep what is connected. ``morphological`` takes the
            soft skeleton of the masks, as the released code does by default; it may break where a structure is thick.
        iterations: Of the morphological skeleton: the largest radius, in voxels.
        smooth: Added to numerator and denominator of both shares.
    """

    form: Literal["bounded", "published"] = "bounded"
    skeleton: Literal["thinning", "morphological"] = "thinning"
    iterations: int = Field(default=10, ge=0)
    smooth: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class CentrelineBoundaryDiceLoss(nn.Module):
    """One minus the harmonic mean of two shares of centrelines, weighed by the radius of the structure around them.

    All classes but the background are one structure, whose probability is the softmax of the background's logit and the
    highest of the others'. Each voxel of the centreline of one mask counts by how deep it lies in the other: its
    distance to the border over the largest radius R of a centreline. It weighs ``(R - r + 1) / R`` for a radius r
    (squared in 3D), so that thin branches weigh more than the trunk; a centreline along the border counts little.

    Masks are cut at a probability of 1/2 and their centrelines have no gradient, which goes through the probabilities
    on them. So a sample of which no voxel is above 1/2 has no gradient at all: this is meant beside a loss of the
    volume. Distances are in units of the smallest voxel side, where voxel sides are known; a mask that fills the patch
    has its border there.

    Args:
        options: The user's choices.

    References:
        Shi et al., "Centerline Boundary Dice Loss for Vascular Segmentation", MICCAI 2024
        (https://arxiv.org/abs/2407.01517). The paper weighs by the inverse of the radius, ``R / r``; the code that its
        authors released later subtracts, as here. It takes one Dice of the whole batch and the negative of ours, counts
        in voxels, and does not bound the weights (`form`). Its smallest radius is taken over the whole map, zeros
        included, so that it is always 1; so it is here.
    """

    def __init__(self, options: CentrelineBoundaryDiceOptions) -> None:
        super().__init__()
        self.options = options

    def per_sample(
        self,
        logits: Float[Tensor, "batch classes *spatial"],
        label: Int[Tensor, " batch *spatial"],
        context: CaseContext,
    ) -> Float[Tensor, " batch"]:
        """Return one loss a sample, in [0, 1) where it is bounded.

        Args:
            logits: Any floating dtype; the loss is computed in float32, float64 where the logits are.
            label: Class of each voxel.
            context: Its `spacing_mm`, for distances.

        Raises:
            ValueError: If the logits have a single class.
        """
        if logits.shape[1] < 2:
            msg = "centreline_boundary_dice: expected logits of 2 classes or more, background included, got one"
            raise ValueError(msg)
        precise = in_float(logits)
        probability = torch.sigmoid(precise[:, 1:].amax(1) - precise[:, 0])
        spacing = context.spacing_mm or (1.0,) * (label.ndim - 1)
        sides = tuple(side / min(spacing) for side in spacing)
        pairs = zip(probability, label > 0, strict=True)
        return torch.stack([self._loss(own, truth, sides) for own, truth in pairs])

    def _loss(self, probability: Tensor, truth: Tensor, sides: tuple[float, ...]) -> Tensor:
        weight, depth, radius = (part.to(probability) for part in self._measured(truth, sides))
        guess = self._measured(probability.detach() > _CUT, sides)
        own_weight, own_depth, own_radius = (part.to(probability) * probability for part in guess)
        precision = self._share(own_weight, depth, radius, own_radius)
        sensitivity = self._share(weight, own_depth, own_radius, radius)
        return 1 - 2 * precision * sensitivity / (precision + sensitivity)

    def _share(self, weight: Tensor, depth: Tensor, radius: Tensor, own_radius: Tensor) -> Tensor:
        """Return how much of one centreline lies deep in the other mask.

        Args:
            weight: Of the voxels of the centreline.
            depth: In the other mask.
            radius: Of the other mask, on its own centreline.
            own_radius: Likewise of the mask whose centreline it is.
        """
        measure = torch.where((radius == 0) & (own_radius != 0), own_radius, radius)
        if self.options.form == "bounded":
            depth = torch.minimum(depth, measure)
        smooth = self.options.smooth
        share: Tensor = ((weight * depth).sum() + smooth) / ((weight * measure).sum() + smooth)
        return share

    def _measured(self, mask: Tensor, sides: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weight of each voxel of a mask's centreline, and its depth everywhere and on the centreline.

        A depth is over the largest radius.
        """
        array = mask.cpu().numpy()
        distance = _distance_to_border(array, sides)
        if self.options.skeleton == "thinning":
            line = skeleton(array)
        else:
            line = soft_skeleton(mask[None, None].float(), self.options.iterations)[0, 0].cpu().numpy() > _CUT
        radii = np.where(line, distance, 0.0)
        largest = max(float(radii.max(initial=0.0)), 1.0)
        weight = np.where(line, ((largest - radii + 1) / largest) ** (mask.ndim - 1), 0.0)
        parts = (weight, np.minimum(distance, largest) / largest, radii / largest)
        first, second, third = (torch.from_numpy(part) for part in parts)
        return first, second, third


def _distance_to_border(mask: Bool[np.ndarray, "*spatial"], sides: tuple[float, ...]) -> Float[np.ndarray, "*spatial"]:
    """Return the distance of each voxel of the mask to the nearest one outside; 0 outside."""
    found: np.ndarray = edt.edt(np.ascontiguousarray(mask), anisotropy=sides, black_border=bool(mask.all()))
    return found.astype(np.float64)
