"""`equivox doctor`: what this machine has."""

from typing import Annotated

import typer


def doctor(
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what this machine has, what works, and what each extra would add."""
    from equivox.pipelines.doctor import examine, print_findings

    findings = examine()
    if json_output:
        typer.echo(findings.model_dump_json(indent=2))
    else:
        print_findings(findings)
    if not findings.sound:
        raise typer.Exit(2)
