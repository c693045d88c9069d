"""`equivox cross-site`: what a model is worth at sites that it was not trained at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equivox.cli.output import say, say_json, show_table
from equivox.cli.shared_options import JsonSummary
from equivox.errors import InputError

if TYPE_CHECKING:
    from equivox.pipelines.cross_site import CrossSite


def _show_example(wanted: bool) -> bool:
    if wanted:
        from equivox.pipelines.cross_site_config import EXAMPLE

        typer.echo(EXAMPLE, nl=False)
        raise typer.Exit
    return wanted


def cross_site(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The YAML file that says what to compare.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="The folder to fill, or to go on with.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any option of CONFIG, such as training.steps=500; repeatable."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes for the work that is done case by case.")] = 1,
    figures: Annotated[bool, typer.Option("--figures", help="Also write the heat maps as SVG and PNG.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained and tested.")] = False,
    json_output: JsonSummary = False,
    _example: Annotated[
        bool,
        typer.Option("--example", callback=_show_example, is_eager=True, help="Print a CONFIG to begin with."),
    ] = False,
) -> None:
    """Train at each site, at all, and at all but one; test everywhere, and compare on the same patients.

    Models and scores are kept in DIR as they are made: after a stop the same command goes on.
    """
    if out is None:
        msg = "--out: expected a folder to fill, got none; name it with -o"
        raise InputError(msg)
    if dry_run:
        from equivox.pipelines.cross_site import dry_run as look

        found = look(config, out, overrides=assignments or [], workers=workers)
        if json_output:
            say_json(found)
        else:
            _show_plan(found)
        return
    from equivox.pipelines.cross_site import cross_site as compare
    from equivox.pipelines.training.stop import TrainingStopped

    try:
        result = compare(config, out, overrides=assignments or [], workers=workers, figures=figures)
    except TrainingStopped as stopped:
        line = str(stopped).replace("with --resume", "with the same command")
        typer.echo(f"equivox: {out}: {line}", err=True)
        raise typer.Exit(128 + stopped.signal_number) from None
    if json_output:
        say_json(result.summary)
    else:
        _show(result)


def _show_plan(found: dict[str, Any]) -> None:
    sites = [one["site"] for one in found["sites"]]
    rows = [
        (
            one["model"],
            one["training_patients"],
            one["training_cases"],
            *(one["tested"][site] for site in sites),
            "yes" if one["done"] else "",
        )
        for one in found["models"]
    ]
    done = sum(one["done"] for one in found["models"])
    title = f"{len(rows)} trainings, {done} of them done; patients tested at each site"
    show_table(title, ("Model", "Training patients", "Cases", *sites, "Done"), rows)
    say(*found["notes"])


def _show(result: "CrossSite") -> None:
    from equivox.reports.cross_site_page import matrix_cells
    from equivox.reports.cross_site_words import sentences

    heads, rows = matrix_cells(result.summary, 0)
    metric = result.summary["metrics"][0]
    show_table(f"{metric['label']}: trained on the row, tested at the column", tuple(heads), rows)
    say(*sentences(result.summary, 0))
    say(f"Page: {result.folder / 'report.html'}")
