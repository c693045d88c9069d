"""Which scans files, folders and several channels stand for."""

from pathlib import Path

import pytest

from equivox.errors import InputError
from equivox.pipelines.prediction.scans import find_scans, scan_of_channels


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return paths


def names(scans: list) -> list[str]:
    return [scan.case_id for scan in scans]


def test_files_are_named_as_they_are_and_count_once(tmp_path: Path) -> None:
    a, b = touch(tmp_path, "b.v2.NII.gz", "a.mha")
    scans = find_scans([a, b, a], ["ct"])
    assert names(scans) == ["b.v2", "a"]
    assert scans[0].images == {"ct": a}
    assert not any(scan.fault for scan in scans)


def test_folder_stands_for_its_images_by_name_not_deeper(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii", "a.nii.gz", "notes.txt", "._a.nii.gz", "deeper/c.nii", "pair.hdr", "pair.img")
    assert names(find_scans([tmp_path], ["ct"])) == ["a", "b", "pair"]


def test_an_img_without_its_header_is_listed_to_be_told_of(tmp_path: Path) -> None:
    touch(tmp_path, "alone.img")
    assert names(find_scans([tmp_path], ["ct"])) == ["alone"]


def test_folder_of_slices_is_one_scan_and_a_folder_of_such_folders_several(tmp_path: Path) -> None:
    touch(tmp_path, "study/one/1.dcm", "study/one/2.dcm", "study/two/7.dcm")
    (tmp_path / "study" / "three").mkdir()
    bare = tmp_path / "study" / "three" / "IM0001"
    bare.write_bytes(bytes(128) + b"DICM")
    assert names(find_scans([tmp_path / "study" / "one"], ["ct"])) == ["one"]
    assert names(find_scans([tmp_path / "study"], ["ct"])) == ["one", "three", "two"]


def test_folder_without_scans_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(InputError, match=r"expected scans .*, got none"):
        find_scans([tmp_path], ["ct"])


def test_missing_file_is_a_fault_of_that_scan_alone(tmp_path: Path) -> None:
    (here,) = touch(tmp_path, "here.nii")
    scans = find_scans([tmp_path / "gone.nii", here], ["ct"])
    assert "gone.nii: no such file" in scans[0].fault
    assert scans[1].fault == ""


def test_channels_are_joined_by_their_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "p1_0000.nii.gz", "p1_0001.nii.gz", "p2_0001.nii.gz", "p2_0000.nii.gz")
    scans = find_scans([tmp_path], ["ct", "pet"])
    assert names(scans) == ["p1", "p2"]
    assert {name: path.name for name, path in scans[1].images.items()} == {
        "ct": "p2_0000.nii.gz",
        "pet": "p2_0001.nii.gz",
    }


def test_faults_of_channels_are_told_and_the_other_cases_are_sound(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii", "b_0000.nii", "b_0001.nii", "c_0000.nii", "c_0001.nii", "c_0002.nii", "plain.nii")
    touch(tmp_path, "d_0000.nii", "d_0000.nii.gz", "d_0001.nii")
    faults = {scan.case_id: scan.fault for scan in find_scans([tmp_path], ["ct", "pet"])}
    assert "expected channel 'pet' beside it with the ending _0001" in faults["a"]
    assert faults["b"] == ""
    assert "expected channels 0000 to 0001, got 0002" in faults["c"]
    assert "expected one file for channel 0000, got 2" in faults["d"]
    assert "plain.nii: expected one file for each channel (ct, pet)" in faults["plain"]


def test_single_channel_ending_is_dropped_only_where_all_files_have_it(tmp_path: Path) -> None:
    a, b, c = touch(tmp_path, "a_0000.nii", "b_0000.nii", "b_0001.nii")
    assert names(find_scans([a, b], ["ct"])) == ["a", "b"]
    assert names(find_scans([a, b, c], ["ct"])) == ["a_0000", "b_0000", "b_0001"]


def test_scans_of_the_same_output_name_are_both_refused(tmp_path: Path) -> None:
    a, b, c = touch(tmp_path, "one/Scan.nii", "two/scan.nii.gz", "three/other.nii")
    scans = find_scans([a, b, c], ["ct"])
    assert f"{a}: expected a name of its own" in scans[0].fault
    assert str(b) in scans[0].fault
    assert f"{b}: expected a name of its own" in scans[1].fault
    assert scans[2].fault == ""


@pytest.mark.parametrize(
    ("name", "case_id"), [("a:b?.nii", "a_b_"), ("..nii", "scan"), ("-x .nii", "x"), ("é 1.nii", "é 1")]
)
def test_names_are_made_safe(tmp_path: Path, name: str, case_id: str) -> None:
    assert names(find_scans([tmp_path / name], ["ct"])) == [case_id]


def test_named_channels_make_one_scan_named_as_the_first(tmp_path: Path) -> None:
    pet, ct = touch(tmp_path, "pet.nii", "ct.nii")
    scan = scan_of_channels({"pet": pet, "ct": ct}, ["ct", "pet"])
    assert scan.case_id == "ct"
    assert list(scan.images) == ["ct", "pet"]
    with pytest.raises(InputError, match="expected a file for each of ct, pet, got pet"):
        scan_of_channels({"pet": pet}, ["ct", "pet"])
