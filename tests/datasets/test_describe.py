"""What is said of a cohort, worked out by hand on anisotropic voxels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from equivox.datasets.cohort import load_cohort
from equivox.datasets.describe import Spread, count_groups, describe_cohort

CONFIG = """
name: small
channels: {ct: {modality: CT}}
classes: {organ: 1, tumour: 2}
label_values: {1: organ, 5: tumour}
attributes:
  sex: {names: {"1": woman}}
  age: {kind: continuous, bins: [40, 65]}
"""
# Voxels of 5 x 10 x 20 mm: exactly 1 ml each.
AFFINE = np.diag([5.0, 10.0, 20.0, 1.0])


@pytest.fixture
def folder(tmp_path: Path, write_nifti: Callable[..., Path]) -> Path:
    """Three cases of two patients: labels of 3 organ and 2 tumour voxels, 5 organ voxels, and none."""
    shapes = {"a": (4, 3, 2), "b": (5, 3, 2), "c": (6, 3, 2)}
    marked = {"a": [1, 1, 1, 5, 5], "b": [1, 1, 1, 1, 1]}
    rows = ["case_id,patient_id,image:ct,label,sex,age"]
    facts = {"a": "P,{},1,39", "b": "P,{},1,39", "c": "Q,{},,65"}
    for case, shape in shapes.items():
        values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 10
        write_nifti(tmp_path / f"{case}.nii.gz", values, affine=AFFINE)
        label = ""
        if case in marked:
            array = np.zeros(shape, np.uint8)
            array.reshape(-1)[: len(marked[case])] = marked[case]
            label = write_nifti(tmp_path / f"{case}_l.nii.gz", array, affine=AFFINE).name
        patient, rest = facts[case].split(",{},")
        rows.append(f"{case},{patient},{case}.nii.gz,{label},{rest}")
    (tmp_path / "cohort.yaml").write_text(CONFIG)
    (tmp_path / "cohort.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_sizes_spacings_and_volumes_by_hand(folder: Path) -> None:
    description = describe_cohort(load_cohort(folder))
    (ct,) = description.channels
    assert ct.sizes == (Spread(4.0, 5.0, 6.0), Spread(3.0, 3.0, 3.0), Spread(2.0, 2.0, 2.0))
    assert ct.spacings_mm == (Spread(5.0, 5.0, 5.0), Spread(10.0, 10.0, 10.0), Spread(20.0, 20.0, 20.0))
    organ, tumour = description.classes
    assert (organ.present, organ.absent, organ.unit) == (2, 0, "ml")
    assert organ.volume is not None
    assert tuple(vars(organ.volume).values()) == pytest.approx((3.0, 4.0, 5.0))
    assert (tumour.present, tumour.absent) == (1, 1)
    assert tumour.volume is not None
    assert tumour.volume.median == pytest.approx(2.0)
    assert (description.cases, description.patients, description.labelled) == (3, 2, 2)
    assert description.unreadable == ()


def test_intensities_span_all_cases(folder: Path) -> None:
    # Values run from -10 to 13, 19 and 25; each case counts the same.
    intensities = describe_cohort(load_cohort(folder)).channels[0].intensities
    assert list(intensities) == [0, 1, 25, 50, 75, 99, 100]
    assert (intensities[0], intensities[100]) == (-10, 25)
    assert intensities[50] == pytest.approx((1.5 + 4.5 + 7.5) / 3, abs=0.5)


def test_nominal_spacing_leaves_no_mm_and_no_ml(folder: Path) -> None:
    (folder / "cohort.yaml").write_text(CONFIG + "nominal_spacing: true\n")
    description = describe_cohort(load_cohort(folder))
    assert description.channels[0].spacings_mm is None
    assert {summary.unit for summary in description.classes} == {"voxels"}
    assert description.classes[0].volume == Spread(3.0, 4.0, 5.0)


def test_groups_count_patients_and_cases_apart(folder: Path) -> None:
    counts = [(c.attribute, c.group, c.patients, c.cases) for c in count_groups(load_cohort(folder))]
    assert counts == [("sex", "woman", 1, 2), ("sex", "unknown", 1, 1), ("age", "<40", 1, 2), ("age", ">=65", 1, 1)]


def test_unreadable_files_are_named_and_counted_nowhere(folder: Path) -> None:
    (folder / "a.nii.gz").write_bytes(b"")
    description = describe_cohort(load_cohort(folder))
    assert description.channels[0].cases == 2
    assert len(description.unreadable) == 1
    assert str(folder / "a.nii.gz") in description.unreadable[0]


def test_a_cohort_without_any_readable_image_is_described_by_its_groups(folder: Path) -> None:
    for case in "abc":
        (folder / f"{case}.nii.gz").unlink()
    description = describe_cohort(load_cohort(folder))
    assert description.channels == ()
    assert len(description.groups) == 4
