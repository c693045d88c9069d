"""Import of any folder by patterns, with a table of patients."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from equivox.datasets.cohort import load_cohort
from equivox.datasets.import_cohort import import_cohort
from equivox.datasets.import_draft import ImportOptions
from equivox.datasets.patterns import find_files, match_patterns
from equivox.errors import InputError

IMAGE, LABEL = "nifti/{case_id}/{case_id}_flair.nii.gz", "nifti/{case_id}/{case_id}_mask.nii.gz"


@pytest.fixture
def source(tmp_path: Path, write_case: Callable[..., None]) -> Path:
    """Four cases of three patients with 0/255 masks, and a table with holes and decimals."""
    root = tmp_path / "source"
    for seed, case in enumerate(["a_1", "a_2", "b", "c"]):
        scans = root / "nifti" / case
        write_case(seed, images=[scans / f"{case}_flair.nii.gz"], label=scans / f"{case}_mask.nii.gz", value=255)
    rows = "case,Patient,gender,site,age\na_1,A,2.0,CS,61\na_2,A,2.0,CS,62\nb,B,,NA,40\nc,C,1.0,DU,\n"
    (root / "participants.csv").write_text(rows)
    return root


def options(**changes: object) -> ImportOptions:
    values: dict[str, object] = {
        "images": {"flair": IMAGE},
        "labels": {"": LABEL},
        "table": Path("participants.csv"),
        "key": "case",
        "patient": "Patient",
        "attributes": ("gender", "site"),
        "nominal_spacing": True,
    }
    return ImportOptions.model_validate(values | changes)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_folder_with_a_table_becomes_a_cohort(source: Path, tmp_path: Path) -> None:
    result = import_cohort(source, tmp_path / "cohort", options(continuous={"age": (50.0,)}))
    cohort = load_cohort(tmp_path / "cohort")
    assert [case.case_id for case in cohort.cases] == ["a_1", "a_2", "b", "c"]
    assert cohort.patients == ("A", "B", "C")
    assert cohort.cases[0].images["flair"] == source / "nifti" / "a_1" / "a_1_flair.nii.gz"
    assert cohort.cases[0].label == source / "nifti" / "a_1" / "a_1_mask.nii.gz"
    assert [case.attributes["gender"] for case in cohort.cases] == ["2", "2", None, "1"]
    assert [case.attributes["site"] for case in cohort.cases] == ["CS", "CS", None, "DU"]
    assert cohort.config.attributes["age"].group_of("61") == ">=50"
    assert cohort.config.nominal_spacing
    assert cohort.config.channels["flair"].modality == "MR"
    assert result.cohort.cases == cohort.cases
    assert "site: 1 value is taken as unknown, written NA" in result.notes
    assert any(note.startswith("channel flair: modality MR, guessed from its name") for note in result.notes)


def test_the_mapping_of_0_and_255_is_shown_and_saved(source: Path, tmp_path: Path) -> None:
    result = import_cohort(source, tmp_path / "cohort", options())
    rows = [(m.value, m.class_name, m.index, m.files) for m in result.mapping]
    assert rows == [(0, "background", 0, 4), (255, "foreground", 1, 4)]
    assert load_cohort(tmp_path / "cohort").config.label_indices == {0: 0, 255: 1}


def test_the_user_names_the_values(source: Path, tmp_path: Path) -> None:
    import_cohort(source, tmp_path / "cohort", options(classes={255: "tumour"}))
    assert load_cohort(tmp_path / "cohort").config.classes == {"tumour": 1}


def test_a_value_that_the_user_did_not_name_stops_the_import(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got none for 255, such as .*_mask.nii.gz \(4 files\); add --class 255=NAME"):
        import_cohort(source, tmp_path / "cohort", options(classes={1: "tumour"}))
    assert not (tmp_path / "cohort" / "cohort.csv").exists()


def test_several_values_get_names_after_their_numbers(
    source: Path, tmp_path: Path, write_case: Callable[..., None]
) -> None:
    write_case(9, images=[], label=source / "nifti" / "c" / "c_mask.nii.gz", value=7)
    cohort = import_cohort(source, tmp_path / "cohort", options()).cohort
    assert cohort.config.classes == {"class_7": 1, "class_255": 2}


def test_what_is_missing_on_either_side_is_listed(
    source: Path, tmp_path: Path, write_case: Callable[..., None]
) -> None:
    write_case(7, images=[source / "nifti" / "d" / "d_flair.nii.gz"])  # no row
    (source / "nifti" / "c" / "c_flair.nii.gz").rename(source / "nifti" / "c" / "c_t1.nii.gz")  # no image left
    (source / "nifti" / "b" / "b_mask.nii.gz").unlink()
    with (source / "participants.csv").open("a") as table:
        table.write("e,E,1.0,CS,30\n")
    result = import_cohort(source, tmp_path / "cohort", options())
    assert [case.case_id for case in result.cohort.cases] == ["a_1", "a_2", "b"]
    left_out = {item.case_id: item.reason for item in result.left_out}
    assert left_out == {
        "c": "a label but no image",
        "d": "no row in participants.csv, so its patient is unknown",
    }
    assert pd.read_csv(tmp_path / "cohort" / "left_out.csv")["case_id"].tolist() == ["c", "d"]
    notes = "\n".join(result.notes)
    assert "2 rows of participants.csv have no files: c, e" in notes
    assert "1 scans in the source fit no pattern and are not used: nifti/c/c_t1.nii.gz" in notes
    assert "1 cases have no label: they can be segmented, not trained on or scored: b" in notes


def test_without_a_patient_column_a_case_without_a_row_stays_with_unknown_attributes(
    source: Path, tmp_path: Path, write_case: Callable[..., None]
) -> None:
    write_case(7, images=[source / "nifti" / "d" / "d_flair.nii.gz"])
    result = import_cohort(source, tmp_path / "cohort", options(patient=None))
    assert result.cohort.cases[-1].attributes == {"gender": None, "site": None}
    assert result.cohort.cases[-1].patient_id == "d"
    assert any("each case is taken as its own patient" in note for note in result.notes)


def test_a_case_that_lacks_a_channel_is_left_out(source: Path, tmp_path: Path, write_case: Callable[..., None]) -> None:
    for case in ("a_1", "a_2", "b"):
        write_case(3, images=[source / "nifti" / case / f"{case}_t1.nii.gz"])
    images = {"flair": IMAGE, "t1": IMAGE.replace("flair", "t1")}
    result = import_cohort(source, tmp_path / "cohort", options(images=images))
    assert list(result.cohort.config.channels) == ["flair", "t1"]
    assert [(item.case_id, item.reason) for item in result.left_out] == [("c", "no image of channel t1")]


def test_several_raters_become_several_label_columns(source: Path, tmp_path: Path) -> None:
    labels = {"ann": LABEL, "bob": "second/{case_id}.nii.gz"}
    for case in ("a_1", "b"):
        (source / "second").mkdir(exist_ok=True)
        mask = source / "nifti" / case / f"{case}_mask.nii.gz"
        (source / "second" / f"{case}.nii.gz").write_bytes(mask.read_bytes())
    cases = import_cohort(source, tmp_path / "cohort", options(labels=labels)).cohort.cases
    assert [list(case.labels) for case in cases] == [["ann", "bob"], ["ann"], ["ann", "bob"], ["ann"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "cases"}, r"participants\.csv: expected a column 'cases', got case, Patient"),
        ({"key": "site"}, r"expected an? id.*in column 'site'|expected each id once in column 'site'"),
        ({"key": "age", "patient": None}, r"expected an id in column 'age' of each row, got an empty cell in row 4"),
        ({"table": Path("people.csv")}, r"people\.csv: expected a CSV file, got none"),
        (
            {"images": {"flair": "nifti/{case_id}/x.nii"}},
            r"expected files that fit 'nifti/\{case_id\}/x\.nii', got none",
        ),
        ({"modalities": {"t1": "MR"}}, r"--modality t1: expected one of the channels \['flair'\]"),
        ({"table": None}, r"--key: expected --table to say where the column stands"),
        ({"continuous": {"age": (65.0, 40.0)}}, r"--continuous age: .*bins must be finite numbers that rise"),
    ],
)
def test_a_mistake_in_the_options_ends_in_one_clear_line(
    source: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        import_cohort(source, tmp_path / "cohort", options(**changes))


def test_a_key_that_fits_no_case_names_both_sides(source: Path, tmp_path: Path) -> None:
    table = (source / "participants.csv").read_text().replace("a_1", "x1").replace("a_2", "x2")
    (source / "participants.csv").write_text(table.replace("b,B", "x3,B").replace("c,C", "x4,C"))
    message = r"expected column 'case' to hold ids such as a_1, got x1, x2, x3 and 1 more; choose another column"
    with pytest.raises(InputError, match=message):
        import_cohort(source, tmp_path / "cohort", options())


def test_a_table_that_lost_the_zeros_of_an_id_is_refused(source: Path, tmp_path: Path) -> None:
    for path in (source / "nifti" / "b").iterdir():
        path.rename(path.with_name(path.name.replace("b_", "007_")))
    (source / "nifti" / "b").rename(source / "nifti" / "007")
    table = source / "participants.csv"
    table.write_text(table.read_text().replace("b,B", "7,B"))
    with pytest.raises(InputError, match=r"expected the id '007' in column 'case', got '7' without its zeros"):
        import_cohort(source, tmp_path / "cohort", options())


def test_an_existing_cohort_is_kept_unless_asked(source: Path, tmp_path: Path) -> None:
    import_cohort(source, tmp_path / "cohort", options())
    with pytest.raises(
        InputError, match=r"expected no cohort there yet, got one; choose another -o, or add --overwrite"
    ):
        import_cohort(source, tmp_path / "cohort", options())
    import_cohort(source, tmp_path / "cohort", options(name="again"), overwrite=True)
    assert load_cohort(tmp_path / "cohort").config.name == "again"


@pytest.mark.parametrize("name", ["cohort.yaml", "left_out.csv"])
def test_files_of_a_cohorts_names_are_kept_unless_asked(source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / name).write_text("precious")
    with pytest.raises(InputError, match=rf"{name}: expected no cohort there yet, got one"):
        import_cohort(source, tmp_path / "cohort", options())
    assert (tmp_path / "cohort" / name).read_text() == "precious"


def test_a_table_is_not_imported_over_itself(source: Path, tmp_path: Path) -> None:
    folder = import_cohort(source, tmp_path / "cohort", options()).cohort.folder
    before = (folder / "cohort.csv").read_text()
    with pytest.raises(InputError, match=r"expected a table that the import does not replace"):
        import_cohort(folder / "cohort.csv", folder, overwrite=True)
    assert (folder / "cohort.csv").read_text() == before


def test_a_source_of_no_known_layout_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a BIDS folder.*add for example --image"):
        import_cohort(tmp_path, tmp_path / "cohort")
    with pytest.raises(InputError, match=r"got nothing there"):
        import_cohort(tmp_path / "nowhere", tmp_path / "cohort")


def test_pictures_have_no_voxel_size_so_spacing_is_nominal(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a.png", "b.png", "masks/a.png", "masks/b.png"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), 1).save(tmp_path / "p" / name)
    given = ImportOptions(images={"photo": "{case_id}.png"}, labels={"": "masks/{case_id}.png"})
    result = import_cohort(tmp_path / "p", tmp_path / "cohort", given)
    assert result.cohort.config.nominal_spacing
    assert "pictures have no voxel size: nominal spacing is recorded, and sizes are given in voxels" in result.notes


def test_the_id_must_be_the_same_wherever_it_stands(tmp_path: Path) -> None:
    touch(tmp_path, "x/a/a_t1.nii", "x/b/c_t1.nii", "x/.hidden/.hidden_t1.nii")
    assert list(find_files(tmp_path, "x/{case_id}/{case_id}_t1.nii")) == [("a", tmp_path / "x/a/a_t1.nii")]


def test_the_id_never_crosses_a_folder_and_may_stand_twice_in_a_name(tmp_path: Path) -> None:
    touch(tmp_path, "a/b.nii", "c.nii", "d_d.nii", "d_e.nii")
    assert [case for case, _ in find_files(tmp_path, "{case_id}.nii")] == ["c", "d_d", "d_e"]
    assert [case for case, _ in find_files(tmp_path, "{case_id}_{case_id}.nii")] == ["d"]


def test_characters_of_regular_expressions_are_plain_text(tmp_path: Path) -> None:
    touch(tmp_path, "a+b (1).nii", "aXnii")
    assert [case for case, _ in find_files(tmp_path, "{case_id}+b (1).nii")] == ["a"]


def test_a_star_stands_for_any_name_once_the_id_is_known(tmp_path: Path) -> None:
    touch(tmp_path, "a/2001/ct.nii", "b/2002/ct.nii")
    assert [case for case, _ in find_files(tmp_path, "{case_id}/*/ct.nii")] == ["a", "b"]
    touch(tmp_path, "a/2003/ct.nii")
    with pytest.raises(InputError, match=r"expected one file of 'ct' for case 'a', got also"):
        match_patterns(tmp_path, {"ct": "{case_id}/*/ct.nii"})


def test_a_dicom_folder_can_be_a_channel(tmp_path: Path) -> None:
    touch(tmp_path, "a/CT/1.dcm")
    assert list(find_files(tmp_path, "{case_id}/CT")) == [("a", tmp_path / "a" / "CT")]


def test_an_absolute_pattern_leads_outside_the_source(tmp_path: Path) -> None:
    touch(tmp_path, "masks/a.nii")
    found = list(find_files(tmp_path / "scans", f"{tmp_path}/masks/{{case_id}}.nii"))
    assert found == [("a", tmp_path / "masks" / "a.nii")]


def test_a_file_belongs_to_the_more_literal_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "a_mask.nii")
    found = match_patterns(tmp_path, {"image": "{case_id}.nii", "label": "{case_id}_mask.nii"})
    assert {role: list(cases) for role, cases in found.items()} == {"image": ["a"], "label": ["a"]}
    with pytest.raises(InputError, match=r"expected one pattern for it, got those of 'x' and 'y'"):
        match_patterns(tmp_path, {"x": "{case_id}.nii", "y": "{case_id}.nii"})


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("scans/a.nii", r"expected the placeholder \{case_id\}, got none"),
        ("{patient}/{case_id}.nii", r"expected the placeholder \{case_id\}, got \{patient\}"),
        ("{case_id}*.nii", r"expected no '\*' beside the first \{case_id\}"),
    ],
)
def test_a_malformed_pattern_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(find_files(tmp_path, pattern))


def test_an_image_pattern_without_the_case_id_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--image scan: expected \{case_id\} in the pattern, got none"):
        import_cohort(tmp_path, tmp_path / "cohort", ImportOptions(images={"t1": "scan"}))
