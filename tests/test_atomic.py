import errno
import os
import stat
import time
from pathlib import Path

import pytest

from equivox.atomic import atomic_folder, atomic_path, remove_remains, remove_remains_of, require_writable, write_text
from equivox.errors import InputError


def test_a_failed_write_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "scan.nii.gz"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as temporary:
        temporary.write_text("new, but ha")
        raise RuntimeError("half way")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_name_keeps_every_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "sub" / "scan.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path / "sub"
        temporary.write_text("whole")
    assert (tmp_path / "sub" / "scan.nii.gz").read_text() == "whole"


def test_a_written_file_can_be_read_by_the_group_as_any_other(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ä")
    (tmp_path / "plain.txt").write_text("ä")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == stat.S_IMODE((tmp_path / "plain.txt").stat().st_mode)
    assert (tmp_path / "a.txt").read_bytes() == "ä".encode()


def test_a_folder_replaces_the_older_one_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "evaluation"
    target.mkdir()
    (target / "old.csv").write_text("old")
    with atomic_folder(target) as temporary:
        (temporary / "new.csv").write_text("new")
        assert (target / "old.csv").exists()
    assert [path.name for path in target.iterdir()] == ["new.csv"]
    assert list(tmp_path.iterdir()) == [target]


def fill(folder: Path, name: str) -> None:
    """Write two files that both say who wrote them."""
    for file in ("a.txt", "b.txt"):
        (folder / file).write_text(name)


def told(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.iterdir())]


def test_of_two_that_make_one_new_folder_at_once_the_second_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "evaluation"
    with (
        pytest.raises(InputError, match=r"evaluation: expected a folder that is still new, .*; choose another --out"),
        atomic_folder(target, replace=False) as slow,
    ):
        fill(slow, "slow")
        with atomic_folder(target, replace=False) as fast:
            fill(fast, "fast")
    assert told(target) == ["fast", "fast"]
    assert list(tmp_path.iterdir()) == [target]


def test_an_empty_folder_is_free_to_be_taken(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    with atomic_folder(tmp_path / "evaluation", replace=False) as temporary:
        fill(temporary, "new")
    assert told(tmp_path / "evaluation") == ["new", "new"]


@pytest.mark.parametrize("moment", [1, 2])
def test_of_two_that_replace_one_folder_at_once_one_is_there_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    # The other one comes before the old folder is moved away (1), and before the new one is moved into its place (2).
    target = tmp_path / "evaluation"
    target.mkdir()
    fill(target, "old")
    rename, calls = Path.rename, []

    def rival(self: Path, to: Path) -> Path:
        calls.append(self)
        if len(calls) == moment:
            with atomic_folder(target) as other:
                fill(other, "other")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", rival)
    with atomic_folder(target) as temporary:
        fill(temporary, "last")
    assert len(calls) > 2
    assert told(target) == ["last", "last"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_moved_away_by_another_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, elsewhere = tmp_path / "evaluation", tmp_path / "elsewhere"
    target.mkdir()
    fill(target, "old")
    rename = Path.rename

    def rival(self: Path, to: Path) -> Path:
        if self == target and not elsewhere.exists():
            rename(target, elsewhere)
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", rival)
    with atomic_folder(target) as temporary:
        fill(temporary, "last")
    assert told(target) == ["last", "last"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "evaluation"]


def test_a_failed_folder_leaves_the_older_one(tmp_path: Path) -> None:
    target = tmp_path / "evaluation"
    target.mkdir()
    (target / "old.csv").write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_folder(target) as temporary:
        (temporary / "new.csv").write_text("new")
        raise RuntimeError("half way")
    assert (target / "old.csv").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_only_old_remains_of_killed_programs_are_removed(tmp_path: Path) -> None:
    names = [".partial-abc", ".old-abc", ".partial-young", "abc"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "image").write_text("x")
    (tmp_path / ".partial-file").write_text("x")
    yesterday = time.time() - 25 * 3600
    for name in (".partial-abc", ".old-abc", "abc", ".partial-file"):
        os.utime(tmp_path / name, (yesterday, yesterday))
    remove_remains(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-young", "abc"]
    assert (tmp_path / "abc" / "image").read_text() == "x"
    remove_remains(tmp_path / "not there")


def test_remains_of_one_folder_are_told_from_those_of_others(tmp_path: Path) -> None:
    out = tmp_path / "eval[1]"
    names = [".partial-eval[1]-abcd_123", ".old-eval[1]-abcd1234", ".partial-eval1-abcd1234", ".partial-eval[1]-x"]
    names += [".partial-eval[1]-b-abcd1234", ".partial-eval[1]-young123"]
    for name in names:
        (tmp_path / name).mkdir()
    yesterday = time.time() - 25 * 3600
    for name in names[:-1]:
        os.utime(tmp_path / name, (yesterday, yesterday))
    remove_remains_of(out)
    # The earlier folder was moved away and nothing took its place: it is all that is left of it.
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
    out.mkdir()
    remove_remains_of(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[2:], out.name])
    remove_remains_of(tmp_path / "not there" / "eval")


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_writable(tmp_path / "new" / "below")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"below: expected a folder to write to, got the file .*/file on the way"):
        require_writable(tmp_path / "file" / "below")
    # The rights themselves do not bind a superuser.
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(
        InputError, match=r"new: expected a folder to write to, got no permission in .*; choose another"
    ):
        require_writable(tmp_path / "new")


def test_an_error_names_the_file_that_was_meant_and_no_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "plan.yaml", "a")
    assert str(caught.value.filename) == str(tmp_path / "plan.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_folder_that_cannot_be_made_is_named_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**named: str) -> str:
        raise OSError(errno.EROFS, "read only", str(tmp_path / (named["prefix"] + "x")))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(OSError, match="read only") as caught, atomic_folder(tmp_path / "evaluation"):
        pass
    assert str(caught.value.filename) == str(tmp_path / "evaluation")


def test_an_older_folder_that_cannot_be_moved_stays_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "evaluation"
    target.mkdir()
    (target / "old.txt").touch()

    def busy(self: Path, to: Path) -> None:
        raise OSError(errno.EBUSY, "busy", str(self))

    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(OSError, match="busy"), atomic_folder(target) as temporary:
        (temporary / "new.txt").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation"]
    assert [path.name for path in target.iterdir()] == ["old.txt"]


def test_a_full_disk_names_what_was_being_written(tmp_path: Path) -> None:
    for manager in (atomic_path, atomic_folder):
        with pytest.raises(OSError, match="No space") as caught, manager(tmp_path / "out"):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert str(caught.value.filename) == str(tmp_path / "out")
    with pytest.raises(FileNotFoundError) as missing, atomic_path(tmp_path / "out"):
        (tmp_path / "another").read_text()
    assert str(missing.value.filename) == str(tmp_path / "another")
