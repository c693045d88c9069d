"""`equivox compare` as it is typed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from equivox.cli.app import app
from equivox.pipelines.evaluate import EvaluateOptions, evaluate
from equivox.volume import Volume, write_label_map

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations of twelve patients, of a tool that finds 5 of 6 slices and one that finds 3 or 4."""
    made = tmp_path_factory.mktemp("made")
    affine = np.diag([0.5, 1.0, 3.0, 1.0])
    for index in range(12):
        for kind, depth in (("refs", 6), ("good", 5), ("poor", 3 + index % 2)):
            labels = np.zeros((4, 5, 8), dtype=np.uint8)
            labels[1:3, 1:4, :depth] = 1
            path = made / kind / f"c{index:02d}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            write_label_map(labels, Volume(np.zeros((1, 4, 5, 8), dtype=np.float32), affine), path)
    options = EvaluateOptions(bootstrap_draws=199, permutation_draws=199, simulation_repeats=100)
    for kind in ("good", "poor"):
        evaluate(made / f"eval-{kind}", references=made / "refs", predictions=made / kind, options=options)
    return made


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    def call(*arguments: str) -> Result:
        evaluations = [str(folder / "eval-poor"), str(folder / "eval-good")]
        draws = ["--bootstrap-draws", "199", "--permutation-draws", "199"]
        return CliRunner().invoke(app, ["compare", *evaluations, "-o", str(tmp_path / "out"), *draws, *arguments])

    return call


def test_prints_means_answers_and_the_page(run: Run, tmp_path: Path) -> None:
    result = run("--name", "old", "--name", "new", "--figures")
    assert result.exit_code == 0, result.output
    assert "12 patients, 12 cases" in result.output
    assert "old (baseline)" in result.output
    assert "new against old: Evidence that 'new' is better than 'old'." in result.output
    assert f"Page: {tmp_path / 'out' / 'report.html'}" in result.output
    figures = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    # Eleven metrics, four side by side.
    names = ["paired-1-new", *(f"differences-1-new-{page}" for page in (1, 2, 3)), "ranking"]
    assert figures == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}


def test_json_is_the_summary(run: Run, tmp_path: Path) -> None:
    result = run("--json", "--quiet")
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "comparison.json").read_text())


def test_models_without_a_name_are_named_by_their_folders(run: Run, tmp_path: Path) -> None:
    run()
    summary = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [model["name"] for model in summary["models"]] == ["eval-poor", "eval-good"]


def test_mistakes_end_with_2_in_one_line(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("--name", "old")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "equivox: --name: expected one for each, 2 in all, got 1" in result.stderr
    assert not (tmp_path / "out").exists()
    result = run("--margin", "1.5")
    assert result.exit_code == 2
    assert "--margin: expected" in result.stderr
    result = CliRunner().invoke(app, ["compare", str(folder / "refs"), str(folder / "poor"), "-o", str(tmp_path / "x")])
    assert result.exit_code == 2
    assert f"equivox: {folder / 'refs'}: expected a folder that 'equivox evaluate' wrote" in result.stderr
