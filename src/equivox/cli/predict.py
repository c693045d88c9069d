"""`equivox predict`: segment scans with a trained run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from equivox.cli.output import say, show_table


def predict(
    run: Annotated[Path, typer.Argument(help="The run folder that 'equivox train' made.")],
    scans: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SCAN]...",
            help="Files, folders of scans, or folders of DICOM slices. For a run of several channels name the files of "
            "a case <case>_0000, <case>_0001, ... in the order of the channels, or use --channel.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the label maps.")] = ...,  # type: ignore[assignment]
    cohort: Annotated[
        Path | None,
        typer.Option(
            "--cohort",
            help="A cohort folder: its test cases are predicted by the average of all folds, the others each by the "
            "network that was not trained on it.",
        ),
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option("--channel", metavar="NAME=FILE", help="One channel of a single scan; give every channel once."),
    ] = None,
    folds: Annotated[
        str | None, typer.Option("--folds", metavar="K,K", help="Trained folds to use, such as 0,2. [default: all]")
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="Part that neighbouring patches share at least.", min=0, max=0.99)
    ] = 0.5,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Average over mirror images; never left to right where classes have sides.")
    ] = False,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Run the networks in bfloat16: faster on some processors, less exact.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write a map of each class's probability.")
    ] = False,
    entropy: Annotated[
        bool, typer.Option("--entropy", help="Also write a map of the uncertainty, 0 (certain) to 1 (even).")
    ] = False,
    workers: Annotated[
        int, typer.Option(help="Scans prepared ahead while the network runs; each takes memory.", min=0)
    ] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make label maps anew that are there already.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Keep label maps that are there, make the others.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, with the memory it would take.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Segment scans; each label map lies exactly on its scan and has the label values of the training cohort.

    One failing scan never stops the others. Ends with 0 when every scan worked, with 2 when some could not be read.
    """
    from equivox.options import flag, parse_options
    from equivox.pipelines.predict import PredictionOptions
    from equivox.pipelines.predict import predict as run_prediction

    values = {
        "overlap": overlap,
        "mirror": mirror,
        "bfloat16": bfloat16,
        "folds": fold_numbers(folds),
        "probabilities": probabilities,
        "entropy": entropy,
        "device": device,
    }
    results = run_prediction(
        run,
        scans or [],
        out,
        cohort=cohort,
        channels=_named(channel or []),
        options=parse_options(PredictionOptions, values, flag),
        workers=workers,
        overwrite=overwrite,
        resume=resume,
        dry_run=dry_run,
    )
    if json_output:
        import json

        lines = [{**result.row(), "status": result.status, "folds": list(result.folds)} for result in results]
        typer.echo(json.dumps({"out": str(out), "results": lines}, indent=2))
    else:
        _show(results, out, dry_run=dry_run)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        raise typer.Exit(1 if any(result.our_fault for result in failed) else 2)


def fold_numbers(text: str | None, option: str = "--folds") -> tuple[int, ...] | None:
    """Return the numbers of a text such as ``0,2``, None without a text.

    Raises:
        InputError: If it is no such text.
    """
    from equivox.errors import InputError

    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        what = "list trained folds" if option == "--folds" else "list whole numbers"
        msg = f"{option}: expected numbers such as 0,2, got '{text}'; {what}"
        raise InputError(msg) from None


def _named(texts: list[str]) -> dict[str, Path] | None:
    from equivox.errors import InputError

    files: dict[str, Path] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or not file:
            msg = f"--channel {text}: expected NAME=FILE, got no '='; write for example --channel ct=scan.nii.gz"
            raise InputError(msg)
        if name in files:
            msg = f"--channel {text}: expected each channel once, got '{name}' twice; leave one out"
            raise InputError(msg)
        files[name] = Path(file)
    return files or None


def _show(results: list[Any], out: Path, *, dry_run: bool) -> None:
    """Print the table of results; what failed follows as one line each, uncut."""
    from collections import Counter

    rows = [(one.case_id, one.role, " ".join(map(str, one.folds)), one.status, one.file or "-") for one in results]
    show_table("", ("case", "role", "folds", "status", "file"), rows, right=False)
    for result in results:
        if result.status == "failed":
            typer.echo(f"equivox: {result.message}", err=True)
        elif result.message:
            say(f"{result.case_id}: {result.message}")
    counts = Counter(result.status for result in results)
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    written = not dry_run and any(result.file for result in results)
    where = f"label maps in {out}" if written else "nothing was written"
    say(f"{told}; {where}")
