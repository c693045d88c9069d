"""The table of losses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from equivox.errors import InputError
from equivox.losses.deep_supervision import DeepSupervisionLoss, SampleLoss
from equivox.losses.dice_ce import DiceCELoss, DiceCEOptions
from equivox.options import Options, parse_options


@dataclass(frozen=True)
class LossEntry:
    """One line of the table.

    Attributes:
        options: Class of the loss's options, all with defaults.
        build: Called with the options; the result gives one value a sample.
        summary: What it is, in a few words, for the model card.
    """

    options: type[Options]
    build: Callable[..., SampleLoss]
    summary: str


LOSSES: dict[str, LossEntry] = {
    "dice_ce": LossEntry(DiceCEOptions, DiceCELoss, "soft Dice plus cross-entropy"),
}


def loss_entry(name: str) -> LossEntry:
    """Return the line of the table for `name`.

    Raises:
        InputError: If there is no such loss.
    """
    if name not in LOSSES:
        msg = f"loss: expected one of {', '.join(LOSSES)}, got '{name}'; choose one of them"
        raise InputError(msg)
    return LOSSES[name]


def build_loss(name: str, options: Mapping[str, Any]) -> DeepSupervisionLoss:
    """Build a loss of the table, over all heads of the network.

    Args:
        name: A key of `LOSSES`.
        options: The loss's options; what is left out has its default.

    Raises:
        InputError: If there is no such loss or option.
    """
    entry = loss_entry(name)
    return DeepSupervisionLoss(entry.build(parse_options(entry.options, dict(options), "loss.options")))
