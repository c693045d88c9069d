"""The report in a real browser: its script runs, it fits the screen, it prints."""

import json
import re
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from equivox.reports.audit_page import render_audit
from equivox.reports.page import render_report

pytestmark = pytest.mark.browser

ACTIONS = """
    const box = one(".dots-box");
    box.dispatchEvent(key("ArrowRight"));
    const first = one("#tip").textContent;
    box.dispatchEvent(key("ArrowRight"));
    result.tips = [first, one("#tip").textContent];
    result.tipShown = !one("#tip").hidden;
    box.dispatchEvent(key("Escape"));
    result.tipGone = one("#tip").hidden;

    const viewer = one(".viewer");
    const slices = one(".slices");
    const start = slices.getAttribute("viewBox");
    viewer.dispatchEvent(key("ArrowDown"));
    result.scrolled = slices.getAttribute("viewBox") !== start;
    viewer.dispatchEvent(key("End"));
    const slider = one(".case input[type=range]");
    result.atEnd = slider.value === slider.max;
    result.slice = one(".case output").textContent;
    const turn = { deltaY: -100, bubbles: true, cancelable: true };
    viewer.dispatchEvent(new frame.contentWindow.WheelEvent("wheel", turn));
    result.wheeled = Number(slider.max) - Number(slider.value);
    one("[data-window=lung]").click();
    result.window = one(".case").dataset.window;
    one("[data-show=reference]").click();
    result.hidden = frame.contentWindow.getComputedStyle(one(".case path.reference")).display;

    const table = one("#metrics table");
    const column = Array.from(table.tHead.rows[0].cells).findIndex((cell) => cell.textContent === "Mean");
    const means = () => Array.from(table.tBodies[0].rows).map((row) => Number(row.cells[column].dataset.v));
    table.tHead.rows[0].cells[column].querySelector("button").click();
    result.rising = means();
    table.tHead.rows[0].cells[column].querySelector("button").click();
    result.falling = means();
    result.sorted = table.tHead.rows[0].cells[column].getAttribute("aria-sort");

    const saved = [];
    frame.contentWindow.URL.createObjectURL = (blob) => { saved.push(blob); return "#"; };
    frame.contentWindow.HTMLAnchorElement.prototype.click = () => {};
    for (const button of all("[data-save]")) {
      const before = saved.length;
      button.click();
      for (let wait = 0; saved.length === before && wait < 200; wait++) await new Promise((go) => setTimeout(go, 20));
    }
    result.saved = await Promise.all(saved.map((blob) => blob.text()));

    frame.contentWindow.dispatchEvent(new Event("beforeprint"));
    result.closedOnPaper = all("details:not([open])").length;
    frame.contentWindow.dispatchEvent(new Event("afterprint"));
    result.closedAfterwards = all("details:not([open])").length;
"""


@pytest.fixture(scope="module")
def report(example) -> str:
    return render_report(example.summary, example.cases, example.overlays)


def test_page_opens_from_disk_and_its_script_runs_without_an_error(chromium, report, tmp_path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report, encoding="utf-8")
    dom = chromium(page, "--virtual-time-budget=5000", "--dump-dom")
    body = re.search(r"<body[^>]*>", dom)[0]
    assert 'data-ready="1"' in body
    assert "data-error" not in body


@pytest.mark.parametrize("width", [390, 1280])
def test_page_never_scrolls_sideways(probe, report, tmp_path, width) -> None:
    result = probe(tmp_path, report, width)
    assert result["width"] == width
    assert result["scroll"] <= width, result["beyond"]
    assert result["beyond"] == []


def test_page_with_long_and_hostile_names_runs_no_foreign_script_and_fits_a_phone(probe, make, tmp_path) -> None:
    attributes = {
        "<script>document.title='x'</script>": (("a" * 200, "<img src=x onerror=alert(1)>"), (0.5, 0.4), "difference")
    }
    example = make(
        30,
        name="n" * 150,
        classes=("c" * 90,),
        attributes=attributes,
        case_names=lambda number: f"</script><script>document.body.dataset.error='owned'</script>{'y' * 120}{number}",
    )
    result = probe(tmp_path, render_report(example.summary, example.cases, example.overlays), 390)
    assert result["ready"] == "1"
    assert result["error"] is None
    assert result["scroll"] <= 390, result["beyond"]


def test_everything_that_can_be_pressed_works(probe, report, example, tmp_path) -> None:
    result = probe(tmp_path, report, 1280, ACTIONS)
    assert "failed" not in result, result.get("failed")
    assert result["error"] is None
    first, second = result["tips"]
    assert first != second
    assert all("Dice" in tip and "ml" in tip and tip.startswith("case_") for tip in result["tips"])
    assert result["tipShown"]
    assert result["tipGone"]
    assert result["scrolled"]
    assert result["atEnd"]
    assert re.fullmatch(r"slice \d+ of 20", result["slice"])
    assert result["wheeled"] == 1
    assert result["window"] == "lung"
    assert result["hidden"] == "none"
    assert result["rising"] == sorted(result["rising"])
    assert result["falling"] == sorted(result["rising"], reverse=True)
    assert result["sorted"] == "descending"
    assert result["saved"][0] == example.cases.to_csv(index=False)
    assert json.loads(result["saved"][1]) == json.loads(json.dumps(example.summary))
    assert result["closedOnPaper"] == 0
    assert result["closedAfterwards"] > 0


def test_page_prints_to_a4(chromium, report, tmp_path) -> None:
    page, pdf = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write_text(report, encoding="utf-8")
    chromium(page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    boxes = {
        tuple(round(float(one)) for one in found.split()) for found in re.findall(rb"/MediaBox \[([\d. ]+)\]", content)
    }
    assert boxes == {(0, 0, 595, 842)}
    assert content.count(b"/Type /Page\n") >= 5


def test_page_follows_the_dark_mode(chromium, report, tmp_path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report, encoding="utf-8")
    brightness = []
    for scheme in (1, 0):
        picture = tmp_path / f"{scheme}.png"
        chromium(
            page,
            f"--blink-settings=preferredColorScheme={scheme}",
            "--window-size=1000,1400",
            f"--screenshot={picture}",
        )
        with Image.open(picture) as shown:
            brightness.append(float(np.asarray(shown.convert("L")).mean()))
    light, dark = brightness
    assert light > 215
    assert dark < 60


def test_a_table_wider_than_a_phone_has_a_shade_where_it_goes_on(chromium, tmp_path) -> None:
    css = resources.files("equivox.reports").joinpath("templates/report.css").read_text(encoding="utf-8")
    style = "body { margin: 0; padding: 0; } .wide > div { height: 100px; }"
    boxes = "".join(f'<div class="wide"><div style="width: {width}px"></div></div>' for width in (900, 400))
    end = "<script>document.querySelector('.wide').scrollLeft = SCROLL</script>"
    shades = []
    for scroll in (0, 200, 400):
        page, picture = tmp_path / "page.html", tmp_path / "page.png"
        page.write_text(f"<style>{css}{style}</style>{boxes}{end.replace('SCROLL', str(scroll))}", encoding="utf-8")
        chromium(page, "--hide-scrollbars", "--window-size=500,400", f"--screenshot={picture}")
        with Image.open(picture) as shown:
            pixels = np.asarray(shown.convert("L"))
        # In the middle of each box, at its left and its right end.
        shades.append([bool(pixels[row, column] < 230) for row in (50, 150) for column in (0, 499)])
    assert shades == [[False, True, False, False], [True, True, False, False], [True, False, False, False]]


AUDIT_ACTIONS = """
    const table = one("#probes table");
    table.tHead.rows[0].cells[0].querySelector("button").click();
    result.sorted = Array.from(table.tBodies[0].rows).map((row) => row.cells[0].textContent);
    const saved = [];
    frame.contentWindow.URL.createObjectURL = (blob) => { saved.push(blob); return "#"; };
    frame.contentWindow.HTMLAnchorElement.prototype.click = () => {};
    for (const button of all("[data-save]")) {
      const before = saved.length;
      button.click();
      for (let wait = 0; saved.length === before && wait < 200; wait++) await new Promise((go) => setTimeout(go, 20));
    }
    result.saved = await Promise.all(saved.map((blob) => blob.text()));
    result.plots = all("#components svg.scatter, #available svg.mark").length;
    result.scrolling = all(".wide").filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.ariaLabel);
"""


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_of_an_audit_fits_sorts_and_saves(probe, make_audit_summary, tmp_path, width) -> None:
    summary, table = make_audit_summary(site="h" * 90), pd.DataFrame({"attribute": ["sex"], "score": [0.81]})
    result = probe(tmp_path, render_audit(summary, table), width, AUDIT_ACTIONS)
    assert "failed" not in result, result.get("failed")
    assert result["ready"] == "1"
    assert result["error"] is None
    assert result["scroll"] <= width, result["beyond"]
    assert result["beyond"] == []
    assert width < 1200 or result["scrolling"] == []
    assert result["sorted"] == sorted(result["sorted"])
    assert result["saved"][0] == table.to_csv(index=False)
    assert json.loads(result["saved"][1]) == json.loads(json.dumps(summary))
    # Six marks of sex (with other sites), five each of site and age; four plots of components.
    assert result["plots"] == 20
