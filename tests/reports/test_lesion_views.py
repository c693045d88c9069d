"""The section on lesions."""

import re
from xml.etree import ElementTree

import jinja2
import numpy as np
import pytest

from equivox.datasets.cohort import AttributeConfig
from equivox.metrics.lesions.detection_summary import IntervalSettings
from equivox.metrics.lesions.froc import CaseCandidates
from equivox.metrics.lesions.options import LesionOptions
from equivox.pipelines.evaluation.lesions import describe_lesions, lesions_of_case, summarise_lesions
from equivox.reports.document import words
from equivox.reports.froc_plot import froc_plot
from equivox.reports.lesion_views import LesionSection, lesion_section
from equivox.reports.numbers import number

SETTINGS = {"distance_unit": "mm", "volume_unit": "ml", "confidence": 0.95, "minimum_group": 10}
NAMES = ("node", "<b>cyst</b>")


def make_lesions(patients: int = 30, *, in_voxels: bool = False, with_froc: bool = True) -> dict:
    """Return the summary of lesions in made-up strips: each found, in part, by chance."""
    rng = np.random.default_rng(0)
    cases, candidates = {}, {}
    for number_ in range(patients):
        truth = np.zeros((60, 6, 2), dtype=np.uint8)
        for place in range(3, 55, 13):
            if rng.random() < 0.7:
                length = int(rng.integers(1, 11))
                truth[place : place + length, 2 : 2 + int(rng.integers(1, 4)), 0] = rng.integers(1, 3)
        guess = np.where(rng.random((60, 1, 1)) < 0.75, truth, 0).astype(np.uint8)
        guess[58, 5, 1] = rng.integers(0, 3)
        cases[f"c{number_}"] = lesions_of_case(
            truth,
            guess,
            classes={NAMES[0]: 1, NAMES[1]: 2},
            spacing_mm=(2.0, 3.0, 5.0),
            options=LesionOptions(minimum_volume_mm3=2.0 if in_voxels else 31.0),
            in_voxels=in_voxels,
        )
        candidates[f"c{number_}"] = CaseCandidates(rng.random(2), 0.8 * rng.random(6))
    people = {case: case.replace("c", "p") for case in cases}
    return summarise_lesions(
        cases,
        people,
        groups={"sex": {person: "FM"[place % 3 == 0] for place, person in enumerate(people.values())}},
        attributes={"sex": AttributeConfig()},
        options=LesionOptions(),
        in_voxels=in_voxels,
        intervals=IntervalSettings(draws=199),
        candidates={NAMES[0]: candidates} if with_froc else None,
    )


def render(section: LesionSection) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("equivox.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = words
    environment.filters["counted"] = lambda count: number(count, 0)
    template = '{% from "lesions.html.j2" import lesion_section %}{{ lesion_section(section) }}'
    return environment.from_string(template).render(section=section)


@pytest.fixture(scope="module")
def lesions() -> dict:
    return make_lesions()


def test_the_section_shows_the_numbers_of_the_summary(lesions) -> None:
    sentences = describe_lesions(LesionOptions(), volume_unit="ml", length_unit="mm")
    html = render(lesion_section(lesions, SETTINGS, sentences))
    overall = lesions["node"]["overall"]
    assert f'<td class="r num">{overall["lesions"]}</td><td class="r num">{overall["found"]}</td>' in html
    assert f"{overall['recall']['value']:.2f}" in html
    assert "Lesions are connected components" in html
    assert "By short axis" in html
    assert "10 to below 15 mm" in html
    assert "By thirds of volume" in html
    assert "mm³ and more" in html
    # Names come from files.
    assert "<b>cyst" not in html
    assert "&lt;b&gt;cyst" in html


def test_every_table_and_plot_can_be_read_aloud(lesions) -> None:
    html = render(lesion_section(lesions, SETTINGS))
    assert html.count("<table") == html.count("<caption")
    for svg in re.findall(r"<svg[^>]*role=\"img\".*?</svg>", html, flags=re.DOTALL):
        assert "<title>" in svg
    assert html.count("<table") == html.count("</table>")
    assert html.count("<details") == html.count("</details>")
    # Each row has as many cells as its head.
    for table in re.findall(r"<table.*?</table>", html, flags=re.DOTALL):
        rows = [len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)]
        body = rows[: -1 if "<tfoot" in table else None]
        assert len(set(body)) == 1


def test_nothing_in_mm_where_sizes_are_not_real() -> None:
    lesions = make_lesions(12, in_voxels=True, with_froc=False)
    settings = SETTINGS | {"distance_unit": "voxels", "volume_unit": "voxels"}
    sentences = describe_lesions(LesionOptions(minimum_volume_mm3=5), volume_unit="voxels", length_unit="voxels")
    html = render(lesion_section(lesions, settings, sentences))
    assert "voxels and more" in html
    assert not re.search(r"\bmm|\bml\b|mm³", html)
    assert "FROC" not in html


def test_groups_with_few_patients_are_grey_and_have_no_interval() -> None:
    section = lesion_section(make_lesions(18), SETTINGS)
    ((_, (female, male)),) = section.classes[0].groups
    assert (female.patients, male.patients) == (12, 6)
    assert male.small
    assert male.recall.interval == ""
    assert 'tr class="small"><th scope="row">M' in render(section)


def test_no_class_no_section() -> None:
    assert lesion_section({}, SETTINGS) is None


def test_what_is_not_defined_is_a_dash() -> None:
    nothing = np.zeros((4, 4, 2), dtype=np.uint8)
    case = lesions_of_case(
        nothing, nothing, classes={"node": 1}, spacing_mm=(1.0, 2.0, 3.0), options=LesionOptions(), in_voxels=False
    )
    lesions = summarise_lesions(
        {"c": case},
        {"c": "p"},
        groups={},
        attributes={},
        options=LesionOptions(),
        in_voxels=False,
        intervals=IntervalSettings(draws=199),
    )
    section = lesion_section(lesions, SETTINGS)
    assert section.classes[0].overall.recall.text == "–"
    assert "1 case without a lesion, in which none was claimed either" in render(section)


def test_the_curve_is_drawn_as_steps_by_hand() -> None:
    # From 1/8 to 8 the axis doubles six times over 482 units from 46; 0 is at 244 and 1 at 24.
    # Sensitivity .5 at no false positive; .75 from 1/2 on (2 of 6 doublings: 46 + 160.7); 1 at 16, not drawn.
    froc = {
        "points": [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0],
        "sensitivity": [0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75],
        "curve": [[0.0, 0.0], [0.0, 0.5], [0.5, 0.75], [16.0, 1.0]],
    }
    svg = str(froc_plot(froc, "FROC of <node>"))
    assert re.search(r'class="span" d="([^"]+)"', svg)[1] == "M46 134.0H206.7V79.0H528"
    root = ElementTree.fromstring(svg)  # noqa: S314  our own
    assert root[0].text == "FROC of <node>"
    assert "0.50 at 1/8, 0.50 at 1/4, 0.75 at 1/2" in root[1].text
    assert svg.count('class="mean"') == 7
