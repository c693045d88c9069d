"""Tables and lines on standard output."""

import json

import pytest

from equivox.cli.output import say, say_json, show_table
from equivox.progress import console


def test_a_long_name_is_folded_and_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "TCGA_CS_4941_19960909_with_a_name_as_long_as_two_lines"
    show_table("Cases", ("case", "Dice"), [(name, 0.5)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].rstrip() == "Cases"
    assert all(len(line) <= 40 for line in lines)
    assert "".join(line.split()[0] for line in lines[4:] if line.strip()) == name


def test_names_are_not_read_as_markup_nor_broken(capsys: pytest.CaptureFixture[str]) -> None:
    show_table("", ("group",), [("[bold]F[/bold]",)])
    assert "[bold]F[/bold]" in capsys.readouterr().out
    say("[red]" + "a" * 300)
    assert capsys.readouterr().out == "[red]" + "a" * 300 + "\n"


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", True)
    say("a")
    show_table("b", ("c",), [("d",)])
    assert capsys.readouterr().out == ""


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("\x1b]0;title\x07sex: 'Ä'\tand\nmore")
    assert capsys.readouterr().out == "\\x1b]0;title\\x07sex: 'Ä'\tand\nmore\n"


def test_json_was_asked_for_and_is_printed_with_quiet_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "quiet", True)
    say_json({"site": "Zürich", "mean": 0.5})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"site": "Zürich", "mean": 0.5}
    assert "Zürich" in printed
