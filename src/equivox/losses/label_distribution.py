"""Losses that are robust to wrong labels by letting the worst distribution over classes near the given one decide."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from equivox.losses.context import CaseContext
from equivox.losses.logits import in_float
from equivox.losses.voxel_mean import VoxelMean, voxel_mean
from equivox.options import Options

_LEAST = 1e-3
"""The smallest temperature of a voxel: below, the exponential overflows."""
_ADDED = 1e-5
"""Added to the probabilities of a voxel before its temperature is taken from them, as in the released code."""

Scaling = Literal["none", "softplus", "l1"]
"""What is done to the scores of a voxel first: ``softplus`` makes them positive with mean 1, ``l1`` divides them by
their mean absolute value, so that a margin means the same everywhere."""


class LdrOptions(Options):
    """What a user can choose of `LdrLoss`.

    Attributes:
        margin: What the right class must be above the others.
        temperature: Near 0 the nearest wrong class alone counts (Crammer and Singer), at 1 with neither margin nor
            scaling it is cross-entropy less the log of the number of classes, above all wrong classes count alike.
        scaling: Of the scores; see `Scaling`.
        mean_over: ``voxels``, or ``classes`` for small structures.
    """

    margin: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    scaling: Scaling = "softplus"
    mean_over: VoxelMean = "voxels"


class LdrLoss(nn.Module):
    """LDR-KL loss of each voxel, ``t log(mean_k exp((f_k + margin [k != y] - f_y) / t))``.

    Args:
        options: The user's choices.

    References:
        Zhu, Ying and Yang, "Label Distributionally Robust Losses for Multi-class Classification: Consistency,
        Robustness and Adaptivity", ICML 2023.
    """

    def __init__(self, options: LdrOptions) -> None:
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
            context: Not used.
        """
        del context
        scores = scaled(in_float(logits), self.options.scaling)
        gaps = margins(scores, label, self.options.margin)
        values = robust_mean(gaps, gaps.new_tensor(self.options.temperature))
        return voxel_mean(values, label, logits.shape[1], self.options.mean_over)


class AldrOptions(Options):
    """What a user can choose of `AldrLoss`.

    Attributes:
        margin: What the right class must be above the others.
        temperature: That of a voxel whose classes all look alike; a voxel that is sure of one has a lower one.
        alpha: How far the temperature may fall; above 1.
        updates: Steps of the iteration that finds a voxel's temperature, each time from the start: nothing is kept of a
            voxel between steps, which augmentation would move.
        scaling: Of the scores; see `Scaling`.
        mean_over: ``voxels``, or ``classes`` for small structures.
    """

    margin: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    alpha: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    updates: int = Field(default=3, ge=1)
    scaling: Scaling = "l1"
    mean_over: VoxelMean = "voxels"


class AldrLoss(nn.Module):
    """ALDR-KL loss: LDR-KL with a temperature of each voxel's own, found from how sure the network is of it.

    The published loss keeps the temperature of each sample between epochs. A voxel of a random patch has no identity to
    keep it by, so the iteration starts anew in each step (ours); it converges within a few.

    Args:
        options: The user's choices.

    References:
        As `LdrLoss`.
    """

    def __init__(self, options: AldrOptions) -> None:
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
            context: Not used.
        """
        del context
        scores = scaled(in_float(logits), self.options.scaling)
        temperature = self.temperatures(scores.detach())
        gaps = margins(scores, label, self.options.margin)
        first, reach = self.options.temperature, self.options.alpha * _log_classes(scores)
        values = robust_mean(gaps, temperature) - reach / (2 * first) * (temperature - first) ** 2
        return voxel_mean(values, label, logits.shape[1], self.options.mean_over)

    @torch.no_grad()
    def temperatures(self, scores: Float[Tensor, "batch classes *spatial"]) -> Float[Tensor, " batch *spatial"]:
        """Return the temperature of each voxel.

        Args:
            scores: Scaled.
        """
        first, reach = self.options.temperature, self.options.alpha * _log_classes(scores)
        found = torch.full_like(scores[:, 0], first)
        for _ in range(self.options.updates):
            probability = functional.normalize((scores / found[:, None]).softmax(1) + _ADDED, p=1, dim=1)
            sure = (probability * (scores.shape[1] * probability).log()).sum(1)
            found = (first - first * sure / reach).clamp(min=_LEAST)
        return found


def scaled(
    logits: Float[Tensor, "batch classes *spatial"], scaling: Scaling
) -> Float[Tensor, "batch classes *spatial"]:
    """Return the scores of a voxel as a margin can be asked of them; see `Scaling`."""
    if scaling == "softplus":
        positive = functional.softplus(logits)
        return positive / positive.mean(1, keepdim=True)
    if scaling == "l1":
        # A voxel whose logits are all 0 has no scale; it stays.
        return logits / logits.abs().mean(1, keepdim=True).clamp(min=torch.finfo(logits.dtype).tiny ** 0.5)
    return logits


def margins(
    scores: Float[Tensor, "batch classes *spatial"], label: Int[Tensor, " batch *spatial"], margin: float
) -> Float[Tensor, "batch classes *spatial"]:
    """Return how far each class is above the right one, the margin added for the wrong ones."""
    index = label[:, None].long()
    gaps = scores - scores.gather(1, index) + margin
    return gaps.scatter(1, index, 0.0)


def robust_mean(
    gaps: Float[Tensor, "batch classes *spatial"], temperature: Float[Tensor, "*voxels"]
) -> Float[Tensor, " batch *spatial"]:
    """Return ``t log(mean over classes of exp(gap / t))``.

    Args:
        gaps: Of each class.
        temperature: One for all, or one a voxel.
    """
    spread = temperature if temperature.ndim == 0 else temperature[:, None]
    return temperature * ((gaps / spread).logsumexp(1) - _log_classes(gaps))


def _log_classes(scores: Tensor) -> float:
    return float(torch.tensor(float(scores.shape[1]), dtype=torch.float64).log())
