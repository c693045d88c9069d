"""Patients of the training under other names. Only the bytes of the files count, so a scan here is a line of text."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from equivox.datasets.cohort import AttributeConfig, ChannelConfig, CohortConfig, load_cohort
from equivox.datasets.store import Store
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.options import save_options
from equivox.pipelines.auditing.options import AuditOptions
from equivox.pipelines.auditing.recognised import recognise
from equivox.pipelines.auditing.sources import held_out_source
from equivox.pipelines.run_folder import RunFolder

MakeRun = Callable[..., Path]
PATIENTS = 30
OPTIONS = AuditOptions(attributes=("sex",))
PLACES = {f"c{number:02d}": "test" if number < 10 else "0" if number < 20 else "1" for number in range(PATIENTS)}


def write_cohort(folder: Path, names: dict[int, str], *, value: int = 1, other: tuple[int, ...] = ()) -> Path:
    """The scans of these patients under these names; those in `other` were saved anew."""
    folder.mkdir()
    rows = ["case_id,patient_id,image:mr,label,sex"]
    for number, name in names.items():
        (folder / f"{name}.nii.gz").write_text(f"scan {number}{' again' * (number in other)}")
        (folder / f"{name}_label.nii.gz").write_text(f"label {number}")
        rows.append(f"{name},{name},{name}.nii.gz,{name}_label.nii.gz,{'FM'[number % 2]}")
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    config = CohortConfig(
        name="toy",
        channels={"mr": ChannelConfig()},
        classes={"tumour": 1},
        label_values={0: "background", value: "tumour"},
        attributes={"sex": AttributeConfig()},
    )
    save_options(config, folder / "cohort.yaml")
    return folder


@pytest.fixture
def trained(make_run_at: MakeRun, tmp_path: Path) -> tuple[Path, Path]:
    """A run of two folds on a cohort of thirty, of which ten are in no fold."""
    cohort = write_cohort(tmp_path / "own", {number: f"c{number:02d}" for number in range(PATIENTS)})
    return make_run_at(tmp_path / "run", folds=(0, 1), split=PLACES), cohort


def write_manifest(run: Path, own: Path, *, images: bool, keys: bool = True) -> None:
    """Note the scans of the folds, as the training does, or as it did before it noted the images."""
    cohort, plan = load_cohort(own), RunFolder(run).plan.preprocessing
    store, cases = Store(own / "store"), {}
    for case in cohort.cases:
        if PLACES[case.case_id] != "test":
            cases[case.case_id] = {"patient_id": case.patient_id}
            if keys:
                key = store.key(case.images, case.label, cohort.config.label_indices, plan)
                cases[case.case_id] |= {"key": key}
            if images:
                cases[case.case_id] |= {"images": {"mr": file_sha256(case.images["mr"])}}
    manifest = {"asked": {}, "folds": {}, "cohort": {"folder": str(own)}, "cases": cases}
    manifest["hashes"] = {"cohort.csv": file_sha256(own / "cohort.csv")}
    (run / "manifest.json").write_text(json.dumps(manifest))


def renamed(folder: Path, **choices: object) -> Path:
    return write_cohort(folder, {number: f"x{number:02d}" for number in range(PATIENTS)}, **choices)  # type: ignore[arg-type]


def test_renamed_patients_of_the_training_are_held_out_from_no_more_than_before(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, own = trained
    write_manifest(run, own, images=True)
    # Another value in the label files makes other keys, and the images are the same all the same.
    source = held_out_source(RunFolder(run), renamed(tmp_path / "renamed", value=7), OPTIONS)
    assert source.evidence == "images"
    assert source.renamed == tuple(f"x{number:02d}" for number in range(10, 30))
    # Those of no fold are not among the training's scans: held out from both networks under any name.
    for fold in (0, 1):
        expected = {number for number in range(PATIENTS) if PLACES[f"c{number:02d}"] in ("test", str(fold))}
        assert set(source.patients(fold)) == {f"x{number:02d}" for number in expected}
    assert {one.role for one in source.cases[:10]} == {"new"}
    assert {one.role for one in source.cases[10:]} == {"out_of_fold"}


def test_all_patients_of_the_training_under_other_names_are_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, own = trained
    write_manifest(run, own, images=True)
    cohort = write_cohort(tmp_path / "renamed", {number: f"x{number}" for number in range(20, 30)})
    options = OPTIONS.model_copy(update={"folds": (0,)})
    match = r"was not trained on, got none \(10 under other names, by the contents of their scans\); give another"
    with pytest.raises(InputError, match=match):
        held_out_source(RunFolder(run), cohort, options)


def test_a_second_scan_under_the_other_name_is_no_held_out_scan_either(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, own = trained
    write_manifest(run, own, images=True)
    cohort = write_cohort(tmp_path / "more", {number: f"x{number}" for number in (*range(10), *range(29, 50))})
    table = cohort / "cohort.csv"
    # The patient of x29, who is of fold 1, also has the new scan x30.
    table.write_text(table.read_text().replace("x30,x30,", "x30,x29,"))
    source = held_out_source(RunFolder(run), cohort, OPTIONS)
    assert [one.folds for one in source.cases if one.case.patient_id == "x29"] == [(1,), (1,)]
    assert "x29" not in source.patients(0)


def test_a_scan_that_was_saved_anew_is_not_recognised(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, own = trained
    write_manifest(run, own, images=True)
    found = recognise(RunFolder(run), load_cohort(renamed(tmp_path / "renamed", other=(11, 12))))
    assert set(found.cases) == {f"x{number}" for number in range(10, 30)} - {"x11", "x12"}
    assert found.cases["x25"] == ("c25",)


def test_an_older_run_is_told_by_its_cohort_and_without_it_by_its_prepared_cases(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, own = trained
    write_manifest(run, own, images=False)
    same, other = load_cohort(renamed(tmp_path / "same")), load_cohort(renamed(tmp_path / "other", value=7))
    assert [recognise(RunFolder(run), one).evidence for one in (same, other)] == ["images"] * 2
    assert len(recognise(RunFolder(run), other).cases) == 20
    # The table is no longer what was trained on.
    (own / "cohort.csv").write_text((own / "cohort.csv").read_text() + "\n")
    found = [recognise(RunFolder(run), one) for one in (same, other)]
    assert [one.evidence for one in found] == ["prepared"] * 2
    assert [len(one.cases) for one in found] == [20, 0]


def test_a_run_that_records_nothing_recognises_nobody_and_says_so(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, own = trained
    cohort = load_cohort(renamed(tmp_path / "renamed"))
    assert recognise(RunFolder(run), cohort).evidence == "none"
    write_manifest(run, tmp_path / "own", images=False, keys=False)
    (own / "cohort.csv").unlink()
    assert recognise(RunFolder(run), cohort).evidence == "none"
    source = held_out_source(RunFolder(run), cohort.folder, OPTIONS)
    assert (source.evidence, source.renamed) == ("none", ())


def test_a_missing_scan_waits_for_its_turn(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, own = trained
    write_manifest(run, own, images=True)
    cohort = renamed(tmp_path / "renamed")
    (cohort / "x15.nii.gz").unlink()
    assert "x15" not in recognise(RunFolder(run), load_cohort(cohort)).cases
