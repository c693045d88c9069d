"""`equivox doctor`: what this machine has."""

from typing import Annotated

import typer

from equivox.cli.output import say, show_table


def doctor(
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what this machine has, what works, and what each extra would add."""
    from equivox.pipelines.doctor import examine

    findings = examine()
    if json_output:
        typer.echo(findings.model_dump_json(indent=2))
    else:
        rows: list[tuple[str, str]] = [(name, value or "missing") for name, value in findings.packages.items()]
        extras = [(name, found or f"not installed; would add: {use}") for name, (found, use) in findings.extras.items()]
        show_table("equivox doctor", ("what", "found"), [*findings.machine.items(), *rows, *extras], right=False)
        for problem in findings.problems:
            typer.echo(f"problem: {problem}")
        if findings.sound:
            say("Everything that Equivox needs is here.")
    if not findings.sound:
        raise typer.Exit(2)
