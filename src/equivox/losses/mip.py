"""The loss of maximum intensity projections (SPOCKMIP)."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from equivox.losses.context import CaseContext
from equivox.losses.focal_tversky import FocalTverskyOptions, focal_tversky
from equivox.losses.logits import foreground


class MipOptions(FocalTverskyOptions):
    """What a user can choose of `MipLoss`.

    Attributes:
        axes: Spatial axes of the patch to project along, from 0, or ``all``.
        target: ``patch`` projects the patch's own label, after augmentation; ``full`` takes the projection of the whole
            volume within the patch's window, as the paper does. What lies beyond the patch along the axis is then asked
            of it too: a perfect patch does not have a loss of 0.
        slab_mm: Project within slabs of this thickness and not through the whole patch; None projects through all.
            Where voxel sizes are not real it is in voxels. Of ``patch`` alone.
        axis_order: ``same`` compares projections along the same axis. ``published`` is for comparison: the released
            code moves the last axis of the prediction to the front before it projects it, and not that of the label,
            so that axis 2 of the label is compared with axis 1 of the prediction and so on; patches must be cubes.
    """

    axes: tuple[int, ...] | Literal["all"] = "all"
    target: Literal["patch", "full"] = "patch"
    slab_mm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    axis_order: Literal["same", "published"] = "same"

    @field_validator("axes")
    @classmethod
    def _axes_exist(cls, value: tuple[int, ...] | str) -> tuple[int, ...] | str:
        if value != "all" and (not value or len(set(value)) != len(value) or not {*value} <= {0, 1, 2}):
            msg = "expected 'all' or different axes from 0 to 2, such as [2]"
            raise ValueError(msg)
        return value


class MipLoss(nn.Module):
    """Focal Tversky loss between the maximum projections of prediction and label, averaged over axes and classes.

    A thin vessel is a few voxels in a volume and a line in its projection: a gap in it costs more there. The gradient
    of a maximum goes to the voxel that is highest on each ray (shared where several are).

    It is meant beside a loss of the volume: the paper's is 0.7 of focal Tversky and 0.3 of this, summed over axes.

    Args:
        options: The user's choices.

    References:
        Radhakrishna et al., "SPOCKMIP: Segmentation of Vessels in MRAs with Enhanced Continuity using Maximum Intensity
        Projection as Loss", 2024 (https://arxiv.org/abs/2407.08655). Ours: the same axis for both, a target from the
        patch itself, several classes, slabs.
    """

    def __init__(self, options: MipOptions) -> None:
        super().__init__()
        self.options = options

    def per_sample(
        self,
        logits: Float[Tensor, "batch classes *spatial"],
        label: Int[Tensor, " batch *spatial"],
        context: CaseContext,
    ) -> Float[Tensor, " batch"]:
        """Return one loss a sample.

        Args:
            logits: Any floating dtype; the loss is computed in float32.
            label: Class of each voxel.
            context: Its `spacing_mm` for slabs; its `projections` where the target is the full volume.

        Raises:
            ValueError: If there is no such axis, or the projections are not there.
        """
        probability, truth = foreground(logits, label)
        count = label.ndim - 1
        axes = tuple(range(count)) if self.options.axes == "all" else self.options.axes
        if max(axes) >= count:
            msg = f"mip: expected axes from 0 to {count - 1}, got {max(axes)}; correct 'axes'"
            raise ValueError(msg)
        parts = [self._along(axis, probability, truth, context) for axis in axes]
        return torch.stack(parts).mean(0)

    def _along(self, axis: int, probability: Tensor, truth: Tensor, context: CaseContext) -> Tensor:
        thickness = self._thickness(axis, probability.shape[2 + axis], context)
        shown = projected(probability if self.options.axis_order == "same" else _turned(probability), axis, thickness)
        if self.options.target == "patch":
            wanted = projected(truth, axis, thickness)
        elif axis in context.projections:
            wanted = context.projections[axis][:, 1:].to(shown.dtype)
            if wanted.shape[2:] != shown.shape[2:]:
                # A coarser head: as labels are brought to its size.
                wanted = functional.interpolate(wanted, size=shown.shape[2:], mode="nearest-exact")
        else:
            msg = f"mip: expected the projection of the whole volume along axis {axis}, got none; use target: patch"
            raise ValueError(msg)
        return focal_tversky(shown.flatten(2), wanted.flatten(2), self.options).mean(1)

    def _thickness(self, axis: int, length: int, context: CaseContext) -> int:
        """Return the thickness of a slab in voxels; the whole length where there are no slabs."""
        if self.options.slab_mm is None or self.options.target == "full":
            return length
        side = 1.0 if context.spacing_mm is None else context.spacing_mm[axis]
        return min(length, max(1, round(self.options.slab_mm / side)))


def projected(volume: Float[Tensor, "batch channels *spatial"], axis: int, thickness: int) -> Tensor:
    """Return the maximum along a spatial axis within slabs of some voxels; the last slab may be thinner.

    Returns:
        The axis has one entry a slab; a single slab leaves it out.

    Example:
        >>> projected(torch.tensor([[[1.0, 3.0, 2.0]]]), 0, 2)
        tensor([[[3., 2.]]])
    """
    length = volume.shape[2 + axis]
    slabs = math.ceil(length / thickness)
    if slabs == 1:
        return volume.amax(2 + axis)
    moved = volume.movedim(2 + axis, -1)
    padded = functional.pad(moved, (0, slabs * thickness - length), value=-math.inf)
    return padded.reshape(*padded.shape[:-1], slabs, thickness).amax(-1)


def _turned(probability: Tensor) -> Tensor:
    """Return the volume (width, length, depth) as the released code projects it: (depth, width, length)."""
    if probability.ndim != 5 or len({*probability.shape[2:]}) != 1:
        msg = f"mip: axis_order 'published' expects patches that are cubes, got {tuple(probability.shape[2:])}"
        raise ValueError(msg)
    return probability.movedim(-1, -3)
