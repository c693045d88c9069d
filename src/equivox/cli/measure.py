"""`equivox measure`: size and intensity of every structure, by group and against age."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equivox.cli.output import say, say_json, show_table
from equivox.cli.shared_options import (
    AttributeColumns,
    ClassNames,
    ContinuousColumns,
    GroupsTable,
    JsonSummary,
    KeyColumn,
    NominalSpacing,
    PatientColumn,
    Plots,
)

if TYPE_CHECKING:
    from equivox.pipelines.measure import Measurement


def measure(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the tables and the page.")],
    cohort: Annotated[Path | None, typer.Option("--cohort", help="A cohort folder.")] = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", help="A folder of label maps; with --cohort in place of its own.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Without --cohort: a folder of images named like the masks.")
    ] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="With --cohort: the channel to measure in.")] = None,
    modality: Annotated[
        str, typer.Option("--modality", help="Without --cohort: CT (intensities in HU), PET (SUV), MR or OTHER.")
    ] = "OTHER",
    groups: GroupsTable = None,
    key: KeyColumn = None,
    patient: PatientColumn = None,
    attribute: AttributeColumns = None,
    continuous: ContinuousColumns = None,
    class_: ClassNames = None,
    nominal_spacing: NominalSpacing = False,
    erode_mm: Annotated[
        float, typer.Option("--erode-mm", help="Leave out intensities this near to the edge.", min=0)
    ] = 0.0,
    border_voxels: Annotated[
        int, typer.Option("--border-voxels", help="Outer layers of the image in which a structure is cut off.", min=1)
    ] = 1,
    adjust_for: Annotated[
        list[str] | None,
        typer.Option(
            "--adjust-for", help="An attribute to adjust for; may be given again. [default: categorical ones]"
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Resamples and permutations.", min=199)] = 1999,
    seed: Annotated[int, typer.Option(help="Of both.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="Processes that measure cases.", min=1)] = 1,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Leave out and list cases that cannot be measured.")
    ] = False,
    figures: Plots = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier measurements.")] = False,
    json_output: JsonSummary = False,
) -> None:
    """Measure volume and intensity of every structure, flag what the image cuts off, and compare by group and age.

    Give --cohort (its own masks, or those of --masks), or --masks with --images.
    """
    from equivox.cli.table_options import classes_of, edges_of, modality_of
    from equivox.options import flag, parse_options
    from equivox.pipelines.measure import measure as run_measurement
    from equivox.pipelines.measurement.options import MeasureOptions

    values = {
        "erode_mm": erode_mm,
        "border_voxels": border_voxels,
        "adjust_for": adjust_for or [],
        "draws": draws,
        "seed": seed,
    }
    found = run_measurement(
        out,
        cohort=cohort,
        masks=masks,
        images=images,
        channel=channel,
        modality=modality_of(modality),
        groups=groups,
        key=key,
        patient=patient,
        attributes=attribute or [],
        continuous=edges_of(continuous or []),
        classes=classes_of(class_ or []) or None,
        nominal_spacing=nominal_spacing,
        options=parse_options(MeasureOptions, values, flag),
        workers=workers,
        overwrite=overwrite,
        allow_partial=allow_partial,
        figures=figures,
    )
    if json_output:
        say_json(found.summary)
    else:
        _show(found)


def _show(found: "Measurement") -> None:
    from equivox.reports.counted import patients_and_cases
    from equivox.reports.measurement_page import structure_table

    heads, rows = structure_table(found.summary)
    cohort = found.summary["cohort"]
    # The quartiles are in the files: a terminal is narrow.
    shown = [place for place, head in enumerate(heads) if head not in ("Absent", "Median (quartiles)")]
    title = patients_and_cases(cohort)
    show_table(title, tuple(heads[place] for place in shown), [tuple(row[place] for place in shown) for row in rows])
    left = found.summary["left_out"]
    if left["cut_off"]:
        say(f"Structures that the image cuts off, measured and not compared: {left['cut_off']}")
    if left["excluded_cases"]:
        say(f"Cases left out: {len(left['excluded_cases'])}")
    say(f"Page: {found.folder / 'report.html'}")
