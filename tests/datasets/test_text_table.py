"""Tables as people save them: what is read all the same, and what is refused in one line."""

import codecs
from pathlib import Path

import pytest

from equivox.datasets.text_table import read_text_table, refuse_lost_zeros
from equivox.errors import InputError


def save(folder: Path, content: bytes, name: str = "people.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"case,sex\na,F\nb,\n",
        b"case;sex\r\na;F\r\nb;\r\n",
        b"case\tsex\ra\tF\rb\t\r",
        codecs.BOM_UTF8 + b'"case","sex"\n"a","F"\n"b",""\n',
        "case\tsex\r\na\tF\r\nb\t\r\n".encode("utf-16"),
        b"case,sex,,\na,F,,\n\n,,,\nb,\n",
        b"case,sex\na,F,\nb,,,\n",
    ],
    ids=["comma", "semicolon", "tab", "mark", "utf-16", "empty rows and columns", "trailing separators"],
)
def test_the_same_table_is_read_however_a_spreadsheet_saved_it(tmp_path: Path, content: bytes) -> None:
    table = read_text_table(save(tmp_path, content))
    assert table.to_dict("list") == {"case": ["a", "b"], "sex": ["F", ""]}


def test_a_separator_in_quotes_separates_nothing(tmp_path: Path) -> None:
    table = read_text_table(save(tmp_path, b'"age, years, at scan";sex\n41;F\n'))
    assert list(table.columns) == ["age, years, at scan", "sex"]


def test_rows_know_their_lines_in_the_file(tmp_path: Path) -> None:
    table = read_text_table(save(tmp_path, b'case,site\n\na,"north\nsouth"\n,\nb,east\n'))
    assert table["case"].to_dict() == {3: "a", 6: "b"}


def test_a_cell_of_several_lines_becomes_one_line(tmp_path: Path) -> None:
    table = read_text_table(save(tmp_path, b'case,"site\n(city)"\n 007 ,"north\nsouth"\n'))
    assert table.to_dict("list") == {"case": ["007"], "site (city)": ["north south"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a CSV file, got an empty one"),
        (codecs.BOM_UTF8 + b"\n \n", "expected a CSV file, got an empty one"),
        (b"case,sex\n", "expected at least one row below the header"),
        (b'case,sex\na,F\nb,"M\nc,F\n', "expected quotes in pairs, got a cell in line 3 that does not end"),
        (b'case,sex\na,"F"x\n', "expected quotes in pairs, got a cell in line 2 that does not end"),
        (b"case,sex\na,F\nb,M,oops\n", "expected 2 cells in line 3, as in the header, got 3"),
        (b"case,sex,age,site\na,F,41,x\n\nb,M\n", "expected 4 cells in line 4, as in the header, got 2; mend the line"),
        (b"case,sex,,\na\n", "expected 2 cells in line 2, as in the header, got 1"),
        (b"case,sex,sex\na,F,M\n", r"expected each column once, got \['sex'\] twice"),
        (b"case,,\na,F,M\n", "expected a name above each column, got 2 columns without one"),
        (b"case,sex\na,\x00\n", "expected a CSV file in UTF-8, got a NUL byte in line 2; save"),
        ("case,sex\na,é\n".encode("latin-1"), "expected a CSV file in UTF-8, got other bytes"),
        ("case,sex\na,F\n".encode("utf-16-le"), "expected a CSV file in UTF-8, got a NUL byte in line 1"),
        (b"PK\x03\x04" + bytes(99), "expected a CSV file, got a workbook; save the table as 'CSV UTF-8'"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = save(tmp_path, content)
    with pytest.raises(InputError, match=message) as raised:
        read_text_table(path)
    assert str(raised.value).startswith(f"{path}: expected ")
    assert "\n" not in str(raised.value)


def test_ids_that_lost_their_zeros_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected the id '007' in column 'case', got '7' without its zeros"):
        refuse_lost_zeros(Path("people.csv"), "case", ["100", "7"], ["007", "100"])


def test_ids_that_never_had_zeros_are_kept() -> None:
    assert refuse_lost_zeros(Path("people.csv"), "case", ["7", "007", "8", "x"], ["007", "100", "x"]) is None
