"""`equivox cohort` as a user types it: exit codes, tables, JSON, and one line for each mistake."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from equivox.cli.app import app
from equivox.datasets.phantom import write_phantoms

IMPORT = [
    *("--image", "flair=scans/{case_id}/{case_id}_flair.nii.gz"),
    *("--label", "scans/{case_id}/{case_id}_label.nii.gz"),
    *("--table", "participants.csv", "--key", "case", "--attribute", "sex", "--attribute", "scanner"),
    *("--class", "1=organ", "--class", "2=lesion"),
]


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "practice", patients=10, shape=(16, 14, 6))


@pytest.fixture
def cohort(practice: Path, tmp_path: Path) -> Path:
    result = run("import", practice, "-o", tmp_path / "cohort", *IMPORT)
    assert result.exit_code == 0, result.output
    return tmp_path / "cohort"


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["cohort", *(str(word) for word in words)])


def test_import_shows_mapping_groups_and_guesses(practice: Path, tmp_path: Path) -> None:
    result = run("import", practice, "-o", tmp_path / "cohort", *IMPORT, "--continuous", "age=50,70")
    assert result.exit_code == 0
    assert "10 cases of 10 patients, 10 with a label" in result.output
    assert "flair (MR)" in result.output
    assert next(line.split() for line in result.output.splitlines() if "lesion" in line)[:3] == ["2", "lesion", "2"]
    assert "50-70" in result.output
    assert "modality MR, guessed from its name; --modality flair=... changes it" in result.output
    assert "10 scans in the source fit no pattern" in result.output
    assert (tmp_path / "cohort" / "cohort.yaml").is_file()


def test_import_prints_json(practice: Path, tmp_path: Path) -> None:
    result = run("import", practice, "-o", tmp_path / "cohort", *IMPORT, "--modality", "flair=mr", "--json")
    values = json.loads(result.stdout)
    assert (values["layout"], values["cases"], values["channels"]) == ("folder", 10, {"flair": "MR"})
    assert [item["class_name"] for item in values["mapping"]] == ["background", "organ", "lesion"]
    assert values["left_out"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--class", "one=organ"], "--class one=...: expected a whole number"),
        (["--class", "1"], "--class 1: expected NAME=VALUE"),
        (["--class", "1=organ"], "--class 1=organ: expected '1' once, got it twice"),
        (["--continuous", "age=old"], "--continuous age=old: expected numbers"),
        (["--modality", "flair=MRI"], "--modality flair: expected"),
        (["--layout", "zip"], "--layout: expected"),
        (["--label", "other/{case_id}.nii.gz"], "expected RATER=PATTERN where there are several"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(practice: Path, tmp_path: Path, words: list[str], message: str) -> None:
    result = run("import", practice, "-o", tmp_path / "cohort", *IMPORT, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "cohort").exists()


def test_a_sound_cohort_checks_with_exit_code_0(cohort: Path) -> None:
    result = run("check", cohort)
    assert result.exit_code == 0, result.output
    assert "the cohort can be used" in result.output


def test_check_ends_with_2_on_errors_and_names_the_file_on_one_line(cohort: Path, tmp_path: Path) -> None:
    bad = tmp_path / ("a [bold]rather] long name " * 5 + ".nii.gz")
    bad.write_bytes(b"")
    table = cohort / "cohort.csv"
    lines = table.read_text().splitlines()
    cells = lines[1].split(",")
    cells[2] = str(bad)
    table.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    result = run("check", cohort)
    assert result.exit_code == 2
    assert (
        f"error: {bad}: expected an image, got an empty file; copy or download it again" in result.stdout.splitlines()
    )
    values = json.loads(run("check", cohort, "--json").stdout)
    assert values["counts"]["error"] == 1
    assert values["problems"][0]["file"] == str(bad)
    assert values["usable"] is False


def test_check_fixes_what_is_repairable(cohort: Path, tmp_path: Path) -> None:
    import nibabel as nib
    import numpy as np

    from equivox.datasets.cohort import load_cohort

    label = load_cohort(cohort).cases[0].label
    assert label is not None
    image = nib.Nifti1Image.from_filename(label)
    moved = image.affine.copy()
    moved[0, 3] += 5
    nib.Nifti1Image(np.asarray(image.dataobj), moved).to_filename(tmp_path / "moved.nii.gz")
    table = cohort / "cohort.csv"
    table.write_text(table.read_text().replace(str(label), str(tmp_path / "moved.nii.gz")))
    first = run("check", cohort)
    assert first.exit_code == 2
    assert "--fix mends what is repairable" in first.output
    fixed = run("check", cohort, "--fix")
    assert fixed.exit_code == 0, fixed.output
    assert "Repaired (1), listed in repairs.csv:" in fixed.output
    assert run("check", cohort).exit_code == 0
    assert (cohort / "repairs.csv").is_file()


def test_describe_shows_tables_and_json(cohort: Path) -> None:
    result = run("describe", cohort)
    assert result.exit_code == 0
    for words in ("Sizes and spacings", "Intensities, percentiles", "volume where present, ml", "scanner"):
        assert words in result.output
    values = json.loads(run("describe", cohort, "--json").stdout)
    assert [summary["name"] for summary in values["classes"]] == ["organ", "lesion"]


def test_nominal_spacing_leaves_no_mm_or_ml_in_any_table(practice: Path, tmp_path: Path) -> None:
    assert run("import", practice, "-o", tmp_path / "cohort", *IMPORT, "--nominal-spacing").exit_code == 0
    for command in (["check"], ["describe"], ["split", "--folds", "2"]):
        words = run(command[0], tmp_path / "cohort", *command[1:]).stdout.split()
        assert not {"mm", "ml", "mm3"} & {word.strip(",.;:") for word in words}


def test_split_prints_counts_by_fold_and_group(cohort: Path) -> None:
    result = run("split", cohort, "--folds", "2", "--test", "0.2", "--stratify", "sex,scanner", "--seed", "3")
    assert result.exit_code == 0, result.output
    rows = {line.split("  ")[0].strip(): line.split() for line in result.output.splitlines() if line.strip()}
    assert rows["patients"][1:] == ["4", "4", "2", "10"]
    assert any(name.startswith("label volume: small") for name in rows)
    again = run("split", cohort)
    assert again.exit_code == 2
    assert "add --overwrite" in again.stderr
    assert run("split", cohort, "--overwrite", "--folds", "2", "--stratify", "none", "--json").exit_code == 0


def test_a_folder_that_is_no_cohort_is_the_users_mistake(tmp_path: Path) -> None:
    for command in ("check", "describe", "split"):
        result = run(command, tmp_path)
        assert result.exit_code == 2
        assert "make one with 'equivox cohort import'" in result.stderr
