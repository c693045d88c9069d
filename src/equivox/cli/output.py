"""What a command prints of its result: lines and tables on standard output, nothing with --quiet."""

from collections.abc import Iterable, Sequence
from typing import Any

import typer

from equivox.progress import console


def say(*lines: str) -> None:
    """Print lines as they are: a file's name is never broken, nor read as markup."""
    if not console.quiet:
        for line in lines:
            # A name from a file must not steer the terminal.
            typer.echo("".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in line))


def say_json(values: Any) -> None:
    """Print a result as JSON; it was asked for, with --quiet too."""
    import json

    typer.echo(json.dumps(values, indent=2, ensure_ascii=False))


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: bool = True) -> None:
    """Print a table whose cells are folded, never cut.

    Args:
        title: Above the table; none where empty.
        columns: The heads.
        rows: A cell for each column.
        right: Set all columns but the first to the right, as numbers are read.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head = Text(title, style="bold") if title else None
    table = Table(title=head, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if index and right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    if not console.quiet:
        Console(highlight=False, markup=False).print(table)
