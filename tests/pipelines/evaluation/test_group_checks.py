"""Tables of groups that do not hold what they are declared to hold."""

import logging
from pathlib import Path
from typing import Any

import pytest

from equivox.datasets.cohort import AttributeConfig
from equivox.errors import InputError
from equivox.pipelines.evaluation.group_checks import (
    CaseValues,
    check_values,
    refuse_contradictions,
    single_groups,
    unknown_values,
    unmatched_ids,
)
from equivox.pipelines.evaluation.sources import ScoredCase, grouped_by_patient_mean, numbers_of

PEOPLE = Path("people.csv")
AGE = AttributeConfig(kind="continuous", bins=(40.0, 65.0))


def cases(values: list[str | None], *, visits: int = 1) -> list[CaseValues]:
    """One case after another, `visits` of them a patient."""
    return [CaseValues(f"c{place}", f"p{place // visits}", {"x": value}) for place, value in enumerate(values)]


def check(
    values: list[str | None], config: AttributeConfig | None = None, kind: Any = "groups", **how: Any
) -> tuple[str, ...]:
    return check_values(cases(values, **how), {"x": config or AttributeConfig()}, PEOPLE, kind)


def refusal(values: list[str | None], config: AttributeConfig | None = None, kind: Any = "groups", **how: Any) -> str:
    with pytest.raises(InputError) as raised:
        check(values, config, kind, **how)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_free_text_is_refused_with_short_examples() -> None:
    notes: list[str | None] = [f"lives alone, seen by doctor number {place}" for place in range(30)]
    message = refusal(notes)
    assert message.startswith(
        "people.csv: column 'x': expected groups of patients, got 30 different texts of 30 patients, such as "
        "'lives alone, seen by...', 'lives alone"
    )
    assert message.endswith("choose another column with --attribute, or write one of a few words into each cell")
    assert "out of the attributes in cohort.yaml" in refusal(notes, kind="cohort")


def test_a_column_of_many_numbers_is_sent_to_continuous() -> None:
    message = refusal([f"{30 + 0.5 * place:g}" for place in range(30)])
    assert "got 30 different numbers of 30 patients, such as '30', '30.5', '31'" in message
    assert message.endswith("give it as --continuous x=<edges>, or choose another column")
    assert "declare it in cohort.yaml as {kind: continuous" in refusal(
        [str(place) for place in range(30)], kind="cohort"
    )


def test_many_groups_of_several_patients_each_are_groups() -> None:
    check([f"hospital {place % 25}" for place in range(75)])
    # 20 values of a patient each are few enough to be read.
    check([f"hospital {place}" for place in range(20)])
    assert "21 different texts" in refusal([f"hospital {place}" for place in range(21)])


def test_a_value_is_the_patients_own_however_many_visits_have_it() -> None:
    texts: list[str | None] = [f"text {place // 2}" for place in range(60)]
    assert "30 different texts of 30 patients" in refusal(texts, visits=2)


def test_a_few_words_among_numbers_are_named_with_their_cases() -> None:
    values: list[str | None] = ["1", "2", None, "3"] * 10
    values[4], values[8], values[20] = "two", "n.k.", "two"
    message = refusal(values)
    assert message.startswith(
        "people.csv: column 'x': expected either numbers or words, got 'two' (c4, c20), 'n.k.' (c8) among 27 numbers; "
    )
    assert "give the codes names in cohort.yaml" in refusal(values, kind="cohort")


def test_measurements_with_some_words_among_them_are_sent_to_continuous() -> None:
    # 19 of 24 are numbers, each of one patient: 79 %.
    ages: list[str | None] = [*(f"{30 + 2 * place}" for place in range(19)), *["about 40"] * 5]
    assert refusal(ages) == (
        "people.csv: column 'x': expected either numbers or words, got 'about 40' (c19, c20, c21 and 2 more) among 19 "
        "numbers; mend the cells or leave them empty where the value is unknown; then give the numbers as "
        "--continuous x=<edges>"
    )
    assert refusal(ages, kind="cohort").endswith("in cohort.yaml as {kind: continuous, bins: [...]}")
    # A word in one cell alone gets the same hint.
    assert refusal(ages[:20]).endswith("then give the numbers as --continuous x=<edges>")
    # Half are words; grades of several patients each; and four numbers are too few to tell.
    check([*ages[:19], *["about 40"] * 19])
    check([*("1", "2", "3", "4", "5") * 3, *["unclear"] * 5])
    check(["1", "2", "3", "4", "none", "none"])


def test_codes_and_named_numbers_are_groups_of_words() -> None:
    # Institutions such as 02 and CS; and codes that have names, a word among them.
    check(["02", "06", "08", "CS", "09"] * 4)
    check(["1", "2", "2", "2", "2", "other"] * 4, AttributeConfig(names={"1": "female", "2": "male"}))
    # As many words as numbers: grades, not slips.
    check(["1", "2", "benign", "unclear"] * 5)


def test_words_of_a_continuous_attribute_are_all_named() -> None:
    message = refusal(["50", "old", "61", "inf", None, "old", "old", "old"], AGE)
    assert message == (
        "people.csv: column 'x': expected a number in each cell, got 'old' (c1, c5, c6 and 1 more), 'inf' (c3); mend "
        "the cells, or leave them empty where the value is unknown"
    )
    check(["50", None, "61.5"], AGE)


def test_groups_that_are_spelled_almost_alike_are_told_and_not_merged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        notes = check(["F", "f", "F", "M", "de  novo", "De novo", None])
    assert notes == (
        "'x' is written 'F' (2) and 'f' (1), which are counted as 2 groups: write them alike where they are one.",
        "'x' is written 'De novo' (1) and 'de  novo' (1), which are counted as 2 groups: write them alike where they "
        "are one.",
    )
    assert caplog.messages == list(notes)
    assert check(["1", "1.0", "2", "1"]) == (
        "'x' is written '1' (2) and '1.0' (1), which are counted as 2 groups: write them alike where they are one.",
    )
    # Two codes of one name are one group, and numbers of a continuous attribute make no groups of their own.
    assert check(["1", "2", "m"], AttributeConfig(names={"1": "m", "2": "w"})) == ()
    assert check(["50", "50.0"], AGE) == ()


@pytest.mark.parametrize("cell", ["=1+1", "@a"])
def test_a_group_that_a_spreadsheet_would_run_is_refused(cell: str) -> None:
    assert refusal(["a", "b", cell]) == (
        f"people.csv: expected a group of 'x' that a spreadsheet reads as text, got '{cell}', which it would run as a "
        "formula; rename it"
    )
    for ids in ({"case_id": cell, "patient_id": "p"}, {"case_id": "c", "patient_id": cell}):
        with pytest.raises(InputError, match=r"expected an id of a (case|patient) that"):
            check_values([CaseValues(**ids, values={})], {}, PEOPLE, "groups")


def test_signs_are_groups_and_those_that_look_like_formulas_are_told() -> None:
    assert check(["+", "-", "-1", "+2.5"] * 3, AttributeConfig(names={"-1": "a", "+2.5": "b"})) == ()
    assert check(["+ve", "-ve", "-ve"]) == (
        "'x' has '+ve', '-ve', which a spreadsheet takes for a formula: open the tables there as text.",
    )


def test_what_was_read_as_unknown_is_told_with_the_remedy(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        notes = unknown_values({"sex": {"?": 1}, "site": {"NA": 2, "None": 1}}, PEOPLE, "cohort")
    assert notes == (
        "1 cell of 'sex' in people.csv is read as unknown: '?' (1); where one of them is a group, give it a name in "
        "cohort.yaml.",
        "3 cells of 'site' in people.csv are read as unknown: 'NA' (2), 'None' (1); where one of them is a group, give "
        "it a name in cohort.yaml.",
    )
    assert caplog.messages == list(notes)


def test_ids_with_a_suffix_too_much_are_told() -> None:
    (lonely, rows) = unmatched_ids(PEOPLE, ["a", "b.nii.gz"], ["a", "b"], excluded=True)
    assert lonely == "1 of 2 masks has no row in people.csv and is excluded, as its patient is unknown: b."
    assert rows == (
        "1 of 2 rows of people.csv has no mask: b.nii.gz; these ids seem to have the suffix of files, '.nii.gz': take "
        "it off."
    )


def test_ids_on_one_side_alone_are_named_for_each_side(caplog: pytest.LogCaptureFixture) -> None:
    masks, rows = [f"m{place}" for place in range(8)], ["m0", "x1", "x2"]
    with caplog.at_level(logging.WARNING):
        notes = unmatched_ids(PEOPLE, rows, masks, excluded=False)
    assert notes == (
        "7 of 8 masks have no row in people.csv and are of unknown group: m1, m2, m3, m4, m5 and 2 more.",
        "2 of 3 rows of people.csv have no mask: x1, x2.",
    )
    assert [record.getMessage() for record in caplog.records] == list(notes)
    assert "are excluded, as their patients are unknown" in unmatched_ids(PEOPLE, rows, masks, excluded=True)[0]
    assert unmatched_ids(PEOPLE, masks, masks, excluded=True) == ()


def test_a_column_of_one_value_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    groups: list[dict[str, str | None]] = [{"sex": "F", "site": "A", "race": None}, {"sex": "F", "site": "B"}]
    with caplog.at_level(logging.WARNING):
        notes = single_groups(groups, ["sex", "site", "race"])
    assert notes == (
        "'sex' is 'F' wherever it is known: there are no groups of it to compare.",
        "'race' is not known for any case: there are no groups of it to compare.",
    )
    assert len(caplog.records) == 2


def test_contradictions_name_five_patients_and_their_groups() -> None:
    patients = [f"p{place // 2}" for place in range(14)]
    sexes: list[str | None] = ["F", "M"] * 7
    with pytest.raises(InputError) as raised:
        refuse_contradictions(patients, {"site": ["A"] * 14, "sex": sexes}, PEOPLE)
    assert str(raised.value).startswith(
        "people.csv: column 'sex': expected one group for each patient, got 'F' and 'M' for p0, 'F' and 'M' for p1, "
        "'F' and 'M' for p2, 'F' and 'M' for p3, 'F' and 'M' for p4 and 2 more; mend the rows, or add --allow-partial"
    )
    # What is unknown contradicts nothing.
    refuse_contradictions(patients, {"sex": ["F", None] * 7}, PEOPLE)


def test_a_patient_is_in_the_group_of_the_mean_of_the_visits() -> None:
    def case(name: str, patient: str, age: str | None) -> ScoredCase:
        values = {"age": age, "sex": "F"}
        groups = {"age": AGE.group_of(age), "sex": "F"}
        return ScoredCase(name, patient, "all", Path(), None, None, groups, numbers_of({"age": AGE}, values))

    found = grouped_by_patient_mean(
        [case("a1", "a", "64"), case("a2", "a", "67"), case("a3", "a", None), case("b", "b", None)],
        {"age": AGE, "sex": AttributeConfig()},
    )
    # The mean of 64 and 67 is 65.5.
    assert [one.groups["age"] for one in found] == [">=65", ">=65", ">=65", None]
    assert [one.numbers["age"] for one in found] == [64.0, 67.0, None, None]
    assert {one.groups["sex"] for one in found} == {"F"}
