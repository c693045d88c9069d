"""The gallery of the page: cases with their slices, contours and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from equivox.reports.case_list import OUTCOMES, metric_column, score_head, score_text, size_text
from equivox.reports.embedding import embedded_json
from equivox.reports.numbers import metric_text, number
from equivox.reports.overlay import CT_WINDOWS, OverlayCase, Sheet, ct_window_table, make_sheet


@dataclass(frozen=True, eq=False)
class GalleryCase:
    """A case as the page shows it.

    Attributes:
        number: Its place in the gallery, from 1.
        case_id: The cohort's own id.
        rank: Why it is shown.
        score: Its mean score, as text.
        blank: Whether there is no image to see.
        sheet: Its slices.
        sides: (edge of the picture, letter of the patient's side).
        classes: Class name -> index.
        windows: Names of the windows to choose from; none unless it is a CT.
        heads: Of the table of its scores.
        rows: One a class.
        slice_words: What is said of each slice.
        slice_json: What the script needs of each slice.
        description: What a screen reader says.
    """

    number: int
    case_id: str
    rank: str
    score: str
    blank: bool
    sheet: Sheet
    sides: Sequence[tuple[str, str]]
    classes: Mapping[str, int]
    windows: Sequence[str]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    slice_words: Sequence[str]
    slice_json: Markup
    description: str

    @property
    def scrolls(self) -> bool:
        """Whether there is more than one slice to see."""
        return len(self.sheet.slices) > 1


def gallery_case(case: OverlayCase, place: int, cases: pd.DataFrame, settings: Mapping[str, Any]) -> GalleryCase:
    """Lay out one case and gather its scores.

    Args:
        case: Image and masks.
        place: Its place in the gallery, from 1.
        cases: What `cases.csv` holds.
        settings: The settings of the summary.
    """
    sheet = make_sheet(case)
    rows = cases[cases["case_id"].astype(str) == case.case_id]
    reference, prediction = (f"{name}_{settings['volume_unit']}" for name in ("reference", "prediction"))
    keys = [key for key in ("dice", "nsd", "hd95") if metric_column(key, settings) in rows]
    scores = []
    for record in rows.to_dict("records"):
        outcome = str(record["outcome"])
        named = str(record["class"]) + ("" if outcome == "scored" else f" ({OUTCOMES.get(outcome, outcome)})")
        row = [named, *(score_text(record[metric_column(key, settings)], key, settings) for key in keys)]
        row += [size_text(record[name], settings) for name in (reference, prediction) if name in record]
        scores.append(row)
    heads = ["Class", *(score_head(metric_text(key).label, key, settings) for key in keys)]
    for name, label in ((reference, "Reference"), (prediction, "Prediction")):
        if name in rows:
            heads.append(score_head(label, "volume_error", settings))
    words = [f"slice {one.number} of {sheet.axis_length}" for one in sheet.slices]
    views = [[one.left, one.top, sheet.slice_width, sheet.slice_height] for one in sheet.slices]
    return GalleryCase(
        number=place,
        case_id=case.case_id,
        rank=case.rank,
        blank=bool(case.image.size and case.image.min() == case.image.max()),
        score=number(case.dice, 2),
        sheet=sheet,
        sides=list(zip(("left", "right", "top", "bottom"), sheet.sides, strict=False)),
        classes=case.classes,
        windows=list(CT_WINDOWS) if case.modality == "CT" else [],
        heads=heads,
        rows=scores,
        slice_words=words,
        slice_json=embedded_json({"views": views, "words": words}),
        description=_describe(sheet),
    )


def _describe(sheet: Sheet) -> str:
    many = len(sheet.slices)
    return (
        f"{many} slice{'' if many == 1 else 's'} of {sheet.axis_length} across axis {sheet.axis}, from slice "
        f"{sheet.slices[0].number} to {sheet.slices[-1].number}. "
        "The contours follow the edges of the voxels. The table below has the scores."
    )


def window_filters() -> Markup:
    """Return the SVG filters that show the stored greys of a CT in each window."""
    parts = ['<svg width="0" height="0" class="filters" aria-hidden="true">']
    for name, (low, high) in CT_WINDOWS.items():
        table = " ".join(f"{value:g}" for value in ct_window_table(low, high))
        channels = "".join(f'<feFunc{c} type="table" tableValues="{table}"/>' for c in "RGB")
        parts.append(
            f'<filter id="window-{escape(name.replace(" ", "-"))}" color-interpolation-filters="sRGB">'
            f"<feComponentTransfer>{channels}</feComponentTransfer></filter>"
        )
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704  numbers and our own names
