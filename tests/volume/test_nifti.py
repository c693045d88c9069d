"""NIfTI by the standard: forms, scaling, units, damage."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from equivox.errors import InputError
from equivox.volume import Volume, read_grid, read_label_map, read_volume, write_volume

SFORM = np.array([[0, -2.0, 0, 10], [0.7, 0, 0, -20], [0, 0, 5.5, 30], [0, 0, 0, 1]])
QFORM = np.diag([0.7, 2.0, 5.5, 1.0])


def image(array=None, *, sform=SFORM, sform_code=1, qform=None, qform_code=0, kind=nib.Nifti1Image):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4) if array is None else array
    made = kind(array, None)
    made.header.set_sform(sform, sform_code)
    made.header.set_qform(SFORM if qform is None else qform, qform_code)
    return made


def save(made, path: Path, **fields) -> Path:
    """Write an image with some header fields forced to any value, past nibabel's checks."""
    content = bytearray(made.to_bytes())
    for name, value in fields.items():
        dtype, offset = made.header.template_dtype.fields[name][:2]
        content[offset : offset + dtype.itemsize] = np.array(value, dtype.base).tobytes().ljust(dtype.itemsize, b"\0")
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


def test_the_sform_is_taken_before_the_qform(tmp_path: Path) -> None:
    path = save(image(qform=QFORM, qform_code=1), tmp_path / "a.nii")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.affine, SFORM.astype(np.float32))
    # x, y, z of corner (0, 2, 3): 6, -20, 46.5 by the sform and 0, 4, 16.5 by the qform: sqrt(36 + 576 + 900) = 38.88.
    assert volume.repairs == ("sform and qform disagree by 38.9 mm at a corner: the sform was taken",)


def test_agreeing_forms_need_no_note(tmp_path: Path) -> None:
    volume = read_volume(save(image(qform=SFORM, qform_code=1), tmp_path / "a.nii"))
    assert volume.repairs == ()


def test_the_qform_is_taken_where_the_sform_has_no_code(tmp_path: Path) -> None:
    path = save(image(sform_code=0, qform=QFORM, qform_code=1), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(path).affine, nib.load(path).affine)
    assert read_volume(path).spacing_mm == pytest.approx((0.7, 2.0, 5.5))


def test_voxel_sizes_alone_are_taken_as_nibabel_does_and_named(tmp_path: Path) -> None:
    path = save(image(sform_code=0, qform=QFORM, qform_code=0), tmp_path / "a.nii")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.affine, nib.load(path).affine)
    assert "orientation is not" in volume.repairs[0]


def test_a_left_handed_qform_keeps_its_hand(tmp_path: Path) -> None:
    left = np.diag([-0.7, 2.0, 5.5, 1.0])
    path = save(image(sform_code=0, qform=left, qform_code=1), tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(path).affine, left, atol=1e-6)
    path = save(image(sform_code=0, qform=QFORM, qform_code=1), tmp_path / "b.nii", pixdim=[0, 0.7, 2, 5.5, 1, 1, 1, 1])
    np.testing.assert_allclose(read_volume(path).affine, QFORM, atol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_units_are_turned_to_millimetres(unit: int, factor: float, tmp_path: Path) -> None:
    path = save(image(), tmp_path / "a.nii", xyzt_units=unit)
    np.testing.assert_allclose(read_grid(path).affine[:3], SFORM.astype(np.float32)[:3] * factor)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8", "i8"])
def test_every_version_byte_order_and_dtype_gives_the_values(kind, order: str, dtype: str, tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(order + dtype)
    made = kind(array, SFORM, dtype=array.dtype)
    if order == ">":
        made = kind(array, SFORM, header=made.header.as_byteswapped(">"), dtype=array.dtype)
        made.header.set_data_dtype(array.dtype)
    path = save(made, tmp_path / "a.nii.gz")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], array)
    np.testing.assert_array_equal(volume.affine, nib.load(path).affine)
    assert volume.array.dtype == np.float32
    assert read_label_map(path).array.dtype == np.uint8


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [(2, -1024, (-1024, -978)), (0, 5, (0, 23)), (np.nan, 5, (0, 23)), (1, -3, (-3, 20)), (0.5, np.nan, (0, 11.5))],
)
def test_scale_and_offset_by_the_standard(slope, intercept, expected, tmp_path: Path) -> None:
    path = save(image(), tmp_path / "a.nii", scl_slope=slope, scl_inter=intercept)
    array = read_volume(path).array
    assert (array.min(), array.max()) == expected


def test_a_scaled_label_map_is_unscaled(tmp_path: Path) -> None:
    path = save(image(), tmp_path / "a.nii", scl_slope=2, scl_inter=1)
    assert read_label_map(path).array.max() == 47


def test_a_true_2d_file_stays_2d(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = save(image(array), tmp_path / "a.nii")
    volume = read_volume(path)
    assert (volume.dimensions, volume.array.shape) == (2, (1, 2, 3, 1))
    write_volume(volume, tmp_path / "b.nii.gz")
    assert nib.load(tmp_path / "b.nii.gz").shape == (2, 3)
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz").affine, volume.affine)


def test_a_2d_file_without_a_slice_axis_gets_the_normal(tmp_path: Path) -> None:
    flat = SFORM.copy()
    flat[:, 2] = 0
    path = save(image(np.ones((2, 3), np.uint8), sform=flat), tmp_path / "a.nii")
    volume = read_volume(path)
    # i runs along +y and j along -x: their normal is +z.
    assert volume.affine[:3, 2].tolist() == [0, 0, 1]
    assert "unit normal" in volume.repairs[0]


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (2, 3, 4, 1, 1), (2, 3, 1, 1)])
def test_trailing_axes_of_1_are_dropped_exactly(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    volume = read_volume(save(image(array), tmp_path / "a.nii"))
    np.testing.assert_array_equal(volume.array[0], array.reshape(shape[:3]))
    assert volume.dimensions == 3


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 1, 3), (7,)])
def test_other_dimensions_are_refused_with_their_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = save(image(np.zeros(shape, np.int16)), tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a.nii: expected a 2D or 3D image, got shape \(.*; (split|it is no)"):
        read_grid(path)


def test_a_sheared_affine_is_carried_as_it_is(tmp_path: Path) -> None:
    sheared = SFORM.copy()
    sheared[0, 2] = 1.5
    made = nib.Nifti1Image(np.ones((2, 3, 4), np.uint8), None)
    made.header.set_sform(sheared, 1)
    path = save(made, tmp_path / "a.nii")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.affine, sheared.astype(np.float32))
    write_volume(volume, tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz").affine, volume.affine)
    assert int(nib.load(tmp_path / "b.nii.gz").header["qform_code"]) == 0


@pytest.mark.parametrize(
    ("sform", "message"),
    [
        (np.full((4, 4), np.nan), "a finite affine, got NaN or infinity in its sform"),
        (np.diag([1.0, 1, 0, 1]), "voxels with a volume, got sides of 1 x 1 x 0 mm"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "voxels with a volume"),
    ],
)
def test_an_affine_that_places_nothing_is_refused(sform: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_volume(save(image(sform=sform, qform_code=1), tmp_path / "a.nii"))


def test_a_quaternion_longer_than_1_is_scaled_and_named(tmp_path: Path) -> None:
    path = save(image(sform_code=0, qform_code=1), tmp_path / "a.nii", quatern_b=0.9, quatern_c=0.9, quatern_d=0)
    volume = read_volume(path)
    assert volume.repairs == ("the quaternion was longer than 1: scaled",)
    # A half turn about the diagonal of x and y swaps them.
    np.testing.assert_allclose(np.abs(volume.affine[:3, :3]) > 0.1, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


def test_rgb_gives_three_channels_and_comes_back(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (3, 2, 3, 4)).astype(np.uint8)
    write_volume(Volume(rgb, SFORM), tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").get_data_dtype().names == ("R", "G", "B")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, rgb)
    with pytest.raises(InputError, match="one label a voxel, got 3 channels"):
        read_label_map(tmp_path / "a.nii.gz")


def test_complex_values_are_refused(tmp_path: Path) -> None:
    path = save(image(np.zeros((2, 2, 2), np.complex64)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="expected real numbers or RGB, got NIfTI data type 32"):
        read_volume(path)


def test_pairs_are_read_from_either_file(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Pair(array, SFORM), tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array[0], array)
    (tmp_path / "a.img").unlink()
    with pytest.raises(InputError, match=r"a.hdr: expected its voxels in a.img beside it"):
        read_volume(tmp_path / "a.hdr")
    assert read_grid(tmp_path / "a.hdr").shape == (2, 3, 4)
    (tmp_path / "b.img").write_bytes(b"voxels")
    with pytest.raises(InputError, match=r"b.img: expected its header b.hdr"):
        read_volume(tmp_path / "b.img")


def test_compression_is_told_by_the_content(tmp_path: Path) -> None:
    plain = save(image(), tmp_path / "a.nii").read_bytes()
    (tmp_path / "plain.nii.gz").write_bytes(plain)
    (tmp_path / "zipped.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "two.nii.gz").write_bytes(gzip.compress(plain[:300]) + gzip.compress(plain[300:]))
    for name, notes in (("plain.nii.gz", 1), ("zipped.nii", 1), ("two.nii.gz", 0)):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.array[0], np.arange(24).reshape(2, 3, 4))
        assert len(volume.repairs) == notes


def test_damaged_files_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype(np.int16)
    whole = save(image(noise), tmp_path / "whole.nii.gz").read_bytes()
    plain = gzip.decompress(whole)
    wrong = bytearray(whole)
    wrong[5000] ^= 0xFF
    huge = bytearray(plain)
    huge[40:56] = struct.pack("<8h", 3, 32000, 32000, 32000, 1, 1, 1, 1)
    cases = {
        "cut.nii.gz": whole[:-500],
        "crc.nii.gz": whole[:-8],
        "header.nii.gz": whole[:60],
        "flipped.nii.gz": bytes(wrong),
        "cut.nii": plain[:-1],
        "short.nii": plain[:100],
        "noise.nii": bytes(range(256)) * 4,
        "noise.nii.gz": bytes(range(256)) * 4,
        "huge.nii.gz": gzip.compress(bytes(huge)),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: expected .*, got .*; (copy|export)") as caught:
            read_volume(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_analyze_and_bad_headers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ANALYZE"):
        read_volume(save(image(), tmp_path / "a.nii", magic=b""))
    with pytest.raises(InputError, match="expected an image with voxels"):
        read_volume(save(image(), tmp_path / "a.nii", dim=[3, 2, 0, 4, 1, 1, 1, 1]))
    with pytest.raises(InputError, match="data type 999"):
        read_volume(save(image(), tmp_path / "a.nii", datatype=999))
    with pytest.raises(InputError, match="vox_offset nan"):
        read_volume(save(image(), tmp_path / "a.nii", vox_offset=np.nan))
    assert "352 was taken" in read_volume(save(image(), tmp_path / "a.nii", vox_offset=0)).repairs[0]


def test_an_affine_of_more_digits_is_rounded_to_float32(tmp_path: Path) -> None:
    affine = np.diag([1 / 3, 2 / 3, 5.0, 1.0])
    affine[:3, 3] = 100 / 3
    affine[0, 1] = 0.2
    write_volume(Volume(np.ones((1, 2, 3, 4), np.float32), affine), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_grid(tmp_path / "a.nii").affine, affine.astype(np.float32))


def test_dtypes_are_kept_or_chosen(tmp_path: Path) -> None:
    volume = Volume(np.array([0, 300.0]).reshape(1, 2, 1, 1), SFORM)
    write_volume(volume, tmp_path / "a.nii", dtype="int16")
    assert nib.load(tmp_path / "a.nii").get_data_dtype() == np.int16
    before = (tmp_path / "a.nii").read_bytes()
    with pytest.raises(InputError, match=r"to 255 for uint8, got 0.0 to 300.0"):
        write_volume(volume, tmp_path / "a.nii", dtype="uint8")
    with pytest.raises(InputError, match="dtype that NIfTI has, got float16"):
        write_volume(volume, tmp_path / "a.nii", dtype="float16")
    with pytest.raises(InputError, match="got 2 of uint8; write one file a channel"):
        write_volume(Volume(np.ones((2, 1, 1, 1), np.uint8), SFORM), tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_sides_beyond_nifti_1_go_into_nifti_2(tmp_path: Path) -> None:
    volume = Volume(np.ones((1, 33000, 1, 2), np.uint8), SFORM)
    write_volume(volume, tmp_path / "a.nii.gz")
    assert isinstance(nib.load(tmp_path / "a.nii.gz"), nib.Nifti2Image)
    assert read_grid(tmp_path / "a.nii.gz").shape == (33000, 1, 2)
