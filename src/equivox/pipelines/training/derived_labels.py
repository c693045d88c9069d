"""What the store derives from labels, made before training where a loss needs it: tubes and projections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from equivox.datasets.store import Store
from equivox.errors import InputError
from equivox.parallel import map_cases


@dataclass(frozen=True)
class _Task:
    store: Path
    key: str
    slice_axis: int | None = None


def prepare_tubes(store: Path, keys: Sequence[str], slice_axis: int | None, *, workers: int) -> None:
    """Make the tubes of each case that are not in the store yet.

    Args:
        store: Its folder.
        keys: Of the cases, which have labels.
        slice_axis: Axis across which the network sees slices; None where it sees volumes.
        workers: Processes.

    Raises:
        InputError: If a case cannot be read, or a worker died.
    """
    opened = Store(store)
    tasks = [_Task(store, key, slice_axis) for key in keys if not opened.has(opened.tubes_key(key, slice_axis))]
    _make_all(_make_tubes, tasks, workers, "Centrelines")


def prepare_projections(store: Path, keys: Sequence[str], *, workers: int) -> None:
    """Make the projections of each case that are not in the store yet.

    Args:
        store: Its folder.
        keys: Of the cases, which have labels.
        workers: Processes.

    Raises:
        InputError: If a case cannot be read, or a worker died.
    """
    opened = Store(store)
    tasks = [_Task(store, key) for key in keys if not opened.has(opened.projections_key(key))]
    _make_all(_make_projections, tasks, workers, "Projections")


def _make_all(make: Callable[[_Task], None], tasks: Sequence[_Task], workers: int, what: str) -> None:
    for outcome in map_cases(make, tasks, workers=workers, description=what) if tasks else []:
        if outcome.error is not None:
            msg = f"the {what.lower()} of {outcome.item.store / outcome.item.key}: {outcome.error}"
            raise InputError(msg)


def _make_tubes(task: _Task) -> None:
    Store(task.store).tubes(task.key, task.slice_axis)


def _make_projections(task: _Task) -> None:
    Store(task.store).projections(task.key)
