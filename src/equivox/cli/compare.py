"""`equivox compare`: models against one another, by evaluations of the same cases."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equivox.cli.output import say, say_json, show_table

if TYPE_CHECKING:
    from equivox.pipelines.compare import Comparison


def compare(
    evaluations: Annotated[
        list[Path],
        typer.Argument(help="Folders that 'equivox evaluate' wrote, two or more; the first is the baseline."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the page and its tables.")],
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="A model's name; give it once for each evaluation. [default: as they know it]"),
    ] = None,
    margin: Annotated[float, typer.Option(help="The difference in mean Dice that matters.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and the sign flips.", min=0)] = 0,
    bootstrap_draws: Annotated[int, typer.Option(help="Resamples behind each interval and ranking.", min=199)] = 4999,
    permutation_draws: Annotated[int, typer.Option(help="Patterns of signs behind each test.", min=199)] = 9999,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Compare the patients that all have, and list the others.")
    ] = False,
    figures: Annotated[bool, typer.Option("--figures", help="Also write the figures as SVG and PNG.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare models by their evaluations on the same cases, patient by patient, and write a page.

    Each model is compared with the first. Ends with 2 and writes nothing when the evaluations are not of the same
    references, cases, classes and settings; --allow-partial lets patients differ.
    """
    from equivox.options import flag, parse_options
    from equivox.pipelines.compare import CompareOptions
    from equivox.pipelines.compare import compare as run_comparison

    values = {
        "margin": margin,
        "seed": seed,
        "bootstrap_draws": bootstrap_draws,
        "permutation_draws": permutation_draws,
    }
    comparison = run_comparison(
        out,
        evaluations=evaluations,
        names=name or [],
        options=parse_options(CompareOptions, values, flag),
        allow_partial=allow_partial,
        overwrite=overwrite,
        figures=figures,
    )
    if json_output:
        say_json(comparison.summary)
    else:
        _show(comparison)


def _show(comparison: "Comparison") -> None:
    """Print the means, the answers and where the page is."""
    from equivox.reports.counted import patients_and_cases
    from equivox.reports.numbers import MISSING, metric_text
    from equivox.reports.views import ROLES, estimate

    summary = comparison.summary
    settings, cohort = summary["settings"], summary["cohort"]
    text = metric_text(settings["primary_endpoint"])
    rows = []
    for model in summary["models"]:
        mean = estimate(text.kind, model["mean"], model["low"], model["high"])
        label = f"{model['name']} (baseline)" if model["baseline"] else model["name"]
        rows.append((label, mean.text, mean.interval or MISSING))
    title = f"{ROLES.get(cohort['role'], cohort['role'])}: {patients_and_cases(cohort)}"
    level = f"{100 * settings['confidence']:g} %"
    show_table(title, ("model", f"mean {text.label}", f"{level} interval"), rows)
    for verdict in summary["verdicts"]:
        say(f"{verdict['second']} against {verdict['first']}: {verdict['words']}. {verdict['sentence']}")
    left = summary["left_out"]["patients"]
    if left:
        say(f"Patients that not all evaluations have, not compared: {len(left)}")
    say(f"Page: {comparison.report}")
