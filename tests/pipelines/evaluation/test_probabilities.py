"""Where probability maps are found, and what is refused."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from equivox.errors import InputError
from equivox.metrics.lesions.options import LesionOptions
from equivox.metrics.probabilistic.predicted_dice import predicted_dice
from equivox.pipelines.evaluate import EvaluateOptions, Evaluation, evaluate
from equivox.pipelines.evaluation.probabilities import ClassMap, find_probabilities, read_maps
from equivox.pipelines.evaluation.sources import ScoredCase
from equivox.pipelines.prediction.export import write_map

AFFINE = np.diag([0.5, 1.0, 3.0, 1.0])
SHAPE = (9, 8, 5)
QUICK = EvaluateOptions(bootstrap_draws=199, permutation_draws=199, simulation_repeats=100)
CLASSES = {1: "organ", 2: "cyst / left"}


def make_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A reference of two classes, and probabilities (classes, i, j, k) that are right but for noise."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:6, 1:5, 1:4], labels[7:8, 6:7, 3:4] = 1, 2
    scores = 2.5 * (labels == np.arange(3)[:, None, None, None]) + rng.normal(0, 1, (3, *SHAPE))
    return labels, np.exp(scores) / np.exp(scores).sum(axis=0)


def write_cohort(folder: Path, cases: int = 12, *, maps: str = "ours") -> None:
    for name in ("references", "predictions"):
        (folder / name).mkdir(parents=True)
    rows = []
    for number in range(cases):
        case_id = f"c{number:02d}"
        labels, probability = make_case(number)
        nib.save(nib.Nifti1Image(labels, AFFINE), folder / "references" / f"{case_id}.nii.gz")
        mask = probability.argmax(axis=0).astype(np.uint8)
        nib.save(nib.Nifti1Image(mask, AFFINE), folder / "predictions" / f"{case_id}.nii.gz")
        write_maps(folder / "predictions", case_id, probability, maps)
        rows.append((case_id, f"p{number // 2}" if number < 2 else f"p{number}", "FM"[number > 1 and number % 3 == 0]))
    pd.DataFrame(rows, columns=["case_id", "patient", "sex"]).to_csv(folder / "people.csv", index=False)


def write_maps(predictions: Path, case_id: str, probability: np.ndarray, maps: str) -> None:
    if maps in ("probabilities", "softmax"):
        np.savez_compressed(predictions / f"{case_id}.npz", **{maps: probability.transpose(0, 3, 2, 1)})
    elif maps == "ours":
        folder = predictions / "probabilities" / case_id
        folder.mkdir(parents=True)
        for index, name in enumerate(("background", "organ", "cyst___left")):
            fractions = np.rint(probability[index] * 65535).astype(np.uint16)
            write_map(fractions, AFFINE, folder / f"{index}-{name}.nii.gz")


def run(folder: Path, **settings: object) -> Evaluation:
    return evaluate(
        folder / "out",
        references=folder / "references",
        predictions=folder / "predictions",
        groups=folder / "people.csv",
        key="case_id",
        patient="patient",
        attributes=["sex"],
        classes=CLASSES,
        **{"options": QUICK, **settings},  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("maps")
    write_cohort(folder)
    (folder / "predictions" / "c05.nii.gz").unlink()
    (folder / "predictions" / "probabilities" / "c07" / "1-organ.nii.gz").unlink()
    return run(folder, options=QUICK.model_copy(update={"lesions": LesionOptions()}))


def test_calibration_is_by_class_patient_and_group(found: Evaluation) -> None:
    calibration = found.summary["tables"][0]["calibration"]
    assert list(calibration) == list(CLASSES.values())
    organ, cyst = calibration.values()
    # Twelve cases of eleven patients; one has no prediction, one no map of the organ.
    assert (organ["overall"]["patients"], organ["overall"]["cases"]) == (9, 10)
    assert (cyst["overall"]["patients"], cyst["overall"]["cases"]) == (10, 11)
    assert organ["overall"]["ece"]["low"] is None
    assert cyst["overall"]["ece"]["low"] < cyst["overall"]["ece"]["value"] < cyst["overall"]["ece"]["high"]
    assert sum(group["patients"] for group in cyst["groups"]["sex"]) == 10
    assert sum(one["weight"] for one in cyst["reliability"]) == pytest.approx(1)
    assert cyst["selective"]["patients"] == len(cyst["selective"]["curve"]) == 10
    assert found.summary["left_out"]["missing_probabilities"] == ["c07"]
    assert "probabilities" in found.summary["inputs"]
    assert "foreground region" in found.summary["methods"]["calibration"]


def test_a_patients_error_is_the_mean_over_patients_of_the_bins_of_all_its_cases(found: Evaluation) -> None:
    # Over the whole image, by hand: one patient of two cases, and all others of one.
    errors = {}
    for number in range(12):
        if number == 5:
            continue
        labels, probability = make_case(number)
        errors.setdefault("p0" if number < 2 else f"p{number}", []).append(
            (np.rint(probability[2] * 65535) / 65535 - (labels == 2)) ** 2
        )
    wanted = np.mean([np.mean(one) for one in errors.values()])
    brier = found.summary["tables"][0]["calibration"]["cyst / left"]["overall"]["whole_brier"]
    assert brier["value"] == pytest.approx(wanted, rel=1e-5)


def test_cases_have_their_predicted_dice(found: Evaluation) -> None:
    table = found.cases.set_index(["case_id", "class"])
    labels, probability = make_case(3)
    mask = probability.argmax(axis=0) == 1
    assert table.loc[("c03", "organ"), "predicted_dice"] == pytest.approx(
        predicted_dice(probability[1], mask), rel=1e-4
    )
    assert table.loc[("c05", "organ"), ["predicted_dice", "ece", "brier"]].isna().all()
    assert table["boundary_ece"].between(0, 1).sum() == 21
    assert labels.any()


def test_lesions_have_a_curve_and_a_missing_prediction_finds_none(found: Evaluation) -> None:
    froc = found.summary["tables"][0]["lesions"]["cyst / left"]["froc"]
    # One lesion a case: twelve, with that of the case without a prediction, which no threshold finds.
    assert (froc["lesions"], froc["patients"]) == (12, 11)
    assert max(value for _, value in froc["curve"]) <= 11 / 12


@pytest.mark.parametrize("key", ["probabilities", "softmax"])
def test_archives_give_what_volumes_give(tmp_path: Path, key: str) -> None:
    for maps, folder in (("ours", tmp_path / "a"), (key, tmp_path / "b")):
        write_cohort(folder, 2, maps=maps)
    one, other = (run(tmp_path / name).cases for name in ("a", "b"))
    for column in ("predicted_dice", "ece", "brier", "boundary_ece"):
        np.testing.assert_allclose(one[column], other[column], atol=1e-3)


def test_without_maps_or_on_request_nothing_is_said_of_them(tmp_path: Path) -> None:
    write_cohort(tmp_path / "a", 2, maps="none")
    write_cohort(tmp_path / "b", 2)
    for evaluation in (run(tmp_path / "a"), run(tmp_path / "b", probabilities="none")):
        assert "calibration" not in evaluation.summary["tables"][0]
        assert "missing_probabilities" not in evaluation.summary["left_out"]
        assert "ece" not in evaluation.cases


def test_maps_lie_in_a_folder_that_is_named(tmp_path: Path) -> None:
    write_cohort(tmp_path, 2)
    (tmp_path / "predictions" / "probabilities").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="auto, none or a folder of maps, got no folder"):
        run(tmp_path, probabilities=tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"such as c00/1-organ.nii.gz or c00.npz, got none"):
        run(tmp_path, probabilities=tmp_path / "references")
    assert "calibration" in run(tmp_path, probabilities=tmp_path / "elsewhere").summary["tables"][0]


def test_maps_of_another_prediction_or_turned_ones_are_refused(tmp_path: Path) -> None:
    write_cohort(tmp_path, 1, maps="none")
    probability = make_case(0)[1]
    np.savez(tmp_path / "predictions" / "c00.npz", probabilities=probability[:, ::-1, ::-1].transpose(0, 3, 2, 1))
    with pytest.raises(InputError, match=r"expected those of the predicted mask, got ones above 0\.5 mostly elsewhere"):
        run(tmp_path)


def test_maps_on_another_grid_are_refused_or_resampled(tmp_path: Path) -> None:
    write_cohort(tmp_path, 1)
    path = tmp_path / "predictions" / "probabilities" / "c00" / "1-organ.nii.gz"
    fractions = np.rint(make_case(0)[1][1] * 65535).astype(np.uint16)
    write_map(fractions, AFFINE + np.diag([0, 0, 0, 0.0]) + np.eye(4, k=3) * 0.2, path)
    with pytest.raises(
        InputError, match=r"1-organ.nii.gz: expected the grid of c00.nii.gz, got another; add --resample"
    ):
        run(tmp_path)
    evaluation = run(tmp_path, resample=True)
    assert any("linear interpolation" in one["repair"] for one in evaluation.summary["left_out"]["repairs"])


BAD = {
    "key": ({"logits": np.zeros((3, 5, 8, 9))}, r"an array 'probabilities' or 'softmax', got \['logits'\]"),
    "channels": ({"softmax": np.zeros((2, 5, 8, 9))}, "expected more than 2 channels, the background first"),
    "axes": ({"softmax": np.zeros((3, 9, 8, 5))}, r"of \(5, 8, 9\) voxels, got 3 of \(9, 8, 5\)"),
    "whole": ({"softmax": np.zeros((3, 5, 8, 9), dtype=int)}, "expected numbers with a fraction"),
    "logits": ({"softmax": np.full((3, 5, 8, 9), 3.0)}, "expected probabilities from 0 to 1"),
    "nan": ({"softmax": np.full((3, 5, 8, 9), np.nan)}, "expected probabilities from 0 to 1"),
    "objects": ({"softmax": np.array([{}], dtype=object)}, "expected an archive of numbers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_archives_that_hold_something_else_are_refused(tmp_path: Path, kind: str) -> None:
    arrays, message = BAD[kind]
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype=np.uint8), AFFINE), tmp_path / "c.nii.gz")
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(InputError, match=message):
        list(
            read_maps(
                {"a": ClassMap(tmp_path / "c.npz", (1,)), "b": ClassMap(tmp_path / "c.npz", (2,))},
                tmp_path / "c.nii.gz",
            )
        )


def test_of_a_classs_values_those_count_that_the_archive_has(tmp_path: Path) -> None:
    # The references say 255 where the masks, and so the channels, say 1.
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype=np.uint8), AFFINE), tmp_path / "c.nii.gz")
    probability = make_case(0)[1]
    np.savez(tmp_path / "c.npz", softmax=probability.transpose(0, 3, 2, 1))
    ((_, volume),) = read_maps({"a": ClassMap(tmp_path / "c.npz", (255, 1))}, tmp_path / "c.nii.gz")
    np.testing.assert_allclose(volume.array[0], probability[1], rtol=1e-6)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype=np.uint8), AFFINE), tmp_path / "c.nii.gz")
    path = tmp_path / "c.npz"
    for content in (b"", b"PK\x03\x04 cut", b"text"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="expected an archive of numbers"):
            list(read_maps({"a": ClassMap(path, (1,))}, tmp_path / "c.nii.gz"))


def test_names_that_look_alike_in_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "1-a_b.nii.gz").touch()
    case = ScoredCase("c", "c", "all", tmp_path / "c.nii.gz", tmp_path / "c.nii.gz", None, {})
    with pytest.raises(InputError, match="two that are named 'a_b'; rename the class"):
        find_probabilities(tmp_path, tmp_path, [case], {"a b": 1, "a_b": 2}, {0: 0, 1: 1, 2: 2})
    (tmp_path / "c" / "3-a_b.nii.gz").touch()
    with pytest.raises(InputError, match="two that are named 'a_b'"):
        find_probabilities(tmp_path, tmp_path, [case], {"a_b": 2}, {0: 0, 2: 2})
