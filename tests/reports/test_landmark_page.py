"""The page of landmarks: what it shows, and that it opens in a browser whatever the names are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equivox.pipelines.evaluate_landmarks import LandmarkEvaluation, evaluate_landmarks
from equivox.pipelines.landmark_evaluation.options import LandmarkOptions


def evaluated(folder: Path, *, case: str = "c", landmark: str = "tip", group: str = "F", **options: Any) -> str:
    """Return the page of 24 patients with two landmarks, one of them missed in every eighth."""
    rng = np.random.default_rng(0)
    truth, guess, people = ["case_id,landmark,x,y"], ["case_id,landmark,x,y"], ["case_id,sex"]
    for number in range(24):
        people.append(f"{case}{number},{(group, 'M')[number % 2]}")
        for name, places in ((landmark, (0, 0)), ("base", (20, 5))):
            x, y = places + rng.normal(0, 1, 2)
            truth.append(f"{case}{number},{name},{places[0]},{places[1]}")
            lost = name == "base" and number % 8 == 0
            guess.append(f"{case}{number},{name},,") if lost else guess.append(f"{case}{number},{name},{x:.2f},{y:.2f}")
    paths = [folder / f"{name}.csv" for name in ("truth", "guess", "people")]
    for path, lines in zip(paths, (truth, guess, people), strict=True):
        path.write_text("\n".join(lines), encoding="utf-8")
    found: LandmarkEvaluation = evaluate_landmarks(
        *(paths[0], paths[1], folder / "out"),
        groups=paths[2],
        attributes=["sex"],
        options=LandmarkOptions(bootstrap_draws=199, permutation_draws=199, **options),
    )
    return (found.folder / "report.html").read_text(encoding="utf-8")


def test_missed_landmarks_stand_beside_the_mean(tmp_path: Path) -> None:
    page = evaluated(tmp_path)
    assert "<dt>Missed landmarks</dt><dd>3 " in page
    assert "3 of 48: without an error, and a failure at every radius" in page
    assert "24 of 24 patients have an error</span>" in page


def test_the_margin_is_shown_where_there_is_one(tmp_path: Path) -> None:
    page = evaluated(tmp_path, margin=5.0)
    assert page.count("Inside ±5 mm</th>") == 1
    assert page.count('<td class="r">yes</td>') == 2
    assert "The band is the margin of ±5 mm" in page


@pytest.mark.browser
def test_the_page_opens_on_a_phone_whatever_the_names_are(probe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    page = evaluated(
        tmp_path,
        case="</script><script>document.body.dataset.error='owned'</script>" + "n" * 120,
        landmark="<img src=x onerror=alert(1)>" + "l" * 120,
        group="F" * 120,
        margin=0.5,
    )
    saving = """
      const saved = [];
      frame.contentWindow.URL.createObjectURL = (blob) => { saved.push(blob); return "#"; };
      frame.contentWindow.HTMLAnchorElement.prototype.click = () => {};
      one("[data-save=summary]").click();
      for (let wait = 0; !saved.length && wait < 200; wait++) await new Promise((go) => setTimeout(go, 20));
      result.saved = await saved[0].text();
      one("#landmarks thead button").click();
      result.sorted = one("#landmarks thead th").getAttribute("aria-sort");
    """
    result = probe(tmp_path, page, 390, saving)
    assert "failed" not in result, result.get("failed")
    assert (result["ready"], result["error"]) == ("1", None)
    assert result["scroll"] <= 390, result["beyond"]
    assert result["beyond"] == []
    assert result["sorted"] == "ascending"
    assert json.loads(result["saved"]) == json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
