"""Options that several commands declare alike: the table of patients beside the masks, and the output."""

from pathlib import Path
from typing import Annotated

import typer

GroupsTable = Annotated[
    Path | None, typer.Option("--groups", help="Without --cohort: a CSV or TSV with one row a case.")
]
KeyColumn = Annotated[str | None, typer.Option("--key", help="Its column of case ids (the file names).")]
PatientColumn = Annotated[
    str | None, typer.Option("--patient", help="Its column of patients. [default: each case is a patient]")
]
AttributeColumns = Annotated[
    list[str] | None, typer.Option("--attribute", help="A column of it to report by; may be given again.")
]
ContinuousColumns = Annotated[
    list[str] | None,
    typer.Option("--continuous", metavar="COLUMN=EDGES", help="A column of numbers to report by, such as age=40,65."),
]
ClassNames = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="VALUE=NAME",
        help="Without --cohort: name a value of the masks, such as 1=liver; give all. [default: as found]",
    ),
]
NominalSpacing = Annotated[
    bool, typer.Option("--nominal-spacing", help="Without --cohort: voxel sizes are not real; report voxels.")
]
Plots = Annotated[bool, typer.Option("--figures", help="Also write the plots as SVG and PNG.")]
JsonSummary = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
