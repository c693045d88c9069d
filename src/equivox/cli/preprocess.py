"""`equivox preprocess`: fill the store of prepared cases."""

from pathlib import Path
from typing import Annotated

import typer

from equivox.cli.output import say


def preprocess(
    cohort: Annotated[Path, typer.Argument(help="The cohort folder, with its plan.yaml.")],
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the checksum of what is stored already.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Prepare every case once: turn, crop, scale, resample, store. What did not change is not done again."""
    from equivox.pipelines.preprocess import fill_store

    result = fill_store(cohort, workers=workers, verify=verify)
    if json:
        from json import dumps

        typer.echo(dumps({"keys": result.keys, "made": result.made, "failures": result.failures}, indent=1))
    else:
        for case_id, reason in result.failures.items():
            typer.echo(f"case '{case_id}': {reason}", err=True)
        reused = len(result.keys) - len(result.made)
        failed = f", {len(result.failures)} failed" if result.failures else ""
        say(f"{len(result.made)} cases prepared, {reused} were there already{failed}")
    if result.failures:
        raise typer.Exit(2)
