"""What the page of an audit shows of segmentations: what goes along with a probe, and what goes along with a flag."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equivox.reports.numbers import MISSING, interval, number, p_value, signed

Table = tuple[list[str], list[list[str]]]

LAYER_WORDS: Final = {"bottleneck": "bottleneck", "last_decoder": "last decoder stage"}


@dataclass(frozen=True)
class FlagView:
    """One flag.

    Attributes:
        name: The attribute.
        sentence: What was compared, or why nothing was.
        scores: Head and rows of the comparison.
        strata: Head and rows of the strata.
    """

    name: str
    sentence: str
    scores: Table
    strata: Table


def link_rows(summary: Mapping[str, Any]) -> Table:
    """Return the table of what goes along with the probes' logits."""
    heads = ["Attribute", "Features", "Towards", "Patients", "Rank correlation (interval)"]
    heads += ["Dice per SD (interval)", "Dice per SD, group given too (interval)"]
    rows = []
    for one in (summary["behaviour"] or {"links": ()})["links"]:
        cells = [one["attribute"], LAYER_WORDS[one["layer"]], one["toward"] or "higher values"]
        cells += [number(one["patients"], 0), _signed(one, "spearman", "spearman", 2)]
        rows.append([*cells, _signed(one, "slope", "slope", 3), _signed(one, "within", "within", 3)])
    return heads, rows


def link_words(summary: Mapping[str, Any]) -> str:
    """Return what the slopes are given, and how many of them leave 0 out."""
    links = [one for one in summary["behaviour"]["links"] if one["slope_low"] is not None]
    given = sorted({name for one in summary["behaviour"]["links"] for name in one["given"]}, key=str.lower)
    told = f"Slopes are given {' and '.join(given)}" if given else "Slopes are given nothing else"
    if not links:
        return f"{told}; there are too few patients for one."
    apart = sum(one["slope_low"] > 0 or one["slope_high"] < 0 for one in links)
    counted = f"{apart:,} of {len(links):,} intervals {'leaves' if apart == 1 else 'leave'} 0 out"
    return (
        f"{told}. {counted}, each read by itself: by chance alone it is one in twenty. A slope says that scans which "
        "the probe places more clearly are segmented better or worse, not why: they may be easier or harder for "
        "another reason that also tells the attribute."
    )


def gap_rows(summary: Mapping[str, Any]) -> Table:
    """Return the table of the Dice by group."""
    rows = []
    for one in (summary["behaviour"] or {"groups": ()})["groups"]:
        apart = _signed(one, "difference", "difference", 3)
        cells = [one["attribute"], one["group"], number(one["patients"], 0), number(one["dice"], 3)]
        rows.append([*cells, apart, p_value(one["p"])])
    return ["Attribute", "Group", "Patients", "Mean Dice", "Minus the rest (simultaneous interval)", "p"], rows


def flag_views(summary: Mapping[str, Any]) -> list[FlagView]:
    """Return what is shown of each flag."""
    told = summary["shortcuts"]
    return [_flag(one, nominal=summary["cohort"]["nominal_spacing"]) for one in told["flags"]] if told else []


def negative_words(summary: Mapping[str, Any]) -> str:
    """Return what is said of patients without a lesion, who are the negatives of both sides."""
    told = summary["shortcuts"]["negatives"]
    if not told["patients"]:
        return "Every patient with a reference has a lesion: there are no negatives to count false detections in."
    return (
        f"{told['patients']:,} patients have no lesion in any reference. They are the negatives of both sides alike: "
        f"{told['with_false_detections']:,} of them have false detections, {number(told['false_detections'], 2)} a "
        "patient on average."
    )


def _flag(one: Mapping[str, Any], *, nominal: bool) -> FlagView:
    having, without = f"{one['flag']} {one['with']}", f"{one['flag']} {one['without']}"
    counts = f"{one['patients_with']:,} patients with {having} and {one['patients_without']:,} with {without}"
    if one["reason"]:
        return FlagView(one["flag"], f"{counts} have a lesion: {one['reason']}.", ([], []), ([], []))
    heads = ["Score", having, without, "Difference as it is", "At equal lesion volume (interval)", "Compared", "p"]
    scores = [_score_row(row) for row in one["scores"]]
    unit = "voxels" if nominal else "ml"
    columns = [f"Lesion volume, {unit}", f"Patients, {having}", f"Patients, {without}"]
    columns += [f"{name}, {side}" for name in ("Dice", "Recall") for side in (having, without)]
    strata = [_stratum_row(row, nominal=nominal) for row in one["strata"]]
    return FlagView(
        one["flag"], f"{counts} have a lesion. {_left_by_matching(one)}", (heads, scores), (columns, strata)
    )


def _left_by_matching(one: Mapping[str, Any]) -> str:
    ratio = one["volume_ratio"]
    if ratio is None:
        return "No stratum of lesion volume has patients of both."
    return f"Within the strata, lesions with {one['flag']} {one['with']} are {number(ratio, 2)} times as large."


def _score_row(row: Mapping[str, Any]) -> list[str]:
    if row["difference"] is None:
        compared = "too few within the strata"
    else:
        compared = f"{row['compared_with']:,} and {row['compared_without']:,}"
    cells = [row["score"][:1].upper() + row["score"][1:], number(row["mean_with"], 3), number(row["mean_without"], 3)]
    ends = interval(row["low"], row["high"], 3, sign=True)
    matched = signed(row["difference"], 3) + (f" ({ends})" if ends else "")
    return [*cells, signed(row["raw"], 3), matched, compared, p_value(row["p"])]


def _stratum_row(row: Mapping[str, Any], *, nominal: bool) -> list[str]:
    low, high = (row[name] if nominal else row[name] / 1000 for name in ("low", "high"))
    places = 0 if nominal or low >= 10 else 2 if low >= 1 else 3
    cells = [f"{number(low, places)} to {number(high, places)}"]
    cells += [number(row[f"patients_{side}"], 0) for side in ("with", "without")]
    scores: Sequence[str] = ("Dice", "lesion recall")
    return [*cells, *(number(row[f"{name} {side}"], 3) for name in scores for side in ("with", "without"))]


def _signed(one: Mapping[str, Any], name: str, ends: str, places: int) -> str:
    if one[name] is None:
        return MISSING
    told = interval(one[f"{ends}_low"], one[f"{ends}_high"], places, sign=True)
    return signed(one[name], places) + (f" ({told})" if told else "")
