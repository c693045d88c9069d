"""Export against interpolation of every class at full resolution, and against a turn, crop and resize by hand."""

import itertools
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from equivox.datasets.prepare import PreparedGeometry
from equivox.pipelines.prediction.export import export_entropy, export_labels, export_probability, write_map
from equivox.volume.resample import resize


def geometry(
    cropped: tuple[int, int, int],
    prepared: tuple[int, int, int],
    *,
    before: tuple[int, int, int] = (0, 0, 0),
    after: tuple[int, int, int] = (0, 0, 0),
    affine: np.ndarray | None = None,
) -> PreparedGeometry:
    turned = tuple(b + c + a for b, c, a in zip(before, cropped, after, strict=True))
    affine = np.diag([0.7, 1.1, 2.5, 1.0]) if affine is None else affine
    order = np.abs(affine[:3, :3]).argmax(axis=0)
    return PreparedGeometry(
        source_shape=tuple(turned[axis] for axis in order),
        source_affine=affine,
        orientation="RAS",
        turned_shape=turned,
        crop_start=before,
        crop_stop=tuple(b + c for b, c in zip(before, cropped, strict=True)),
        prepared_shape=prepared,
        prepared_spacing_mm=(1.0, 1.0, 1.0),
    )


def smooth(classes: int, shape: tuple[int, int, int], seed: int = 0, sharpness: float = 8.0) -> np.ndarray:
    coarse = np.random.default_rng(seed).normal(size=(1, classes, *(max(2, side // 6) for side in shape)))
    logits = torch.nn.functional.interpolate(torch.from_numpy(coarse), shape, mode="trilinear")[0] * sharpness
    return logits.softmax(0).float().numpy()


def noise(classes: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(classes, *shape))).softmax(0).float().numpy()


def every_class_everywhere(values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The interpolation of the module's definition in float32, classes x full resolution, no tiles and no pruning."""
    for axis, side in zip((3, 2, 1), reversed(shape), strict=True):
        inputs = values.shape[axis]
        place = np.clip(((np.arange(side) + 0.5) * float(np.float32(inputs / side)) - 0.5).astype("f4"), 0, inputs - 1)
        low = np.floor(place).astype(int)
        weight = (place - low).astype(np.float32).reshape([-1 if n == axis else 1 for n in range(4)])
        below, above = values.take(low, axis), values.take(np.minimum(low + 1, inputs - 1), axis)
        values = below + weight * (above - below)
    return values


SHAPES = [
    ((20, 24, 40), (41, 50, 83)),
    ((20, 24, 40), (20, 24, 40)),
    ((30, 21, 17), (9, 40, 17)),
    ((1, 1, 1), (5, 4, 3)),
    ((7, 5, 1), (35, 5, 1)),
    ((3, 2, 9), (1, 1, 1)),
]


@pytest.mark.parametrize(("prepared", "full"), SHAPES)
@pytest.mark.parametrize("make", [smooth, noise])
@pytest.mark.parametrize("classes", [1, 2, 7])
def test_labels_are_exactly_the_full_resolution_argmax(prepared: tuple, full: tuple, make, classes: int) -> None:
    values = make(classes, prepared)
    labels = export_labels(values, geometry(full, prepared))
    np.testing.assert_array_equal(labels, every_class_everywhere(values, full).argmax(0))


@pytest.mark.parametrize(("prepared", "full"), SHAPES)
def test_interpolation_is_that_of_the_preparation(prepared: tuple, full: tuple) -> None:
    values = smooth(4, prepared)
    dense = resize(values, full, 1)
    np.testing.assert_allclose(every_class_everywhere(values, full), dense, atol=1e-6)
    labels = export_labels(values, geometry(full, prepared))
    best_two = np.sort(dense, axis=0)[-2:]
    decided = best_two[1] - best_two[0] > 1e-6  # float rounding decides the rest
    np.testing.assert_array_equal(labels[decided], dense.argmax(0)[decided])


def test_ties_go_to_the_lowest_class() -> None:
    values = np.full((5, 9, 8, 40), 0.2, dtype=np.float32)
    values[0] = 0.1  # 1 to 4 tie everywhere
    labels = export_labels(values, geometry((18, 8, 33), (9, 8, 40)))
    assert (labels == 1).all()


def test_a_class_that_wins_in_one_voxel_of_a_tile_is_found() -> None:
    values = np.zeros((3, 12, 12, 12), dtype=np.float32)
    values[0] = 1.0
    values[:, 5, 6, 7] = (0.0, 0.0, 1.0)
    labels = export_labels(values, geometry((12, 12, 12), (12, 12, 12)))
    assert np.argwhere(labels).tolist() == [[5, 6, 7]]
    assert labels[5, 6, 7] == 2


def test_interpolation_by_hand_along_an_anisotropic_axis() -> None:
    # Two inputs to six outputs along k: positions -1/3, 0, 1/3, 2/3, 1, 4/3, clipped to [0, 1].
    # Class 1 has 0 and 0.6: 0, 0, 0.2, 0.4, 0.6, 0.6 against class 0's 1, 1, 0.8, 0.6, 0.4, 0.4.
    values = np.array([[1.0, 0.4], [0.0, 0.6]], dtype=np.float32).reshape(2, 1, 1, 2)
    plan = geometry((1, 1, 6), (1, 1, 2))
    assert export_labels(values, plan).ravel().tolist() == [0, 0, 0, 0, 1, 1]
    stored = export_probability(values, plan, 1).ravel() / 65535
    np.testing.assert_allclose(stored, [0, 0, 0.2, 0.4, 0.6, 0.6], atol=1e-5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_turn_and_crop_are_undone_for_all_48_orientations(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    # A label block placed at known RAS voxels of the crop must be found at the same millimetres in the source.
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * (0.7, 1.1, 2.5)[axis]
    affine[:, 3] = (5, -7, 11, 1)
    plan = geometry((4, 5, 6), (4, 5, 6), before=(1, 0, 2), after=(0, 3, 1), affine=affine)
    values = np.zeros((2, 4, 5, 6), dtype=np.float32)
    values[0] = 0.5
    values[1, 3, 1, 0] = 1.0
    found = np.argwhere(export_labels(values, plan))
    assert len(found) == 1
    # In the turned scan the voxel is crop_start + (3, 1, 0) = (4, 1, 2), counted from the corner that is least in RAS.
    corners = np.array(list(itertools.product(*[(0, side - 1) for side in plan.source_shape])))
    least = (corners @ affine[:3, :3].T + affine[:3, 3]).min(axis=0)
    spacing = np.abs(affine[:3, :3]).sum(axis=1)
    np.testing.assert_allclose(affine[:3, :3] @ found[0] + affine[:3, 3], least + spacing * (4, 1, 2), atol=1e-9)


def test_outside_the_crop_is_background_with_certainty() -> None:
    plan = geometry((2, 2, 2), (2, 2, 2), before=(1, 1, 1), after=(1, 1, 1))
    values = np.full((2, 2, 2, 2), 0.5, dtype=np.float32)
    values[1] = 0.6
    labels = export_labels(values, plan)
    assert labels.sum() == 8
    assert (labels[1:3, 1:3, 1:3] == 1).all()
    assert export_probability(values, plan, 0)[0, 0, 0] == 65535
    assert export_probability(values, plan, 1)[0, 0, 0] == 0
    assert export_entropy(values, plan)[0, 0, 0] == 0


def test_entropy_by_hand() -> None:
    # Certain: 0. Even among 4 classes: 1. Half and half: log 2 / log 4 = 1/2.
    values = np.array([[1, 0.25, 0.5], [0, 0.25, 0.5], [0, 0.25, 0], [0, 0.25, 0]], dtype=np.float32)
    entropy = export_entropy(values.reshape(4, 3, 1, 1), geometry((3, 1, 1), (3, 1, 1))).ravel() / 65535
    np.testing.assert_allclose(entropy, [0, 1, 0.5], atol=1e-5)


def test_probability_maps_are_the_interpolated_probabilities() -> None:
    values = smooth(3, (10, 11, 12))
    plan = geometry((21, 30, 50), (10, 11, 12))
    dense = every_class_everywhere(values, (21, 30, 50))
    for number in range(3):
        np.testing.assert_allclose(export_probability(values, plan, number) / 65535, dense[number], atol=1e-5)
    entropy = -(dense * np.log(dense)).sum(0) / math.log(3)
    np.testing.assert_allclose(export_entropy(values, plan) / 65535, entropy, atol=1e-5)


def test_map_file_reads_as_fractions_on_the_source_grid(tmp_path: Path) -> None:
    affine = np.diag([-0.7, 1.1, 2.5, 1.0])
    fractions = np.array([0, 1, 32768, 65535], dtype=np.uint16).reshape(4, 1, 1)
    write_map(fractions, affine, tmp_path / "maps" / "p.nii.gz")
    image = nib.load(tmp_path / "maps" / "p.nii.gz")
    assert image.get_data_dtype() == np.uint16
    np.testing.assert_allclose(image.get_fdata().ravel(), [0, 1 / 65535, 32768 / 65535, 1], atol=1e-7)
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["p.nii.gz"]


def test_more_than_256_classes_need_16_bits() -> None:
    values = np.zeros((300, 2, 1, 1), dtype=np.float32)
    values[299, 1] = 1
    labels = export_labels(values, geometry((2, 1, 1), (2, 1, 1)))
    assert labels.dtype == np.uint16
    assert labels.ravel().tolist() == [0, 299]


def test_torch_tensors_are_taken_as_they_are() -> None:
    values = smooth(3, (6, 7, 8))
    plan = geometry((12, 7, 9), (6, 7, 8))
    np.testing.assert_array_equal(export_labels(torch.from_numpy(values), plan), export_labels(values, plan))


def test_values_that_are_not_numbers_are_refused() -> None:
    values = smooth(3, (6, 7, 8))
    values[1, 3, 3, 3] = np.nan
    with pytest.raises(ValueError, match="not numbers"):
        export_labels(values, geometry((6, 7, 8), (6, 7, 8)))


def test_another_shape_than_the_geometry_is_refused() -> None:
    with pytest.raises(ValueError, match=r"prepared shape \(6, 7, 9\)"):
        export_labels(smooth(2, (6, 7, 8)), geometry((6, 7, 8), (6, 7, 9)))
