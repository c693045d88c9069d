import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from equivox.reports.audit_figures import write_audit_figures
from equivox.reports.audit_page import answer, first_probes, probe_rows, reading, render_audit

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
