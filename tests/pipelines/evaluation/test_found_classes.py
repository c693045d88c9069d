from pathlib import Path

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.pipelines.evaluation.found_classes import found_values, stored_names
from equivox.volume import Volume, write_label_map


def masks(folder: Path, *values: int) -> list[Path]:
    """One mask of 3 x 4 x 5 voxels for each value, which a single voxel has."""
    paths = []
    for index, value in enumerate(values):
        labels = np.zeros((3, 4, 5), dtype=np.uint8)
        labels[1, 2, 3] = value
        volume = Volume(np.zeros((1, 3, 4, 5), dtype=np.float32), np.diag([0.5, 1.0, 3.0, 1.0]))
        paths.append(folder / f"c{index}.nii.gz")
        write_label_map(labels, volume, paths[-1])
    return paths


def test_values_of_all_masks_are_found_in_rising_order(tmp_path: Path) -> None:
    assert found_values(masks(tmp_path, 7, 0, 2, 7), workers=2) == [2, 7]


def test_masks_of_background_alone_hold_no_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected masks with a class, got only 0"):
        found_values(masks(tmp_path, 0, 0), workers=1)


def test_masks_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(b"no mask")
    with pytest.raises(InputError, match=r"torn\.nii\.gz"):
        found_values([torn], workers=1)


def test_masks_without_names_give_none(tmp_path: Path) -> None:
    assert stored_names(masks(tmp_path, 1, 2)) == {}
