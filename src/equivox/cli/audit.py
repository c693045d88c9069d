"""`equivox audit`: what the features of a run's networks tell of held-out patients."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equivox.cli.output import say, say_json, show_table
from equivox.cli.shared_options import JsonSummary, Plots
from equivox.errors import InputError

if TYPE_CHECKING:
    from equivox.pipelines.audit import Audit


def audit(
    run: Annotated[Path, typer.Argument(help="The run folder that 'equivox train' made.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the tables and the page.")],
    cohort: Annotated[
        Path | None, typer.Option("--cohort", help="A cohort folder. [default: that of the training]")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", help="An attribute to probe; may be given again. [default: all]")
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", help="The attribute that names the site: labels are shuffled within it.")
    ] = None,
    features: Annotated[
        str, typer.Option("--features", metavar="NAME,NAME", help="Layers: bottleneck, or bottleneck,last_decoder.")
    ] = "bottleneck",
    shortcut: Annotated[
        list[str] | None,
        typer.Option(
            "--shortcut",
            help="An attribute of two groups, such as a catheter in the scan: performance with and without it at equal "
            "lesion volume; may be given again.",
        ),
    ] = None,
    erasure: Annotated[
        bool,
        typer.Option(
            "--erasure/--no-erasure", help="Segment again without what tells an attribute; takes several times as long."
        ),
    ] = False,
    erase: Annotated[
        str | None,
        typer.Option("--erase", metavar="K,K", help="Directions that --erasure takes out. [default: 1,4]"),
    ] = None,
    random_sets: Annotated[int, typer.Option(help="Sets of random directions to compare with.", min=1)] = 2,
    folds: Annotated[
        str | None, typer.Option("--folds", metavar="K,K", help="Trained folds to audit, such as 0,2. [default: all]")
    ] = None,
    permutations: Annotated[int, typer.Option(help="Shuffles of the labels behind each p.", min=19)] = 200,
    draws: Annotated[int, typer.Option(help="Resamples of patients behind each interval.", min=199)] = 1999,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
    overlap: Annotated[
        float, typer.Option(help="Part that neighbouring patches share at least.", min=0, max=0.99)
    ] = 0.5,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Run the networks in bfloat16.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Leave out and list scans that cannot be read.")
    ] = False,
    figures: Plots = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier audit.")] = False,
    json_output: JsonSummary = False,
) -> None:
    """Probe what the networks' features tell of patients that they were not trained on, with controls.

    It shows that information is linearly available, not that it is used: only --erasure speaks to use.
    """
    from equivox.cli.predict import fold_numbers
    from equivox.options import flag, parse_options
    from equivox.pipelines.audit import audit as run_audit
    from equivox.pipelines.auditing.options import AuditOptions

    if erase is not None and not erasure:
        msg = f"--erase {erase}: expected --erasure beside it, which takes the directions out, got none; add it"
        raise InputError(msg)
    values = {
        "attributes": attribute or [],
        "site": site,
        "features": features.split(","),
        "shortcuts": shortcut or [],
        "folds": fold_numbers(folds),
        "erasure": fold_numbers(erase or "1,4", "--erase") if erasure else (),
        "random_sets": random_sets,
        "permutations": permutations,
        "draws": draws,
        "seed": seed,
        "overlap": overlap,
        "bfloat16": bfloat16,
        "device": device,
    }
    found = run_audit(
        run,
        out,
        cohort=cohort,
        options=parse_options(AuditOptions, values, flag),
        overwrite=overwrite,
        allow_partial=allow_partial,
        figures=figures,
    )
    if json_output:
        say_json(found.summary)
    else:
        _show(found)


def _show(found: "Audit") -> None:
    from equivox.reports.audit_page import answer, first_probes, probe_rows
    from equivox.reports.counted import counted

    heads, rows = probe_rows(found.summary)
    shown = [heads.index(head) for head in ("Attribute", "Patients", "Score", "Minus acquisition", "q")]
    first = {(one["attribute"], one["layer"], one["pooling"]): one for one in first_probes(found.summary)}
    keys = [(one["attribute"], one["layer"], one["pooling"]) for one in found.summary["probes"]]
    own = [(row, first[key]) for row, key in zip(rows, keys, strict=True) if key in first]
    table = [(*(row[place] for place in shown), answer(record)) for row, record in own]
    cohort = found.summary["cohort"]
    title = f"{counted(cohort['patients'], 'held-out patient')}, {counted(cohort['cases'], 'scan')}"
    show_table(title, (*(heads[place] for place in shown), "Information"), table)
    say("Available does not mean used; see the page for what else was compared.")
    say(f"Page: {found.folder / 'report.html'}")
