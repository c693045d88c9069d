"""Slices of stored errors as the published library finds them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from equivox.metrics.fairness.slices import discover_slices, find_slices

pytestmark = pytest.mark.real

COLUMNS = ("site", "scanner", "sex", "age_bin")


@pytest.fixture(scope="module")
def stored(real_data: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    folder = real_data.parent / "vectors"
    table = pd.read_csv(folder / "slices.csv", dtype=dict.fromkeys(COLUMNS, str))
    expected: dict[str, Any] = json.loads((folder / "slices.json").read_text(encoding="utf-8"))
    return table, expected


def test_the_best_slices_and_their_scores_are_those_of_the_library(stored: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    table, expected = stored
    columns = {name: table[name].tolist() for name in COLUMNS}
    found = find_slices(table["err"].to_numpy(), columns, alpha=0.95, most=3)
    assert len(found) == 3
    for one, theirs in zip(found, expected["alpha0.95"], strict=True):
        named = dict(one.predicates)
        assert [named.get(name) for name in COLUMNS] == theirs["slice"]
        assert one.score == pytest.approx(theirs["slice_score"], abs=1e-12)
        assert one.patients == theirs["slice_size"]
        assert one.mean == pytest.approx(theirs["slice_average_error"], abs=1e-12)


def test_the_score_is_the_formula(stored: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    table, expected = stored
    inside = table[(table["site"] == "C") & (table["age_bin"] == ">60")]["err"]
    n, mean = len(table), table["err"].mean()
    for alpha in (0.6, 0.95):
        score = alpha * (inside.mean() / mean - 1) - (1 - alpha) * (n / len(inside) - 1)
        assert score == pytest.approx(expected[f"analytic_score_planted_alpha{alpha:g}"], abs=1e-12)


def test_at_the_librarys_own_alpha_the_planted_slice_is_not_found(stored: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    table, expected = stored
    assert expected["alpha0.6"] == []
    assert find_slices(table["err"].to_numpy(), {name: table[name].tolist() for name in COLUMNS}, alpha=0.6) == ()


def test_the_planted_slice_is_found_on_one_half_and_confirmed_on_the_other(
    stored: tuple[pd.DataFrame, dict[str, Any]],
) -> None:
    table, _ = stored
    search = discover_slices(
        table["err"].to_numpy(), {name: table[name].tolist() for name in COLUMNS}, draws=999, bootstrap_draws=499
    )
    assert search.slices[0].predicates == (("site", "C"), ("age_bin", ">60"))
    assert search.slices[0].confirmed
