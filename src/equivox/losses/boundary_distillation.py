"""Distillation from a teacher that tells the edges of structures from their bodies."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from equivox.losses.agreement import divergence
from equivox.losses.context import CaseContext
from equivox.losses.logits import in_float
from equivox.options import Options

_ROUNDING = 1e-6
"""A distance that equals the width but for rounding is within it."""
_PORT_WEIGHTS = (50.0, 20.0)


class BoundaryDistillationOptions(Options):
    """What a user can choose of `BoundaryDistillationLoss`.

    Attributes:
        edge_weight: Factor of the part on edges.
        body_weight: Factor of the part within bodies.
        edge_mm: How far an edge reaches to either side of a surface, in mm; at least the smallest voxel side, and in
            voxels where voxel sides are not known.
        temperature: The higher, the more the classes (on edges) and the voxels (within bodies) that are not the
            likeliest count.
        form: ``masked``; or ``port``, the arithmetic of a public port of the method, for comparison: there the softmax
            over positions counts the voxels outside too, as logits of 0, and edges are one voxel wide and counted at
            the patch's sides; of the other options only the temperature counts then, as the weights are 50 and 20.
    """

    edge_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    body_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    edge_mm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    form: Literal["masked", "port"] = "masked"

    @model_validator(mode="after")
    def _counts_at_all(self) -> "BoundaryDistillationOptions":
        if self.edge_weight == 0 and self.body_weight == 0:
            msg = "expected an edge_weight or a body_weight above 0, got 0 for both; leave the term out"
            raise ValueError(msg)
        return self


class BoundaryDistillationLoss(nn.Module):
    """How far the logits are from a teacher's, on the edges and within the bodies of the label's structures.

    On edges, voxel by voxel, the classes' probabilities are compared: the mean over the edges of all classes of the
    divergence from the teacher's. Within the body of each class, the class's logits are compared as a distribution over
    positions: where the teacher is sure, and where less so; the mean over the classes that have a body. A sample
    without foreground costs 0. The teacher may be larger than the network, never different in its classes.

    Args:
        options: The user's choices.

    References:
        Liu et al., "BPKD: Boundary Privileged Knowledge Distillation For Semantic Segmentation", WACV 2024
        (https://arxiv.org/abs/2306.08075), whose training code was not released. Ours: widths in mm, a softmax over a
        body's own voxels alone, equal weights.
    """

    def __init__(self, options: BoundaryDistillationOptions) -> None:
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
            context: Its `teacher` of the same shape as the logits; its `spacing_mm` for the width of edges.

        Raises:
            ValueError: If there is no teacher, or its logits have another shape.
        """
        precise = in_float(logits)
        if context.teacher is None or context.teacher.shape != logits.shape:
            came = "none" if context.teacher is None else f"logits of shape {tuple(context.teacher.shape)}"
            msg = f"bpkd: expected a teacher's logits of shape {tuple(logits.shape)}, got {came}; give 'teacher.run'"
            raise ValueError(msg)
        teacher = context.teacher.to(precise.dtype)
        classes = torch.arange(1, logits.shape[1], device=label.device).reshape(-1, *[1] * (label.ndim - 1))
        structures = label[:, None] == classes
        options = self.options
        if options.form == "port":
            edges = edges_of(structures, [1.0] * (label.ndim - 1), 1.0, sides_count=True)
            parts = port_parts(precise, teacher, structures, edges, options.temperature)
            return _PORT_WEIGHTS[0] * parts[0] + _PORT_WEIGHTS[1] * parts[1]
        sides = context.spacing_mm or (1.0,) * (label.ndim - 1)
        # Below the smallest voxel side there would be no edge at all.
        edges = edges_of(structures, sides, max(options.edge_mm, min(sides)))
        edge = edge_divergence(precise, teacher, edges, options.temperature)
        body = body_divergence(precise, teacher, structures & ~edges, options.temperature)
        return options.edge_weight * edge + options.body_weight * body


def edge_divergence(
    logits: Float[Tensor, "batch classes *spatial"],
    teacher: Float[Tensor, "batch classes *spatial"],
    edges: Bool[Tensor, "batch foreground *spatial"],
    temperature: float,
) -> Float[Tensor, " batch"]:
    """Return the mean over the voxels on any edge of the divergence of their classes; 0 where there is no edge."""
    on_edge = edges.any(1).flatten(1)
    values = divergence(teacher, logits, temperature).flatten(1)
    result: Tensor = (values * on_edge).sum(1) / on_edge.sum(1).clamp(min=1)
    return result


def body_divergence(
    logits: Float[Tensor, "batch classes *spatial"],
    teacher: Float[Tensor, "batch classes *spatial"],
    bodies: Bool[Tensor, "batch foreground *spatial"],
    temperature: float,
) -> Float[Tensor, " batch"]:
    """Return the divergence over each body's positions of its class's logits, averaged over the classes with a body."""
    inside = bodies.flatten(2)
    lowest = torch.finfo(logits.dtype).min / 4  # not -inf, whose difference from itself is not a number
    wanted, found = (
        (values[:, 1:].flatten(2) / temperature).masked_fill(~inside, lowest).log_softmax(2)
        for values in (teacher, logits)
    )
    terms = torch.where(inside, wanted.exp() * (wanted - found), 0.0).sum(2)
    present = inside.any(2)
    result: Tensor = temperature**2 * torch.where(present, terms, 0.0).sum(1) / present.sum(1).clamp(min=1)
    return result


def port_parts(
    logits: Float[Tensor, "batch classes *spatial"],
    teacher: Float[Tensor, "batch classes *spatial"],
    structures: Bool[Tensor, "batch foreground *spatial"],
    edges: Bool[Tensor, "batch foreground *spatial"],
    temperature: float,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return edge and body part as a public port of the method computes them, without its weights.

    Both are divergences over all positions of logits that are 0 outside of the region; the edge part is divided by the
    number of edge voxels of all classes, the body part by the number of classes, background included.
    """

    def over_positions(region: Tensor) -> Tensor:
        wanted, found = (
            (values[:, 1:].flatten(2) * region.flatten(2) / temperature).log_softmax(2) for values in (teacher, logits)
        )
        divergences: Tensor = temperature**2 * (wanted.exp() * (wanted - found)).sum((1, 2))
        return divergences

    count = edges.flatten(1).sum(1).clamp(min=1)
    return over_positions(edges) / count, over_positions(structures & ~edges) / logits.shape[1]


def edges_of(
    structures: Bool[Tensor, "batch foreground *spatial"],
    sides: Sequence[float],
    width: float,
    *,
    sides_count: bool = False,
) -> Bool[Tensor, "batch foreground *spatial"]:
    """Return the voxels within a width of the other side of each structure's surface, by centre distances.

    Args:
        structures: One mask a class.
        sides: Voxel sides along the spatial axes.
        width: In the same unit.
        sides_count: Take what is outside of the patch for background; else nothing is known of it.

    Example:
        >>> line = torch.tensor([[[False, True, True, True, False]]])
        >>> edges_of(line, [2.0], 2.0).int().tolist()
        [[[1, 1, 0, 1, 1]]]
    """
    if sides_count:
        near = edges_of(functional.pad(structures, [1, 1] * len(sides)), sides, width)
        for axis in range(2, near.ndim):
            near = near.narrow(axis, 1, near.shape[axis] - 2)
        return near
    # Class by class: distances take four times the memory of a mask, and there may be a hundred classes.
    found = []
    for place in range(structures.shape[1]):
        mask = structures[:, place : place + 1]
        found.append((mask & within(~mask, sides, width)) | (~mask & within(mask, sides, width)))
    return torch.cat(found, 1)


def within(
    mask: Bool[Tensor, "batch channels *spatial"], sides: Sequence[float], reach: float
) -> Bool[Tensor, "batch channels *spatial"]:
    """Return which voxels are at most so far from the mask, in mm.

    An exact distance transform, axis by axis, that looks no further than it has to and stays on the device.
    """
    squares = torch.where(mask, 0.0, math.inf)
    for axis, side in enumerate(sides, start=2):
        length = mask.shape[axis]
        nearest = squares.clone()
        for steps in range(1, min(length - 1, int(reach / side * (1 + _ROUNDING))) + 1):
            cost = (steps * side) ** 2
            low, high = squares.narrow(axis, 0, length - steps), squares.narrow(axis, steps, length - steps)
            for target, source in ((0, high), (steps, low)):
                part = nearest.narrow(axis, target, length - steps)
                torch.minimum(part, source + cost, out=part)
        squares = nearest
    return squares <= reach**2 * (1 + _ROUNDING)
