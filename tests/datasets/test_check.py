"""The check of a cohort: each fault is found, named and tiered, and what is repairable is repaired in a copy."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from equivox.datasets.check import CheckResult, check_cohort
from equivox.datasets.check_case import overlap
from equivox.datasets.check_fix import fix_cohort, load_repairs
from equivox.datasets.cohort import Cohort, load_cohort
from equivox.errors import InputError
from equivox.volume import Grid, read_label_map

CONFIG = """
name: small
channels: {ct: {modality: MR}, pet: {modality: PET}}
classes: {tumour: 1}
label_values: {0: background, 255: tumour}
attributes: {sex: {}}
"""
SHAPE = (6, 5, 3)
# Turned to LPS, anisotropic, off the origin.
AFFINE = np.array([[-0.9, 0, 0, 10.0], [0, -1.5, 0, 20.0], [0, 0, 4.0, -30.0], [0, 0, 0, 1.0]])

Write = Callable[..., Path]


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(-500, 500, shape).astype(np.int16)


def mask(seed: int, value: int = 255) -> np.ndarray:
    array = np.zeros(SHAPE, dtype=np.uint8)
    array.reshape(-1)[seed : seed + 4] = value
    return array


@pytest.fixture
def folder(tmp_path: Path, write_nifti: Write) -> Path:
    """A sound cohort of three patients with two channels on one grid."""
    path = tmp_path / "cohort"
    rows = ["case_id,patient_id,image:ct,image:pet,label,sex"]
    for seed, case in enumerate("abc"):
        write_nifti(path / f"{case}_ct.nii.gz", noise(seed))
        write_nifti(path / f"{case}_pet.nii.gz", noise(seed + 10))
        write_nifti(path / f"{case}_label.nii.gz", mask(seed))
        rows.append(f"{case},{case.upper()},{case}_ct.nii.gz,{case}_pet.nii.gz,{case}_label.nii.gz,{'FM'[seed % 2]}")
    (path / "cohort.yaml").write_text(CONFIG)
    (path / "cohort.csv").write_text("\n".join(rows) + "\n")
    return path


def load(folder: Path) -> Cohort:
    return load_cohort(folder, sound=False)


def check(folder: Path) -> CheckResult:
    return check_cohort(load(folder))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def only(result: CheckResult) -> tuple[str, str]:
    """The tier and the line of the only problem."""
    assert len(result.problems) == 1, [problem.line for problem in result.problems]
    return result.problems[0].tier, result.problems[0].line


def test_a_sound_cohort_has_no_problem(folder: Path) -> None:
    result = check(folder)
    assert result.problems == ()
    assert result.usable
    assert result.to_json()["counts"] == {"error": 0, "repairable": 0, "note": 0}


def test_workers_find_the_same(folder: Path) -> None:
    (folder / "b_ct.nii.gz").write_bytes(b"")
    result = check_cohort(load(folder), workers=2)
    assert [problem.line for problem in result.problems] == [problem.line for problem in check(folder).problems]


def test_all_problems_of_all_cases_are_listed_at_once(folder: Path, write_nifti: Write) -> None:
    (folder / "a_ct.nii.gz").write_bytes(b"")
    (folder / "a_pet.nii.gz").write_bytes(b"not an image")
    write_nifti(folder / "b_label.nii.gz", mask(1, value=7))
    (folder / "c_ct.nii.gz").unlink()
    result = check(folder)
    errors = [(Path(problem.file).name, problem.case_id) for problem in result.of_tier("error")]
    assert errors == [("a_ct.nii.gz", "a"), ("a_pet.nii.gz", "a"), ("b_label.nii.gz", "b"), ("c_ct.nii.gz", "c")]
    assert all(problem.todo and problem.what and "\n" not in problem.line for problem in result.problems)
    assert not result.usable


def test_values_that_are_not_listed_are_counted(folder: Path, write_nifti: Write) -> None:
    write_nifti(folder / "b_label.nii.gz", mask(1, value=7))
    tier, line = only(check(folder))
    assert tier == "error"
    assert "b_label.nii.gz: holds values that are not listed: 7 (4 voxels); add the value to label_values" in line


def test_an_empty_label_is_a_note(folder: Path, write_nifti: Write) -> None:
    write_nifti(folder / "b_label.nii.gz", np.zeros(SHAPE, np.uint8))
    tier, line = only(check(folder))
    assert tier == "note"
    assert "b_label.nii.gz: nothing is marked in this label" in line


def test_a_constant_image_is_an_error(folder: Path, write_nifti: Write) -> None:
    write_nifti(folder / "b_pet.nii.gz", np.full(SHAPE, 3, np.int16))
    tier, line = only(check(folder))
    assert tier == "error"
    assert "b_pet.nii.gz: every voxel is 3" in line


def test_values_that_are_not_finite_are_named(folder: Path, write_nifti: Write) -> None:
    array = noise(1).astype(np.float32)
    array[0, 0, 0], array[1, 0, 0] = np.nan, np.inf
    write_nifti(folder / "b_pet.nii.gz", array)
    tier, line = only(check(folder))
    assert tier == "note"
    assert "2 of 90" in line
    array[:4] = np.nan
    write_nifti(folder / "b_pet.nii.gz", array)
    assert only(check(folder))[0] == "error"


def test_a_label_without_whole_numbers_is_an_error(folder: Path, write_nifti: Write) -> None:
    write_nifti(folder / "b_label.nii.gz", np.full(SHAPE, 0.5, np.float32))
    tier, line = only(check(folder))
    assert tier == "error"
    assert "b_label.nii.gz: expected whole numbers" in line


def test_a_label_of_another_shape_is_an_error(folder: Path, write_nifti: Write) -> None:
    write_nifti(folder / "b_label.nii.gz", np.full((6, 5, 4), 255, np.uint8))
    tier, line = only(check(folder))
    assert tier == "error"
    assert "grid 6 x 5 x 4 of 0.9 x 1.5 x 4 mm differs from 6 x 5 x 3 of 0.9 x 1.5 x 4 mm of image 'ct'" in line


def test_rounding_noise_in_an_affine_is_no_problem(folder: Path, write_nifti: Write) -> None:
    noisy = AFFINE.copy()
    noisy[:3] += 1e-5
    write_nifti(folder / "b_label.nii.gz", mask(1), affine=noisy)
    assert check(folder).problems == ()


def test_a_shifted_label_is_repaired_in_a_copy(folder: Path, write_nifti: Write) -> None:
    shifted = AFFINE.copy()
    shifted[2, 3] += 2.0
    source = write_nifti(folder / "b_label.nii.gz", mask(1), affine=shifted)
    before = source.read_bytes()
    result = check(folder)
    tier, line = only(result)
    assert tier == "repairable"
    assert "b_label.nii.gz: same shape, but its corners are 2 mm off image 'ct'; if it was drawn on that image" in line
    assert not result.usable
    cohort, records, failures = fix_cohort(load(folder), result)
    assert failures == ()
    assert source.read_bytes() == before
    assert cohort.case("b").label == folder / "fixed" / "b_label.nii.gz"
    assert check(folder).problems == ()
    fixed = nib.Nifti1Image.from_filename(folder / "fixed" / "b_label.nii.gz")
    np.testing.assert_array_equal(np.asarray(fixed.dataobj), mask(1))
    np.testing.assert_allclose(fixed.affine, AFFINE, atol=1e-6)
    assert load_repairs(folder) == records
    assert records[0].repair == "geometry of b_ct.nii.gz copied; the corners were 2 mm off"
    assert records[0].source == str(source)


def test_a_label_with_turned_axes_is_turned_back_without_loss(folder: Path, write_nifti: Write) -> None:
    # The same voxels of the patient, stored with i and k exchanged and j the other way round.
    turned = nib.Nifti1Image(mask(1), AFFINE).as_reoriented(np.array([[2, 1], [1, -1], [0, 1]]))
    turned.to_filename(folder / "b_label.nii.gz")
    result = check(folder)
    tier, line = only(result)
    assert tier == "repairable"
    assert "same place as image 'ct', but its axes are SAL, not LPS" in line
    fix_cohort(load(folder), result)
    assert check(folder).problems == ()
    np.testing.assert_array_equal(read_label_map(folder / "fixed" / "b_label.nii.gz").array[0], mask(1))


def test_a_label_that_lost_its_header_is_repairable(folder: Path, write_nifti: Write) -> None:
    write_nifti(folder / "b_label.nii.gz", mask(1), affine=np.diag([0.9, 1.5, 4.0, 1.0]))
    result = check(folder)
    assert only(result)[0] == "repairable"
    fix_cohort(load(folder), result)
    assert check(folder).problems == ()


def test_a_label_whose_axes_point_elsewhere_is_never_repaired_by_guessing(folder: Path, write_nifti: Write) -> None:
    # Left and right are swapped against the image, and the place differs: copying could mirror the label.
    mirrored = AFFINE.copy()
    mirrored[0] = [0.9, 0, 0, 40.0]
    write_nifti(folder / "b_label.nii.gz", mask(1), affine=mirrored)
    tier, line = only(check(folder))
    assert tier == "error"
    assert "its axes point RPS, not LPS" in line
    assert "left and right may be swapped" in line


def test_a_second_repair_is_added_to_the_first(folder: Path, write_nifti: Write) -> None:
    shifted = AFFINE.copy()
    shifted[0, 3] += 3.0
    for case in "bc":
        write_nifti(folder / f"{case}_label.nii.gz", mask(1), affine=shifted)
        fix_cohort(load(folder), check(folder))
    assert [record.case_id for record in load_repairs(folder)] == ["b", "c"]


def test_a_table_with_unsafe_ids_is_not_repaired(folder: Path, write_nifti: Write) -> None:
    shifted = AFFINE.copy()
    shifted[0, 3] += 3.0
    write_nifti(folder / "b_label.nii.gz", mask(1), affine=shifted)
    edit(folder / "cohort.csv", "\nb,", "\n../b,")
    with pytest.raises(InputError, match=r"case_id '\.\./b' holds '/'"):
        fix_cohort(load(folder), check(folder))
    assert not (folder / "fixed").exists()


def test_a_channel_on_another_grid_is_a_note_while_it_overlaps(folder: Path, write_nifti: Write) -> None:
    coarse = AFFINE @ np.diag([2.0, 2.0, 1.0, 1.0])
    write_nifti(folder / "b_pet.nii.gz", noise(5, (3, 2, 3)), affine=coarse)
    tier, line = only(check(folder))
    assert tier == "note"
    assert "grid 3 x 2 x 3 of 1.8 x 3 x 4 mm differs from 6 x 5 x 3 of 0.9 x 1.5 x 4 mm of channel 'ct'" in line


def test_a_channel_elsewhere_in_space_is_an_error(folder: Path, write_nifti: Write) -> None:
    away = AFFINE.copy()
    away[2, 3] += 12.0  # three slices of 4 mm: the boxes touch and share nothing
    write_nifti(folder / "b_pet.nii.gz", noise(5), affine=away)
    tier, line = only(check(folder))
    assert tier == "error"
    assert "b_pet.nii.gz: shares no space with channel 'ct'" in line


def test_boxes_overlap_by_half_a_voxel_beyond_the_centres() -> None:
    one = Grid((3, 3, 3), np.diag([1.0, 1.0, 4.0, 1.0]))
    shift = np.eye(4)
    shift[2, 3] = 11.9
    assert overlap(one, Grid((3, 3, 3), shift @ one.affine))
    shift[2, 3] = 12.0
    assert not overlap(one, Grid((3, 3, 3), shift @ one.affine))


def test_a_label_on_the_grid_of_another_channel_says_so(folder: Path, write_nifti: Write) -> None:
    coarse = AFFINE @ np.diag([2.0, 2.0, 1.0, 1.0])
    write_nifti(folder / "b_pet.nii.gz", noise(5, (3, 2, 3)), affine=coarse)
    label = np.zeros((3, 2, 3), np.uint8)
    label[1, 1, 1] = 255
    write_nifti(folder / "b_label.nii.gz", label, affine=coarse)
    errors = check(folder).of_tier("error")
    assert [problem.what for problem in errors] == ["lies on the grid of channel 'pet', but 'ct' is the first channel"]


def test_a_copy_under_another_patient_is_an_error_even_when_compressed_anew(folder: Path) -> None:
    image = nib.Nifti1Image.from_filename(folder / "a_ct.nii.gz")
    nib.Nifti1Image(np.asarray(image.dataobj).astype(np.float32), image.affine).to_filename(folder / "c_ct.nii.gz")
    tier, line = only(check(folder))
    assert tier == "error"
    assert "c_ct.nii.gz: the same voxels as" in line
    assert "of patient 'A', not 'C'" in line


def test_copies_within_a_patient_and_empty_labels_are_no_leak(folder: Path, write_nifti: Write) -> None:
    edit(folder / "cohort.csv", "c,C,c_ct", "c,A,a_ct")
    for case in "ab":
        write_nifti(folder / f"{case}_label.nii.gz", np.zeros(SHAPE, np.uint8))
    assert [problem.tier for problem in check(folder).problems] == ["note", "note"]


def test_a_channel_that_is_a_copy_of_another_is_noted(folder: Path) -> None:
    (folder / "b_pet.nii.gz").write_bytes((folder / "b_ct.nii.gz").read_bytes())
    tier, line = only(check(folder))
    assert tier == "note"
    assert "b_pet.nii.gz: the same voxels as channel 'ct'" in line


def test_faulty_rows_are_listed_with_the_rest(folder: Path) -> None:
    edit(folder / "cohort.csv", "\nb,B,", "\nA,,")
    edit(folder / "cohort.csv", "\nc,", "\n-c,")
    lines = [problem.line for problem in check(folder).of_tier("error")]
    assert len(lines) == 4
    assert all(line.startswith(str(folder / "cohort.csv")) for line in lines)


def test_unknown_and_contradictory_attributes_are_noted(folder: Path) -> None:
    edit(folder / "cohort.csv", "a_label.nii.gz,F", "a_label.nii.gz,")
    edit(folder / "cohort.csv", "\nc,C", "\nc,B")
    notes = [problem.what for problem in check(folder).problems]
    assert notes == [
        "sex is unknown for 1 of 2 patients: A",
        "sex differs between the cases of 1 patients: B",
    ]


def test_cases_without_label_and_classes_without_voxels_are_noted(folder: Path) -> None:
    edit(folder / "cohort.csv", ",c_label.nii.gz", ",")
    edit(folder / "cohort.yaml", "{tumour: 1}", "{tumour: 1, oedema: 2}")
    whats = [problem.what for problem in check(folder).problems]
    assert whats == ["class 'oedema' is in no label", "1 of 3 cases have no label: c"]


def test_implausible_and_suspicious_spacings_are_noted_unless_nominal(folder: Path, write_nifti: Write) -> None:
    huge = np.diag([0.9, 1.5, 400.0, 1.0])
    for name in ("ct", "pet"):
        write_nifti(folder / f"b_{name}.nii.gz", noise(5 + len(name)), affine=huge)
    write_nifti(folder / "b_label.nii.gz", mask(1), affine=huge)
    problems = check(folder).problems
    assert [problem.tier for problem in problems] == ["note", "note"]
    assert "voxels of 0.9 x 1.5 x 400 mm are implausible" in problems[0].line
    edit(folder / "cohort.yaml", "name: small", "name: small\nnominal_spacing: true")
    assert check(folder).problems == ()


def test_nominal_spacing_leaves_no_mm_in_what_is_said_of_geometry(folder: Path, write_nifti: Write) -> None:
    edit(folder / "cohort.yaml", "name: small", "name: small\nnominal_spacing: true")
    shifted = AFFINE.copy()
    shifted[2, 3] += 1.8  # twice the smallest side
    write_nifti(folder / "a_label.nii.gz", mask(0), affine=shifted)
    write_nifti(folder / "b_label.nii.gz", np.full((6, 5, 4), 255, np.uint8))
    write_nifti(folder / "c_pet.nii.gz", noise(5, (3, 2, 3)), affine=AFFINE @ np.diag([2.0, 2.0, 1.0, 1.0]))
    result = check(folder)
    lines = [problem.line for problem in result.problems]
    assert len(lines) == 3
    assert "corners are 2 voxels off image 'ct'" in result.of_tier("repairable")[0].line
    _, records, _ = fix_cohort(load(folder), result)
    assert not [line for line in [*lines, records[0].repair] if " mm" in line]


def test_sides_of_one_millimetre_everywhere_are_questioned(folder: Path, write_nifti: Write) -> None:
    for seed, case in enumerate("abc"):
        write_nifti(folder / f"{case}_ct.nii.gz", noise(seed), affine=np.eye(4))
        write_nifti(folder / f"{case}_pet.nii.gz", noise(seed + 10), affine=np.eye(4))
        write_nifti(folder / f"{case}_label.nii.gz", mask(seed), affine=np.eye(4))
    tier, line = only(check(folder))
    assert tier == "note"
    assert "every image has voxels of exactly 1 x 1 x 1 mm" in line


def test_a_ct_without_negative_values_is_questioned(folder: Path, write_nifti: Write) -> None:
    edit(folder / "cohort.yaml", "modality: MR", "modality: CT")
    write_nifti(folder / "b_ct.nii.gz", np.abs(noise(1)))
    tier, line = only(check(folder))
    assert tier == "note"
    assert "not in HU?" in line


def test_pictures_in_a_cohort_with_real_spacing_are_an_error(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "p"
    folder.mkdir()
    rows = ["case_id,patient_id,image:photo,label"]
    for seed, case in enumerate("ab"):
        colours = np.random.default_rng(seed).integers(0, 255, (5, 4, 3)).astype(np.uint8)
        Image.fromarray(colours if case == "a" else colours[..., 0]).save(folder / f"{case}.png")
        label = np.zeros((5, 4), np.uint8)
        label[seed, 1] = 1
        Image.fromarray(label).save(folder / f"{case}_label.png")
        rows.append(f"{case},{case},{case}.png,{case}_label.png")
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    config = "name: p\nchannels: {photo: {modality: RGB}}\nclasses: {v: 1}\nlabel_values: {1: v}\n"
    (folder / "cohort.yaml").write_text(config)
    whats = [problem.what for problem in check(folder).of_tier("error")]
    assert whats.count("the voxel size is unknown, but the cohort claims real ones") == 2
    (folder / "cohort.yaml").write_text(config + "nominal_spacing: true\n")
    # One picture in colour and one in grey cannot share a channel.
    assert [problem.what for problem in check(folder).of_tier("error")] == [
        "3 values a voxel, but most images of channel 'photo' have 1"
    ]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 1), (3, 4, 1)])
def test_tiny_and_flat_scans_are_checked_like_any_other(
    tmp_path: Path, write_nifti: Write, shape: tuple[int, ...]
) -> None:
    write_nifti(tmp_path / "a.nii.gz", noise(1, shape))
    write_nifti(tmp_path / "l.nii.gz", np.full(shape, 255, np.uint8))
    (tmp_path / "cohort.csv").write_text("case_id,patient_id,image:ct,label\na,A,a.nii.gz,l.nii.gz\n")
    config = "name: s\nchannels: {ct: {}}\nclasses: {t: 1}\nlabel_values: {255: t}\n"
    (tmp_path / "cohort.yaml").write_text(config)
    errors = [problem.what.split(" is ")[0] for problem in check(tmp_path).of_tier("error")]
    assert errors == (["every voxel"] if shape == (1, 1, 1) else [])
