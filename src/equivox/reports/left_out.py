"""What the numbers leave out, counted and named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

_MOST_ROWS: Final = 100
_OUTCOME_LABELS: Final = {
    "both_empty": "In neither mask",
    "missed": "Missed",
    "false_positive": "Found where there is none",
    "no_prediction": "Without a prediction",
}


@dataclass(frozen=True)
class Ledger:
    """One kind of thing that was left out.

    Attributes:
        label: Its name.
        count: How many there are.
        words: What follows the count.
        summary: What opens the list.
        heads: Of the list.
        rows: Of the list.
        more: What is said when the list is cut.
    """

    label: str
    count: str
    words: str
    summary: str = ""
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    more: str = ""


@dataclass(frozen=True)
class EmptyMasks:
    """Empty masks by class, and how they were scored."""

    policy: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def ledger(left_out: Mapping[str, Any]) -> list[Ledger]:
    """Return what was left out; a kind of which there is none is said to be none.

    Args:
        left_out: The part of that name of the summary.
    """
    excluded = [(str(one["case_id"]), str(one["reason"])) for one in left_out.get("excluded_cases", [])]
    repaired = [(str(one["case_id"]), str(one["repair"])) for one in left_out.get("repairs", [])]
    missing = [(str(case),) for case in left_out.get("missing_predictions", [])]
    mapless = [(str(case),) for case in left_out.get("missing_probabilities", [])]
    extra = [(str(case),) for case in left_out.get("extra_predictions", [])]
    items = [
        _listed("Excluded cases", excluded, "not scored", ("Case", "Why")),
        _listed("Missing predictions", missing, "without a prediction", ("Case",)),
        _listed("Extra predictions", extra, "that no case of the cohort asks for", ("Prediction",)),
        _listed("Repaired geometry", repaired, "mended before scoring", ("Case", "What was done")),
    ]
    if mapless:
        items.append(_listed("Missing probabilities", mapless, "scored, but not in the calibration", ("Case",)))
    read = left_out.get("unknown_words", {})
    unknown = {name: n for name, n in left_out.get("unknown_group", {}).items() if n or read.get(name)}
    if not unknown:
        items.append(Ledger("Unknown groups", "None", ""))
    for name, count in unknown.items():
        items.append(_unknown(name, count, read.get(name, {})))
    for name, patients in left_out.get("conflicting_groups", {}).items():
        words = f"patient{'' if len(patients) == 1 else 's'} of several groups"
        items.append(_listed(f"Conflicting {name}", [(str(one),) for one in patients], words, ("Patient",)))
    return items


def empty_masks(summary: Mapping[str, Any]) -> EmptyMasks:
    """Return how often each class was in no mask or in one alone, and the policy's words."""
    left_out = summary["left_out"]
    outcomes = [key for key in _OUTCOME_LABELS if key in left_out]
    classes = [str(name) for name in summary["cohort"]["classes"]]
    counts = [[left_out[key].get(name, 0) for key in outcomes] for name in classes]
    rows = [[name, *map(_count, row)] for name, row in zip(classes, counts, strict=True)]
    told = (summary.get("methods") or {}).get("empty_masks") or ""
    policy = summary["settings"].get("empty_policy")
    words = f"The policy here is '{policy}'. {told} Counts are structures: one class of one case."
    return EmptyMasks(words, ("Class", *(_OUTCOME_LABELS[key] for key in outcomes)), rows if outcomes else [])


def _unknown(name: str, count: int, read: Mapping[str, int]) -> Ledger:
    """Return how many patients are of unknown group, and which words were read as unknown."""
    words = f"patient{'' if count == 1 else 's'} of unknown group, in the overall mean only"
    if not read:
        return Ledger(f"Unknown {name}", _count(count), words)
    cells = sum(read.values())
    words += f"; {_count(cells)} cell{' was' if cells == 1 else 's were'} not empty but read as unknown"
    rows = [(str(word), _count(n)) for word, n in read.items()]
    listed = _listed(f"Unknown {name}", rows, words, ("Read as unknown", "Cells"))
    return replace(listed, count=_count(count))


def _listed(label: str, rows: Sequence[tuple[str, ...]], words: str, heads: Sequence[str]) -> Ledger:
    if not rows:
        return Ledger(label, "None", "")
    more = ""
    if len(rows) > _MOST_ROWS:
        more = f"And {len(rows) - _MOST_ROWS:,} more, all of them in the summary that can be saved below."
    return Ledger(label, _count(len(rows)), words, "Which", heads, rows[:_MOST_ROWS], more)


def _count(count: int) -> str:
    return f"{count:,}"
