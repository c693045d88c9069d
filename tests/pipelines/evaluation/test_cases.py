from pathlib import Path

import numpy as np
import pytest

from equivox.pipelines.evaluation.cases import label_values_in
from equivox.volume import Volume, write_volume


@pytest.mark.parametrize("values", [(1,), (3, 7, 250), (2, 300, 65_535), (5, 70_000)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (8, 4, 2)])
def test_values_of_a_mask_are_found_wherever_they_lie(
    tmp_path: Path, values: tuple[int, ...], shape: tuple[int, int, int]
) -> None:
    # Sizes that are and are not multiples of eight bytes; one voxel a value, at the ends and in between.
    labels = np.zeros(shape, np.int32)
    places = np.linspace(0, labels.size - 1, min(len(values), labels.size)).astype(int)
    labels.reshape(-1)[places] = values[: len(places)]
    write_volume(Volume(labels[None], np.diag([1.0, 2.0, 3.0, 1.0])), tmp_path / "mask.nii.gz")
    assert label_values_in(tmp_path / "mask.nii.gz") == values[: len(places)]


def test_an_empty_mask_has_no_values(tmp_path: Path) -> None:
    write_volume(Volume(np.zeros((1, 3, 3, 3), np.uint8), np.diag([1.0, 2.0, 3.0, 1.0])), tmp_path / "mask.nii.gz")
    assert label_values_in(tmp_path / "mask.nii.gz") == ()
