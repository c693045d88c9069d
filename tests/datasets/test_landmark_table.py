"""Tables of landmarks: what is read, and what is refused in one line."""

from pathlib import Path

import pytest

from equivox.datasets.landmark_table import read_landmarks
from equivox.errors import InputError


def save(folder: Path, text: str, name: str = "points.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_points_are_read_by_case_and_landmark_and_an_empty_one_is_absent(tmp_path: Path) -> None:
    text = "landmark,case_id,z,x,y,rater\nsella,a,-3,1.5,2e1,R1\nnasion,a,,,,R1\nsella,b,+4.,.5,0,R2\n"
    table = read_landmarks(save(tmp_path, text))
    assert table.cases == {"a": {"sella": (1.5, 20.0, -3.0), "nasion": None}, "b": {"sella": (0.5, 0.0, 4.0)}}
    assert (table.dims, table.landmarks) == (3, ("sella", "nasion"))


def test_a_table_of_two_axes_is_2d_also_with_an_empty_column_z(tmp_path: Path) -> None:
    flat = read_landmarks(save(tmp_path, "case_id\tlandmark\tx\ty\na\t1\t3\t4\n", "points.tsv"))
    empty = read_landmarks(save(tmp_path, "case_id;landmark;x;y;z\na;1;3;4;\n"))
    assert flat.cases == empty.cases == {"a": {"1": (3.0, 4.0)}}
    assert flat.dims == empty.dims == 2


def test_without_any_point_the_axes_are_not_known(tmp_path: Path) -> None:
    assert read_landmarks(save(tmp_path, "case_id,landmark,x,y,z\na,1,,,\n")).dims is None


def test_numbers_that_a_spreadsheet_has_given_a_decimal_name_the_same_landmark(tmp_path: Path) -> None:
    table = read_landmarks(save(tmp_path, "case_id,landmark,x,y\n7.0,1.0,3,4\n7.0,2.0,3,4\n"))
    assert list(table.cases["7"]) == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "case_id,name,x,y\na,1,2,3\n",
            r"points\.csv: expected a column 'landmark', got \['case_id', 'name', 'x', 'y'\]",
        ),
        ("case_id,landmark,x\na,1,2\n", "expected a column 'y'"),
        ("case_id,landmark,x,y\na,sella,2,1e308\n", "a number such as 12.5 in column 'y' of row 2 .*, got '1e308'"),
        (
            "case_id,landmark,x,y\na,sella,2,3\na,nasion,2,left\n",
            r"a number such as 12.5 in column 'y' of row 3 \(case 'a', landmark 'nasion'\), got 'left'",
        ),
        ("case_id,landmark,x,y\na,1,nan,3\n", r"column 'x' of row 2 .* got 'nan'; .* empty all coordinates"),
        ("case_id,landmark,x,y\na,1,2,-inf\n", "column 'y' of row 2 .* got '-inf'"),
        ("case_id,landmark,x,y\na,1,2,1e999\n", "got '1e999'"),
        ("case_id;landmark;x;y\na;1;2,5;3\n", "got '2,5'"),
        ("case_id,landmark,x,y\na,1,1_0,3\n", "got '1_0'"),
        ("case_id,landmark,x,y\na,1,2,\n", "all coordinates or none, got none in column 'y' of row 2"),
        ("case_id,landmark,x,y,z\na,1,,,4\n", "got none in column 'x' of row 2"),
        (
            "case_id,landmark,x,y\na,1,2,3\nb,1,2,3\na,1,4,5\n",
            r"each landmark of a case once, got it again in row 4 \(case 'a', landmark '1'\)",
        ),
        (
            "case_id,landmark,x,y,z\na,1,2,3,4\na,2,,,\nb,1,2,3,\n",
            r"'z' in every row or in none, got it in row 2 \(case 'a', landmark '1'\) and not in row 4 \(case 'b'",
        ),
        ("case_id,landmark,x,y\n,1,2,3\n", "a name in column 'case_id' of row 2"),
        ("case_id,landmark,x,y\na,,2,3\n", "a name in column 'landmark' of row 2"),
        ("case_id,landmark,x,y\n", "at least one row below the header"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_landmarks(save(tmp_path, text))
    assert "\n" not in str(caught.value)
