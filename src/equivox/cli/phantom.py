"""`equivox cohort phantom`: scans and a table to practise on."""

from pathlib import Path
from typing import Annotated

import typer

from equivox.cli.output import say


def phantom(
    out: Annotated[Path, typer.Argument(help="A new folder for the scans and the table.")],
    patients: Annotated[int, typer.Option(help="How many patients.")] = 60,
    size: Annotated[tuple[int, int, int], typer.Option(help="Voxels along the three axes.")] = (72, 64, 24),
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws another cohort.")] = 0,
) -> None:
    """Draw made-up scans with masks, and a table of patients, to practise on."""
    from equivox.datasets.phantom import write_phantoms

    folder = write_phantoms(out, patients=patients, shape=size, seed=seed)
    say(f"{folder}: scans of {patients} made-up patients, and participants.csv")
