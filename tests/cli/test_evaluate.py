"""`equivox evaluate` as it is typed."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from equivox.cli.evaluate import evaluate
from equivox.errors import InputError
from equivox.volume import Volume, write_label_map

Run = Callable[..., Result]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Twelve patients, two a site: references, predictions and people.csv."""
    affine = np.diag([0.5, 1.0, 3.0, 1.0])
    rows = []
    for index in range(12):
        for kind, depth in (("refs", 6), ("preds", 5 + index % 2)):
            labels = np.zeros((4, 5, 8), dtype=np.uint8)
            labels[1:3, 1:4, :depth] = 1
            path = tmp_path / kind / f"c{index}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            write_label_map(labels, Volume(np.zeros((1, 4, 5, 8), dtype=np.float32), affine), path)
        rows.append({"id": f"c{index}", "who": f"p{index}", "sex": "FM"[index % 2], "age": 30 + index})
    pd.DataFrame(rows).to_csv(tmp_path / "people.csv", index=False)
    return tmp_path


@pytest.fixture
def run(folders: Path) -> Run:
    app = typer.Typer()
    app.command()(evaluate)

    def call(*arguments: str) -> Result:
        base = ["--references", str(folders / "refs"), "--predictions", str(folders / "preds")]
        base += ["--bootstrap-draws", "199", "--permutation-draws", "199"]
        return CliRunner().invoke(app, [*base, "-o", str(folders / "eval"), *arguments])

    return call


def test_prints_scores_answers_and_the_report(run: Run, folders: Path) -> None:
    people = str(folders / "people.csv")
    result = run(
        *("--groups", people, "--key", "id", "--patient", "who", "--attribute", "sex"),
        *("--continuous", "age=35", "--class", "1=liver"),
    )
    assert result.exit_code == 0, result.output
    assert "12 patients, 12 cases" in result.output
    assert "sex: Cannot say: fewer than 10 patients in 'F' (6), 'M' (6)" in result.output
    assert "age: Cannot say" in result.output
    assert f"Report: {folders / 'eval' / 'report.html'}" in result.output
    assert pd.read_csv(folders / "eval" / "cases.csv")["class"].unique().tolist() == ["liver"]


def test_the_terminal_shows_the_numbers_of_the_report(run: Run, folders: Path) -> None:
    lines = run().output.partition("───")[2].splitlines()[1:]
    table = [re.split(r" {2,}", line.strip()) for line in lines[:11]]
    page = (folders / "eval" / "report.html").read_text(encoding="utf-8")
    assert [row[0] for row in table] == [
        *("Dice", "IoU", "Sensitivity", "Precision", "NSD", "HD95 (mm)", "HD (mm)", "ASSD (mm)", "MASD (mm)"),
        *("Volume error (ml)", "Relative volume error"),
    ]
    assert {len(row) for row in table} == {5}
    for cell in (cell for row in table for cell in row[1:]):
        assert f">{cell}<" in page, cell


def test_the_model_is_called_as_told(run: Run, folders: Path) -> None:
    assert json.loads(run("--json", "--model-name", "Liver net").stdout)["model"]["name"] == "Liver net"
    assert "Model card: Liver net" in (folders / "eval" / "model_card.md").read_text(encoding="utf-8")


def test_json_is_the_summary(run: Run, folders: Path) -> None:
    result = run("--json")
    assert json.loads(result.stdout) == json.loads((folders / "eval" / "summary.json").read_text())


def test_second_run_needs_overwrite(run: Run) -> None:
    assert run().exit_code == 0
    assert isinstance(run().exception, InputError)
    assert run("--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--continuous", "age"], "write for example age=40,65"),
        (["--continuous", "age=old"], "write for example age=40,65"),
        (["--class", "liver"], "write for example --class 1=liver"),
        (["--class", "0=air"], "a value above 0"),
        (["--class", "1=a", "--class", "1=b"], "each value and each name once"),
        (["--margin", "0"], "--margin: expected"),
        (["--empty", "ignore"], "--empty: expected"),
        (["--interval", "exact"], "--interval: expected"),
        (["--permute-within", "ward"], "--permute-within ward: expected an attribute"),
        (["--strata", "ward"], "--strata ward: expected an attribute"),
        (["--cohort", "somewhere"], "expected one of the two"),
        (["--attribute", "sex"], "--groups"),
    ],
)
def test_mistakes_are_told_in_one_line(run: Run, folders: Path, arguments: list[str], message: str) -> None:
    error = run(*arguments).exception
    assert isinstance(error, InputError)
    assert message in str(error)
    assert "\n" not in str(error)
    assert not (folders / "eval").exists()


@pytest.mark.parametrize("edges", ["70,50", "nan"])
def test_edges_that_do_not_rise_are_the_users_mistake(run: Run, folders: Path, edges: str) -> None:
    table = ["--groups", str(folders / "people.csv"), "--key", "id", "--continuous", f"age={edges}"]
    result = run(*table)
    assert isinstance(result.exception, InputError)
    assert "--continuous age: bins must be finite numbers that rise" in str(result.exception)
    assert not (folders / "eval").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sex": [*"FM"] * 6, "who": ["p0", "p0", *(f"p{index}" for index in range(2, 12))]}, "'F' and 'M' for p0"),
        ({"sex": ["1", "2", "1", "female", *["2"] * 8]}, "expected either numbers or words, got 'female' (c3)"),
        ({"id": [f"x{index}" for index in range(12)]}, "expected case ids such as 'c0', 'c1', 'c10' and 9 more"),
    ],
)
def test_groups_that_do_not_fit_are_told_in_one_line(
    run: Run, folders: Path, change: dict[str, list[str]], message: str
) -> None:
    people = folders / "people.csv"
    pd.read_csv(people, dtype=str).assign(**change).to_csv(people, index=False)
    arguments = ("--groups", str(people), "--key", "id", "--patient", "who", "--attribute", "sex")
    error = run(*arguments).exception
    assert isinstance(error, InputError)
    assert message in str(error)
    assert "\n" not in str(error)
    assert not (folders / "eval").exists()


def test_contradicting_rows_are_listed_with_allow_partial(run: Run, folders: Path) -> None:
    people = folders / "people.csv"
    pd.read_csv(people, dtype=str).replace({"who": {"p1": "p0"}}).to_csv(people, index=False)
    arguments = ("--groups", str(people), "--key", "id", "--patient", "who", "--attribute", "sex")
    result = run(*arguments, "--allow-partial", "--json")
    assert json.loads(result.stdout)["left_out"]["conflicting_groups"] == {"sex": ["p0"]}
