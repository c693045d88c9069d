"""`equivox losses`: what the losses are and what each can be told."""

from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_losses(
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List the losses that a config can combine."""
    import json

    from equivox.losses.catalog import LOSSES

    if json_output:
        found = [{"name": name, "summary": entry.summary, "needs": entry.needs} for name, entry in LOSSES.items()]
        typer.echo(json.dumps(found, indent=2))
        return
    width = max(map(len, LOSSES))
    for name, entry in LOSSES.items():
        typer.echo(f"{name:<{width}}  {entry.summary}")


@app.command("show")
def show_loss(
    name: Annotated[str, typer.Argument(help="A name that `equivox losses list` prints.", show_default=False)],
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what a loss is, where it comes from, and its options with their defaults."""
    import inspect
    import json

    from equivox.losses.catalog import loss_entry

    entry = loss_entry(name)
    defaults: dict[str, Any] = entry.options().model_dump(mode="json")
    if json_output:
        facts = {"name": name, "summary": entry.summary, "reference": entry.reference, "needs": entry.needs}
        typer.echo(json.dumps(facts | {"options": defaults}, indent=2))
        return
    typer.echo(f"{name}: {entry.summary}")
    typer.echo(f"Reference: {entry.reference}")
    needs = [*entry.needs, *(f"{need} (where {option} is {value})" for option, value, need in entry.needs_where)]
    if needs:
        typer.echo(f"Needs: {', '.join(needs)}")
    typer.echo("")
    typer.echo(inspect.getdoc(entry.build) or "")
    typer.echo("")
    typer.echo("As a term of a config, with the defaults:")
    shown = {"name": name, "weight": 1.0, "start_after": 0.0, "ramp": 0.0, **defaults}
    typer.echo("  - {" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in shown.items()) + "}")
    typer.echo("")
    typer.echo(inspect.getdoc(entry.options) or "")
