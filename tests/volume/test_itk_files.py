"""MHA, MHD and NRRD: ITK's LPS becomes RAS, vectors become channels, damage is named."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from equivox.errors import InputError
from equivox.volume import Volume, axis_codes, read_grid, read_label_map, read_volume, write_volume

SUFFIXES = [".mha", ".nrrd"]


def itk_image(array: np.ndarray | None = None, **options: bool) -> sitk.Image:
    array = np.arange(24, dtype=np.int16).reshape(4, 3, 2) if array is None else array
    image = sitk.GetImageFromArray(array, **options)
    image.SetSpacing((0.7, 1.3, 5.5)[: image.GetDimension()])
    image.SetOrigin((-10.0, 20.0, 30.0)[: image.GetDimension()])
    return image


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_lps_becomes_ras(suffix: str, tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(), str(tmp_path / f"a{suffix}"))
    volume = read_volume(tmp_path / f"a{suffix}")
    assert volume.array.shape == (1, 2, 3, 4)
    assert volume.array[0, 1, 2, 3] == 23
    assert volume.array[0, 1, 0, 0] == 1
    assert axis_codes(volume.affine) == "LPS"
    np.testing.assert_allclose(volume.affine, [[-0.7, 0, 0, 10], [0, -1.3, 0, -20], [0, 0, 5.5, 30], [0, 0, 0, 1]])
    np.testing.assert_array_equal(read_grid(tmp_path / f"a{suffix}").affine, volume.affine)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_itk_reads_back_the_same_physical_points(suffix: str, tmp_path: Path) -> None:
    affine = np.array([[0, 0.6, 4.4, -3], [1.1, 0, 0, 7], [0, 0.8, -3.3, 11], [0, 0, 0, 1.0]])
    write_volume(Volume(np.arange(24.0).reshape(1, 2, 3, 4), affine), tmp_path / f"a{suffix}")
    image = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    x, y, z = image.TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose([-x, -y, z], (affine @ [1, 2, 3, 1])[:3], atol=1e-9)
    assert image.GetPixel(1, 2, 3) == 23.0


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channels", [2, 3, 5])
def test_components_are_channels(suffix: str, channels: int, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(channels, 2, 3, 4)).astype(np.float32)
    write_volume(Volume(array, np.diag([1, 2, 3.0, 1])), tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}").array, array)
    with pytest.raises(InputError, match=f"got {channels} channels"):
        read_label_map(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channels", [1, 3])
def test_2d_files_stay_2d(suffix: str, channels: int, tmp_path: Path) -> None:
    array = np.arange(6 * channels, dtype=np.uint8).reshape(3, 2, channels)
    image = itk_image(array, isVector=True) if channels > 1 else itk_image(array[..., 0])
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    volume = read_volume(tmp_path / f"a{suffix}")
    assert (volume.dimensions, volume.array.shape) == (2, (channels, 2, 3, 1))
    assert volume.spacing_mm == pytest.approx((0.7, 1.3, 1.0))
    write_volume(volume, tmp_path / f"b{suffix}")
    assert sitk.ReadImage(str(tmp_path / f"b{suffix}")).GetDimension() == 2
    back = read_volume(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-9)


def test_4d_is_refused_unless_the_last_axis_is_1(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(1, 4, 3, 2)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), str(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nrrd").array[0], array[0].T)
    sitk.WriteImage(sitk.GetImageFromArray(array.reshape(2, 2, 3, 2), isVector=False), str(tmp_path / "b.nrrd"))
    with pytest.raises(InputError, match=r"b.nrrd: expected a 2D or 3D image, got shape \(2, 3, 2, 2\)"):
        read_volume(tmp_path / "b.nrrd")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_sheared_grid_is_refused_when_writing(suffix: str, tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 2] = 0.1
    with pytest.raises(InputError, match=r"sheared grid; write .nii.gz instead"):
        write_volume(Volume(np.ones((1, 2, 3, 4), np.uint8), sheared), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_one_line(suffix: str, compressed: bool, tmp_path: Path, capfd) -> None:
    whole = tmp_path / f"whole{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (9, 9, 9)).astype(np.uint8)
    sitk.WriteImage(itk_image(noise), str(whole), compressed)
    content = whole.read_bytes()
    for name, damaged in (("cut", content[:-100]), ("head", content[:80]), ("noise", b"no image at all\n" * 9)):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{name}{suffix}: expected .*, got .*; (copy|export)") as caught:
            read_volume(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_damage_inside_compressed_voxels_is_found(tmp_path: Path, capfd) -> None:
    # ITK alone would print a line and hand out wrong voxels.
    for suffix in SUFFIXES:
        path = tmp_path / f"a{suffix}"
        noise = np.random.default_rng(0).integers(0, 255, (9, 9, 9)).astype(np.uint8)
        sitk.WriteImage(itk_image(noise), str(path), True)
        content = bytearray(path.read_bytes())
        content[-300] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"a{suffix}: expected"):
            read_volume(path)
    assert capfd.readouterr().err == ""


def test_mhd_without_its_voxels_is_named(tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(), str(tmp_path / "a.mhd"))
    assert read_volume(tmp_path / "a.mhd").array.max() == 23
    (tmp_path / "a.raw").unlink()
    with pytest.raises(InputError, match=r"a.mhd: expected its voxels in a.raw beside it"):
        read_volume(tmp_path / "a.mhd")


def test_dtypes_that_itk_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a dtype that ITK has, got float16"):
        write_volume(Volume(np.ones((1, 2, 3, 4), np.float16), np.eye(4)), tmp_path / "a.mha")


def test_complex_images_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(np.ones((2, 2, 2), np.complex64)), str(tmp_path / "a.nrrd"))
    with pytest.raises(InputError, match="got complex ones"):
        read_volume(tmp_path / "a.nrrd")


def test_a_space_of_ras_in_nrrd_is_understood(tmp_path: Path) -> None:
    head = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 3 4\n"
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nencoding: raw\nspace origin: (1,2,3)\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(range(24)))
    grid = read_grid(tmp_path / "a.nrrd")
    np.testing.assert_allclose(grid.affine, [[2, 0, 0, 1], [0, 3, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]])
