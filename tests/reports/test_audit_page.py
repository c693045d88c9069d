import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from equivox.reports.audit_figures import write_audit_figures
from equivox.reports.audit_outcome_views import flag_views, gap_rows, link_rows, link_words, negative_words
from equivox.reports.audit_page import (
    answer,
    card_lines,
    first_probes,
    probe_rows,
    probes_markdown,
    reading,
    render_audit,
)

MakeAudit = Callable[..., dict[str, Any]]
TABLE = pd.DataFrame({"attribute": ["sex"], "score": [0.81]})


def probe(summary: dict[str, Any], attribute: str) -> dict[str, Any]:
    return dict(next(one for one in first_probes(summary) if one["attribute"] == attribute))


def words(page: str) -> str:
    """The text of the page without its scripts and styles."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_a_probe_says_that_information_is_available_and_what_the_controls_leave_of_it(
    make_audit_summary: MakeAudit,
) -> None:
    text = reading(probe(make_audit_summary(), "sex"))
    assert "sex information is linearly available in the features (AUROC 0.81 (0.71 to 0.91) in 41 patients)." in text
    assert "More than an untrained network of the same shape tells (difference +0.31, +0.19 to +0.43)." in text
    # 0.81 - 0.75 = 0.06 with an interval that holds 0.
    assert "Not shown to be more than the acquisition alone tells (difference +0.06, −0.06 to +0.18)." in text
    assert "Whether the network uses it, a probe does not show." in text
    assert "Fewer than 50 patients: the numbers are unstable." in text


def test_no_evidence_is_not_called_absence(make_audit_summary: MakeAudit) -> None:
    record = probe(make_audit_summary(available=False), "sex")
    assert answer(record) == "No evidence that it is linearly available"
    assert "a probe can miss it" in reading(record)
    age = probe(make_audit_summary(), "age")
    assert reading(age).startswith("No evidence that age information is linearly available (R² 0.21 (0.11 to 0.31)")
    # Certain, but below chance: that is no information.
    assert answer({**record, "q": 0.01, "score": 0.3}) == "No evidence that it is linearly available"


def test_what_was_not_probed_says_why(make_audit_summary: MakeAudit) -> None:
    summary = make_audit_summary()
    record = probe(summary, "race")
    assert answer(record) == "Not probed"
    assert reading(record).startswith("race was not probed: fewer than two groups have 10 held-out patients")
    heads, rows = probe_rows(summary)
    assert all(len(row) == len(heads) for row in rows)
    assert len(rows) == 12


@pytest.mark.parametrize("erasure", [True, False])
def test_the_page_claims_no_more_than_was_shown(make_audit_summary: MakeAudit, erasure: bool) -> None:
    text = words(render_audit(make_audit_summary(erasure=erasure), TABLE))
    for word in ("bias", "unfair", "discriminat", "fair", "safe"):
        assert word not in text.lower()
    assert ("Only this speaks to use" in text) is erasure
    assert ("Not done: whether the networks use what a probe finds was not tested" in text) is not erasure
    assert "no visible separation is not evidence of absence" in text
    assert "It is no probability of an error" in text
    assert "Groups that a plot" in text
    assert "80 patients are in the training of every network that is audited" in text


def test_what_goes_along_is_called_an_association(make_audit_summary: MakeAudit) -> None:
    summary = make_audit_summary()
    heads, rows = link_rows(summary)
    assert all(len(row) == len(heads) for row in rows)
    assert rows[0] == ["sex", "bottleneck", "M", "40", "−0.31 (−0.55 to −0.02)", "−0.021 (−0.040 to −0.002)", "–"]
    assert rows[1][2] == "higher values"
    assert gap_rows(summary)[1][0] == ["sex", "F", "20", "0.810", "+0.020 (−0.030 to +0.070)", ".500"]
    text = words(render_audit(summary, TABLE))
    assert "This is an association: it does not say that the network uses what the probe finds" in text
    assert "Slopes are given hospital &lt;b&gt; and lesion volume. 2 of 2 intervals leave 0 out" in text
    assert "by chance alone it is one in twenty" in text
    summary["behaviour"] = None
    assert "no scan has a reference for the classes that the run segments" in words(render_audit(summary, TABLE))


def test_slopes_that_hold_0_are_not_counted_and_too_few_patients_are_told(make_audit_summary: MakeAudit) -> None:
    summary = make_audit_summary()
    summary["behaviour"]["links"][0]["slope_high"] = 0.01
    assert "1 of 2 intervals leaves 0 out" in link_words(summary)
    for one in summary["behaviour"]["links"]:
        one["slope_low"] = one["slope_high"] = None
    assert link_words(summary) == "Slopes are given hospital <b> and lesion volume; there are too few patients for one."


def test_a_flag_is_told_with_what_the_matching_leaves(make_audit_summary: MakeAudit) -> None:
    summary = make_audit_summary()
    catheter, clip = flag_views(summary)
    assert catheter.sentence == (
        "13 patients with catheter yes and 27 with catheter no have a lesion. "
        "Within the strata, lesions with catheter yes are 1.13 times as large."
    )
    assert catheter.scores[1][0] == [
        "Dice",
        "0.710",
        "0.800",
        "−0.090",
        "−0.040 (−0.080 to 0.000)",
        "12 and 25",
        ".060",
    ]
    # 1,200 to 5,400 mm3.
    assert catheter.strata[1][0][:3] == ["1.20 to 5.40", "4", "9"]
    assert all(len(row) == len(heads) for heads, rows in (catheter.scores, catheter.strata) for row in rows)
    assert clip.sentence.endswith("have a lesion: fewer than 10 patients with a lesion on a side.")
    assert clip.scores == ([], [])
    assert "4 patients have no lesion in any reference. They are the negatives of both sides" in negative_words(summary)
    summary["cohort"]["nominal_spacing"] = True
    assert flag_views(summary)[0].strata[0][0] == "Lesion volume, voxels"
    assert flag_views(summary)[0].strata[1][0][0] == "1,200 to 5,400"
    text = words(render_audit(make_audit_summary(shortcuts=False), TABLE))
    assert "With and without" not in text


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        ("images", None),
        ("prepared", "under another name and with another reference is not recognised"),
        ("none", "whether a patient of the training is here under another name could not be checked"),
    ],
)
def test_patients_under_other_names_are_told_and_what_could_not_be_checked(
    make_audit_summary: MakeAudit, evidence: str, told: str | None
) -> None:
    summary = make_audit_summary()
    summary["left_out"]["renamed_told_by"] = evidence
    text = words(render_audit(summary, TABLE))
    assert "3 patients have scans that the run knows under another name" in text
    assert ("Other names" in text) is (told is not None)
    assert told is None or told in text
    summary["left_out"]["renamed"] = 0
    assert "the run knows under another name" not in words(render_audit(summary, TABLE))


def test_a_second_layer_stands_beside_the_first(make_audit_summary: MakeAudit) -> None:
    summary = make_audit_summary()
    summary["run"]["layers"]["last_decoder"] = "network.upcat_0_4"
    more = [{**one, "layer": "last_decoder", "score": 0.6} for one in summary["probes"]]
    summary["probes"] += more
    record = probe(summary, "sex")
    assert (record["layer"], record["score"]) == ("bottleneck", 0.81)
    assert [line[:2] for line in card_lines(record)[:2]] == [("trained network", 0.81), ("its last decoder stage", 0.6)]
    assert probe(summary, "race")["other_layers"] == []
    assert probe_rows(summary)[1][-1][1] == "last decoder stage, mean and SD over the scan"
    text = words(render_audit(summary, TABLE))
    assert (
        "modules network.conv_4_0, the deepest of the encoder; network.upcat_0_4, the last stage of the decoder" in text
    )


def test_what_was_not_probed_has_no_rows_of_dashes(make_audit_summary: MakeAudit) -> None:
    page = render_audit(make_audit_summary(), TABLE)
    assert '<th scope="row">race</th>' not in page
    assert "race was not probed: fewer than two groups have 10 held-out patients" in words(page)


def test_the_table_as_markdown_keeps_text_from_files_in_its_cell(make_audit_summary: MakeAudit) -> None:
    lines = probes_markdown(make_audit_summary(site="a|b")).splitlines()
    assert lines[1].startswith("| --- | --- |")
    assert lines[3].startswith(r"| a\|b | mean over the scan |")


def test_text_from_files_is_escaped(make_audit_summary: MakeAudit) -> None:
    page = render_audit(make_audit_summary(site="<img src=x>"), TABLE)
    assert "<img src=x>" not in page
    assert "&lt;img src=x&gt;" in page


def test_the_figures_are_written_as_svg_and_png(make_audit_summary: MakeAudit, tmp_path: Path) -> None:
    write_audit_figures(tmp_path / "figures", make_audit_summary())
    names = sorted(path.name for path in (tmp_path / "figures").glob("*.svg"))
    assert names == [
        "components-age-3.svg",
        "components-hospital-b-2.svg",
        "components-race-4.svg",
        "components-sex-1.svg",
        "probe-age-3.svg",
        "probe-hospital-b-2.svg",
        "probe-sex-1.svg",
    ]
    assert len(list((tmp_path / "figures").glob("*.png"))) == 7
