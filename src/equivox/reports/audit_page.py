"""The page of `equivox audit`: what the features tell of the patients, beside what the controls tell."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup

from equivox.atomic import write_text
from equivox.reports.audit_outcome_views import LAYER_WORDS, flag_views, gap_rows, link_rows, link_words, negative_words
from equivox.reports.counted import counted
from equivox.reports.document import packed_csv, render
from equivox.reports.embedding import embedded_json
from equivox.reports.model_card import escape_markdown
from equivox.reports.numbers import MISSING, Number, decimals, interval, number, p_value, signed
from equivox.reports.plots import Axis, axis_marks, interval_mark, key, nice_axis
from equivox.reports.scatter import Points, scatter

POOLING_WORDS: Final = {
    "mean": "mean over the scan",
    "foreground": "mean over the predicted foreground",
    "mean_sd": "mean and SD over the scan",
}

LEVEL: Final = 0.05
_MOST_CASES: Final = 20
_NOT_TOLD: Final = {
    "none": "The run has no record of its scans' contents: whether a patient of the training is here under another "
    "name could not be checked",
    "prepared": "The run has no hashes of its images, only of whole prepared cases: a patient of the training who is "
    "here under another name and with another reference is not recognised",
}
_MOST_GROUPS: Final = 12


@dataclass(frozen=True)
class ProbeCard:
    """What is said of one attribute.

    Attributes:
        name: The attribute.
        answer: In a few words.
        sentence: With numbers.
        rows: Name, mark on the axis and text of the probe and each control.
        axis: Below the marks.
        chance: Where chance lies on the axis, in percent.
        score_name: Of the axis.
    """

    name: str
    answer: str
    sentence: str
    rows: Sequence[tuple[str, Markup, str]]
    axis: Markup
    chance: float
    score_name: str


@dataclass(frozen=True)
class ComponentPlot:
    """The first two principal components, coloured by one attribute."""

    title: str
    picture: Markup
    words: str
    legend: Sequence[tuple[Markup, str]]


def write_audit(path: Path, *, summary: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file to write.
        summary: What `embedding_audit.json` holds.
        table: What `probes.csv` holds, to be saved from the page.
    """
    write_text(path, render_audit(summary, table))


def render_audit(summary: Mapping[str, Any], table: pd.DataFrame) -> str:
    """Return the page of `write_audit` as text."""
    run, cohort = summary["run"], summary["cohort"]
    contents = [("available", "What is linearly available"), ("probes", "Every probe")]
    contents += [("components", "Two components and all"), ("along", "Along with the segmentation")]
    contents += [("shortcuts", "With and without")] if summary["shortcuts"] else []
    contents += [("erasure", "Erasure"), ("energy", "Unlike the others")]
    contents += [("left-out", "What is left out"), ("methods", "Methods")]
    return render(
        "audit.html.j2",
        version=summary["equivox_version"],
        kind="Embedding audit",
        title=f"{run['name']} on {cohort['name']}",
        facts=[
            ("Held-out patients", f"{cohort['patients']:,}"),
            ("Scans", f"{cohort['cases']:,}"),
            ("Networks", f"{len(run['networks'])} ({run['model']}, {run['dims']})"),
            ("Layer" if len(run["layers"]) == 1 else "Layers", ", ".join(run["layers"].values())),
            ("Date", str(summary["created"])[:10]),
            ("Software", f"equivox {summary['equivox_version']}"),
        ],
        contents=contents,
        cards=[_card(record) for record in first_probes(summary) if record["done"]],
        not_probed=[reading(record) for record in first_probes(summary) if not record["done"]],
        probes=_shown_probes(summary),
        components=_component_rows(summary),
        plots=list(_component_plots(summary)),
        component_note=_component_note(summary),
        behaviour=summary["behaviour"],
        links=link_rows(summary),
        link_words=link_words(summary) if summary["behaviour"] else "",
        gaps=gap_rows(summary),
        flags=flag_views(summary),
        negative_words=negative_words(summary) if summary["shortcuts"] else "",
        erasure=summary["erasure"],
        erasure_rows=_erasure_rows(summary),
        energy_rows=_energy_rows(summary),
        energy_words=_energy_words(summary),
        left_out=_left_out(summary),
        methods=methods(summary),
        summary_json=embedded_json(summary),
        cases_gzip=packed_csv(table),
        file_stem=re.sub(r"[^A-Za-z0-9]+", "-", cohort["name"]).strip("-").lower()[:60] or "audit",
    )


def first_probes(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the probe of each attribute that the page speaks of first: in the bottleneck's mean over the scan.

    `other_layers` has the probes of the same attribute in the other layers' mean.
    """
    same = [record for record in summary["probes"] if record["pooling"] == summary["poolings"][0]]
    first = next(iter(summary["run"]["layers"]))
    return [
        record | {"other_layers": [one for one in same if _is_other_layer(one, record)]}
        for record in same
        if record["layer"] == first
    ]


def _is_other_layer(one: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    return bool(one["attribute"] == record["attribute"] and one["layer"] != record["layer"] and one["done"])


def answer(record: Mapping[str, Any]) -> str:
    """Return what may be said of a probe, in a few words: never more than that information is available.

    Example:
        >>> answer({"done": True, "q": 0.01, "score": 0.8, "chance": 0.5})
        'Linearly available'
    """
    if not record["done"]:
        return "Not probed"
    return "Linearly available" if is_available(record) else "No evidence that it is linearly available"


def is_available(record: Mapping[str, Any]) -> bool:
    """Tell whether a probe found information: above chance, and rarely so on shuffled labels."""
    return bool(
        record["done"] and record["q"] is not None and record["q"] < LEVEL and record["score"] > record["chance"]
    )


def reading(record: Mapping[str, Any]) -> str:
    """Return what a probe says in a sentence or two, with its numbers."""
    name = record["attribute"]
    if not record["done"]:
        return f"{name} was not probed: {record['reason']}."
    told = f"{_score_word(record)} {_estimate(record)} in {record['patients']:,} patients"
    if is_available(record):
        parts = [f"{name} information is linearly available in the features ({told})."]
        parts += [_beside(one) for one in record["controls"]]
        parts.append("Whether the network uses it, a probe does not show.")
    else:
        parts = [f"No evidence that {name} information is linearly available ({told}); a probe can miss it."]
    if record["unstable"]:
        parts.append("Fewer than 50 patients: the numbers are unstable.")
    return " ".join(parts)


def _beside(control: Mapping[str, Any]) -> str:
    names = {"untrained network": "an untrained network of the same shape", "body size": "body size alone"}
    name = names.get(control["name"], "the acquisition alone")
    low, value = control["difference_low"], control["difference"]
    ends = interval(low, control["difference_high"], 2, sign=True)
    shown = f"difference {signed(value, 2)}" + (f", {ends}" if ends else "")
    more = low is not None and low > 0
    return f"{'More' if more else 'Not shown to be more'} than {name} tells ({shown})."


def _score_word(record: Mapping[str, Any]) -> str:
    return "R²" if record["score_name"] == "R2" else str(record["score_name"])


def _estimate(record: Mapping[str, Any], name: str = "") -> str:
    """Return a score and its interval as a text; `name` chooses it, such as ``second_``."""
    value, low, high = record[name.rstrip("_") or "score"], record.get(f"{name}low"), record.get(f"{name}high")
    kind = "distance" if record.get("kind") == "number" and name == "second_" else "fraction"
    places = decimals(kind, value, low, high)  # type: ignore[arg-type]
    ends = interval(low, high, places)
    return number(value, places) + (f" ({ends})" if ends else "")


def _difference(control: Mapping[str, Any]) -> str:
    ends = interval(control["difference_low"], control["difference_high"], 2, sign=True)
    return signed(control["difference"], 2) + (f" ({ends})" if ends else "")


def card_lines(record: Mapping[str, Any]) -> list[tuple[str, Number | None, Number | None, Number | None]]:
    """Return name, score and interval of a probe and what it is compared with, in the order to show them."""
    lines = [("trained network", record["score"], record["low"], record["high"])]
    beside = [(f"its {LAYER_WORDS[one['layer']]}", one) for one in record["other_layers"]]
    lines += [(name, one["score"], one["low"], one["high"]) for name, one in beside]
    lines += [(one["name"], one["score"], one["low"], one["high"]) for one in record["controls"]]
    if record.get("shuffled"):
        shuffled = record["shuffled"]
        lines.append(("shuffled labels", shuffled["mean"], shuffled["low"], shuffled["high"]))
    if record["other_sites"]:
        other = record["other_sites"]
        lines.append(("trained network, other sites", other["score"], other["low"], other["high"]))
    return lines


def card_axis(record: Mapping[str, Any]) -> Axis:
    """Return the axis that the scores of a probe and its controls are shown on; a poor R2 ends in an arrow."""
    numbers = [n for _, *ends in card_lines(record) for n in ends if n is not None] + [record["chance"]]
    if record["kind"] == "number":
        return nice_axis(max(-0.4, min(numbers)), 1.0, ceil=1.0)
    return nice_axis(max(0.0, min(*numbers, 0.4)), 1.0, floor=0.0, ceil=1.0)


def _card(record: Mapping[str, Any]) -> ProbeCard:
    axis = card_axis(record)
    rows = []
    for name, score, low, high in card_lines(record):
        places = decimals("fraction", score, low, high)
        ends = interval(low, high, places)
        text = number(score, places) + (f" ({ends})" if ends else "")
        rows.append((name, interval_mark(axis, score, low, high, f"{name}: {text}"), text))
    at = axis.percent(record["chance"])
    words = _score_word(record)
    return ProbeCard(record["attribute"], answer(record), reading(record), rows, axis_marks(axis), at, words)


def _shown_probes(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the table of the attributes that were probed in some features; the cards name the others."""
    heads, rows = probe_rows(summary)
    told = {record["attribute"] for record in summary["probes"] if record["done"]}
    return heads, [row for row in rows if row[0] in told]


def probe_rows(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the table of probes."""
    heads = ["Attribute", "Features", "Patients", "Score", "q", "Minus untrained network", "Minus acquisition"]
    heads += ["Minus body size", "On other sites", "Shuffled labels", "Second score", "p"]
    rows = []
    for record in summary["probes"]:
        layer = f"{LAYER_WORDS[record['layer']]}, " if len(summary["run"]["layers"]) > 1 else ""
        cells = [record["attribute"], layer + POOLING_WORDS[record["pooling"]], number(record["patients"], 0)]
        if not record["done"]:
            rows.append([*cells, "not probed", *[MISSING] * (len(heads) - 4)])
            continue
        shuffled, other = record["shuffled"], record["other_sites"]
        cells += [f"{_score_word(record)} {_estimate(record)}", p_value(record["q"])]
        cells += [_difference(one) for one in record["controls"]]
        cells.append(_estimate({**other, "kind": record["kind"]}) if other else MISSING)
        cells.append(f"{number(shuffled['mean'], 2)} ({interval(shuffled['low'], shuffled['high'], 2)})")
        cells.append(f"{record['second_name']} {_estimate(record, 'second_')}")
        rows.append([*cells, p_value(record["p"])])
    return heads, rows


def probes_markdown(summary: Mapping[str, Any]) -> str:
    """Return the table of probes as Markdown."""
    heads, rows = probe_rows(summary)
    lines = [heads, ["---"] * len(heads), *([escape_markdown(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _component_rows(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    counts = sorted({one["components"] for one in summary["components"]})
    heads = ["Attribute", "Score", *(f"First {count}" for count in counts), "As the probe has them"]
    rows = []
    for record in first_probes(summary):
        if record["done"]:
            own = {one["components"]: one for one in summary["components"] if one["attribute"] == record["attribute"]}
            cells = [_estimate(own[count]) if count in own else MISSING for count in counts]
            silhouette = number(summary["scatter"]["silhouette"].get(record["attribute"]), 2)
            rows.append([record["attribute"], _score_word(record), *cells, _estimate(record), silhouette])
    return [*heads, "Silhouette of the plot"], rows


def component_points(summary: Mapping[str, Any], attribute: str) -> list[Points]:
    """Return the patients of the network that is shown, by group; those of no known group last."""
    told = summary["scatter"]
    groups = np.array(["" if group is None else group for group in told["groups"][attribute]], dtype=object)
    x, y = np.array(told["x"], dtype=np.float64), np.array(told["y"], dtype=np.float64)
    names = told["order"][attribute]
    points = [Points(name, place, x[groups == name], y[groups == name]) for place, name in enumerate(names)]
    unknown = groups == ""
    return [*points, Points("group not known", None, x[unknown], y[unknown])] if unknown.any() else points


def component_label(summary: Mapping[str, Any], place: int) -> str:
    """Return the label of an axis of the plot of two components."""
    shares = summary["scatter"]["explained"]
    share = shares[min(place, len(shares) - 1)]
    part = "" if share is None else f" ({100 * share:.0f} % of the spread)"
    return f"Principal component {place + 1}{part}"


def _component_plots(summary: Mapping[str, Any]) -> list[ComponentPlot]:
    plots = []
    for attribute in summary["scatter"]["groups"]:
        points = component_points(summary, attribute)
        if not points or len(points) > _MOST_GROUPS:
            continue
        title = f"The first two principal components by {attribute}"
        words = "; ".join(f"{one.name}: {counted(len(one.x), 'patient')}" for one in points)
        labels = (component_label(summary, 0), component_label(summary, 1))
        legend = [(key(one.style), one.name) for one in points]
        plots.append(ComponentPlot(attribute, scatter(points, labels, title, f"{words}."), f"{words}.", legend))
    return plots


def _component_note(summary: Mapping[str, Any]) -> str:
    return (
        f"The plots show the network of fold {summary['scatter']['fold']}. Groups that a plot of two components does "
        "not set apart may still be told apart in the others: no visible separation is not evidence of absence."
    )


def _erasure_rows(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    heads = [
        "Attribute",
        "Directions",
        "Probe afterwards",
        "Group",
        "Patients",
        "Dice before",
        "Change",
        "Change at random",
    ]
    heads += ["Beyond random (interval)", "Group minus rest (simultaneous interval)", "p of group minus rest"]
    rows = []
    for one in summary["erasure"]["results"] if summary["erasure"] else ():
        left = {"score": one["left"], "low": one["left_low"], "high": one["left_high"]}
        probe = f"{'R²' if one['score_name'] == 'R2' else one['score_name']} {_estimate(left)}"
        for row in one["groups"]:
            extra = interval(row["extra_low"], row["extra_high"], 3, sign=True)
            apart = interval(row["difference_low"], row["difference_high"], 3, sign=True)
            cells = [one["attribute"], number(one["directions"], 0), probe, row["group"], number(row["patients"], 0)]
            cells += [number(row["before"], 3), signed(row["change"], 3), signed(row["random_change"], 3)]
            cells.append(signed(row["extra"], 3) + (f" ({extra})" if extra else ""))
            cells.append(signed(row["difference"], 3) + (f" ({apart})" if apart else ""))
            rows.append([*cells, p_value(row["p"])])
    return heads, rows


def _energy_rows(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    words = {"test": "test", "out_of_fold": "out of fold", "new": "not of the run"}
    rows = [
        [one["case_id"], one["patient_id"], words[one["role"]], number(one["percentile"], 0)]
        for one in summary["energy"]["cases"][:_MOST_CASES]
    ]
    return ["Case", "Patient", "Role", "Percentile"], rows


def _energy_words(summary: Mapping[str, Any]) -> str:
    told = summary["energy"]
    if not told["cases"]:
        return "There are too few held-out cases to compare a case with."
    high = sum(one["percentile"] >= 95 for one in told["cases"])
    return (
        f"{high:,} of {len(told['cases']):,} cases have an energy at or above the 95th percentile of the cases that "
        f"they are compared with ({' or '.join(told['reference'])}); by chance alone it is one in twenty. The "
        f"{min(_MOST_CASES, len(told['cases']))} highest are listed; energy.csv has all."
    )


def _left_out(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    left = summary["left_out"]
    items = [
        (
            "Trained on",
            f"{counted(left['trained_on'], 'patient', 'is', 'are')} in the training of every network that is audited: "
            "not used",
        )
    ]
    if left["renamed"]:
        told = f"{left['renamed']:,} patients have scans that the run knows under another name, by the contents of the"
        items.append(("Under another name", f"{told} files: they count as what they are there"))
    if left["renamed_told_by"] in _NOT_TOLD:
        items.append(("Other names", _NOT_TOLD[left["renamed_told_by"]]))
    for record in first_probes(summary):
        for group, count in record["small_groups"].items():
            items.append(
                (f"{record['attribute']}: {group}", f"{counted(count, 'patient')}; too few for a group of the probe")
            )
    for name, count in left["differing"].items():
        items.append(
            (name, f"{counted(count, 'patient', 'has', 'have')} scans with different values: not probed for it")
        )
    if left["without_foreground"]:
        are = counted(left["without_foreground"], "segmentation", "is", "are")
        items.append(("Without foreground", f"{are} empty: not in the mean over the foreground"))
    items += [(f"Case {one['case_id']}", one["reason"]) for one in left["unreadable"]]
    return items


def _layer_words(summary: Mapping[str, Any]) -> str:
    words = {"bottleneck": "the deepest of the encoder", "last_decoder": "the last stage of the decoder"}
    told = [f"{name}, {words[layer]}" for layer, name in summary["run"]["layers"].items()]
    return f"Output of the module{'' if len(told) == 1 else 's'} {'; '.join(told)}"


def _shortcut_methods(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not summary["shortcuts"]:
        return []
    words = (
        "Patients whose references have a foreground, cut by its volume into five strata of equally many (three of "
        "fewer than 50 patients). The difference is the mean over strata, weighted by how much each tells; patients "
        "are permuted within the strata, and each score is read by itself. A lesion is a connected component of a "
        "class, found where a component of the segmentation has a Dice above 0.1 with it, one to one. What else "
        "differs between the sides is not accounted for: a difference is a reason to look, not a proof of a shortcut."
    )
    return [("With and without", words)]


def methods(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how the numbers were made, as pairs of a head and sentences."""
    settings = summary["settings"]
    site = settings["site"]
    shuffled = f"among patients of one {site} and" if site else "among patients"
    return [
        (
            "Who",
            "Only patients whom a network was not trained on. Each network is probed alone, on its own held-out "
            "patients, as the axes of different networks mean different things; scores are averaged over the "
            "networks. No case chose a checkpoint or a setting. A scan of the training is known by its name, by its "
            "patient, and by the bytes of its image files; one that was saved anew under another name is not.",
        ),
        (
            "Features",
            f"{_layer_words(summary)}, under the sliding window of the segmentation: each voxel of the scan counts "
            "once, by the Gaussian weights of its patches. A patient's vector is the mean over the patient's scans.",
        ),
        (
            "Probe",
            "Standardised, reduced to principal components where there are more than a fifth as many dimensions as "
            "patients; logistic regression with an L2 penalty and balanced classes, each group against the rest "
            "(ridge regression for numbers). Five outer folds of patients, stratified, give held-out scores; five "
            "inner folds choose the penalty. Everything is fitted inside the folds.",
        ),
        (
            "Score",
            "Area under the ROC curve of the pooled held-out scores, mean over the groups (chance 0.5), and balanced "
            f"accuracy; R² and mean absolute error for numbers. Intervals: 95 %, percentiles of {settings['draws']:,} "
            "resamples of patients; they hold for these trained networks, and the probe is not fitted anew. In "
            "simulations of 60 and 100 patients of whom nothing can be told they held chance in about nine of ten: "
            "whether anything is told is judged by q.",
        ),
        (
            "p and q",
            f"{settings['permutations']:,} shuffles of the labels {shuffled} held out from the same networks; the "
            "largest score over three penalties that were fixed beforehand, not chosen anew for each shuffle. q: "
            "share of false discoveries (Benjamini and Hochberg) over attributes and kinds of features.",
        ),
        (
            "Controls",
            "Acquisition: spacing, matrix size, field of view, mean, SD and percentiles of the raw intensities, not "
            "what only a scanner's own records tell. Untrained network: the same network with random weights, pooled "
            "in the same way. Body size: the volume of the body in the field of view. Differences are of the same "
            "patients and the same resamples. A difference above 0 says that the trained features tell more than the "
            "control, not where they have it from.",
        ),
        (
            "Other sites",
            "Fitted to all sites but one and scored within that one, mean over sites weighted by patients; only "
            "where a site is declared, there are 20 patients of other sites, and the site has 5 patients of two "
            "groups or more.",
        ),
        (
            "Along with the segmentation",
            "Dice on the prepared grid, mean over classes, of scans whose reference has a foreground; mean over a "
            "patient's scans and networks. The held-out logit of the probe in the mean over the scan (for a number, "
            "the prediction), in standard deviations within each network. Spearman's correlation with percentiles of "
            "resampled patients; least squares with HC3 intervals, given the logarithm of the lesion volume and the "
            "site where one is declared, and then the patient's own group as well. The intervals take the logits as "
            "they are and are not adjusted for how many there are; in simulations of 60 patients whose Dice went along "
            "with nothing, 6 to 7 of 100 left 0 out. Dice by group: patients permuted, within site where "
            "one is declared, all groups of all attributes as one family.",
        ),
        *_shortcut_methods(summary),
        (
            "Erasure",
            "Directions by iterative nullspace projection in the mean features of the held-out patients, projected "
            "out at the bottleneck at every voxel while segmenting again, beside as many random directions. Dice on "
            "the prepared grid, mean over classes. Information can reach the output around the bottleneck, by skip "
            "connections: no change does not show that it is not used. The probe afterwards finds its directions "
            "inside its folds.",
        ),
        (
            "Energy",
            "Minus the logarithm of the summed exponentials of a voxel's logits, mean over the scan; percentile "
            "among other scans of the network's own fold, or, where these are fewer than 10, among its other "
            "held-out scans. It is no probability of an error and no test: a high one is a reason to look at the "
            "case, a low one no proof of anything.",
        ),
        (
            "Language",
            "A probe shows that information is linearly available in the features. It does not show that the network "
            "uses it, nor that anyone is served worse: for that, read the evaluation by group.",
        ),
    ]
