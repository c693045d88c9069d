"""`equivox train`, in process."""

import json

import typer
from typer.testing import CliRunner

from equivox.cli.train import train
from equivox.pipelines.training.stop import TrainingStopped

app = typer.Typer()
app.command()(train)


def run(*arguments: object) -> "object":
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_json_tells_where_the_run_is_and_how_it_went(training_cohort, tmp_path) -> None:
    settings = ["--set", "steps=1", "--set", "precision=float32", "--workers", "0"]
    result = run("--cohort", training_cohort, "--out", tmp_path / "run", "--dims", "2d", *settings, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["run"] == str(tmp_path / "run")
    assert told["steps"] == 1
    assert told["folds"]["0"]["status"] == "complete"


def test_a_dry_run_writes_nothing(training_cohort, tmp_path) -> None:
    result = run("--cohort", training_cohort, "--out", tmp_path / "run", "--dry-run", "--fold", "all")
    assert result.exit_code == 0, result.output
    assert "# fold 1: 3 training, 2 validation, 1 test cases" in result.stdout
    assert "patch" not in result.stdout
    assert not (tmp_path / "run").exists()


def test_a_stopped_run_ends_with_the_code_of_its_signal(monkeypatch, tmp_path) -> None:
    from equivox.pipelines import train as module

    def stopped(*_, **__):
        raise TrainingStopped(15, "stopped after step 3 of 6")

    monkeypatch.setattr(module, "train", stopped)
    result = run("--cohort", tmp_path, "--out", tmp_path / "run")
    assert result.exit_code == 143
    assert "stopped after step 3 of 6" in result.stderr


def test_only_two_and_three_dimensions_are_known(tmp_path) -> None:
    assert run("--cohort", tmp_path, "--out", tmp_path / "run", "--dims", "4d").exit_code == 2
