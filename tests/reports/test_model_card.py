import re

from equivox.definitions import METRICS
from equivox.reports.model_card import model_card


def test_every_group_has_a_row_with_the_numbers_of_the_summary(make) -> None:
    example = make()
    text = model_card(example.summary)
    table = example.summary["tables"][0]
    for attribute in table["attributes"]:
        part = text.partition(f"### By {attribute['name']}")[2].partition("\n#")[0]
        rows = [line for line in part.splitlines() if line.startswith("|")][2:]
        assert len(rows) == len(attribute["groups"])
        for row, group in zip(rows, attribute["groups"], strict=True):
            cells = [cell.strip() for cell in row.strip("|").split(" | ")]
            assert cells[1] == f"{group['patients']:,}"
            assert float(cells[2].split()[0]) == round(group["mean"], len(cells[2].split()[0].partition(".")[2]))


def test_the_worst_decile_of_a_signed_error_is_told_to_be_that_of_its_size(make) -> None:
    text = model_card(make().summary)
    (row,) = [line for line in text.splitlines() if line.startswith("| Volume error")]
    assert row.count("| ±") == 1
    assert "±: the worst decile of a signed error is that of its size" in text


def test_a_small_group_has_no_interval(make) -> None:
    text = model_card(make().summary)
    (row,) = [line for line in text.splitlines() if line.startswith("| Delft")]
    assert "(" not in row


def test_what_comes_from_files_is_neither_markup_nor_a_new_line(make) -> None:
    example = make(name="<script>|*bold*\n# head [x](y)")
    text = model_card(example.summary)
    assert "<script>" not in text
    assert "\n# head" not in text
    assert r"&lt;script&gt;\|\*bold\* # head \[x\](y)" in text


def test_every_metric_stands_with_its_definition_and_version(make) -> None:
    example = make()
    text = model_card(example.summary)
    for key in example.summary["tables"][0]["overall"]:
        assert f"Definition `{key}/{METRICS[key].version}`." in text


def test_tables_have_as_many_cells_in_each_row(make) -> None:
    widths: list[int] = []
    for line in model_card(make().summary).splitlines():
        if line.startswith("|"):
            widths.append(len(re.findall(r"(?<!\\)\|", line)))
        else:
            assert len(set(widths)) <= 1
            widths = []
