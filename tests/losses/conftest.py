"""Losses over a batch that several processes share, played by threads."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import Tensor

Sum = Callable[[Tensor], Tensor]


def run_shared(work: Sequence[Callable[[Sum], Tensor]]) -> list[Tensor]:
    """Call each piece of work in a thread of its own with a sum over all of them, and return what they return."""
    barrier = threading.Barrier(len(work), timeout=30)
    offered: dict[int, Tensor] = {}

    def run(place: int) -> Tensor:
        def add(value: Tensor) -> Tensor:
            offered[place] = value.detach().clone()
            barrier.wait()
            total = sum(offered.values(), start=0 * value.detach())
            barrier.wait()
            return total

        return work[place](add)

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run, range(len(work))))


@pytest.fixture
def shared() -> Callable[[Sequence[Callable[[Sum], Tensor]]], list[Tensor]]:
    return run_shared
