"""A label map lands on exactly the grid of its scan, and says nothing else about it."""

import dataclasses
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from equivox.errors import InputError
from equivox.volume import Volume, read_label_map, read_volume, write_label_map, write_volume
from equivox.volume import labels as module

SFORM = np.array([[0.1, -2.0, 0.3, 10], [0.7, 0.2, 0, -20], [0, 0, 5.5, 30], [0, 0, 0, 1]])
SECRET = b"MUELLER^HANS 1950-01-01"
LABELS = np.zeros((2, 3, 4), np.int64)
LABELS[1, 2, 3] = 7


def scan(path: Path, kind=nib.Nifti1Image, sform_code: int = 4, qform_code: int = 2) -> Path:
    """A scan whose header is as full as they come: two codes, odd units, scaling and free text."""
    image = kind(np.arange(24, dtype=np.int16).reshape(2, 3, 4), None)
    image.header.set_sform(SFORM, sform_code)
    image.header.set_qform(np.diag([0.7, 2.0, 5.5, 1.0]), qform_code)
    image.header.set_xyzt_units("mm", "msec")
    image.header["descrip"] = SECRET
    image.header["aux_file"] = SECRET
    image.header["intent_name"] = SECRET[:15]
    image.header["cal_max"] = 99
    image.header.set_slope_inter(2, -1024)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", SECRET))
    nib.save(image, path)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("sform_code", "qform_code"), [(4, 2), (0, 1), (1, 0), (0, 0)])
def test_the_grid_fields_of_a_nifti_scan_are_copied_bit_for_bit(kind, sform_code, qform_code, tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.nii.gz", kind, sform_code, qform_code)
    write_label_map(LABELS, path, tmp_path / "out" / "labels.nii.gz")
    before, after = nib.load(path), nib.load(tmp_path / "out" / "labels.nii.gz")
    assert type(after) is kind
    for name in ("sform_code", "qform_code", "xyzt_units", "srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y",
                 "qoffset_z", "quatern_b", "quatern_c", "quatern_d"):  # fmt: skip
        assert after.header[name].tobytes() == before.header[name].tobytes(), name
    assert after.header["pixdim"][:4].tobytes() == before.header["pixdim"][:4].tobytes()
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(after.get_sform(), before.get_sform())
    np.testing.assert_array_equal(after.get_qform(), before.get_qform())
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(after.dataobj), LABELS)
    assert (after.dataobj.slope, after.dataobj.inter) == (1, 0)
    assert float(after.header["cal_max"]) == 0
    # nibabel forgets the stored scale on loading; other programs must find 1, not 0 or NaN.
    offset = after.header.template_dtype.fields["scl_slope"][1]
    raw = gzip.decompress((tmp_path / "out" / "labels.nii.gz").read_bytes())
    assert np.frombuffer(raw, after.header["scl_slope"].dtype, 1, offset)[0] == 1


def test_no_text_of_the_scan_is_copied(tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.nii")
    assert path.read_bytes().count(SECRET[:15]) >= 4
    write_label_map(LABELS, path, tmp_path / "labels.nii")
    content = (tmp_path / "labels.nii").read_bytes()
    assert SECRET[:7] not in content
    assert len(content) == 352 + LABELS.size


def test_the_same_labels_are_the_same_file(tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.nii.gz")
    for name in ("a.nii.gz", "b.nii.gz"):
        write_label_map(LABELS, path, tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("name", ["labels.nii", "labels.nii.gz", "labels.mha", "labels.nrrd"])
@pytest.mark.parametrize("source", ["scan.nii.gz", "scan.mha", "scan.nrrd", "memory"])
def test_any_scan_gives_any_format(name: str, source: str, tmp_path: Path) -> None:
    turned = np.array([[0, -2.0, 0, 10], [0.7, 0, 0, -20], [0, 0, 5.5, 30], [0, 0, 0, 1]])
    volume = Volume(np.ones((1, 2, 3, 4), np.float32), turned)
    if source != "memory":
        write_volume(volume, tmp_path / source)
    write_label_map(LABELS, volume if source == "memory" else tmp_path / source, tmp_path / name)
    back = read_label_map(tmp_path / name)
    np.testing.assert_array_equal(back.array[0], LABELS)
    np.testing.assert_allclose(back.affine, turned, atol=1e-6)


@pytest.mark.parametrize("name", ["labels.nii.gz", "labels.mha", "labels.nrrd"])
def test_a_2d_scan_gives_2d_labels(name: str, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((2, 3), np.float32), np.diag([0.7, 2, 1, 1])), tmp_path / "scan.nii.gz")
    write_label_map(np.ones((2, 3, 1), np.uint8), tmp_path / "scan.nii.gz", tmp_path / name)
    back = read_label_map(tmp_path / name)
    assert (back.dimensions, back.array.shape) == (2, (1, 2, 3, 1))


def test_a_2d_scan_placed_by_its_qform_keeps_its_slice_thickness(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((2, 3), np.float32), None)
    image.header.set_qform(np.diag([0.7, 2, 4, 1]), 1)
    (tmp_path / "scan.nii").write_bytes(image.to_bytes())
    assert read_volume(tmp_path / "scan.nii").spacing_mm == pytest.approx((0.7, 2, 4))
    write_label_map(np.ones((2, 3, 1), np.uint8), tmp_path / "scan.nii", tmp_path / "labels.nii")
    assert read_label_map(tmp_path / "labels.nii").spacing_mm == pytest.approx((0.7, 2, 4))


@pytest.mark.parametrize(
    ("highest", "dtype"), [(0, "uint8"), (255, "uint8"), (256, "uint16"), (65536, "uint32"), (2**33, "uint64")]
)
def test_the_smallest_dtype_that_fits_is_stored(highest: int, dtype: str, tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.nii.gz")
    labels = LABELS.copy()
    labels[0, 0, 0] = highest
    write_label_map(np.where(labels == 7, 0, labels), path, tmp_path / "labels.nii.gz")
    assert nib.load(tmp_path / "labels.nii.gz").get_data_dtype() == dtype
    assert read_label_map(tmp_path / "labels.nii.gz").array.max() == highest


def test_a_wrong_shape_or_a_negative_label_is_refused(tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match=r"labels of the scan's shape \(2, 3, 4\), got \(4, 3, 2\)"):
        write_label_map(LABELS.T, path, tmp_path / "labels.nii.gz")
    with pytest.raises(InputError, match="expected labels from 0 up, got -7"):
        write_label_map(-LABELS, path, tmp_path / "labels.nii.gz")
    with pytest.raises(InputError, match="expected a name that ends in"):
        write_label_map(LABELS, path, tmp_path / "labels.txt")
    assert not (tmp_path / "labels.nii.gz").exists()


@pytest.mark.parametrize("what", ["labels", "grid"])
def test_what_is_read_back_is_compared_before_the_file_takes_its_name(what: str, tmp_path: Path, monkeypatch) -> None:
    path = scan(tmp_path / "scan.nii.gz")
    write_label_map(LABELS, path, tmp_path / "labels.nii.gz")
    before = (tmp_path / "labels.nii.gz").read_bytes()

    def faulty(written: Path) -> Volume:
        volume = read_label_map(written)
        if what == "labels":
            return volume.with_array(np.zeros_like(volume.array))
        return dataclasses.replace(volume, affine=volume.affine + 1e-12)

    monkeypatch.setattr(module, "read_label_map", faulty)
    with pytest.raises(RuntimeError, match=f"the {what} read back differ"):
        write_label_map(LABELS, path, tmp_path / "labels.nii.gz")
    assert (tmp_path / "labels.nii.gz").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.nii.gz", "scan.nii.gz"]


def test_a_scan_with_a_trailing_axis_of_1_takes_3d_labels(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((2, 3, 4, 1), np.int16), SFORM)
    nib.save(image, tmp_path / "scan.nii.gz")
    write_label_map(LABELS, tmp_path / "scan.nii.gz", tmp_path / "labels.nii.gz")
    assert nib.load(tmp_path / "labels.nii.gz").shape == (2, 3, 4)
    np.testing.assert_array_equal(
        read_label_map(tmp_path / "labels.nii.gz").affine, read_volume(tmp_path / "scan.nii.gz").affine
    )
