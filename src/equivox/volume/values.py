"""From the numbers that a file stores to image values or labels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt

from equivox.errors import InputError

_EXACT_FLOAT32 = 2**24
_EXACT_FLOAT64 = 2**53
# Label files that were scaled or stored as float32 come back a hair off whole numbers.
_WHOLE_NUMBER_TOLERANCE = 1e-3


def image_values(
    stored: Shaped[np.ndarray, "*shape"], path: Path, *, slope: float = 1.0, intercept: float = 0.0
) -> tuple[Shaped[np.ndarray, "*shape"], tuple[str, ...]]:
    """Return ``stored * slope + intercept`` as floating-point numbers that are all finite.

    Args:
        stored: Real numbers of any dtype, in native byte order.
        path: The file they come from, for messages.
        slope: The scale in the file's header.
        intercept: The offset in the file's header.

    Returns:
        The values and what was mended. The dtype is float32, but float64 where a value beyond ±2**24 would change in
        float32 (large identifiers, counts). Values that are not finite are replaced by 0, and counted in the repair.

    Raises:
        InputError: If more than half of the values are not finite, there are none, or whole numbers are so large that
            float64 would round them.
    """
    if stored.dtype.kind not in "biuf":
        msg = f"{path}: expected real numbers, got {stored.dtype}; export the magnitude or one part of it"
        raise InputError(msg)
    if stored.size == 0:
        msg = f"{path}: expected at least one voxel, got shape {stored.shape}; export the image again"
        raise InputError(msg)
    plain = slope == 1.0 and intercept == 0.0
    if stored.dtype.kind in "biu":
        low, high = int(stored.min()), int(stored.max())
        if max(-low, high) > _EXACT_FLOAT64:
            msg = f"{path}: expected values up to ±2**53, got {low} to {high}, which no float holds; convert the file"
            raise InputError(msg)
        if plain and max(-low, high) <= _EXACT_FLOAT32:
            return stored.astype(np.float32), ()
    elif plain and stored.dtype.itemsize <= np.dtype(np.float32).itemsize:
        return _finite(stored.astype(np.float32), path)
    return _scale(stored, path, slope, intercept)


def label_values(
    stored: Shaped[np.ndarray, "*shape"], path: Path, *, slope: float = 1.0, intercept: float = 0.0
) -> tuple[UInt[np.ndarray, "*shape"], tuple[str, ...]]:
    """Return ``stored * slope + intercept`` as labels: whole numbers from 0, in the smallest unsigned dtype.

    Args:
        stored: Real numbers of any dtype, in native byte order.
        path: The file they come from, for messages.
        slope: The scale in the file's header.
        intercept: The offset in the file's header.

    Returns:
        The labels and what was mended: values within 0.001 of a whole number (float noise) are rounded to it.

    Raises:
        InputError: If a value is negative, not finite, or not a whole number.
    """
    if stored.dtype.kind not in "biuf" or stored.size == 0:
        msg = f"{path}: expected a label map, got {stored.dtype} of shape {stored.shape}; export the labels again"
        raise InputError(msg)
    repairs: tuple[str, ...] = ()
    if slope != 1.0 or intercept != 0.0:
        stored = stored.astype(np.float64) * slope + intercept
    if stored.dtype.kind == "f":
        stored, repairs = _whole(stored, path)
    low, high = int(stored.min()), int(stored.max())
    if low < 0:
        msg = f"{path}: expected labels from 0 up, got {low}; map the negative values to labels first"
        raise InputError(msg)
    return stored.astype(smallest_label_dtype(high)), repairs


def smallest_label_dtype(highest: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest unsigned dtype that holds the labels 0 to `highest`.

    Example:
        >>> smallest_label_dtype(255), smallest_label_dtype(256)
        (dtype('uint8'), dtype('uint16'))
    """
    for kind in (np.uint8, np.uint16, np.uint32):
        if highest <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.uint64)


def fit_dtype(values: Shaped[np.ndarray, "*shape"], dtype: np.dtype, path: Path) -> Shaped[np.ndarray, "*shape"]:
    """Return `values` in another dtype, without changing one of them (float rounding apart).

    Raises:
        InputError: If a value does not fit the dtype: too large, not finite or not whole for an integer dtype.
    """
    if values.dtype == dtype:
        return values
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        finite = values.dtype.kind in "biu" or bool(np.isfinite(values).all())
        low, high = (values.min(), values.max()) if values.size else (0, 0)
        if not finite or low < limits.min or high > limits.max:
            wanted = f"values from {limits.min} to {limits.max} for {dtype}"
            msg = f"{path}: expected {wanted}, got {low} to {high}; choose a larger dtype"
            raise InputError(msg)
        if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
            msg = f"{path}: expected whole numbers for {dtype}, got fractions; choose float32"
            raise InputError(msg)
        return values.astype(dtype)
    with np.errstate(over="ignore"):
        fitted = values.astype(dtype)
    if dtype.kind == "f" and not np.array_equal(np.isinf(fitted), np.isinf(values)):
        msg = f"{path}: expected values within the range of {dtype}, got up to {values.max()}; choose float64"
        raise InputError(msg)
    return fitted


def _scale(
    stored: Shaped[np.ndarray, "*shape"], path: Path, slope: float, intercept: float
) -> tuple[Shaped[np.ndarray, "*shape"], tuple[str, ...]]:
    """Scale in float64 by slabs, so that a large CT never exists as float64 as a whole."""
    narrow = np.empty_like(stored, dtype=np.float32)
    bad = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for slab in _slabs(stored):
            wide = stored[slab].astype(np.float64) * slope + intercept
            outside = ~np.isfinite(wide)
            bad += int(outside.sum())
            wide[outside] = 0.0
            narrow[slab] = wide
            if np.abs(wide).max() > _EXACT_FLOAT32 and not np.array_equal(narrow[slab], wide):
                return _finite(stored.astype(np.float64) * slope + intercept, path)
    return narrow, _count_bad(bad, stored.size, path)


def _slabs(array: Shaped[np.ndarray, "*shape"]) -> Iterator[tuple[slice | int, ...]]:
    """Yield indices of slabs along the last axis, of a few million values each."""
    if array.ndim == 0:
        yield ()
        return
    depth = array.shape[-1]
    step = max(1, 4_000_000 * depth // array.size)
    for start in range(0, depth, step):
        yield (*(slice(None),) * (array.ndim - 1), slice(start, start + step))


def _finite(values: Shaped[np.ndarray, "*shape"], path: Path) -> tuple[Shaped[np.ndarray, "*shape"], tuple[str, ...]]:
    """Replace by 0, in place, what is not finite."""
    outside = ~np.isfinite(values)
    bad = int(outside.sum())
    repairs = _count_bad(bad, values.size, path)
    if bad:
        values[outside] = 0
    return values, repairs


def _count_bad(bad: int, size: int, path: Path) -> tuple[str, ...]:
    if bad > size / 2:
        msg = f"{path}: expected finite values, got {bad} of {size} that are NaN or infinite; export the image again"
        raise InputError(msg)
    return (f"{bad} of {size} values are NaN or infinite; they were set to 0",) if bad else ()


def _whole(values: Shaped[np.ndarray, "*shape"], path: Path) -> tuple[Shaped[np.ndarray, "*shape"], tuple[str, ...]]:
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        msg = f"{path}: expected whole numbers as labels, got {bad} values that are NaN or infinite; mend the labels"
        raise InputError(msg)
    whole = np.rint(values)
    if np.abs(whole).max() > _EXACT_FLOAT64:
        msg = f"{path}: expected labels up to 2**53, got {values.max()}; mend the labels"
        raise InputError(msg)
    distance = float(np.abs(values - whole).max())
    if distance > _WHOLE_NUMBER_TOLERANCE:
        worst = values.flat[int(np.abs(values - whole).argmax())]
        msg = (
            f"{path}: expected whole numbers as labels, got {worst:g}; "
            "threshold a probability map, or interpolate labels with nearest neighbours"
        )
        raise InputError(msg)
    repairs = (f"labels lay up to {distance:.1g} off whole numbers; they were rounded",) if distance else ()
    return whole.astype(np.int64), repairs
