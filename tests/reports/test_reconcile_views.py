"""The section on other tools, from a made-up summary."""

import copy
import re
from typing import Any

import jinja2
import pytest

from equivox.reports import document
from equivox.reports.reconcile_views import REASON_LABELS, reconcile_view

HOSTILE = "<script>alert(1)</script>"
PAGE = """{% extends "base.html.j2" %}{% from "reconcile.html.j2" import other_tools %}
{% block main %}{{ other_tools(view) }}{% endblock %}"""


def contribution(reason: str, amount: float | None, structures: int = 3, cases: int = 2) -> dict[str, Any]:
    one = {"reason": reason, "words": f"Words about {reason}.", "structures": structures, "cases": cases}
    return one | {"amount": amount} | ({} if amount is not None else {"amount_words": "infinite"})


def metric(label: str, unit: str, mean: float | None, words: str = "infinite") -> dict[str, Any]:
    told = {} if mean is not None else {"mean_words": words}
    return {"label": label, "unit": unit, "mean": mean, "cases": 20, "by_class": {"liver": mean}} | told


def example() -> dict[str, Any]:
    case = {"case_id": HOSTILE, "class": "liver", "ours": 131.2, "theirs": None, "theirs_words": "not defined"}
    return {
        "settings": {"distance_unit": "mm"},
        "tables": [{"overall": {"dice": {"mean": 0.8123}, "iou": {"mean": 0.7}, "hd95": {"mean": 18.4}}}],
        "compat": {
            "monai": {
                "title": "MONAI",
                "version": "monai 1.6.1",
                "rules": ["A rule.", f"Another {HOSTILE}."],
                "missing_prediction": "It is given masks by a script.",
                "missing_predictions": 1,
                "metrics": {
                    "dice": metric("Dice", "", 0.9),
                    "hd95": metric("HD95", "mm", 5.1),
                    "hd": metric("HD", "mm", None),
                },
                "reconciliation": {
                    "dice": {
                        "ours": 0.8123,
                        "theirs": 0.9,
                        "contributions": [
                            contribution("aggregation", 0.0, 40, 20),
                            contribution("background_scored", 0.0877, 20, 20),
                            contribution("equal", 1e-17),
                        ],
                        "largest": [],
                    },
                    "hd95": {
                        "ours": 18.4,
                        "theirs": 5.1,
                        "contributions": [
                            contribution("aggregation", -0.4),
                            contribution("surface_convention", 0.3, 37, 20),
                            contribution("missed_structure_dropped", -13.2),
                        ],
                        "largest": [case | {"reason": "missed_structure_dropped", "words": "Missed: it drops out."}],
                    },
                    "hd": {
                        "ours": 20.0,
                        "theirs": None,
                        "theirs_words": "infinite",
                        "contributions": [contribution("aggregation", -0.4), contribution("infinite", None)],
                        "largest": [],
                    },
                },
            },
            "fairseg": {
                "title": "FairSeg",
                "version": "released code",
                "rules": ["A rule."],
                "missing_prediction": "It predicts what it scores.",
                "missing_predictions": 0,
                "metrics": {
                    "dice": metric("Dice", "", 0.8123),
                    "hd95": metric("HD95", "voxels", 3.21),
                    "asd": metric("ASD", "voxels", None, "not defined"),
                },
                "reconciliation": {
                    "dice": {
                        "ours": 0.8123,
                        "theirs": 0.8123,
                        "contributions": [contribution("aggregation", 0.0), contribution("equal", 0.0)],
                        "largest": [],
                    },
                    "hd95": {
                        "ours": None,
                        "theirs": 3.21,
                        "contributions": [],
                        "largest": [],
                    },
                },
                "equity": {
                    "sex": {
                        "liver": {
                            "dice": {"overall": 0.8, "groups": {"F": 0.7, "M": 0.9}, "es_sum": 0.667, "es_std": 0.7}
                        }
                    }
                },
            },
        },
    }


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> str:
    # The document's environment is made once; the test's own page goes in front of its templates.
    environment = document._environment()
    loader = jinja2.ChoiceLoader([jinja2.DictLoader({"test.html.j2": PAGE}), environment.loader])
    monkeypatch.setattr(environment, "loader", loader)
    return document.render(
        "test.html.j2",
        view=reconcile_view(example()),
        version="0",
        kind="Evaluation",
        title="Made up",
        facts=[("Cases", "20")],
        contents=[("other-tools", "Other tools")],
    )


def visible(page: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_the_overview_has_our_mean_first_and_the_distance_to_it() -> None:
    view = reconcile_view(example())
    assert view is not None
    assert list(view.heads) == ["Mean by", "Dice", "HD95 (mm)", "HD (mm)", "ASD (mm)"]
    cells = {row.title: list(row.cells) for row in view.rows}
    assert cells["Equivox"] == [("0.812", ""), ("18.40", ""), ("–", ""), ("–", "")]
    assert cells["MONAI"] == [("0.900", "+0.088"), ("5.10", "−13.30"), ("infinite", ""), ("–", "")]
    # Voxels are not mm: no difference is taken.
    assert cells["FairSeg"] == [("0.812", "0.000"), ("3.21 voxels", ""), ("–", ""), ("not defined", "")]


def test_each_metric_is_summed_up_in_a_sentence() -> None:
    view = reconcile_view(example())
    assert view is not None
    sentences = {(tool.title, metric.label): metric.sentence for tool in view.tools for metric in tool.metrics}
    assert sentences["MONAI", "HD95"] == (
        "HD95: 5.10 mm by MONAI, 18.40 mm by Equivox: mainly, missed structures drop out."
    )
    assert sentences["MONAI", "Dice"] == "Dice: 0.900 by MONAI, 0.812 by Equivox: the background counts as a class."
    assert sentences["MONAI", "HD"] == "HD: infinite by MONAI, 20.00 mm by Equivox: mainly, infinite distances."
    assert sentences["FairSeg", "Dice"] == "Dice: 0.812 by FairSeg, 0.812 by Equivox: the same."
    assert sentences["FairSeg", "HD95"] == "HD95: 3.21 voxels by FairSeg, – by Equivox."


def test_reasons_that_change_no_digit_are_not_shown_and_bars_join() -> None:
    view = reconcile_view(example())
    assert view is not None
    dice, hd95, hd = view.tools[0].metrics
    assert [step.label for step in dice.steps] == ["The background counts as a class"]
    assert [step.amount for step in hd95.steps] == ["−0.40", "+0.30", "−13.20"]
    # From 5.1 to 18.4 over 92 %: 18.4 to 18, 18 to 18.3, 18.3 to 5.1.
    spans = [re.findall(r' x="([\d.]+)%"', str(step.mark)) for step in hd95.steps]
    assert [float(left) for (left,) in spans] == pytest.approx([93.23, 93.23, 4.0], abs=0.02)
    assert [step.amount for step in hd.steps] == ["−0.40", "infinite"]
    assert str(hd.steps[1].mark) == ""


def test_nothing_to_explain_is_said() -> None:
    view = reconcile_view(example())
    assert view is not None
    dice, hd95 = view.tools[1].metrics
    assert (list(dice.steps), dice.note) == ([], "Nothing differs.")
    assert hd95.note.startswith("One of the two means is not defined")


def test_a_summary_without_other_tools_has_no_section() -> None:
    assert reconcile_view({"settings": {}, "tables": []}) is None
    plain = copy.deepcopy(example())
    for tool in plain["compat"].values():
        del tool["reconciliation"]
    view = reconcile_view(plain)
    assert view is not None
    assert not view.explained


def test_the_section_is_escaped_and_complete(page: str) -> None:
    assert HOSTILE not in page
    text = visible(page)
    for words in (
        "As other tools would report it",
        "1 case has no prediction. It is given masks by a script.",
        "Words about missed_structure_dropped.",
        "37 in 20 cases",
        "Missed: it drops out.",
        "Equity-scaled scores from the image means of FairSeg",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
    ):
        assert words in text, words
    assert "It predicts what it scores." not in text


def test_every_reason_has_a_short_label() -> None:
    from equivox.metrics.conventions.reconcile import REASONS

    assert set(REASON_LABELS) == set(REASONS) - {"left_out_by_both"}
