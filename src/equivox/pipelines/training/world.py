"""The processes of one run: one alone, or several under torchrun."""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from equivox.errors import InputError
from equivox.progress import console

_PATIENCE = timedelta(hours=12)
"""How long a process waits for another, which may be preparing a cohort."""


@dataclass(frozen=True)
class World:
    """This process among its kind.

    Attributes:
        rank: From 0; the process of rank 0 writes files.
        size: How many there are.
        local_rank: Rank on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """True for the process that writes."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of `count` things are this process's: every `size`-th."""
        return range(self.rank, count, self.size)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            distributed.barrier()

    def from_leader(self, value: Any) -> Any:
        """Return the value that the process of rank 0 gave."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of the processes' tensors."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def largest(self, value: Tensor) -> Tensor:
        """Return the largest of the processes' tensors, entry by entry."""
        if self.size > 1:
            distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
        return value

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return a network whose gradients are averaged over the processes."""
        if self.size == 1:
            return network
        on_card = next(network.parameters()).device.type == "cuda"
        return DistributedDataParallel(network, device_ids=[self.local_rank] if on_card else None)

    def unaveraged(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Keep the gradients of what `wrap` returned this process's own, for passes within the context."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()


def join_world(device: str) -> World:
    """Join the processes that torchrun started, or be alone.

    Args:
        device: ``cuda`` joins by NCCL beside gloo, anything else by gloo alone.

    Raises:
        InputError: If torchrun's variables are incomplete.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    try:
        rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    except (KeyError, ValueError):
        msg = "WORLD_SIZE is set without RANK and LOCAL_RANK; start several processes with torchrun"
        raise InputError(msg) from None
    if rank:
        # The process of rank 0 speaks for all.
        logging.getLogger("equivox").setLevel(logging.ERROR)
        console.quiet = True
    if not distributed.is_initialized():
        if device == "cuda":
            torch.cuda.set_device(local_rank)
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    return World(rank, size, local_rank)


def leave_world() -> None:
    """Part from the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
