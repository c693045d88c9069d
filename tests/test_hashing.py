import hashlib
from pathlib import Path

from equivox.hashing import file_sha256


def test_a_file_has_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_a_folder_changes_with_the_name_and_with_the_content_of_a_file(tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"one")
    first = file_sha256(series)
    (series / "1.dcm").rename(series / "2.dcm")
    renamed = file_sha256(series)
    (series / "2.dcm").write_bytes(b"two")
    assert len({first, renamed, file_sha256(series)}) == 3
