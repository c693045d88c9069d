"""What `equivox evaluate-landmarks` says in words and small tables, on its page and in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from equivox.reports.counted import counted
from equivox.reports.numbers import MISSING, decimals, interval, number, p_value, signed
from equivox.reports.views import Estimate, estimate

Record = Mapping[str, Any]
"""A part of a summary."""

# A sentence that named dozens of small groups would not be read; the table has them all.
MOST_NAMED: Final = 8


def overall_table(summary: Record) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the overall numbers, as a terminal shows them."""
    settings, overall = summary["settings"], summary["overall"]
    unit, level = settings["unit"], level_text(settings)
    rows = []
    for key, prefix, words in (
        ("mean", "", "Mean error"),
        ("median", "median_", "Median error"),
        ("worst_decile", "worst_decile_", "Worst decile of errors"),
    ):
        one = error_estimate(overall, key, prefix)
        over = f"{overall['patients_measured']:,} of {counted(overall['patients'], 'patient')}"
        rows.append([f"{words} ({unit})", one.text, one.interval or MISSING, over])
    for success in overall["success"]:
        one = share_estimate(success)
        rows.append([f"Within {success['radius']:g} {unit}", one.text, one.interval or MISSING, "all patients"])
    one, failure = share_estimate(overall["failure_rate"]), overall["failure_rate"]
    over = f"{failure['failed']:,} of {counted(failure['patients'], 'patient')}"
    rows.append(["Failure rate", one.text, one.interval or MISSING, over])
    share = overall["missed"] / overall["landmarks"]
    over = f"{overall['missed']:,} of {counted(overall['landmarks'], 'landmark')}"
    rows.append(["Missed landmarks", number(share, 2 if share >= 0.1 or not share else 3), MISSING, over])
    return ["Measure", "Value", f"{level} interval", "Over"], rows


def landmark_table(summary: Record) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the landmarks, as a terminal shows them."""
    settings = summary["settings"]
    unit = settings["unit"]
    heads = ["Landmark", "Cases", "Missed", f"Mean error ({unit})", f"{level_text(settings)} interval", "Median"]
    heads.append(f"Within {settings['radii'][0]:g} {unit}")
    rows = []
    for one in summary["landmarks"]:
        mean = error_estimate(one, "mean", "")
        cells = [one["name"], number(one["landmarks"], 0), number(one["missed"], 0), mean.text]
        rows.append([*cells, mean.interval or MISSING, error_estimate(one, "median", "").text])
        rows[-1].append(share_estimate(one["success"][0]).text)
    return heads, rows


def attribute_sentence(attribute: Record, summary: Record) -> str:
    """Return what the comparison of an attribute's groups says, in words."""
    settings = summary["settings"]
    groups = attribute["groups"]
    if len(groups) < 2:
        return f"Not compared: {'only one group has patients' if groups else 'no group of a patient is known'}."
    compared = [group for group in groups if group["difference"]]
    small = [group for group in groups if group["small"]]
    minimum = f"fewer than {settings['minimum_group']} patients with a landmark found"
    if compared:
        sentence = _error_words(compared, settings) + _margin_words(compared, settings)
        if small:
            sentence += f" Not compared, with {minimum}: {_named(small)}."
    else:
        sentence = f"Mean errors are not compared: {minimum} in {_named(small or groups)}."
    return sentence + _success_words([group for group in groups if group["success_difference"]], settings)


def _error_words(compared: Sequence[Record], settings: Record) -> str:
    # Of two groups, each of which is the other's rest, the one with the larger error.
    group = min(compared, key=lambda one: (one["difference"]["p_adjusted"], -one["difference"]["difference"]))
    contrast, unit = group["difference"], settings["unit"]
    low, high = contrast["low"], contrast["high"]
    places = decimals("distance", contrast["difference"], low, high)
    size = number(abs(contrast["difference"]), places)
    name = f"the mean error of '{group['name']}'"
    if float(size.replace(",", "")):
        direction = "larger" if contrast["difference"] >= 0 else "smaller"
        name += f" is {size} {unit} {direction} than that of the rest"
    else:
        name += f" and that of the rest differ by {size} {unit}"
    words = (
        f"{name} (simultaneous {level_text(settings)} interval {interval(low, high, places, sign=True)} {unit}, "
        f"{_p_words(contrast)})"
    )
    if contrast["p_adjusted"] < 1 - settings["confidence"] - 1e-12:
        return f"Exploratory: {words}."
    gap = number(contrast["detectable_gap"], places)
    return f"No evidence of a difference (exploratory): {words}; the smallest gap we could have seen is {gap} {unit}."


def _margin_words(compared: Sequence[Record], settings: Record) -> str:
    if settings["margin"] is None:
        return ""
    inside = all(group["difference"]["inside_margin"] for group in compared)
    words = "The interval of every compared group lies" if inside else "Not every group's interval lies"
    return f" {words} inside ±{settings['margin']:g} {settings['unit']}."


def _success_words(compared: Sequence[Record], settings: Record) -> str:
    if not compared:
        return ""
    group = min(
        compared, key=lambda one: (one["success_difference"]["p_adjusted"], one["success_difference"]["difference"])
    )
    contrast = group["success_difference"]
    low, high = contrast["low"], contrast["high"]
    places = decimals("fraction", contrast["difference"], low, high)
    return (
        f" The share of landmarks within {settings['radii'][0]:g} {settings['unit']}, where missed ones count, differs "
        f"most between '{group['name']}' and the rest: by {signed(contrast['difference'], places)} "
        f"({interval(low, high, places, sign=True)}, {_p_words(contrast)})."
    )


def _p_words(contrast: Record) -> str:
    p = p_value(contrast["p_adjusted"])
    return f"adjusted p {p}" if p.startswith("<") else f"adjusted p = {p}"


def _named(groups: Sequence[Record]) -> str:
    named = [f"'{group['name']}' ({group['patients_measured']})" for group in groups[:MOST_NAMED]]
    more = f" and {len(groups) - len(named)} more groups" if len(groups) > len(named) else ""
    return ", ".join(named) + more


def methods(summary: Record) -> list[tuple[str, str]]:
    """Return how the numbers were made, as pairs of a head and sentences."""
    settings = summary["settings"]
    unit, level = settings["unit"], level_text(settings)
    return [
        (
            "Error",
            f"The Euclidean distance in {unit} between the predicted landmark and the true one of the same name (radial"
            " error).",
        ),
        (
            "Unit",
            "The patient: the mean over the patient's cases of the mean error over the landmarks that were found "
            "(mean radial error). Mean, median and worst decile (the 0.9 quantile) are over patients.",
        ),
        (
            "Success",
            "The share of the true landmarks that were found within a radius (success detection rate); a distance equal"
            " to the radius is a success, a missed landmark is a failure. First as the mean over patients of the "
            "patient's own share; beside it of all landmarks together, as published rates mostly are.",
        ),
        ("Failure", f"A patient fails with {failure_words(settings)}; missed ones do not lie within it."),
        (
            "Intervals",
            f"{level}. Mean: bootstrap-t over patients ({settings['bootstrap_draws']:,} resamples). Median and worst "
            "decile: percentile bootstrap. Success: Wilson's for the number of independent trials with the variance "
            "over patients. Failure rate: Wilson's. None with fewer than "
            f"{settings['minimum_group']} patients.",
        ),
        (
            "By group",
            "Each group against the rest by permuting patients "
            f"({settings['permutation_draws']:,} times) with a studentised maximum statistic over all groups of all "
            "attributes, with simultaneous intervals: one family for mean errors, one for the success at the first "
            "radius. Detectable gap: the smallest true difference that the same test would find with 80 % power. All "
            "of it is exploratory.",
        ),
        (
            "Reading",
            "A mean error says nothing about missed landmarks: a tool that gives up where it is unsure looks better by "
            "it. Read it beside the missed ones and the success rates. A large radial error and a systematic shift "
            "cannot be told apart here.",
        ),
        ("Seed", str(settings["seed"])),
        (
            "References",
            "Wang et al., A benchmark for comparison of dental radiography analysis algorithms, Med Image Anal 2016 "
            "(mean radial error, success detection rate). Wilson, J Am Stat Assoc 1927. Efron and Tibshirani, An "
            "Introduction to the Bootstrap, 1993. Westfall and Young, Resampling-Based Multiple Testing, 1993.",
        ),
    ]


def error_estimate(record: Record, key: str, prefix: str) -> Estimate:
    """Write a distance; without an interval of its own it has the digits of the mean."""
    low, high = record[f"{prefix}low"], record[f"{prefix}high"]
    if low is None:
        return estimate("distance", record[key], places=decimals("distance", record["mean"]))
    return estimate("distance", record[key], low, high)


def share_estimate(record: Record) -> Estimate:
    """Write a share with its interval."""
    return estimate("fraction", record["value"], record["low"], record["high"])


def level_text(settings: Record) -> str:
    """Return the confidence of the intervals as a page writes it."""
    return f"{100 * settings['confidence']:g} %"


def failure_words(settings: Record) -> str:
    """Return what makes a patient fail."""
    return f"no more than half of the landmarks within {settings['failure_radius']:g} {settings['unit']}"
