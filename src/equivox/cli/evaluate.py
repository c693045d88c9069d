"""`equivox evaluate`: score predictions, group by group, and write the report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
)

if TYPE_CHECKING:
    from equivox.pipelines.evaluate import Evaluation


def evaluate(
    predictions: Annotated[
        Path,
        typer.Option("--predictions", help="The folder of predicted label maps, of 'equivox predict' or any tool."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the report and its tables.")],
    cohort: Annotated[Path | None, typer.Option("--cohort", help="The cohort folder with the references.")] = None,
    references: Annotated[
        Path | None,
        typer.Option("--references", help="Without a cohort: a folder of masks named like the predictions."),
    ] = None,
    groups: GroupsTable = None,
    key: KeyColumn = None,
    patient: PatientColumn = None,
    attribute: AttributeColumns = None,
    continuous: ContinuousColumns = None,
    class_: ClassNames = None,
    nominal_spacing: NominalSpacing = False,
    images: Annotated[
        Path | None, typer.Option("--images", help="With --references: a folder of images, to show the masks on.")
    ] = None,
    modality: Annotated[str, typer.Option("--modality", help="Of these images: CT, MR, PET, XR or OTHER.")] = "OTHER",
    tolerance: Annotated[
        float, typer.Option(help="Of the surface score NSD, in mm (in voxels where sizes are not real).", min=0)
    ] = 2.0,
    margin: Annotated[float, typer.Option(help="The difference in mean Dice that matters.")] = 0.05,
    empty: Annotated[
        str, typer.Option(help="Structures missing from a mask: penalise, perfect or exclude; see the guide.")
    ] = "penalise",
    hd95: Annotated[
        str, typer.Option(help="Convention of the distances: directed_max, pooled, deepmind, monai or medpy.")
    ] = "directed_max",
    metrics: Annotated[
        str, typer.Option(help="What to compute, by comma: overlap, surface, volume, centreline, topology.")
    ] = "overlap,surface,volume",
    lesions: Annotated[
        bool,
        typer.Option("--lesions", help="Also lesion by lesion: recall, false positives, panoptic quality."),
    ] = False,
    lesion: Annotated[
        list[str] | None,
        typer.Option(
            "--lesion",
            metavar="KEY=VALUE",
            help="How: match=any_overlap, threshold=0.3, policy=merge, minimum_volume_mm3=30, ...; may come again.",
        ),
    ] = None,
    probabilities: Annotated[
        str,
        typer.Option(
            metavar="auto|none|FOLDER",
            help="Maps of probabilities, for calibration: CASE/1-CLASS.nii.gz or CASE.npz. auto: PREDICTIONS/"
            "probabilities, or CASE.npz among the predictions.",
        ),
    ] = "auto",
    compat: Annotated[
        list[str] | None,
        typer.Option(
            "--compat",
            help="Also what this tool would report: nnunet, monai, medpy, surface-distance, fairseg; may come again.",
        ),
    ] = None,
    reconcile: Annotated[
        bool, typer.Option("--reconcile", help="Explain, case by case, why other tools' means differ from ours.")
    ] = False,
    interval: Annotated[str, typer.Option(help="Of means: bootstrap_t or bca.")] = "bootstrap_t",
    strata: Annotated[
        str | None, typer.Option("--strata", help="Resample all patients within the groups of this attribute.")
    ] = None,
    permute_within: Annotated[
        str | None,
        typer.Option("--permute-within", help="Compare groups within those of this attribute, such as the site."),
    ] = None,
    equity_scale: Annotated[
        float | None,
        typer.Option(
            help="The s of distances' equity-scaled form mean × (1 + gaps / s), in mm or voxels. [default: none]"
        ),
    ] = None,
    case_mix: Annotated[
        str, typer.Option(help="Adjust differences for these too, by comma: volume, slice_thickness, attributes.")
    ] = "volume,slice_thickness,site",
    intersections: Annotated[
        list[str] | None,
        typer.Option(help="Attributes to cross, such as sex,age,site; may be given again. [default: all pairs]"),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option("--model-name", help="As the report calls it. [default: as the predictions say]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and the permutations.", min=0)] = 0,
    bootstrap_draws: Annotated[int, typer.Option(help="Resamples behind each interval.", min=199)] = 4999,
    permutation_draws: Annotated[int, typer.Option(help="Permutations behind each test.", min=199)] = 9999,
    workers: Annotated[int, typer.Option(help="Processes that score cases.", min=1)] = 1,
    memory_gib: Annotated[
        float | None,
        typer.Option(
            "--memory-gib", help="What all of them together may take. [default: 80 % of what is free]", min=0.1
        ),
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring predictions on another grid onto the reference's, and say so.")
    ] = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Leave out and list cases that cannot be scored.")
    ] = False,
    figures: Annotated[
        bool, typer.Option("--figures", help="Also write the figures (SVG, PNG) and tables (CSV, LaTeX) for papers.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier evaluation.")] = False,
    json_output: JsonSummary = False,
) -> None:
    """Score predictions against references, patient by patient and group by group, and write the report.

    Give --cohort, or --references with --groups. A missing prediction counts as a failure. Ends with 2 and writes
    nothing when a case cannot be scored, unless --allow-partial is given.
    """
    from equivox.cli.table_options import classes_of, edges_of, modality_of, probability_choice, settings_of
    from equivox.metrics.lesions.options import LesionOptions
    from equivox.options import flag, parse_options
    from equivox.pipelines.evaluate import EvaluateOptions
    from equivox.pipelines.evaluate import evaluate as run_evaluation

    counting = parse_options(LesionOptions, settings_of(lesion or [], "--lesion"), lambda key: f"--lesion {key}")
    values = {
        "tolerance": tolerance,
        "margin": margin,
        "empty": empty,
        "hd95": hd95,
        "lesions": counting if lesions or lesion else None,
        "compat": compat or [],
        "reconcile": reconcile,
        "interval": interval,
        "strata": strata,
        "permute_within": permute_within,
        "metrics": _listed(metrics),
        "equity_scale": equity_scale,
        "case_mix": _listed(case_mix),
        "intersections": [_listed(one) for one in intersections] if intersections else "pairs",
        "seed": seed,
        "bootstrap_draws": bootstrap_draws,
        "permutation_draws": permutation_draws,
    }
    evaluation = run_evaluation(
        out,
        predictions=predictions,
        cohort=cohort,
        references=references,
        groups=groups,
        key=key,
        patient=patient,
        attributes=attribute or [],
        continuous=edges_of(continuous or []),
        classes=classes_of(class_ or []) or None,
        nominal_spacing=nominal_spacing,
        images=images,
        modality=modality_of(modality),
        options=parse_options(EvaluateOptions, values, flag),
        probabilities=probability_choice(probabilities),
        model_name=model_name,
        workers=workers,
        memory_gib=memory_gib,
        overwrite=overwrite,
        resample=resample,
        allow_partial=allow_partial,
        figures=figures,
    )
    if json_output:
        say_json(evaluation.summary)
    else:
        _show(evaluation)


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _show(evaluation: "Evaluation") -> None:
    """Print the scores, the answers and where the report is."""
    from equivox.reports.counted import counted

    for table in evaluation.summary["tables"]:
        _show_scores(table, evaluation.summary["settings"])
        failure = table["failure_rate"]
        if failure["value"] is not None:
            threshold = evaluation.summary["settings"]["failure_threshold"]
            say(f"Below a Dice of {threshold:g}: {failure['failed']} of {counted(failure['patients'], 'patient')}.")
        exploratory = "" if table["headline"] else " (exploratory)"
        for attribute in table["attributes"]:
            say(f"{attribute['name']}{exploratory}: {attribute['verdict']['sentence']}")
    left_out = evaluation.summary["left_out"]
    counts = {
        "Cases left out": len(left_out["excluded_cases"]),
        "Cases without a prediction, counted as failures": len(left_out["missing_predictions"]),
        "Predictions without a reference": len(left_out["extra_predictions"]),
    }
    for words, count in counts.items():
        if count:
            say(f"{words}: {count}")
    say(f"Report: {evaluation.report}")


def _show_scores(table: dict[str, Any], settings: dict[str, Any]) -> None:
    """Print the overall scores in the digits of the report."""
    from equivox.reports.counted import patients_and_cases
    from equivox.reports.numbers import MISSING
    from equivox.reports.views import metric_row

    names = {"test": "test cases", "out_of_fold": "out-of-fold cases", "all": "all cases"}
    level = f"{100 * settings['confidence']:g} %"
    rows = []
    for name, metric in table["overall"].items():
        row = metric_row(name, "all classes", metric, settings)
        label = f"{row.metric} ({row.unit})" if row.unit else row.metric
        rows.append((label, row.mean.text, row.mean.interval or MISSING, row.median.text, row.worst_decile.text))
    title = f"{names[table['role']]}: {patients_and_cases(table)}"
    show_table(title, ("score", "mean", f"{level} interval", "median", "worst decile"), rows)
