"""The Betti matching loss: the pieces, tunnels and cavities that prediction and label do not have in common."""

import functools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from pydantic import Field
from torch import Tensor, nn

from equivox.compiled_matching import compiled_matching
from equivox.losses.context import CaseContext
from equivox.losses.logits import foreground
from equivox.options import Options
from equivox.parallel import lasting_pool

_Array = Float[np.ndarray, "*spatial"]


class BettiMatchingOptions(Options):
    """What a user can choose of `BettiMatchingLoss`.

    Attributes:
        filtration: ``superlevel`` follows what is above a probability as that falls, joined across faces: pieces,
            tunnels, cavities. ``sublevel`` follows what is below as it rises, joined across faces, so that what is
            above is joined across corners too. ``both`` is the mean of the two, ``both_sum`` their sum, as in the first
            released code.
        relative: Put a frame round the region that belongs to whatever is born first, so that structures which leave
            the region are joined outside it and close loops there.
        essential: Compare the feature that never dies too, which is the highest probability (the lowest of sublevel).
            Without it, a label's only piece may be missed at no cost.
        push_unmatched: Push the two ends of a feature that the label lacks to 1 and 0, past each other, and not only
            together.
        region: Side of the cube (in 2D: square) that is compared, in voxels, within the patch; it is centred on a
            foreground voxel of the label chosen at random, where there is none on the most probable one. None compares
            whole patches, which takes many seconds in 3D.
        every: The loss counts at every so many steps alone. Its weight is the same there, so that averaged over the
            steps it counts ``weight / every``.
        workers: Processes that do the matching, started once. 0 does it here, in as many threads as torch has.
    """

    filtration: Literal["superlevel", "sublevel", "both", "both_sum"] = "superlevel"
    relative: bool = False
    essential: bool = True
    push_unmatched: bool = False
    region: int | None = Field(default=32, ge=2)
    every: int = Field(default=8, ge=1)
    workers: int = Field(default=0, ge=0)


class BettiMatchingLoss(nn.Module):
    """Squared differences of birth and death of matched features plus squared lengths of the others.

    The probability of a class is a landscape. As its threshold falls, pieces are born at summits and die at passes,
    where they join others; tunnels and cavities likewise. The bars of prediction and label are matched where they
    become the same feature of the union of both. A matched pair costs twice the squared differences of its ends, a bar
    without a partner the square of its length; all are added up, and averaged over the classes without the background.
    The gradient is at the summits and passes alone: a few voxels. What the label has and the prediction lacks adds to
    the value but has no gradient.

    It is meant beside a loss of the volume, with a weight of about 0.1 and after the first fifth of the training
    (``start_after: 0.2``): the landscape of an untrained network is noise, whose thousands of features take long.

    Needs the extra ``topology``.

    Args:
        options: The user's choices.

    Raises:
        InputError: If the extra `topology` is not installed.

    References:
        Stucki et al., "Topologically faithful image segmentation via induced matching of persistence barcodes",
        ICML 2023 (https://arxiv.org/abs/2211.15272).
        Stucki et al., "Efficient Betti matching enables topology-aware 3D segmentation via persistent homology", 2024
        (https://arxiv.org/abs/2407.04683). Voxels join across faces, as there (the V-construction). With
        ``essential: false`` it is the loss of the package topolosses without its base loss, with ``true`` that of the
        first released code, in 2D. Ours: the relative frame in 3D, the region, every so many steps.
    """

    def __init__(self, options: BettiMatchingOptions) -> None:
        super().__init__()
        self.options = options
        compiled_matching()

    def per_sample(
        self,
        logits: Float[Tensor, "batch classes *spatial"],
        label: Int[Tensor, " batch *spatial"],
        context: CaseContext,
    ) -> Float[Tensor, " batch"]:
        """Return one loss a sample, 0 for a perfect prediction and not bounded.

        Args:
            logits: Any floating dtype; the loss is computed in float32, float64 where the logits are.
            label: Class of each voxel.
            context: Its `step` and `case_index` choose the region.
        """
        probability, truth = foreground(logits, label)
        if self.options.region is not None:
            boxes = [
                _box(own.detach(), where, self.options.region, _generator(context, place))
                for place, (own, where) in enumerate(zip(probability, label, strict=True))
            ]
            probability, truth = (
                torch.stack([part[box] for part, box in zip(parts, boxes, strict=True)])
                for parts in (probability, truth)
            )
        return betti_matching_loss(probability, truth, self.options).mean(1)


def betti_matching_loss(
    probability: Float[Tensor, "batch channels *spatial"],
    truth: Float[Tensor, "batch channels *spatial"],
    options: BettiMatchingOptions,
) -> Float[Tensor, "batch channels"]:
    """Return the loss of each channel of each sample; `region` and `every` of the options have no part in it.

    Args:
        probability: In [0, 1], two or three spatial axes.
        truth: 0 or 1.
        options: The user's choices.

    Raises:
        InputError: If the extra `topology` is not installed.
        RuntimeError: If a worker process died.

    Example:
        Two summits, of 0.9 and 0.7, with a pass of 0.2 between, where the label has one piece. The pair that never dies
        costs 2 * (0.9 - 1)**2, the second bar (0.7 - 0.2)**2.

        >>> guess = torch.tensor([[[[0.0, 0.9, 0.2, 0.7, 0.0]]]])
        >>> truth = torch.tensor([[[[0.0, 1.0, 0.0, 0.0, 0.0]]]])
        >>> round(float(betti_matching_loss(guess, truth, BettiMatchingOptions())), 4)
        0.27
    """
    levels = {"superlevel": (True,), "sublevel": (False,)}.get(options.filtration, (True, False))
    # Both are sublevel filtrations of a function: for superlevel, of one minus the probability.
    pairs = [
        (1 - own, 1 - wanted) if above else (own, wanted)
        for own, wanted in zip(probability.flatten(0, 1), truth.flatten(0, 1), strict=True)
        for above in levels
    ]
    if options.relative:
        pairs = [(_framed(own), _framed(wanted)) for own, wanted in pairs]
    arrays = [tuple(part.detach().cpu().double().contiguous().numpy() for part in pair) for pair in pairs]
    matchings = _matchings(arrays, options.workers)
    losses = [_loss(*pair, matching, options) for pair, matching in zip(pairs, matchings, strict=True)]
    values = torch.stack(losses).reshape(*probability.shape[:2], len(levels))
    return values.sum(2) if options.filtration == "both_sum" else values.mean(2)


@dataclass(frozen=True, eq=False)
class _Matching:
    """Where bars are born and die, as places in the flattened arrays.

    Attributes:
        matched: Birth and death in the prediction, birth and death in the label.
        prediction: Birth and death of bars that the label lacks.
        label: Birth and death of bars that the prediction lacks.
    """

    matched: Integer[np.ndarray, "n 4"]
    prediction: Integer[np.ndarray, "m 2"]
    label: Integer[np.ndarray, "k 2"]


def _loss(own: Tensor, wanted: Tensor, matching: _Matching, options: BettiMatchingOptions) -> Tensor:
    def ends(values: Tensor, places: np.ndarray) -> Tensor:
        return values.flatten()[torch.from_numpy(places).to(values.device)]

    def alone(values: Tensor) -> Tensor:
        if options.push_unmatched:
            return 2 * ((values[:, 0] - 1) ** 2 + values[:, 1] ** 2).sum()
        return ((values[:, 0] - values[:, 1]) ** 2).sum()

    matched = ends(own, matching.matched[:, :2]) - ends(wanted, matching.matched[:, 2:])
    loss = 2 * (matched**2).sum() + alone(ends(own, matching.prediction)) + alone(ends(wanted, matching.label))
    if options.essential:
        loss = loss + 2 * (own.amin() - wanted.amin()) ** 2
    return loss


def _framed(values: Tensor) -> Tensor:
    """Put a frame of the least value round an image."""
    framed = values.amin().expand([side + 2 for side in values.shape]).clone()
    framed[(slice(1, -1),) * values.ndim] = values
    return framed


def _matchings(pairs: Sequence[tuple[_Array, ...]], workers: int) -> list[_Matching]:
    if workers == 0:
        found = []
        at_once = torch.get_num_threads()
        for start in range(0, len(pairs), at_once):
            owns, wanteds = zip(*pairs[start : start + at_once], strict=True)
            found += compiled_matching().compute_matching(list(owns), list(wanteds))
        return [_places(result, pair[0].shape) for result, pair in zip(found, pairs, strict=True)]
    try:
        return list(_pool(workers).map(_match, pairs))
    except BrokenProcessPool:
        _pool.cache_clear()
        msg = (
            "betti_matching: a worker process died, most often because memory ran out; use fewer workers, a smaller "
            "region, or workers: 0"
        )
        raise RuntimeError(msg) from None


@functools.cache
def _pool(workers: int) -> ProcessPoolExecutor:
    return lasting_pool(workers)


def _match(pair: tuple[_Array, ...]) -> _Matching:
    return _places(compiled_matching().compute_matching(*pair), pair[0].shape)


def _places(result: Any, shape: tuple[int, ...]) -> _Matching:
    """Return what the compiled matching found, over all dimensions, as places in the flattened array."""

    def flat(*kinds: str) -> np.ndarray:
        columns = []
        for kind in kinds:
            parts = [np.asarray(part).reshape(-1, len(shape)) for part in getattr(result, f"{kind}_coordinates")]
            columns.append(np.ravel_multi_index(tuple(np.concatenate(parts).T.astype(np.int64)), shape))
        return np.stack(columns, axis=1)

    return _Matching(
        flat("input1_matched_birth", "input1_matched_death", "input2_matched_birth", "input2_matched_death"),
        flat("input1_unmatched_birth", "input1_unmatched_death"),
        flat("input2_unmatched_birth", "input2_unmatched_death"),
    )


def _generator(context: CaseContext, place: int) -> np.random.Generator:
    case = -1 if context.case_index is None else int(context.case_index[place])
    return np.random.default_rng([context.step, place, case + 1])


def _box(
    probability: Float[Tensor, " channels *spatial"],
    label: Int[Tensor, " *spatial"],
    side: int,
    generator: np.random.Generator,
) -> tuple[slice, ...]:
    """Return the region of a sample, after a slice for its channels."""
    voxels = label.flatten().nonzero()[:, 0]
    chosen = voxels[int(generator.integers(len(voxels)))] if len(voxels) else probability.amax(0).flatten().argmax()
    centre = np.unravel_index(int(chosen), label.shape)
    starts = [
        max(0, min(int(middle) - side // 2, length - side)) for middle, length in zip(centre, label.shape, strict=True)
    ]
    return (slice(None), *(slice(start, start + side) for start in starts))
