"""Real cohorts through import, check, describe and split."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from equivox.cli.app import app
from equivox.datasets.cohort import load_cohort
from equivox.datasets.split import load_split

pytestmark = pytest.mark.real


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["cohort", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def gliomas(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The source, the cohort folder, and what the import printed."""
    source, folder = real_data / "lgg_kaggle3m", tmp_path_factory.mktemp("cohorts") / "lgg"
    result = run(
        *("import", source, "-o", folder),
        *("--image", "flair=nifti/{case_id}/{case_id}_flair.nii.gz"),
        *("--label", "nifti/{case_id}/{case_id}_mask.nii.gz"),
        *("--table", "participants.csv", "--key", "case", "--patient", "Patient"),
        *("--attribute", "gender", "--attribute", "site_code", "--nominal-spacing"),
    )
    assert result.exit_code == 0, result.output
    return source, folder, result.output


def test_all_gliomas_are_imported_with_their_groups(gliomas: tuple[Path, Path, str]) -> None:
    source, folder, _ = gliomas
    cohort = load_cohort(folder)
    assert len(cohort.cases) == len(cohort.patients) == 18
    table = pd.read_csv(source / "participants.csv", dtype=str).set_index("case")
    for case in cohort.cases:
        assert case.patient_id == table.loc[case.case_id, "Patient"]
        assert case.attributes["gender"] == str(table.loc[case.case_id, "gender"]).removesuffix(".0")
        assert case.attributes["site_code"] == table.loc[case.case_id, "site_code"]
        assert case.label is not None


def test_the_mapping_shown_is_that_of_the_values_in_the_masks(gliomas: tuple[Path, Path, str]) -> None:
    source, folder, output = gliomas
    values: set[int] = set()
    for path in source.glob("nifti/*/*_mask.nii.gz"):
        stored = np.asarray(nib.Nifti1Image.from_filename(path).dataobj)
        values |= {int(value) for value in np.unique(stored)}
    config = load_cohort(folder).config
    assert set(config.label_values) == values
    assert config.label_values[0] == "background"
    assert config.label_values[max(values)] == "foreground"
    assert re.search(rf"^ *{max(values)} +foreground +1 +18 *$", output, flags=re.MULTILINE)


def test_the_gliomas_are_sound_and_described_in_voxels(gliomas: tuple[Path, Path, str]) -> None:
    source, folder, _ = gliomas
    checked = run("check", folder, "--json")
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout)["counts"]["error"] == 0
    described = json.loads(run("describe", folder, "--json").stdout)
    table = pd.read_csv(source / "participants.csv")
    # The table that came with the scans counts the voxels of each mask.
    volume = described["classes"][0]["volume"]
    assert described["classes"][0]["unit"] == "voxels"
    assert (volume["low"], volume["high"]) == (table["mask_voxels"].min(), table["mask_voxels"].max())
    assert volume["median"] == table["mask_voxels"].median()
    shown = run("describe", folder).stdout
    assert not re.search(r"\b(mm|ml)\b", shown)


def test_the_gliomas_are_split_by_patient_over_all_groups(gliomas: tuple[Path, Path, str]) -> None:
    _, folder, _ = gliomas
    words = (
        "split",
        folder,
        "--folds",
        "5",
        "--test",
        "0.2",
        "--stratify",
        "gender,site_code",
        "--json",
        "--overwrite",
    )
    first = run(*words)
    assert first.exit_code == 0, first.output
    split = load_split(folder)
    assert len(split) == 18
    counts = json.loads(first.stdout)
    # round(0.2 * 18) = 4 patients for testing, half of them of each gender; 14 in five folds.
    assert [fold["patients"] for fold in counts["folds"].values()] == [3, 3, 3, 3, 2, 4]
    assert {row["test"] for row in counts["strata"]["gender"].values()} == {2}
    assert run(*words, "--overwrite").stdout == first.stdout
    assert load_split(folder) == split


def test_ct_and_pet_of_the_sarcomas_are_two_channels_on_their_own_grids(real_data: Path, tmp_path: Path) -> None:
    result = run(
        *("import", real_data / "ibsi_sts", "-o", tmp_path / "sts", "--name", "sarcoma"),
        *("--image", "CT=nifti/{case_id}/CT_image.nii.gz", "--image", "PET=nifti/{case_id}/PET_image.nii.gz"),
        *("--label", "nifti/{case_id}/CT_mask.nii.gz", "--class", "1=tumour"),
        *("--table", "participants.csv", "--key", "sub", "--attribute", "sex", "--continuous", "age_years=40,65"),
    )
    assert result.exit_code == 0, result.output
    cohort = load_cohort(tmp_path / "sts")
    assert {name: channel.modality for name, channel in cohort.config.channels.items()} == {"CT": "CT", "PET": "PET"}
    checked = json.loads(run("check", tmp_path / "sts", "--json").stdout)
    assert checked["usable"]
    # Each PET has a grid of its own, and shares space with its CT.
    assert [problem["column"] for problem in checked["problems"]] == ["image:PET"] * 10
    described = json.loads(run("describe", tmp_path / "sts", "--json").stdout)
    assert described["classes"][0]["unit"] == "ml"
    volumes = pd.read_csv(real_data / "ibsi_sts" / "participants.csv")["gtv_ml_ct"]
    # The table that came with the scans holds the volume of each contour on the CT, in ml.
    volume = described["classes"][0]["volume"]
    assert volume["low"] == pytest.approx(volumes.min(), rel=1e-3)
    assert volume["high"] == pytest.approx(volumes.max(), rel=1e-3)
    assert run("split", tmp_path / "sts", "--folds", "3", "--test", "0.2").exit_code == 0
    assert set(load_split(tmp_path / "sts").values()) == {0, 1, 2, "test"}


def test_photographs_with_two_observers_become_a_cohort_of_two_raters(real_data: Path, tmp_path: Path) -> None:
    result = run(
        *("import", real_data / "fundus_chasedb1", "-o", tmp_path / "eyes"),
        *("--image", "fundus=Image_{case_id}.jpg"),
        *("--label", "first=Image_{case_id}_1stHO.png", "--label", "second=Image_{case_id}_2ndHO.png"),
        *("--class", "1=vessel"),
    )
    assert result.exit_code == 0, result.output
    cohort = load_cohort(tmp_path / "eyes")
    assert len(cohort.cases) == 14
    assert cohort.config.nominal_spacing
    assert cohort.config.channels["fundus"].modality == "RGB"
    assert all(list(case.labels) == ["first", "second"] for case in cohort.cases)
    assert run("check", tmp_path / "eyes").exit_code == 0


def test_each_odd_file_is_one_clear_line_or_read_as_it_should_be(real_data: Path, tmp_path: Path) -> None:
    files = sorted(path for path in (real_data / "odd_files").rglob("*") if path.is_file() and path.suffix != ".md")
    rows = [f"case_{number},patient_{number},{path}," for number, path in enumerate(files)]
    (tmp_path / "cohort.csv").write_text("\n".join(["case_id,patient_id,image:t1,label", *rows]) + "\n")
    config = "name: odd\nchannels: {t1: {modality: MR}}\nclasses: {a: 1}\nlabel_values: {1: a}\n"
    (tmp_path / "cohort.yaml").write_text(config)
    result = run("check", tmp_path, "--json")
    assert result.exit_code == 2
    problems = json.loads(result.stdout)["problems"]
    errors = {Path(problem["file"]).name for problem in problems if problem["tier"] == "error"}
    assert errors == {
        "empty.nii.gz",
        "nan_sform.nii",
        "truncated.nii.gz",
        "example4d.nii.gz",
        "example_nifti2.nii.gz",
        "functional.nii",
        "nifti1.hdr",
        "row_major.dconn.nii",
    }
    assert all(problem["what"] and problem["todo"] for problem in problems)
    # Not gzipped though it is called so: read all the same, and said.
    assert any(problem["file"].endswith("not_gzip.nii.gz") and problem["tier"] == "note" for problem in problems)
