"""Fill the store: every case prepared once, and again only when something that it depends on has changed."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from equivox.atomic import remove_remains, write_text
from equivox.datasets.cohort import Case, load_cohort
from equivox.datasets.plan import PLAN_NAME, Plan, PreprocessingPlan, load_plan
from equivox.datasets.prepare import prepare_case
from equivox.datasets.room import require_room_by_header
from equivox.datasets.store import FileHash, Store
from equivox.errors import InputError
from equivox.parallel import map_cases
from equivox.volume import read_grid

logger = logging.getLogger(__name__)

STORE_NAME = "store"
INDEX_NAME = "index.json"


@dataclass(frozen=True)
class PreprocessResult:
    """What became of the cases.

    Attributes:
        keys: case_id -> key in the store, of the cases that are there.
        made: Cases that were prepared now; the others were there already.
        failures: case_id -> why it could not be prepared.
    """

    keys: Mapping[str, str]
    made: tuple[str, ...]
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Task:
    case: Case
    label_indices: Mapping[int, int]
    plan: PreprocessingPlan
    store: Path
    verify: bool


@dataclass(frozen=True)
class _Done:
    key: str
    made: bool
    hashes: Mapping[str, FileHash]


def preprocess(cohort_folder: Path, *, workers: int, plan: Plan | None = None) -> dict[str, str]:
    """Prepare every case of a cohort that is not in its store yet.

    Args:
        cohort_folder: With `cohort.csv`, `cohort.yaml` and, unless `plan` is given, `plan.yaml`.
        workers: Processes.
        plan: How to prepare.

    Returns:
        case_id -> key in the store ``cohort_folder/store``, also written there as `index.json`.

    Raises:
        InputError: If cases could not be prepared. The others are in the store all the same.
    """
    result = fill_store(cohort_folder, workers=workers, plan=plan)
    if result.failures:
        case_id, reason = next(iter(result.failures.items()))
        others = len(result.failures) - 1
        more = f" (and {others} more: 'equivox preprocess {cohort_folder}' lists them)" if others else ""
        msg = f"case '{case_id}': {reason}{more}"
        raise InputError(msg)
    return dict(result.keys)


def fill_store(
    cohort_folder: Path, *, workers: int, plan: Plan | None = None, verify: bool = False
) -> PreprocessResult:
    """Do what `preprocess` does and tell, instead of raising, which cases failed.

    Args:
        cohort_folder: The cohort.
        workers: Processes.
        plan: How to prepare; by default the folder's `plan.yaml`.
        verify: Compare the checksum of everything that is in the store already.

    Raises:
        InputError: If a case would become larger than the memory of this machine; nothing is prepared then.
    """
    cohort = load_cohort(cohort_folder)
    plan = plan or load_plan(cohort.folder)
    plan.require_cohort(cohort.config, cohort.folder / PLAN_NAME)
    preparation = plan.preprocessing
    if preparation.extra_transforms:
        from equivox.datasets.transforms import check_transforms

        check_transforms(preparation)
    folder = cohort.folder / STORE_NAME
    store = Store(folder)
    keys: dict[str, str] = {}
    open_tasks = []
    for case in cohort.cases:
        task = _Task(case, cohort.config.label_indices, preparation, folder, verify)
        key = _known_key(store, task)
        if key is None:
            open_tasks.append(task)
        else:
            keys[case.case_id] = key
    _refuse_oversized(open_tasks)
    remove_remains(folder)
    outcomes = map_cases(_prepare, open_tasks, workers=workers, description="Preparing") if open_tasks else []
    made, failures = [], {}
    for outcome in outcomes:
        case_id = outcome.item.case.case_id
        if outcome.result is None:
            failures[case_id] = outcome.error or "unknown reason"
            continue
        keys[case_id] = outcome.result.key
        store.hashes.added.update(outcome.result.hashes)
        if outcome.result.made:
            made.append(case_id)
    store.hashes.save()
    ordered = {case.case_id: keys[case.case_id] for case in cohort.cases if case.case_id in keys}
    if ordered != read_index(folder):
        write_text(folder / INDEX_NAME, json.dumps(ordered, indent=1))
    return PreprocessResult(ordered, tuple(made), failures)


def read_index(store_folder: Path) -> dict[str, str]:
    """Return case_id -> key of the last run of `preprocess`; empty where there was none."""
    try:
        values = json.loads((store_folder / INDEX_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(case_id): str(key) for case_id, key in values.items()} if isinstance(values, dict) else {}


def _known_key(store: Store, task: _Task) -> str | None:
    """The key of a case that is in the store, found without reading any scan; None where there is work to do."""
    case = task.case
    files = [*case.images.values(), *([case.label] if case.label else [])]
    if not all(path.exists() and store.hashes.remembered(path) for path in files):
        return None
    key = store.key(case.images, case.label, task.label_indices, task.plan)
    return key if store.has(key, verify=task.verify) else None


def _refuse_oversized(tasks: Sequence[_Task]) -> None:
    """Look at the headers before hours of work; a header that cannot be read is that case's own failure, later."""
    for task in tasks:
        first = task.case.images.get(task.plan.channels[0])
        # The header of a DICOM series stands in each of its slices: such a case is refused when it is its turn.
        if first is None or not first.is_file():
            continue
        try:
            grid = read_grid(first)
        except (InputError, OSError):
            continue
        try:
            require_room_by_header(grid, task.plan)
        except InputError as error:
            msg = f"case '{task.case.case_id}': {error}"
            raise InputError(msg) from None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: cases run side by side, and threads that wait for each other burn the processor."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _prepare(task: _Task) -> _Done:
    case, store = task.case, Store(task.store)
    key = store.key(case.images, case.label, task.label_indices, task.plan)
    made = not store.has(key, verify=task.verify)
    if made:
        with _one_thread():
            prepared = prepare_case(case.images, case.label, task.label_indices, task.plan)
        store.write(key, prepared)
    return _Done(key, made, store.hashes.added)
