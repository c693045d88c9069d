"""A folder of DICOM slices: sorted by position, refused where it is not one even stack."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLosslessSV1, JPEGLSLossless, generate_uid

from equivox.errors import InputError
from equivox.volume import axis_codes, read_grid, read_label_map, read_volume, write_label_map

AXIAL = (1.0, 0, 0, 0, 1, 0)
SERIES = generate_uid(entropy_srcs=["series"])


def write_slice(path: Path, pixels: np.ndarray, *, position=(0.0, 0, 0), orientation=AXIAL, **fields: Any) -> None:
    """Write one DICOM file; a field of None is left out."""
    compressed = fields.pop("compressed", None)
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    header.file_meta.TransferSyntaxUID = compressed or ExplicitVRLittleEndian
    header.SeriesInstanceUID, header.Modality, header.PatientName = SERIES, "CT", "MUELLER^HANS"
    header.ImagePositionPatient, header.ImageOrientationPatient = list(position), list(orientation)
    header.PixelSpacing = [1.3, 0.7]  # between rows, between columns
    header.Rows, header.Columns = pixels.shape[:2]
    header.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    header.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        header.PlanarConfiguration = 0
    header.BitsAllocated = pixels.dtype.itemsize * 8
    header.BitsStored, header.HighBit = header.BitsAllocated, header.BitsAllocated - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.RescaleSlope, header.RescaleIntercept = "2", "-1024"
    encoders = {JPEGLSLossless: imagecodecs.jpegls_encode, JPEGLosslessSV1: imagecodecs.ljpeg_encode}
    if compressed:
        unsigned = pixels.view(f"u{pixels.dtype.itemsize}") & ((1 << fields.get("BitsStored", 16)) - 1)
        header.PixelData = encapsulate([encoders[compressed](unsigned)])
        header["PixelData"].VR = "OB"
    else:
        header.PixelData = pixels.tobytes()
        header["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    for name, value in fields.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    header.save_as(path, enforce_file_format=True)


def pixels_of(number: int) -> np.ndarray:
    """2 rows and 3 columns."""
    return (np.arange(6).reshape(2, 3) + 10 * number).astype(np.int16)


def stack(folder: Path, heights=(0.0, 2.5, 5.0, 7.5), names="dbca", **fields: Any) -> Path:
    """Slices whose names run against their positions."""
    folder.mkdir(exist_ok=True)
    for number, (height, name) in enumerate(zip(heights, names, strict=True)):
        write_slice(folder / f"{name}.dcm", pixels_of(number), position=(-10.0, 20.0, height), **fields)
    return folder


def test_slices_are_sorted_by_position_and_rescaled(tmp_path: Path) -> None:
    volume = read_volume(stack(tmp_path / "ct"))
    assert volume.array.shape == (1, 3, 2, 4)
    assert volume.array.dtype == np.float32
    assert volume.array[0, 2, 1, 3] == 2 * 35 - 1024  # column 2, row 1, slice 3
    assert volume.array[0, 1, 0, 0] == 2 * 1 - 1024
    assert axis_codes(volume.affine) == "LPS"
    np.testing.assert_allclose(volume.affine, [[-0.7, 0, 0, 10], [0, -1.3, 0, -20], [0, 0, 2.5, 0], [0, 0, 0, 1]])
    assert volume.repairs == ()
    np.testing.assert_array_equal(read_grid(tmp_path / "ct").affine, volume.affine)


def test_an_oblique_stack_has_its_own_axes(tmp_path: Path) -> None:
    row, column = np.array([0.0, 0.8, -0.6]), np.array([1.0, 0, 0])
    normal = np.cross(row, column)
    (tmp_path / "mr").mkdir()
    for number in range(3):
        position = np.array([5.0, 6, 7]) + normal * 3 * number
        orientation = (*row, *column)
        write_slice(
            tmp_path / "mr" / f"{number}", pixels_of(number), position=position.round(9), orientation=orientation
        )
    volume = read_volume(tmp_path / "mr")
    # The pixel of column 2, row 1 in slice 1, in LPS, then with x and y negated.
    x, y, z = np.array([5.0, 6, 7]) + normal * 3 + row * 0.7 * 2 + column * 1.3
    np.testing.assert_allclose((volume.affine @ [2, 1, 1, 1])[:3], [-x, -y, z])
    assert volume.array[0, 2, 1, 1] == 2 * 15 - 1024


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    folder = stack(tmp_path / "pet", heights=(0.0, 2.0), names="ab")
    write_slice(folder / "b.dcm", pixels_of(1), position=(-10.0, 20, 2), RescaleSlope="0.5", RescaleIntercept="0")
    array = read_volume(folder).array
    assert (array[0, 0, 0, 0], array[0, 0, 0, 1]) == (-1024, 5)


def test_missing_slices_are_found(tmp_path: Path) -> None:
    folder = stack(tmp_path / "ct", heights=(0.0, 2.5, 5.0, 12.5), names="abcd")
    with pytest.raises(InputError, match=r"slices 2.5 mm apart, got about 2 missing: 7.5 mm between c.dcm and d.dcm"):
        read_volume(folder)


def test_uneven_distances_are_found(tmp_path: Path) -> None:
    folder = stack(tmp_path / "ct", heights=(0.0, 2.5, 5.0, 6.5), names="abcd")
    with pytest.raises(InputError, match=r"got uneven distances: 1.5 mm between c.dcm and d.dcm"):
        read_grid(folder)
    # What rounding does is no fault.
    stack(folder, heights=(0.0, 2.51, 4.99, 7.5), names="abcd")
    assert read_grid(folder).spacing_mm[2] == pytest.approx(2.5)


def test_gantry_tilt_is_a_shear_that_is_carried_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    folder.mkdir()
    shift = 2.5 * np.tan(np.radians(15))
    for number in range(4):
        write_slice(folder / str(number), pixels_of(number), position=(0.0, round(shift * number, 9), 2.5 * number))
    volume = read_volume(folder)
    assert volume.repairs == ("gantry tilt of 15 degrees: the affine carries it as a shear, nothing was resampled",)
    np.testing.assert_allclose(volume.affine[:3, 2], [0, -shift, 2.5], atol=1e-9)
    write_label_map(np.ones((3, 2, 4), np.uint8), folder, tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(read_label_map(tmp_path / "labels.nii.gz").affine, volume.affine, atol=1e-6)


def test_a_slice_beside_the_line_is_found(tmp_path: Path) -> None:
    folder = stack(tmp_path / "ct", names="abcd")
    write_slice(folder / "b.dcm", pixels_of(1), position=(-14.0, 20.0, 2.5))
    with pytest.raises(InputError, match=r"slices on one line, got b.dcm 4 mm beside it"):
        read_grid(folder)


def test_two_slices_at_one_position_are_refused_and_copies_dropped(tmp_path: Path) -> None:
    folder = stack(tmp_path / "ct", names="abcd")
    (folder / "copy.dcm").write_bytes((folder / "b.dcm").read_bytes())
    volume = read_volume(folder)
    assert volume.array.shape == (1, 3, 2, 4)
    assert volume.repairs == ("1 slices were there twice and were taken once",)
    write_slice(folder / "copy.dcm", pixels_of(9), position=(-10.0, 20.0, 2.5))
    with pytest.raises(InputError, match=r"got b.dcm and copy.dcm at the same; keep one time point"):
        read_volume(folder)


def test_mixed_series_are_refused(tmp_path: Path) -> None:
    folder = stack(tmp_path / "ct", names="abcd")
    write_slice(folder / "e.dcm", pixels_of(4), position=(-10.0, 20, 10), SeriesInstanceUID=generate_uid())
    with pytest.raises(InputError, match=r"one DICOM series, got 2 with 4, 1 slices; put each into its own folder"):
        read_volume(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"orientation": (1.0, 0, 0, 0, 0, -1)}, r"parallel slices, got 1 turned ones \(e.dcm\)"),
        ({"PixelSpacing": [2.0, 2.0]}, r"the same PixelSpacing in every slice, got \[1.3, 0.7\] \(4 slices\)"),
        ({"ImagePositionPatient": None}, "a position in every slice, got none in 1 of 5"),
        ({"NumberOfFrames": 3}, r"e.dcm: expected one slice a file, got multi-frame"),
    ],
)
def test_a_slice_that_does_not_fit_is_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = stack(tmp_path / "ct", names="abcd")
    write_slice(folder / "e.dcm", pixels_of(4), **{"position": (-10.0, 20, 10), **fields})
    with pytest.raises(InputError, match=message):
        read_volume(folder)


def test_slices_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = stack(tmp_path / "ct", names="abcd")
    write_slice(folder / "e.dcm", np.zeros((5, 5), np.int16), position=(-10.0, 20, 10))
    with pytest.raises(InputError, match="the same Rows in every slice"):
        read_volume(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"orientation": (1.0, 0, 0, 1, 0, 0)}, "row and column directions at right angles"),
        ({"PixelSpacing": [0.0, 1.0]}, "a positive PixelSpacing"),
        ({"PixelSpacing": None}, "expected 2 numbers for position, orientation and spacing, got None"),
        ({"ImageOrientationPatient": None}, "expected 6 numbers"),
    ],
)
def test_a_stack_without_a_place_is_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_grid(stack(tmp_path / "ct", **fields))


def test_files_that_are_no_slices_are_left_out_and_named(tmp_path: Path) -> None:
    folder = stack(tmp_path / "ct")
    (folder / "notes.txt").write_text("made on a Tuesday")
    (folder / ".hidden").write_text("nothing")
    write_slice(folder / "rt.dcm", pixels_of(0), Modality="RTSTRUCT", Rows=None, PixelData=None)
    volume = read_volume(folder)
    assert volume.array.shape[3] == 4
    assert volume.repairs == ("2 files are no slices and were left out: notes.txt (not DICOM), rt.dcm (RTSTRUCT)",)


def test_a_folder_without_slices_says_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got an empty folder"):
        read_volume(tmp_path)
    (tmp_path / "series 1").mkdir()
    with pytest.raises(InputError, match=r"got folders \(series 1\); give the folder of one series"):
        read_volume(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match=r"no image slices among 1 files, for example a.txt \(not DICOM\)"):
        read_volume(tmp_path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = stack(tmp_path / "ct")
    whole = (folder / "a.dcm").read_bytes()
    (folder / "a.dcm").write_bytes(whole[:-7])
    with pytest.raises(InputError, match=r"a.dcm: expected a DICOM file, got .*; export or copy it again") as caught:
        read_volume(folder)
    assert "\n" not in str(caught.value)
    (folder / "a.dcm").write_bytes(whole[:200])
    with pytest.raises(InputError, match=r"a.dcm: expected an image, got DICOM without one"):
        read_volume(folder)


def test_one_slice_takes_its_thickness_or_says_that_it_has_none(tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", pixels_of(1), SliceThickness="4")
    volume = read_volume(tmp_path / "a.dcm")
    assert (volume.spacing_mm, volume.dimensions, volume.repairs) == ((0.7, 1.3, 4.0), 3, ())
    write_slice(tmp_path / "a.dcm", pixels_of(1))
    assert read_volume(tmp_path / "a.dcm").repairs == ("a single slice without a thickness: 1 mm was taken",)


@pytest.mark.parametrize("known", [True, False])
def test_a_radiograph_without_a_position_is_2d(known: bool, tmp_path: Path) -> None:
    fields = {"Modality": "DX", "ImagePositionPatient": None, "ImageOrientationPatient": None}
    spacing = {} if known else {"PixelSpacing": None, "ImagerPixelSpacing": [0.1, 0.1]}
    write_slice(tmp_path / "a.dcm", pixels_of(1), **fields, **spacing)
    volume = read_volume(tmp_path / "a.dcm")
    assert (volume.dimensions, volume.spacing_known) == (2, known)
    assert volume.spacing_mm == ((0.7, 1.3, 1.0) if known else (1.0, 1.0, 1.0))


@pytest.mark.parametrize(("modality", "expected"), [("DX", [65535, 65534]), ("CT", [0, 1])])
def test_monochrome1_is_turned_for_radiographs_alone(modality: str, expected: list[int], tmp_path: Path) -> None:
    pixels = np.array([[0, 1]], np.uint16)
    fields = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": None, "RescaleIntercept": None}
    write_slice(tmp_path / "a.dcm", pixels, Modality=modality, **fields)
    volume = read_volume(tmp_path / "a.dcm")
    assert volume.array.ravel().tolist() == expected
    assert any("MONOCHROME1" in repair for repair in volume.repairs) == (modality == "DX")


def test_colour_gives_three_channels(tmp_path: Path) -> None:
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    write_slice(tmp_path / "a.dcm", colours, RescaleSlope=None, RescaleIntercept=None)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array[..., 0], colours.transpose(2, 1, 0))


@pytest.mark.parametrize("compressed", [JPEGLSLossless, JPEGLosslessSV1])
@pytest.mark.parametrize(("dtype", "bits"), [(np.int16, 12), (np.uint16, 12), (np.int16, 16)])
def test_lossless_jpeg_is_decoded_with_its_sign(compressed: str, dtype: type, bits: int, tmp_path: Path) -> None:
    low = -(2 ** (bits - 1)) if dtype is np.int16 else 0
    pixels = np.random.default_rng(0).integers(low, low + 2**bits, (8, 9)).astype(dtype)
    write_slice(tmp_path / "a.dcm", pixels, compressed=compressed, BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array[0, :, :, 0].T, 2.0 * pixels - 1024)


def test_a_lookup_table_is_refused(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTExplanation = [4, 0, 16], "odd"
    write_slice(tmp_path / "a.dcm", pixels_of(0), ModalityLUTSequence=[table])
    with pytest.raises(InputError, match="got a lookup table"):
        read_volume(tmp_path / "a.dcm")


def test_a_series_is_no_label_map(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a label map, got DICOM"):
        read_label_map(stack(tmp_path / "ct"))


def test_a_label_map_of_a_series_has_no_name_in_it(tmp_path: Path) -> None:
    labels = np.zeros((3, 2, 4), np.int32)
    labels[2, 1, 3] = 300
    for suffix in (".nii", ".mha", ".nrrd"):
        write_label_map(labels, stack(tmp_path / "ct"), tmp_path / f"labels{suffix}")
        assert b"MUELLER" not in (tmp_path / f"labels{suffix}").read_bytes()
        back = read_label_map(tmp_path / f"labels{suffix}")
        np.testing.assert_array_equal(back.array[0], labels)
        assert back.grid.matches(read_grid(tmp_path / "ct"), tolerance_voxels=1e-6)
