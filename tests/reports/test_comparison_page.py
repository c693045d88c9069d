"""The page of a comparison: its words, its escapes, its plots; and in a real browser."""

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from equivox.reports.comparison_page import pair_values, render_comparison, value_axis
from equivox.reports.paired_plot import paired_plot
from equivox.reports.plots import nice_axis

HOSTILE = "</script><img src=x onerror=document.body.dataset.error='owned'>"


def make_comparison(
    models: tuple[str, ...] = ("unet", "unetpp", "wide"), *, patients: int = 30, answers: tuple[str, ...] = ()
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """A made-up comparison with all that a summary can hold."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient_id": [f"p{index:02d}" for index in range(patients)]})
    for place, name in enumerate(models):
        table[f"model:{name}"] = np.clip(rng.normal(0.8 + 0.03 * place, 0.08, patients), 0, 1)
    table.loc[3, f"model:{models[1]}"] = np.nan
    table.loc[5, f"model:{models[1]}"] = table.loc[5, f"model:{models[0]}"]
    answers = answers or ("difference", "no_evidence", "ruled_out", "cannot_say")[: len(models) - 1]
    tests = [
        {
            "first": models[a],
            "second": models[b],
            "metric": metric,
            "class": name,
            "unit": unit,
            "better": better,
            "family": "primary" if a == 0 and (metric, name) == ("dice", "all classes") else "rest",
            "patients": patients - 1,
            "patients_left_out": 1,
            "first_mean": 0.8,
            "second_mean": 0.83,
            "difference": 0.03,
            "low": 0.01,
            "high": 0.05,
            "confidence": 0.95,
            "median_difference": 0.02,
            "second_better": 20,
            "first_better": 8,
            "equal": 1,
            "second_better_share": 20 / 29,
            "p_value": 0.0123,
            "p_adjusted": 0.0246,
            "family_size": 2,
        }
        for a in range(len(models))
        for b in range(a + 1, len(models))
        for metric, unit, better in (("dice", "", "high"), ("hd95", "mm", "low"), ("volume_error", "ml", "zero"))
        for name in ("all classes", "organ", "lesion")
    ]
    # Few patients: no interval, no test.
    tests[1] |= {"low": None, "high": None, "p_value": None, "p_adjusted": None, "family": ""}
    groups = [
        {"name": "F", "patients": 20, "small": False, "low": 0.0, "high": 0.06},
        {"name": "M", "patients": 9, "small": True, "low": None, "high": None},
    ]
    for group in groups:
        group |= {"first_mean": 0.8, "second_mean": 0.83, "difference": 0.03, "greater": 12, "smaller": 6}
    share = 1 / len(models)
    summary = {
        "schema_version": 1,
        "equivox_version": "0.1.0",
        "created": "2026-01-02T03:04:05+00:00",
        "cohort": {
            "name": "made up",
            "classes": ["organ", "lesion"],
            "role": "test",
            "patients": patients,
            "cases": patients + 2,
            "nominal_spacing": False,
        },
        "models": [
            {
                "name": name,
                "baseline": place == 0,
                "folder": name,
                "model": {"name": name, "run": None},
                "created": "2026-01-01T00:00:00+00:00",
                "equivox_version": "0.1.0",
                "patients": patients,
                "mean": 0.8,
                "low": 0.78,
                "high": 0.82,
                "median": 0.81,
                "inputs": {"references": "0" * 64, "predictions": "1" * 64},
            }
            for place, name in enumerate(models)
        ],
        "settings": {
            "margin": 0.05,
            "minimum_patients": 10,
            "confidence": 0.95,
            "bootstrap_draws": 4999,
            "permutation_draws": 9999,
            "seed": 0,
            "primary_endpoint": "dice",
        },
        "evaluation_settings": {"tolerance": 2.0, "hd95": "directed_max", "distance_unit": "mm", "volume_unit": "ml"},
        "metrics": {
            key: {"unit": unit, "version": 1} for key, unit in (("dice", ""), ("hd95", "mm"), ("volume_error", "ml"))
        },
        "families": {
            "primary": {"tests": 2, "smallest_adjusted_p": 0.0002},
            "rest": {"tests": 9, "smallest_adjusted_p": 0.001},
        },
        "verdicts": [
            {
                "first": models[0],
                "second": name,
                "metric": "dice",
                "answer": answer,
                "words": f"Words of {answer}",
                "sentence": f"Sentence of {answer}.",
                "better": models[0] if answer == "difference" else None,
                "detectable_difference": 0.02,
                "patients_needed": None,
            }
            for name, answer in zip(models[1:], answers, strict=True)
        ],
        "tests": tests,
        "ranking": [
            {
                "metric": metric,
                "view": view,
                "patients": patients - 1,
                "left_out": 1,
                "scores": [0.8] * len(models),
                "ranks": list(range(len(models), 0, -1)),
                "probabilities": [[share] * len(models)] * len(models) if metric == "dice" else None,
                "tau": 0.5 if metric == "dice" else None,
            }
            for metric in ("dice", "hd95", "volume_error")
            for view in ("mean", "mean_rank")
        ],
        "groups": [
            {
                "first": models[0],
                "second": name,
                "attributes": [
                    {
                        "name": "sex",
                        "unknown_patients": 1,
                        "groups": groups,
                        "gap": {"groups": 1, "first": None, "second": None, "change": None},
                    },
                    {
                        "name": "site",
                        "unknown_patients": 0,
                        "groups": groups[:1],
                        "gap": {"groups": 2, "first": 0.031, "second": 0.012, "change": -0.019},
                    },
                ],
            }
            for name in models[1:]
        ],
        "left_out": {
            "patients": [{"patient_id": "p99", "models": [models[0]]}],
            "metrics": [{"metric": "nsd", "models": [models[1]]}],
            "excluded_cases": {models[0]: [{"case_id": "c7", "reason": "no label"}]},
            "missing_predictions": {models[1]: ["c8"]},
            "unknown_group": {"sex": 1},
        },
        "methods": {"rule": "A rule.", "other_tests": "Others.", "notes": [], "references": ["One."]},
    }
    return summary, pd.DataFrame(tests), table


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("</style>")[2])))


def test_every_answer_is_told_in_words_and_has_a_mark_of_its_own() -> None:
    models = ("a", "b", "c", "d", "e")
    page = render_comparison(*make_comparison(models, answers=("difference", "no_evidence", "ruled_out", "cannot_say")))
    cards = re.findall(r'<article class="card (\w+)">.*?</article>', page, re.DOTALL)
    assert cards == ["worse", "no_evidence", "ruled_out", "cannot_say"]
    for answer in ("difference", "no_evidence", "ruled_out", "cannot_say"):
        assert f"Words of {answer}" in page
        assert f"Sentence of {answer}." in page
    icons = re.findall(r'<h3>(<svg class="icon".*?</svg>)', page, re.DOTALL)
    assert len(set(icons)) == 4


def test_page_says_what_it_compares_and_what_it_leaves_out() -> None:
    text = text_of(render_comparison(*make_comparison()))
    assert "each model is compared with 'unet', in one family of 2 tests" in text
    assert "Patients not compared 1 that not all have with the same cases" in text
    assert "Metrics not compared 1 that not all evaluations have" in text
    assert "Patients without a score 1 " in text
    assert "c7 unet no label" in text
    assert "c8 unetpp" in text
    assert "0.031 under unet, 0.012 under unetpp (−0.019)" in text
    assert "Fewer than two groups are large enough" in text
    assert "HD95 (mm) lower is better" in text
    assert "nearer to 0 is better; absolute values are compared" in text
    assert "Too few patients to resample." in text
    assert "It is not the probability that a model is the best one." in text


def test_two_models_have_one_card_and_no_family_in_words() -> None:
    text = text_of(render_comparison(*make_comparison(("old", "new"))))
    assert "'new' is compared with 'old', patient by patient" in text
    assert "family of" not in text


def test_names_from_files_are_escaped() -> None:
    page = render_comparison(*make_comparison(("a", HOSTILE)))
    assert "<img" not in page


def test_patients_stand_where_their_scores_say() -> None:
    axis = nice_axis(0.0, 1.0)
    plot = paired_plot(
        np.array([0.0, 1.0, 0.5, np.nan]),
        np.array([1.0, 0.0, 0.5, 0.5]),
        np.array([1.0, -1.0, 0.0, np.nan]),
        axis,
        ("x", "y"),
        "title",
        "words",
    )
    # The side is 400 units, from (64, 26); the fourth patient lacks a score.
    marks = dict(re.findall(r'<path class="dots (\w+)" data-cases="\d" d="M([\d.]+ [\d.]+)m', plot))
    assert marks == {"c0": "64.0 26.0", "c1": "464.0 426.0", "cu": "264.0 226.0"}


def test_which_model_is_better_follows_the_metric() -> None:
    table = pd.DataFrame({"model:a": [1.0, 2.0, 3.0], "model:b": [2.0, 1.0, 3.0]})
    assert np.sign(pair_values(table, "a", "b", "dice")[2]).tolist() == [1, -1, 0]
    assert np.sign(pair_values(table, "a", "b", "hd95")[2]).tolist() == [-1, 1, 0]


def test_nobody_with_a_score_has_no_plot() -> None:
    summary, tests, table = make_comparison(("a", "b"))
    table[["model:a", "model:b"]] = np.nan
    assert value_axis(table, ["a", "b"], "dice") is None
    assert 'class="dots-box"' not in render_comparison(summary, tests, table)


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_the_screen_and_tells_whose_mark_it_is(probe: Any, tmp_path: Path, width: int) -> None:
    page = render_comparison(*make_comparison(("unet", "n" * 120, "wide")))
    actions = """
    const box = one(".dots-box");
    box.dispatchEvent(key("ArrowRight"));
    result.tip = one("#tip").textContent;
    const saved = [];
    frame.contentWindow.URL.createObjectURL = (blob) => { saved.push(blob); return "#"; };
    frame.contentWindow.HTMLAnchorElement.prototype.click = () => {};
    one("[data-save=cases]").click();
    for (let wait = 0; !saved.length && wait < 200; wait++) await new Promise((go) => setTimeout(go, 20));
    result.saved = await saved[0].text();
    """
    result = probe(tmp_path, page, width, actions)
    assert "failed" not in result, result.get("failed")
    assert result["ready"] == "1"
    assert result["error"] is None
    assert result["scroll"] <= width, result["beyond"]
    assert result["beyond"] == []
    assert re.match(r"p\d\dunet: Dice 0\.\d{3}", result["tip"])
    assert result["saved"].startswith("first,second,metric,class,")


@pytest.mark.browser
def test_hostile_names_run_no_script(probe: Any, tmp_path: Path) -> None:
    result = probe(tmp_path, render_comparison(*make_comparison(("a", HOSTILE))), 390, "")
    assert result["ready"] == "1"
    assert result["error"] is None
    assert result["scroll"] <= 390, result["beyond"]
