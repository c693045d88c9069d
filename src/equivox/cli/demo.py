"""`equivox demo`: the whole job in one go."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="A new folder for everything that the demo makes.")] = Path("equivox-demo"),
    cohort: Annotated[Path | None, typer.Option(help="A cohort of your own instead of the made-up one.")] = None,
    patients: Annotated[int, typer.Option(help="Made-up patients; half of them are the test set.")] = 60,
    max_minutes: Annotated[float, typer.Option(help="Minutes for the training.")] = 2.5,
    workers: Annotated[int, typer.Option(help="Processes for the work that is done case by case.")] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
) -> None:
    """Run the whole job, from scans to the report by group, on a made-up cohort or on yours."""
    from equivox.pipelines.demo import DemoSettings, demo

    settings = DemoSettings(patients=patients, max_minutes=max_minutes, workers=workers)
    report = demo(out, cohort=cohort, settings=settings, overwrite=overwrite)
    typer.echo(report.resolve())
