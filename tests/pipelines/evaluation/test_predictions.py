"""What a folder of predictions is taken to say, and what is refused."""

from pathlib import Path

import pytest

from equivox.errors import InputError
from equivox.pipelines.evaluation.predictions import listed_mask, masks_in, read_label_names, read_list, read_model

HEAD = "case_id,file,role,folds,status,message\n"


def test_masks_are_files_of_known_suffixes_that_do_not_hide(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.MHA", ".hidden.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert masks_in(tmp_path) == {"a": tmp_path / "a.MHA", "b": tmp_path / "b.nii.gz"}


@pytest.mark.parametrize("target", ["nowhere.nii.gz", "a.nii.gz"], ids=["gone", "itself"])
def test_a_link_that_leads_nowhere_is_not_taken_for_a_missing_prediction(tmp_path: Path, target: str) -> None:
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / target)
    with pytest.raises(InputError, match=r"a.nii.gz: expected a mask, got a link that leads nowhere; mend or remove"):
        masks_in(tmp_path)


def test_a_folder_named_like_a_mask_is_not_taken_for_a_missing_prediction(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(InputError, match=r"a.nii.gz: expected a mask, got a folder of that name; mend or remove it"):
        masks_in(tmp_path)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "9" * 5_000], ids=["empty", "deep", "long"])
def test_labels_that_no_reader_can_take_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(InputError, match=r"labels.json: expected JSON, got .*; mend or remove the file"):
        read_label_names(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,a.nii.gz,test,0,done,\na,b.nii.gz,test,0,done,\n", "expected each case once, got 'a' twice"),
        ("a,a.nii.gz,train,0,done,\n", "expected one of the roles test, out_of_fold, new, got 'train' for 'a'"),
        ("a,../labels/a.nii.gz,test,0,done,\n", "expected the name of a file beside it for 'a', got '../labels/a"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "predictions.csv").write_text(HEAD + rows)
    with pytest.raises(InputError, match=message):
        read_list(tmp_path)


@pytest.mark.parametrize("named", ["", "a.nii.gz"])
def test_what_an_earlier_run_left_of_a_failed_case_is_not_its_prediction(tmp_path: Path, named: str) -> None:
    mask = tmp_path / "a.nii.gz"
    mask.touch()
    (tmp_path / "predictions.csv").write_text(f"{HEAD}a,{named},test,0,failed,no memory\n")
    assert listed_mask(read_list(tmp_path)["a"], "a", tmp_path, {"a": mask}) is None
    assert listed_mask(None, "a", tmp_path, {"a": mask}) == mask


def test_a_list_of_roles_alone_goes_by_the_names_of_the_files(tmp_path: Path) -> None:
    mask = tmp_path / "a.nii.gz"
    (tmp_path / "predictions.csv").write_text("case_id,role\na,test\n")
    assert listed_mask(read_list(tmp_path)["a"], "a", tmp_path, {"a": mask}) == mask


@pytest.mark.parametrize(
    "text", ["[]", "null", '{"liver": 1}', '{"1": "a", "01": "b"}', '{"1": 5}', f'{{"{"9" * 5_000}": "a"}}']
)
def test_labels_that_are_no_mapping_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(InputError, match=r'labels.json: expected {"1": "liver", ...}, each value once, got other'):
        read_label_names(tmp_path)


@pytest.mark.parametrize(
    ("text", "model"),
    [('{"model": "unetpp", "run": 3}', {"name": "unetpp", "run": "3"}), ("[]", {"name": None, "run": None})],
)
def test_a_manifest_says_what_it_can_of_the_model(tmp_path: Path, text: str, model: dict[str, str | None]) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert read_model(tmp_path) == model
