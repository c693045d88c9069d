"""Training patches straight from the store; every random number comes from (seed, step, index)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from monai.data import MetaTensor
from torch import Tensor

from equivox.datasets.plan import NetworkPlan
from equivox.datasets.steps import IMAGE, LABEL
from equivox.datasets.store import StoredArray, StoredCase
from equivox.datasets.transforms import AugmentationOptions, augmentation_steps, moving_changes
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
        skeleton: Class whose centreline's tube each voxel is in, 0 for none; None where the source has no tubes.
        projections: For each axis of the patch which classes lie anywhere along it in the whole prepared case, within
            the patch's window of the other axes: ``(classes, *patch without the axis)``; none where the source has
            none. Of a 2D network the whole is the slice.
    """

    image: Float32[Tensor, " channels *patch"]
    label: Int64[Tensor, " *patch"]
    case_index: int
    skeleton: Int64[Tensor, " *patch"] | None = None
    projections: tuple[Bool[Tensor, " classes ..."], ...] = ()


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
        case_weights: How often each case is chosen, in proportion; all alike where empty.
        tubes: Those round each case's centrelines (`Store.tubes`), which are cut and turned as the labels are.
        projections: Of each case's classes along the axes (`Store.projections`), which are cut and mirrored as the
            patches are. They cannot follow any other augmentation that moves structures.
        classes: Of the network, background included; of projections alone.

    Raises:
        InputError: If there are no cases, or one has no label.
        ValueError: If patches with projections are to be turned or scaled.
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
        case_weights: Sequence[float] = (),
        tubes: Sequence[StoredArray] = (),
        projections: Sequence[tuple[StoredArray, ...]] = (),
        classes: int = 0,
    ) -> None:
        unlabelled = [case.key for case in cases if case.label is None]
        if not cases or unlabelled:
            msg = (
                f"training: expected cases with labels, got {len(unlabelled)} without of {len(cases)}; add their labels"
            )
            raise InputError(msg)
        self.cases = tuple(cases)
        self.tubes = tuple(tubes)
        self.projections, self.classes = tuple(projections), classes
        self.network = network
        self.seed = seed
        self.foreground_share = foreground_share
        self.options = (augmentation or AugmentationOptions()) if augment else None
        self.mirror_axes = tuple(mirror_axes)
        self._with_foreground = [index for index, case in enumerate(self.cases) if case.class_voxels]
        self._weights = np.asarray(case_weights, dtype=np.float64)
        self._steps = {
            affine: augmentation_steps(
                self.options, network.patch_size, mirror_axes, affine=affine, mirrored=self._projection_names
            )
            for affine in (False, True)
            if self.options is not None
        }
        moved = moving_changes(self.options) if self.options is not None and self.projections else ()
        if moved:
            msg = f"patches with projections cannot follow {moved[0]}; leave it out of the augmentation"
            raise ValueError(msg)

    @property
    def _projection_names(self) -> tuple[str, ...]:
        count = self.network.dimensions if self.projections else 0
        return tuple(f"projection_{axis}" for axis in range(count))

    def patch(self, step: int, index: int) -> Patch:
        """Return the patch `index` of the batch of step `step`."""
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, step, index])))
        case_index, centre = self._place(generator, self._wants_foreground(step, index))
        affine = self.options is not None and generator.random() < self.options.affine_probability
        size = tuple(round(side * _MARGIN) if affine else side for side in self.network.patch_size)
        image, targets, projections = self._cut(case_index, centre, size)
        if self.options is not None:
            image, targets, projections = self._augment(image, targets, projections, affine, generator)
        label, *tubes = targets
        # The axis that was projected has a length of 1 so far.
        planes = tuple(one.squeeze(1 + axis) for axis, one in enumerate(projections))
        return Patch(image, label, case_index, tubes[0] if tubes else None, planes)

    def _wants_foreground(self, step: int, index: int) -> bool:
        """Spread the share evenly over the patches of the run, without chance."""
        count = step * self.network.batch_size + index
        return int((count + 1) * self.foreground_share + 1e-9) > int(count * self.foreground_share + 1e-9)

    def _place(self, generator: np.random.Generator, foreground: bool) -> tuple[int, np.ndarray]:
        """Choose a case and the voxel at the patch's centre."""
        if foreground and self._with_foreground:
            case_index = self._choose(generator, self._with_foreground)
            voxels = self.cases[case_index].class_voxels
            present = sorted(voxels)
            chosen = voxels[present[generator.integers(len(present))]]
            return case_index, chosen[generator.integers(len(chosen))].astype(np.int64)
        case_index = self._choose(generator, range(len(self.cases)))
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

    def _choose(self, generator: np.random.Generator, among: Sequence[int]) -> int:
        """Choose one of some cases by their weights."""
        weights = self._weights[list(among)] if self._weights.size else self._weights
        if not weights.sum() > 0:
            return among[int(generator.integers(len(among)))]
        return among[int(generator.choice(len(among), p=weights / weights.sum()))]

    def _cut(
        self, case_index: int, centre: np.ndarray, size: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Read the patch round `centre`, zeros beyond the case.

        Returns:
            The image; the label with the tubes after it; the projections, each with a length of 1 along its own axis.
        """
        case = self.cases[case_index]
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
        maps = [label, self.tubes[case_index]] if self.tubes else [label]
        targets = torch.from_numpy(np.stack([_read(part, start, whole) for part in maps]).astype(np.int64))
        if self.network.dimensions == 2:
            image, targets = (part.squeeze(1 + self.network.slice_axis) for part in (image, targets))
        return image, targets, self._planes(case_index, start, whole) if self.projections else ()

    def _planes(self, case_index: int, start: Sequence[int], whole: Sequence[int]) -> tuple[Tensor, ...]:
        """Cut the projections along the network's axes to the patch's window."""
        planes = []
        for axis in self.network.scan_axes:
            rest = [other for other in range(3) if other != axis]
            window = [start[other] for other in rest], [whole[other] for other in rest]
            stored = self.projections[case_index][axis]
            found = np.zeros((self.classes, *window[1]), dtype=bool)
            found[: stored.shape[0]] = _read(stored, *window)
            # Beyond the case all is background, as in the label.
            found[0] |= ~found.any(axis=0)
            plane = torch.from_numpy(found).unsqueeze(1 + axis)
            planes.append(plane.squeeze(1 + self.network.slice_axis) if self.network.dimensions == 2 else plane)
        return tuple(planes)

    def _augment(
        self,
        image: Tensor,
        targets: Tensor,
        projections: tuple[Tensor, ...],
        affine: bool,
        generator: np.random.Generator,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        steps = self._steps[affine]
        steps.set_random_state(seed=int(generator.integers(2**32)))
        with torch.random.fork_rng(devices=[]):
            # For transforms of the user that draw from torch itself.
            torch.manual_seed(int(generator.integers(2**63)))
            named = dict(zip(self._projection_names, map(MetaTensor, projections), strict=True))
            changed = steps({IMAGE: MetaTensor(image), LABEL: MetaTensor(targets.to(torch.float32)), **named})
        moved, turned = changed[IMAGE].as_tensor(), changed[LABEL].as_tensor()
        planes = tuple(changed[name].as_tensor().bool().contiguous() for name in named)
        return moved.to(torch.float32).contiguous(), turned.long().contiguous(), planes


def _start(voxel: int, side: int, length: int) -> int:
    """First voxel of a patch round `voxel`: inside the case where that is larger, else the case is centred."""
    if length <= side:
        return -((side - length) // 2)
    return min(max(voxel - side // 2, 0), length - side)


def _read(array: StoredArray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """Read ``[start, start + size)`` of the last axes, zeros outside."""
    count = len(size)
    sides = array.shape[-count:]
    lead = (slice(None),) * (array.ndim - count)
    low = [max(first, 0) for first in start]
    high = [min(first + side, length) for first, side, length in zip(start, size, sides, strict=True)]
    inside = array[(*lead, *(slice(a, b) for a, b in zip(low, high, strict=True)))]
    if inside.shape[-count:] == tuple(size):
        return inside
    whole = np.zeros((*array.shape[:-count], *size), dtype=array.dtype)
    target = tuple(slice(a - first, b - first) for a, b, first in zip(low, high, start, strict=True))
    whole[(*lead, *target)] = inside
    return whole
