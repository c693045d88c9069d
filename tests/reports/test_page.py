"""The page as text: what it says, and what it can never do."""

import base64
import copy
import gzip
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from equivox.reports import write_report
from equivox.reports.embedding import embedded_json
from equivox.reports.page import render_report

HOSTILE = "<script>alert(1)</script>"


class _Reader(HTMLParser):
    """Collects tags with their attributes, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.visible: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data) -> None:
        if self._inside:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        else:
            self.visible.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.visible))

    def data(self, name: str) -> str:
        return next(text for attributes, text in self.scripts if attributes.get("id") == name)


def _flat(case):
    """The middle slice of a case of the gallery, as a picture of one slice."""
    middle = case.image.shape[2] // 2
    sides = {name: getattr(case, name)[:, :, [middle]] for name in ("image", "reference", "prediction")}
    return replace(case, **sides)


def test_a_single_slice_has_nothing_to_scroll(example) -> None:
    flat = _Reader(render_report(example.summary, example.cases, [_flat(example.overlays[1])]))
    (slider,) = [attributes for tag, attributes in flat.tags if attributes.get("type") == "range"]
    (label,) = [attributes for tag, attributes in flat.tags if attributes.get("class") == "slide"]
    (viewer,) = [attributes for tag, attributes in flat.tags if attributes.get("class") == "viewer"]
    assert "hidden" in slider
    assert "hidden" in label
    assert "tabindex" not in viewer
    assert "arrow keys" not in viewer["aria-label"]
    assert "Scroll through the slices" not in flat.text
    # Beside one that has slices it stays hidden, and the other does not.
    both = _Reader(render_report(example.summary, example.cases, [_flat(example.overlays[1]), example.overlays[2]]))
    assert ["hidden" in one for tag, one in both.tags if one.get("type") == "range"] == [True, False]
    assert "Scroll through the slices" in both.text


def test_the_worst_decile_of_a_signed_error_is_told_to_be_that_of_its_size(example) -> None:
    text = render_report(example.summary, example.cases, [])
    (row,) = re.findall(r"<th scope=\"row\">Volume error</th><td>all classes</td>.*?</tr>", text, flags=re.DOTALL)[:1]
    assert row.count(">±") == 1
    assert "The worst decile of a signed error, written ±, is that of its size" in text
    (dice,) = re.findall(r"<th scope=\"row\">Dice</th><td>all classes</td>.*?</tr>", text, flags=re.DOTALL)[:1]
    assert "±" not in dice


@pytest.fixture(scope="module")
def reader(example) -> _Reader:
    return _Reader(render_report(example.summary, example.cases, example.overlays))


def _render(example) -> _Reader:
    return _Reader(render_report(example.summary, example.cases, example.overlays))


def test_report_is_written_whole_or_not_at_all(example, page) -> None:
    write_report(page, **example.arguments())
    before = page.read_bytes()
    broken = copy.deepcopy(example)
    del broken.summary["settings"]
    with pytest.raises(KeyError):
        write_report(page, **broken.arguments())
    assert page.read_bytes() == before
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


def test_parts_come_in_the_order_that_readers_were_promised(reader) -> None:
    parts = [attributes["id"] for tag, attributes in reader.tags if tag == "section"]
    expected = [
        "verdict",
        "groups",
        "distributions",
        "failures",
        "classes",
        "metrics",
        "table-1",
        "left-out",
        "methods",
    ]
    assert parts == expected


def test_head_says_what_was_scored_and_that_it_is_for_research(reader, example) -> None:
    for words in (
        "Gliomas of five hospitals",
        "unetpp",
        "2026-11-23",
        "equivox 0.1.0",
        "For research, not for clinical use.",
    ):
        assert words in reader.text
    cohort = example.summary["cohort"]
    assert cohort["patients"] != cohort["cases"]
    assert re.search(rf"Patients\s+{cohort['patients']}\s+Cases\s+{cohort['cases']}\b", reader.text)


def test_each_attribute_has_one_of_four_answers_in_words(reader, example) -> None:
    answers = {
        "difference": "Evidence of a difference",
        "ruled_out": "A difference larger than 0.05 is ruled out",
        "no_evidence": "No evidence of a difference",
        "cannot_say": "Cannot say",
    }
    assert {one["verdict"]["answer"] for one in example.summary["tables"][0]["attributes"]} == set(answers)
    for words in answers.values():
        assert words in reader.text


def test_sentences_of_the_summary_are_kept_without_saying_the_answer_twice(reader, example) -> None:
    sentence = example.summary["tables"][0]["attributes"][2]["verdict"]["sentence"]
    assert sentence == "Cannot say: fewer than 10 patients in 'Delft' (4). About 30 of it would be needed."
    assert "Cannot say Fewer than 10 patients in 'Delft' (4)." in reader.text


def test_page_asks_for_nothing_but_itself(reader) -> None:
    policy = next(
        a["content"] for t, a in reader.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    wanted = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    assert policy.startswith(wanted)
    for tag, attributes in reader.tags:
        for name, value in attributes.items():
            if name in ("href", "src", "xlink:href", "action", "srcset", "poster", "data"):
                assert value.startswith(("#", "data:image/webp;base64,")), (tag, name, value[:60])
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
    for attributes, text in reader.scripts:
        if attributes.get("type") != "application/json":
            assert "url(http" not in text
            assert "@import" not in text
            assert "fetch(" not in text


def test_page_has_no_address_of_the_web(example) -> None:
    text = render_report(example.summary, example.cases, example.overlays)
    # The name of the SVG namespace in the script is no address that is ever opened.
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text.replace("http://www.w3.org/2000/svg", "")) == []


def test_nothing_from_files_becomes_markup(make) -> None:
    attributes = {
        "<b>race</b>": ((HOSTILE, "very long name " * 20, 'it\'s & "quoted"'), (0.4, 0.3, 0.2), "difference"),
        "x" * 300: (("a", "b"), (0.5, 0.4), "no_evidence"),
    }
    names = (HOSTILE, "</script><!--", "'\"><img src=x onerror=alert(1)>", "]]>", "{{ 7 * 7 }}", "\u2028line")
    example = make(
        40,
        name=HOSTILE,
        classes=(HOSTILE, "</style>"),
        attributes=attributes,
        case_names=lambda number: f"{names[number % len(names)]}{number}",
    )
    example.summary["model"]["name"] = "</title><script>alert(2)</script>"
    example.summary["left_out"]["excluded_cases"] = [{"case_id": "<img src=x>", "reason": HOSTILE}]
    example.summary["methods"] = {HOSTILE: [HOSTILE, {"<i>": HOSTILE}]}
    plain = make(
        40, name="plain", classes=("one", "two"), attributes={"race": (("a", "b", "c"), (0.4, 0.3, 0.2), "difference")}
    )
    hostile, harmless = _render(example), _render(plain)
    kinds = {"script", "style", "img", "b", "i"}
    scripts = [attributes.get("type") for tag, attributes in hostile.tags if tag == "script"]
    assert scripts == [attributes.get("type") for tag, attributes in harmless.tags if tag == "script"]
    assert {tag for tag, _ in hostile.tags} - {tag for tag, _ in harmless.tags} <= {"p"}
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)
    assert kinds & {tag for tag, _ in hostile.tags} == {"script", "style", "b"}
    assert HOSTILE in hostile.text
    assert "{{ 7 * 7 }}" in hostile.data("hover-data")


def test_data_in_the_page_are_what_was_given(reader, example) -> None:
    assert json.loads(reader.data("summary-data")) == json.loads(json.dumps(example.summary))
    saved = gzip.decompress(base64.b64decode(reader.data("cases-data"))).decode("utf-8")
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(saved)), pd.read_csv(io.StringIO(example.cases.to_csv(index=False)))
    )
    hover = json.loads(reader.data("hover-data"))
    assert hover["id"] == list(dict.fromkeys(example.cases["case_id"]))
    assert hover["heads"] == ["Reference volume", "Dice", "NSD", "HD95"]


def test_embedded_json_cannot_end_its_element() -> None:
    value = {"a": "</script><!-- ]]> & \u2028", "b": [float("nan"), float("inf"), 1.5]}
    text = str(embedded_json(value))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": value["a"], "b": [None, None, 1.5]}


def test_every_mark_is_one_case_of_the_headline(reader, example) -> None:
    hover = json.loads(reader.data("hover-data"))
    scored = example.cases[(example.cases["role"] == "test") & example.cases["dice"].notna()]["case_id"].unique()
    plots = [a["data-cases"] for t, a in reader.tags if t == "path" and "data-cases" in a]
    strips = " ".join(plots).split()
    # Four attributes, two plots each, in the headline; then those of the second table.
    of_test = [hover["id"][int(index)] for index in strips if hover["id"][int(index)] in set(scored)]
    assert sorted(of_test) == sorted([*scored] * 8)


def test_overall_mean_reads_the_same_in_card_and_tables(reader, example) -> None:
    record = example.summary["tables"][0]["overall"]["dice"]
    written = f"{record['mean']:.2f}"
    span = f"{record['low']:.2f} to {record['high']:.2f}"
    assert f"{written} mean Dice 95 % interval {span}" in reader.text
    assert re.search(rf"Dice all classes – {written} {span}", reader.text)


def test_numbers_of_a_group_read_the_same_in_sentence_plot_and_table(reader, example) -> None:
    contrast = min(example.summary["tables"][0]["attributes"][1]["contrasts"], key=lambda one: one["difference"])
    low, high = (f"{contrast[key]:+.2f}".replace("-", "−") for key in ("low", "high"))
    assert contrast["high"] - contrast["low"] > 0.02
    # The sentence; the table; the title of the marks in the card and in the table is an element of its own.
    assert reader.text.count(f"{low} to {high}") >= 4
    assert f"{contrast['low']:+.2f} to" not in reader.text


def test_narrow_intervals_have_three_decimals_and_wide_ones_two(make) -> None:
    example = make(900, overlays=False, attributes={})
    record = example.summary["tables"][0]["overall"]["dice"]
    assert record["high"] - record["low"] < 0.02
    assert f"{record['mean']:.3f} mean Dice" in _render(example).text


def test_counts_of_groups_have_their_thousands_set_apart_like_all_others(make) -> None:
    example = make(40, overlays=False)
    example.summary["tables"][0]["attributes"][0]["groups"][0]["patients"] = 12345
    assert "12,345" in _render(example).text
    assert "12345 " not in _render(example).text


def test_nominal_voxel_sizes_leave_no_millimetre_and_no_millilitre_on_the_page(make) -> None:
    example = make(40, voxels=True)
    text = render_report(example.summary, example.cases, example.overlays)
    reader = _Reader(text)
    unit = re.compile(r"(?<![A-Za-z])(mm|ml|mL|mm2|mm²|mm3|cm3|millimet\w+|millilit\w+)(?![A-Za-z])")
    assert unit.findall(reader.text) == []
    assert unit.findall(reader.data("hover-data") + reader.data("summary-data")) == []
    for _, attributes in reader.tags:
        shown = " ".join(attributes.get(name) or "" for name in ("aria-label", "title", "alt", "content"))
        assert unit.findall(shown) == []
    assert "voxels" in reader.text
    assert "as the voxel sizes in the files are not real" in reader.text


def test_known_voxel_sizes_give_every_distance_and_volume_its_unit(reader) -> None:
    assert re.search(r"Median HD95 [\d.]+ mm", reader.text)
    assert re.search(r"HD95 all classes mm", reader.text)
    assert re.search(r"Volume error all classes ml", reader.text)


def test_errors_of_volume_have_a_sign_and_volumes_have_none(example) -> None:
    case = example.overlays[2].case_id
    rows = example.cases[example.cases["case_id"] == case]
    scored = rows[(rows["outcome"] == "scored") & (rows["volume_error_ml"].abs() > 0.1)].iloc[0]
    text = _render(example).text
    gallery = text[text.index("Where it fails", 400) :]
    sizes = [
        f"{scored[name]:.1f}" if scored[name] >= 10 else f"{scored[name]:.2f}"
        for name in ("reference_ml", "prediction_ml")
    ]
    assert f"{scored['class']} {scored['dice']:.2f}" in gallery
    assert f" {sizes[0]} {sizes[1]} " in gallery
    assert "+" not in re.search(rf"{scored['class']} {scored['dice']:.2f}.{{0,60}}", gallery)[0]
    whole = rows["volume_error_ml"].astype(float).mean()
    listed = re.search(rf"{case} (?:test|out of fold) (.{{0,80}})", text)[1]
    assert f"{abs(whole):.2f}" in listed
    assert f"{'−' if whole < 0 else '+'}{abs(whole):.2f}" in listed


def test_areas_of_two_dimensional_images_are_no_volumes(make) -> None:
    example = make(20, overlays=False)
    example.summary["settings"]["volume_unit"] = "mm2"
    example.cases.columns = [column.replace("_ml", "_mm2") for column in example.cases.columns]
    text = _render(example).text
    assert "Reference area (mm²)" in text
    assert "mm2" not in text


def test_page_never_gives_a_clean_bill_in_its_own_words(reader) -> None:
    for word in ("fair", "unbiased", "safe", "unfair", "fairness"):
        assert not re.search(rf"\b{word}\b", reader.text, re.IGNORECASE), word


def test_spread_stands_beside_chance_and_without_an_interval(reader) -> None:
    for words in ("What chance alone gives", "Excess", "Equity-scaled score, sum form (es_sum)"):
        assert words in reader.text


def test_small_groups_have_no_interval_and_are_greyed_with_their_number(reader, example) -> None:
    delft = example.summary["tables"][0]["attributes"][2]["groups"][3]
    assert delft["small"]
    row = (
        rf"Delft {delft['patients']} {delft['cases']} {delft['mean']:.2f} Delft: mean {delft['mean']:.2f}, no interval"
    )
    assert re.search(row, reader.text)
    assert "not judged: fewer than 10 patients" in reader.text
    assert any(tag == "tr" and attributes.get("class") == "small" for tag, attributes in reader.tags)


def test_what_is_left_out_is_counted_and_named(reader, example) -> None:
    text = reader.text
    assert re.search(r"Excluded cases 1 not scored", text)
    assert "label value 7 is no class" in text
    assert re.search(r"Missing predictions 2 without a prediction", text)
    assert "case_902" in text
    assert re.search(r"Extra predictions None", text)
    unknown = example.summary["left_out"]["unknown_group"]["sex"]
    assert f"Unknown sex {unknown} patient" in text


def test_counts_stand_beside_every_mean_of_a_class(reader, example) -> None:
    record = example.summary["tables"][0]["by_class"]["edema"]["metrics"]["dice"]
    used, empty, penalised = (record[key] for key in ("cases_used", "cases_both_empty", "cases_penalised"))
    # None of the cases is without a Dice for another reason.
    counts = f"{used} {empty} 0 {penalised}"
    assert len(re.findall(rf"edema .{{0,140}}{counts}", reader.text)) >= 2


def test_ids_and_headings_are_unique(reader) -> None:
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert sum(tag == "h1" for tag, _ in reader.tags) == 1
    targets = {a["href"][1:] for t, a in reader.tags if t in ("a", "use") and a.get("href", "").startswith("#")}
    assert targets <= set(ids)


def test_every_plot_says_what_it_is_to_those_who_do_not_see_it(reader) -> None:
    for tag, attributes in reader.tags:
        if tag == "svg":
            assert attributes.get("role") == "img" or attributes.get("aria-hidden") == "true" or attributes.get("x")
        if attributes.get("tabindex") == "0":
            assert attributes.get("aria-label")


def _luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("which", [0, 1])
def test_text_has_the_contrast_of_wcag_aa_in_the_light_and_in_the_dark_page(reader, which) -> None:
    style = next(text for _, text in reader.scripts if "--paper" in text)
    colours = re.findall(r"--paper:[^}]*", style)[which]
    found = dict(re.findall(r"--(\w+):\s*(#[0-9a-f]{6})", colours))
    for name in ("ink", "soft", "link", "alarm", "bound", "open"):
        for ground in ("paper", "band"):
            light, dark = sorted((_luminance(found[name]), _luminance(found[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground)


def test_images_are_in_the_page_once(example, reader) -> None:
    pictures = [attributes["href"] for tag, attributes in reader.tags if tag == "image"]
    assert len(pictures) == len(set(pictures)) == 3


def test_page_of_a_hundred_cases_is_small(example, page) -> None:
    write_report(page, **example.arguments())
    assert page.stat().st_size < 3_000_000


def test_page_of_five_thousand_cases_is_a_few_megabytes(make) -> None:
    example = make(4170, overlays=False)
    assert example.summary["cohort"]["cases"] > 5000
    text = render_report(example.summary, example.cases, [])
    assert len(text.encode()) < 6_000_000
    assert "The 200 worst of 5,004 cases" in _Reader(text).text


def _without_numbers(table: dict) -> None:
    for record in [*table["overall"].values(), *(m for c in table["by_class"].values() for m in c["metrics"].values())]:
        record.update(dict.fromkeys(("mean", "low", "high", "median", "worst_decile")))
    table["failure_rate"] = {"value": None, "low": None, "high": None}
    for attribute in table["attributes"]:
        attribute["spread"] = None
        attribute["contrasts"] = []
        sentence = "Cannot say: no patient has both a known group and a score."
        attribute["verdict"] = {"answer": "cannot_say", "sentence": sentence}
        for group in attribute["groups"]:
            group.update(dict.fromkeys(("mean", "low", "high", "median", "worst_decile", "failure_rate")), patients=0)


def test_a_table_without_any_number_still_makes_a_page(make) -> None:
    example = make(12, overlays=False)
    for table in example.summary["tables"]:
        _without_numbers(table)
    example.cases["dice"] = None
    text = _render(example).text
    assert "No patient has both a known group and a score." in text
    assert "nan" not in text.lower().replace("nancy", "")
    assert "None None" not in text


@pytest.mark.parametrize(
    "what", ["no attributes", "no images", "no tables", "no groups", "one patient", "nothing else"]
)
def test_what_is_missing_is_said_and_nothing_breaks(make, what) -> None:
    example = make(
        1 if what == "one patient" else 15,
        overlays=what == "one patient",
        attributes={} if what == "no attributes" else None,
    )
    if what == "no tables":
        example.summary["tables"] = []
        example.cases = example.cases.iloc[:0]
    elif what == "no groups":
        for table in example.summary["tables"]:
            for attribute in table["attributes"]:
                attribute["groups"], attribute["contrasts"], attribute["spread"] = [], [], None
            table["intersections"] = []
    elif what == "nothing else":
        example.summary["methods"] = {}
        example.summary["model"] = {}
        example.summary["left_out"] = {}
    text = _render(example).text
    said = {
        "no attributes": "nothing is said about groups",
        "no images": "none are shown",
        "no tables": "No case could be scored",
        "no groups": "No patient has both a known group and a score.",
        "one patient": "1 patient",
        "nothing else": "not stated",
    }
    assert said[what] in text


def test_a_case_whose_image_could_not_be_read_is_shown_with_its_contours_and_said_so(make) -> None:
    example = make(15)
    blank = example.overlays[0]
    object.__setattr__(blank, "image", blank.image * 0)
    assert "There is no image to show; the contours are" in _render(example).text


def test_group_names_keep_their_minus_in_a_sentence(make) -> None:
    example = make(40, overlays=False, attributes={"contrast": (("-5", "x -3"), (0.5, 0.5), "difference")})
    verdict = example.summary["tables"][0]["attributes"][0]["verdict"]
    verdict["sentence"] = "Evidence of a difference: '-5' scores lower than 'x -3' (-0.08 to -0.01)."
    assert "'-5' scores lower than 'x -3' (−0.08 to −0.01)." in _render(example).text


def test_a_comparison_within_sites_says_so(make) -> None:
    example = make()
    attribute = example.summary["tables"][0]["attributes"][0]
    for contrast in attribute["contrasts"]:
        contrast["within"] = "site <A>"
    text = render_report(example.summary, example.cases, [])
    assert "Difference to the rest within site &lt;A&gt;" in text
