"""Tables and figures for papers."""

from xml.etree import ElementTree

import pandas as pd
from PIL import Image

from equivox.reports import write_report
from equivox.reports.tables import escape_latex, latex_table


def test_latex_escapes_what_it_would_read_as_commands() -> None:
    assert escape_latex(r"\input{/etc/passwd}") == r"\textbackslash{}input\{/etc/passwd\}"
    assert escape_latex("a & b_1 % $x$ #~^") == r"a \& b\_1 \% \$x\$ \#\textasciitilde{}\textasciicircum{}"
    assert escape_latex("two\nlines") == "two lines"


def test_latex_table_has_one_line_a_group_and_as_many_cells_in_each(example) -> None:
    text = latex_table(example.groups, example.summary["settings"])
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    heads = len(example.summary["tables"])
    assert len(lines) == len(example.groups) + heads
    assert {line.replace(r"\&", "").count("&") for line in lines} == {6}
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == heads


def test_figures_are_written_as_svg_and_png_with_the_tables(make, tmp_path) -> None:
    example = make(
        30,
        overlays=False,
        attributes={
            "$x$_<b>": (("$a", "<i>&", "c"), (0.5, 0.3, 0.1), "difference"),
            "sex": (("f", "m"), (0.5, 0.5), "no_evidence"),
        },
    )
    folder = tmp_path / "figures"
    write_report(tmp_path / "report.html", **example.arguments(), figures=folder)
    names = {path.stem for path in folder.iterdir()}
    assert names == {"forest", "groups", "distribution-1-x-b", "distribution-2-sex", "scatter-1-x-b", "scatter-2-sex"}
    for path in folder.glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert ElementTree.fromstring(text).tag.endswith("svg")  # noqa: S314  our own text
        with Image.open(path.with_suffix(".png")) as picture:
            assert picture.size[0] > 600
    pd.testing.assert_frame_equal(
        pd.read_csv(folder / "groups.csv")[["group", "patients"]], example.groups[["group", "patients"]]
    )
    assert r"\$a" in (folder / "groups.tex").read_text(encoding="utf-8")


def test_figures_of_a_cohort_without_attributes_are_only_tables(make, tmp_path) -> None:
    example = make(12, overlays=False, attributes={})
    example.groups = pd.DataFrame(columns=["role", "attribute", "kind", "group", "patients"])
    write_report(tmp_path / "report.html", **example.arguments(), figures=tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"groups.csv", "groups.tex"}
