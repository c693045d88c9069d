"""Plans: what is measured, what follows from it, and what a user may change."""

import json

import nibabel as nib
import numpy as np
import pytest
import yaml

from equivox.datasets.cohort import load_cohort
from equivox.datasets.plan import load_plan
from equivox.datasets.sizing import estimate_memory_mib, network_strides, size_network
from equivox.errors import InputError
from equivox.pipelines.plan import make_plan, plan_cohort, warn_of_test_cases


def cohort_folder(tmp_path, cases, modalities=None, **config):
    """Write a cohort; `cases` are (channel -> array, label, affine)."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    modalities = modalities or {"ct": "CT"}
    lines = ["case_id,patient_id," + ",".join(f"image:{name}" for name in modalities) + ",label"]
    for number, (images, label, affine) in enumerate(cases):
        names = []
        for name, array in images.items():
            nib.save(nib.Nifti1Image(array, affine), folder / f"{number}_{name}.nii")
            names.append(f"{number}_{name}.nii")
        nib.save(nib.Nifti1Image(label.astype(np.uint8), affine), folder / f"{number}_label.nii")
        lines.append(",".join([f"case{number}", f"patient{number}", *names, f"{number}_label.nii"]))
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n")
    given = {
        "name": "made up",
        "channels": {name: {"modality": modality} for name, modality in modalities.items()},
        "classes": {"lesion": 1},
        "label_values": {0: "background", 1: "lesion"},
        **config,
    }
    (folder / "cohort.yaml").write_text(yaml.safe_dump(given))
    return folder


def scan(shape=(20, 24, 18), spacing=(1.0, 1.0, 3.0), value=100.0, name="ct"):
    random = np.random.default_rng(int(value))
    image = np.full(shape, -1000.0, dtype=np.float32)
    label = np.zeros(shape)
    label[4:12, 4:12, 4:12] = 1
    image[label == 1] = value + random.normal(size=int(label.sum()))
    return {name: image}, label, np.diag([*spacing, 1.0])


def test_ct_is_clipped_by_the_percentiles_of_the_foreground(tmp_path) -> None:
    folder = cohort_folder(tmp_path, [scan(value=100.0), scan(value=200.0)])
    intensity = make_plan(load_cohort(folder)).preprocessing.intensity["ct"]
    assert intensity.scheme == "clip_standardise"
    # Half of the values lie round 100, half round 200, each with a standard deviation of 1.
    assert intensity.low == pytest.approx(97.7, abs=0.7)
    assert intensity.high == pytest.approx(202.3, abs=0.7)
    assert intensity.mean == pytest.approx(150, abs=0.2)
    assert intensity.std == pytest.approx(50, abs=0.2)


def test_test_cases_are_not_looked_at(tmp_path) -> None:
    folder = cohort_folder(tmp_path, [scan(value=100.0), scan(value=200.0)])
    (folder / "split.csv").write_text("case_id,patient_id,fold\ncase0,patient0,0\ncase1,patient1,test\n")
    plan = plan_cohort(load_cohort(folder))
    assert plan.preprocessing.intensity["ct"].mean == pytest.approx(100, abs=0.2)
    assert plan.measured["test_cases_not_looked_at"] == 1
    assert plan.measured["cases"] == 1


def test_no_scan_of_a_test_patient_is_looked_at_also_one_that_the_split_leaves_out(tmp_path) -> None:
    folder = cohort_folder(tmp_path, [scan(value=100.0), scan(value=200.0), scan(value=300.0)])
    table = (folder / "cohort.csv").read_text().replace("patient2", "patient1")
    (folder / "cohort.csv").write_text(table)
    (folder / "split.csv").write_text("case_id,patient_id,fold\ncase0,patient0,0\ncase1,patient1,test\n")
    plan = plan_cohort(load_cohort(folder))
    assert plan.measured["cases"] == 1
    assert plan.preprocessing.intensity["ct"].mean == pytest.approx(100, abs=0.2)


def test_a_plan_that_is_older_than_the_split_is_noticed(tmp_path, caplog) -> None:
    folder = cohort_folder(tmp_path, [scan(value=100.0), scan(value=200.0)])
    cohort = load_cohort(folder)
    old = plan_cohort(cohort)
    warn_of_test_cases(cohort, old)
    assert not caplog.messages
    (folder / "split.csv").write_text("case_id,patient_id,fold\ncase0,patient0,0\ncase1,patient1,test\n")
    warn_of_test_cases(cohort, old)
    (message,) = caplog.messages
    assert "measured with 1 of them (it is older than the split)" in message
    warn_of_test_cases(cohort, plan_cohort(cohort))
    assert len(caplog.messages) == 1


def test_another_orientation_is_measured_along_its_own_axes(tmp_path) -> None:
    folder = cohort_folder(tmp_path, [scan((64, 48, 20), (1.0, 2.0, 5.0))])
    plan = plan_cohort(load_cohort(folder), overrides=["preprocessing.orientation=SAR"])
    # Superior, anterior, right: the file's third, second and first axis.
    assert plan.preprocessing.spacing_mm == (5.0, 2.0, 1.0)
    assert plan.measured["shape"]["median"] == [20, 48, 64]
    assert plan.networks["2d"].slice_axis == 0
    text = (folder / "plan.yaml").read_text().replace("  orientation: SAR", "  orientation: RAS", 1)
    (folder / "plan.yaml").write_text(text)
    with pytest.raises(InputError, match="expected SAR, along which the voxel sizes and patches were measured"):
        load_plan(folder)


def test_the_target_spacing_is_the_median(tmp_path) -> None:
    cases = [scan(spacing=(0.8, 0.9, 2.0)), scan(spacing=(1.0, 1.1, 2.5)), scan(spacing=(1.5, 1.2, 3.0))]
    assert make_plan(load_cohort(cohort_folder(tmp_path, cases))).preprocessing.spacing_mm == (1.0, 1.1, 2.5)


def test_the_coarse_axis_of_an_anisotropic_cohort_takes_the_tenth_percentile(tmp_path) -> None:
    cases = [scan((80, 80, 10), (1.0, 1.0, step)) for step in (4.0, 8.0, 9.0)]
    # numpy's percentile between 4 and 8, a fifth of the way: 4.8
    spacing = make_plan(load_cohort(cohort_folder(tmp_path, cases))).preprocessing.spacing_mm
    assert spacing == pytest.approx((1.0, 1.0, 4.8))


def test_nominal_voxel_sizes_are_kept_and_slices_lie_across_the_short_axis(tmp_path) -> None:
    folder = cohort_folder(tmp_path, [scan((8, 40, 48), (1, 1, 1))], nominal_spacing=True)
    plan = make_plan(load_cohort(folder))
    assert plan.preprocessing.spacing_mm == (None, None, None)
    assert plan.networks["2d"].slice_axis == 0
    assert "3d" not in plan.networks


def test_the_grid_of_every_channel_is_declared(tmp_path) -> None:
    images, label, affine = scan()
    folder = cohort_folder(
        tmp_path, [({**images, "pet": images["ct"] * 0 + 3}, label, affine)], {"ct": "CT", "pet": "PET"}
    )
    pet = np.full((5, 6, 9), 3.0, np.float32)
    pet[0] = 5.0
    nib.save(nib.Nifti1Image(pet, np.diag([4.0, 4.0, 6.0, 1.0])), folder / "0_pet.nii")
    plan = make_plan(load_cohort(folder))
    assert plan.preprocessing.resample_channels == {"ct": "same_grid", "pet": "resample_to_reference"}
    assert plan.measured["cases_with_a_grid_of_their_own"] == {"ct": 0, "pet": 1}
    assert plan.preprocessing.intensity["pet"].scheme == "keep"
    assert plan.preprocessing.intensity["pet"].std is not None


@pytest.mark.parametrize(("modality", "scheme"), [("MR", "standardise"), ("OTHER", "standardise"), ("PET", "keep")])
def test_each_modality_has_its_scheme(tmp_path, modality, scheme) -> None:
    folder = cohort_folder(tmp_path, [scan()], {"ct": modality})
    assert make_plan(load_cohort(folder)).preprocessing.intensity["ct"].scheme == scheme


def test_large_pictures_without_a_voxel_size_are_made_smaller(tmp_path) -> None:
    from PIL import Image

    folder = cohort_folder(tmp_path, [scan()], {"ct": "XR"})
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (1024, 768), dtype=np.uint8)).save(folder / "x.png")
    Image.fromarray((random.random((1024, 768)) > 0.5).astype(np.uint8)).save(folder / "l.png")
    (folder / "cohort.csv").write_text("case_id,patient_id,image:ct,label\na,a,x.png,l.png\n")
    plan = make_plan(load_cohort(folder))
    assert plan.preprocessing.spacing_mm == (2.0, 2.0, None)
    assert plan.preprocessing.intensity["ct"].scheme == "unit_range"
    assert plan.networks["2d"].slice_axis == 2
    assert max(plan.networks["2d"].patch_size) == 256


def test_the_first_failing_case_is_the_error_and_the_others_are_logged(tmp_path, caplog) -> None:
    folder = cohort_folder(tmp_path, [scan(), scan(), scan()])
    (folder / "0_ct.nii").write_bytes(b"not a scan")
    (folder / "2_label.nii").unlink()
    with caplog.at_level("ERROR", "equivox"), pytest.raises(InputError, match=r"case 'case0'.*and 1 more"):
        make_plan(load_cohort(folder))
    assert "case 'case0'" not in caplog.text
    assert "case 'case2'" in caplog.text


def test_overrides_of_the_preprocessing_count_for_the_size_of_the_network(tmp_path) -> None:
    folder = cohort_folder(tmp_path, [scan((64, 64, 20), (1, 1, 1))])
    overrides = ["preprocessing.spacing_mm=[2.0, 2.0, 1.0]", "networks.2d.batch_size=3"]
    plan = make_plan(load_cohort(folder), overrides=overrides)
    assert plan.networks["2d"].patch_size == (32, 32)
    assert plan.networks["2d"].batch_size == 3


def test_an_unknown_transform_is_refused_before_anything_is_prepared(tmp_path) -> None:
    folder = cohort_folder(tmp_path, [scan()])
    with pytest.raises(InputError, match="did you mean 'GaussianSmoothd'"):
        make_plan(load_cohort(folder), overrides=["preprocessing.extra_transforms=[{name: GausianSmoothd}]"])


def test_the_written_plan_is_the_plan_and_says_what_it_is(tmp_path) -> None:
    folder = cohort_folder(tmp_path, [scan()])
    plan = plan_cohort(load_cohort(folder), memory_gib=4.0)
    assert load_plan(folder) == plan
    text = (folder / "plan.yaml").read_text()
    assert "# From files to prepared scans" in text
    assert "patch_size: [" in text
    assert "null" not in text.replace("spacing_mm: [null", "")
    json.dumps(plan.model_dump(mode="json"))


def test_an_edited_plan_is_not_written_over(tmp_path) -> None:
    folder = cohort_folder(tmp_path, [scan()])
    cohort = load_cohort(folder)
    plan_cohort(cohort)
    plan_cohort(cohort, memory_gib=4.0)
    path = folder / "plan.yaml"
    edited = path.read_text().replace("image_interpolation: cubic", "image_interpolation: linear")
    path.write_text(edited)
    with pytest.raises(InputError, match=r"plan\.yaml: .* edited by hand; keep it, or give --overwrite"):
        plan_cohort(cohort)
    assert path.read_text() == edited
    plan_cohort(cohort, overwrite=True)
    assert load_plan(folder).preprocessing.image_interpolation == "cubic"


def test_strides_by_hand() -> None:
    # 40 -> 20 -> 10 -> 5, and no further below 8; 12 -> 6.
    assert network_strides((40.0, 12.0), (1.0, 1.0)) == ((1, 1), (2, 2), (2, 1), (2, 1))
    # The coarse axis waits until the others are as coarse as it.
    assert network_strides((64.0, 64.0, 16.0), (1.0, 1.0, 4.0))[:3] == ((1, 1, 1), (2, 2, 1), (2, 2, 1))


@pytest.mark.parametrize("memory", [1.2, 3.0, 8.0, 24.0])
@pytest.mark.parametrize(
    ("dimensions", "shape", "spacing"), [(2, (300.0, 240.0), (1.0, 1.0)), (3, (400.0, 400.0, 60.0), (0.8, 0.8, 3.0))]
)
def test_networks_fit_the_budget_and_their_strides(dimensions, shape, spacing, memory) -> None:
    network = size_network(dimensions, shape=shape, spacing=spacing, in_channels=2, classes=3, memory_gib=memory)
    assert network.memory_mib <= memory * 1024
    divisors = np.prod(network.strides, axis=0)
    assert not np.any(np.array(network.patch_size) % divisors)
    assert len(network.features) == len(network.strides)


def test_a_budget_that_nothing_fits_ends_at_the_smallest_network() -> None:
    network = size_network(3, shape=(99.0,) * 3, spacing=(1.0,) * 3, in_channels=1, classes=2, memory_gib=0.5)
    assert network.batch_size == 1
    assert max(network.patch_size) <= 16


def test_memory_grows_with_patch_batch_features_and_classes() -> None:
    strides = ((1, 1), (2, 2), (2, 2))
    small = estimate_memory_mib((64, 64), 4, (16, 32, 64), strides, 1, 2)
    assert estimate_memory_mib((128, 64), 4, (16, 32, 64), strides, 1, 2) > small
    assert estimate_memory_mib((64, 64), 8, (16, 32, 64), strides, 1, 2) > small
    assert estimate_memory_mib((64, 64), 4, (32, 64, 128), strides, 1, 2) > small
    assert estimate_memory_mib((64, 64), 4, (16, 32, 64), strides, 1, 40) > small


def test_a_budget_that_no_network_fits_is_said(tmp_path, caplog) -> None:
    folder = cohort_folder(tmp_path, [scan()])
    plan = make_plan(load_cohort(folder), memory_gib=0.5)
    assert plan.networks["2d"].memory_mib > 512
    assert "--memory-gib 0.5: expected a 2d network that trains in it, got 0.9 GiB for the smallest" in caplog.text
    caplog.clear()
    make_plan(load_cohort(folder), memory_gib=2.0)
    assert not caplog.text


@pytest.mark.parametrize("budget", [0.0, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(tmp_path, budget) -> None:
    with pytest.raises(InputError, match=r"--memory-gib: expected a number above 0, got .*; write for example 8"):
        make_plan(load_cohort(cohort_folder(tmp_path, [scan()])), memory_gib=budget)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("preprocessing.spacing_mm=[0, 1, 1]", r"expected a number greater than 0, got 0"),
        ("preprocessing.spacing_mm=[.nan, 1, 1]", r"expected a finite number, got nan"),
        ("preprocessing.orientation=RRS", r"expected a letter of each of L/R, P/A and I/S, got 'RRS'; write RAS"),
        ("preprocessing.channels=[mr]", r"expected 'mr' in intensity and resample_channels too"),
        ("networks.2d.slice_axis=3", r"expected a number less than or equal to 2, got 3"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused_when_it_is_made(tmp_path, assignment, message) -> None:
    folder = cohort_folder(tmp_path, [scan()])
    with pytest.raises(InputError, match=message):
        make_plan(load_cohort(folder), overrides=[assignment])
