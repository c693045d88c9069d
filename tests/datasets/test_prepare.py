"""From files to the network's space: geometry, values, and what is refused."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from equivox.datasets.plan import IntensityPlan, PreprocessingPlan, TransformOptions
from equivox.datasets.prepare import PreparedGeometry, prepare_case
from equivox.errors import InputError

KEEP = IntensityPlan(scheme="keep")


def plan(**changes) -> PreprocessingPlan:
    given = {"channels": ("ct",), "intensity": {"ct": KEEP}, "resample_channels": {"ct": "same_grid"}, "crop": "none"}
    return PreprocessingPlan(**{**given, **changes})


def write(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 5.0, 1.0]) if affine is None else affine), path)
    return path


@pytest.fixture
def ramp() -> np.ndarray:
    return np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4) + 1


def test_a_scan_is_turned_to_ras(tmp_path, ramp) -> None:
    path = write(tmp_path / "ct.nii.gz", ramp, np.diag([-1.0, -2.0, 5.0, 1.0]))
    prepared = prepare_case({"ct": path}, None, {}, plan())
    np.testing.assert_array_equal(prepared.image[0], ramp[::-1, ::-1])
    assert prepared.label is None
    assert prepared.geometry.orientation == "RAS"
    assert prepared.geometry.source_shape == (6, 5, 4)


def test_axes_that_are_swapped_come_into_order(tmp_path, ramp) -> None:
    affine = np.array([[0, 0, 3.0, 0], [2.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    prepared = prepare_case({"ct": write(tmp_path / "ct.nii", ramp, affine)}, None, {}, plan())
    np.testing.assert_array_equal(prepared.image[0], ramp.transpose(2, 0, 1)[:, :, ::-1])
    assert prepared.geometry.turned_shape == (4, 6, 5)
    assert prepared.geometry.prepared_spacing_mm == pytest.approx((3, 2, 1))


def test_crop_keeps_the_box_of_what_is_not_zero_in_some_channel(tmp_path) -> None:
    first, second = np.zeros((2, 8, 7, 6), dtype=np.float32)
    first[2, 3, 1] = 4
    second[5, 3, 2] = -1
    prepared = prepare_case(
        {"a": write(tmp_path / "a.nii", first), "b": write(tmp_path / "b.nii", second)},
        None,
        {},
        plan(
            channels=("a", "b"),
            intensity={"a": KEEP, "b": KEEP},
            resample_channels={"a": "same_grid", "b": "same_grid"},
            crop="nonzero",
        ),
    )
    assert prepared.geometry.crop_start == (2, 3, 1)
    assert prepared.geometry.crop_stop == (6, 4, 3)
    assert prepared.image.shape == (2, 4, 1, 2)
    assert prepared.image[0, 0, 0, 0] == 4
    assert prepared.image[1, 3, 0, 1] == -1


def test_a_scan_of_zeros_alone_is_kept_whole(tmp_path) -> None:
    path = write(tmp_path / "ct.nii", np.zeros((3, 4, 5), dtype=np.float32))
    assert prepare_case({"ct": path}, None, {}, plan(crop="nonzero")).image.shape == (1, 3, 4, 5)


def test_resampling_follows_the_plans_spacing(tmp_path) -> None:
    # 1 x 2 x 5 mm to 2 x 2 x (own): six voxels become three, each the mean of two.
    image = np.repeat(np.array([0, 2, 4, 6, 8, 10], dtype=np.float32), 5 * 4).reshape(6, 5, 4)
    prepared = prepare_case(
        {"ct": write(tmp_path / "ct.nii", image)},
        None,
        {},
        plan(spacing_mm=(2.0, 2.0, None), image_interpolation="linear"),
    )
    assert prepared.image[0, :, 0, 0].tolist() == [1.0, 5.0, 9.0]
    assert prepared.geometry.prepared_shape == (3, 5, 4)
    assert prepared.geometry.prepared_spacing_mm == (2.0, 2.0, 5.0)


def test_label_values_become_class_indices(tmp_path, ramp) -> None:
    label = np.zeros((6, 5, 4), dtype=np.uint8)
    label[1, 2, 3], label[0, 0, 0] = 255, 7
    prepared = prepare_case(
        {"ct": write(tmp_path / "ct.nii", ramp)}, write(tmp_path / "l.nii", label), {0: 0, 255: 1, 7: 2}, plan()
    )
    assert prepared.label is not None
    assert prepared.label.dtype == np.int16
    assert (prepared.label[1, 2, 3], prepared.label[0, 0, 0], prepared.label.sum()) == (1, 2, 3)


def test_a_label_value_that_is_not_listed_is_named(tmp_path, ramp) -> None:
    label = write(tmp_path / "l.nii", np.full((6, 5, 4), 3, dtype=np.uint8))
    with pytest.raises(InputError, match=r"l\.nii: expected label values \[0, 1\], got also \[3\]"):
        prepare_case({"ct": write(tmp_path / "ct.nii", ramp)}, label, {0: 0, 1: 1}, plan())


def test_a_label_on_another_grid_is_refused(tmp_path, ramp) -> None:
    moved = np.diag([1.0, 2.0, 5.0, 1.0])
    moved[0, 3] = 4.0
    label = write(tmp_path / "l.nii", np.zeros((6, 5, 4), dtype=np.uint8), moved)
    with pytest.raises(InputError, match=r"l\.nii: expected the grid of .*ct\.nii .* 4 mm off"):
        prepare_case({"ct": write(tmp_path / "ct.nii", ramp)}, label, {0: 0}, plan())


def test_a_channel_on_another_grid_is_refused_unless_the_plan_says_otherwise(tmp_path, ramp) -> None:
    files = {
        "ct": write(tmp_path / "ct.nii", ramp),
        "pet": write(tmp_path / "pet.nii", np.full((3, 5, 2), 2.0, np.float32), np.diag([2.0, 2.0, 10.0, 1.0])),
    }
    intensity = {"ct": KEEP, "pet": KEEP}
    both = {"channels": ("ct", "pet"), "intensity": intensity}
    with pytest.raises(InputError, match=r"pet\.nii: expected the grid of channel 'ct'.*; let the plan.*channels\.pet"):
        prepare_case(files, None, {}, plan(**both, resample_channels={"ct": "same_grid", "pet": "same_grid"}))
    declared = {"ct": "same_grid", "pet": "resample_to_reference"}
    prepared = prepare_case(files, None, {}, plan(**both, resample_channels=declared))
    np.testing.assert_allclose(prepared.image[1], 2.0, atol=1e-5)


def test_a_grey_picture_in_three_channels_is_grey_and_colours_are_refused(tmp_path) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    picture = np.stack([grey, grey, grey], axis=-1)
    picture[0, 7, 2] += 2  # as a JPEG rounds
    Image.fromarray(picture).save(tmp_path / "grey.png")
    prepared = prepare_case({"ct": tmp_path / "grey.png"}, None, {}, plan(crop="none"))
    np.testing.assert_allclose(prepared.image[0, :, :, 0].max(), 235, atol=1)
    picture[3, 3] = 200, 20, 20
    Image.fromarray(picture).save(tmp_path / "red.png")
    with pytest.raises(InputError, match=r"red\.png: expected a grey image, got colours; .* modality RGB"):
        prepare_case({"ct": tmp_path / "red.png"}, None, {}, plan(crop="none"))


def test_a_missing_channel_is_named(tmp_path, ramp) -> None:
    with pytest.raises(InputError, match=r"channel 'ct': expected a file"):
        prepare_case({"mr": write(tmp_path / "mr.nii", ramp)}, None, {}, plan())


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises((InputError, OSError), match=r"gone\.nii"):
        prepare_case({"ct": tmp_path / "gone.nii"}, None, {}, plan())


@pytest.mark.parametrize(
    ("intensity", "expected"),
    [
        # clip to [0, 10], mean 4, std 2
        (IntensityPlan(scheme="clip_standardise", low=0, high=10, mean=4, std=2), [-2.0, -1.0, 1.0, 3.0]),
        # of 2, 6 and 16: mean 8, variance (36 + 4 + 64) / 3
        (IntensityPlan(scheme="standardise"), [(v - 8) / np.sqrt(104 / 3) for v in (0, 2, 6, 16)]),
        (IntensityPlan(scheme="keep"), [0, 2, 6, 16]),
        (IntensityPlan(scheme="keep", std=4), [0, 0.5, 1.5, 4]),
        (IntensityPlan(scheme="unit_range"), [0, 2 / 255, 6 / 255, 16 / 255]),
        (IntensityPlan(scheme="unit_range", mean=0.5, std=0.25), [(v / 255 - 0.5) * 4 for v in (0, 2, 6, 16)]),
    ],
)
def test_intensity_schemes_by_hand(tmp_path, intensity, expected) -> None:
    path = write(tmp_path / "ct.nii", np.array([0, 2, 6, 16], dtype=np.float32).reshape(4, 1, 1))
    prepared = prepare_case({"ct": path}, None, {}, plan(intensity={"ct": intensity}))
    np.testing.assert_allclose(prepared.image.ravel(), expected, atol=1e-6)


def test_a_constant_scan_is_scaled_without_dividing_by_zero(tmp_path) -> None:
    path = write(tmp_path / "ct.nii", np.full((2, 2, 2), 9.0, dtype=np.float32))
    prepared = prepare_case({"ct": path}, None, {}, plan(intensity={"ct": IntensityPlan(scheme="standardise")}))
    assert not prepared.image.any()


def test_values_are_scaled_before_they_are_resampled(tmp_path) -> None:
    # Clipped to 10 first: the mean of 0 and 10. Clipped last it would be 10.
    path = write(tmp_path / "ct.nii", np.array([0, 1000], dtype=np.float32).reshape(2, 1, 1))
    clip = IntensityPlan(scheme="clip_standardise", low=0, high=10, mean=0, std=1)
    prepared = prepare_case({"ct": path}, None, {}, plan(intensity={"ct": clip}, spacing_mm=(2.0, None, None)))
    assert prepared.image.item() == pytest.approx(5.0)


def test_a_transform_of_monai_runs_by_its_name(tmp_path, ramp) -> None:
    extra = (TransformOptions(name="ShiftIntensityd", arguments={"offset": 100.0}),)
    prepared = prepare_case({"ct": write(tmp_path / "ct.nii", ramp)}, None, {}, plan(extra_transforms=extra))
    np.testing.assert_allclose(prepared.image[0], ramp + 100)


def test_a_transform_that_changes_the_shape_is_refused(tmp_path, ramp) -> None:
    extra = (TransformOptions(name="SpatialPadd", arguments={"spatial_size": 9}),)
    with pytest.raises(InputError, match=r"keep the shape \(6, 5, 4\), got \(9, 9, 9\)"):
        prepare_case({"ct": write(tmp_path / "ct.nii", ramp)}, None, {}, plan(extra_transforms=extra))


def test_geometry_survives_json_exactly(tmp_path, ramp) -> None:
    import json

    affine = np.array([[0.1, 0, 3.0, 1 / 3], [2.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    geometry = prepare_case({"ct": write(tmp_path / "ct.nii", ramp, affine)}, None, {}, plan()).geometry
    back = PreparedGeometry.from_json(json.loads(json.dumps(geometry.to_json())))
    for name in PreparedGeometry.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, name), getattr(geometry, name))
