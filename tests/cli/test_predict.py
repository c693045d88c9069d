"""`equivox predict`: exit codes, results on stdout, what failed on stderr."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from equivox.cli.app import app


def scan_file(path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([1.5, 1.0, 3.0, 1.0])), path)
    return path


def run_cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def one_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("equivox: ")]
    assert len(lines) == 1, text
    return lines[0]


def test_all_fine_ends_with_0_and_tells_where(make_run: Callable[..., Path], tmp_path: Path) -> None:
    result = run_cli(make_run(), scan_file(tmp_path / "a.nii.gz"), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "1 done; label maps in" in result.stdout
    assert nib.load(tmp_path / "out" / "a.nii.gz").shape == (8, 9, 10)


def test_json_on_stdout_has_every_scan_and_some_failing_ends_with_2(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    scan_file(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes(b"no scan")
    result = run_cli(make_run(), tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", "-o", tmp_path / "out", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert [(line["case_id"], line["status"], line["file"]) for line in told["results"]] == [
        ("a", "done", "a.nii.gz"),
        ("b", "failed", ""),
    ]
    assert told["results"][0]["folds"] == [0]


def test_a_failing_scan_is_one_whole_line_on_stderr(make_run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "b.nii.gz").write_bytes(b"no scan")
    result = run_cli(make_run(), tmp_path / "b.nii.gz", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert str(tmp_path / "b.nii.gz") in one_line(result.stderr)
    assert "1 failed; nothing was written" in result.stdout


def test_options_reach_the_manifest(make_run: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = make_run(folds=(0, 1, 2))
    options = ("--folds", "2,0", "--mirror", "--overlap", "0.25", "--entropy", "--probabilities", "--workers", "0")
    result = run_cli(run, scan_file(tmp_path / "a.nii.gz"), "-o", out, *options)
    assert result.exit_code == 0, result.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert list(manifest["weights"]) == ["0", "2"]
    assert manifest["settings"] == {"overlap": 0.25, "mirror_axes": [0, 1, 2], "precision": "float32"}
    assert (out / "entropy" / "a.nii.gz").exists()
    assert (out / "probabilities" / "a" / "1-tumour.nii.gz").exists()


def test_dry_run_says_what_would_be_done_and_writes_nothing(make_run: Callable[..., Path], tmp_path: Path) -> None:
    result = run_cli(make_run(), scan_file(tmp_path / "a.nii.gz"), "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "8x9x10 voxels prepared" in result.stdout
    assert "nothing was written" in result.stdout
    assert not (tmp_path / "out").exists()


def test_resume_and_overwrite_at_the_command_line(make_run: Callable[..., Path], tmp_path: Path) -> None:
    arguments = (make_run(), scan_file(tmp_path / "a.nii.gz"), "-o", tmp_path / "out")
    assert run_cli(*arguments).exit_code == 0
    again = run_cli(*arguments)
    assert again.exit_code == 2
    assert "--resume" in one_line(again.stderr)
    assert json.loads(run_cli(*arguments, "--resume", "--json").stdout)["results"][0]["status"] == "kept"
    assert json.loads(run_cli(*arguments, "--overwrite", "--json").stdout)["results"][0]["status"] == "done"


def test_named_channels(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(channels=("ct", "pet"))
    ct, pet = scan_file(tmp_path / "ct.nii"), scan_file(tmp_path / "pet.nii")
    result = run_cli(run, "-o", tmp_path / "out", "--channel", f"pet={pet}", "--channel", f"ct={ct}")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "ct.nii.gz").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--channel", "ct"), "--channel ct: expected NAME=FILE, got no '='"),
        (("--channel", "mr=a", "--channel", "mr=b"), "expected each channel once"),
        (("--folds", "a"), "--folds: expected numbers"),
        (("--device", "tpu"), "device"),
        ((), "one of the three"),
    ],
)
def test_mistakes_end_with_2_in_one_line(
    make_run: Callable[..., Path], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = run_cli(make_run(), "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert words in one_line(result.stderr)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_ends_with_2(tmp_path: Path) -> None:
    result = run_cli(tmp_path, tmp_path / "a.nii", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "expected a run folder" in one_line(result.stderr)
