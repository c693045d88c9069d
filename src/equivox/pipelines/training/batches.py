"""Batches of patches in the order of the steps, made here or in worker processes."""

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from equivox.datasets.patches import PatchSource
from equivox.datasets.plan import NetworkPlan
from equivox.datasets.store import Store
from equivox.datasets.transforms import AugmentationOptions
from equivox.errors import InputError
from equivox.parallel import leave_signals_to_parent

logger = logging.getLogger(__name__)

PREFETCH = 4
"""Batches that each worker prepares ahead."""


@dataclass(frozen=True, eq=False)
class Batch:
    """This process's share of the patches of one step.

    Attributes:
        image: ``(batch, channels, *patch)``, float32.
        label: ``(batch, *patch)``, int64.
        case_index: Which training case each comes from.
        skeleton: Class whose centreline's tube each voxel is in, ``(batch, *patch)``; None where no loss needs it.
        projections: For each axis of the patch which classes lie anywhere along it in the whole case,
            ``(batch, classes, *patch without the axis)``, bool; none where no loss needs them.
    """

    image: Tensor
    label: Tensor
    case_index: Tensor
    skeleton: Tensor | None = None
    projections: tuple[Tensor, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return self._changed(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in memory that a graphics card reads directly."""
        return self._changed(lambda part: part.pin_memory())

    def first(self, count: int) -> "Batch":
        """Return some of the patches."""
        return self._changed(lambda part: part[:count])

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        parts: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self)}
        changed: dict[str, Any] = {
            name: change(part) if isinstance(part, Tensor) else tuple(map(change, part))
            for name, part in parts.items()
            if part is not None
        }
        return replace(self, **changed)


@dataclass(frozen=True)
class PatchRecipe:
    """What a process needs to make the patches of any step; picklable.

    Attributes:
        store: Folder of the store.
        keys: Store keys of the training cases, in order.
        network: The plan's section, with the batch size of the whole run.
        seed: Of the run.
        foreground_share: Share of patches centred on foreground.
        augmentation: None changes nothing.
        mirror_axes: The network's axes that may be mirrored.
        case_weights: How often each case is chosen; all alike where empty.
        indices: Which patches of a batch are this process's.
        skeletons: Whether the patches come with the tubes round the centrelines.
        projections: Whether they come with the projections of the whole case.
        classes: Of the network, background included; of projections alone.
    """

    store: Path
    keys: tuple[str, ...]
    network: NetworkPlan
    seed: int
    foreground_share: float
    augmentation: AugmentationOptions | None
    mirror_axes: tuple[int, ...] = ()
    case_weights: tuple[float, ...] = ()
    indices: tuple[int, ...] = field(default=())
    skeletons: bool = False
    projections: bool = False
    classes: int = 0

    def open(self) -> PatchSource:
        """Open the cases; only headers are read."""
        store = Store(self.store)
        return PatchSource(
            [store.read(key) for key in self.keys],
            self.network,
            seed=self.seed,
            foreground_share=self.foreground_share,
            augment=self.augmentation is not None,
            augmentation=self.augmentation,
            mirror_axes=self.mirror_axes,
            case_weights=self.case_weights,
            tubes=[store.tubes(key, self.slice_axis) for key in self.keys] if self.skeletons else (),
            projections=[store.projections(key) for key in self.keys] if self.projections else (),
            classes=self.classes,
        )

    @property
    def slice_axis(self) -> int | None:
        """The axis across which the network sees slices; None where it sees volumes."""
        return self.network.slice_axis if self.network.dimensions == 2 else None


class StepDataset(Dataset[Batch]):
    """Item `step` is this process's share of the patches of that step.

    Args:
        recipe: What to make patches of.
    """

    def __init__(self, recipe: PatchRecipe) -> None:
        self.recipe = recipe
        self._source: PatchSource | None = None

    def __getitem__(self, step: int) -> Batch:
        """Make the patches of a step."""
        if self._source is None:
            self._source = self.recipe.open()
        patches = [self._source.patch(step, index) for index in self.recipe.indices]
        skeletons = [patch.skeleton for patch in patches if patch.skeleton is not None]
        return Batch(
            torch.stack([patch.image for patch in patches]),
            torch.stack([patch.label for patch in patches]),
            torch.tensor([patch.case_index for patch in patches]),
            torch.stack(skeletons) if skeletons else None,
            tuple(torch.stack(planes) for planes in zip(*(patch.projections for patch in patches), strict=True)),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"recipe": self.recipe, "_source": None}


def batches(
    recipe: PatchRecipe, steps: range, *, workers: int, pin_memory: bool = False
) -> Generator[Batch, None, None]:
    """Yield the batches of the steps, the same ones whatever the number of workers.

    Args:
        recipe: What to make patches of.
        steps: Which steps.
        workers: Processes that make them ahead of time; 0 makes them here, which is always valid.
        pin_memory: Put them where a graphics card reads fast.

    Raises:
        InputError: If a prepared case cannot be read.
        RuntimeError: If a worker was killed; any other exception of a worker is raised here with its own traceback.
    """
    dataset = StepDataset(recipe)
    if workers == 0 or not steps:
        for step in steps:
            yield dataset[step]
        return
    loader: DataLoader[Batch] = DataLoader(
        dataset,
        batch_size=None,
        sampler=list(steps),
        num_workers=min(workers, len(steps)),
        prefetch_factor=PREFETCH,
        # spawn: a forked child of a process that has run torch threads can hang.
        multiprocessing_context="spawn",
        worker_init_fn=_begin_worker,
        pin_memory=pin_memory,
    )
    try:
        yield from loader
    except InputError as error:
        # The worker's traceback is for the log; its last line is what the user can act on.
        logger.debug("%s", error)
        raise InputError(str(error).strip().splitlines()[-1].partition("InputError: ")[2]) from error
    except RuntimeError as error:
        if "is killed by signal" in str(error) or "exited unexpectedly" in str(error):
            msg = (
                f"a data worker died ({str(error).splitlines()[0]}), most often because memory or shared memory ran "
                "out; try again with fewer workers (--workers 0 always works)"
            )
            raise RuntimeError(msg) from error
        raise


def _begin_worker(worker: int) -> None:
    del worker
    torch.set_num_threads(1)
    # The parent saves its state first and needs its workers until then.
    leave_signals_to_parent()
