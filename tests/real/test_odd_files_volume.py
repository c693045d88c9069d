"""Real scans, and files that readers stumble over: a right result, or one line that names the file."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from equivox.errors import InputError
from equivox.volume import (
    axis_codes,
    read_grid,
    read_label_map,
    read_volume,
    reorient,
    write_label_map,
    write_volume,
)

pytestmark = pytest.mark.real

# What each file is, and what reading it as an image must give: shape and orientation, or words of the error.
ODD_IMAGES: dict[str, tuple[tuple[int, int, int], str] | str] = {
    "nibabel/anatomical.nii": ((33, 41, 25), "LAS"),
    "nibabel/example4d.nii.gz": "shape (128, 96, 24, 2); split it",
    "nibabel/example_nifti2.nii.gz": "shape (32, 20, 12, 2); split it",
    "nibabel/functional.nii": "shape (17, 21, 3, 20); split it",
    "nibabel/nifti1.hdr": "expected its voxels in nifti1.img beside it",
    "nibabel/reoriented_anat_moved.nii": ((21, 26, 22), "RAS"),
    "nibabel/row_major.dconn.nii": "got CIFTI",
    "nibabel/standard.nii.gz": ((4, 5, 7), "RAS"),
    "made/empty.nii.gz": "got an empty file",
    "made/nan_sform.nii": "got NaN or infinity in its sform",
    "made/not_gzip.nii.gz": ((60, 55, 52), "PSR"),
    "made/truncated.nii.gz": "got a damaged one",
}


def test_every_odd_file_is_in_the_table(real_data: Path) -> None:
    folder = real_data / "odd_files"
    assert {path.relative_to(folder).as_posix() for path in folder.glob("*/*")} == set(ODD_IMAGES)


@pytest.mark.parametrize("name", ODD_IMAGES)
def test_an_odd_file_gives_a_right_image_or_one_line(name: str, real_data: Path) -> None:
    path, expected = real_data / "odd_files" / name, ODD_IMAGES[name]
    if isinstance(expected, str):
        with pytest.raises(InputError) as caught:
            read_volume(path)
        line = str(caught.value)
        assert line.startswith(f"{path}: ")
        assert expected in line
        assert "\n" not in line
        return
    volume = read_volume(path)
    assert (volume.grid.shape, axis_codes(volume.affine)) == expected
    # The independent reading; nibabel goes by the name and needs plain bytes under a plain name.
    plain = nib.Nifti1Image.from_bytes(path.read_bytes()) if name == "made/not_gzip.nii.gz" else nib.load(path)
    np.testing.assert_array_equal(volume.array[0], np.asanyarray(plain.dataobj).astype(np.float32))
    np.testing.assert_array_equal(volume.affine, plain.affine)


@pytest.mark.parametrize("read", [read_label_map, read_grid, read_volume])
@pytest.mark.parametrize("name", ODD_IMAGES)
def test_an_odd_file_never_ends_in_another_error(name: str, read: Callable[[Path], object], real_data: Path) -> None:
    path = real_data / "odd_files" / name
    try:
        read(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 - either end is right
        assert "\n" not in str(error)  # noqa: PT017


def test_every_nifti_file_is_read_as_nibabel_reads_it(real_data: Path) -> None:
    read = 0
    folders = ("lgg_kaggle3m", "ibsi_sts", "oasis_trt20_slices", "proton_lung_mri", "sct_testing_data")
    for path in sorted(path for folder in folders for path in (real_data / folder).rglob("*.nii.gz")):
        reference = nib.load(path)
        if reference.ndim > 3:
            with pytest.raises(InputError, match="expected a 2D or 3D image"):
                read_grid(path)
            continue
        volume = read_volume(path)
        values = np.asanyarray(reference.dataobj)
        expected = np.where(np.isfinite(values), values, 0).astype(np.float32)
        np.testing.assert_array_equal(volume.array[0].reshape(reference.shape), expected, err_msg=path.name)
        np.testing.assert_array_equal(volume.affine, reference.affine, err_msg=path.name)
        read += 1
    assert read > 100


@pytest.mark.parametrize(
    "name",
    [
        "lgg_kaggle3m/nifti/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_flair.nii.gz",
        "ibsi_sts/nifti/STS_002/CT_image.nii.gz",
        "ibsi_sts/nifti/STS_011/CT_image.nii.gz",
        "oasis_trt20_slices/Atlases/OASIS-TRT-20-1_slice118.nii.gz",
        "proton_lung_mri/ProtonImages/0004H1.nii.gz",
        "sct_testing_data/t2/t2.nii.gz",
        "odd_files/nibabel/anatomical.nii",
        "odd_files/nibabel/reoriented_anat_moved.nii",
    ],
)
def test_scans_come_back_bit_for_bit_and_labels_land_on_them(name: str, real_data: Path, tmp_path: Path) -> None:
    path = real_data / name
    volume = read_volume(path)
    restored = reorient(reorient(volume, "RAS"), axis_codes(volume.affine))
    write_volume(restored, tmp_path / "image.nii.gz")
    back = read_volume(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_array_equal(back.affine, volume.affine)
    assert back.dimensions == volume.dimensions
    labels = (volume.array[0] > volume.array.mean()).astype(np.int64)
    write_label_map(labels, path, tmp_path / "labels.nii.gz")
    scan, label = nib.load(path).header, nib.load(tmp_path / "labels.nii.gz").header
    for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "xyzt_units"):
        np.testing.assert_array_equal(label[field], scan[field])
    np.testing.assert_array_equal(read_label_map(tmp_path / "labels.nii.gz").array[0], labels)


def test_lgg_masks_and_images_share_their_grid(real_data: Path) -> None:
    for folder in sorted((real_data / "lgg_kaggle3m" / "nifti").iterdir()):
        mask = read_label_map(folder / f"{folder.name}_mask.nii.gz")
        assert mask.array.dtype == np.uint8
        assert mask.grid.matches(read_grid(folder / f"{folder.name}_flair.nii.gz"))


def test_oasis_slices_are_2d_with_their_dkt_labels(real_data: Path) -> None:
    folder = real_data / "oasis_trt20_slices"
    volume = read_volume(folder / "Atlases" / "OASIS-TRT-20-2_slice118.nii.gz")
    labels = read_label_map(folder / "Labels" / "OASIS-TRT-20-2_DKT31_CMA_labels_slice118.nii.gz")
    assert (volume.dimensions, volume.array.shape) == (2, (1, 216, 291, 1))
    assert (labels.dimensions, labels.array.dtype, int(labels.array.max())) == (2, np.uint16, 2035)
    assert labels.repairs == ()


def test_sct_infinities_become_0_and_int64_labels_are_read(real_data: Path) -> None:
    mtr = read_volume(real_data / "sct_testing_data" / "mt" / "mtr.nii.gz")
    assert mtr.repairs == ("633 of 8000 values are NaN or infinite; they were set to 0",)
    assert np.isfinite(mtr.array).all()
    labels = read_label_map(real_data / "sct_testing_data" / "t2s" / "t2s_seg-deepseg.nii.gz")
    assert (labels.array.dtype, np.unique(labels.array).tolist()) == (np.uint8, [0, 1])


def test_soft_masks_are_no_label_maps(real_data: Path) -> None:
    with pytest.raises(InputError, match="threshold a probability map"):
        read_label_map(real_data / "sct_testing_data" / "mt" / "mt1_gmseg.nii.gz")


def test_an_rgb_nifti_has_three_channels(real_data: Path) -> None:
    path = real_data / "totalsegmentator_ref" / "spine_report" / "example_ct_report" / "spine_report.nii.gz"
    assert read_volume(path).array.shape == (3, 1201, 1244, 1)


@pytest.mark.parametrize("modality", ["CT", "PET", "MR_T1"])
def test_ibsi_dicom_is_its_nifti(modality: str, real_data: Path) -> None:
    # The NIfTI files were made from these series by their authors, with other software.
    series = read_volume(real_data / "ibsi_sts" / "dicom" / "STS_002" / modality / "image")
    nifti = read_volume(real_data / "ibsi_sts" / "nifti" / "STS_002" / f"{modality}_image.nii.gz")
    assert series.grid.matches(nifti.grid, tolerance_voxels=0.01)
    np.testing.assert_allclose(series.array, nifti.array, atol=1e-4)


def test_the_totalsegmentator_series_lies_under_its_labels(real_data: Path) -> None:
    folder = real_data / "totalsegmentator_ref"
    series = reorient(read_volume(folder / "example_ct_dicom"), "RAS")
    labels = reorient(read_label_map(folder / "example_seg_dicom.nii.gz"), "RAS")
    assert series.array.shape == (1, 512, 512, 20)
    assert series.grid.matches(labels.grid)
    # Label 117 (costal cartilages) and the other structures are in the body: only air is below -900 HU.
    assert (series.array[labels.array > 0] < -900).mean() < 0.1
    assert series.array.min() == -1024


def test_dcmqi_series_and_its_nrrd_share_a_grid(real_data: Path) -> None:
    folder = real_data / "dicom_seg_rt" / "dcmqi" / "segmentations"
    for name in ("23x38x3", "24x38x3"):
        series = read_volume(folder / name / "image")
        label = read_label_map(folder / name / "nrrd" / "label.nrrd")
        assert series.grid.matches(label.grid, tolerance_voxels=1e-3)
        with pytest.raises(InputError, match="multi-frame"):
            read_volume(folder / name / "multiframe")
        with pytest.raises(InputError, match="no image slices among 1 files"):
            read_volume(folder / name / "seg")
    liver, ct = reorient(read_label_map(folder / "liver_seg.nrrd"), "RAS"), read_volume(folder / "ct-3slice")
    values = reorient(ct, "RAS").array[liver.array == 1]
    assert liver.grid.matches(reorient(ct, "RAS").grid, tolerance_voxels=1e-3)
    assert 20 < np.median(values) < 200  # HU of a liver with or without contrast


def test_rt_utils_folders_are_read_beside_their_structure_sets(real_data: Path) -> None:
    folder = real_data / "dicom_seg_rt" / "rt-utils"
    mock = read_volume(folder / "mock_data")
    assert mock.array.shape == (1, 512, 512, 2)
    assert "RTSTRUCT" in mock.repairs[0]
    oriented = read_volume(folder / "oriented_data")
    assert oriented.spacing_mm == pytest.approx((2.5, 3.5, 4.5), abs=1e-4)
    assert read_volume(folder / "one_slice_data").array.shape == (1, 100, 50, 1)
    with pytest.raises(InputError, match="no image slices among 1 files"):
        read_volume(folder / "empty")


def test_registration_mha_is_read_2d_and_3d(real_data: Path, tmp_path: Path) -> None:
    lung = read_volume(real_data / "registration" / "3DCT_lung.mha")
    assert (lung.array.shape, axis_codes(lung.affine)) == ((1, 115, 157, 129), "LPS")
    assert lung.affine[:3, 3].tolist() == [153.827, 150.352, -1434.5]
    for name in ("2DMRI-T1_brain.mha", "CT_2D_head_fixed_mask.mha"):
        flat = read_volume(real_data / "registration" / name)
        assert (flat.dimensions, flat.array.shape) == (2, (1, 256, 256, 1))
    path = real_data / "registration" / "3DCT_lung.mha"
    labels = (lung.array[0] < -500).astype(np.uint8)
    for suffix in (".mha", ".nrrd", ".nii.gz"):
        write_label_map(labels, path, tmp_path / f"a{suffix}")
        back = read_label_map(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(back.array[0], labels)
        assert back.grid.distance_mm(lung.grid) < 1e-3


def test_pictures_and_their_masks_share_their_size(real_data: Path) -> None:
    xrays = real_data / "covid_cxr_seg"
    for mask in sorted((xrays / "labels").glob("*_anatomy.png"))[:4]:
        image = next((xrays / "images").glob(mask.name.replace("_anatomy.png", ".*")))
        picture, labels = read_volume(image), read_label_map(mask)
        assert picture.array.shape[1:] == labels.array.shape[1:]
        assert set(np.unique(labels.array)) <= {0, 1, 2, 3, 4}
        assert not picture.spacing_known
    eye = real_data / "fundus_chasedb1"
    assert read_volume(eye / "Image_01L.jpg").array.shape == (3, 999, 960, 1)
    vessels = read_label_map(eye / "Image_01L_1stHO.png")
    assert np.unique(vessels.array).tolist() == [0, 1]


def test_labels_land_on_a_dicom_series(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "dicom_seg_rt" / "rt-utils" / "oriented_data"
    volume = read_volume(folder)
    labels = (volume.array[0] > 0).astype(np.int32)
    for suffix in (".nii.gz", ".mha", ".nrrd"):
        write_label_map(labels, folder, tmp_path / f"a{suffix}")
        assert read_grid(tmp_path / f"a{suffix}").matches(volume.grid, tolerance_voxels=1e-4)
