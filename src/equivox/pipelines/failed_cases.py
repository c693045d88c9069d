"""Cases that failed: they stop a command, unless it may leave them out."""

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from equivox.datasets.wording import some
from equivox.errors import InputError
from equivox.parallel import Outcome


class CaseTask(Protocol):
    """The work on one case."""

    @property
    def case_id(self) -> str:
        """The case."""


Task = TypeVar("Task", bound=CaseTask)
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def results_and_failures(
    outcomes: Sequence[Outcome[Task, Result]], *, done: str, allow_partial: bool
) -> tuple[dict[str, Result], dict[str, str]]:
    """Return case -> result, and case -> why it has none; each reason is logged once.

    Args:
        outcomes: One a case.
        done: What was done with each, such as ``scored``.
        allow_partial: Leave failed cases out instead of stopping.

    Raises:
        InputError: If a case failed and may not be left out, or all failed.
        RuntimeError: If one failed for a reason that is not the user's, and may not be left out.
    """
    results = {one.item.case_id: one.result for one in outcomes if one.result is not None}
    failed = {one.item.case_id: one.error or "unknown error" for one in outcomes if one.result is None}
    _log_by_reason(failed)
    if failed and not allow_partial:
        first_id, first = next(iter(failed.items()))
        many = f" ({len(failed)} of {len(outcomes)} cases have errors, listed above)" if len(failed) > 1 else ""
        msg = f"case {first_id}: {first}; or add --allow-partial to leave such cases out and list them{many}"
        ours = any(one.details for one in outcomes if one.result is None)
        raise RuntimeError(msg) if ours else InputError(msg)
    if not results:
        msg = f"expected at least one case that can be {done}, got {len(failed)} errors; mend them first"
        raise InputError(msg)
    return results, {case_id: f"could not be {done}: {error}" for case_id, error in failed.items()}


def _log_by_reason(failed: Mapping[str, str]) -> None:
    # Where all worker processes die of one cause, every case has the same reason.
    cases: dict[str, list[str]] = {}
    for case_id, reason in failed.items():
        cases.setdefault(reason, []).append(case_id)
    for reason, ids in cases.items():
        who = f"case {ids[0]}" if len(ids) == 1 else f"{len(ids)} cases ({some(ids, 3)})"
        logger.error("%s: %s", who, reason)
