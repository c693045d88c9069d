"""What a comparison across sites says in words: a sentence for each contrast, what may be claimed, and the methods."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from equivox.reports.counted import counted
from equivox.reports.numbers import decimals, interval, number, p_value, signed, unit_text

Answer = Literal["difference", "no_evidence", "cannot_say", ""]

KINDS: Final = {
    "gap": (
        "Away from home",
        "Own models against the mean of the models of the other single sites.",
        "its own models",
        "models of other sites",
    ),
    "pooling_gain": (
        "What pooling brings",
        "Models of all sites against the site's own. They also saw more patients.",
        "models of all sites",
        "its own models",
    ),
    "leave_out_gap": (
        "What the site's own patients bring to a pool",
        "Models of all sites against models of all sites but this one.",
        "models of all sites",
        "models that saw nobody of the site",
    ),
    "matched_pooling_gain": (
        "What diversity brings at equal size",
        "Models of all sites, with as many patients as a single site has, against the site's own. Exploratory.",
        "size-matched models of all sites",
        "its own models",
    ),
}
"""Contrast -> head, what it compares, and the two sides in words."""

ANSWERS: Final = {
    "difference": "Evidence of a difference",
    "no_evidence": "No evidence of a difference",
    "cannot_say": "Cannot say",
    "": "Exploratory",
}


@dataclass(frozen=True)
class Statement:
    """One contrast in words."""

    answer: Answer
    words: str
    sentence: str


def explanation(kind: str, summary: Mapping[str, Any]) -> str:
    """Return what a contrast compares; the size-matched rows are pointed to where there are any."""
    words = KINDS[kind][1]
    matched = any(row["kind"] == "pool_matched" for row in summary["rows"])
    if kind == "pooling_gain":
        words += " The size-matched rows have not." if matched else " A full budget adds rows that have not."
    return words


def sentences(summary: Mapping[str, Any], place: int) -> list[str]:
    """Return one plain sentence a contrast, and what may be said of other sites."""
    return [*(one.sentence for _, one in statements(summary, place)), claim(summary)]


def statements(summary: Mapping[str, Any], place: int) -> Iterator[tuple[str, Statement]]:
    """Yield the kind of each contrast and what it says."""
    metric, settings = summary["metrics"][place], summary["settings"]
    for one in metric["contrasts"]:
        answer = _answer(one, settings)
        _, _, first, second = KINDS[one["kind"]]
        places = decimals(metric["kind"], one["difference"], one["low"], one["high"])
        unit = f" {unit_text(metric['unit'])}" if metric["unit"] else ""
        ends = interval(one["low"], one["high"], places, sign=True)
        p = "" if one["p_adjusted"] is None else f"adjusted p {_equals(p_value(one['p_adjusted']))}, "
        level = f"{100 * settings['confidence']:g} % interval"
        over = counted(one["patients"], "patient")
        detail = f"{level} {ends}{unit}, {p}{over}" if ends else over
        size = f"{number(abs(one['difference']), places)}{unit} {metric['label']}"
        equal = not any(digit in size.partition(" ")[0] for digit in "123456789")
        way = "better" if one["difference"] > 0 else "worse"
        seen = "no difference" if equal else f"{size} {way}"
        if answer == "difference":
            sentence = f"{one['site']}: {first} are {way} than {second} by {size} ({detail})."
        elif answer == "no_evidence":
            sentence = f"{one['site']}: no evidence that {first} and {second} differ; seen: {seen} ({detail})."
        elif answer == "cannot_say":
            fewer = f"fewer than {settings['minimum_group']} patients"
            sentence = f"{one['site']}: cannot say, with {fewer}, whether {first} and {second} differ; "
            sentence += f"seen: {seen} ({detail})."
        else:
            sentence = f"{one['site']}: {first} against {second}: {seen} ({detail})."
        yield one["kind"], Statement(answer, ANSWERS[answer], sentence)


def _answer(contrast: Mapping[str, Any], settings: Mapping[str, Any]) -> Answer:
    if contrast["kind"] == "matched_pooling_gain":
        return ""
    if contrast["p_adjusted"] is None:
        return "cannot_say"
    return "difference" if contrast["p_adjusted"] < 1 - settings["confidence"] else "no_evidence"


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def claim(summary: Mapping[str, Any]) -> str:
    """Return what may be said of sites that were not seen."""
    trained = [one for one in summary["sites"] if one["trained"]]
    metric = summary["metrics"][0]
    over = metric["over_sites"]
    if not summary["population_claim"] or over is None or over["low"] is None:
        return (
            f"Models were trained at {len(trained)} sites: what is said here holds for these sites and these models. "
            "With fewer than 5 sites no claim about other sites is possible."
        )
    places = decimals(metric["kind"], over["gap"], over["low"], over["high"])
    ends = interval(over["low"], over["high"], places, sign=True)
    return (
        f"Over {over['sites']} sites the mean gap is {signed(over['gap'], places)} {metric['label']} "
        f"(t interval {ends}, the site being the unit); it speaks of other sites only as far as these are a sample of "
        "them."
    )


EFFECTS: Final = {
    "away": "Models of other sites against the own ones",
    "pool": "Models of all sites against the own ones",
    "pool_matched": "Size-matched models of all sites against the own ones",
    "leave_out": "Models of all sites but the one against the own ones",
    "leave_out_matched": "Size-matched models of all sites but the one against the own ones",
    "lesion_volume": "Patients of twice the volume",
}
"""Effect of the mixed model -> what it is of."""


def over_all_sites(summary: Mapping[str, Any], place: int) -> list[tuple[str, str]]:
    """Return the effects of the mixed model as pairs of a head and words, none where there is no model."""
    metric = summary["metrics"][place]
    model = metric["mixed_model"]
    level = f"{100 * summary['settings']['confidence']:g} % interval"
    unit = f" {unit_text(metric['unit'])}" if metric["unit"] else ""
    found = []
    for one in [] if model is None else model["effects"]:
        scale = math.log(2) if one["name"] == "lesion_volume" else 1.0
        estimate, low, high = (scale * one[key] for key in ("estimate", "low", "high"))
        places = decimals(metric["kind"], estimate, low, high)
        ends = interval(low, high, places, sign=True)
        words = f"{signed(estimate, places)}{unit} {metric['label']} ({level} {ends}{unit})"
        found.append((EFFECTS[one["name"]], words))
    return found


def model_note(summary: Mapping[str, Any], place: int) -> str:
    """Return what the mixed model of a metric is, or why there is none."""
    metric = summary["metrics"][place]
    model = metric["mixed_model"]
    if model is None:
        if not summary["population_claim"]:
            return "No mixed model over sites, as models were trained at fewer than 5."
        return "No mixed model over sites: the values leave nothing for its residual, or volumes are not known."
    deviations = model["deviations"]
    spread = {"sites": deviations["site"], "row types at one site": deviations["site_and_row"]}
    spread |= {"patients": deviations["patient"], "values of a patient": model["residual"]}
    words = ", ".join(f"{name} {number(value, decimals(metric['kind'], value))}" for name, value in spread.items())
    return (
        f"{model['patients']} patients of {model['sites']} sites in one mixed model, the site being the unit; above 0 "
        f"is better. Standard deviations between {words}. It speaks of other sites only as far as these are a sample "
        "of them. Exploratory."
    )


def findings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the worst cell, the best source and the hardest target, as pairs of a head and words."""
    metric = summary["metrics"][0]
    found: list[tuple[str, str]] = []
    if metric["worst"] is not None:
        worst = metric["worst"]
        places = decimals(metric["kind"], worst["mean"])
        words = f"trained at {worst['trained']}, tested at {worst['tested']}: {number(worst['mean'], places)}"
        found.append(("Worst cell", words))
    for label, key, best in (
        ("Best source", "source_quality", True),
        ("Hardest target", "difficulty", False),
    ):
        known = [one for one in metric["sites"] if one[key] is not None]
        if len(known) > 1:
            high = (metric["better"] == "high") == best
            one = (max if high else min)(known, key=lambda each: each[key])
            places = decimals(metric["kind"], one[key])
            tail = "mean of its models at the other sites" if best else "mean of all single-site models"
            found.append((label, f"{one['site']}: {number(one[key], places)} ({tail})"))
    return found


def methods(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how the numbers were made, as pairs of a head and sentences."""
    settings = summary["settings"]
    folds = (
        "fold 0 alone is trained and tested"
        if settings["budget"] == "lite"
        else "every fold is left out of training once"
    )
    return [
        (
            "Folds",
            f"{settings['folds']} folds of each site by patient, balanced by lesion volume, fixed before any training; "
            f"{folds}. A site's test patients of a fold are the same for every row.",
        ),
        (
            "Rows",
            "One site alone; all sites; all sites with as many patients as the median single site has (in the sites' "
            f"proportions, {_draws(settings['matched_draws'])}); all sites but one. All are trained alike.",
        ),
        (
            "No look at the target",
            "Spacing, intensities and the size of the network are planned for each model from its own training "
            "patients, of whom one is set aside for the training's curve. No checkpoint, threshold or filter is "
            "chosen: the weights are those of the last step.",
        ),
        (
            "Cells",
            "Models of a row that saw nobody of a site are all tested on all its folds; a patient's value is the mean "
            "over those models (over draws too). A cell is the mean over patients; macro is the mean over sites, micro "
            "over all patients. All rows are compared on the patients who have a value in each.",
        ),
        (
            "Contrasts",
            f"Paired by patient within a site: bootstrap-t intervals ({settings['bootstrap_draws']:,} resamples of "
            f"patients), p by {settings['permutation_draws']:,} sign flips, Holm over gap, pooling gain and leave-out "
            "gap of all sites, metric by metric; the first metric is the endpoint, the others are exploratory. With "
            f"fewer than {settings['minimum_group']} patients there is neither. Differences are turned so that above 0 "
            "is better; means of distances and errors are as they are.",
        ),
        (
            "Over all sites",
            "With 5 sites or more: value ~ row type + log volume + (1 | site) + (1 | site and row type) + "
            "(1 | patient), by restricted maximum likelihood; one value a patient and row type, that of other single "
            "sites' models being their mean. Without the second intercept patients would pass for sites, and intervals "
            "hold for these sites alone. Row types have t intervals with as many degrees of freedom as there are "
            "sites, less one; they are taken to vary alike from site to site, which the t interval of the mean gap is "
            "not.",
        ),
        (
            "What intervals hold for",
            "Patients of these sites, with these trained models. Other seeds of the training would give other models; "
            "that spread is not in the intervals.",
        ),
        (
            "Groups",
            "Of the models of all sites: each group against the rest by permuting patients, over all sites, within "
            "sites (permuted at their site alone, all sites together), and at each. Exploratory: whether a "
            "gap seen over all sites is there within sites too.",
        ),
        (
            "Reading",
            "A site is also its patients, its protocol and its annotators. A gap says that models do not carry over; "
            "it does not say why.",
        ),
        *_measures(summary),
        ("Seeds", f"Folds, draws and statistics {settings['seed']}, training {settings['training']['seed']}."),
        ("Classes", f"Scored: {', '.join(summary['classes'])}. Empty masks: '{settings['empty']}'."),
    ]


def _measures(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a reader must know of the metrics beyond their names."""
    known = [(one["label"], _sentence(one["details"])) for one in summary["metrics"] if one["details"]]
    rules = summary["lesion_rules"]
    return [*known, *([("Lesions", " ".join(rules))] if rules else [])]


def _draws(count: int) -> str:
    return f"{count} draw" if count == 1 else f"{count} draws"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
