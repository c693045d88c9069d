"""Reading, turning to RAS, turning back, writing and reading again changes nothing."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equivox.volume import (
    Volume,
    axis_codes,
    read_grid,
    read_label_map,
    read_volume,
    reorient,
    write_label_map,
    write_volume,
)

CODES = [
    "".join(letters)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*order)
]  # fmt: skip
SPACING_MM = (0.7, 1.3, 5.5)


def affine_of(codes: str) -> np.ndarray:
    affine = np.zeros((4, 4))
    for axis, letter in enumerate(codes):
        world = next(index for index, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[world, axis] = SPACING_MM[axis] * (1 if letter in "RAS" else -1)
    affine[:, 3] = -81.7, 44.1, 1234.5, 1
    return affine


def rotation(quaternion: tuple[float, float, float, float]) -> np.ndarray:
    return np.asarray(nib.quaternions.quat2mat(quaternion))


def go_round(source: Path, target: Path) -> tuple[Volume, Volume]:
    first = read_volume(source)
    turned = reorient(first, "RAS")
    assert axis_codes(turned.affine) == "RAS"
    write_volume(reorient(turned, axis_codes(first.affine)), target)
    return first, read_volume(target)


@pytest.mark.parametrize("codes", CODES)
def test_nifti_comes_back_bit_for_bit(codes: str, tmp_path: Path) -> None:
    array = np.random.default_rng(1).normal(size=(5, 1, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, affine_of(codes)), tmp_path / "a.nii.gz")
    first, last = go_round(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert axis_codes(first.affine) == codes
    np.testing.assert_array_equal(first.array[0], array)
    np.testing.assert_array_equal(last.array, first.array)
    np.testing.assert_array_equal(last.affine, first.affine)
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii.gz").affine, first.affine)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("codes", CODES)
def test_mha_and_nrrd_come_back_exactly(codes: str, suffix: str, tmp_path: Path) -> None:
    array = np.random.default_rng(2).normal(size=(1, 5, 1, 3)).astype(np.float32)
    write_volume(Volume(array, affine_of(codes)), tmp_path / f"a{suffix}")
    first, last = go_round(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(first.array, array)
    np.testing.assert_array_equal(last.array, array)
    np.testing.assert_allclose(first.affine, affine_of(codes), rtol=0, atol=1e-9)
    np.testing.assert_allclose(last.affine, affine_of(codes), rtol=0, atol=1e-9)


number = st.floats(-1, 1, width=32, allow_subnormal=False)
oblique = st.tuples(number, number, number, number).filter(lambda q: np.linalg.norm(q) > 0.1)
shapes = st.tuples(*[st.integers(1, 7)] * 3)
spacings = st.tuples(*[st.floats(0.125, 9.0, width=32)] * 3)
origins = st.tuples(*[st.integers(-(2**17), 2**17).map(lambda steps: steps / 64)] * 3)
file_settings = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def oblique_volume(quaternion, shape, spacing, origin) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = rotation(quaternion) * spacing
    affine[:3, 3] = origin
    return Volume(np.random.default_rng(3).normal(size=(1, *shape)).astype(np.float32), affine)


@file_settings
@given(quaternion=oblique, shape=shapes, spacing=spacings, origin=origins, form=st.sampled_from(["sform", "qform"]))
def test_oblique_nifti_comes_back_bit_for_bit(quaternion, shape, spacing, origin, form, tmp_path: Path) -> None:
    volume = oblique_volume(quaternion, shape, spacing, origin)
    image = nib.Nifti1Image(volume.array[0], None)
    image.header.set_sform(volume.affine if form == "sform" else None, int(form == "sform"))
    image.header.set_qform(volume.affine, int(form == "qform"))
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    first, last = go_round(tmp_path / "a.nii", tmp_path / "b.nii")
    np.testing.assert_array_equal(first.affine, nib.load(tmp_path / "a.nii").affine)
    np.testing.assert_array_equal(last.array, volume.array)
    # A quaternion component near 0 has more digits than a float64 rotation can give back: 1e-12 mm.
    np.testing.assert_allclose(last.affine, first.affine, rtol=0, atol=0 if form == "sform" else 1e-12)
    # A label map copies the header's own fields: there, every bit comes back, whatever the form.
    write_label_map((volume.array[0] > 0).astype(np.int64), tmp_path / "a.nii", tmp_path / "c.nii.gz")
    np.testing.assert_array_equal(read_label_map(tmp_path / "c.nii.gz").affine, first.affine)


@file_settings
@given(quaternion=oblique, shape=shapes, spacing=spacings, origin=origins, suffix=st.sampled_from([".mha", ".nrrd"]))
def test_oblique_mha_and_nrrd_come_back(quaternion, shape, spacing, origin, suffix, tmp_path: Path) -> None:
    volume = oblique_volume(quaternion, shape, spacing, origin)
    write_volume(volume, tmp_path / f"a{suffix}")
    _, last = go_round(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(last.array, volume.array)
    np.testing.assert_allclose(last.affine, volume.affine, rtol=0, atol=1e-9)
    assert read_grid(tmp_path / f"b{suffix}").distance_mm(volume.grid) < 1e-8
