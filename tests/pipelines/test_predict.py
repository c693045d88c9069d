"""Prediction from files and cohorts, with tiny networks of random weights."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from equivox.datasets.cohort import ChannelConfig, CohortConfig
from equivox.errors import InputError
from equivox.options import save_options
from equivox.pipelines import predict as module
from equivox.pipelines.predict import PredictionOptions, predict
from equivox.pipelines.prediction.folder import label_values, with_values
from equivox.pipelines.run_folder import RunFolder
from equivox.pipelines.training.manifest import write_manifest

MakeRun = Callable[..., Path]
AFFINE = np.array([[-0.7, 0, 0, 5], [0, 1.1, 0, -7], [0, 0, 2.5, 11], [0, 0, 0, 1]])


def scan_file(path: Path, seed: int = 0, shape: tuple[int, ...] = (8, 8, 8), affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def table(out: Path) -> dict[str, dict[str, str]]:
    rows = pd.read_csv(out / "predictions.csv", dtype=str, keep_default_na=False)
    assert list(rows.columns) == ["case_id", "file", "role", "folds", "status", "message"]
    return {row["case_id"]: row for row in rows.to_dict("records")}


def by_hand(run: Path, path: Path, folds: tuple[int, ...]) -> np.ndarray:
    """Class indices of a one-patch scan whose first axis points left: turned, standardised, averaged, turned back."""
    values = np.asarray(nib.load(path).dataobj)[::-1]
    values = (values - values.mean()) / values.std()
    image = torch.from_numpy(values.copy())[None, None]
    with torch.no_grad():
        mean = sum(RunFolder(run).network(fold)(image)[0].softmax(1) for fold in folds)
    return mean[0].argmax(0).numpy()[::-1]


def test_label_maps_never_replace_scans_or_files_of_a_run_or_cohort(make_run: MakeRun, tmp_path: Path) -> None:
    run, scan = make_run(), scan_file(tmp_path / "scans" / "a.nii.gz")
    link = tmp_path / "links" / "a.nii.gz"
    link.parent.mkdir()
    link.symlink_to(scan)
    before = scan.read_bytes()
    for given, out in ((scan, scan.parent), (scan.parent, scan.parent), (link, link.parent)):
        with pytest.raises(
            InputError, match=r"expected a folder of its own for the label maps, got that of .*a.nii.gz;"
        ):
            predict(run, [given], out, overwrite=True)
    with pytest.raises(InputError, match=r"run: expected a folder of its own .* got that of a run; choose another"):
        predict(run, [scan], run, overwrite=True)
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "cohort.yaml").touch()
    with pytest.raises(InputError, match=r"got that of a cohort; choose another --out"):
        predict(run, [scan], tmp_path / "cohort")
    assert scan.read_bytes() == before
    assert not (run / "predictions.csv").exists()


def test_a_run_with_a_damaged_file_predicts_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    run, scan = make_run(), scan_file(tmp_path / "a.nii.gz")
    write_manifest(run, {"asked": {}, "hashes": {}, "cases": {}, "folds": {}})
    text = (run / "cohort.yaml").read_text()
    # Cut within the label values it would still be read, and label maps would get other values.
    (run / "cohort.yaml").write_text(text[: text.index("attributes")])
    with pytest.raises(InputError, match=r"cohort.yaml: expected the file as the training wrote it"):
        predict(run, [scan], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_label_map_is_the_networks_argmax_on_the_scans_own_grid(make_run: MakeRun, tmp_path: Path) -> None:
    run, scan = make_run(), scan_file(tmp_path / "a.nii.gz")
    (result,) = predict(run, [scan], tmp_path / "out")
    assert (result.status, result.role, result.folds, result.file) == ("done", "new", (0,), "a.nii.gz")
    labels = labels_of(tmp_path / "out" / "a.nii.gz")
    assert 0 < labels.mean() < 1
    np.testing.assert_array_equal(labels, by_hand(run, scan, (0,)))
    np.testing.assert_array_equal(nib.load(tmp_path / "out" / "a.nii.gz").affine, nib.load(scan).affine)


def test_folds_are_averaged_in_probability_space(make_run: MakeRun, tmp_path: Path) -> None:
    run, scan = make_run(folds=(0, 1, 2)), scan_file(tmp_path / "a.nii.gz")
    predict(run, [scan], tmp_path / "out")
    labels = labels_of(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_array_equal(labels, by_hand(run, scan, (0, 1, 2)))
    assert any((labels != by_hand(run, scan, (fold,))).any() for fold in range(3))
    predict(run, [scan], tmp_path / "two", options=PredictionOptions(folds=(2, 1)))
    np.testing.assert_array_equal(labels_of(tmp_path / "two" / "a.nii.gz"), by_hand(run, scan, (1, 2)))


def test_labels_have_the_values_of_the_cohorts_own_files(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(label_values={0: "background", 255: "tumour"})
    scan = scan_file(tmp_path / "a.nii.gz")
    predict(run, [scan], tmp_path / "out")
    labels = labels_of(tmp_path / "out" / "a.nii.gz")
    assert np.unique(labels).tolist() == [0, 255]
    np.testing.assert_array_equal(labels == 255, by_hand(run, scan, (0,)) == 1)
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == {"0": "background", "255": "tumour"}


def test_label_values_of_classes() -> None:
    def config(values: dict[int, str]) -> CohortConfig:
        return CohortConfig(name="c", channels={"mr": ChannelConfig()}, classes={"a": 1, "b": 2}, label_values=values)

    assert label_values(config({0: "background", 1: "a", 2: "b"})) == {"a": 1, "b": 2}
    assert label_values(config({7: "a", 4: "a", 2: "b", 9: "background"})) == {"a": 4, "b": 2}
    # b has no value and its index is taken by a.
    assert label_values(config({2: "a"})) == {"a": 2, "b": 3}


def test_values_take_the_smallest_type_that_holds_them() -> None:
    labels, classes = np.array([[[0, 1, 2]]], dtype=np.uint8), {"a": 1, "b": 2}
    assert with_values(labels, classes, {"a": 1, "b": 2}) is labels
    for values, dtype in [
        ((1, 255), "uint8"),
        ((1, 256), "int16"),
        ((-1, 40), "int16"),
        ((1, 60000), "uint16"),
        ((1, 70000), "int32"),
    ]:
        mapped = with_values(labels, classes, dict(zip("ab", values, strict=True)))
        assert mapped.dtype == dtype
        assert mapped.ravel().tolist() == [0, *values]


def test_resampled_and_cropped_scans_come_back_to_their_grid(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(crop="nonzero", spacing_mm=(1.0, 1.0, 1.0), dims="2d")
    path = scan_file(tmp_path / "a.nii.gz", shape=(20, 17, 9))
    image = nib.load(path)
    values = image.get_fdata()
    values[:4], values[:, 12:] = 0, 0
    nib.save(nib.Nifti1Image(values.astype(np.float32), AFFINE), path)
    (result,) = predict(run, [path], tmp_path / "out")
    assert result.status == "done"
    labels = labels_of(tmp_path / "out" / "a.nii.gz")
    assert labels.shape == (20, 17, 9)
    assert labels.any()
    assert not labels[:4].any()
    assert not labels[:, 12:].any()


def cohort_folder(path: Path, cases: list[str]) -> Path:
    for number, case in enumerate(cases):
        scan_file(path / f"{case}.nii.gz", number)
    rows = [f"{case},{case},{case}.nii.gz," for case in cases]
    (path / "cohort.csv").write_text("\n".join(["case_id,patient_id,image:mr,label", *rows]) + "\n")
    config = CohortConfig(
        name="toy", channels={"mr": ChannelConfig()}, classes={"tumour": 1}, label_values={1: "tumour"}
    )
    save_options(config, path / "cohort.yaml")
    return path


SPLIT = {"f0": "0", "f1": "1", "f2": "2", "t": "test"}


def test_cohort_cases_are_predicted_by_who_was_not_trained_on_them(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(folds=(0, 1), split=SPLIT)
    folder = cohort_folder(tmp_path / "cohort", [*SPLIT, "stranger"])
    out = tmp_path / "out"
    results = predict(run, [], out, cohort=folder)
    assert [(r.case_id, r.role, r.folds, r.status) for r in results] == [
        ("f0", "out_of_fold", (0,), "done"),
        ("f1", "out_of_fold", (1,), "done"),
        ("f2", "out_of_fold", (), "skipped"),
        ("t", "test", (0, 1), "done"),
        ("stranger", "new", (0, 1), "done"),
    ]
    assert "a case of fold 2" in results[2].message
    rows = table(out)
    assert {case: row["folds"] for case, row in rows.items()} == {
        "f0": "0", "f1": "1", "f2": "", "t": "0 1", "stranger": "0 1",
    }  # fmt: skip
    assert rows["f2"]["status"] == "skipped"
    assert rows["f2"]["file"] == ""
    assert not (out / "f2.nii.gz").exists()
    for case, folds in [("f0", (0,)), ("f1", (1,)), ("t", (0, 1)), ("stranger", (0, 1))]:
        np.testing.assert_array_equal(labels_of(out / f"{case}.nii.gz"), by_hand(run, folder / f"{case}.nii.gz", folds))


def test_chosen_folds_decide_what_is_out_of_fold(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(folds=(0, 1), split=SPLIT)
    folder = cohort_folder(tmp_path / "cohort", list(SPLIT))
    results = predict(run, [folder], tmp_path / "out", options=PredictionOptions(folds=(1,)))
    assert [r.status for r in results] == ["skipped", "done", "skipped", "done"]


def test_cohort_without_the_runs_channel_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    folder = cohort_folder(tmp_path / "cohort", ["a"])
    with pytest.raises(InputError, match="expected the channel 'ct' that the run was trained with, got mr"):
        predict(make_run(channels=("ct",)), [], tmp_path / "out", cohort=folder)
    assert not (tmp_path / "out").exists()


def test_one_failing_scan_never_stops_the_others(make_run: MakeRun, tmp_path: Path) -> None:
    scans = [scan_file(tmp_path / "in" / f"{name}.nii.gz") for name in "acd"]
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"no scan")
    scans.insert(1, tmp_path / "in" / "b.nii.gz")
    scans.append(tmp_path / "in" / "gone.nii.gz")
    for workers in (0, 1, 3):
        out = tmp_path / f"out{workers}"
        results = predict(make_run(f"run{workers}"), scans, out, workers=workers)
        assert [r.status for r in results] == ["done", "failed", "done", "done", "failed"]
        assert str(scans[1]) in results[1].message
        assert "\n" not in results[1].message
        assert not results[1].our_fault
        assert {path.name for path in out.iterdir()} == {
            "a.nii.gz", "c.nii.gz", "d.nii.gz", "predictions.csv", "labels.json", "manifest.json",
        }  # fmt: skip
        assert [row["status"] for row in table(out).values()].count("failed") == 2


def test_our_own_fault_is_told_apart(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = [scan_file(tmp_path / f"{name}.nii.gz") for name in "ab"]
    whole = module.sliding_window_probabilities
    calls = []

    def breaks_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            msg = "boom"
            raise RuntimeError(msg)
        return whole(*args, **kwargs)

    monkeypatch.setattr(module, "sliding_window_probabilities", breaks_once)
    first, second = predict(make_run(), scans, tmp_path / "out")
    assert (first.status, first.our_fault, second.status) == ("failed", True, "done")
    assert "a.nii.gz: RuntimeError: boom" in first.message


def test_what_is_there_is_refused_kept_or_made_anew(make_run: MakeRun, tmp_path: Path) -> None:
    run, out = make_run(), tmp_path / "out"
    a, b = (scan_file(tmp_path / f"{name}.nii.gz", seed) for seed, name in enumerate("ab"))
    predict(run, [a], out)
    before = (out / "a.nii.gz").stat()
    with pytest.raises(InputError, match=r"got 1 \(a.nii.gz ...\); give --resume to keep them or --overwrite"):
        predict(run, [a, b], out)
    assert not (out / "b.nii.gz").exists()
    results = predict(run, [a, b], out, resume=True)
    assert [r.status for r in results] == ["kept", "done"]
    assert (out / "a.nii.gz").stat().st_mtime_ns == before.st_mtime_ns
    assert {case: row["status"] for case, row in table(out).items()} == {"a": "done", "b": "done"}
    results = predict(run, [a], out, overwrite=True)
    assert [r.status for r in results] == ["done"]
    assert (out / "a.nii.gz").stat().st_mtime_ns > before.st_mtime_ns
    assert set(table(out)) == {"a", "b"}
    assert set(json.loads((out / "manifest.json").read_text())["cases"]) == {"a", "b"}


def test_predictions_of_other_networks_or_settings_are_never_mixed(make_run: MakeRun, tmp_path: Path) -> None:
    run, other, out = make_run(), make_run("other", seed=1), tmp_path / "out"
    a, b = (scan_file(tmp_path / f"{name}.nii.gz") for name in "ab")
    predict(run, [a], out)
    for call in ({"run": other}, {"options": PredictionOptions(overlap=0.25)}):
        with pytest.raises(InputError, match=r"same networks and settings, got other ones \(a.nii.gz"):
            predict(**{"run": run, "scans": [b], "out": out, **call})
    assert set(table(out)) == {"a"}
    # Where all that is there is made anew, nothing mixes.
    results = predict(other, [a, b], out, overwrite=True)
    assert [r.status for r in results] == ["done", "done"]


@pytest.mark.parametrize("choice", [{}, {"resume": True}, {"overwrite": True}])
@pytest.mark.parametrize("name", ["a.nii.gz", "labels.json", "manifest.json"])
def test_what_no_prediction_made_is_neither_taken_for_one_nor_replaced(
    make_run: MakeRun, tmp_path: Path, choice: dict[str, bool], name: str
) -> None:
    scan, out = scan_file(tmp_path / "a.nii.gz"), tmp_path / "references"
    out.mkdir()
    (out / name).write_text("precious")
    with pytest.raises(InputError, match=rf"references: expected a new folder, .* got {name} and no such table"):
        predict(make_run(), [scan], out, **choice)
    assert (out / name).read_text() == "precious"
    assert len(list(out.iterdir())) == 1


def test_a_label_map_of_another_scan_of_that_name_is_not_kept(make_run: MakeRun, tmp_path: Path) -> None:
    run, out = make_run(), tmp_path / "out"
    first, second = scan_file(tmp_path / "x" / "a.nii.gz", 0), scan_file(tmp_path / "y" / "a.nii.gz", 1)
    predict(run, [first], out)
    before = labels_of(out / "a.nii.gz")
    assert [r.status for r in predict(run, [second], out, resume=True)] == ["done"]
    assert (labels_of(out / "a.nii.gz") != before).any()
    assert [r.status for r in predict(run, [second], out, resume=True)] == ["kept"]


def test_label_maps_never_go_among_weights_or_prepared_cases(make_run: MakeRun, tmp_path: Path) -> None:
    run, scan = make_run(), scan_file(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"fold_0: expected a folder of its own .* got that of a run"):
        predict(run, [scan], run / "fold_0")


def test_overwrite_and_resume_exclude_each_other(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one of them, got both"):
        predict(make_run(), [tmp_path], tmp_path / "out", overwrite=True, resume=True)


def test_dry_run_writes_nothing_and_says_what_it_would_take(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(folds=(0, 1), spacing_mm=(None, None, 1.25))
    scan = scan_file(tmp_path / "a.nii.gz")
    results = predict(run, [scan, tmp_path / "gone.nii"], tmp_path / "out", dry_run=True)
    assert [r.status for r in results] == ["planned", "failed"]
    # 8 x 8 x 16 voxels (2.5 mm to 1.25 mm), patch 8: three patches along k, two folds.
    assert "8x8x16 voxels prepared, 6 network runs, at most about" in results[0].message
    assert not (tmp_path / "out").exists()


def test_manifest_names_weights_settings_and_inputs(make_run: MakeRun, tmp_path: Path) -> None:
    run, scan = make_run(), scan_file(tmp_path / "a.nii.gz")
    predict(run, [scan], tmp_path / "out", options=PredictionOptions(bfloat16=True, overlap=0.25))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["run"] == "run"
    assert len(manifest["weights"]["0"]) == 64
    assert manifest["settings"] == {"overlap": 0.25, "mirror_axes": [], "precision": "bfloat16"}
    assert len(manifest["cases"]["a"]["inputs"]["mr"]) == 64
    assert manifest["finished"] >= manifest["created"]
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("dims", "pairs", "axes"),
    [
        ("3d", (), [0, 1, 2]),
        ("3d", (("left", "right"),), [1, 2]),
        ("2d", (), [0, 1]),
        ("2d", (("left", "right"),), [1]),
    ],
)
def test_classes_with_sides_are_never_mirrored_left_to_right(
    make_run: MakeRun, tmp_path: Path, dims: str, pairs: tuple, axes: list[int]
) -> None:
    run = make_run(classes=("left", "right"), left_right_pairs=pairs, dims=dims)
    predict(run, [scan_file(tmp_path / "a.nii.gz")], tmp_path / "out", options=PredictionOptions(mirror=True))
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]["mirror_axes"] == axes


def test_maps_are_written_where_asked_for(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(classes=("left lung", "right/lung"))
    out = tmp_path / "out"
    predict(run, [scan_file(tmp_path / "a.nii.gz")], out, options=PredictionOptions(probabilities=True, entropy=True))
    maps = sorted((out / "probabilities" / "a").iterdir())
    assert [path.name for path in maps] == ["0-background.nii.gz", "1-left_lung.nii.gz", "2-right_lung.nii.gz"]
    probabilities = np.stack([nib.load(path).get_fdata() for path in maps])
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-4)
    np.testing.assert_array_equal(probabilities.argmax(0), labels_of(out / "a.nii.gz"))
    entropy = nib.load(out / "entropy" / "a.nii.gz").get_fdata()
    expected = -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(0) / np.log(3)
    np.testing.assert_allclose(entropy, expected, atol=1e-3)


def test_several_channels_by_number_and_by_name(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(channels=("ct", "pet"))
    ct, pet = scan_file(tmp_path / "in" / "p_0000.nii.gz", 0), scan_file(tmp_path / "in" / "p_0001.nii.gz", 1)
    predict(run, [tmp_path / "in"], tmp_path / "numbered")
    predict(run, [], tmp_path / "named", channels={"pet": pet, "ct": ct})
    one, two = labels_of(tmp_path / "numbered" / "p.nii.gz"), labels_of(tmp_path / "named" / "p_0000.nii.gz")
    np.testing.assert_array_equal(one, two)
    # The order counts: pet for ct is another scan.
    predict(run, [], tmp_path / "swapped", channels={"pet": ct, "ct": pet})
    assert (labels_of(tmp_path / "swapped" / "p_0001.nii.gz") != one).any()


def test_stopping_in_the_middle_leaves_whole_files_and_resumes(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = make_run(), tmp_path / "out"
    scans = [scan_file(tmp_path / f"{name}.nii.gz", seed) for seed, name in enumerate("abc")]
    whole = module.sliding_window_probabilities
    calls = []

    def stopped(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(module, "sliding_window_probabilities", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict(run, scans, out)
    assert {path.name for path in out.iterdir()} == {"a.nii.gz", "predictions.csv", "labels.json", "manifest.json"}
    assert set(table(out)) == {"a"}
    results = predict(run, scans, out, resume=True)
    assert [r.status for r in results] == ["kept", "done", "done"]
    assert set(table(out)) == {"a", "b", "c"}
    assert set(json.loads((out / "manifest.json").read_text())["cases"]) == {"a", "b", "c"}


def test_scans_of_one_name_are_both_told_of_and_the_rest_is_done(make_run: MakeRun, tmp_path: Path) -> None:
    a, b, c = (scan_file(tmp_path / name) for name in ("x/a.nii", "y/a.nii", "y/c.nii"))
    results = predict(make_run(), [a, b, c], tmp_path / "out")
    assert [r.status for r in results] == ["failed", "failed", "done"]
    assert str(a) in results[0].message
    assert str(b) in results[0].message


def test_a_run_without_a_trained_fold_or_with_others_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a trained fold, got none"):
        predict(make_run(folds=()), [tmp_path], tmp_path / "out")
    with pytest.raises(InputError, match=r"expected some of \[0\], got \[0, 3\]"):
        predict(make_run("other"), [tmp_path], tmp_path / "out", options=PredictionOptions(folds=(0, 3)))


def test_nothing_or_two_things_to_segment_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    for call in ({}, {"cohort": tmp_path, "channels": {"mr": tmp_path}}):
        with pytest.raises(InputError, match="one of the three"):
            predict(run, [], tmp_path / "out", **call)
