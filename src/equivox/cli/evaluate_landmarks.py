"""`equivox evaluate-landmarks`: how far predicted landmarks lie from the true ones, by landmark and by group."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equivox.cli.output import say, say_json, show_table
from equivox.cli.shared_options import (
    AttributeColumns,
    ContinuousColumns,
    JsonSummary,
    PatientColumn,
    Plots,
)

if TYPE_CHECKING:
    from equivox.pipelines.evaluate_landmarks import LandmarkEvaluation


def evaluate_landmarks(
    references: Annotated[
        Path, typer.Option("--references", help="CSV or TSV of true landmarks: case_id, landmark, x, y and, in 3D, z.")
    ],
    predictions: Annotated[
        Path, typer.Option("--predictions", help="The same of the predicted ones, in the same unit and frame.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the tables and the report.")],
    unit: Annotated[str, typer.Option("--unit", help="Of the coordinates: mm or pixels.")] = "mm",
    radius: Annotated[
        list[float] | None,
        typer.Option(
            "--radius", help="A distance at which success is counted; may be given again. [default: 2, 2.5, 3, 4 mm]"
        ),
    ] = None,
    failure_radius: Annotated[
        float | None,
        typer.Option(
            "--failure-radius",
            help="A patient fails unless more than half of the landmarks lie within it. [default: the largest radius]",
        ),
    ] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="The difference in mean error that matters. [default: none]")
    ] = None,
    groups: Annotated[Path | None, typer.Option("--groups", help="A CSV or TSV with one row a case.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Its column of case ids.")] = None,
    patient: PatientColumn = None,
    attribute: AttributeColumns = None,
    continuous: ContinuousColumns = None,
    bootstrap_draws: Annotated[int, typer.Option(help="Resamples behind each interval.")] = 4999,
    permutation_draws: Annotated[int, typer.Option(help="Permutations behind each p-value.")] = 9999,
    seed: Annotated[int, typer.Option(help="Of both.")] = 0,
    figures: Plots = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier landmark evaluation.")] = False,
    json_output: JsonSummary = False,
) -> None:
    """Evaluate landmarks of any tool: errors, success rates and missed ones, by landmark and by group of patients.

    A landmark that the predictions lack counts as missed: it is a failure, and never left out silently.
    """
    from equivox.cli.table_options import edges_of
    from equivox.options import flag, parse_options
    from equivox.pipelines.evaluate_landmarks import evaluate_landmarks as run_evaluation
    from equivox.pipelines.landmark_evaluation.options import LandmarkOptions

    values = {
        "unit": unit,
        "radii": sorted(set(radius or [])),
        "failure_radius": failure_radius,
        "margin": margin,
        "bootstrap_draws": bootstrap_draws,
        "permutation_draws": permutation_draws,
        "seed": seed,
    }

    def option_of(name: str) -> str:
        # What is said of several options at once is about the radii.
        return "--radius" if not name or name.startswith("radii") else flag(name)

    found = run_evaluation(
        references,
        predictions,
        out,
        groups=groups,
        key=key,
        patient=patient,
        attributes=attribute or [],
        continuous=edges_of(continuous or []),
        options=parse_options(LandmarkOptions, values, option_of),
        overwrite=overwrite,
        figures=figures,
    )
    if json_output:
        say_json(found.summary)
    else:
        _show(found)


def _show(found: "LandmarkEvaluation") -> None:
    from equivox.reports.counted import patients_and_cases
    from equivox.reports.landmark_words import attribute_sentence, landmark_table, overall_table

    summary = found.summary
    cohort = summary["cohort"]
    title = patients_and_cases(cohort)
    show_table(title, *overall_table(summary))
    show_table("By landmark", *landmark_table(summary))
    for attribute in summary["attributes"]:
        say(f"{attribute['name']}: {attribute_sentence(attribute, summary)}")
    left = summary["left_out"]
    for count, words in (
        (len(left["missing_predictions"]), "Cases without a prediction, all landmarks missed"),
        (len(left["extra_predictions"]), "Cases in the predictions alone, not evaluated"),
        (len(left["excluded_cases"]), "Cases left out"),
    ):
        if count:
            say(f"{words}: {count:,}")
    say(f"Report: {found.folder / 'report.html'}")
