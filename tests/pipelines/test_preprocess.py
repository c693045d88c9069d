"""Filling the store: once, in parallel, and again only what changed."""

import json
import os
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from equivox.cli.app import app
from equivox.datasets.cohort import load_cohort
from equivox.datasets.plan import IntensityPlan, PreprocessingPlan
from equivox.datasets.room import require_room_by_header
from equivox.datasets.store import Store
from equivox.errors import InputError
from equivox.pipelines.plan import load_plan, make_plan, plan_cohort
from equivox.pipelines.preprocess import fill_store, preprocess
from equivox.volume import Grid


def write_scan(path, seed, dtype=np.float32) -> None:
    array = np.random.default_rng(seed).integers(0, 2 if dtype == np.uint8 else 900, (9, 8, 7)).astype(dtype)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.5, 4.0, 1.0])), path)


@pytest.fixture
def folder(tmp_path):
    rows = ["case_id,patient_id,image:mr,label"]
    for number in range(3):
        write_scan(tmp_path / f"{number}.nii.gz", number)
        write_scan(tmp_path / f"{number}_label.nii.gz", number, np.uint8)
        rows.append(f"case{number},p{number},{number}.nii.gz,{number}_label.nii.gz")
    (tmp_path / "cohort.csv").write_text("\n".join(rows) + "\n")
    config = {
        "name": "small",
        "channels": {"mr": {"modality": "MR"}},
        "classes": {"lesion": 1},
        "label_values": {0: "background", 1: "lesion"},
    }
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(config))
    plan_cohort(load_cohort(tmp_path))
    return tmp_path


def test_every_case_is_prepared_once(folder, monkeypatch) -> None:
    keys = preprocess(folder, workers=1)
    assert list(keys) == ["case0", "case1", "case2"]
    assert json.loads((folder / "store" / "index.json").read_text()) == keys
    assert all(Store(folder / "store").has(key, verify=True) for key in keys.values())
    # The second run reads no scan, and hashes none.
    monkeypatch.setattr("equivox.pipelines.preprocess.map_cases", lambda *_, **__: pytest.fail("worked again"))
    monkeypatch.setattr("equivox.datasets.store.file_sha256", lambda _: pytest.fail("hashed again"))
    assert preprocess(folder, workers=1) == keys


def test_a_changed_file_redoes_its_case_alone(folder) -> None:
    before = preprocess(folder, workers=1)
    write_scan(folder / "1.nii.gz", 77)
    os.utime(folder / "1.nii.gz", ns=(5, 5))
    result = fill_store(folder, workers=1)
    assert result.made == ("case1",)
    assert result.keys["case1"] != before["case1"]
    assert result.keys["case0"] == before["case0"]


def test_a_touched_file_with_the_same_content_redoes_nothing(folder) -> None:
    preprocess(folder, workers=1)
    os.utime(folder / "1.nii.gz", ns=(5, 5))
    assert fill_store(folder, workers=1).made == ()


def test_another_preparation_redoes_everything_and_going_back_nothing(folder) -> None:
    preprocess(folder, workers=1)
    other = make_plan(load_cohort(folder), overrides=["preprocessing.image_interpolation=linear"])
    assert len(fill_store(folder, workers=1, plan=other).made) == 3
    assert fill_store(folder, workers=1).made == ()


def test_another_network_redoes_nothing(folder) -> None:
    preprocess(folder, workers=1)
    other = make_plan(load_cohort(folder), overrides=["networks.2d.batch_size=5"])
    assert fill_store(folder, workers=1, plan=other).made == ()


def test_a_damaged_entry_is_made_again(folder, caplog) -> None:
    keys = preprocess(folder, workers=1)
    (folder / "store" / keys["case2"] / "image.b2nd").write_bytes(b"gone")
    with caplog.at_level("WARNING", "equivox"):
        assert fill_store(folder, workers=1).made == ("case2",)
    assert "is damaged" in caplog.text


def test_a_failing_case_is_listed_and_the_others_go_on(folder) -> None:
    (folder / "1.nii.gz").write_bytes(b"broken")
    result = fill_store(folder, workers=1)
    assert list(result.failures) == ["case1"]
    assert "1.nii.gz" in result.failures["case1"]
    assert list(result.keys) == ["case0", "case2"]
    with pytest.raises(InputError, match=r"case 'case1': .*1\.nii\.gz"):
        preprocess(folder, workers=1)


def test_worker_processes_give_the_same_store(folder, tmp_path_factory) -> None:
    keys = preprocess(folder, workers=1)
    alone = Store(folder / "store").read(keys["case0"]).image[...]
    (folder / "store").rename(folder / "first")
    assert preprocess(folder, workers=2) == keys
    np.testing.assert_array_equal(Store(folder / "store").read(keys["case0"]).image[...], alone)


def test_without_a_plan_it_says_how_to_make_one(folder) -> None:
    (folder / "plan.yaml").unlink()
    with pytest.raises(InputError, match=r"plan\.yaml: no such file; run 'equivox plan"):
        preprocess(folder, workers=1)


def test_the_commands_plan_and_preprocess(folder) -> None:
    run = CliRunner()
    planned = run.invoke(app, ["plan", str(folder), "--set", "preprocessing.crop=none", "--memory-gib", "2"])
    assert planned.exit_code == 0, planned.output
    assert "plan.yaml" in planned.stdout
    assert f"next: equivox train --cohort {folder} --out RUN" in planned.stdout
    shown = run.invoke(app, ["plan", str(folder), "--json"])
    assert json.loads(shown.stdout)["cohort"] == "small"
    done = run.invoke(app, ["preprocess", str(folder), "--json"])
    assert done.exit_code == 0
    assert sorted(json.loads(done.stdout)["made"]) == ["case0", "case1", "case2"]
    (folder / "0_label.nii.gz").write_bytes(b"broken")
    failed = run.invoke(app, ["preprocess", str(folder)])
    assert failed.exit_code == 2
    assert "case 'case0'" in failed.output
    assert "2 were there already" in failed.output


def respaced(folder, spacing, crop):
    settings = [f"preprocessing.spacing_mm={spacing}", f"preprocessing.crop={crop}"]
    return make_plan(load_cohort(folder), overrides=settings)


@pytest.mark.parametrize("crop", ["none", "nonzero"])
def test_a_voxel_size_that_no_memory_holds_is_refused_before_any_work(folder, monkeypatch, crop) -> None:
    monkeypatch.setattr("equivox.pipelines.preprocess.map_cases", lambda *_, **__: pytest.fail("began to work"))
    # 9 x 8 x 7 voxels of 1 x 1.5 x 4 mm give 90,000 x 120,000 x 28,000.
    wanted = r"case 'case0': spacing_mm: expected .* GiB of this machine's memory .*90000 x 120000 x 28000 voxels of .*"
    with pytest.raises(
        InputError, match=wanted + r"the scan's own are 1 x 1.5 x 4 mm\); raise preprocessing.spacing_mm"
    ):
        fill_store(folder, workers=1, plan=respaced(folder, "[0.0001, 0.0001, 0.001]", crop))
    assert not (folder / "store").exists()


def test_a_case_that_only_its_turn_shows_to_be_too_large_fails_alone(folder, monkeypatch) -> None:
    # 90 x 120 x 28 voxels of 16 bytes (the image twice, the label twice) are 4.6 MiB; an eighth of it is 0.6.
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=2 * 2**20))
    result = fill_store(folder, workers=1, plan=respaced(folder, "[0.1, 0.1, 1.0]", "nonzero"))
    assert sorted(result.failures) == ["case0", "case1", "case2"]
    assert "spacing_mm: expected a prepared scan" in result.failures["case0"]
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=5 * 2**20))
    assert len(fill_store(folder, workers=1, plan=respaced(folder, "[0.1, 0.1, 1.0]", "nonzero")).made) == 3


def test_a_long_ct_has_room_on_a_small_machine(monkeypatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=8 * 2**30))
    plan = PreprocessingPlan(
        channels=("ct",),
        spacing_mm=(0.7, 0.7, 1.0),
        intensity={"ct": IntensityPlan(scheme="standardise")},
        resample_channels={"ct": "same_grid"},
        crop="none",
    )
    require_room_by_header(Grid((512, 512, 1000), np.diag([0.7, 0.7, 1.0, 1.0])), plan)
    with pytest.raises(InputError, match=r"1024 x 1024 x 1000 voxels of 0.7 x 0.7 x 1 mm, which take 16 GiB"):
        require_room_by_header(Grid((512, 512, 1000), np.diag([1.4, 1.4, 1.0, 1.0])), plan)


def test_a_plan_of_other_classes_than_the_cohorts_is_refused(folder) -> None:
    plan = load_plan(folder)
    for change, words in (
        ({"classes": {"other": 1}}, "expected the classes of the cohort"),
        ({"nominal_spacing": not plan.nominal_spacing}, "expected the nominal_spacing of the cohort"),
    ):
        with pytest.raises(InputError, match=rf"plan\.yaml: {words}.*; run 'equivox plan' again"):
            fill_store(folder, workers=1, plan=plan.model_copy(update=change))
    assert not (folder / "store").exists()


def test_cases_off_the_grid_are_told_once_with_what_to_do(folder) -> None:
    for number in (0, 2):
        label = nib.load(folder / f"{number}_label.nii.gz")
        nib.save(label.slicer[:-1], folder / f"{number}_label.nii.gz")
    with pytest.raises(InputError) as caught:
        preprocess(folder, workers=1)
    line = str(caught.value)
    assert line.startswith("case 'case0': ")
    assert line.endswith(f"see 'equivox cohort check' (and 1 more: 'equivox preprocess {folder}' lists them)")
    assert line.count("cohort check") == line.count("0_label.nii.gz") == 1
    with pytest.raises(InputError) as caught:
        make_plan(load_cohort(folder))
    assert str(caught.value).count("cohort check") == 1
    assert str(caught.value).endswith("(and 1 more, listed above)")
