"""Cohort folders: what is read, what is refused, and how values become groups."""

from pathlib import Path

import pytest

from equivox.datasets.cohort import AttributeConfig, CohortConfig, load_cohort, row_faults, save_cohort, stored_path
from equivox.errors import InputError
from equivox.options import parse_options

CONFIG = """
name: small
channels: {flair: {modality: MR}}
classes: {tumour: 1}
label_values: {0: background, 255: tumour}
attributes:
  region: {}
  grade: {}
  age: {kind: continuous, bins: [40, 65]}
"""
HEAD = "case_id,patient_id,image:flair,label,region,grade,age\n"


def make(folder: Path, rows: str, *, head: str = HEAD, config: str = CONFIG) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "cohort.yaml").write_text(config)
    (folder / "cohort.csv").write_text(head + rows)
    return folder


def test_words_for_unknown_are_read_as_empty_cells_and_counted(tmp_path: Path) -> None:
    rows = "a,p,a.nii,,NA,2.0,unknown\nb,q,b.nii,,North,N/A,40\nc,r,c.nii,, not  Reported ,3.0,\n"
    cohort = load_cohort(make(tmp_path / "c", rows))
    assert cohort.cases[0].attributes == {"region": None, "grade": "2", "age": None}
    assert [case.attributes["region"] for case in cohort.cases] == [None, "North", None]
    assert cohort.unknown == {"region": {"NA": 1, "not  Reported": 1}, "grade": {"N/A": 1}, "age": {"unknown": 1}}


def test_a_word_that_the_config_names_is_a_value(tmp_path: Path) -> None:
    config = CONFIG.replace("region: {}", "region: {names: {NA: North America, X: unknown}}")
    cohort = load_cohort(make(tmp_path / "c", "a,p,a.nii,,NA,,\nb,q,b.nii,,X,,\nc,r,c.nii,,N/A,,\n", config=config))
    assert [case.attributes["region"] for case in cohort.cases] == ["NA", None, None]
    assert cohort.unknown == {"region": {"X": 1, "N/A": 1}}


def test_whole_numbers_that_a_spreadsheet_gave_a_decimal_are_codes(tmp_path: Path) -> None:
    cohort = load_cohort(make(tmp_path / "c", "a,1.0,a.nii,,007,2.0,39.5\nb,2.0,b.nii,,8,,40\n"))
    assert [case.attributes["grade"] for case in cohort.cases] == ["2", None]
    assert [case.patient_id for case in cohort.cases] == ["1", "2"]
    assert cohort.cases[0].attributes["region"] == "007"


def test_a_column_with_real_fractions_keeps_its_decimals(tmp_path: Path) -> None:
    cohort = load_cohort(make(tmp_path / "c", "a,p,a.nii,,x,2.0,\nb,q,b.nii,,x,2.5,\n"))
    assert [case.attributes["grade"] for case in cohort.cases] == ["2.0", "2.5"]


def test_relative_paths_start_at_the_folder_and_absolute_ones_stay(tmp_path: Path) -> None:
    folder = make(tmp_path / "c", f"a,p,scans/a.nii,{tmp_path / 'm.nii'},,,\n")
    case = load_cohort(folder).cases[0]
    assert case.images["flair"] == folder / "scans" / "a.nii"
    assert case.label == tmp_path / "m.nii"


def test_paths_are_stored_relative_only_within_the_folder(tmp_path: Path) -> None:
    assert stored_path(tmp_path / "c" / "fixed" / "a.nii", tmp_path / "c") == "fixed/a.nii"
    assert stored_path(tmp_path / "scans" / "a.nii", tmp_path / "c") == str(tmp_path / "scans" / "a.nii")
    # A folder whose name begins alike is not the folder.
    assert stored_path(tmp_path / "c2" / "a.nii", tmp_path / "c") == str(tmp_path / "c2" / "a.nii")


def test_a_saved_cohort_reads_back_the_same(tmp_path: Path) -> None:
    cohort = load_cohort(make(tmp_path / "c", '"a, first",p,a.nii,,Île,"1",3\n'))
    before = cohort.cases
    save_cohort(cohort)
    assert load_cohort(tmp_path / "c").cases == before
    assert load_cohort(tmp_path / "c").config == cohort.config
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["cohort.csv", "cohort.yaml"]


def test_each_rater_has_a_column(tmp_path: Path) -> None:
    head = "case_id,patient_id,image:flair,label:ann,label:bob,region,grade,age\n"
    cases = load_cohort(make(tmp_path / "c", "a,p,a.nii,x.nii,y.nii,,,\nb,q,b.nii,,z.nii,,,\n", head=head)).cases
    assert [path.name for path in cases[0].labels.values()] == ["x.nii", "y.nii"]
    assert dict(cases[1].labels) == {"bob": tmp_path / "c" / "z.nii"}


def test_a_table_with_semicolons_and_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    folder = make(tmp_path / "c", "")
    text = "\ufeff" + HEAD.replace(",", ";") + "a;p;a.nii;;north, south;;\n"
    (folder / "cohort.csv").write_text(text, encoding="utf-8")
    assert load_cohort(folder).cases[0].attributes["region"] == "north, south"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,p,a.nii,,,,\nA,q,b.nii,,,,\n", r"'a' stands in 2 rows .*give each case its own id"),
        ("../a,p,a.nii,,,,\n", r"case_id '\.\./a' holds '/'"),
        ("-a,p,a.nii,,,,\n", r"begins or ends with a dot, a dash"),
        (".hidden,p,a.nii,,,,\n", r"begins or ends with a dot, a dash"),
        ("CON,p,a.nii,,,,\n", r"case_id 'CON' is a name that Windows keeps for a device; rename the case"),
        ("aux.nii,p,a.nii,,,,\n", r"case_id 'aux.nii' is a name that Windows keeps"),
        ("x" * 300 + ",p,a.nii,,,,\n", r"'x{40}\.\.\.' is 300 bytes long; files .* 160 is the most"),
        ("e\u0301,p,a.nii,,,,\n\u00e9,q,b.nii,,,,\n", r"stands in 2 rows"),
        ('"a\x07",p,a.nii,,,,\n', r"'a\\x07' holds control characters"),
        (",p,a.nii,,,,\n", r"case_id '' is empty"),
        ("a,,a.nii,,,,\n", r"case 'a' has no patient_id; fill it in"),
        ("a,p,,,,,\n", r"case 'a' has no image:flair; fill in the path"),
        ("a,p,../a.nii,,,,\n", r"image:flair of case 'a' leads out of the cohort folder"),
        ("a,p,a.nii,x/../../a.nii,,,\n", r"label of case 'a' leads out of the cohort folder"),
        ("a,p,a.nii,,,,old\n", r"age of case 'a' is 'old', not a number"),
    ],
)
def test_a_faulty_row_is_refused_in_one_line(tmp_path: Path, rows: str, message: str) -> None:
    folder = make(tmp_path / "c", rows)
    with pytest.raises(InputError, match=message) as raised:
        load_cohort(folder)
    assert "\n" not in str(raised.value)
    assert str(folder / "cohort.csv") in str(raised.value)
    assert row_faults(load_cohort(folder, sound=False))


def test_names_that_only_begin_like_a_device_are_fine(tmp_path: Path) -> None:
    rows = "CON01,p,a.nii,,,,\nauxiliary,q,b.nii,,,,\n" + "x" * 160 + ",r,c.nii,,,,\n"
    assert len(load_cohort(make(tmp_path / "c", rows)).cases) == 3


def test_all_faulty_rows_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"and 2 more faults"):
        load_cohort(make(tmp_path / "c", "/a,p,a.nii,,,,\n/b,,b.nii,,,,\n"))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("case_id,image:flair,label,region,grade,age\n", r"got no \['patient_id'\]"),
        ("case_id,patient_id,image:flair,image:t1,region,grade,age\n", r"got \['image:t1'\]; add them there"),
        ("case_id,patient_id,image:flair,label,label:ann,region,grade,age\n", r"got both; rename 'label'"),
        ("case_id,patient_id,image:flair,label,region,region,grade,age\n", r"\['region'\] twice"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, head: str, message: str) -> None:
    row = ",".join(f"x{index}" for index in range(head.count(",") + 1)) + "\n"
    with pytest.raises(InputError, match=message):
        load_cohort(make(tmp_path / "c", row, head=head))


def test_a_folder_that_is_no_cohort_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got no cohort\.yaml in it; make one with 'equivox cohort import'"):
        load_cohort(tmp_path)


def test_a_table_without_rows_or_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected at least one row"):
        load_cohort(make(tmp_path / "c", ""))
    (tmp_path / "c" / "cohort.csv").write_bytes((HEAD + "a,p,a.nii,,\xe9,,\n").encode("latin-1"))
    with pytest.raises(InputError, match=r"save the table as 'CSV UTF-8'"):
        load_cohort(tmp_path / "c")


def test_bins_make_groups_that_include_their_lower_edge() -> None:
    age = AttributeConfig(kind="continuous", bins=(40, 65))
    assert [age.group_of(value) for value in ("39.9", "40", "64.9", "65", None)] == [
        "<40",
        "40-65",
        "40-65",
        ">=65",
        None,
    ]
    assert age.sort_groups([">=65", "<40", ">=65"]) == ["<40", ">=65"]


def test_codes_get_the_names_that_the_config_gives_them() -> None:
    sex = AttributeConfig(names={"1": "female"})
    assert [sex.group_of(value) for value in ("1", "2", None)] == ["female", "2", None]
    assert sex.sort_groups(["b", "10", "2"]) == ["2", "10", "b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": {"tumour": 2}}, r"indices 1 to 1"),
        ({"label_values": {1: "tumor"}}, r"unknown classes \['tumor'\]"),
        ({"label_values": {0: "tumour"}}, r"keep 0 as background"),
        ({"attributes": {"age": {"kind": "continuous"}}}, r"needs bins"),
        ({"attributes": {"age": {"kind": "continuous", "bins": [65, 40]}}}, r"bins must be finite numbers that rise"),
        ({"attributes": {"patient_id": {}}}, r"cannot name an attribute"),
        ({"channels": {}}, r"at least one channel"),
        ({"channels": {"a/b": {}}}, r"cannot name a channel"),
        ({"left_right_pairs": [["tumour", "other"]]}, r"unknown classes \['other'\]"),
    ],
)
def test_a_config_that_does_not_hang_together_is_refused(change: dict[str, object], message: str) -> None:
    values = {"name": "x", "channels": {"flair": {}}, "classes": {"tumour": 1}, "label_values": {1: "tumour"}}
    with pytest.raises(InputError, match=message):
        parse_options(CohortConfig, values | change, "cohort.yaml")


def test_label_values_lead_to_indices() -> None:
    values = {
        "name": "x",
        "channels": {"ct": {}},
        "classes": {"lung": 1, "heart": 2},
        "label_values": {5: "heart", 3: "lung", 4: "lung", 9: "background"},
    }
    assert parse_options(CohortConfig, values, "x").label_indices == {0: 0, 5: 2, 3: 1, 4: 1, 9: 0}
