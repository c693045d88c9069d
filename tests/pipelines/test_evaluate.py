"""The whole evaluation on masks that are small enough to score by hand."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from equivox.errors import InputError
from equivox.metrics.lesions.options import LesionOptions
from equivox.pipelines.evaluate import EvaluateOptions, Evaluation, evaluate
from equivox.pipelines.evaluation.cases import ScoringTask, score_one
from equivox.volume import Volume, write_label_map, write_volume

SPACING = np.diag([0.5, 1.0, 3.0, 1.0])
QUICK = EvaluateOptions(bootstrap_draws=999, permutation_draws=999, simulation_repeats=100)


def write_mask(path: Path, labels: np.ndarray, affine: np.ndarray = SPACING) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    empty = Volume(np.zeros((1, *labels.shape), dtype=np.float32), affine)
    write_label_map(labels.astype(np.uint8), empty, path)


def box(length: int, start: int = 0, value: int = 1) -> np.ndarray:
    """A bar of 4 x 5 x `length` voxels in a field of 6 x 7 x 40."""
    labels = np.zeros((6, 7, 40), dtype=np.uint8)
    labels[1:5, 1:6, start : start + length] = value
    return labels


def table(rows: dict[str, dict[str, str]], path: Path) -> Path:
    frame = pd.DataFrame(list(rows.values()), index=list(rows))
    frame.rename_axis("case").to_csv(path)
    return path


def make_cohort(folder: Path, patients: int = 24, *, hurt: int = 0, nominal: bool = False) -> tuple[Path, Path]:
    """A cohort of one bar a patient, half of them F; the first `hurt` F patients are predicted badly."""
    cohort, predictions = folder / "cohort", folder / "out"
    rng = np.random.default_rng(3)
    rows = []
    for index in range(patients):
        case_id, sex = f"case{index:02d}", "FM"[index % 2]
        length = 20
        good = 20 + int(rng.integers(-2, 3))
        predicted = 8 if sex == "F" and index // 2 < hurt else good
        write_mask(cohort / f"{case_id}_label.nii.gz", box(length, value=255))
        write_volume(Volume(box(length).astype(np.float32)[None], SPACING), cohort / f"{case_id}_image.nii.gz")
        write_mask(predictions / f"{case_id}.nii.gz", box(predicted))
        age = "" if index == 0 else str(30 + index)
        rows.append([case_id, f"p{index:02d}", f"{case_id}_image.nii.gz", f"{case_id}_label.nii.gz", sex, age])
    columns = ["case_id", "patient_id", "image:t1", "label", "sex", "age"]
    pd.DataFrame(rows, columns=columns).to_csv(cohort / "cohort.csv", index=False)
    (cohort / "cohort.yaml").write_text(
        "name: bars\n"
        "channels: {t1: {modality: MR}}\n"
        "classes: {bar: 1}\n"
        "label_values: {0: background, 255: bar}\n"
        "attributes:\n  sex: {}\n  age: {kind: continuous, bins: [42]}\n"
        f"nominal_spacing: {str(nominal).lower()}\n"
    )
    (predictions / "labels.json").write_text('{"0": "background", "1": "bar"}')
    return cohort, predictions


def list_predictions(predictions: Path, roles: dict[str, tuple[str, str]]) -> None:
    """Write predictions.csv: case -> (role, status)."""
    rows = [
        [case, f"{case}.nii.gz" if status == "done" else "", role, "0", status, f"{status} it"]
        for case, (role, status) in roles.items()
    ]
    columns = ["case_id", "file", "role", "folds", "status", "message"]
    pd.DataFrame(rows, columns=columns).to_csv(predictions / "predictions.csv", index=False)


def attribute(evaluation: Evaluation, name: str, table: int = 0) -> dict[str, Any]:
    return next(a for a in evaluation.summary["tables"][table]["attributes"] if a["name"] == name)


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("harmed")
    cohort, predictions = make_cohort(folder, hurt=12)
    return evaluate(folder / "eval", cohort=cohort, predictions=predictions, options=QUICK)


def test_the_folder_holds_what_the_schema_says(harmed: Evaluation) -> None:
    files = {"cases.csv", "summary.json", "groups.csv", "model_card.md", "report.html"}
    assert {path.name for path in harmed.folder.iterdir()} == files
    assert json.loads((harmed.folder / "summary.json").read_text()) == harmed.summary
    cases = pd.read_csv(harmed.folder / "cases.csv")
    expected = ["case_id", "patient_id", "role", "class", "outcome", "penalised", "dice", "iou", "sensitivity"]
    expected += ["precision", "nsd", "hd95_mm", "hd_mm", "assd_mm", "masd_mm", "volume_error_ml"]
    expected += ["relative_volume_error", "reference_ml", "prediction_ml", "reference_voxels", "prediction_voxels"]
    assert list(cases.columns) == [*expected, "slice_thickness_mm", "attribute:sex", "attribute:age"]
    assert list(harmed.summary["metrics"]) == list(harmed.summary["tables"][0]["overall"])
    assert harmed.summary["metrics"]["hd95"]["unit"] == "mm"
    assert harmed.summary["metrics"]["dice"]["version"] == 1
    assert harmed.summary["tables"][0]["role"] == "all"
    assert harmed.summary["tables"][0]["headline"]


def test_cases_with_and_without_a_value_are_all_cases(harmed: Evaluation) -> None:
    for table in harmed.summary["tables"]:
        for record in (
            *table["overall"].values(),
            *(m for c in table["by_class"].values() for m in c["metrics"].values()),
        ):
            assert sum(record[f"cases_{kind}"] for kind in ("used", "all_empty", "undefined")) == table["cases"]


def test_the_name_of_the_model_can_be_given(tmp_path: Path) -> None:
    references, predictions = standalone(tmp_path, 2)
    (predictions / "manifest.json").write_text('{"model": "unet", "run": "run-7"}')
    arguments: dict[str, Any] = {"references": references, "predictions": predictions, "options": QUICK}
    result = evaluate(tmp_path / "eval", **arguments, model_name="  Liver net\tv2 <beta>")
    assert result.summary["model"] == {"name": "Liver net v2 <beta>", "run": "run-7"}
    assert "<dt>Model</dt><dd>Liver net v2 &lt;beta&gt;</dd>" in result.report.read_text(encoding="utf-8")
    card = (result.folder / "model_card.md").read_text(encoding="utf-8")
    assert card.startswith("# Model card: Liver net v2 &lt;beta&gt;\n")
    with pytest.raises(InputError, match=r"^--model-name: expected a name of the model, got ' '; write its name"):
        evaluate(tmp_path / "other", **arguments, model_name=" ")


def test_scores_by_hand(harmed: Evaluation) -> None:
    # Bars of 8 and 20 slices of 4 x 5 voxels of 0.5 x 1 x 3 mm, sharing 8: Dice 16/28, IoU 8/20.
    # 12 slices too few: 12 * 20 * 1.5 mm^3 = 360 mm^3 = 0.36 ml. The far ends lie 12 * 3 mm apart; 5 % of the
    # reference's surface of 2 * 7 * 60 + 2 * 10 mm^2 is its end and another 2.4 mm of its sides.
    row = harmed.cases.set_index("case_id").loc["case00"]
    assert row["dice"] == pytest.approx(16 / 28)
    assert row["iou"] == pytest.approx(0.4)
    assert row["volume_error_ml"] == pytest.approx(-0.36)
    assert row["reference_ml"] == pytest.approx(0.6)
    assert row["hd95_mm"] == pytest.approx(36 - 2.4, rel=0.05)
    assert row["attribute:sex"] == "F"
    assert pd.isna(row["attribute:age"])


def test_a_harmed_group_is_found_and_told_in_words(harmed: Evaluation) -> None:
    verdict = attribute(harmed, "sex")["verdict"]
    assert verdict["answer"] == "difference"
    assert verdict["group"] == "F"
    assert verdict["difference"] < -0.3
    assert verdict["high"] < 0
    assert "Evidence of a difference: 'F' scores 0.4" in verdict["sentence"]
    assert "lower in mean Dice than the rest" in verdict["sentence"]
    # 12 slices too few are 0.36 ml; the others are wrong by 0 to 2 slices of 0.03 ml.
    assert verdict["volume_difference"]["unit"] == "ml"
    assert verdict["volume_difference"]["difference"] == pytest.approx(0.36 - 0.03, abs=0.02)
    assert re.search(r"volume error is 0\.33 ml larger \(\+0\.\d\d to \+0\.\d\d ml\)\.", verdict["sentence"])
    spread = attribute(harmed, "sex")["spread"]
    assert spread["worst_group"] == "F"
    assert spread["gap"]["excess"] > 0.2
    assert spread["es_sum"]["excess"] < 0


def test_unknown_values_count_in_the_overall_mean_alone(harmed: Evaluation) -> None:
    age = attribute(harmed, "age")
    assert age["unknown_patients"] == 1
    # Ages 31 to 53 cut at 42: 11 below, 12 from 42 on.
    assert [(g["name"], g["patients"]) for g in age["groups"]] == [("<42", 11), (">=42", 12)]
    assert harmed.summary["tables"][0]["overall"]["dice"]["patients"] == 24
    assert harmed.summary["left_out"]["unknown_group"] == {"sex": 0, "age": 1}


def test_groups_hold_intersections_flagged_small(harmed: Evaluation) -> None:
    groups = pd.read_csv(harmed.folder / "groups.csv")
    crossed = groups[groups["attribute"] == "sex & age"]
    assert set(crossed["group"]) == {"F & <42", "F & >=42", "M & <42", "M & >=42"}
    assert crossed["small"].all()
    assert crossed["low"].isna().all()
    assert not groups[groups["attribute"] == "sex"]["small"].any()


def test_never_says_what_cannot_be_known(harmed: Evaluation) -> None:
    text = "".join((harmed.folder / name).read_text() for name in ("summary.json", "groups.csv", "cases.csv"))
    assert not re.findall(r"\b(fair|unfair|unbiased|biased|safe)\b", text, flags=re.IGNORECASE)


def test_two_runs_give_the_same_numbers(harmed: Evaluation, tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, hurt=12)
    again = evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK, workers=2)
    drop = {"created", "inputs"}
    assert {k: v for k, v in again.summary.items() if k not in drop} == {
        k: v for k, v in harmed.summary.items() if k not in drop
    }


def test_nominal_spacing_leaves_no_millimetres_anywhere(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 12, hurt=6, nominal=True)
    write_mask(predictions / "case01.nii.gz", box(0))
    (predictions / "case02.nii.gz").unlink()
    result = evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK)
    for name in ("summary.json", "groups.csv", "cases.csv", "report.html"):
        # Scripts and styles of the page are no claims; `mm` in a word is none either.
        text = re.sub(r"<(script|style).*?</\1>", "", (result.folder / name).read_text(), flags=re.DOTALL)
        assert not re.findall(r"(?<![A-Za-z])(mm[23²³]?|ml|cm|millimet\w+|millilit\w+)(?![A-Za-z])", text), name
    assert {"hd95_voxels", "assd_voxels", "volume_error_voxels", "reference_voxels"} <= set(result.cases.columns)
    # 12 slices too short, and voxels have no size: nearly 12 voxels.
    assert result.cases.set_index("case_id").loc["case00", "hd95_voxels"] == pytest.approx(12, rel=0.05)
    assert result.summary["settings"]["distance_unit"] == "voxels"


def test_a_missing_prediction_is_a_failure(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 12)
    (predictions / "case03.nii.gz").unlink()
    write_mask(predictions / "stranger.nii.gz", box(3))
    result = evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK)
    row = result.cases.set_index("case_id").loc["case03"]
    assert (row["dice"], row["nsd"], row["outcome"]) == (0.0, 0.0, "no_prediction")
    # The diagonal of 6 x 7 x 40 voxels of 0.5 x 1 x 3 mm.
    assert row["hd95_mm"] == pytest.approx((3**2 + 7**2 + 120**2) ** 0.5)
    left_out = result.summary["left_out"]
    assert left_out["missing_predictions"] == ["case03"]
    assert left_out["extra_predictions"] == ["stranger"]
    assert left_out["no_prediction"] == {"bar": 1}
    dice = result.summary["tables"][0]["overall"]["dice"]
    assert (dice["cases_used"], dice["cases_penalised"]) == (12, 1)
    assert result.summary["tables"][0]["failure_rate"]["failed"] == 1


def test_roles_make_two_tables_and_skipped_cases_are_listed(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 12)
    roles = {f"case{i:02d}": ("test" if i < 4 else "out_of_fold", "done") for i in range(12)}
    roles["case05"] = ("out_of_fold", "skipped")
    roles["case06"] = ("out_of_fold", "failed")
    (predictions / "case06.nii.gz").unlink()
    list_predictions(predictions, roles)
    result = evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK)
    tables = result.summary["tables"]
    assert [(t["role"], t["headline"], t["cases"]) for t in tables] == [("test", True, 4), ("out_of_fold", False, 7)]
    assert tables[0]["overall"]["dice"]["low"] is None
    assert result.summary["left_out"]["excluded_cases"] == [{"case_id": "case05", "reason": "skipped it"}]
    assert result.summary["left_out"]["missing_predictions"] == ["case06"]


def test_cases_that_the_list_forgets_are_failures_of_their_role(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 12)
    split = pd.DataFrame({"case_id": [f"case{i:02d}" for i in range(12)]})
    split["patient_id"], split["fold"] = [f"p{i:02d}" for i in range(12)], ["test"] * 4 + ["0"] * 8
    split.to_csv(cohort / "split.csv", index=False)
    list_predictions(predictions, {f"case{i:02d}": ("test", "done") for i in range(3)})
    (predictions / "case03.nii.gz").unlink()
    result = evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK)
    assert [t["cases"] for t in result.summary["tables"]] == [4]
    assert result.summary["left_out"]["missing_predictions"] == ["case03"]
    assert len(result.summary["left_out"]["excluded_cases"]) == 8


def test_a_split_that_is_none_is_the_users_mistake(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 2)
    (cohort / "split.csv").write_text("case,part\ncase00,test\n")
    list_predictions(predictions, {"case00": ("test", "done")})
    with pytest.raises(InputError, match=r"split.csv: expected the columns case_id, patient_id, fold"):
        evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions)


def test_predictions_of_no_case_are_not_taken_for_failures_of_all(tmp_path: Path) -> None:
    cohort, _ = make_cohort(tmp_path, 2)
    with pytest.raises(InputError, match=r"a mask of at least one case of .*, such as 'case00', got none among 4"):
        evaluate(tmp_path / "eval", cohort=cohort, predictions=cohort)


def test_an_empty_folder_of_predictions_is_said_to_hold_no_masks(tmp_path: Path) -> None:
    cohort, _ = make_cohort(tmp_path, 2)
    references, _ = standalone(tmp_path, 2)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").touch()
    for given in ({"cohort": cohort}, {"references": references}):
        with pytest.raises(InputError) as raised:
            evaluate(tmp_path / "eval", predictions=tmp_path / "none", **given)
        assert str(raised.value) == f"{tmp_path / 'none'}: expected predicted masks, got none; check the folder"


def test_two_values_of_one_name_are_one_class(tmp_path) -> None:
    for folder in ("references", "predictions"):
        (tmp_path / folder).mkdir()
        labels = np.zeros((8, 7, 6), np.uint8)
        labels[1:4, 2:5, 1:4], labels[5:7, 2:5, 1:4] = 1, 2
        nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.5, 4.0, 1.0])), tmp_path / folder / "a.nii.gz")
    (tmp_path / "predictions" / "labels.json").write_text('{"0": "background", "1": "tumour", "2": "tumour"}')
    found = evaluate(tmp_path / "out", references=tmp_path / "references", predictions=tmp_path / "predictions")
    (row,) = found.cases.to_dict("records")
    assert (row["class"], row["dice"], row["reference_voxels"]) == ("tumour", 1.0, 27 + 18)


def test_background_cannot_be_a_class_of_the_predictions(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 2)
    (predictions / "labels.json").write_text('{"0": "bar", "1": "bar"}')
    with pytest.raises(InputError, match=r"out/labels.json: expected 0 to be no class, got 'bar'"):
        evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions)


def test_another_grid_stops_the_run_and_writes_nothing(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 12)
    moved = SPACING.copy()
    moved[2, 3] = 3.0
    write_mask(predictions / "case01.nii.gz", box(20), moved)
    with pytest.raises(InputError, match=r"case01.nii.gz: expected the reference's grid.* 3 mm off.*--resample"):
        evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK)
    assert not (tmp_path / "eval").exists()
    assert not list(tmp_path.glob(".partial*"))


def test_another_grid_can_be_resampled_or_left_out(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 12)
    moved = SPACING.copy()
    moved[2, 3] = 3.0
    # The same bar of slices 2 to 21, seen from a field that begins one slice higher.
    write_mask(cohort / "case01_label.nii.gz", box(20, 2, value=255))
    write_mask(predictions / "case01.nii.gz", box(20, 1), moved)
    arguments: dict[str, Any] = {"cohort": cohort, "predictions": predictions, "options": QUICK}
    mended = evaluate(tmp_path / "mended", **arguments, resample=True)
    assert mended.cases.set_index("case_id").loc["case01", "dice"] == 1.0
    assert mended.summary["left_out"]["repairs"][0]["case_id"] == "case01"
    partial = evaluate(tmp_path / "partial", **arguments, allow_partial=True)
    assert partial.summary["cohort"]["cases"] == 11
    assert "expected the reference's grid" in partial.summary["left_out"]["excluded_cases"][0]["reason"]


def test_predictions_without_labels_may_hold_the_references_values_or_indices(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 12)
    (predictions / "labels.json").unlink()
    write_mask(predictions / "case00.nii.gz", box(20, value=255))
    write_mask(predictions / "case01.nii.gz", box(20, value=1))
    result = evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK)
    assert result.cases.set_index("case_id").loc[["case00", "case01"], "dice"].tolist() == [1.0, 1.0]


def test_a_value_that_is_no_class_is_named(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 12)
    write_mask(predictions / "case01.nii.gz", box(20, value=7))
    with pytest.raises(InputError, match=r"case01.nii.gz: expected the values \[0, 1\], got 7"):
        evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK)


def test_empty_references_are_counted_and_not_scored(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 12)
    for case in ("case04", "case06"):
        write_mask(cohort / f"{case}_label.nii.gz", box(0))
        write_mask(predictions / f"{case}.nii.gz", box(0))
    write_mask(cohort / "case05_label.nii.gz", box(0))
    result = evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK)
    dice = result.summary["tables"][0]["overall"]["dice"]
    assert (dice["patients"], dice["cases_used"], dice["cases_both_empty"], dice["cases_penalised"]) == (10, 10, 2, 1)
    # A prediction where there is nothing has no sensitivity, and a precision of 0.
    for name, counts in {"dice": (10, 2, 0), "sensitivity": (9, 2, 1), "precision": (10, 2, 0)}.items():
        record = result.summary["tables"][0]["by_class"]["bar"]["metrics"][name]
        assert tuple(record[f"cases_{kind}"] for kind in ("used", "all_empty", "undefined")) == counts
    page = result.report.read_text(encoding="utf-8")
    (row,) = re.findall(r"<th scope=.row.>Sensitivity</th><td>all classes</td>.*?</tr>", page, flags=re.DOTALL)
    # Patients, cases scored, both empty, not defined, penalised.
    assert re.findall(r">(\d+)</td>", row) == ["9", "9", "2", "1", "0"]
    presence = result.summary["tables"][0]["by_class"]["bar"]["presence"]
    assert presence == {"sensitivity": 1.0, "specificity": 2 / 3, "present": 9, "absent": 3}
    perfect = QUICK.model_copy(update={"empty": "perfect"})
    result = evaluate(tmp_path / "perfect", cohort=cohort, predictions=predictions, options=perfect)
    assert result.summary["tables"][0]["overall"]["dice"]["patients"] == 12


def test_cases_of_one_patient_are_one_value(tmp_path: Path) -> None:
    references, predictions = tmp_path / "refs", tmp_path / "preds"
    rows = {}
    for index in range(3):
        write_mask(references / f"s{index}.nii.gz", box(20))
        write_mask(predictions / f"s{index}.nii.gz", box((20, 20, 8)[index]))
        rows[f"s{index}"] = {"who": "ab"[index // 2], "sex": ("F", "M", "F")[index]}
    arguments: dict[str, Any] = {
        "references": references,
        "predictions": predictions,
        "groups": table(rows, tmp_path / "people.csv"),
        "key": "case",
        "patient": "who",
        "attributes": ["sex"],
        "options": QUICK,
    }
    with pytest.raises(InputError, match=r"people.csv: column 'sex': expected one group .*, got 'F' and 'M' for a; .*"):
        evaluate(tmp_path / "eval", **arguments)
    result = evaluate(tmp_path / "eval", **arguments, allow_partial=True)
    # Patient a has two perfect cases, b one of Dice 16/28: the mean over patients, not over cases.
    dice = result.summary["tables"][0]["overall"]["dice"]
    assert dice["mean"] == pytest.approx((1 + 16 / 28) / 2)
    assert dice["low"] is None
    # Patient a is F in one case and M in the other: an error, or in no group, and said so.
    assert result.summary["left_out"]["conflicting_groups"] == {"sex": ["a"]}
    assert attribute(result, "sex")["verdict"]["answer"] == "cannot_say"


def standalone(folder: Path, count: int = 4) -> tuple[Path, Path]:
    references, predictions = folder / "refs", folder / "preds"
    for index in range(count):
        labels = box(20, value=3)
        labels[0, 0, 0] = 9
        write_mask(references / f"s{index}.nii.gz", labels)
        write_mask(predictions / f"s{index}.nii.gz", labels)
    return references, predictions


def test_classes_are_found_in_the_references(tmp_path: Path) -> None:
    references, predictions = standalone(tmp_path)
    result = evaluate(tmp_path / "eval", references=references, predictions=predictions, options=QUICK)
    assert result.summary["cohort"]["classes"] == ["label 3", "label 9"]
    assert result.summary["cohort"]["patients"] == 4
    assert any("each case counts as a patient" in note for note in result.summary["methods"]["notes"])


def test_classes_can_be_named_and_others_are_refused(tmp_path: Path) -> None:
    references, predictions = standalone(tmp_path)
    arguments: dict[str, Any] = {"references": references, "predictions": predictions, "options": QUICK}
    result = evaluate(tmp_path / "eval", **arguments, classes={3: "liver", 9: "cyst"})
    assert list(result.summary["tables"][0]["by_class"]) == ["liver", "cyst"]
    with pytest.raises(InputError, match=r"expected the values \[0, 3\], got 9"):
        evaluate(tmp_path / "other", **arguments, classes={3: "liver"})


def test_pictures_are_scored_in_voxels(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("refs", "preds"):
        (tmp_path / name).mkdir()
        for index in range(2):
            array = np.zeros((9, 11), dtype=np.uint8)
            array[2:5, 3 : 6 + index] = 255
            Image.fromarray(array).save(tmp_path / name / f"c{index}.png")
    result = evaluate(tmp_path / "eval", references=tmp_path / "refs", predictions=tmp_path / "preds", options=QUICK)
    assert result.summary["settings"]["volume_unit"] == "voxels"
    assert result.summary["cohort"]["nominal_spacing"]
    assert result.cases["dice"].tolist() == [1.0, 1.0]


def change_key(rows: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {f"x{case}": row for case, row in rows.items()}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            change_key,
            {"key": "case"},
            r"people.csv: expected case ids such as 's0', 's1' in column 'case', got 'xs0', 'xs1'; .* --key",
        ),
        (
            lambda rows: {f"{case}.nii.gz": row for case, row in rows.items()},
            {"key": "case"},
            r"got 's0.nii.gz', 's1.nii.gz'; take the suffix of files, '.nii.gz', off the ids",
        ),
        (
            lambda rows: {case: {"sex": "=1+1"} for case in rows},
            {"key": "case", "attributes": ["sex"]},
            r"people.csv: expected a group of 'sex' that a spreadsheet reads as text, got '=1\+1', .* rename it",
        ),
        (
            lambda rows: rows | {"": {"sex": "F"}},
            {"key": "case", "attributes": ["sex"]},
            r"people.csv: expected an id in column 'case' of each row, got an empty cell in line 4; fill it in",
        ),
        (lambda rows: rows, {"key": "name"}, r"people.csv: expected a column 'name'"),
        (lambda rows: rows, {"key": "case", "attributes": ["race"]}, r"people.csv: expected a column 'race'"),
        (lambda rows: rows, {"key": "case", "continuous": {"sex": (1.0,)}}, r"column 'sex': expected a number"),
        (lambda rows: rows, {}, r"people.csv: expected a column 'case_id'"),
        (
            lambda rows: rows,
            {"key": "case"},
            r"people.csv: expected a column to report by, .* with --attribute",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_named(
    tmp_path: Path,
    change: Callable[[dict[str, dict[str, str]]], dict[str, dict[str, str]]],
    options: dict[str, Any],
    message: str,
) -> None:
    references, predictions = standalone(tmp_path, 2)
    groups = table(change({f"s{i}": {"sex": "F"} for i in range(2)}), tmp_path / "people.csv")
    with pytest.raises(InputError, match=message):
        evaluate(tmp_path / "eval", references=references, predictions=predictions, groups=groups, **options)


def test_an_earlier_evaluation_is_kept_unless_told(tmp_path: Path) -> None:
    references, predictions = standalone(tmp_path, 2)
    arguments: dict[str, Any] = {"references": references, "predictions": predictions, "options": QUICK}
    evaluate(tmp_path / "eval", **arguments)
    with pytest.raises(InputError, match="add --overwrite"):
        evaluate(tmp_path / "eval", **arguments)
    evaluate(tmp_path / "eval", **arguments, overwrite=True)
    with pytest.raises(InputError, match="in use by something else"):
        evaluate(references, **arguments, overwrite=True)


def test_of_two_evaluations_into_one_new_folder_the_second_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references, predictions = standalone(tmp_path, 2)
    arguments: dict[str, Any] = {"references": references, "predictions": predictions, "options": QUICK}
    score = score_one
    rivals: list[Evaluation] = []

    def other_first(task: ScoringTask) -> Any:
        if not rivals:
            monkeypatch.setattr("equivox.pipelines.evaluate.score_one", score)
            rivals.append(evaluate(tmp_path / "eval", **arguments))
        return score(task)

    monkeypatch.setattr("equivox.pipelines.evaluate.score_one", other_first)
    with pytest.raises(InputError, match=r"eval: expected a folder that is still new, got one that another run has"):
        evaluate(tmp_path / "eval", **arguments)
    assert json.loads((tmp_path / "eval" / "summary.json").read_text()) == rivals[0].summary
    assert {path.name for path in tmp_path.iterdir()} == {"refs", "preds", "eval"}


def test_what_lies_beside_an_earlier_evaluation_is_never_replaced(tmp_path: Path) -> None:
    references, predictions = standalone(tmp_path, 2)
    arguments: dict[str, Any] = {"references": references, "options": QUICK}
    evaluate(tmp_path / "eval", predictions=predictions, **arguments)
    moved = predictions.rename(tmp_path / "eval" / "preds")
    with pytest.raises(InputError, match="expected nothing beside the earlier evaluation, got preds; move it"):
        evaluate(tmp_path / "eval", predictions=moved, **arguments, overwrite=True)
    assert len(list(moved.iterdir())) == 2


def test_a_place_that_cannot_be_written_to_is_named_before_anything_is_scored(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"references": tmp_path / "none", "predictions": tmp_path / "none"}
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="link: expected a folder, got a link"):
        evaluate(tmp_path / "link", **arguments)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"expected a folder to write to, got the file .*file on the way"):
        evaluate(tmp_path / "file" / "eval", **arguments)


def test_references_are_not_scored_against_themselves(tmp_path: Path) -> None:
    references, _ = standalone(tmp_path, 1)
    with pytest.raises(InputError, match="expected another folder than --references, got the same"):
        evaluate(tmp_path / "eval", references=references, predictions=references)


def test_ids_keep_their_zeros_from_the_table_to_the_scores(tmp_path: Path) -> None:
    references, predictions = tmp_path / "refs", tmp_path / "preds"
    for case in ("007", "100"):
        write_mask(references / f"{case}.nii.gz", box(20))
        write_mask(predictions / f"{case}.nii.gz", box(18))
    arguments: dict[str, Any] = {"references": references, "predictions": predictions, "options": QUICK}
    arguments |= {"key": "case", "attributes": ["sex"]}
    kept = table({"007": {"sex": "F"}, "100": {"sex": "M"}}, tmp_path / "kept.csv")
    result = evaluate(tmp_path / "eval", groups=kept, **arguments)
    assert result.cases.set_index("case_id")["attribute:sex"].to_dict() == {"007": "F", "100": "M"}
    lost = table({"7": {"sex": "F"}, "100": {"sex": "M"}}, tmp_path / "lost.csv")
    with pytest.raises(InputError, match=r"lost.csv: expected the id '007' in column 'case', got '7' without its"):
        evaluate(tmp_path / "other", groups=lost, **arguments)


def test_folders_that_share_no_name_are_refused(tmp_path: Path) -> None:
    references, _ = standalone(tmp_path, 2)
    with pytest.raises(InputError, match=r"expected masks named like those in .*, got s0 there and other here"):
        evaluate(tmp_path / "eval", references=references, predictions=_renamed(tmp_path))


def _renamed(folder: Path) -> Path:
    write_mask(folder / "others" / "other.nii.gz", box(20))
    return folder / "others"


def test_the_folder_that_one_is_in_is_refused_before_anything_is_scored(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"expected a folder that can be replaced, got the folder that you are in"):
        evaluate(Path(), references=tmp_path, predictions=tmp_path)


def with_names(path: Path, labels: np.ndarray, names: dict[int, str]) -> None:
    table = "".join(f'<Label Key="{value}"><![CDATA[{name}]]></Label>' for value, name in names.items())
    image = nib.Nifti1Image(labels, np.diag([0.5, 1.0, 3.0, 1.0]))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, f"<LabelTable>{table}</LabelTable>".encode()))
    path.parent.mkdir(exist_ok=True)
    nib.save(image, path)


def test_masks_that_name_their_values_are_compared_by_name(tmp_path: Path) -> None:
    labels = np.zeros((6, 5, 4), dtype=np.uint8)
    labels[1, 1:4, 1], labels[4, 1:4, 2] = 1, 2
    turned = np.choose(labels, [0, 2, 1]).astype(np.uint8)
    with_names(tmp_path / "references" / "a.nii.gz", labels, {1: "liver", 2: "spleen"})
    with_names(tmp_path / "predictions" / "a.nii.gz", turned, {1: "spleen", 2: "liver", 9: "colon"})
    found = evaluate(
        tmp_path / "out",
        references=tmp_path / "references",
        predictions=tmp_path / "predictions",
        options=EvaluateOptions(bootstrap_draws=199, permutation_draws=199),
    )
    assert found.cases.set_index("class")["dice"].to_dict() == {"liver": 1.0, "spleen": 1.0}


def test_another_tools_numbers_stand_beside_ours_and_are_explained(tmp_path: Path) -> None:
    # Three cases of one voxel of 0.5 x 1 x 3 mm: found, missed, and invented. MONAI's mean Dice leaves out the one
    # without a reference; its HD95 leaves out both that lack a mask, where ours is the diagonal.
    for number in range(3):
        labels = np.zeros((6, 5, 4), dtype=np.uint8)
        labels[2, 2, 2] = 1
        empty = np.zeros_like(labels)
        for name, found in (("references", number != 2), ("predictions", number != 1)):
            (tmp_path / name).mkdir(exist_ok=True)
            image = nib.Nifti1Image(labels if found else empty, np.diag([0.5, 1.0, 3.0, 1.0]))
            nib.save(image, tmp_path / name / f"case{number}.nii.gz")
    found = evaluate(
        tmp_path / "out",
        references=tmp_path / "references",
        predictions=tmp_path / "predictions",
        classes={1: "lesion"},
        options=EvaluateOptions(bootstrap_draws=199, permutation_draws=199, compat=("monai",), reconcile=True),
    )
    assert list(found.summary["compat"]) == ["monai"]
    theirs = found.summary["compat"]["monai"]["metrics"]
    assert found.summary["tables"][0]["overall"]["dice"]["mean"] == pytest.approx(1 / 3)
    assert theirs["hd95"]["mean"] == pytest.approx(0.0)
    table = pd.read_csv(tmp_path / "out" / "reconcile.csv").set_index(["case_id", "metric"])
    assert table.loc[("case1", "hd95"), "ours"] == pytest.approx(np.linalg.norm([3, 5, 12]))
    assert pd.isna(table.loc[("case1", "hd95"), "theirs"])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'id="other-tools"' in page


def test_lesions_are_counted_one_by_one_where_asked_for(tmp_path: Path) -> None:
    # Two lesions in the reference, one of them found, and one detection where there is none.
    reference, prediction = np.zeros((2, 12, 6, 5), dtype=np.uint8)
    reference[1:3, 1:3, 1:3] = reference[8:10, 1:3, 1:3] = prediction[1:3, 1:3, 1:3] = prediction[5, 4, 4] = 1
    for name, labels in (("references", reference), ("predictions", prediction)):
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(labels, np.diag([0.5, 1.0, 3.0, 1.0])), tmp_path / name / "a.nii.gz")
    found = evaluate(
        tmp_path / "out",
        references=tmp_path / "references",
        predictions=tmp_path / "predictions",
        classes={1: "node"},
        options=EvaluateOptions(bootstrap_draws=199, permutation_draws=199, lesions=LesionOptions()),
    )
    overall = found.summary["tables"][0]["lesions"]["node"]["overall"]
    assert overall["recall"]["value"] == pytest.approx(0.5)
    assert overall["precision"]["value"] == pytest.approx(0.5)
    assert overall["false_positives_per_patient"]["value"] == pytest.approx(1.0)
    table = pd.read_csv(tmp_path / "out" / "lesions.csv")
    assert table["outcome"].tolist() == ["found", "missed", "true_positive", "false_positive"]
    # 8 voxels of 1.5 mm3; 2 x 2 pixels of 0.5 x 1 mm are hypot(1, 2) mm long.
    assert table["volume_mm3"][0] == pytest.approx(12.0)
    assert table["long_axis_mm"][0] == pytest.approx(np.hypot(1, 2))
    assert '<section id="lesions"' in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_hottest_voxel_needs_images(tmp_path: Path) -> None:
    for name in ("references", "predictions"):
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(np.ones((3, 3, 3), dtype=np.uint8), np.eye(4)), tmp_path / name / "a.nii.gz")
    with pytest.raises(InputError, match="match=suvmax: expected an image of each case, got none of 'a'"):
        evaluate(
            tmp_path / "out",
            references=tmp_path / "references",
            predictions=tmp_path / "predictions",
            options=EvaluateOptions(lesions=LesionOptions(match="suvmax")),
        )


def make_sites(folder: Path) -> tuple[Path, Path, Path]:
    """Masks of 40 patients: site x is predicted far worse and has 15 of the 20 F; inside a site nobody is."""
    rng = np.random.default_rng(5)
    rows = {}
    for index in range(40):
        site = "x" if index < 20 else "y"
        sex = "F" if index % 20 < (15 if site == "x" else 5) else "M"
        case = f"p{index:02d}"
        write_mask(folder / "references" / f"{case}.nii.gz", box(20))
        write_mask(
            folder / "predictions" / f"{case}.nii.gz", box((10 if site == "x" else 18) + int(rng.integers(-2, 3)))
        )
        rows[case] = {"sex": sex, "site": site}
    return folder / "references", folder / "predictions", table(rows, folder / "groups.csv")


def test_within_sites_a_difference_of_sites_is_none_of_groups(tmp_path: Path) -> None:
    references, predictions, groups = make_sites(tmp_path)

    def evaluated(**chosen: Any) -> Evaluation:
        return evaluate(
            tmp_path / "eval",
            predictions=predictions,
            references=references,
            groups=groups,
            key="case",
            attributes=["sex", "site"],
            options=QUICK.model_copy(update=chosen),
            overwrite=True,
        )

    free, within = evaluated(), evaluated(permute_within="site", strata="site", interval="bca")
    assert attribute(free, "sex")["verdict"]["answer"] == "difference"
    answer = attribute(within, "sex")["verdict"]
    assert answer["answer"] != "difference"
    assert "the rest of the same 'site'" in answer["sentence"]
    raw = attribute(free, "sex")["contrasts"][0]["difference"]
    assert attribute(within, "sex")["contrasts"][0]["raw_difference"] == pytest.approx(raw)
    assert attribute(within, "site")["verdict"]["answer"] == "difference"
    assert set(within.groups.loc[within.groups["attribute"] == "sex", "raw_difference"].round(6)) == {
        round(raw, 6),
        round(-raw, 6),
    }
    # Most of the spread is that between the sites, which the strata hold fixed.
    plain, stratified = (one.summary["tables"][0]["overall"]["dice"] for one in (free, within))
    assert stratified["high"] - stratified["low"] < (plain["high"] - plain["low"]) / 2
    assert within.summary["settings"]["permute_within"] == "site"


def test_an_attribute_to_permute_within_that_is_not_declared_is_named(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 2)
    for chosen, flag in (({"permute_within": "site"}, "--permute-within"), ({"strata": "site"}, "--strata")):
        with pytest.raises(InputError, match=f"{flag} site: expected an attribute, got none of sex, age"):
            evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK.model_copy(update=chosen))
    assert not (tmp_path / "eval").exists()


def test_an_attribute_to_permute_within_needs_another_to_compare(tmp_path: Path) -> None:
    references, predictions = standalone(tmp_path, 2)
    groups = table({f"s{i}": {"sex": "FM"[i]} for i in range(2)}, tmp_path / "people.csv")
    with pytest.raises(InputError, match=r"--permute-within sex: expected another attribute .*, got 'sex' alone; name"):
        evaluate(
            tmp_path / "eval",
            references=references,
            predictions=predictions,
            groups=groups,
            key="case",
            attributes=["sex"],
            options=QUICK.model_copy(update={"permute_within": "sex"}),
        )


def test_visits_of_different_ages_contradict_nothing(tmp_path: Path) -> None:
    references, predictions = standalone(tmp_path, 4)
    rows = {f"s{index}": {"who": "ab"[index // 2], "age": str(38 + index)} for index in range(4)}
    result = evaluate(
        tmp_path / "eval",
        references=references,
        predictions=predictions,
        groups=table(rows, tmp_path / "people.csv"),
        key="case",
        patient="who",
        continuous={"age": (39.0,)},
        options=QUICK,
    )
    cases = result.cases.drop_duplicates("case_id").set_index("case_id")
    # Means of 38.5 and 40.5 years.
    assert cases["attribute:age"].tolist() == ["<39", "<39", ">=39", ">=39"]
    # A raw age is more of a patient than a reader of scores needs.
    assert not [name for name in cases.columns if name.startswith("number:")]
    assert result.summary["left_out"]["conflicting_groups"] == {}


def test_a_table_that_fits_in_part_says_so_in_the_log_and_the_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    references, predictions = standalone(tmp_path, 3)
    groups = table({name: {"sex": "F"} for name in ("s0", "s1", "x9")}, tmp_path / "people.csv")
    arguments: dict[str, Any] = {"references": references, "predictions": predictions, "groups": groups}
    result = evaluate(tmp_path / "eval", **arguments, key="case", attributes=["sex"], options=QUICK)
    lines = [
        "1 of 3 masks has no row in people.csv and is of unknown group: s2.",
        "1 of 3 rows of people.csv has no mask: x9.",
        "'sex' is 'F' wherever it is known: there are no groups of it to compare.",
    ]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == lines
    assert result.summary["methods"]["notes"][:3] == lines
    page = result.report.read_text(encoding="utf-8")
    assert "1 of 3 rows of people.csv has no mask: x9." in page
    assert attribute(result, "sex")["verdict"]["answer"] == "cannot_say"


def test_words_for_unknown_make_no_group_and_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    references, predictions = standalone(tmp_path, 6)
    sexes = ["F", "M", "Unknown", "n/a", "None", "f"]
    groups = table(
        {f"s{place}": {"sex": sex} for place, sex in enumerate(sexes)} | {"x9": {"sex": "?"}}, tmp_path / "people.csv"
    )
    arguments: dict[str, Any] = {"references": references, "predictions": predictions, "groups": groups}
    result = evaluate(tmp_path / "eval", **arguments, key="case", attributes=["sex"], options=QUICK)
    assert [one["name"] for one in attribute(result, "sex")["groups"]] == ["F", "M", "f"]
    assert result.summary["left_out"]["unknown_group"] == {"sex": 3}
    # The row of x9 has no mask.
    assert result.summary["left_out"]["unknown_words"] == {"sex": {"Unknown": 1, "n/a": 1, "None": 1}}
    assert (
        "3 cells of 'sex' in people.csv are read as unknown: 'Unknown' (1), 'n/a' (1), 'None' (1); write another word "
        "where one of them is a group."
    ) in caplog.messages
    spelled = (
        "'sex' is written 'F' (1) and 'f' (1), which are counted as 2 groups: write them alike where they are one."
    )
    assert spelled in caplog.messages
    assert spelled in result.summary["methods"]["notes"]
    page = result.report.read_text(encoding="utf-8")
    assert "patients of unknown group, in the overall mean only; 3 cells were not empty but read as unknown" in page


def test_an_id_that_a_spreadsheet_would_run_is_refused_without_a_table_too(tmp_path: Path) -> None:
    for folder in ("references", "predictions"):
        write_mask(tmp_path / folder / "=a.nii.gz", box(4))
    with pytest.raises(InputError, match=r"references: expected an id of a case that .*, got '=a', .*; rename it"):
        evaluate(tmp_path / "eval", references=tmp_path / "references", predictions=tmp_path / "predictions")


def test_words_for_unknown_in_a_cohort_are_told_too(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 4)
    people = pd.read_csv(cohort / "cohort.csv", dtype=str, keep_default_na=False)
    people.assign(sex=["F", "M", "not reported", "M"], age=["31", "NA", "33", "34"]).to_csv(
        cohort / "cohort.csv", index=False
    )
    left = evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK).summary["left_out"]
    assert left["unknown_words"] == {"sex": {"not reported": 1}, "age": {"NA": 1}}
    assert left["unknown_group"] == {"sex": 1, "age": 1}


def test_what_a_cohort_says_of_its_patients_is_checked_too(tmp_path: Path) -> None:
    cohort, predictions = make_cohort(tmp_path, 4)
    people = pd.read_csv(cohort / "cohort.csv", dtype=str, keep_default_na=False)
    people.assign(age=["31", "old", "33", "34"]).to_csv(cohort / "cohort.csv", index=False)
    with pytest.raises(InputError, match=r"cohort.csv: .*'old'"):
        evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK)
    people.assign(patient_id=["p", "p", "q", "r"]).to_csv(cohort / "cohort.csv", index=False)
    with pytest.raises(InputError, match=r"cohort.csv: column 'sex': expected one group .* 'F' and 'M' for p; .*"):
        evaluate(tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK)
    assert not (tmp_path / "eval").exists()
    found = evaluate(
        tmp_path / "eval", cohort=cohort, predictions=predictions, options=QUICK, allow_partial=True
    ).summary
    assert found["left_out"]["conflicting_groups"] == {"sex": ["p"]}


def test_perfect_scores_of_all_patients_rule_nothing_out(tmp_path: Path) -> None:
    references, predictions = standalone(tmp_path, 24)
    groups = table({f"s{place}": {"sex": "FM"[place % 2]} for place in range(24)}, tmp_path / "people.csv")
    arguments: dict[str, Any] = {"references": references, "predictions": predictions, "groups": groups}
    sex = attribute(evaluate(tmp_path / "eval", **arguments, key="case", attributes=["sex"], options=QUICK), "sex")
    assert sex["verdict"]["answer"] == "cannot_say"
    assert "every patient has the same score" in sex["verdict"]["sentence"]
    for one in sex["contrasts"]:
        assert (one["difference"], one["low"], one["high"], one["detectable_gap"]) == (0.0, None, None, None)


def test_a_reason_that_many_cases_share_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(task: ScoringTask) -> None:
        raise InputError("the worker process died")

    monkeypatch.setattr("equivox.pipelines.evaluate.score_one", die)
    references, predictions = standalone(tmp_path, 5)
    with pytest.raises(InputError, match=r"case s0: the worker process died; .*\(5 of 5 cases have errors"):
        evaluate(tmp_path / "eval", references=references, predictions=predictions)
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == [
        "5 cases (s0, s1, s2 and 2 more): the worker process died"
    ]


def test_a_group_without_any_score_does_not_vanish(tmp_path: Path) -> None:
    # Women have neither mask of the class, men both.
    rows = []
    for number in range(24):
        labels = np.zeros((6, 5, 4), dtype=np.uint8)
        labels[1:3, 1:3, 1:3] = number % 2
        for name in ("references", "predictions"):
            (tmp_path / name).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(labels, np.diag([0.5, 1.0, 3.0, 1.0])), tmp_path / name / f"c{number:02d}.nii.gz")
        rows.append((f"c{number:02d}", "FM"[number % 2]))
    pd.DataFrame(rows, columns=["case_id", "sex"]).to_csv(tmp_path / "people.csv", index=False)
    found = evaluate(
        tmp_path / "out",
        references=tmp_path / "references",
        predictions=tmp_path / "predictions",
        groups=tmp_path / "people.csv",
        attributes=["sex"],
        classes={1: "node"},
        options=EvaluateOptions(bootstrap_draws=199, permutation_draws=199),
    )
    (sex,) = found.summary["tables"][0]["attributes"]
    women, men = sex["groups"]
    assert (women["name"], women["patients"], women["cases"], women["mean"]) == ("F", 0, 12, None)
    assert (men["patients"], men["mean"]) == (12, 1.0)
    assert sex["verdict"]["answer"] == "cannot_say"
    assert "'F' (0)" in sex["verdict"]["sentence"]


def test_scans_taken_for_masks_are_refused(tmp_path: Path) -> None:
    for name in ("references", "predictions"):
        (tmp_path / name).mkdir()
        scan = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
        nib.save(nib.Nifti1Image(scan, np.eye(4)), tmp_path / name / "a.nii.gz")
    with pytest.raises(InputError, match="expected masks with a few values, got 999"):
        evaluate(tmp_path / "out", references=tmp_path / "references", predictions=tmp_path / "predictions")


def test_images_of_a_folder_are_shown_with_the_masks(tmp_path: Path) -> None:
    labels = np.zeros((6, 5, 4), dtype=np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    scan = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32)
    for name, array, suffix in (("references", labels, ""), ("predictions", labels, ""), ("scans", scan, "_0000")):
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(array, np.diag([0.5, 1.0, 3.0, 1.0])), tmp_path / name / f"a{suffix}.nii.gz")
    folders = {"references": tmp_path / "references", "predictions": tmp_path / "predictions"}
    evaluate(tmp_path / "out", **folders, images=tmp_path / "scans", modality="CT")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "There is no image to show" not in page
    assert 'data-window="lung"' in page
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected images named like the masks"):
        evaluate(tmp_path / "other", **folders, images=tmp_path / "empty")
