"""The section on calibration."""

import re
from typing import Any
from xml.etree import ElementTree

import jinja2
import numpy as np
import pandas as pd
import pytest

from equivox.reports.calibration_plots import Curve, coverage_plot, reliability_plot
from equivox.reports.calibration_views import CalibrationSection, calibration_section
from equivox.reports.document import words
from equivox.reports.numbers import number

SETTINGS = {"distance_unit": "mm", "volume_unit": "ml", "confidence": 0.95, "minimum_group": 10}
NAME = "<b>node</b>"
MEASURES = ("ece", "ace", "boundary_ece", "brier", "whole_ece", "whole_brier", "dice_error", "dice_bias")


def measured(patients: int, value: float) -> dict[str, Any]:
    ends = (value - 0.02, value + 0.02) if patients >= 10 else (None, None)
    one = {"patients": patients, "value": value, "low": ends[0], "high": ends[1]}
    return {"patients": patients, **dict.fromkeys(MEASURES, one), "dice_bias": one | {"value": -0.05}}


def bins(observed: list[float], patients: int, weight: float = 0.25) -> list[dict[str, Any]]:
    middles = np.linspace(0.1, 0.9, len(observed)).tolist()
    return [
        {"low": p - 0.05, "high": p + 0.05, "patients": patients, "weight": weight, "confidence": p, "observed": y}
        for p, y in zip(middles, observed, strict=True)
    ]


def make_table(groups: dict[str, int] | None = None) -> dict[str, Any]:
    sizes = {"F & co": 14, "M": 12, "X": 3} if groups is None else groups
    return {
        "role": "test",
        "calibration": {
            NAME: {
                "overall": measured(29, 0.0712) | {"cases": 31},
                "reliability": bins([0.05, 0.3, 0.6, 0.8], 29),
                "selective": {
                    "patients": 29,
                    "empty_predictions": 2,
                    "aurc": {"value": 0.1234, "low": 0.09, "high": 0.16},
                    "aurc_best": 0.1,
                    "aurc_random": 0.2,
                    "excess_aurc": 0.0234,
                    "curve": [[k / 29, 0.2 * k / 29] for k in range(1, 30)],
                    "pearson": {"value": 0.81, "low": 0.6, "high": 0.9},
                    "spearman": {"value": None, "low": None, "high": None},
                },
                "groups": {
                    "sex": [
                        {"name": name, "small": size < 10}
                        | measured(size, 0.1)
                        | {"reliability": bins([0.1, 0.2, 0.5, 0.9], size)}
                        for name, size in sizes.items()
                    ]
                }
                if sizes
                else {},
            }
        },
    }


def make_cases() -> pd.DataFrame:
    rows = [
        ("test", NAME, "p0", "scored", 0.8, 0.9, "M"),
        ("test", NAME, "p0", "scored", 0.6, 0.7, "M"),
        ("test", NAME, "p1", "missed", 0.0, 0.0, "F & co"),
        ("test", NAME, "p2", "both_empty", 1.0, 0.0, "F & co"),
        ("test", NAME, "p3", "scored", 0.5, np.nan, "M"),
        ("test", NAME, "p4", "scored", 0.4, 0.3, None),
        ("out_of_fold", NAME, "p5", "scored", 0.4, 0.3, "M"),
    ]
    columns = ["role", "class", "patient_id", "outcome", "dice", "predicted_dice", "attribute:sex"]
    return pd.DataFrame(rows, columns=columns)


def render(section: CalibrationSection | None) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("equivox.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = words
    environment.filters["counted"] = lambda count: number(count, 0)
    template = '{% from "calibration.html.j2" import calibration_section %}{{ calibration_section(section) }}'
    return environment.from_string(template).render(section=section)


@pytest.fixture(scope="module")
def section() -> CalibrationSection:
    found = calibration_section(make_table(), make_cases(), SETTINGS, {"age": "continuous", "sex": "categorical"})
    assert found is not None
    return found


def test_the_section_shows_the_numbers_of_the_summary(section) -> None:
    html = render(section)
    for picture in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(picture)  # noqa: S314  our own
    assert "<b>" not in html
    assert "&lt;b&gt;node" in html
    text = re.sub(r"<[^>]+>", " ", html)
    for shown in ("0.071", "0.051 to 0.091", "0.123 (95 % interval 0.090 to 0.160)", "0.023", "+0.81", "within 5 mm"):
        assert shown in text, shown
    assert "2 cases with an empty mask" in text
    assert section.classes[0].overall.measures["dice_bias"].text == "−0.050"


def test_small_groups_are_in_the_table_but_not_drawn(section) -> None:
    (sex,) = section.classes[0].attributes
    assert [(row.name, row.small) for row in sex.rows] == [("F & co", False), ("M", False), ("X", True)]
    assert [name for _, name in sex.legend] == ["F & co", "M"]
    assert sex.note == "Fewer than 10 patients, so is not drawn: X."
    # All patients and two groups.
    assert sex.plot.count('class="curve') == 3


def test_a_number_of_fewer_patients_than_the_row_has_says_of_how_many() -> None:
    table = make_table()
    assert "n = " not in render(calibration_section(table, make_cases(), SETTINGS, {}))
    record = table["calibration"][NAME]
    record["overall"]["boundary_ece"] = record["overall"]["ece"] | {"patients": 20}
    men = record["groups"]["sex"][1]
    men["dice_bias"] = {"patients": 9, "value": -0.05, "low": None, "high": None}
    html = render(calibration_section(table, make_cases(), SETTINGS, {}))
    # Of all: 29, and 20 of them at the boundary; of the men: 12, and 9 of them with a Dice, too few for an interval.
    assert html.count("n = ") == 2
    assert '<span class="ci">0.051 to 0.091</span><span class="ci">n = 20</span>' in html
    assert '<span class="num">−0.050</span><span class="ci">n = 9</span>' in html
    assert "has their count n under it, and an interval from 10 of them on" in " ".join(html.split())


def test_patients_are_drawn_by_group_with_their_means(section) -> None:
    plot = section.classes[0].selective.agreement
    # p0 once, p1, and p4 of unknown group; both empty, without a map or of another table: none.
    assert sum(part.count("M") for part in re.findall(r'class="dots[^>]*d="([^"]*)"', plot)) == 3
    assert [name for _, name in section.classes[0].selective.legend] == ["F & co", "M", "group not known"]


def test_without_groups_one_curve_is_drawn() -> None:
    found = calibration_section(make_table({}), make_cases(), SETTINGS | {"distance_unit": "voxels"}, {})
    assert found.classes[0].plot.count('class="curve') == 1
    assert "within 3 voxels" in render(found)
    assert not found.classes[0].attributes


def test_bins_of_few_patients_or_voxels_are_not_drawn() -> None:
    table = make_table({})
    record = table["calibration"][NAME]
    record["reliability"][0]["patients"] = 5
    record["reliability"][3]["weight"] = 0.0005
    plot = calibration_section(table, make_cases(), SETTINGS, {}).classes[0].plot
    (path,) = re.findall(r'class="curve" d="([^"]*)"', plot)
    assert path.count(" ") == 2


def test_without_maps_there_is_no_section() -> None:
    assert calibration_section({"role": "test"}, make_cases(), SETTINGS, {}) is None
    assert calibration_section({"role": "test", "calibration": {}}, make_cases(), SETTINGS, {}) is None


def test_points_lie_where_they_should() -> None:
    plot = reliability_plot([Curve("all", None, [(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)])], "A <title>")
    root = ElementTree.fromstring(plot)  # noqa: S314  our own
    diagonal = next(one.get("d") for one in root if one.get("class") == "diagonal")
    curve = next(one.get("d") for one in root if one.get("class") == "curve")
    low, high = (tuple(map(float, place.split())) for place in diagonal[1:].split("L"))
    places = [tuple(map(float, place.split())) for place in curve[1:].split("L")]
    assert places[0] == low
    assert places[2] == high
    assert places[1] == pytest.approx(((low[0] + high[0]) / 2, low[1] + (high[1] - low[1]) / 4))
    assert "all: 0.25 where 0.50 is expected" in plot


def test_one_patient_is_a_mark() -> None:
    plot = coverage_plot([(1.0, 0.3)], 0.3, "Risk & co", "title", "words")
    ElementTree.fromstring(plot)  # noqa: S314  our own
    assert 'class="mean"' in plot
