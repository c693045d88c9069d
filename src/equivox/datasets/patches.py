"""Training patches straight from the store; every random number comes from (seed, step, index)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from monai.data import MetaTensor
from torch import Tensor

from equivox.datasets.plan import NetworkPlan
from equivox.datasets.steps import IMAGE, LABEL
from equivox.datasets.store import StoredArray, StoredCase
from equivox.datasets.transforms import AugmentationOptions, augmentation_steps
from equivox.errors import InputError

_MARGIN = 1.3
"""A patch that will be rotated and scaled is read this much larger along each axis that turns."""


@dataclass(frozen=True, eq=False)
class Patch:
    """One training sample.

    Attributes:
        image: Float32, as the network takes it.
        label: Class indices on the same voxels.
        case_index: Which of the source's cases it was cut from.
    """

    image: Float32[Tensor, " channels *patch"]
    label: Int64[Tensor, " *patch"]
    case_index: int


class PatchSource:
    """Cuts and augments patches; the same (seed, step, index) gives the same patch in any worker, in any run.

    A share of the patches is centred on a voxel of a class, which is chosen among those that the case has (and the case
    among those that have any). The others lie anywhere. Of a 2D network's patches, the slice is chosen likewise.

    Args:
        cases: What to cut from, labels included.
        network: Its dimensions, patch and batch size.
        seed: Of the run.
        foreground_share: Share of the patches with a class at their centre.
        augment: Whether patches are augmented.
        augmentation: How; the defaults where None.
        mirror_axes: The network's axes that may be mirrored (`Plan.mirror_axes`).

    Raises:
        InputError: If there are no cases, or one has no label.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        network: NetworkPlan,
        *,
        seed: int,
        foreground_share: float = 1 / 3,
        augment: bool,
        augmentation: AugmentationOptions | None = None,
        mirror_axes: Sequence[int] = (),
    ) -> None:
        unlabelled = [case.key for case in cases if case.label is None]
        if not cases or unlabelled:
            msg = (
                f"training: expected cases with labels, got {len(unlabelled)} without of {len(cases)}; add their labels"
            )
            raise InputError(msg)
        self.cases = tuple(cases)
        self.network = network
        self.seed = seed
        self.foreground_share = foreground_share
        self.options = (augmentation or AugmentationOptions()) if augment else None
        self.mirror_axes = tuple(mirror_axes)
        self._with_foreground = [index for index, case in enumerate(self.cases) if case.class_voxels]
        self._steps = {
            affine: augmentation_steps(self.options, network.patch_size, mirror_axes, affine=affine)
            for affine in (False, True)
            if self.options is not None
        }

    def patch(self, step: int, index: int) -> Patch:
        """Return the patch `index` of the batch of step `step`."""
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, step, index])))
        case_index, centre = self._place(generator, self._wants_foreground(step, index))
        case = self.cases[case_index]
        affine = self.options is not None and generator.random() < self.options.affine_probability
        size = tuple(round(side * _MARGIN) if affine else side for side in self.network.patch_size)
        image, label = self._cut(case, centre, size)
        if self.options is not None:
            image, label = self._augment(image, label, affine=affine, generator=generator)
        return Patch(image, label, case_index)

    def _wants_foreground(self, step: int, index: int) -> bool:
        """Spread the share evenly over the patches of the run, without chance."""
        count = step * self.network.batch_size + index
        return int((count + 1) * self.foreground_share + 1e-9) > int(count * self.foreground_share + 1e-9)

    def _place(self, generator: np.random.Generator, foreground: bool) -> tuple[int, np.ndarray]:
        """Choose a case and the voxel at the patch's centre."""
        if foreground and self._with_foreground:
            case_index = self._with_foreground[generator.integers(len(self._with_foreground))]
            voxels = self.cases[case_index].class_voxels
            present = sorted(voxels)
            chosen = voxels[present[generator.integers(len(present))]]
            return case_index, chosen[generator.integers(len(chosen))].astype(np.int64)
        case_index = int(generator.integers(len(self.cases)))
        shape = self.cases[case_index].image.shape[1:]
        # Centres stay half a patch inside, where the case is larger than the patch.
        sides = dict(zip(self.network.scan_axes, self.network.patch_size, strict=True))
        centre = [
            generator.integers(
                min(sides.get(axis, 1) // 2, side // 2), max(side - (sides.get(axis, 1) - 1) // 2, side // 2 + 1)
            )
            for axis, side in enumerate(shape)
        ]
        return case_index, np.array(centre)

    def _cut(self, case: StoredCase, centre: np.ndarray, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Read the patch round `centre`, zeros beyond the case."""
        whole = [1, 1, 1]
        for axis, side in zip(self.network.scan_axes, size, strict=True):
            whole[axis] = side
        start = [
            _start(int(voxel), side, length)
            for voxel, side, length in zip(centre, whole, case.image.shape[1:], strict=True)
        ]
        label = case.label
        if label is None:  # the constructor refused such cases
            msg = f"case {case.key} has no label"
            raise ValueError(msg)
        image = torch.from_numpy(_read(case.image, start, whole))
        target = torch.from_numpy(_read(label, start, whole).astype(np.int64))
        if self.network.dimensions == 2:
            image, target = image.squeeze(1 + self.network.slice_axis), target.squeeze(self.network.slice_axis)
        return image, target

    def _augment(
        self, image: Tensor, label: Tensor, *, affine: bool, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        steps = self._steps[affine]
        steps.set_random_state(seed=int(generator.integers(2**32)))
        with torch.random.fork_rng(devices=[]):
            # For transforms of the user that draw from torch itself.
            torch.manual_seed(int(generator.integers(2**63)))
            changed = steps({IMAGE: MetaTensor(image), LABEL: MetaTensor(label[None].to(torch.float32))})
        return changed[IMAGE].as_tensor().to(torch.float32).contiguous(), changed[LABEL][
            0
        ].as_tensor().long().contiguous()


def _start(voxel: int, side: int, length: int) -> int:
    """First voxel of a patch round `voxel`: inside the case where that is larger, else the case is centred."""
    if length <= side:
        return -((side - length) // 2)
    return min(max(voxel - side // 2, 0), length - side)


def _read(array: StoredArray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """Read ``[start, start + size)`` of the last three axes, zeros outside."""
    sides = array.shape[-3:]
    lead = (slice(None),) * (array.ndim - 3)
    low = [max(first, 0) for first in start]
    high = [min(first + side, length) for first, side, length in zip(start, size, sides, strict=True)]
    inside = array[(*lead, *(slice(a, b) for a, b in zip(low, high, strict=True)))]
    if inside.shape[-3:] == tuple(size):
        return inside
    whole = np.zeros((*array.shape[:-3], *size), dtype=array.dtype)
    target = tuple(slice(a - first, b - first) for a, b, first in zip(low, high, start, strict=True))
    whole[(*lead, *target)] = inside
    return whole
