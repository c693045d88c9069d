"""Distances between two sets of segmentations: what a network drew for a case, and what raters drew.

Each segmentation is one point, its coordinates the voxels (and classes); a set is a cloud of such points. The distances
are 0 where the clouds are the same and say how unlike they are where they are not: a network that always draws the
raters' mean is far from raters who disagree.

All take `samples` ``(batch, samples, voxels)``, `raters` ``(batch, raters, voxels)`` and `present`
``(batch, raters)``, False for raters that a case does not have (None where each has all), and return ``(batch,)``.
Gradients go to the samples. The work is done in float32, in float64 where the samples are.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Scaling = Literal["per_voxel", "published"]
"""``per_voxel`` divides the points by the root of the number of voxels, so that distances are root mean squared
differences in [0, 1], whatever the patch. ``published`` leaves them, as the released code does: distances then grow
with the patch, and a blur of .05 is far below them."""

_NEAR = 1e-8
"""A squared distance below this has no slope: the root of 0 has none."""
_MOST_COPIES = 64
"""Points that an exact assignment is solved for, once each set is repeated to the same number."""


def energy_distance(
    samples: Float[Tensor, "batch samples voxels"],
    raters: Float[Tensor, "batch raters voxels"],
    present: Bool[Tensor, "batch raters"] | None = None,
    *,
    scaling: Scaling = "per_voxel",
) -> Float[Tensor, " batch"]:
    """Return ``E|s - r| - E|s - s'| / 2 - E|r - r'| / 2``, each point also paired with itself.

    Args:
        samples: See the module, likewise the others.
        raters: One point a rater.
        present: Which raters there are.
        scaling: Of the points; see `Scaling`.

    Raises:
        ValueError: If a case has no rater.

    References:
        Szekely and Rizzo, "Energy statistics", 2013. It is what PULASki (https://arxiv.org/abs/2312.15686) calls its
        Hausdorff divergence, and its default.

    Example:
        >>> one, two = torch.tensor([[[0.0]]]), torch.tensor([[[0.0], [1.0]]])
        >>> energy_distance(one, two)  # 1/2 - 0 - 1/4
        tensor([0.2500])
    """
    points, others, weights = _clouds(samples, raters, present, scaling)
    own = points.new_full(points.shape[:2], 1 / points.shape[1])
    across = _mean(_distances(points, others), own, weights)
    return (
        across
        - _mean(_distances(points, points), own, own) / 2
        - _mean(_distances(others, others), weights, weights) / 2
    )


def sinkhorn_divergence(
    samples: Float[Tensor, "batch samples voxels"],
    raters: Float[Tensor, "batch raters voxels"],
    present: Bool[Tensor, "batch raters"] | None = None,
    *,
    scaling: Scaling = "per_voxel",
    blur: float = 0.05,
    cooling: float = 0.5,
) -> Float[Tensor, " batch"]:
    """Return the debiased Sinkhorn divergence of half the squared distance: optimal transport with a little blur.

    Solved with logarithms, from a blur of the clouds' diameter down by a factor a step; the potentials' last update
    alone has a gradient, which is that of the divergence where they have settled.

    Args:
        samples: See the module, likewise the others.
        raters: One point a rater.
        present: Which raters there are.
        scaling: Of the points; see `Scaling`.
        blur: Distance below which points are not told apart, in the unit of the points.
        cooling: Factor of the blur from one step to the next, in (0, 1).

    Raises:
        ValueError: If a case has no rater.

    References:
        Feydy et al., "Interpolating between Optimal Transport and MMD using Sinkhorn Divergences", AISTATS 2019.

    Example:
        >>> here, there = torch.tensor([[[0.0]]]), torch.tensor([[[1.0]]])
        >>> sinkhorn_divergence(here, there)  # one point each: half the squared distance
        tensor([0.5000])
    """
    points, others, weights = _clouds(samples, raters, present, scaling)
    own = points.new_full(points.shape[:2], -math.log(points.shape[1]))
    logs = weights.log()
    # Within [0, 1] once divided by the root of the voxels: a value must not depend on the rest of the batch.
    diameter = 1.0 if scaling == "per_voxel" else _diameter(points, others)
    # Each potential's last update alone has the gradient of its own points: in both, each pair would count twice.
    still = points.detach()
    forth, back = _costs(points, others), _costs(others, still)
    within, among = _costs(points, still), _costs(others, others)
    with torch.no_grad():
        steps = _blurs(diameter, blur, cooling)
        f, g = _softmin(steps[0], forth, logs), _softmin(steps[0], back, own)
        f_own, g_own = _softmin(steps[0], within, own), _softmin(steps[0], among, logs)
        for temperature in steps:
            f_next = _softmin(temperature, forth, logs + g / temperature)
            g_next = _softmin(temperature, back, own + f / temperature)
            f_own = (f_own + _softmin(temperature, within, own + f_own / temperature)) / 2
            g_own = (g_own + _softmin(temperature, among, logs + g_own / temperature)) / 2
            f, g = (f + f_next) / 2, (g + g_next) / 2
    last = steps[-1]
    f_last = _softmin(last, forth, logs + g / last) - _softmin(last, within, own + f_own / last)
    g_last = _softmin(last, back, own + f / last) - _softmin(last, among, logs + g_own / last)
    result: Tensor = f_last.mean(1) + (weights * g_last).sum(1)
    return result


def transport_distance(
    samples: Float[Tensor, "batch samples voxels"],
    raters: Float[Tensor, "batch raters voxels"],
    present: Bool[Tensor, "batch raters"] | None = None,
    *,
    scaling: Scaling = "per_voxel",
) -> Float[Tensor, " batch"]:
    """Return the least mean of half the squared distance over all ways of pairing samples with raters, exactly.

    What `sinkhorn_divergence` approaches as its blur nears 0, for the few points that there are of a case. Sets of
    different numbers are repeated until they match.

    Args:
        samples: See the module, likewise the others.
        raters: One point a rater.
        present: Which raters there are.
        scaling: Of the points; see `Scaling`.

    Raises:
        ValueError: If a case has no rater, or the numbers of points have a least common
            multiple above 64.

    Example:
        >>> one, two = torch.tensor([[[0.0]]]), torch.tensor([[[0.0], [1.0]]])
        >>> transport_distance(one, two)  # (0 + 1/2) / 2
        tensor([0.2500])
    """
    from scipy.optimize import linear_sum_assignment

    points, others, weights = _clouds(samples, raters, present, scaling)
    costs = _costs(points, others)
    found = []
    for cost, weight in zip(costs, weights, strict=True):
        known = cost[:, weight > 0]
        rows, columns = known.shape
        common = math.lcm(rows, columns)
        if common > _MOST_COPIES:
            msg = f"transport: expected numbers of points with a common multiple up to {_MOST_COPIES}, got {rows} and "
            msg += f"{columns}; draw as many samples as there are raters, or take sinkhorn_divergence"
            raise ValueError(msg)
        whole = known.repeat_interleave(common // rows, 0).repeat_interleave(common // columns, 1)
        left, right = linear_sum_assignment(whole.detach().double().cpu().numpy())
        found.append(whole[torch.as_tensor(left), torch.as_tensor(right)].mean())
    return torch.stack(found)


def frechet_distance(
    samples: Float[Tensor, "batch samples voxels"],
    raters: Float[Tensor, "batch raters voxels"],
    present: Bool[Tensor, "batch raters"] | None = None,
    *,
    scaling: Scaling = "per_voxel",
) -> Float[Tensor, " batch"]:
    """Return the squared Frechet distance of the two normal distributions with the clouds' means and covariances.

    ``|m - m'|^2 + tr C + tr C' - 2 tr (C C')^(1/2)``; the last trace is the sum of the singular values of the small
    matrix of products between centred points, so that no matrix of the voxels' size is made. With as few points as
    there are raters the covariances are rough. A set of a single point has a covariance of 0.

    Args:
        samples: See the module, likewise the others.
        raters: One point a rater.
        present: Which raters there are.
        scaling: Of the points; see `Scaling`.

    Raises:
        ValueError: If a case has no rater.

    References:
        Heusel et al., NeurIPS 2017; by singular values: Mathiasen and Hvilshoj, "Backpropagating through Frechet
        Inception Distance", 2020.

    Example:
        >>> frechet_distance(torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[3.0], [5.0]]]))  # as wide, 3 apart
        tensor([9.])
    """
    points, others, weights = _clouds(samples, raters, present, scaling)
    found = []
    for cloud, other, weight in zip(points, others, weights, strict=True):
        known = other[weight > 0]
        first, second = _centred(cloud), _centred(known)
        gap = (cloud.mean(0) - known.mean(0)).square().sum()
        spread = first.square().sum() + second.square().sum()
        # One dimension of each set is its mean's: the last singular value is 0 and its slope is noise.
        rank = min(len(cloud), len(known)) - 1
        shared = torch.linalg.svdvals(first @ second.T)[:rank].sum() if rank else 0.0 * gap
        found.append(gap + spread - 2 * shared)
    return torch.stack(found)


def _clouds(samples: Tensor, raters: Tensor, present: Tensor | None, scaling: Scaling) -> tuple[Tensor, Tensor, Tensor]:
    """Return the points of both sets, scaled, and the weights of the raters, which sum to 1."""
    precise = samples if samples.dtype == torch.float64 else samples.float()
    known = raters.new_ones(raters.shape[:2], dtype=torch.bool) if present is None else present
    if not known.any(1).all():
        msg = "expected at least one rater of each case, got a case without; leave it out"
        raise ValueError(msg)
    others = torch.where(known[..., None], raters.to(precise.dtype), 0.0)
    weights = known.to(precise.dtype) / known.sum(1, keepdim=True)
    factor = precise.shape[2] ** -0.5 if scaling == "per_voxel" else 1.0
    return precise * factor, others * factor, weights


def _squares(one: Tensor, other: Tensor) -> Tensor:
    """Return the squared distances ``(batch, one, other)``; differences first, as products would leave noise near 0."""
    return torch.stack([(one - point[:, None]).square().sum(2) for point in other.unbind(1)], 2)


def _distances(one: Tensor, other: Tensor) -> Tensor:
    squares = _squares(one, other)
    return torch.where(squares > _NEAR, squares.clamp(min=_NEAR).sqrt(), 0.0 * squares)


def _costs(one: Tensor, other: Tensor) -> Tensor:
    """Return half the squared distances."""
    return _squares(one, other) / 2


def _mean(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return (rows[:, :, None] * values * columns[:, None]).sum((1, 2))


def _softmin(temperature: float, cost: Tensor, log_weights: Tensor) -> Tensor:
    return -temperature * (log_weights[:, None] - cost / temperature).logsumexp(2)


def _diameter(points: Tensor, others: Tensor) -> float:
    """Return the diagonal of the box around all points of a batch."""
    every = torch.cat([points, others], 1).detach().flatten(0, 1)
    return max(float((every.amax(0) - every.amin(0)).norm()), math.sqrt(_NEAR))


def _blurs(diameter: float, blur: float, cooling: float) -> list[float]:
    """Return the temperatures, which are squares of distances, from the diameter's down to the blur's."""
    steps, reach = [diameter**2], diameter
    while reach > blur:
        steps.append(reach**2)
        reach *= cooling
    return [*steps, blur**2]


def _centred(cloud: Tensor) -> Tensor:
    """Return the points without their mean, scaled so that their products sum to the covariance."""
    return (cloud - cloud.mean(0)) / math.sqrt(max(1, len(cloud) - 1))
