"""What stored numbers become: images are floats without NaN, labels are whole numbers from 0."""

from pathlib import Path

import numpy as np
import pytest

from equivox.errors import InputError
from equivox.volume.values import fit_dtype, image_values, label_values, smallest_label_dtype

FILE = Path("scan.nii.gz")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64", "float32", "float64"])
def test_images_come_as_float32(dtype: str) -> None:
    values, repairs = image_values(np.array([0, 1, 100], dtype), FILE)
    assert values.dtype == np.float32
    assert values.tolist() == [0, 1, 100]
    assert repairs == ()


def test_whole_numbers_beyond_float32_come_as_float64() -> None:
    values, _ = image_values(np.array([2**24 + 1, 0], np.int32), FILE)
    assert values.dtype == np.float64
    assert values[0] == 2**24 + 1
    values, _ = image_values(np.array([2**24, 0], np.int32), FILE)
    assert values.dtype == np.float32
    values, _ = image_values(np.array([1e39, 0.5]), FILE)
    assert values.tolist() == [1e39, 0.5]


def test_whole_numbers_that_no_float_holds_are_refused() -> None:
    with pytest.raises(InputError, match=r"scan.nii.gz: expected values up to ±2\*\*53"):
        image_values(np.array([2**60 + 1], np.int64), FILE)


def test_scale_and_offset_are_applied_in_double_precision() -> None:
    stored = np.array([0, 1, 3, -32768], np.int16)
    values, _ = image_values(stored, FILE, slope=0.1, intercept=-1024.0)
    expected = [np.float32(number) for number in (-1024.0, -1023.9, -1023.7, -4300.8)]
    assert values.tolist() == expected


def test_scaling_by_slabs_is_scaling_at_once() -> None:
    stored = np.random.default_rng(0).integers(-1000, 1000, (300, 200, 150)).astype(np.int16)
    values, _ = image_values(np.asfortranarray(stored), FILE, slope=0.37, intercept=2.5)
    np.testing.assert_array_equal(values, (stored * 0.37 + 2.5).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_not_finite_become_0_and_are_counted(dtype: type) -> None:
    values, repairs = image_values(np.array([1.5, np.nan, -np.inf, 2.0, 3.0], dtype), FILE)
    assert values.tolist() == [1.5, 0, 0, 2, 3]
    assert repairs == ("2 of 5 values are NaN or infinite; they were set to 0",)


def test_mostly_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="got 2 of 3 that are NaN or infinite"):
        image_values(np.array([1, np.nan, np.inf], np.float32), FILE)


def test_complex_and_empty_images_are_refused() -> None:
    with pytest.raises(InputError, match="expected real numbers, got complex64"):
        image_values(np.zeros(3, np.complex64), FILE)
    with pytest.raises(InputError, match="at least one voxel"):
        image_values(np.zeros((0, 3), np.uint8), FILE)


@pytest.mark.parametrize(
    ("highest", "dtype"), [(0, "uint8"), (255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "uint32")]
)
def test_labels_come_in_the_smallest_unsigned_dtype(highest: int, dtype: str) -> None:
    labels, repairs = label_values(np.array([0, highest], np.int64), FILE)
    assert labels.dtype == dtype == smallest_label_dtype(highest)
    assert labels.tolist() == [0, highest]
    assert repairs == ()


def test_whole_floats_become_labels_exactly() -> None:
    labels, repairs = label_values(np.array([0, 2035.0], np.float32), FILE)
    assert (labels.dtype, labels.tolist(), repairs) == (np.uint16, [0, 2035], ())


def test_float_noise_is_rounded_and_named() -> None:
    # 255 * float32(1/255) is 1.0000001 in double precision.
    labels, repairs = label_values(np.array([0, 255], np.uint8), FILE, slope=float(np.float32(1 / 255)))
    assert labels.tolist() == [0, 1]
    assert len(repairs) == 1
    assert "off whole numbers" in repairs[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [([0, -1], "expected labels from 0 up, got -1"), ([0, 0.5], "got 0.5; threshold"), ([0, np.nan], "got 1 values")],
)
def test_what_is_no_label_is_refused(values: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_values(np.array(values), FILE)


def test_values_that_do_not_fit_a_dtype_are_refused() -> None:
    with pytest.raises(InputError, match=r"from 0 to 255 for uint8, got 0.0 to 256.0; choose a larger dtype"):
        fit_dtype(np.array([0, 256.0]), np.dtype(np.uint8), FILE)
    with pytest.raises(InputError, match="got fractions"):
        fit_dtype(np.array([0, 0.5]), np.dtype(np.uint8), FILE)
    with pytest.raises(InputError, match="range of float32"):
        fit_dtype(np.array([0, 1e39]), np.dtype(np.float32), FILE)
    with pytest.raises(InputError, match="for int16"):
        fit_dtype(np.array([0, np.nan]), np.dtype(np.int16), FILE)
    assert fit_dtype(np.array([0, 255.0]), np.dtype(np.uint8), FILE).tolist() == [0, 255]
