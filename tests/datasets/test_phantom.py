from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from equivox.datasets.phantom import CLASSES, PhantomPatient, draw_phantom, phantom_patients, write_phantoms
from equivox.errors import InputError


def patient(scanner: str, *, has_lesion: bool = True) -> PhantomPatient:
    return PhantomPatient("phantom_000", "female", 50, scanner, "single organ", has_lesion)


def test_the_same_arguments_give_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_phantoms(tmp_path / name, patients=2, shape=(24, 20, 9))
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    again = {path.name: path.read_bytes() for path in (tmp_path / "b").rglob("*.*")}
    assert len(first) == 7
    assert first == again


def test_another_seed_gives_another_cohort() -> None:
    assert phantom_patients(8, seed=0) != phantom_patients(8, seed=1)


def test_the_old_scanner_shows_lesions_with_less_contrast_to_noise() -> None:
    ratios = {}
    for scanner in ("new", "old"):
        (_, flair), label, _ = draw_phantom(patient(scanner))
        organ, lesion = flair[label == CLASSES["organ"]], flair[label == CLASSES["lesion"]]
        ratios[scanner] = (lesion.mean() - organ.mean()) / organ.std()
    assert ratios["new"] > 2 * ratios["old"] > 0


def test_a_patient_without_lesion_has_an_organ_only() -> None:
    _, label, _ = draw_phantom(patient("new", has_lesion=False))
    assert set(np.unique(label)) == {0, CLASSES["organ"]}


def test_the_smallest_scans_can_be_drawn() -> None:
    for seed in range(8):
        channels, label, _ = draw_phantom(patient("old"), shape=(4, 4, 4), seed=seed)
        assert channels.shape == (2, 4, 4, 4)
        assert np.isfinite(channels).all()
        assert label.max() <= 2


def test_scans_lie_where_the_affine_says_in_every_orientation(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path / "phantoms", patients=3, shape=(24, 20, 9))
    codes = set()
    for path in sorted(folder.rglob("*_t1.nii.gz")):
        image = nib.load(path)
        codes.add(nib.aff2axcodes(image.affine))
        spacing = image.header.get_zooms()
        assert spacing[2] > 2 * spacing[0]
        assert image.affine == pytest.approx(nib.load(str(path).replace("_t1", "_label")).affine)
    assert len(codes) == 3


def test_the_table_names_every_case_once(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path / "phantoms", patients=4, shape=(24, 20, 9))
    table = pd.read_csv(folder / "participants.csv")
    assert list(table.columns) == ["case", "sex", "age", "scanner", "anatomy"]
    assert sorted(table["case"]) == sorted(path.name for path in (folder / "scans").iterdir())


def test_an_empty_cohort_and_a_folder_in_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected 1 or more, got 0"):
        write_phantoms(tmp_path / "phantoms", patients=0)
    with pytest.raises(InputError, match="expected 4 voxels or more along each axis"):
        write_phantoms(tmp_path / "phantoms", patients=1, shape=(40, 36, 1))
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        write_phantoms(tmp_path, patients=1)
    assert (tmp_path / "mine.txt").read_text() == "precious"
