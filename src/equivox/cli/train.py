"""`equivox train`: from a cohort to a run folder."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from equivox.cli.output import say


def train(
    cohort: Annotated[Path, typer.Option(help="The cohort folder, with its split.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The run folder to make.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="unetpp or plain_unet.  [default: unetpp]")] = None,
    dims: Annotated[
        Literal["2d", "3d"] | None,
        typer.Option(help="2d or 3d.  [default: 3d with a graphics card and deep scans, else 2d]"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A YAML file of options, such as the config.yaml of another run.", show_default=False),
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Any option of the config, such as optimizer.lr=1e-3; repeatable.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="Fix the number of steps by this time, for all folds together.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    fold: Annotated[str, typer.Option(help="The fold to validate on, or all.")] = "0",
    workers: Annotated[
        int | None, typer.Option(help="Processes that make patches; the result is the same.", min=0)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network on a cohort, one fold or all of them."""
    import json

    overrides = assignments or []
    if dry_run:
        from equivox.pipelines.train import dry_run as look

        found = look(
            cohort, model=model, dims=dims, overrides=overrides, max_minutes=max_minutes, fold=fold, config=config
        )
        typer.echo(json.dumps(found, indent=2) if json_output else _described(found))
        return
    from equivox.pipelines.train import train as run_training
    from equivox.pipelines.training.stop import TrainingStopped

    try:
        run = run_training(
            cohort,
            out,
            model=model,
            dims=dims,
            overrides=overrides,
            max_minutes=max_minutes,
            resume=resume,
            fold=fold,
            workers=workers,
            config=config,
        )
    except TrainingStopped as stopped:
        typer.echo(f"equivox: {out}: {stopped}", err=True)
        raise typer.Exit(128 + stopped.signal_number) from None
    if json_output:
        facts = {"run": str(run.path), "steps": run.config.steps, "folds": run.manifest["folds"]}
        typer.echo(json.dumps(facts, indent=2))
    else:
        say(f"The run is in {run.path}; segment scans with: equivox predict {run.path} SCAN... -o OUT")


def _described(found: dict[str, Any]) -> str:
    import yaml

    lines = [yaml.safe_dump(found["config"], sort_keys=False).rstrip()]
    if not found["plan"]:
        lines.append("# There is no plan yet: it would be made first, and sizes follow from it.")
    for fold, counts in found["folds"].items():
        lines.append(f"# fold {fold}: " + ", ".join(f"{count} {role}" for role, count in counts.items()) + " cases")
    return "\n".join(lines)
