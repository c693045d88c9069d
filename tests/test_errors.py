import errno
import os
from pathlib import Path

import pytest
import torch

from equivox.errors import is_out_of_memory, one_line


@pytest.mark.parametrize(
    ("number", "what", "todo"),
    [
        (errno.EACCES, "no permission", "choose another place"),
        (errno.EROFS, "for reading only", "choose another place"),
        (errno.ENOSPC, "a full disk", "free some space"),
        (errno.EMFILE, "the system's limit", "fewer --workers"),
        (errno.EIO, os.strerror(errno.EIO), "check the path and the disk"),
    ],
)
def test_an_error_of_the_system_is_a_sentence_with_its_path_and_what_to_do(number: int, what: str, todo: str) -> None:
    line = one_line(OSError(number, os.strerror(number), "out/case.nii.gz"))
    assert line.startswith("out/case.nii.gz: ")
    assert what in line
    assert todo in line
    assert "Errno" not in line


def test_what_cannot_be_opened_or_made_is_told(tmp_path: Path) -> None:
    file, loop = tmp_path / "file", tmp_path / "loop"
    file.touch()
    loop.symlink_to(loop)
    for path, what in (
        (tmp_path, "expected a file, got a folder"),
        (loop, "got a link that leads back to itself"),
        (file / "below", "expected a folder on the way, got a file"),
        (tmp_path / "none", "got nothing there"),
        (tmp_path / ("a" * 300), "got one that is too long"),
    ):
        with pytest.raises(OSError, match=r"Errno") as caught:
            path.open()
        assert one_line(caught.value).startswith(f"{path}: ")
        assert what in one_line(caught.value)
    with pytest.raises(FileExistsError) as caught:
        file.mkdir()
    assert "expected a folder, got a file in its place" in one_line(caught.value)


def test_errors_that_say_it_themselves_are_left_as_they_are() -> None:
    assert one_line(OSError("truncated\nfile")) == "truncated file"
    assert one_line(ValueError("no\n good")) == "no good"
    assert one_line(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "none left"),
        (MemoryError("Unable to allocate 8.00 GiB"), "Unable to allocate 8.00 GiB"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total ..."),
            "CUDA out of memory",
        ),
    ],
)
def test_memory_that_ran_out_is_told_in_short_whoever_says_so(error: BaseException, said: str) -> None:
    assert is_out_of_memory(error)
    assert one_line(error) == (
        f"expected memory enough, got too little ({said}); use smaller batches, fewer --workers, or a larger machine"
    )


def test_what_torch_says_of_the_processors_memory_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert "too little (can't allocate memory: you tried to allocate 115292150460" in one_line(caught.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
