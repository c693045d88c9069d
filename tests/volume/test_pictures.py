"""PNG, JPEG and TIFF as 2D images of unknown spacing."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from equivox.errors import InputError
from equivox.volume import Volume, read_grid, read_label_map, read_volume, write_label_map, write_volume

GREY = np.array([[0, 10, 20], [30, 40, 250]], np.uint8)  # 2 rows, 3 columns


def save(pixels: np.ndarray, path: Path, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_i_runs_along_a_row_and_j_down_the_rows(suffix: str, tmp_path: Path) -> None:
    volume = read_volume(save(GREY, tmp_path / f"a{suffix}"))
    assert volume.array.shape == (1, 3, 2, 1)
    assert volume.array.dtype == np.float32
    assert volume.array[0, 2, 1, 0] == 250
    assert volume.array[0, 2, 0, 0] == 20
    assert (volume.dimensions, volume.spacing_known) == (2, False)
    np.testing.assert_array_equal(volume.affine, np.eye(4))
    assert read_grid(tmp_path / f"a{suffix}").shape == (3, 2, 1)


def test_a_spacing_that_is_given_is_known(tmp_path: Path) -> None:
    path = save(GREY, tmp_path / "a.png")
    volume = read_volume(path, spacing_mm=(0.2, 0.5))
    assert (volume.spacing_known, volume.spacing_mm) == (True, (0.2, 0.5, 1.0))
    for wrong in ((0.2,), (0.2, -1.0), (0.2, float("nan"))):
        with pytest.raises(InputError, match=r"a.png: expected a spacing of two positive numbers"):
            read_volume(path, spacing_mm=wrong)


def test_a_spacing_for_a_file_that_has_its_own_is_refused(tmp_path: Path) -> None:
    write_volume(Volume(np.ones((1, 2, 2, 2), np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="expected no spacing for a file that has its own"):
        read_volume(tmp_path / "a.nii", spacing_mm=(1.0, 1.0))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_colours_are_channels(suffix: str, tmp_path: Path) -> None:
    colours = np.zeros((4, 5, 3), np.uint8)
    colours[..., 1], colours[..., 2] = 100, 200
    array = read_volume(save(colours, tmp_path / f"a{suffix}")).array
    assert array.shape == (3, 5, 4, 1)
    np.testing.assert_allclose(array.mean(axis=(1, 2, 3)), [0, 100, 200], atol=2)


def test_opaque_alpha_is_dropped_and_transparency_refused(tmp_path: Path) -> None:
    colours = np.full((2, 3, 4), 255, np.uint8)
    colours[0, 0, :3] = 1, 2, 3
    assert read_volume(save(colours, tmp_path / "a.png")).array[:, 0, 0, 0].tolist() == [1, 2, 3]
    colours[1, 1, 3] = 0
    with pytest.raises(InputError, match="transparent parts; flatten it"):
        read_volume(save(colours, tmp_path / "b.png"))


def test_16_bits_are_kept(tmp_path: Path) -> None:
    deep = np.array([[0, 65535], [256, 257]], np.uint16)
    assert read_volume(save(deep, tmp_path / "a.png")).array[0, :, :, 0].T.tolist() == deep.tolist()
    colours = np.stack([deep, deep // 2, deep // 3], axis=-1)
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(colours))
    np.testing.assert_array_equal(read_volume(tmp_path / "b.png").array[..., 0], colours.transpose(2, 1, 0))


def test_float_and_planar_tiff_are_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[0, :, :, 0], pixels.T)
    planes = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    tifffile.imwrite(tmp_path / "b.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.tif").array[..., 0], planes.transpose(0, 2, 1))


def test_label_pictures_give_grey_values_bits_or_palette_indices(tmp_path: Path) -> None:
    bits = read_label_map(save(GREY > 15, tmp_path / "bits.png"))
    assert bits.array[0, :, :, 0].T.tolist() == [[0, 0, 1], [1, 1, 1]]
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode=None).convert("P")
    palette.putdata([0, 1, 2])
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    palette.save(tmp_path / "palette.png")
    assert read_label_map(tmp_path / "palette.png").array.ravel().tolist() == [0, 1, 2]
    assert read_volume(tmp_path / "palette.png").array[:, 1, 0, 0].tolist() == [200, 0, 0]
    same = read_label_map(save(np.stack([GREY] * 3, axis=-1), tmp_path / "same.png"))
    assert same.array[0, :, :, 0].T.tolist() == GREY.tolist()


def test_labels_in_colour_or_jpeg_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[0, 0, 0] = 255
    with pytest.raises(InputError, match="got colours; map colours to labels first"):
        read_label_map(save(colours, tmp_path / "a.png"))
    with pytest.raises(InputError, match="got JPEG, which changes values at borders"):
        read_label_map(save(GREY, tmp_path / "a.jpg"))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_damaged_pictures_are_named(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    whole = save(noise, tmp_path / f"whole{suffix}").read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("noise", b"no picture"), ("head", whole[:20])):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}{suffix}: expected a picture, got .*; export or copy") as caught:
            read_volume(path)
        assert "\n" not in str(caught.value)


def test_several_pages_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 4, 6), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match="expected one picture, got 5 pages"):
        read_volume(tmp_path / "a.tif")
    with pytest.raises(InputError, match="got 5 pages"):
        read_grid(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("highest", [1, 255, 256, 65535])
def test_label_pictures_come_back(name: str, highest: int, tmp_path: Path) -> None:
    like = save(GREY, tmp_path / "like.png")
    labels = np.zeros((3, 2, 1), np.int64)
    labels[2, 0, 0] = highest
    write_label_map(labels, like, tmp_path / name)
    back = read_label_map(tmp_path / name)
    np.testing.assert_array_equal(back.array[0], labels)
    assert back.spacing_known is False


def test_labels_too_large_for_png_are_refused(tmp_path: Path) -> None:
    like = save(GREY, tmp_path / "like.png")
    with pytest.raises(InputError, match="expected 8 or 16 bits"):
        write_label_map(np.full((3, 2, 1), 65536), like, tmp_path / "a.png")
    write_label_map(np.full((3, 2, 1), 65536), like, tmp_path / "a.tif")
    assert read_label_map(tmp_path / "a.tif").array.max() == 65536


def test_images_come_back_where_their_values_fit(tmp_path: Path) -> None:
    volume = read_volume(save(np.stack([GREY, GREY, 255 - GREY], axis=-1), tmp_path / "a.png"))
    write_volume(volume, tmp_path / "b.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.png").array, volume.array)
    with pytest.raises(InputError, match="got fractions"):
        write_volume(volume.with_array(volume.array + 0.5), tmp_path / "c.png")
    write_volume(volume.with_array(volume.array + 0.5), tmp_path / "c.tif")
    np.testing.assert_array_equal(read_volume(tmp_path / "c.tif").array, volume.array + 0.5)


def test_a_picture_cannot_hold_a_grid(tmp_path: Path) -> None:
    volume = read_volume(save(GREY, tmp_path / "a.png"), spacing_mm=(0.2, 0.2))
    with pytest.raises(InputError, match="a picture cannot hold the scan's grid"):
        write_volume(volume, tmp_path / "b.png")
    write_volume(volume, tmp_path / "b.nii.gz")
    assert read_volume(tmp_path / "b.nii.gz").spacing_mm == pytest.approx((0.2, 0.2, 1.0))
    with pytest.raises(InputError, match=r"expected a name that ends in .nii.gz, .*, got '.jpg'"):
        write_volume(volume, tmp_path / "b.jpg")
