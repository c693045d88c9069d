"""The model card of an evaluation: one page of Markdown with the answers and the table by group."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from equivox.reports.counted import counted, patients_and_cases
from equivox.reports.numbers import MISSING, metric_text, number, p_value
from equivox.reports.views import ROLES, answer_words, estimate, metric_row

_SPECIAL: Final = re.compile(r"([\\`*_\[\]|~])")


def escape_markdown(text: str) -> str:
    r"""Return text from a file as Markdown prints it: on one line, without markup, links or HTML of its own.

    Example:
        >>> print(escape_markdown("a|b <img> [x](y)"))
        a\|b &lt;img&gt; \[x\](y)
    """
    line = " ".join(text.split())
    # It always stands after other words, so that nothing at its beginning can be a list or a head.
    return _SPECIAL.sub(r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def model_card(summary: Mapping[str, Any]) -> str:
    """Return the card as Markdown.

    Its sections are those of Mitchell et al.; what the evaluation cannot know (how the model was trained, what it is
    meant for) is said to be unknown and not left out.

    Args:
        summary: What `summary.json` holds.

    References:
        Mitchell et al., "Model Cards for Model Reporting", FAT* 2019 (https://arxiv.org/abs/1810.03993).
    """
    settings = summary["settings"]
    table = next((one for one in summary["tables"] if one["headline"]), None)
    lines = [f"# Model card: {escape_markdown(_model_name(summary))}", "", "For research, not for clinical use.", ""]
    lines += ["## Model", "", *_model(summary), "", "## Evaluation data", "", *_data(summary, table), ""]
    if table is not None:
        lines += [f"## Results: {ROLES.get(table['role'], table['role'])}", "", *_overall(table, settings), ""]
        for attribute in table["attributes"]:
            lines += [f"### By {escape_markdown(attribute['name'])}", "", *_attribute(attribute, settings), ""]
        if not table["attributes"]:
            lines += ["No attribute of the patients was declared, so nothing is said about groups.", ""]
        lines += _crossings(table, settings)
    lines += ["## Metrics", "", *_metrics(summary), ""]
    lines += ["## What the numbers leave out", "", *_left_out(summary["left_out"]), ""]
    lines += ["## Caveats", "", *_caveats(summary), ""]
    return "\n".join(lines)


def _model_name(summary: Mapping[str, Any]) -> str:
    return str(summary["model"].get("name") or "a segmentation model")


def _model(summary: Mapping[str, Any]) -> Iterable[str]:
    model = summary["model"]
    yield f"* Name: {escape_markdown(str(model.get('name') or 'not stated'))}"
    yield f"* Run: {escape_markdown(str(model.get('run') or 'not stated'))}"
    yield f"* Classes: {escape_markdown(', '.join(summary['cohort']['classes']))}"
    yield "* Training data, intended use and licence: not known to this evaluation; see the card of the run."


def _data(summary: Mapping[str, Any], table: Mapping[str, Any] | None) -> Iterable[str]:
    cohort = summary["cohort"]
    yield f"* Cohort: {escape_markdown(str(cohort['name']))}"
    yield f"* {patients_and_cases(cohort)}"
    if table is not None:
        yield f"* Reported here: {patients_and_cases(table)}"
    for name, value in (summary.get("inputs") or {}).items():
        yield f"* SHA-256 of {escape_markdown(str(name))}: `{re.sub(r'[^0-9a-f]', '', str(value))}`"


def _overall(table: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterable[str]:
    level = f"{100 * settings['confidence']:g} %"
    yield from _table_head(("Metric", f"Mean ({level} interval)", "Median", "Worst decile", "Patients"), "lrrrr")
    for key, record in table["overall"].items():
        row = metric_row(key, "", record, settings)
        label = f"{row.metric} ({row.unit})" if row.unit else row.metric
        yield _row((label, _with_interval(row.mean), row.median.text, row.worst_decile.text, f"{row.patients:,}"))
    if any(metric_text(key).better == "zero" for key in table["overall"]):
        yield ""
        yield "±: the worst decile of a signed error is that of its size, in either direction."
    failure = table["failure_rate"]
    rate = estimate("fraction", failure["value"], failure.get("low"), failure.get("high"))
    yield ""
    endpoint = metric_text(settings["primary_endpoint"]).label
    yield (
        f"Failure rate (a patient's mean {endpoint} below {settings['failure_threshold']:g}): {_with_interval(rate)}, "
        f"{failure['failed']:,} of {counted(failure['patients'], 'patient')}."
    )


def _attribute(attribute: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterable[str]:
    verdict = attribute["verdict"]
    words = answer_words(verdict["answer"], settings["margin"])
    rest = str(verdict["sentence"]).removeprefix(words).removeprefix(":").strip()
    yield f"**{words}.** {escape_markdown(rest[:1].upper() + rest[1:])}"
    yield ""
    heads = ("Group", "Patients", f"Mean {metric_text(settings['primary_endpoint']).label}", "Median", "Worst decile")
    within = next((str(one["within"]) for one in attribute["contrasts"] if one.get("within")), "")
    difference = f"Difference to the rest within {escape_markdown(within)}" if within else "Difference to the rest"
    yield from _table_head((*heads, "Missed structures", difference, "Adjusted p"), "lrrrrrrr")
    contrasts = {one["group"]: one for one in attribute["contrasts"]}
    for group in attribute["groups"]:
        yield _row([*_group(group), number(group.get("missed"), 0), *_contrast(contrasts.get(group["name"]))])
    if attribute["unknown_patients"]:
        yield ""
        yield f"Of unknown group, in the overall mean only: {counted(attribute['unknown_patients'], 'patient')}."


def _group(group: Mapping[str, Any]) -> list[str]:
    mean = estimate("fraction", group["mean"], group.get("low"), group.get("high"))
    quantiles = (number(group.get(name), mean.places) for name in ("median", "worst_decile"))
    return [escape_markdown(str(group["name"])), f"{group['patients']:,}", _with_interval(mean), *quantiles]


def _contrast(contrast: Mapping[str, Any] | None) -> tuple[str, str]:
    if contrast is None:
        return MISSING, MISSING
    found = estimate("fraction", contrast["difference"], contrast.get("low"), contrast.get("high"), sign=True)
    return _with_interval(found), p_value(contrast.get("p_adjusted"))


def _crossings(table: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterable[str]:
    rows = [
        [escape_markdown(str(crossing["name"])), *_group(group)]
        for crossing in table.get("intersections", [])
        for group in crossing["groups"]
    ]
    if rows:
        yield "### Intersections (exploratory, not tested)"
        yield ""
        endpoint = metric_text(settings["primary_endpoint"]).label
        yield from _table_head(
            ("Attributes", "Group", "Patients", f"Mean {endpoint}", "Median", "Worst decile"), "llrrrr"
        )
        yield from map(_row, rows)
        yield ""


def _metrics(summary: Mapping[str, Any]) -> Iterable[str]:
    for key, one in summary["metrics"].items():
        further = [
            one["details"],
            f"{one['reference']}." if one["reference"] else "",
            f"Definition `{key}/{one['version']}`.",
        ]
        yield " ".join([f"* {one['label']}: {escape_markdown(one['formula'])}.", *filter(None, further)])


def _left_out(left_out: Mapping[str, Any]) -> Iterable[str]:
    counts = {
        "Cases not scored": len(left_out["excluded_cases"]),
        "Cases without a prediction, counted as failures": len(left_out["missing_predictions"]),
        "Predictions without a reference": len(left_out["extra_predictions"]),
        "Structures in neither mask": sum(left_out["both_empty"].values()),
        "Structures missed where there is a prediction": sum(left_out["missed"].values()),
        "Structures found where there is none": sum(left_out["false_positive"].values()),
        "Repairs of files": len(left_out["repairs"]),
    }
    for words, count in counts.items():
        yield f"* {words}: {count:,}"
    for name, count in left_out["unknown_group"].items():
        yield f"* Patients of unknown {escape_markdown(str(name))}: {count:,}"


def _caveats(summary: Mapping[str, Any]) -> Iterable[str]:
    methods = summary["methods"]
    for key in ("unit", "empty_masks", "scope", "exploratory", "chosen"):
        if methods.get(key):
            yield f"* {methods[key]}"
    for note in methods.get("notes", []):
        yield f"* {escape_markdown(str(note))}"
    yield f"* Written by equivox {summary['equivox_version']} on {str(summary['created'])[:10]}."


def _with_interval(found: Any) -> str:
    return f"{found.text} ({found.interval})" if found.interval else str(found.text)


def _table_head(heads: Sequence[str], sides: str) -> Iterable[str]:
    yield _row(heads)
    yield "|" + "|".join("---:" if side == "r" else "---" for side in sides) + "|"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
