import copy
import json
import re
from typing import Any

import pytest

from equivox.reports.cross_site_markdown import cross_site_markdown
from equivox.reports.cross_site_page import DEEPEST, colour_scale, heat_rows, matrix_cells, render_cross_site
from equivox.reports.cross_site_words import claim, explanation, model_note, over_all_sites, sentences, statements


def with_contrast(summary: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The summary with one contrast of its first metric."""
    changed = copy.deepcopy(summary)
    contrast = {"kind": "gap", "site": "Bern", "patients": 24, "p": 0.001, "p_adjusted": 0.004}
    ends = {"difference": 0.12, "low": 0.07, "high": 0.17}
    changed["metrics"][0]["contrasts"] = [{**contrast, **ends, **values}]
    return changed


def first(summary: dict[str, Any]) -> tuple[str, str]:
    _, statement = next(iter(statements(summary, 0)))
    return statement.answer, statement.sentence


def test_each_contrast_is_a_plain_sentence(crossed) -> None:
    answer, sentence = first(with_contrast(crossed.summary))
    assert answer == "difference"
    assert sentence == (
        "Bern: its own models are better than models of other sites by 0.12 Dice (95 % interval +0.07 to +0.17, "
        "adjusted p = .004, 24 patients)."
    )
    assert "are worse than models of other sites by 0.12" in first(with_contrast(crossed.summary, difference=-0.12))[1]
    answer, sentence = first(with_contrast(crossed.summary, p_adjusted=0.3, difference=0.001, low=-0.03, high=0.03))
    assert answer == "no_evidence"
    assert "no evidence that its own models and models of other sites differ; seen: no difference (" in sentence


def test_few_patients_cannot_say_and_the_matched_gain_is_exploratory(crossed) -> None:
    few = {"p": None, "p_adjusted": None, "low": None, "high": None, "patients": 6}
    answer, sentence = first(with_contrast(crossed.summary, **few))
    assert answer == "cannot_say"
    assert "cannot say, with fewer than 10 patients, whether" in sentence
    assert sentence.endswith("seen: 0.12 Dice better (6 patients).")
    answer, sentence = first(with_contrast(crossed.summary, kind="matched_pooling_gain", p_adjusted=None))
    assert answer == ""
    assert sentence.startswith("Bern: size-matched models of all sites against its own models: 0.12 Dice better (95 %")


def test_few_sites_allow_no_claim_and_five_allow_one_with_the_site_as_the_unit(crossed) -> None:
    assert "Models were trained at 3 sites" in claim(crossed.summary)
    assert "no claim about other sites is possible" in sentences(crossed.summary, 0)[-1]
    five = copy.deepcopy(crossed.summary)
    five["population_claim"] = True
    five["metrics"][0]["over_sites"] = {"gap": 0.1, "sites": 5, "low": 0.02, "high": 0.18}
    assert "Over 5 sites the mean gap is +0.10 Dice (t interval +0.02 to +0.18, the site being the unit)" in claim(five)


def test_size_matched_rows_are_pointed_to_where_there_are_any(crossed) -> None:
    assert explanation("pooling_gain", crossed.summary).endswith("saw more patients. The size-matched rows have not.")
    lite = copy.deepcopy(crossed.summary)
    lite["rows"] = [row for row in lite["rows"] if row["kind"] != "pool_matched"]
    assert explanation("pooling_gain", lite).endswith("saw more patients. A full budget adds rows that have not.")
    assert explanation("gap", lite) == explanation("gap", crossed.summary)


def with_model(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary with a mixed model of five sites."""
    changed = copy.deepcopy(summary)
    changed["population_claim"] = True
    effects = [("away", -0.08, -0.15, -0.01), ("lesion_volume", 0.1, 0.02, 0.18)]
    changed["metrics"][0]["mixed_model"] = {
        "sites": 5,
        "patients": 100,
        "effects": [dict(zip(("name", "estimate", "low", "high"), one, strict=True)) for one in effects],
        "deviations": {"site": 0.05, "site_and_row": 0.03, "patient": 0.1},
        "residual": 0.02,
    }
    return changed


def test_effects_over_all_sites_are_sentences_with_the_site_as_the_unit(crossed) -> None:
    away, volume = over_all_sites(with_model(crossed.summary), 0)
    assert away == ("Models of other sites against the own ones", "−0.08 Dice (95 % interval −0.15 to −0.01)")
    # The slope is of the natural logarithm: 0.1 log 2 = 0.069 a doubling.
    assert volume == ("Patients of twice the volume", "+0.07 Dice (95 % interval +0.01 to +0.12)")
    note = model_note(with_model(crossed.summary), 0)
    assert note.startswith("100 patients of 5 sites in one mixed model, the site being the unit; above 0 is better.")
    assert "sites 0.05, row types at one site 0.03, patients 0.10, values of a patient 0.02" in note
    assert over_all_sites(crossed.summary, 0) == []
    assert "fewer than 5" in model_note(crossed.summary, 0)


def test_gaps_at_both_tolerances_stand_beside_each_other(crossed) -> None:
    assert "How borders are drawn" not in render_cross_site(crossed.summary, crossed.patients)
    both = copy.deepcopy(crossed.summary)
    for key, label in (("nsd", "NSD at 2 mm"), ("nsd_wide", "NSD at 3 mm")):
        both["metrics"].append({**copy.deepcopy(both["metrics"][0]), "metric": key, "label": label})
    both["sites"][0]["label_protocols"] = ["clinic", "study"]
    page = render_cross_site(both, crossed.patients)
    assert "How borders are drawn" in page
    for text in ("Gap in NSD at 2 mm", "Gap in NSD at 3 mm", "clinic, study"):
        assert text in page


def test_what_was_not_computed_is_said(crossed) -> None:
    assert "Lesion-wise detection, calibration, test-time adaptation." in render_cross_site(
        crossed.summary, crossed.patients
    )
    more = copy.deepcopy(crossed.summary)
    more["settings"]["metrics"] = ["dice", "lesion_recall", "ece"]
    assert "Test-time adaptation." in render_cross_site(more, crossed.patients)


def test_markdown_has_the_matrix_and_a_sentence_for_each_contrast(crossed) -> None:
    text = (crossed.folder / "summary.md").read_text(encoding="utf-8")
    assert text == cross_site_markdown(crossed.summary)
    assert "| Trained on | Bern | Cork | Graz | Lund | Macro |\n|---|--:|--:|--:|--:|--:|\n| Bern alone |" in text
    for place in (0, 1):
        for _, statement in statements(crossed.summary, place):
            assert f"{statement.words}. {statement.sentence}" in text
    assert "no claim about other sites is possible" in text
    hostile = json.loads(json.dumps(crossed.summary).replace("Graz", "<b>|x"))
    assert "&lt;b&gt;\\|x alone" in cross_site_markdown(hostile)
    assert "<b>" not in cross_site_markdown(hostile)


def test_one_model_is_no_models(crossed) -> None:
    one = copy.deepcopy(crossed.summary)
    one["rows"][0]["models"] = 1
    assert heat_rows(one, 0)[0].trained.endswith("patients, 1 model")


def test_colours_tell_the_difference_to_home_and_numbers_stand_in_every_cell(crossed) -> None:
    rows = heat_rows(crossed.summary, 0)
    assert [row.name for row in rows] == [
        *("Bern alone", "Cork alone", "Graz alone", "All sites", "All sites, size-matched"),
        *("All but Bern", "All but Cork", "All but Graz"),
    ]
    assert [[cell.home for cell in row.cells] for row in rows[:3]] == [
        [True, False, False, False],
        [False, True, False, False],
        [False, False, True, False],
    ]
    away = rows[0].cells[2]
    assert away.tone == "worse"
    assert away.against.startswith("−")
    assert max(cell.share for row in rows for cell in row.cells) == DEEPEST
    # A site for testing only has no home to differ from.
    assert {(cell.tone, cell.against) for row in rows for cell in row.cells[3:]} == {("same", "")}
    assert all(cell.text[0].isdigit() for row in rows for cell in row.cells)
    # Of an error less is better.
    error = heat_rows(crossed.summary, 1)[0].cells[2]
    assert error.tone == "worse"
    assert error.against.startswith("+")


def test_small_differences_are_pale(crossed) -> None:
    small = copy.deepcopy(crossed.summary)
    for row in small["metrics"][0]["rows"]:
        for cell in row["cells"].values():
            cell["against_own"] = cell["against_own"] and 0.02
    assert colour_scale(small["metrics"][0]) == pytest.approx(0.1)
    assert max(cell.share for row in heat_rows(small, 0) for cell in row.cells) == round(DEEPEST * 0.2)


def test_page_has_every_part_and_no_network(crossed) -> None:
    page = (crossed.folder / "report.html").read_text(encoding="utf-8")
    for anchor in ("in-short", "matrix", "contrasts", "sites", "groups", "left-out", "methods"):
        assert f'<section id="{anchor}"' in page
    assert page.count('<table class="plain heat">') == 2
    assert "Absolute volume error (ml), lower is better" in page
    assert "For testing only, as there are fewer than 10 patients: Lund (2)." in page
    assert "does not replace it" in page
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_terminal_gets_the_matrix_too(crossed) -> None:
    heads, rows = matrix_cells(crossed.summary, 0)
    assert heads == ["Trained on", "Bern", "Cork", "Graz", "Lund", "Macro"]
    assert len(rows) == 8
    assert all(len(row) == 6 for row in rows)


def test_figures_are_written_as_svg_and_png(crossed) -> None:
    names = sorted(path.name for path in (crossed.folder / "figures").iterdir())
    assert names == [
        *("matrix_absolute_volume_error.png", "matrix_absolute_volume_error.svg"),
        *("matrix_dice.png", "matrix_dice.svg"),
    ]
    assert "tested at" in (crossed.folder / "figures" / "matrix_dice.svg").read_text()


def test_names_from_the_table_are_escaped(crossed) -> None:
    hostile = json.loads(json.dumps(crossed.summary).replace("Graz", "<img src=x onerror=alert(1)>"))
    page = render_cross_site(hostile, crossed.patients)
    assert "<img" not in page
    assert "&lt;img src=x" in page


SAVES = """
    const saved = [];
    frame.contentWindow.URL.createObjectURL = (blob) => { saved.push(blob); return "#"; };
    frame.contentWindow.HTMLAnchorElement.prototype.click = () => {};
    for (const button of all("[data-save]")) {
      const before = saved.length;
      button.click();
      for (let wait = 0; saved.length === before && wait < 200; wait++) await new Promise((go) => setTimeout(go, 20));
    }
    result.saved = await Promise.all(saved.map((blob) => blob.text()));
"""

COLOURS = """<script>
  const painted = Array.from(document.querySelectorAll(".heat td.worse, .heat td.better"));
  const both = (style) => [style.backgroundColor, style.color].join("|");
  document.body.dataset.told = painted.map((cell) => both(getComputedStyle(cell))).join(";");
</script></body>"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_the_screen_with_long_names_and_saves_its_tables(probe, crossed, tmp_path, width) -> None:
    long = json.loads(json.dumps(crossed.summary).replace("Graz", f"</script><b>{'z' * 120}"))
    result = probe(tmp_path, render_cross_site(long, crossed.patients), width, SAVES)
    assert "failed" not in result, result.get("failed")
    assert (result["ready"], result["error"]) == ("1", None)
    assert result["scroll"] <= width, result["beyond"]
    assert result["beyond"] == []
    assert result["saved"][0] == crossed.patients.to_csv(index=False)
    assert json.loads(result["saved"][1]) == json.loads(json.dumps(long))


@pytest.mark.browser
@pytest.mark.parametrize("scheme", [1, 0])
def test_numbers_of_the_heat_map_stay_readable_on_their_colour(chromium, crossed, tmp_path, scheme) -> None:
    page = tmp_path / "sites.html"
    page.write_text(render_cross_site(crossed.summary, crossed.patients).replace("</body>", COLOURS), encoding="utf-8")
    dom = chromium(page, f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom")
    pairs = re.search(r'data-told="([^"]+)"', dom)[1].split(";")
    assert len(pairs) > 10
    for pair in pairs:
        assert _contrast(*pair.split("|")) >= 4.5, pair


def _contrast(first: str, second: str) -> float:
    """WCAG's contrast of two colours as a browser writes them: ``rgb(1, 2, 3)`` or ``color(srgb 0.1 0.2 0.3)``."""
    lights = []
    for text in (first, second):
        numbers = [float(one) for one in re.findall(r"\d*\.?\d+(?:e-?\d+)?", text)[:3]]
        shares = [one if text.startswith("color") else one / 255 for one in numbers]
        linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)
