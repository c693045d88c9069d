"""The four answers, in the order of their rule."""

import re
from dataclasses import replace

import pytest

from equivox.metrics.fairness.verdict import ANSWERS, RULE, verdict
from equivox.metrics.statistics.contrast_design import Untested
from equivox.metrics.statistics.permutation import Contrast


def contrast(group: str, difference: float, half: float, p: float, gap: float, patients: int = 40) -> Contrast:
    return Contrast("sex", group, patients, 80 - patients, difference, difference - half, difference + half, p, gap)


def answer(*contrasts: Contrast, sizes: dict[str, int] | None = None) -> tuple[str, str]:
    sizes = sizes or {one.group: one.patients for one in contrasts}
    found = verdict("sex", sizes, contrasts, lambda _group: 123)
    return found.answer, found.sentence


def test_evidence_of_a_difference_names_the_group_that_scores_lower() -> None:
    kind, sentence = answer(contrast("F", -0.12, 0.06, 0.003, 0.08), contrast("M", 0.12, 0.06, 0.003, 0.08))
    assert kind == "difference"
    assert sentence == (
        "Evidence of a difference: 'F' scores 0.12 lower in mean Dice than the rest "
        "(simultaneous 95 % interval −0.18 to −0.06, adjusted p = .003)."
    )


def test_a_group_that_scores_higher_is_named_where_none_scores_lower() -> None:
    kind, sentence = answer(contrast("a", 0.12, 0.06, 0.003, 0.08), contrast("b", -0.05, 0.06, 0.2, 0.08, 30))
    assert kind == "difference"
    assert "'a' scores 0.12 higher" in sentence


def test_evidence_comes_before_a_small_group_which_is_still_named() -> None:
    kind, sentence = answer(contrast("F", -0.12, 0.06, 0.0004, 0.08), sizes={"F": 40, "M": 38, "X": 2})
    assert kind == "difference"
    assert "adjusted p < .001" in sentence
    assert "Not judged, with fewer than 10 patients: 'X' (2)." in sentence


def test_a_level_of_exactly_five_percent_is_no_evidence() -> None:
    assert answer(contrast("F", -0.05, 0.05, 0.05, 0.08), contrast("M", 0.05, 0.05, 0.05, 0.08))[0] == "no_evidence"


def test_ruled_out_needs_every_interval_inside_the_margin() -> None:
    kind, sentence = answer(contrast("F", 0.01, 0.03, 0.6, 0.05), contrast("M", -0.01, 0.03, 0.6, 0.05))
    assert kind == "ruled_out"
    assert sentence.startswith("A difference larger than 0.05 is ruled out: every group's difference to the rest")
    touching = answer(contrast("F", 0.02, 0.03, 0.6, 0.05), contrast("M", -0.02, 0.03, 0.6, 0.05))
    assert touching[0] == "no_evidence"


def test_nothing_is_ruled_out_while_a_group_is_too_small() -> None:
    kind, sentence = answer(
        contrast("F", 0.01, 0.03, 0.6, 0.05), contrast("M", -0.01, 0.03, 0.6, 0.05), sizes={"F": 40, "M": 38, "X": 9}
    )
    assert kind == "cannot_say"
    assert "fewer than 10 patients in 'X' (9)" in sentence
    assert "about 123 patients of 'X' would be needed" in sentence
    assert "Among the groups that are large enough there is no evidence of a difference" in sentence


def test_no_evidence_tells_the_smallest_gap_that_could_have_been_seen() -> None:
    found = verdict(
        "sex",
        {"F": 40, "M": 40},
        [contrast("F", -0.03, 0.07, 0.4, 0.08), contrast("M", 0.03, 0.07, 0.4, 0.09)],
        lambda _group: 0,
    )
    assert found.answer == "no_evidence"
    assert found.group == "F"
    assert found.detectable_gap == 0.09
    assert "The smallest gap we could have seen is 0.09" in found.sentence
    assert found.patients_needed is None


def test_cannot_say_when_only_gaps_above_twice_the_margin_could_have_been_seen() -> None:
    found = verdict(
        "sex",
        {"F": 12, "M": 68},
        [contrast("F", -0.03, 0.12, 0.8, 0.14, 12), contrast("M", 0.03, 0.12, 0.8, 0.10, 68)],
        {"F": 47, "M": 1}.__getitem__,
    )
    assert found.answer == "cannot_say"
    assert found.patients_needed == 47
    assert "0.14 ('F', 12 patients), more than 0.1" in found.sentence
    # Exactly twice the margin can still be said something about.
    assert answer(contrast("F", -0.03, 0.09, 0.8, 0.10), contrast("M", 0.03, 0.09, 0.8, 0.10))[0] == "no_evidence"


def test_a_narrow_interval_gives_the_gap_a_third_digit() -> None:
    _, sentence = answer(contrast("F", 0.05, 0.008, 0.6, 0.0061), contrast("M", -0.05, 0.008, 0.6, 0.0064))
    assert "The smallest gap we could have seen is 0.006" in sentence


def test_of_many_small_groups_the_first_are_named() -> None:
    found = verdict("site", {f"s{index}": 1 for index in range(30)}, [], lambda _group: 50)
    assert "fewer than 10 patients in 's0' (1), " in found.sentence
    assert "'s7' (1) and 22 more groups. To see" in found.sentence
    assert "'s8'" not in found.sentence


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({}, "no patient has both a known group and a score"),
        ({"F": 30}, "only one group has patients with a score"),
        ({"F": 4, "M": 5}, "'F' (4), 'M' (5)"),
    ],
)
def test_cannot_say_without_two_groups_of_ten(sizes: dict[str, int], words: str) -> None:
    found = verdict("sex", sizes, [], lambda _group: 50)
    assert found.answer == "cannot_say"
    assert words in found.sentence
    assert found.difference is None


def test_where_nobody_can_tell_how_many_are_needed_the_least_is_said() -> None:
    found = verdict("sex", {"F": 1, "M": 1}, [], lambda _group: None)
    assert found.patients_needed is None
    assert found.sentence == (
        "Cannot say: fewer than 10 patients in 'F' (1), 'M' (1). At least 10 patients of each group are needed; so few "
        "patients do not tell how many it takes to see a gap of 0.1."
    )


def test_where_every_patient_scores_alike_nothing_is_ruled_out() -> None:
    # All perfect: the difference is 0 with an interval of no width, and the gap is 0.
    even = [contrast("F", 0.0, 0.0, 1.0, 0.0), contrast("M", 0.0, 0.0, 1.0, 0.0)]
    found = verdict("sex", {"F": 40, "M": 40}, even, lambda _group: 10)
    assert (found.answer, found.low, found.high, found.detectable_gap) == ("cannot_say", None, None, None)
    assert found.sentence == (
        "Cannot say: every patient has the same score, so how much patients vary, and with it how small a gap could "
        "have been seen, cannot be estimated. No difference was observed. To see a gap of 0.1, cases on which the "
        "model does not always score the same are needed."
    )
    _, within = answer(*(replace(one, within="site") for one in even))
    assert "every patient of one 'site' has the same score" in within
    # A small group comes first, and of the others no gap of 0 is claimed.
    _, small = answer(*even, sizes={"F": 40, "M": 40, "X": 2})
    assert "fewer than 10 patients in 'X' (2)" in small
    assert "could have seen" not in small
    # Some variation in one contrast is enough, and so is a difference between two constant groups.
    assert answer(even[0], contrast("M", 0.0, 0.01, 0.9, 0.02))[0] == "ruled_out"
    assert answer(contrast("F", 0.1, 0.0, 0.001, 0.0), contrast("M", -0.1, 0.0, 0.001, 0.0))[0] == "difference"


def test_no_answer_claims_what_cannot_be_known() -> None:
    words = " ".join([*ANSWERS.values(), RULE])
    assert not re.search(r"\b(un)?(fair|biased|safe)\b", words, flags=re.IGNORECASE)


def within_site(group: str, difference: float, p: float) -> Contrast:
    return replace(contrast(group, difference, 0.06, p, 0.08), raw_difference=difference - 0.05, within="site")


def test_contrasts_within_sites_are_said_to_be_so_with_the_raw_difference_beside() -> None:
    _, sentence = answer(within_site("F", -0.12, 0.003), within_site("M", 0.12, 0.003))
    assert "lower in mean Dice than the rest of the same 'site' (" in sentence
    assert "Over all patients, whatever their 'site', the difference is −0.17." in sentence
    _, sentence = answer(within_site("F", -0.02, 0.4), within_site("M", 0.02, 0.4))
    assert "than the rest of the same 'site'" in sentence
    assert "the difference is −0.07." in sentence


def test_a_group_alone_in_its_sites_cannot_be_judged_and_the_reason_is_given() -> None:
    alone = Untested("sex", "X", 14, 3, 20, "site")
    sizes = {"F": 40, "M": 40, "X": 14}
    none_found = [contrast("F", 0.01, 0.03, 0.6, 0.05), contrast("M", -0.01, 0.03, 0.6, 0.05)]
    found = verdict("sex", sizes, none_found, lambda _group: 123, untested=[alone])
    assert (found.answer, found.group, found.patients_needed) == ("cannot_say", "X", None)
    assert found.sentence.startswith(
        "Cannot say: patients are compared within one 'site', and that joins 3 of the 14 of 'X' with 20 of other groups"
        "; at least 10 on each side are needed. Among the groups that are mixed enough there is no evidence"
    )
    evidence = verdict("sex", sizes, [contrast("F", -0.12, 0.06, 0.003, 0.08)], lambda _group: 1, untested=[alone])
    assert evidence.answer == "difference"
    assert evidence.sentence.endswith("joins 3 of the 14 of 'X' with 20 of other groups.")
    small = verdict("sex", sizes | {"Y": 2}, none_found, lambda _group: None, untested=[alone])
    assert "fewer than 10 patients in 'Y' (2)" in small.sentence
    assert "Not compared either: patients are compared within one 'site'" in small.sentence
