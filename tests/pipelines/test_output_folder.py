"""The folder that a command is to make."""

import os
import time
from pathlib import Path

import pytest

from equivox.errors import InputError
from equivox.pipelines.output_folder import prepare_output_folder


def test_what_a_killed_run_left_beside_the_folder_is_removed_where_it_may_be_made(tmp_path: Path) -> None:
    out, others = tmp_path / "eval", tmp_path / ".partial-other-abcd1234"
    remains = [tmp_path / ".partial-eval-abcd1234", tmp_path / ".partial-eval-young123"]
    for folder in (out, others, *remains):
        folder.mkdir()
    yesterday = time.time() - 25 * 3600
    for folder in (others, remains[0]):
        os.utime(folder, (yesterday, yesterday))
    (out / "thesis.txt").touch()
    with pytest.raises(InputError, match="in use by something else"):
        prepare_output_folder(out, what="an evaluation", marks=("a.csv",), files=("a.csv",), overwrite=True)
    assert remains[0].exists()
    (out / "thesis.txt").rename(out / "a.csv")
    prepare_output_folder(out, what="an evaluation", marks=("a.csv",), files=("a.csv",), overwrite=True)
    assert sorted(tmp_path.iterdir()) == sorted([out, others, remains[1]])
