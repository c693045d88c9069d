"""Odd and damaged files given to `predict`: one clear line naming the file, or a label map on the file's own grid."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from equivox.pipelines.predict import predict
from equivox.pipelines.prediction.folder import PredictionResult
from equivox.volume import read_grid, read_volume

pytestmark = pytest.mark.real

SOUND = {"anatomical.nii", "reoriented_anat_moved.nii", "standard.nii.gz"}
"""Files of `odd_files` that hold one 3D image, however it lies; most others are 4D, cut short or no image."""


def sound_scan(path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([1.5, 1.0, 3.0, 1.0])), path)
    return path


def odd_files(real_data: Path) -> list[Path]:
    folder = real_data / "odd_files"
    files = sorted(path for part in ("nibabel", "made") for path in (folder / part).iterdir() if path.is_file())
    assert len(files) >= 12
    return files


@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_each_odd_file_is_one_clear_line_or_a_label_map_on_its_grid(
    real_data: Path, make_run: Callable[..., Path], tmp_path: Path, dims: str
) -> None:
    files = odd_files(real_data)
    scans = [sound_scan(tmp_path / "first.nii.gz"), *files, sound_scan(tmp_path / "last.nii.gz")]
    out = tmp_path / "out"
    results = predict(make_run(dims=dims, spacing_mm=(3.0, 3.0, 3.0), crop="nonzero"), scans, out)
    assert results[0].status == "done"
    assert results[-1].status == "done"
    for path, result in zip(files, results[1:-1], strict=True):
        check(path, result, out)
    assert {path.name for path, result in zip(files, results[1:-1], strict=True) if result.status == "done"} >= SOUND
    kept = {result.file for result in results if result.status == "done"}
    assert {path.name for path in out.iterdir()} == kept | {"predictions.csv", "labels.json", "manifest.json"}


def check(path: Path, result: PredictionResult, out: Path) -> None:
    if result.status == "done":
        grid, labels = read_grid(path), read_volume(out / result.file)
        assert labels.grid.matches(grid, tolerance_voxels=1e-3), path
        assert set(np.unique(labels.array)) <= {0, 1}
        return
    assert result.status == "failed"
    assert not result.our_fault, result.message
    assert str(path) in result.message
    assert "\n" not in result.message
    assert ";" in result.message, "what to do is missing"
    # The file's name stands once: no reader's message is nested in another's.
    assert result.message.count(path.name) <= 2
