"""The table of tools whose numbers can be reproduced."""

from collections.abc import Sequence
from typing import Final, Literal, get_args

from equivox.errors import InputError
from equivox.metrics.conventions.convention import Convention
from equivox.metrics.conventions.fairseg import FAIRSEG
from equivox.metrics.conventions.medpy import MEDPY
from equivox.metrics.conventions.monai import MONAI
from equivox.metrics.conventions.nnunet import NNUNET
from equivox.metrics.conventions.surface_distance import SURFACE_DISTANCE

Tool = Literal["nnunet", "monai", "medpy", "surface-distance", "fairseg"]
"""The name of a tool; see `CONVENTIONS`."""

CONVENTIONS: Final[dict[Tool, Convention]] = {
    "nnunet": NNUNET,
    "monai": MONAI,
    "medpy": MEDPY,
    "surface-distance": SURFACE_DISTANCE,
    "fairseg": FAIRSEG,
}
"""Each tool's way of scoring, by its name."""


def check_tools(tools: Sequence[str]) -> None:
    """Refuse a tool that is not in the table.

    Raises:
        InputError: If one of `tools` is not a key of `CONVENTIONS`.
    """
    known = get_args(Tool)
    for tool in tools:
        if tool not in known:
            msg = f"compat: expected one of {', '.join(known)}, got '{tool}'; choose among them"
            raise InputError(msg)
