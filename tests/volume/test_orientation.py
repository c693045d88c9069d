"""Turning axes moves no voxel in the patient and can be undone exactly."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from equivox.errors import InputError
from equivox.volume import Volume, axis_codes, reorient
from equivox.volume.orientation import reorient_affine, reorient_array, restore_array, swap_lps_ras, turn_axes

ALL_CODES = [
    "".join(letters)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*order)
]  # fmt: skip


def affine_of(codes: str, spacing_mm=(0.7, 1.1, 5.0), origin=(-31.5, 12.25, 400.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(codes):
        world = next(index for index, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[world, axis] = spacing_mm[axis] * (1 if letter in "RAS" else -1)
    affine[:3, 3] = origin
    return affine


def rotation(angles) -> np.ndarray:
    x, y, z = angles
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


def numbered(shape=(3, 1, 5)) -> np.ndarray:
    """Every voxel has its own number, so that its way can be followed."""
    return np.arange(np.prod(shape), dtype=np.int32).reshape(1, *shape)


def places(volume: Volume) -> np.ndarray:
    """The RAS position of each number."""
    _, *shape = volume.array.shape
    indices = np.indices(shape).reshape(3, -1)
    order = np.argsort(volume.array[0].reshape(-1))
    return (volume.affine[:3, :3] @ indices + volume.affine[:3, 3:])[:, order]


def test_there_are_48_orientations() -> None:
    assert len(set(ALL_CODES)) == 48


@pytest.mark.parametrize("codes", ALL_CODES)
def test_codes_agree_with_nibabel(codes: str) -> None:
    affine = affine_of(codes)
    affine[:3, :3] = rotation((0.2, -0.1, 0.3)) @ affine[:3, :3]
    assert axis_codes(affine) == "".join(nib.aff2axcodes(affine)) == codes


@pytest.mark.parametrize("codes", ALL_CODES)
def test_every_voxel_stays_where_it_is_in_the_patient(codes: str) -> None:
    affine = affine_of(codes)
    affine[:3, :3] = rotation((0.4, 0.2, -0.3)) @ affine[:3, :3]
    volume = Volume(numbered(), affine)
    turned = reorient(volume, "RAS")
    assert axis_codes(turned.affine) == "RAS"
    np.testing.assert_allclose(places(turned), places(volume), atol=1e-10)
    assert sorted(turned.spacing_mm) == pytest.approx(sorted(volume.spacing_mm))


def test_turning_by_hand() -> None:
    # PLI: i runs to posterior, j to left, k to inferior; RAS takes x from -j, y from -i, z from -k.
    array = np.arange(6).reshape(1, 2, 3, 1)
    turned = reorient(Volume(array, affine_of("PLI", (2.0, 3.0, 4.0), (0, 0, 0))), "RAS")
    assert turned.array[0, :, :, 0].tolist() == [[5, 2], [4, 1], [3, 0]]
    # The last voxel of j (index 2, 3 mm each) is the first along x, and that of i (index 1, 2 mm) along y.
    assert turned.affine.tolist() == [[3, 0, 0, -6], [0, 2, 0, -2], [0, 0, 4, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("codes", ALL_CODES)
@pytest.mark.parametrize("channels", [(), (2,)])
def test_restoring_undoes_turning_bare_arrays(codes: str, channels: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=(*channels, 4, 1, 3))
    turns = turn_axes(affine_of("LPS"), codes)
    turned = reorient_array(array, turns)
    assert turned.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(restore_array(turned, turns), array)


def test_turning_an_array_and_its_affine_is_turning_the_volume() -> None:
    volume = Volume(numbered((4, 3, 2)), affine_of("ASL"))
    turns = turn_axes(volume.affine, "LPS")
    turned = reorient(volume, "LPS")
    np.testing.assert_array_equal(reorient_array(volume.array, turns), turned.array)
    np.testing.assert_array_equal(reorient_affine(volume.affine, (4, 3, 2), turns), turned.affine)


def test_axes_at_45_degrees_still_come_back() -> None:
    affine = affine_of("RAS", (1.0, 1.0, 3.0))
    affine[:3, :3] = rotation((0, 0, np.pi / 4)) @ affine[:3, :3]
    for codes in ALL_CODES:
        start = reorient(Volume(numbered((3, 4, 2)), affine), codes)
        back = reorient(reorient(start, "RAS"), axis_codes(start.affine))
        np.testing.assert_array_equal(back.array, start.array)


def test_lps_and_ras_swap_the_first_two_world_axes() -> None:
    swapped = swap_lps_ras(affine_of("LPS"))
    assert axis_codes(swapped) == "RAS"
    assert swapped[:3, 3].tolist() == [31.5, -12.25, 400.0]
    assert not np.signbit(swapped[swapped == 0]).any()


@pytest.mark.parametrize("codes", ["RA", "RRS", "RAX", "RASL", ""])
def test_impossible_codes_are_refused(codes: str) -> None:
    with pytest.raises(InputError, match="one each of L/R, P/A and I/S"):
        turn_axes(np.eye(4), codes)


def test_an_array_of_two_axes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got shape \(2, 2\)"):
        reorient_array(np.zeros((2, 2)), turn_axes(np.eye(4), "RAS"))
