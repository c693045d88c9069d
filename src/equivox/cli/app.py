"""The command `equivox`: its subcommands, its log, and what each error ends with."""

import io
import logging
import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from equivox import __version__
from equivox.cli import (
    audit,
    cohort,
    compare,
    cross_site,
    demo,
    doctor,
    evaluate,
    evaluate_landmarks,
    losses,
    measure,
    plan,
    predict,
    preprocess,
    train,
)
from equivox.errors import InputError, is_out_of_memory, one_line
from equivox.progress import console

logger = logging.getLogger("equivox")

DONE, OUR_FAULT, USERS_MISTAKE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

# Threads of torch that wait for one another spin for milliseconds by default. As soon as another program uses one of
# the processors, they spend whole time slices waiting for a thread that has none: a step of 0.15 s then took 2.5 s.
# With so few turns before they sleep it took 0.5 s, and 0.16 s on a quiet machine. Read when torch is imported.
_PATIENCE_OF_THREADS = ("GOMP_SPINCOUNT", "1000")

_EVERYWHERE = ("--quiet", "-q", "--verbose", "-v")


class _Commands(TyperGroup):
    """Turns errors into one line and an exit code, in the shell and in tests alike."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take --quiet and --verbose wherever they stand, before the command or after it."""
        values = args.index("--") if "--" in args else len(args)
        early = [word for word in args[:values] if word in _EVERYWHERE]
        return super().parse_args(ctx, [*early, *(w for w in args[:values] if w not in _EVERYWHERE), *args[values:]])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output, `head` say, has had enough; what is still buffered has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(DONE) from None
        except (InputError, OSError) as error:
            _say(one_line(error))
            raise typer.Exit(USERS_MISTAKE) from error
        except KeyboardInterrupt:
            _say("stopped by the user; nothing half written is left behind")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if _is_usage_error(error):
                raise
            if is_out_of_memory(error):
                _say(one_line(error))
                raise typer.Exit(USERS_MISTAKE) from error
            _say(f"this is our fault, not yours: {type(error).__name__}: {error}; run 'equivox -v ...' for the details")
            logger.debug("the details", exc_info=True)
            raise typer.Exit(OUR_FAULT) from error


app = typer.Typer(
    cls=_Commands,
    name="equivox",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Medical image segmentation with an honest report for every group of patients.",
    epilog="For research, not for clinical use.",
)
app.add_typer(cohort.app, name="cohort", help="Import, check, describe and split a cohort of scans.")
app.add_typer(losses.app, name="losses", help="List the losses that a config can combine, and show one.")
for command in (plan.plan, preprocess.preprocess, train.train, predict.predict, evaluate.evaluate):
    app.command()(command)
app.command()(evaluate_landmarks.evaluate_landmarks)
app.command()(compare.compare)
app.command()(measure.measure)
app.command()(audit.audit)
app.command("cross-site")(cross_site.cross_site)
app.command()(demo.demo)
app.command()(doctor.doctor)


class _TerminalHandler(logging.Handler):
    """Writes the log above a progress bar that may be running; a long path stays in one piece, to be copied."""

    def emit(self, record: logging.LogRecord) -> None:
        name = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        console.print(name + self.format(record), soft_wrap=True, markup=False, highlight=False)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"equivox {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _settings(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the details, with tracebacks.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if quiet and verbose:
        msg = "--quiet and --verbose: expected one of them, got both; leave one out"
        raise InputError(msg)
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    logger.handlers = [_TerminalHandler()]
    logger.setLevel(level)
    logger.propagate = False
    console.quiet = quiet


def _say(line: str) -> None:
    typer.echo("equivox: " + " ".join(line.split()), err=True)


def _is_usage_error(error: Exception) -> bool:
    """Click's own errors (an unknown option, say) print their usage line and end with 2 by themselves."""
    return hasattr(error, "exit_code") and hasattr(error, "format_message")


def main() -> None:
    """Run the command line."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(*_PATIENCE_OF_THREADS)
    # A terminal or file that cannot hold a sign (U+2212 before a number, say) gets its code: the work is done by then.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Ended from outside, a command too takes away what it has half written.
    signal.signal(signal.SIGTERM, _end)
    try:
        app()
    except SystemExit as ended:
        if ended.code not in (INTERRUPTED, TERMINATED):
            raise
        # Threads that still read a scan would be waited for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code))


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)
