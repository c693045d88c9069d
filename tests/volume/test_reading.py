"""The format is told by the name, or for DICOM without a suffix by the content."""

from pathlib import Path

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.volume import Volume, read_grid, read_label_map, read_volume, write_volume
from equivox.volume.formats import format_to_read, suffix_of

READERS = [read_volume, read_label_map, read_grid]


@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_is_named(read, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.nii.gz: no such file; check the path"):
        read(tmp_path / "nothing.nii.gz")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".dcm", ""])
def test_an_empty_file_is_named(read, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").touch()
    with pytest.raises(InputError, match=r"a.*: expected an image, got an empty file"):
        read(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("read", READERS)
def test_an_unknown_suffix_names_those_that_are_known(read, tmp_path: Path) -> None:
    (tmp_path / "a.mgz").write_bytes(b"some bytes")
    with pytest.raises(InputError, match=r"a.mgz: expected a file named .nii.gz, .nii,"):
        read(tmp_path / "a.mgz")


def test_dicom_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "CT.1.2.840").write_bytes(bytes(128) + b"DICM and so on")
    assert format_to_read(tmp_path / "CT.1.2.840") == "dicom"
    assert format_to_read(tmp_path) == "dicom"


def test_capitals_do_not_matter(tmp_path: Path) -> None:
    assert suffix_of(Path("A.NII.GZ")) == ".nii.gz"
    write_volume(Volume(np.ones((1, 2, 3, 4), np.float32), np.eye(4)), tmp_path / "A.NII.GZ")
    assert read_volume(tmp_path / "A.NII.GZ").array.shape == (1, 2, 3, 4)


def test_repairs_are_logged(tmp_path: Path, caplog) -> None:
    array = np.ones((1, 2, 3, 4), np.float32)
    array[0, 0, 0, 0] = np.nan
    write_volume(Volume(array, np.eye(4)), tmp_path / "a.nii")
    with caplog.at_level("INFO", logger="equivox"):
        volume = read_volume(tmp_path / "a.nii")
    assert volume.repairs == ("1 of 24 values are NaN or infinite; they were set to 0",)
    assert caplog.messages == [f"{tmp_path / 'a.nii'}: {volume.repairs[0]}"]


def test_a_2d_volume_has_one_slice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one slice in a 2D volume, got 4"):
        write_volume(Volume(np.ones((1, 2, 3, 4)), np.eye(4), 2), tmp_path / "a.nii")
