"""`equivox plan`: measure a cohort and write its plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equivox.cli.output import say, show_table

if TYPE_CHECKING:
    from equivox.datasets.plan import Plan


def plan(
    cohort: Annotated[Path, typer.Argument(help="The cohort folder.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change an option: preprocessing.image_interpolation=linear.")
    ] = None,
    memory_gib: Annotated[
        float | None,
        typer.Option(help="What a training step may take, in GiB; by default half of the memory, at most 8.", min=0.5),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that read scans.", min=1)] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a plan that was edited by hand.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Measure a cohort and write plan.yaml: voxel size, intensities, patch, batch, network size."""
    from equivox.datasets.cohort import load_cohort
    from equivox.datasets.plan import PLAN_NAME
    from equivox.pipelines.plan import plan_cohort

    loaded = load_cohort(cohort)
    made = plan_cohort(loaded, workers=workers, memory_gib=memory_gib, overrides=overrides or (), overwrite=overwrite)
    if json:
        typer.echo(made.model_dump_json(indent=1))
        return
    _show(made)
    say(f"{loaded.folder / PLAN_NAME}: read it, change what you like; next: equivox train --cohort {cohort} --out RUN")


def _show(made: "Plan") -> None:
    networks = made.networks.values()
    rows = [
        ("patch", *(" x ".join(map(str, network.patch_size)) for network in networks)),
        ("batch", *(network.batch_size for network in networks)),
        ("features", *(" ".join(map(str, network.features)) for network in networks)),
        ("memory of a step", *(f"{network.memory_mib / 1024:.1f} GiB" for network in networks)),
    ]
    show_table(f"Plan of {made.cohort}", ("", *made.networks), rows)
    unit = "" if made.nominal_spacing else " mm"
    spacing = " x ".join("own" if side is None else f"{side:g}{unit}" for side in made.preprocessing.spacing_mm)
    say(f"voxel size: {spacing}")
    own_grids = made.measured["cases_with_a_grid_of_their_own"]
    for channel, intensity in made.preprocessing.intensity.items():
        values = ", ".join(f"{key} {value:g}" for key, value in intensity if isinstance(value, float))
        moved = "; resampled onto the first channel's grid" if own_grids.get(channel) else ""
        say(f"{channel}: {intensity.scheme}{f' ({values})' if values else ''}{moved}")
