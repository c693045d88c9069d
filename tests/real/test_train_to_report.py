"""The whole job on real cohorts, with small networks and few steps: from the scans to the report."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

pytestmark = pytest.mark.real

README = Path(__file__).parents[2] / "README.md"

SMALL_NETWORK = "--set model.options.features=[4,4,8,8,8,4] --set batch_size=2 --set validation.every_steps=0"
FEW_DRAWS = "--bootstrap-draws 199 --permutation-draws 199"


def run_in(folder: Path, commands: str) -> str:
    """Run lines of a shell in a folder, with our command on the path, and return what they printed."""
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": binaries, "OMP_NUM_THREADS": "1"}
    command = ["bash", "-euo", "pipefail", "-c", commands]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def gliomas(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's commands ran on nine patients whose voxel sizes are nominal."""
    folder = tmp_path_factory.mktemp("gliomas")
    source = real_data / "lgg_kaggle3m"
    (folder / "scans" / "nifti").mkdir(parents=True)
    (folder / "masks").mkdir()
    for case in sorted((source / "nifti").iterdir())[::2]:
        (folder / "scans" / "nifti" / case.name).symlink_to(case)
        (folder / "masks" / f"{case.name}.nii.gz").symlink_to(case / f"{case.name}_mask.nii.gz")
    for place in (folder, folder / "scans"):
        (place / "participants.csv").symlink_to(source / "participants.csv")
    section = README.read_text(encoding="utf-8").split("## From your scans to a report")[1]
    train, audit = re.findall(r"^```console\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)[:2]
    smaller = {
        "SCANS": "scans",
        "--attribute site_code": "--attribute site_code --nominal-spacing",
        "--folds 5": "--folds 2",
        "--max-minutes 10": f"--set steps=2 {SMALL_NETWORK}",
        "-o evaluation": f"-o evaluation {FEW_DRAWS}",
    }
    for readers, ours in smaller.items():
        assert readers in train, f"the README no longer says {readers}"
        train = train.replace(readers, ours)
    run_in(folder, train)
    # The audit alone: the same predictions, taken for another tool's.
    (folder / "their_masks").symlink_to(folder / "predictions")
    assert "--attribute sex" in audit
    audit = audit.replace("--attribute sex", "--attribute site_code")
    run_in(folder, audit.replace("-o evaluation", f"-o audit {FEW_DRAWS}"))
    return folder


def test_every_glioma_patient_is_scored_once_by_a_network_that_never_saw_the_patient(gliomas: Path) -> None:
    cases = pd.read_csv(gliomas / "evaluation" / "cases.csv", dtype={"case_id": str})
    split = pd.read_csv(gliomas / "cohort" / "split.csv", dtype=str).set_index("case_id")
    assert sorted(cases["case_id"]) == sorted(split.index)
    roles = cases.set_index("case_id")["role"]
    assert set(roles[split["fold"] == "test"]) == {"test"}
    assert set(roles[split["fold"] != "test"]) == {"out_of_fold"}
    predicted = pd.read_csv(gliomas / "predictions" / "predictions.csv", dtype=str).set_index("case_id")
    for case_id, fold in split["fold"].items():
        assert predicted.loc[case_id, "folds"] == ("0 1" if fold == "test" else fold)


def test_segmentations_lie_on_the_very_grid_of_their_scans(gliomas: Path) -> None:
    for scan in gliomas.glob("scans/nifti/*/*_flair.nii.gz"):
        image = nib.Nifti1Image.from_filename(scan)
        label = nib.Nifti1Image.from_filename(gliomas / "predictions" / f"{scan.parent.name}.nii.gz")
        assert label.shape == image.shape
        assert np.array_equal(label.affine, image.affine)


def test_the_report_of_nominal_voxel_sizes_names_no_millimetre(gliomas: Path) -> None:
    summary = json.loads((gliomas / "evaluation" / "summary.json").read_text())
    tables = {table["role"]: table for table in summary["tables"]}
    assert {role: table["patients"] for role, table in tables.items()} == {"test": 2, "out_of_fold": 7}
    assert tables["test"]["headline"]
    assert [attribute["name"] for attribute in tables["out_of_fold"]["attributes"]] == ["gender", "site_code"]
    shown = {folder: shown_text(gliomas / folder / "report.html") for folder in ("evaluation", "audit")}
    assert not re.search(r"\b(mm|ml)\b", shown["evaluation"])
    # The audit was not told that voxel sizes are nominal.
    assert re.search(r"\bmm\b", shown["audit"])
    assert all("site_code" in text for text in shown.values())


@pytest.mark.browser
def test_the_gliomas_reports_open(gliomas: Path, opened_body: Callable[[Path], str]) -> None:
    for folder in ("evaluation", "audit"):
        body = opened_body(gliomas / folder / "report.html")
        assert 'data-ready="1"' in body
        assert "data-error" not in body


def shown_text(page: Path) -> str:
    """What a reader of the page sees."""
    return re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_ct_and_pet_go_together_through_the_whole_job(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "ibsi_sts"
    run_in(
        tmp_path,
        f"""
        equivox cohort import {source} -o cohort --name sarcoma \
            --image CT='nifti/{{case_id}}/CT_image.nii.gz' --image PET='nifti/{{case_id}}/PET_image.nii.gz' \
            --label 'nifti/{{case_id}}/CT_mask.nii.gz' --class 1=tumour \
            --table participants.csv --key sub --attribute sex --continuous age_years=40,65
        equivox cohort check cohort
        equivox cohort split cohort --folds 2 --test 0.4 --stratify sex
        equivox plan cohort --set networks.2d.patch_size=[64,64]
        equivox train --cohort cohort --out run --dims 2d --set steps=2 {SMALL_NETWORK}
        equivox predict run --cohort cohort -o predictions
        equivox evaluate --cohort cohort --predictions predictions -o evaluation {FEW_DRAWS}
        """,
    )
    plan = yaml.safe_load((tmp_path / "cohort" / "plan.yaml").read_text())["preprocessing"]
    assert plan["channels"] == ["CT", "PET"]
    assert plan["resample_channels"] == {"CT": "same_grid", "PET": "resample_to_reference"}
    cases = pd.read_csv(tmp_path / "evaluation" / "cases.csv")
    for case_id in cases["case_id"]:
        ct = nib.Nifti1Image.from_filename(source / "nifti" / case_id / "CT_image.nii.gz")
        label = nib.Nifti1Image.from_filename(tmp_path / "predictions" / f"{case_id}.nii.gz")
        assert label.shape == ct.shape
        assert np.allclose(label.affine, ct.affine, atol=1e-6)
    summary = json.loads((tmp_path / "evaluation" / "summary.json").read_text())
    headline = next(table for table in summary["tables"] if table["headline"])
    assert (headline["role"], headline["patients"]) == ("test", 4)
    # Two patients of each sex: nothing can be said about them.
    assert [attribute["verdict"]["answer"] for attribute in headline["attributes"]] == ["cannot_say"] * 2
