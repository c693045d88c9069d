"""Slices of patients and scores against their numbers, as the page shows them."""

import re
from collections.abc import Callable
from typing import Any

from equivox.reports.discovery_views import discovery_view
from equivox.reports.page import render_report

SETTINGS: dict[str, Any] = {"primary_endpoint": "dice", "confidence": 0.95}


def one_slice(words: str, **changes: Any) -> dict[str, Any]:
    predicates = [dict(zip(("column", "value"), pair.split(" = "), strict=True)) for pair in words.split(" and ")]
    return {
        "words": words,
        "predicates": predicates,
        "found_patients": 31,
        "patients": 27,
        "rest_patients": 53,
        "mean": 0.2046,
        "rest_mean": 0.099,
        "difference": 0.1056,
        "low": 0.054,
        "high": 0.163,
        "p": 0.0003,
        "q": 0.0007,
        "confirmed": True,
    } | changes


def trend(**changes: Any) -> dict[str, Any]:
    ends = {"low": -0.48, "high": -0.21, "p": 0.0005, "q": 0.001, "line": [[1.0, 0.8], [2.0, 0.9]]}
    return {"patients": 3, "spearman": -0.35, **ends} | changes


def table(*slices: dict[str, Any], reason: str | None = None, patients: int = 3) -> dict[str, Any]:
    column = [1.0, None, *map(float, range(2, patients))]
    return {
        "slices": {
            "reason": reason,
            "columns": ["sex", "age"],
            "found_in": 0 if reason else 80,
            "confirmed_in": 0 if reason else 80,
            "alpha": 0.95,
            "level": 0.05,
            "slices": list(slices),
        },
        "residuals": {
            "size": "log10 of the reference volume (ml)",
            "fit": [[0.0, 0.8], [2.0, 0.9]],
            "trends": [
                {"number": "log10 of the reference volume (ml)", "raw": trend(), "residual": None},
                {"number": "age", "raw": trend(), "residual": trend(spearman=0.1, low=None, high=None, q=None)},
            ],
            "points": {
                "scores": [0.7, 0.9, *[0.95] * (patients - 2)],
                "residuals": [-0.1, 0.1, *[0.0] * (patients - 2)],
                "numbers": {"log10 of the reference volume (ml)": column, "age": column},
            },
        },
    }


def test_a_slice_is_told_in_words_with_the_digits_of_its_interval() -> None:
    tested = one_slice("sex = F and age = >=65")
    whole = one_slice("age = >=65")
    chance = one_slice("sex = F", q=0.4, confirmed=False)
    view = discovery_view(table(tested, whole, chance), SETTINGS)
    first, second, third = view.slices
    assert (first.words, first.found, first.patients) == ("sex = F and age = >=65", "31", "27")
    assert (first.mean, first.rest_mean, first.difference) == ("0.20", "0.10", "+0.11")
    assert (first.interval, first.q, first.answer) == ("+0.05 to +0.16", "< .001", "confirmed on the other half")
    assert (first.part, second.part) == ("part of: age = >=65", "")
    assert (third.answer, third.q) == ("not confirmed", ".400")
    assert "at most 5 % are expected to be so by chance" in view.slices_lead


def test_where_nothing_was_searched_or_found_the_reason_is_said() -> None:
    view = discovery_view(table(reason="12 patients are too few"), SETTINGS)
    assert view.slices_note == "Nothing was computed: 12 patients are too few."
    assert view.slices_lead.startswith("Slices were not searched for")
    nothing = discovery_view(table(), SETTINGS)
    assert "No slice with larger errors was found among those by sex, age." in nothing.slices_note


def test_each_number_has_a_plot_of_the_scores_and_one_of_the_residuals() -> None:
    view = discovery_view(table(), SETTINGS)
    (volume,), (raw, residual) = view.trends
    assert volume.title == "Mean Dice against log10 of the reference volume (ml)"
    assert raw.words == "Rank correlation −0.35 (−0.48 to −0.21), 3 patients, q = .001."
    assert (residual.title, residual.words) == (
        "Residual of the mean Dice against age",
        "Rank correlation +0.10, 3 patients.",
    )
    assert 'class="smooth"' in raw.picture
    assert view.rows[0][-2:] == ["–", "–"]
    assert view.rows[1] == ["age", "3", "−0.35 (−0.48 to −0.21)", ".001", "+0.10", "–"]
    assert view.drawn == ""


def test_of_very_many_patients_some_are_drawn_and_it_is_said() -> None:
    view = discovery_view(table(patients=4000), SETTINGS)
    assert view.drawn == "Of 4,000 patients, 1,500 are drawn; all of them count."
    # One move to a place for each mark.
    path = re.search(r'<path class="dots[^"]*" d="([^"]*)"', view.trends[0][0].picture)
    assert path is not None
    assert path[1].count("M") == 1500


def test_the_page_has_both_below_the_cases_and_escapes_what_comes_from_files(make: Callable[..., Any]) -> None:
    example = make(40, overlays=False)
    example.summary["tables"][0] |= table(one_slice("sex = <b>F</b>"))
    page = render_report(example.summary, example.cases, [])
    failures = page[page.index('id="failures"') : page.index('id="classes"')]
    assert "sex = &lt;b&gt;F&lt;/b&gt;" in failures
    assert "<b>F</b>" not in page.replace("\\u003cb", "")
    assert "confirmed on the other half" in failures
    assert failures.count('<svg class="scatter"') == 3
    # A summary of an earlier version has neither.
    plain = make(40, overlays=False)
    assert "Slices of patients" not in render_report(plain.summary, plain.cases, [])
