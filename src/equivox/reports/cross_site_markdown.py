"""The summary of `equivox cross-site` in Markdown: each matrix, and a plain sentence for each contrast."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from equivox.reports.cross_site_page import matrix_cells, metric_head
from equivox.reports.cross_site_words import KINDS, claim, explanation, findings, model_note, over_all_sites, statements
from equivox.reports.model_card import escape_markdown


def cross_site_markdown(summary: Mapping[str, Any]) -> str:
    """Return the summary as Markdown, the endpoint first.

    Args:
        summary: What `cross_site.json` holds.
    """
    return "\n".join(_lines(summary)) + "\n"


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    cohort = summary["cohort"]
    yield f"# Across sites: {escape_markdown(cohort['name'])}"
    yield ""
    yield "For research, not for clinical use."
    yield ""
    yield f"{cohort['patients']:,} patients, {cohort['cases']:,} cases, {len(summary['sites']):,} sites."
    yield escape_markdown(claim(summary))
    yield ""
    for head, words in findings(summary):
        yield f"* {head}: {escape_markdown(words)}"
    for place, metric in enumerate(summary["metrics"]):
        yield ""
        yield f"## {escape_markdown(metric_head(metric))}{'' if place == 0 else ' (exploratory)'}"
        yield ""
        yield from _table(*matrix_cells(summary, place))
        yield from _contrasts(summary, place)
    yield ""
    yield "## What is left out"
    yield ""
    for note in summary["notes"] or ["Nothing."]:
        yield f"* {escape_markdown(note)}"


def _contrasts(summary: Mapping[str, Any], place: int) -> Iterator[str]:
    found = list(statements(summary, place))
    for kind, (head, *_) in KINDS.items():
        own = [one for name, one in found if name == kind]
        if own:
            yield ""
            yield f"### {head}"
            yield ""
            yield escape_markdown(explanation(kind, summary))
            yield ""
            for one in own:
                yield f"* {one.words}. {escape_markdown(one.sentence)}"
    effects = over_all_sites(summary, place)
    if effects or place == 0:
        yield ""
        yield "### Over all sites"
        yield ""
        for head, words in effects:
            yield f"* {head}: {escape_markdown(words)}."
        yield from ([""] if effects else [])
        yield escape_markdown(model_note(summary, place))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for number, cells in enumerate((heads, *rows)):
        yield f"| {' | '.join(map(escape_markdown, cells))} |"
        if number == 0:
            yield f"|{'|'.join(['---', *['--:'] * (len(heads) - 1)])}|"
