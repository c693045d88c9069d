"""The page of `equivox compare`: the answers, each patient under both models, every difference, the ranking."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup

import equivox.reports.plots as plots
from equivox.atomic import write_text
from equivox.reports.counted import counted
from equivox.reports.document import packed_csv, render
from equivox.reports.embedding import embedded_json, finite
from equivox.reports.file_stem import file_stem
from equivox.reports.left_out import Ledger
from equivox.reports.numbers import (
    MISSING,
    Number,
    decimals,
    formula,
    interval,
    metric_text,
    number,
    p_value,
    signed,
    unit_text,
)
from equivox.reports.paired_plot import FIRST_BETTER, SECOND_BETTER, paired_plot
from equivox.reports.views import ROLES, Estimate, estimate

_DIRECTIONS: Final = {
    "high": "higher is better",
    "low": "lower is better",
    "zero": "nearer to 0 is better; absolute values are compared",
}
_VIEWS: Final = {"mean": "By the mean", "mean_rank": "By the mean rank within each patient"}
_MOST_LISTED: Final = 200
_MOST_CHANGED: Final = 5
_SETTING_WORDS: Final = {
    "primary_endpoint": "Primary endpoint",
    "margin": "Margin: the difference that matters",
    "minimum_patients": "Fewest patients with an interval and a test",
    "confidence": "Confidence of intervals",
    "bootstrap_draws": "Bootstrap draws",
    "permutation_draws": "Patterns of signs",
    "seed": "Seed",
    "tolerance": "Tolerance τ of NSD",
    "empty_policy": "Policy for empty masks",
    "hd95": "Convention of HD95",
    "distance_unit": "Unit of distances",
    "volume_unit": "Unit of volumes",
}


@dataclass(frozen=True)
class DifferenceRow:
    """One test: a pair of models in one metric and class.

    Attributes:
        name: Of the class.
        whole: Whether it is that of all classes.
        primary: Whether the verdict rests on it.
        patients: With a score from both models.
        first: Mean under the first model.
        second: Mean under the second model.
        difference: Second minus first.
        mark: The difference with its interval.
        ahead: In how many patients the second model is better.
        p: Not adjusted.
        p_adjusted: Within its family.
    """

    name: str
    whole: bool
    primary: bool
    patients: int
    first: str
    second: str
    difference: Estimate
    mark: Markup
    ahead: str
    p: str
    p_adjusted: str


@dataclass(frozen=True)
class MetricBlock:
    """The differences of one metric on one axis."""

    label: str
    unit: str
    direction: str
    rows: Sequence[DifferenceRow]
    axis: Markup
    band: str


@dataclass(frozen=True)
class PairView:
    """A pair of models: its answer where it has one, its patients and its differences."""

    first: str
    second: str
    answer: str
    style: str
    words: str
    sentence: str
    mark: Markup
    axis: Markup
    band: str
    plot: Markup | None
    counts: Sequence[tuple[Markup, str]]
    changed: Sequence[Sequence[str]]
    blocks: Sequence[MetricBlock]
    groups: Sequence["GroupBlock"]


@dataclass(frozen=True)
class GroupRow:
    """The paired difference within a group."""

    name: str
    small: bool
    patients: int
    first: str
    second: str
    difference: Estimate
    mark: Markup
    ahead: str


@dataclass(frozen=True)
class GroupBlock:
    """The groups of one attribute."""

    name: str
    rows: Sequence[GroupRow]
    axis: Markup
    band: str
    gap: str
    unknown: str


@dataclass(frozen=True)
class RankingView:
    """A ranking: models in their order, with the share of resamples at each rank."""

    title: str
    score_head: str
    rows: Sequence[tuple[str, str, str, Sequence[tuple[str, str]]]]
    note: str


def write_comparison(
    path: Path,
    *,
    summary: Mapping[str, Any],
    tests: pd.DataFrame,
    patients: pd.DataFrame,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file to write.
        summary: What `comparison.json` holds.
        tests: What `comparison.csv` holds, to be saved from the page.
        patients: What `patients.csv` holds.
    """
    write_text(path, render_comparison(summary, tests, patients))


def render_comparison(summary: Mapping[str, Any], tests: pd.DataFrame, patients: pd.DataFrame) -> str:
    """Return the page of `write_comparison` as text."""
    summary = finite(summary)
    models = [model["name"] for model in summary["models"]]
    endpoint = metric_text(summary["settings"]["primary_endpoint"])
    pairs = list(_pair_views(summary, patients))
    judged = [pair for pair in pairs if pair.answer]
    contents = [("verdict", "Verdict"), ("patients", "Patient by patient"), ("differences", "Every metric and class")]
    contents += [("ranking", "Ranking")]
    contents += [("groups", "By group")] if any(pair.groups for pair in judged) else []
    contents += [("left-out", "What is left out"), ("methods", "Methods")]
    return render(
        "comparison.html.j2",
        version=summary["equivox_version"],
        kind="Comparison of models",
        title=summary["cohort"]["name"],
        facts=list(_facts(summary, models)),
        contents=contents,
        models=models,
        baseline=models[0],
        level=f"{100 * summary['settings']['confidence']:g} %",
        verdict_level=f"{100 * max(test['confidence'] for test in summary['tests']):.3g} %",
        margin=f"{summary['settings']['margin']:g}",
        minimum=summary["settings"]["minimum_patients"],
        endpoint=f"mean {endpoint.label}",
        direction=_DIRECTIONS[endpoint.better],
        verdict_lead=_verdict_lead(summary, models),
        model_heads=("Model", f"Mean {endpoint.label}", "Interval", "Median", "Patients", "Evaluated", "Software"),
        model_rows=[_model_row(model, endpoint.kind) for model in summary["models"]],
        judged=judged,
        others=[pair for pair in pairs if not pair.answer],
        rankings=[_ranking_view(record, summary, models) for record in summary["ranking"]],
        primary=summary["settings"]["primary_endpoint"],
        left_out=list(_left_out(summary)),
        definitions=[_definition(key, summary) for key in summary["metrics"]],
        methods=summary["methods"],
        settings_rows=list(_settings(summary)),
        input_rows=[
            (model["name"], name, str(value)) for model in summary["models"] for name, value in model["inputs"].items()
        ],
        cite=_cite(summary, models),
        file_stem=file_stem(summary["cohort"]["name"]) or "comparison",
        hover_json=embedded_json(_hover(summary, patients, models)),
        summary_json=embedded_json(summary),
        cases_gzip=packed_csv(tests),
    )


def pair_values(
    patients: pd.DataFrame, first: str, second: str, primary: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each patient's value under both models, and above 0 where the second one is the better."""
    ours, theirs = (patients[f"model:{name}"].to_numpy(dtype=np.float64) for name in (first, second))
    change = theirs - ours
    change[np.abs(change) <= 1e-12 * np.nanmax(np.abs([*ours, *theirs, 1e-300]))] = 0.0
    return ours, theirs, change if metric_text(primary).better == "high" else -change


def value_axis(patients: pd.DataFrame, models: Sequence[str], primary: str) -> plots.Axis | None:
    """Return the axis that holds every patient under every model; None without any value."""
    values = np.concatenate([patients[f"model:{name}"].to_numpy(dtype=np.float64) for name in models])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    top = 1.0 if metric_text(primary).kind == "fraction" else None
    return plots.nice_axis(float(values.min()), float(values.max()), ticks=6, floor=0.0, ceil=top)


def _facts(summary: Mapping[str, Any], models: Sequence[str]) -> Iterator[tuple[str, str]]:
    cohort = summary["cohort"]
    yield "Models", ", ".join(models)
    yield "Baseline", models[0]
    yield "Compared", ROLES.get(cohort["role"], cohort["role"])
    yield "Patients", f"{cohort['patients']:,}"
    yield "Cases", f"{cohort['cases']:,}"
    classes = [str(name) for name in cohort["classes"]]
    shown = ", ".join(classes) if len(classes) <= 12 else f"{', '.join(classes[:10])} and {len(classes) - 10} more"
    yield f"Class{'es' if len(classes) != 1 else ''}", shown
    yield "Date", str(summary["created"])[:10]
    yield "Software", f"equivox {summary['equivox_version']}"
    if cohort["nominal_spacing"]:
        yield "Sizes", "counted in voxels, as the voxel sizes in the files are not real"


def _verdict_lead(summary: Mapping[str, Any], models: Sequence[str]) -> str:
    settings = summary["settings"]
    text = metric_text(settings["primary_endpoint"])
    against = (
        f"'{models[1]}' is compared with '{models[0]}'"
        if len(models) == 2
        else f"each model is compared with '{models[0]}', in one family of {len(models) - 1} tests"
    )
    return (
        f"The rule was fixed before anything was compared: the endpoint is the patient's mean {text.label} over "
        f"classes, the difference that matters is {settings['margin']:g}, and {against}, patient by patient. "
        "Everything else on this page is exploratory."
    )


def _model_row(model: Mapping[str, Any], kind: Any) -> tuple[str, ...]:
    mean = estimate(kind, model["mean"], model["low"], model["high"])
    name = f"{model['name']} (baseline)" if model["baseline"] else model["name"]
    return (
        name,
        mean.text,
        mean.interval or MISSING,
        number(model["median"], mean.places),
        number(model["patients"], 0),
        str(model["created"] or MISSING)[:10],
        f"equivox {model['equivox_version'] or MISSING}",
    )


def _pair_views(summary: Mapping[str, Any], patients: pd.DataFrame) -> Iterator[PairView]:
    primary = summary["settings"]["primary_endpoint"]
    margin = summary["settings"]["margin"]
    verdicts = {(one["first"], one["second"]): one for one in summary["verdicts"]}
    by_pair: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for test in summary["tests"]:
        by_pair.setdefault((test["first"], test["second"]), []).append(test)
    groups = {(one["first"], one["second"]): one["attributes"] for one in summary["groups"]}
    leads = [next(one for one in tests if one["metric"] == primary) for tests in by_pair.values()]
    common = _difference_axis(leads, at_least=2 * margin)
    axis = value_axis(patients, [model["name"] for model in summary["models"]], primary)
    for (first, second), tests in by_pair.items():
        lead = next(one for one in tests if one["metric"] == primary)
        verdict = verdicts.get((first, second), {})
        ours, theirs, ahead = pair_values(patients, first, second, primary)
        judged = bool(verdict)
        yield PairView(
            first=first,
            second=second,
            answer=verdict.get("answer", ""),
            style=_style(verdict, second),
            words=verdict.get("words", ""),
            sentence=verdict.get("sentence", ""),
            mark=_mark(common, lead, f"{second} minus {first}"),
            axis=plots.axis_marks(common, sign=True),
            band=_band(common, margin),
            plot=_plot(ours, theirs, ahead, axis, (first, second), primary) if judged and axis else None,
            counts=_counts(lead),
            changed=_changed(patients, ours, theirs, ahead, primary) if judged else (),
            blocks=list(_blocks(tests, summary)),
            groups=[_group_block(one, first, second, summary) for one in groups.get((first, second), [])],
        )


def _style(verdict: Mapping[str, Any], second: str) -> str:
    """Return how a card looks: what is better is no alarm."""
    if verdict.get("answer") != "difference":
        return str(verdict.get("answer", ""))
    return "better" if verdict["better"] == second else "worse"


def _plot(
    first: np.ndarray, second: np.ndarray, ahead: np.ndarray, axis: plots.Axis, names: tuple[str, str], primary: str
) -> Markup:
    label = metric_text(primary).label
    known = np.isfinite(first) & np.isfinite(second)
    return paired_plot(
        first,
        second,
        ahead,
        axis,
        (f"{label} under {plots.shortened(names[0])}", f"{label} under {plots.shortened(names[1])}"),
        f"Mean {label} of each patient under {names[1]} against {names[0]}",
        f"{counted(int(known.sum()), 'patient')}: {names[1]} is better in {int((ahead[known] > 0).sum())}, {names[0]} "
        f"in {int((ahead[known] < 0).sum())}. Marks above the line score higher under {names[1]}.",
    )


def _counts(test: Mapping[str, Any]) -> list[tuple[Markup, str]]:
    return [
        (plots.key(SECOND_BETTER), f"{test['second']} is better: {test['second_better']:,}"),
        (plots.key(FIRST_BETTER), f"{test['first']} is better: {test['first_better']:,}"),
        (plots.key(None), f"the same: {test['equal']:,}"),
    ]


def _changed(
    patients: pd.DataFrame, first: np.ndarray, second: np.ndarray, ahead: np.ndarray, primary: str
) -> list[tuple[str, ...]]:
    """Return the patients that lose most and those that win most, from the largest loss on."""
    order = [int(place) for place in np.argsort(ahead, kind="stable") if np.isfinite(ahead[place])]
    losses = [place for place in order[:_MOST_CHANGED] if ahead[place] < 0]
    wins = [place for place in order[-_MOST_CHANGED:] if ahead[place] > 0]
    places = 3 if metric_text(primary).kind == "fraction" else 2
    return [
        (
            str(patients["patient_id"].iloc[place]),
            number(float(first[place]), places),
            number(float(second[place]), places),
            signed(float(second[place] - first[place]), places),
        )
        for place in losses + wins
    ]


def _difference_axis(tests: Sequence[Mapping[str, Any]], *, at_least: float = 0.0) -> plots.Axis:
    ends = [0.0, at_least, -at_least]
    ends += [test[key] for test in tests for key in ("difference", "low", "high") if test[key] is not None]
    return plots.nice_axis(min(ends), max(ends), ticks=4)


def _band(axis: plots.Axis, margin: float = 0.0) -> str:
    return f"--at:{axis.percent(0.0)}%;--low:{axis.percent(-margin)}%;--high:{axis.percent(margin)}%"


def _mark(axis: plots.Axis, test: Mapping[str, Any], what: str) -> Markup:
    kind = metric_text(test["metric"]).kind if "metric" in test else "fraction"
    places = decimals(kind, test["difference"], test["low"], test["high"])
    words = f"{what}: {signed(test['difference'], places)}"
    ends = interval(test["low"], test["high"], places, sign=True)
    return plots.interval_mark(
        axis, test["difference"], test["low"], test["high"], f"{words}, interval {ends}" if ends else words
    )


def _blocks(tests: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> Iterator[MetricBlock]:
    primary, margin = summary["settings"]["primary_endpoint"], summary["settings"]["margin"]
    for metric in summary["metrics"]:
        own = [test for test in tests if test["metric"] == metric]
        text = metric_text(metric)
        axis = _difference_axis(own, at_least=margin if metric == primary else 0.0)
        yield MetricBlock(
            label=text.label,
            unit=unit_text(summary["metrics"][metric]["unit"]),
            direction=_DIRECTIONS[text.better],
            rows=[_difference_row(test, axis) for test in own],
            axis=plots.axis_marks(axis, sign=True),
            band=_band(axis, margin if metric == primary else 0.0),
        )


def _difference_row(test: Mapping[str, Any], axis: plots.Axis) -> DifferenceRow:
    kind = metric_text(test["metric"]).kind
    difference = estimate(kind, test["difference"], test["low"], test["high"], sign=True)
    name = str(test["class"])
    return DifferenceRow(
        name=name,
        whole=name == "all classes",
        primary=test["family"] == "primary",
        patients=test["patients"],
        first=number(test["first_mean"], difference.places),
        second=number(test["second_mean"], difference.places),
        difference=difference,
        mark=_mark(axis, test, f"{metric_text(test['metric']).label}, {name}"),
        ahead=_of(test["second_better"], test["patients"]),
        p=p_value(test["p_value"]),
        p_adjusted=p_value(test["p_adjusted"]),
    )


def _of(count: Number, total: Number) -> str:
    return f"{count:,} of {total:,}" if total else MISSING


def _group_block(attribute: Mapping[str, Any], first: str, second: str, summary: Mapping[str, Any]) -> GroupBlock:
    primary, margin = summary["settings"]["primary_endpoint"], summary["settings"]["margin"]
    text = metric_text(primary)
    axis = _difference_axis(attribute["groups"], at_least=margin)
    rows = []
    for group in attribute["groups"]:
        difference = estimate(text.kind, group["difference"], group["low"], group["high"], sign=True)
        ahead = group["greater"] if text.better == "high" else group["smaller"]
        rows.append(
            GroupRow(
                name=group["name"],
                small=group["small"],
                patients=group["patients"],
                first=number(group["first_mean"], difference.places),
                second=number(group["second_mean"], difference.places),
                difference=difference,
                mark=_mark(axis, group, f"{attribute['name']}, {group['name']}"),
                ahead=_of(ahead, group["patients"]),
            )
        )
    gap, unknown = attribute["gap"], attribute["unknown_patients"]
    words = "Fewer than two groups are large enough for a gap between groups."
    if gap["change"] is not None:
        words = (
            f"Largest gap between groups of {summary['settings']['minimum_patients']} patients or more: "
            f"{number(gap['first'], 3)} under {first}, {number(gap['second'], 3)} under {second} "
            f"({signed(gap['change'], 3)})."
        )
    told = f"{unknown:,} patient{'' if unknown == 1 else 's'} of no known group." if unknown else ""
    return GroupBlock(attribute["name"], rows, plots.axis_marks(axis, sign=True), _band(axis, margin), words, told)


def _ranking_view(record: Mapping[str, Any], summary: Mapping[str, Any], models: Sequence[str]) -> RankingView:
    text = metric_text(record["metric"])
    unit = unit_text(summary["metrics"][record["metric"]]["unit"])
    by_mean = record["view"] == "mean"
    rows = []
    order = sorted(range(len(models)), key=lambda place: record["ranks"][place]) if record["ranks"] else []
    for place in order:
        score = record["scores"][place]
        shares = record["probabilities"][place] if record["probabilities"] else []
        rows.append(
            (
                models[place],
                number(score, decimals(text.kind, score) + 1 if by_mean and text.kind == "fraction" else 2),
                f"{record['ranks'][place]:g}",
                [(f"{100 * share:.1f}", _share(share)) for share in shares],
            )
        )
    left = record["left_out"]
    note = "Too few patients to resample." if not record["probabilities"] else ""
    if record["tau"] is not None:
        note = f"Mean Kendall's tau with the observed ranking: {number(record['tau'], 2)}."
    if left:
        note += f" {left:,} patient{'' if left == 1 else 's'} without a score from every model left out."
    title = (
        f"{text.label}{f' ({unit})' if unit else ''}: {_VIEWS[record['view']][:1].lower()}{_VIEWS[record['view']][1:]}"
    )
    return RankingView(title, "Mean" if by_mean else "Mean rank", rows, note.strip())


def _share(share: float) -> str:
    if 0.01 <= share <= 0.99:
        return f"{100 * share:.0f} %"
    return "0 %" if share == 0 else "100 %" if share == 1 else "< 1 %" if share < 0.5 else "> 99 %"


def _left_out(summary: Mapping[str, Any]) -> Iterator[Ledger]:
    left = summary["left_out"]
    everyone = [model["name"] for model in summary["models"]]
    patients = [(one["patient_id"], ", ".join(one["models"])) for one in left["patients"]]
    yield _entry(
        "Patients not compared",
        patients,
        "that not all have with the same cases",
        ("Patient", "Only in, or other cases in"),
    )
    lead = [test for test in summary["tests"] if test["metric"] == summary["settings"]["primary_endpoint"]]
    unscored = max((test["patients_left_out"] for test in lead if test["class"] == "all classes"), default=0)
    words = "without a score in the primary endpoint from both models of a pair (both masks empty, say)"
    yield Ledger("Patients without a score", f"{unscored:,}", words)
    missing = [(case, name) for name in everyone for case in left["missing_predictions"].get(name, [])]
    yield _entry("Missing predictions", missing, "counted as failures of that model", ("Case", "Model"))
    excluded = [
        (str(one.get("case_id", "")), name, str(one.get("reason", "")))
        for name in everyone
        for one in left["excluded_cases"].get(name, [])
    ]
    yield _entry("Cases that an evaluation left out", excluded, "before this comparison", ("Case", "Model", "Why"))
    metrics = [(one["metric"], ", ".join(one["models"])) for one in left["metrics"]]
    yield _entry("Metrics not compared", metrics, "that not all evaluations have", ("Metric", "Only in"))
    for name, count in left["unknown_group"].items():
        if count:
            yield Ledger(f"Unknown {name}", f"{count:,}", "patients, in no group of it")


def _entry(label: str, rows: Sequence[Sequence[str]], words: str, heads: Sequence[str]) -> Ledger:
    more = f"{len(rows) - _MOST_LISTED:,} more stand in comparison.json." if len(rows) > _MOST_LISTED else ""
    return Ledger(label, f"{len(rows):,}", words, "Show them" if rows else "", heads, rows[:_MOST_LISTED], more)


def _definition(key: str, summary: Mapping[str, Any]) -> tuple[str, str, str]:
    text = metric_text(key)
    name = text.title if text.label.lower() in text.title.lower() else f"{text.title} ({text.label})"
    record = summary["metrics"][key]
    unit = f", in {unit_text(record['unit'])}" if record["unit"] else ""
    return name, f"{formula(key, summary['evaluation_settings'])}{unit}", f"Definition {key}/{record['version']}."


def _settings(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    own = summary["settings"]
    for key, value in own.items():
        yield _SETTING_WORDS.get(key, key.replace("_", " ")), str(value)
    for key in ("tolerance", "empty_policy", "hd95", "distance_unit", "volume_unit"):
        if key in summary["evaluation_settings"]:
            value = summary["evaluation_settings"][key]
            yield f"{_SETTING_WORDS.get(key, key.replace('_', ' '))} (of the evaluations)", str(value)


def _hover(summary: Mapping[str, Any], patients: pd.DataFrame, models: Sequence[str]) -> dict[str, Any]:
    text = metric_text(summary["settings"]["primary_endpoint"])
    places = 3 if text.kind == "fraction" else 2
    return {
        "id": patients["patient_id"].astype(str).tolist(),
        "heads": [f"{name}:" for name in models],
        "values": [
            [f"{text.label} {number(value, places)}" for value in patients[f"model:{name}"].astype(float)]
            for name in models
        ],
    }


def _cite(summary: Mapping[str, Any], models: Sequence[str]) -> str:
    return (
        f"Comparison of {', '.join(models)} on {summary['cohort']['name']}, {str(summary['created'])[:10]}; made with "
        f"equivox {summary['equivox_version']}."
    )
