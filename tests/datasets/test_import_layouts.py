"""Import of sources that describe themselves: BIDS, nnU-Net raw, MSD and CSV."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from equivox.datasets.cohort import load_cohort
from equivox.datasets.import_cohort import find_layout, import_cohort
from equivox.datasets.import_draft import ImportOptions
from equivox.errors import InputError

Write = Callable[..., None]


def options(**values: object) -> ImportOptions:
    return ImportOptions.model_validate(values)


@pytest.fixture
def bids(tmp_path: Path, write_case: Write) -> Path:
    """Two subjects, the first with two sessions; labels in derivatives; ages with a hole."""
    root = tmp_path / "bids"
    for seed, (subject, session) in enumerate([("sub-01", "ses-1"), ("sub-01", "ses-2"), ("sub-02", "ses-1")]):
        stem = f"{subject}_{session}"
        anat = root / subject / session / "anat"
        label = root / "derivatives" / "manual" / subject / session / "anat" / f"{stem}_desc-tumour_dseg.nii.gz"
        write_case(seed, images=[anat / f"{stem}_T1w.nii.gz", anat / f"{stem}_FLAIR.nii.gz"], label=label)
    (root / "participants.tsv").write_text("participant_id\tsex\tage\nsub-01\tM\t61\n02\tF\tn/a\n")
    (root / "participants.json").write_text(json.dumps({"sex": {"Levels": {"M": "male", "F": "female", "O": "other"}}}))
    (root / "dataset_description.json").write_text(json.dumps({"Name": "Small study", "BIDSVersion": "1.9.0"}))
    return root


def test_bids_sessions_are_cases_and_subjects_are_patients(bids: Path, tmp_path: Path) -> None:
    result = import_cohort(bids, tmp_path / "c", options(attributes=["sex"], continuous={"age": [50]}))
    cases = load_cohort(tmp_path / "c").cases
    assert [(case.case_id, case.patient_id) for case in cases] == [
        ("sub-01_ses-1", "sub-01"),
        ("sub-01_ses-2", "sub-01"),
        ("sub-02_ses-1", "sub-02"),
    ]
    assert result.layout == "bids"
    assert {name: channel.modality for name, channel in result.cohort.config.channels.items()} == {
        "FLAIR": "MR",
        "T1w": "MR",
    }
    assert cases[1].label is not None
    assert cases[1].label.name == "sub-01_ses-2_desc-tumour_dseg.nii.gz"
    assert result.cohort.config.name == "Small study"
    assert result.cohort.config.attributes["sex"].names == {"M": "male", "F": "female"}
    assert [case.attributes["age"] for case in cases] == ["61", "61", None]


def test_bids_channels_can_be_chosen_and_ordered(bids: Path, tmp_path: Path) -> None:
    result = import_cohort(bids, tmp_path / "c", options(channels=["T1w"]))
    assert list(result.cohort.config.channels) == ["T1w"]
    assert "3 images 'FLAIR' are not used: not among --channel" in result.notes


def test_bids_sessions_with_different_images_ask_for_a_choice(bids: Path, tmp_path: Path) -> None:
    next(bids.glob("sub-02/**/*FLAIR*")).unlink()
    with pytest.raises(InputError, match=r"all 3 sessions, got FLAIR in 2, T1w in 3; choose with --channel"):
        import_cohort(bids, tmp_path / "c")
    with pytest.raises(InputError, match=r"got 'T2w'; choose from these"):
        import_cohort(bids, tmp_path / "c", options(channels=["T2w"]))


def test_bids_runs_of_one_suffix_are_told_apart(bids: Path, tmp_path: Path, write_case: Write) -> None:
    for number, folder in enumerate(sorted(bids.glob("sub-*/ses-*/anat"))):
        stem = "_".join(folder.relative_to(bids).parts[:2])
        write_case(number + 7, images=[folder / f"{stem}_run-2_T1w.nii.gz"])
    result = import_cohort(bids, tmp_path / "c", options(channels=["run-2_T1w", "FLAIR"]))
    assert list(result.cohort.config.channels) == ["run-2_T1w", "FLAIR"]


def test_bids_kinds_of_label_ask_for_a_choice(bids: Path, tmp_path: Path, write_case: Write) -> None:
    other = bids / "derivatives" / "auto" / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_label-WM_mask.nii.gz"
    write_case(3, images=[], label=other)
    message = r"got auto/label-WM_mask \(1\), manual/desc-tumour_dseg \(3\); choose with --label"
    with pytest.raises(InputError, match=message):
        import_cohort(bids, tmp_path / "c")
    with pytest.raises(InputError, match=r"expected --label seg to end .* got manual/desc-tumour_dseg|got none"):
        import_cohort(bids, tmp_path / "c", options(labels={"": "nothing"}))
    result = import_cohort(bids, tmp_path / "c", options(labels={"": "tumour_dseg"}))
    assert all(case.label is not None for case in result.cohort.cases)


def test_bids_without_sessions_and_table_is_read(tmp_path: Path, write_case: Write) -> None:
    root = tmp_path / "bids"
    write_case(0, images=[root / "sub-x" / "anat" / "sub-x_T1w.nii.gz"])
    result = import_cohort(root, tmp_path / "c")
    assert [(case.case_id, case.patient_id, case.label) for case in result.cohort.cases] == [("sub-x", "sub-x", None)]


@pytest.fixture
def nnunet(tmp_path: Path, write_case: Write) -> Path:
    root = tmp_path / "Dataset001_Small"
    for seed, case in enumerate(["p_1", "p_2"]):
        images = [root / "imagesTr" / f"{case}_{index:04d}.nii.gz" for index in range(2)]
        write_case(seed, images=images, label=root / "labelsTr" / f"{case}.nii.gz")
    write_case(5, images=[root / "imagesTs" / f"q_{index:04d}.nii.gz" for index in range(2)])
    describe(root)
    return root


def describe(root: Path, **changes: object) -> None:
    values: dict[str, object] = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "left lung": 1, "right lung": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(values | changes))


def test_nnunet_raw_is_read_with_its_channels_and_labels(nnunet: Path, tmp_path: Path) -> None:
    result = import_cohort(nnunet, tmp_path / "c")
    config = result.cohort.config
    assert result.layout == "nnunet"
    assert {name: channel.modality for name, channel in config.channels.items()} == {"CT": "CT", "PET": "PET"}
    assert config.classes == {"left lung": 1, "right lung": 2}
    assert config.left_right_pairs == (("left lung", "right lung"),)
    assert [case.case_id for case in result.cohort.cases] == ["p_1", "p_2"]
    assert result.cohort.cases[1].images["PET"] == nnunet / "imagesTr" / "p_2_0001.nii.gz"
    notes = "\n".join(result.notes)
    assert "each case is taken as its own patient" in notes
    assert "1 test images are not imported" in notes


def test_nnunet_raw_takes_patients_from_a_table(nnunet: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,who,sex\np_1,p,F\np_2,p,F\n")
    given = options(table=tmp_path / "people.csv", key="id", patient="who", attributes=["sex"])
    assert import_cohort(nnunet, tmp_path / "c", given).cohort.patients == ("p",)


def test_nnunet_explicit_dataset_follows_its_paths(
    nnunet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nnunet / "imagesTr").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("SCANS", str(tmp_path / "elsewhere"))
    files = {"images": ["$SCANS/p_1_0000.nii.gz", "../elsewhere/p_1_0001.nii.gz"], "label": "labelsTr/p_1.nii.gz"}
    describe(nnunet, dataset={"first": files})
    case = import_cohort(nnunet, tmp_path / "c").cohort.cases[0]
    assert case.case_id == "first"
    assert case.images == {name: tmp_path / "elsewhere" / f"p_1_000{i}.nii.gz" for i, name in enumerate(["CT", "PET"])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "whole": [1, 2]}}, r"got region 'whole': \[1, 2\]; name each value by itself"),
        ({"labels": {"background": 0, "ignore": 3}}, r"got the label 'ignore' \(3\), which cannot be imported"),
        ({"labels": {"background": 0, "a": 1.5}}, r"expected whole numbers for the labels"),
        ({"labels": None}, r"expected 'labels' such as"),
        ({"channel_names": ["CT"]}, r"expected 'channel_names'"),
        ({"file_ending": ".nrrd"}, r"expected files CASE_0000\.nrrd, got none; check file_ending"),
        ({"dataset": {"a": {"images": ["x.nii.gz"]}}}, r"expected 2 images for case 'a', got \['x\.nii\.gz'\]"),
        ({"dataset": {"a": {"images": ["x.nii", "y.nii"]}}}, r"'a' has no such file: .*x\.nii"),
    ],
)
def test_a_dataset_json_that_cannot_be_read_is_refused(
    nnunet: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    describe(nnunet, **changes)
    with pytest.raises(InputError, match=message):
        import_cohort(nnunet, tmp_path / "c")


def test_broken_json_is_named(nnunet: Path, tmp_path: Path) -> None:
    (nnunet / "dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset\.json: expected JSON, got"):
        import_cohort(nnunet, tmp_path / "c")


def make_msd(root: Path, modality: dict[str, str]) -> Path:
    training = [{"image": f"./imagesTr/p{index}.nii.gz", "label": f"./labelsTr/p{index}.nii.gz"} for index in range(2)]
    values = {
        "name": "Small",
        "modality": modality,
        "labels": {"0": "background", "1": "tumour"},
        "training": training,
        "test": ["./imagesTs/x.nii.gz"],
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(values))
    return root


def test_msd_is_read(tmp_path: Path, write_case: Write) -> None:
    root = make_msd(tmp_path / "Task", {"0": "CT"})
    for seed in range(2):
        write_case(seed, images=[root / "imagesTr" / f"p{seed}.nii.gz"], label=root / "labelsTr" / f"p{seed}.nii.gz")
    result = import_cohort(root, tmp_path / "c")
    assert (result.layout, result.cohort.config.name) == ("msd", "Small")
    assert result.cohort.config.classes == {"tumour": 1}
    assert [case.case_id for case in result.cohort.cases] == ["p0", "p1"]
    # The file itself leads to the same cohort as its folder.
    assert import_cohort(root / "dataset.json", tmp_path / "d").cohort.cases == result.cohort.cases


def test_msd_with_several_channels_says_what_to_do_and_splits_when_asked(tmp_path: Path, write_case: Write) -> None:
    root = make_msd(tmp_path / "Task", {"0": "FLAIR", "1": "T1w"})
    affine = np.diag([1.0, 1.5, 4.0, 1.0])
    arrays = [np.random.default_rng(seed).integers(0, 99, (4, 3, 2, 2)).astype(np.int16) for seed in range(2)]
    (root / "imagesTr").mkdir()
    for seed, array in enumerate(arrays):
        image = nib.Nifti1Image(array, affine)
        if seed == 1:
            image.header.set_slope_inter(0.5, 1.0)
        image.to_filename(root / "imagesTr" / f"p{seed}.nii.gz")
        write_case(seed, images=[], label=root / "labelsTr" / f"p{seed}.nii.gz")
    with pytest.raises(InputError, match=r"4D images of 2 channels .* add --split-channels"):
        import_cohort(root, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    cases = import_cohort(root, tmp_path / "c", options(split_channels=True)).cohort.cases
    for seed, case in enumerate(cases):
        for index, path in enumerate(case.images.values()):
            part = nib.Nifti1Image.from_filename(path)
            whole = nib.Nifti1Image.from_filename(root / "imagesTr" / f"p{seed}.nii.gz")
            np.testing.assert_array_equal(part.get_fdata(), whole.get_fdata()[..., index])
            np.testing.assert_array_equal(part.affine, affine)
    assert "images/p0_0000.nii.gz" in (tmp_path / "c" / "cohort.csv").read_text()


def test_a_csv_in_our_own_form_is_read_with_its_attributes(tmp_path: Path, write_case: Write) -> None:
    rows = ["case_id,patient_id,image:CT,label,sex"]
    for seed, case in enumerate(["a", "b"]):
        write_case(seed, images=[tmp_path / f"{case}.nii.gz"], label=tmp_path / f"{case}_l.nii.gz")
        rows.append(f"{case},p,{case}.nii.gz,{tmp_path}/{case}_l.nii.gz,{'1.0' if seed else ''}")
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    cohort = import_cohort(tmp_path / "mine.csv", tmp_path / "c").cohort
    assert cohort.config.name == "mine"
    assert [case.attributes for case in cohort.cases] == [{"sex": None}, {"sex": "1"}]
    assert cohort.cases[0].images["CT"] == tmp_path / "a.nii.gz"
    assert cohort.patients == ("p",)


def test_a_csv_with_columns_of_other_names_is_mapped(tmp_path: Path, write_case: Write) -> None:
    write_case(0, images=[tmp_path / "a.nii.gz"], label=tmp_path / "l.nii.gz", value=3)
    (tmp_path / "mine.csv").write_text("scan;mask;id;who;sex;height\na.nii.gz;l.nii.gz;007;x;F;170\n")
    given = options(images={"ct": "scan"}, labels={"": "mask"}, key="id", patient="who", attributes=["sex"])
    case = import_cohort(tmp_path / "mine.csv", tmp_path / "c", given).cohort.cases[0]
    assert (case.case_id, case.patient_id, case.attributes) == ("007", "x", {"sex": "F"})
    with pytest.raises(InputError, match=r"expected columns 'image:<channel>', got scan, mask"):
        import_cohort(tmp_path / "mine.csv", tmp_path / "d")
    with pytest.raises(InputError, match=r"expected a column 'scans', got scan, mask"):
        import_cohort(tmp_path / "mine.csv", tmp_path / "d", options(images={"ct": "scans"}, key="id"))


def test_label_files_that_cannot_be_read_are_noted_not_fatal(tmp_path: Path, write_case: Write) -> None:
    for seed, case in enumerate(["a", "b"]):
        write_case(seed, images=[tmp_path / "s" / f"{case}.nii.gz"], label=tmp_path / "l" / f"{case}.nii.gz")
    (tmp_path / "l" / "b.nii.gz").write_bytes(b"no image")
    given = options(images={"ct": "s/{case_id}.nii.gz"}, labels={"": "l/{case_id}.nii.gz"})
    result = import_cohort(tmp_path, tmp_path / "c", given)
    assert any("1 label files could not be read" in note and "b.nii.gz" in note for note in result.notes)
    (tmp_path / "l" / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"none of the 2 label files could be read"):
        import_cohort(tmp_path, tmp_path / "d", given)


def test_a_cohort_folder_needs_no_import(nnunet: Path, tmp_path: Path) -> None:
    import_cohort(nnunet, tmp_path / "c")
    with pytest.raises(InputError, match=r"got a cohort folder already; use it as it is"):
        find_layout(tmp_path / "c", options())
