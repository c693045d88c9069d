import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from equivox.pipelines.evaluation.memory import BYTES_PER_VOXEL, PROCESS_GIB, workers_within


@pytest.fixture
def masks(tmp_path: Path) -> list[Path]:
    paths = []
    for number, side in enumerate((4, 64)):
        paths.append(tmp_path / f"{number}.nii.gz")
        nib.save(
            nib.Nifti1Image(np.zeros((side, side, side), dtype=np.uint8), np.diag([1.0, 2.0, 3.0, 1.0])), paths[-1]
        )
    return paths


def test_as_many_work_as_the_largest_case_allows(masks: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    each = PROCESS_GIB + 64**3 * BYTES_PER_VOXEL / 2**30
    with caplog.at_level(logging.INFO):
        assert workers_within(4 * masks, 8, 3.5 * each) == 3
    assert "3 of 8 workers" in caplog.text
    assert workers_within(4 * masks, 2, 3.5 * each) == 2


def test_no_more_work_than_there_are_cases(masks: list[Path]) -> None:
    assert workers_within(masks, 1000, 1000.0) == 2


def test_one_always_works(masks: list[Path]) -> None:
    assert workers_within(masks, 8, 0.01) == 1
    assert workers_within([], 1) == 1


def test_an_unreadable_file_is_left_to_who_reads_it(masks: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"no header")
    assert workers_within(4 * [tmp_path / "bad.nii.gz"], 4, 4 * PROCESS_GIB) == 4
