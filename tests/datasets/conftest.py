"""Small scans for the tests of cohorts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

AFFINE = np.array([[-0.9, 0.0, 0.0, 10.0], [0.0, -1.5, 0.0, 20.0], [0.0, 0.0, 4.0, -30.0], [0.0, 0.0, 0.0, 1.0]])
SHAPE = (6, 5, 3)


@pytest.fixture
def write_nifti() -> Callable[..., Path]:
    """Write an array as NIfTI, its folders too: ``write_nifti(path, array, affine=...)``."""

    def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(array, affine).to_filename(path)
        return path

    return write


@pytest.fixture
def write_case(write_nifti: Callable[..., Path]) -> Callable[..., None]:
    """Write images and label of one case: ``write_case(seed, images=[...], label=..., value=255, voxels=4)``."""

    def write(
        seed: int, *, images: list[Path], label: Path | None = None, value: int = 1, voxels: int = 4, **options: Any
    ) -> None:
        for number, path in enumerate(images):
            random = np.random.default_rng([seed, number])
            write_nifti(path, random.integers(0, 1000, SHAPE).astype(np.int16), **options)
        if label is not None:
            marked = np.zeros(SHAPE, dtype=np.uint8)
            # Where the label begins depends on the seed: two patients never share one.
            marked.reshape(-1)[seed : seed + voxels] = value
            write_nifti(label, marked, **options)

    return write
