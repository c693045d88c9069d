"""Our measures between groups against those that fairlearn and the code of FairSeg gave for stored scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equivox.metrics.fairness.equity import es_std, es_sum, spread
from equivox.metrics.fairness.parity import (
    difference_between_groups,
    difference_to_overall,
    ratio_between_groups,
    ratio_to_overall,
)

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def vectors(real_data: Path) -> tuple[np.ndarray, list[str], dict[str, Any]]:
    folder = real_data.parent / "vectors"
    with np.load(folder / "fairlearn.npz") as stored:
        dice, groups = stored["dice"], stored["group"].tolist()
    expected: dict[str, Any] = json.loads((folder / "fairlearn.json").read_text(encoding="utf-8"))
    return dice, groups, expected


def test_differences_and_ratios_are_those_of_fairlearn(vectors: tuple[np.ndarray, list[str], dict[str, Any]]) -> None:
    dice, groups, expected = vectors
    overall = float(dice.mean())
    means = [float(dice[[group == name for group in groups]].mean()) for name in "ABC"]
    assert means == pytest.approx([expected["by_group"][name] for name in "ABC"], abs=1e-12)
    assert overall == pytest.approx(expected["overall"], abs=1e-12)
    assert difference_between_groups(means) == pytest.approx(expected["diff_between"], abs=1e-12)
    assert difference_to_overall(means, overall) == pytest.approx(expected["diff_overall"], abs=1e-12)
    assert ratio_between_groups(means) == pytest.approx(expected["ratio_between"], abs=1e-12)
    assert ratio_to_overall(means, overall) == pytest.approx(expected["ratio_overall"], abs=1e-12)
    assert es_sum(means, overall) == pytest.approx(expected["ES_sumabs"], abs=1e-12)
    assert es_std(means, overall) == pytest.approx(expected["ES_std_ddof1"], abs=1e-12)


def test_what_chance_alone_gives_is_near_the_stored_figure(
    vectors: tuple[np.ndarray, list[str], dict[str, Any]],
) -> None:
    dice, groups, expected = vectors
    found = spread(dice, groups)
    assert found is not None
    # The stored figure is the mean sum of gaps; that of the score is nearly the score of it.
    null = float(dice.mean()) / (1 + expected["null_sumabs_gap_mean_under_permutation"])
    assert found.measures["es_sum"].permutation_mean == pytest.approx(null, abs=2e-3)
    assert found.measures["es_sum"].value == pytest.approx(expected["ES_sumabs"], abs=1e-12)


def test_equity_scaled_scores_are_those_of_the_published_code(real_data: Path) -> None:
    stored = json.loads((real_data.parent / "vectors" / "fairseg.json").read_text(encoding="utf-8"))["es"]
    means = [float(np.mean(values)) for values in stored["groups"]]
    assert es_sum(means, stored["overall"]) == pytest.approx(stored["es_sumabs"], abs=1e-12)
    assert es_std(means, stored["overall"]) == pytest.approx(stored["es_std(sample,ddof=1)"], abs=1e-12)
