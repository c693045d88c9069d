import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from equivox.cli.app import app
from equivox.errors import InputError
from equivox.pipelines.measure import Measurement, measure
from equivox.pipelines.measurement.cases import MeasureTask
from equivox.pipelines.measurement.options import MeasureOptions

SPACING = (0.5, 1.0, 2.0)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 patients, liver larger with age and in men, a spleen that is cut off in p00 and absent in p01."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    rows = []
    for name in ("masks", "images"):
        (folder / name).mkdir()
    for number in range(24):
        age, sex = 25 + 2 * number, "FM"[number % 2]
        mask = np.zeros((20, 16, 12), dtype=np.uint8)
        mask[2 : 4 + number // 2 + (number % 2), 2:10, 2:8] = 5
        if number != 1:
            mask[2:6, 12 : 16 if number == 0 else 14, 2:8] = 9
        image = np.where(mask == 5, 60.25 - 0.5 * age, -100).astype(np.float32) + rng.normal(0, 0.1, mask.shape)
        affine = np.diag([-SPACING[0], SPACING[1], SPACING[2], 1.0])
        nib.save(nib.Nifti1Image(mask, affine), folder / "masks" / f"p{number:02d}.nii.gz")
        nib.save(nib.Nifti1Image(image.astype(np.float32), affine), folder / "images" / f"p{number:02d}_0000.nii.gz")
        rows.append((f"p{number:02d}", sex, age))
    pd.DataFrame(rows, columns=["case_id", "sex", "age"]).to_csv(folder / "people.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def measured(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    return run(scans, tmp_path_factory.mktemp("measured") / "out", figures=True)


def run(scans: Path, out: Path, **changes) -> Measurement:
    arguments = {
        "masks": scans / "masks",
        "images": scans / "images",
        "modality": "CT",
        "groups": scans / "people.csv",
        "attributes": ["sex"],
        "continuous": {"age": (40.0,)},
        "classes": {5: "liver", 9: "spleen"},
        "options": MeasureOptions(draws=199),
    }
    return measure(out, **(arguments | changes))


def record(measured: Measurement, kind: str, **wanted) -> dict:
    (found,) = [one for one in measured.summary[kind] if all(one[key] == value for key, value in wanted.items())]
    return found


def test_sizes_and_intensities_by_hand(measured: Measurement) -> None:
    row = measured.measurements.set_index(["case_id", "class"]).loc[("p00", "liver")]
    # 2 x 8 x 6 voxels of 1 mm3.
    assert row["volume_ml"] == pytest.approx(0.096)
    assert row["mean_hu"] == pytest.approx(60.25 - 12.5, abs=0.1)
    assert row["voxels"] == 96
    assert (row["first_i"], row["last_i"]) == (2, 3)
    assert row["centre_r_mm"] == pytest.approx(-1.25)


def test_what_the_image_cuts_off_is_flagged_by_the_patients_side_and_not_compared(measured: Measurement) -> None:
    rows = measured.measurements.set_index(["case_id", "class"])
    assert rows.loc[("p00", "spleen"), "cut_off"]
    assert rows.loc[("p00", "spleen"), "cut_faces"] == "anterior"
    assert rows.loc[("p00", "spleen"), "volume_ml"] == pytest.approx(4 * 4 * 6 / 1000)
    spleen = record(measured, "structures", structure="spleen")
    assert (spleen["present"], spleen["absent"], spleen["cut_off"], spleen["size"]["patients"]) == (23, 1, 1, 22)


def test_an_absent_structure_has_no_size(measured: Measurement) -> None:
    row = measured.measurements.set_index(["case_id", "class"]).loc[("p01", "spleen")]
    assert not row["present"]
    assert pd.isna(row["volume_ml"])
    assert pd.isna(row["mean_hu"])


def test_size_goes_with_age_and_intensity_against_it(measured: Measurement) -> None:
    size = record(measured, "associations", structure="liver", measure="size")
    mean = record(measured, "associations", structure="liver", measure="mean")
    assert size["spearman"] > 0.9
    assert size["q"] < 0.05
    assert mean["slope"] == pytest.approx(-0.5, abs=0.01)
    assert size["adjusted_for"] == ["sex"]


def test_groups_have_their_own_means(measured: Measurement) -> None:
    men = record(measured, "groups", structure="liver", attribute="sex", measure="size", group="M")
    women = record(measured, "groups", structure="liver", attribute="sex", measure="size", group="F")
    # Men's livers are one layer of 48 voxels larger.
    assert men["mean"] - women["mean"] == pytest.approx(0.048)
    assert men["difference"] == pytest.approx(0.048)
    assert (men["patients"], women["patients"]) == (12, 12)


def test_the_folder_holds_tables_page_and_figures(measured: Measurement) -> None:
    names = {path.name for path in measured.folder.iterdir()}
    assert names == {
        *("measurements.csv", "structures.csv", "groups.csv", "associations.csv"),
        *("measurements.json", "report.html", "figures"),
    }
    assert json.loads((measured.folder / "measurements.json").read_text()) == measured.summary
    assert pd.read_csv(measured.folder / "structures.csv")["structure"].tolist() == ["liver", "spleen"]
    assert len(list((measured.folder / "figures").glob("*.svg"))) == 3  # the spleens that are whole are all of one size
    page = (measured.folder / "report.html").read_text(encoding="utf-8")
    assert page.count('<svg class="scatter"') == 3
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_cases_that_contradict_one_another_make_one_patient(scans: Path, tmp_path: Path) -> None:
    table = pd.read_csv(scans / "people.csv", dtype=str)
    table["patient"] = [f"q{number // 2}" for number in range(24)]
    table.to_csv(tmp_path / "people.csv", index=False)
    found = run(scans, tmp_path / "out", groups=tmp_path / "people.csv", patient="patient")
    assert found.summary["cohort"] == {"name": "masks", "patients": 12, "cases": 24}
    # Each patient has a case of either sex: nobody has a group.
    assert [one for one in found.summary["groups"] if one["attribute"] == "sex"] == []
    assert record(found, "associations", structure="liver", measure="size")["patients"] == 12


def test_classes_are_found_in_the_masks(scans: Path, tmp_path: Path) -> None:
    found = run(scans, tmp_path / "out", classes=None, images=None, groups=None, attributes=(), continuous={})
    assert [one["structure"] for one in found.summary["structures"]] == ["label 5", "label 9"]
    assert found.measurements["mean_hu"].isna().all()


def test_without_real_voxel_sizes_nothing_is_in_millilitres(scans: Path, tmp_path: Path) -> None:
    found = run(scans, tmp_path / "out", nominal_spacing=True)
    assert "volume_voxels" in found.measurements
    assert not [name for name in found.measurements if name.endswith(("_ml", "_mm"))]
    with pytest.raises(InputError, match="real voxel sizes for --erode-mm"):
        run(scans, tmp_path / "other", nominal_spacing=True, options=MeasureOptions(erode_mm=1.0))


def test_an_image_on_another_grid_is_named(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for path in (scans / "images").iterdir():
        image = nib.load(path)
        affine = image.affine.copy()
        affine[0, 3] += 3.0 if path.name.startswith("p03") else 0.0
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), tmp_path / "images" / path.name)
    with pytest.raises(InputError, match=r"case p03: .*p03_0000.nii.gz: expected the grid of the mask"):
        run(scans, tmp_path / "out", images=tmp_path / "images")
    assert not (tmp_path / "out").exists()
    found = run(scans, tmp_path / "out", images=tmp_path / "images", allow_partial=True)
    assert [one["case_id"] for one in found.summary["left_out"]["excluded_cases"]] == ["p03"]


def test_a_case_without_an_image_stops_the_run_unless_it_may_be_left_out(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for path in sorted((scans / "images").iterdir())[2:]:
        (tmp_path / "images" / path.name).symlink_to(path)
    with pytest.raises(InputError) as raised:
        run(scans, tmp_path / "out", images=tmp_path / "images")
    assert str(raised.value) == (
        f"case p00: expected an image in {tmp_path / 'images'}, got none; add it, leave out --images to measure sizes "
        "alone, or add --allow-partial to leave such cases out and list them (2 masks have none)"
    )
    assert not (tmp_path / "out").exists()
    found = run(scans, tmp_path / "out", images=tmp_path / "images", allow_partial=True)
    assert found.summary["left_out"]["excluded_cases"] == [
        {"case_id": name, "reason": "no image in images"} for name in ("p00", "p01")
    ]


def test_a_reason_that_many_cases_share_is_logged_once(
    scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(task: MeasureTask) -> None:
        raise InputError("the worker process died")

    monkeypatch.setattr("equivox.pipelines.measure.measure_case", die)
    with pytest.raises(InputError, match=r"case p00: the worker process died; .*\(24 of 24 cases have errors"):
        run(scans, tmp_path / "out")
    assert "24 cases (p00, p01, p02 and 21 more): the worker process died" in caplog.messages
    assert len([one for one in caplog.records if one.levelname == "ERROR"]) == 1


def test_what_the_table_of_groups_does_not_say_is_told(
    scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    people = pd.read_csv(scans / "people.csv").iloc[1:].astype({"age": object})
    people.loc[1, "age"] = "unknown"
    people.loc[len(people) + 1] = ("p99.nii.gz", "F", 50)
    people.to_csv(tmp_path / "people.csv", index=False)
    notes = [
        "1 cell of 'age' in people.csv is read as unknown: 'unknown' (1); write another word where one of them is a "
        "group.",
        "1 of 24 masks has no row in people.csv and is of unknown group: p00.",
        "1 of 24 rows of people.csv has no mask: p99.nii.gz.",
    ]
    found = run(scans, tmp_path / "out", groups=tmp_path / "people.csv")
    assert found.summary["notes"] == notes
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == notes
    assert "1 of 24 masks has no row in people.csv" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_wrong_combinations_say_what_goes_with_what(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--cohort or --masks"):
        measure(tmp_path / "out")
    with pytest.raises(InputError, match="--channel: expected it with --cohort"):
        run(scans, tmp_path / "out", channel="ct")
    with pytest.raises(InputError, match=r"--adjust-for site: expected one of \['sex', 'age'\]"):
        run(scans, tmp_path / "out", options=MeasureOptions(adjust_for=("site",)))


def test_only_an_earlier_measurement_is_replaced(scans: Path, tmp_path: Path) -> None:
    run(scans, tmp_path / "out", images=None)
    with pytest.raises(InputError, match="earlier measurement; add --overwrite"):
        run(scans, tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(InputError, match="in use by something else"):
        run(scans, tmp_path / "other", overwrite=True)


def test_the_command_shows_the_table_and_takes_small_letters(scans: Path, tmp_path: Path) -> None:
    command = ["measure", "--masks", str(scans / "masks"), "--images", str(scans / "images"), "--modality", "ct"]
    command += ["--class", "5=liver", "--class", "9=spleen", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "liver" in done.stdout
    assert "not compared: 1" in done.stdout
    wrong = CliRunner().invoke(app, [*command[:-1], str(tmp_path / "two"), "--modality", "xray"])
    assert wrong.exit_code == 2
    assert "--modality xray: expected one of CT, MR" in wrong.stderr
