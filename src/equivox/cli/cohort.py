"""`equivox cohort`: import, check, describe and split a cohort of scans."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equivox.cli.output import say, say_json, show_table
from equivox.cli.phantom import phantom
from equivox.errors import InputError

if TYPE_CHECKING:
    from equivox.datasets.check import CheckResult
    from equivox.datasets.check_case import Tier
    from equivox.datasets.describe import Description
    from equivox.datasets.import_cohort import ImportResult
    from equivox.datasets.split import SplitResult

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.command()(phantom)

_NAMED = re.compile(r"[\w.+-]+")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The cohort folder.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes to use.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A BIDS, nnU-Net raw or MSD folder, a CSV, or any folder of scans.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The cohort folder to make.")],
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="CHANNEL=PATTERN", help="Where a channel lies, with {case_id}. CSV: its column."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="[RATER=]PATTERN", help="Where the labels lie. CSV: the column. BIDS: the name's end."),
    ] = None,
    channel: Annotated[list[str] | None, typer.Option(help="BIDS: take this image (T1w), and in this order.")] = None,
    table: Annotated[Path | None, typer.Option(help="Table of the cases or patients, CSV or TSV.")] = None,
    key: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the table with the case ids.")] = None,
    patient: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the table with patients.")] = None,
    attribute: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="A column to report by.")] = None,
    continuous: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=EDGES", help="A column of numbers to report by: age=40,65.")
    ] = None,
    modality: Annotated[
        list[str] | None, typer.Option(metavar="CHANNEL=MODALITY", help="CT, MR, PET, XR, RGB or OTHER; else guessed.")
    ] = None,
    class_: Annotated[
        list[str] | None, typer.Option("--class", metavar="VALUE=NAME", help="Name a value of the labels: 255=tumour.")
    ] = None,
    nominal_spacing: Annotated[
        bool, typer.Option("--nominal-spacing", help="The voxel sizes are not real: nothing is said in mm or ml.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the cohort in reports.")] = None,
    layout: Annotated[str | None, typer.Option(help="bids, nnunet, msd, csv or folder; else found out.")] = None,
    split_channels: Annotated[
        bool, typer.Option("--split-channels", help="MSD: write each channel of a 4D image as a 3D file into DIR.")
    ] = False,
    workers: Workers = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the cohort in DIR.")] = False,
    json_output: Json = False,
) -> None:
    """Make a cohort folder from scans of any common layout; no scan is copied."""
    from equivox.datasets.import_cohort import import_cohort
    from equivox.datasets.import_draft import ImportOptions
    from equivox.options import flag, parse_options

    values = {
        "layout": layout,
        "images": _pairs("--image", image),
        "labels": _raters(label or []),
        "channels": channel or [],
        "table": table,
        "key": key,
        "patient": patient,
        "attributes": attribute or [],
        "continuous": {column: _edges(column, text) for column, text in _pairs("--continuous", continuous).items()},
        "modalities": {name: text.upper() for name, text in _pairs("--modality", modality).items()},
        "classes": {_whole(value): text for value, text in _pairs("--class", class_).items()},
        "nominal_spacing": nominal_spacing,
        "name": name,
        "split_channels": split_channels,
    }
    options = parse_options(ImportOptions, values, lambda key: flag(key).replace("modalities.", "modality "))
    result = import_cohort(source, out, options, workers=workers, overwrite=overwrite)
    if json_output:
        say_json(result.to_json())
    else:
        _show_import(result)


@app.command()
def check(
    folder: Folder,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is repairable, in copies below DIR/fixed.")] = False,
    workers: Workers = 1,
    json_output: Json = False,
) -> None:
    """Look at every file and list all problems at once; ends with 2 while something must be mended or repaired."""
    from equivox.datasets.check import check_cohort
    from equivox.datasets.check_fix import fix_cohort
    from equivox.datasets.cohort import load_cohort

    cohort = load_cohort(folder, sound=False)
    result = check_cohort(cohort, workers)
    repairs: list[dict[str, str]] = []
    failures: tuple[str, ...] = ()
    if fix and result.of_tier("repairable"):
        cohort, records, failures = fix_cohort(cohort, result, workers)
        repairs = [vars(record) for record in records]
        result = check_cohort(cohort, workers)
    if json_output:
        say_json(result.to_json() | {"repairs": repairs, "failed_repairs": list(failures)})
    else:
        _show_check(result, repairs, failures)
    if not result.usable:
        raise typer.Exit(2)


@app.command()
def describe(folder: Folder, workers: Workers = 1, json_output: Json = False) -> None:
    """Show sizes, spacings, intensities, volumes of the classes and patients of each group."""
    from equivox.datasets.cohort import load_cohort
    from equivox.datasets.describe import describe_cohort

    description = describe_cohort(load_cohort(folder), workers)
    if json_output:
        say_json(description.to_json())
    else:
        _show_description(description)
    if description.unreadable:
        raise typer.Exit(2)


@app.command()
def split(
    folder: Folder,
    folds: Annotated[int, typer.Option(help="Folds for cross-validation.")] = 5,
    test: Annotated[float, typer.Option(help="Part of the patients set aside for testing; 0 for none.")] = 0.2,
    stratify: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Attributes to balance besides label volume; 'none', or all where not given."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another split of the same quality.")] = 0,
    workers: Workers = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing split.")] = False,
    json_output: Json = False,
) -> None:
    """Split by patient into a test set and folds with like groups and like label volumes."""
    from equivox.datasets.cohort import load_cohort
    from equivox.datasets.split import split_cohort

    names = None if stratify is None else [] if stratify == "none" else [part.strip() for part in stratify.split(",")]
    result = split_cohort(
        load_cohort(folder),
        folds=folds,
        test=test,
        stratify=names,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
    )
    if json_output:
        say_json(result.to_json())
    else:
        _show_split(result, folder)


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            msg = f"{option} {text}: expected NAME=VALUE, got no such pair; see 'equivox cohort import --help'"
            raise InputError(msg)
        if name.strip() in pairs:
            msg = f"{option} {text}: expected '{name.strip()}' once, got it twice; leave one out"
            raise InputError(msg)
        pairs[name.strip()] = value.strip()
    return pairs


def _raters(texts: Sequence[str]) -> dict[str, str]:
    """Read ``PATTERN`` (one rater) or several ``RATER=PATTERN``."""
    named = [text for text in texts if "=" in text and _NAMED.fullmatch(text.partition("=")[0])]
    if len(texts) == 1 and not named:
        return {"": texts[0]}
    if len(named) < len(texts):
        other = next(text for text in texts if text not in named)
        msg = f"--label {other}: expected RATER=PATTERN where there are several, got no rater; write --label rater1=..."
        raise InputError(msg)
    return _pairs("--label", named)


def _edges(column: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        msg = f"--continuous {column}={text}: expected numbers, got something else; write for example {column}=40,65"
        raise InputError(msg) from None


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?\d+", text):
        msg = f"--class {text}=...: expected a whole number, the value in the label files; write for example 1=tumour"
        raise InputError(msg)
    return int(text)


def _show_import(result: "ImportResult") -> None:
    from equivox.reports.counted import counted

    cohort = result.cohort
    config = cohort.config
    labelled = sum(case.label is not None for case in cohort.cases)
    size = f"{counted(len(cohort.cases), 'case')} of {counted(len(cohort.patients), 'patient')}"
    head = f"{config.name}: {size}, {labelled} with a label"
    say(head, "channels: " + ", ".join(f"{name} ({c.modality})" for name, c in config.channels.items()))
    if config.nominal_spacing:
        say("voxel sizes are nominal: everything is given in voxels")
    if config.classes:
        files = [str(item.files) if item.files is not None else "not counted" for item in result.mapping]
        rows = [(m.value, m.class_name, m.index, n) for m, n in zip(result.mapping, files, strict=True)]
        show_table("Labels", ("value in the files", "class", "index", "files"), rows)
    if config.attributes:
        _show_groups(cohort)
    if result.notes:
        say("Notes:", *(f"  {note}" for note in result.notes))
    if result.left_out:
        say(f"Left out ({len(result.left_out)}):", *(f"  {item.case_id}: {item.reason}" for item in result.left_out))
    say(f"written: {cohort.folder / 'cohort.csv'} and cohort.yaml; next: equivox cohort check {cohort.folder}")


def _show_groups(cohort: Any) -> None:
    from equivox.datasets.describe import count_groups

    rows = [(count.attribute, count.group, count.patients, count.cases) for count in count_groups(cohort)]
    show_table("Groups", ("attribute", "group", "patients", "cases"), rows)


def _show_check(result: "CheckResult", repairs: Sequence[dict[str, str]], failures: Sequence[str]) -> None:
    words = {"error": "errors", "repairable": "repairable", "note": "notes"}
    if repairs:
        lines = (f"  {item['case_id']} {item['column']}: {item['repair']} -> {item['fixed']}" for item in repairs)
        say(f"Repaired ({len(repairs)}), listed in repairs.csv:", *lines)
    say(*(f"Not repaired: {line}" for line in failures))
    tiers: tuple[Tier, ...] = ("error", "repairable", "note")
    show_table(
        f"{result.cohort}: {result.cases} cases",
        ("", "problems", "cases"),
        [(words[t], len(result.of_tier(t)), len({p.case_id for p in result.of_tier(t) if p.case_id})) for t in tiers],
    )
    for problem in result.problems:
        # An error is told even with --quiet.
        (typer.echo if problem.tier == "error" else say)(f"{problem.tier}: {problem.line}")
    if result.usable:
        say("the cohort can be used")
    elif result.of_tier("repairable"):
        say("--fix mends what is repairable, in copies: the files themselves are never changed")


def _show_description(description: "Description") -> None:
    from equivox.reports.counted import counted

    nominal = all(summary.spacings_mm is None for summary in description.channels)
    size = "voxel sizes are nominal" if nominal else "voxel sizes in mm"
    head = f"{description.cohort}: {counted(description.cases, 'case')} of {counted(description.patients, 'patient')}"
    say(f"{head}, {description.labelled} with a label; {size}; smallest - median - largest:")
    rows: list[Sequence[object]] = []
    for summary in description.channels:
        spacings = summary.spacings_mm or (None, None, None)
        for axis, count, spacing in zip("ijk", summary.sizes, spacings, strict=True):
            sides = () if nominal else (_spread(spacing),)
            rows.append((f"{summary.channel} ({summary.modality}) {axis}", _spread(count), *sides))
    heads = ("channel, axis", "voxels") if nominal else ("channel, axis", "voxels", "spacing, mm")
    show_table("Sizes" if nominal else "Sizes and spacings", heads, rows)
    percents = [list(summary.intensities) for summary in description.channels][:1]
    if percents:
        values = [(s.channel, *(f"{value:.5g}" for value in s.intensities.values())) for s in description.channels]
        show_table("Intensities, percentiles", ("channel", *(f"{p} %" for p in percents[0])), values)
    if description.classes:
        unit = description.classes[0].unit
        volumes = [(c.name, c.present, c.absent, _spread(c.volume)) for c in description.classes]
        show_table("Classes", ("class", "cases with it", "without", f"volume where present, {unit}"), volumes)
    if description.groups:
        groups = [(count.attribute, count.group, count.patients, count.cases) for count in description.groups]
        show_table("Groups", ("attribute", "group", "patients", "cases"), groups)
    say(*(f"left out: {line}" for line in description.unreadable))


def _spread(spread: Any) -> str:
    if spread is None:
        return "-"
    return " - ".join(f"{value:.4g}" if value < 10_000 else f"{value:.0f}" for value in vars(spread).values())


def _show_split(result: "SplitResult", folder: Path) -> None:
    names = [f"fold {name}" if isinstance(name, int) else str(name) for name in result.names]
    everyone = list(result.patients.values())
    cases = list(result.folds.values())
    rows: list[Sequence[object]] = [
        ("patients", *(everyone.count(name) for name in result.names), len(everyone)),
        ("cases", *(cases.count(name) for name in result.names), len(cases)),
    ]
    for stratum in result.strata:
        for group, counts in result.counts(stratum).items():
            rows.append((f"{stratum}: {group}", *counts.values(), sum(counts.values())))
    show_table(f"Patients by fold and group (seed {result.seed})", ("", *names, "all"), rows)
    if result.unlabelled:
        say(f"{len(result.unlabelled)} cases have no label and are in no fold")
    say(f"written: {folder / 'split.csv'}")
