"""Evaluation and measurement of real masks: two raters of one retina, and a tool's segmentation of a CT."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from medpy.metric import binary
from PIL import Image

pytestmark = pytest.mark.real

FEW_DRAWS = "--bootstrap-draws 199 --permutation-draws 199"


def run_in(folder: Path, command: str) -> str:
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": binaries, "OMP_NUM_THREADS": "1"}
    words = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def retinas(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second rater's vessels of seven patients' eyes, evaluated against the first's."""
    folder = tmp_path_factory.mktemp("retinas")
    rows = []
    for rater in ("first", "second"):
        (folder / rater).mkdir()
    for first in sorted((real_data / "fundus_chasedb1").glob("*_1stHO.png")):
        case = first.name.removesuffix("_1stHO.png")
        (folder / "first" / f"{case}.png").symlink_to(first)
        (folder / "second" / f"{case}.png").symlink_to(first.with_name(f"{case}_2ndHO.png"))
        rows.append((case, case[6:8], "left half" if int(case[6:8]) < 4 else "right half"))
    pd.DataFrame(rows, columns=["case_id", "patient", "ward"]).to_csv(folder / "people.csv", index=False)
    run_in(
        folder,
        "equivox evaluate --references first --predictions second --groups people.csv --patient patient "
        "--attribute ward --class 1=vessel --nominal-spacing --metrics overlap,surface,volume,centreline,topology "
        f"--reconcile -o evaluation {FEW_DRAWS}",
    )
    return folder


def test_two_raters_of_one_retina_agree_as_other_tools_find(retinas: Path) -> None:
    cases = pd.read_csv(retinas / "evaluation" / "cases.csv").set_index("case_id")
    assert len(cases) == 14
    for case in ("Image_01L", "Image_07R"):
        masks = [np.asarray(Image.open(retinas / rater / f"{case}.png")) > 0 for rater in ("first", "second")]
        assert cases.loc[case, "dice"] == pytest.approx(binary.dc(masks[1], masks[0]))
        assert cases.loc[case, "sensitivity"] == pytest.approx(binary.recall(masks[1], masks[0]))
        assert cases.loc[case, "precision"] == pytest.approx(binary.precision(masks[1], masks[0]))
    # The second rater drew fewer and thinner vessels: about a sixth less area.
    assert -0.25 < cases["relative_volume_error"].mean() < -0.1
    assert (cases["cldice"] > cases["dice"]).mean() > 0.8


def test_another_tools_distance_on_these_photographs_is_its_own(retinas: Path) -> None:
    table = pd.read_csv(retinas / "evaluation" / "reconcile.csv").set_index(["case_id", "tool", "metric"])
    masks = [np.asarray(Image.open(retinas / rater / "Image_03R.png")) > 0 for rater in ("first", "second")]
    assert table.loc[("Image_03R", "medpy", "hd95"), "theirs"] == pytest.approx(binary.hd95(masks[1], masks[0]))
    assert table.loc[("Image_03R", "medpy", "assd"), "theirs"] == pytest.approx(binary.assd(masks[1], masks[0]))
    summary = json.loads((retinas / "evaluation" / "summary.json").read_text())
    assert set(summary["compat"]) == {"nnunet", "monai", "medpy", "surface-distance", "fairseg"}


def test_seven_patients_are_too_few_to_say_anything(retinas: Path) -> None:
    summary = json.loads((retinas / "evaluation" / "summary.json").read_text())
    (table,) = summary["tables"]
    assert (table["patients"], table["cases"]) == (7, 14)
    assert table["overall"]["dice"]["low"] is None
    assert [attribute["verdict"]["answer"] for attribute in table["attributes"]] == ["cannot_say"]


@pytest.mark.browser
def test_the_retinas_report_opens(retinas: Path, opened_body: Callable[[Path], str]) -> None:
    body = opened_body(retinas / "evaluation" / "report.html")
    assert 'data-ready="1"' in body
    assert "data-error" not in body


@pytest.fixture(scope="module")
def organs(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TotalSegmentator's organs of one CT against themselves with every second voxel, as a coarser model gives them."""
    folder = tmp_path_factory.mktemp("organs")
    for name in ("references", "predictions", "images"):
        (folder / name).mkdir()
    source = real_data / "totalsegmentator_ref"
    (folder / "references" / "ct.nii.gz").symlink_to(source / "example_seg_fast_force_split.nii.gz")
    (folder / "images" / "ct.nii.gz").symlink_to(source / "example_ct.nii.gz")
    fine = nib.load(source / "example_seg_fast_force_split.nii.gz")
    labels = np.asarray(fine.dataobj)
    coarse = labels[::2, ::2, ::2].repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    coarse = coarse[: labels.shape[0], : labels.shape[1], : labels.shape[2]]
    # The header, and with it the names, comes along.
    nib.save(nib.Nifti1Image(coarse.astype(np.uint8), fine.affine, fine.header), folder / "predictions" / "ct.nii.gz")
    run_in(folder, f"equivox evaluate --references references --predictions predictions -o evaluation {FEW_DRAWS}")
    run_in(folder, "equivox measure --masks references --images images --modality CT -o measured --draws 199")
    return folder


def test_organs_have_the_names_of_the_header_and_plausible_scores(organs: Path) -> None:
    cases = pd.read_csv(organs / "evaluation" / "cases.csv").set_index("class")
    assert {"liver", "spleen", "lung_lower_lobe_left", "vertebrae_L1"} <= set(cases.index)
    assert len(cases) > 50
    assert cases.loc["liver", "dice"] > 0.9
    # Half the voxels along each axis leave a small structure less well than a large one.
    assert cases.loc["liver", "dice"] > cases.loc["adrenal_gland_left", "dice"]
    labels = nib.load(organs / "references" / "ct.nii.gz")
    voxels = int((np.asarray(labels.dataobj) == 5).sum())
    assert cases.loc["liver", "reference_ml"] == pytest.approx(voxels * np.prod(labels.header.get_zooms()) / 1000)


def test_hounsfield_units_of_real_organs_are_those_of_anatomy(organs: Path) -> None:
    measured = pd.read_csv(organs / "measured" / "measurements.csv").set_index("class")
    assert measured.loc["lung_lower_lobe_left", "mean_hu"] < -500
    assert -20 < measured.loc["liver", "mean_hu"] < 200
    assert measured.loc["vertebrae_L1", "mean_hu"] > measured.loc["autochthon_left", "mean_hu"]
    # The field of view ends in the thighs or above: what reaches the last slice is cut off there.
    assert measured.loc["autochthon_left", "cut_off"]
    assert measured["cut_off"].sum() < len(measured)


@pytest.mark.browser
def test_the_organs_pages_open(organs: Path, opened_body: Callable[[Path], str]) -> None:
    body = opened_body(organs / "evaluation" / "report.html")
    assert 'data-ready="1"' in body
    assert "data-error" not in body
    body = opened_body(organs / "measured" / "report.html")
    assert 'data-ready="1"' in body
    assert "data-error" not in body
