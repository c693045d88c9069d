"""Which classes masks hold, where nobody has said so."""

from collections.abc import Sequence
from pathlib import Path

from equivox.errors import InputError
from equivox.parallel import map_cases
from equivox.pipelines.evaluation.cases import label_values_in
from equivox.volume.label_names import stored_label_names

# A tool that names its values does so in every file.
_LOOKED_AT = 3


def found_values(masks: Sequence[Path], workers: int) -> list[int]:
    """Return the values of all masks that are not 0, in rising order.

    Args:
        masks: One or more, of one folder; one that cannot be read is passed over, and fails when it is its turn.
        workers: Threads.

    Raises:
        InputError: If there is none.
    """
    outcomes = map_cases(label_values_in, masks, workers=workers, description="Finding classes", threads=True)
    values = sorted({value for outcome in outcomes for value in outcome.result or ()})
    if not values:
        failed = next((outcome.error for outcome in outcomes if outcome.error), None)
        msg = failed or f"{masks[0].parent}: expected masks with a class, got only 0; check the folder"
        raise InputError(msg)
    return values


def stored_names(masks: Sequence[Path]) -> dict[int, str]:
    """Return value -> name from the header of the first mask that has names."""
    return next((names for path in masks[:_LOOKED_AT] if (names := stored_label_names(path))), {})
