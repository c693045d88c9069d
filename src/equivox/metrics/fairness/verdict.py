"""The answer for one attribute, by a rule that is fixed before anything is scored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS
from equivox.metrics.statistics.contrast_design import Untested
from equivox.metrics.statistics.permutation import Contrast

Answer = Literal["difference", "ruled_out", "no_evidence", "cannot_say"]

ANSWERS: Final[dict[Answer, str]] = {
    "difference": "Evidence of a difference",
    "ruled_out": "A difference larger than {margin} is ruled out",
    "no_evidence": "No evidence of a difference",
    "cannot_say": "Cannot say",
}
"""The words of each answer."""

RULE: Final = (
    "1. Evidence of a difference: the adjusted p-value of a group against the rest is below {level}. "
    "2. Cannot say: a group has fewer than {minimum} patients{shared}, there are not two groups, or every patient has "
    "the same score. "
    "3. A difference larger than {margin} is ruled out: the simultaneous interval of every group lies inside "
    "±{margin}. "
    "4. Cannot say: the smallest gap that the test could have seen is above {twice} for a group. "
    "5. Otherwise: no evidence of a difference, given with that smallest gap. The first that holds is the answer."
)
"""The rule in words, in its order; `RULE_SHARED` fills ``shared`` where patients are compared within sites, say."""

RULE_SHARED: Final = " (or too few of them share a {within} with {minimum} of other groups)"

# What rounding leaves of a difference or of a width of exactly zero.
_SAME: Final = 1e-12

# A sentence that named dozens of small groups would not be read; the table has them all.
_MOST_NAMED: Final = 8


@dataclass(frozen=True)
class Verdict:
    """The answer for one attribute.

    Attributes:
        attribute: The attribute.
        answer: One of four; `ANSWERS` has their words.
        sentence: The answer in full, for a reader.
        group: The group that the answer turns on, None where there is none.
        difference: Mean of that group minus mean of the rest, None where it was not tested; likewise the others.
        low: Lower end of the simultaneous interval.
        high: Upper end.
        p_adjusted: p-value, adjusted for all contrasts of all attributes.
        detectable_gap: The smallest gap that the test could have seen.
        patients_needed: For "cannot say": patients of the group that would be needed, the rest growing alike.
    """

    attribute: str
    answer: Answer
    sentence: str
    group: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_adjusted: float | None = None
    detectable_gap: float | None = None
    patients_needed: int | None = None


def verdict(
    attribute: str,
    sizes: Mapping[str, int],
    contrasts: Sequence[Contrast],
    needed: Callable[[str], int | None],
    *,
    untested: Sequence[Untested] = (),
    margin: float = 0.05,
    minimum: int = MINIMUM_PATIENTS,
    confidence: float = 0.95,
) -> Verdict:
    """Answer whether an attribute's groups differ, see `RULE`.

    A small group comes before "ruled out", as nothing has been ruled out for that group, and after "evidence of a
    difference", as what was found in the larger groups stands. Where every patient has the same score (all are perfect,
    say) the intervals have no width, and nothing has been ruled out either: how much scores vary cannot be estimated.

    Args:
        attribute: The attribute.
        sizes: Group -> its patients, for every group that has any.
        contrasts: Those of this attribute's groups that were tested.
        needed: Group -> patients of it that would be needed for a gap of twice the margin to be seen; None where too
            few patients are here to tell.
        untested: The groups that could not be compared within blocks; they are answered like small ones.
        margin: The difference in mean Dice that matters, delta.
        minimum: A group of fewer patients is not judged.
        confidence: One minus the level of the test.
    """
    small = {group: n for group, n in sizes.items() if n < minimum}
    found = [contrast for contrast in contrasts if contrast.p_adjusted < 1 - confidence - 1e-12]
    if found:
        return _difference(attribute, found, small, untested, confidence, minimum)
    if len(sizes) < 2:
        words = "only one group has patients with a score" if sizes else "no patient has both a known group and a score"
        return Verdict(attribute, "cannot_say", f"{ANSWERS['cannot_say']}: {words}.", next(iter(sizes), None))
    if untested and not small:
        return _too_alone(attribute, untested, contrasts, minimum)
    if small or not contrasts:
        return _too_small(attribute, small or dict(sizes), contrasts, untested, needed, margin, minimum)
    if not any(map(varies, contrasts)):
        return _too_even(contrasts[0], margin)
    widest = max(contrasts, key=lambda contrast: max(-contrast.low, contrast.high))
    if max(-widest.low, widest.high) < margin:
        sentence = (
            f"{ANSWERS['ruled_out'].format(margin=f'{margin:g}')}: every group's difference to {_rest(widest)} lies "
            f"inside ±{margin:g} ({_level(confidence)}); the widest is that of {_quoted(widest.group)}, "
            f"{_interval(widest)}."
        )
        return _answer("ruled_out", sentence, widest)
    coarsest = max(contrasts, key=lambda contrast: contrast.detectable_gap)
    if coarsest.detectable_gap > 2 * margin:
        return _too_coarse(coarsest, needed(coarsest.group), margin, minimum)
    lowest = min(contrasts, key=lambda contrast: contrast.difference)
    sentence = (
        f"{ANSWERS['no_evidence']}: {_quoted(lowest.group)} scores {_amount(lowest)} than {_rest(lowest)} "
        f"({_level(confidence)} {_interval(lowest)}, {_p(lowest.p_adjusted)}).{_raw(lowest)} The smallest gap we could "
        f"have seen is {_gap(coarsest)}; a smaller one may be there."
    )
    return _answer("no_evidence", sentence, lowest, detectable_gap=coarsest.detectable_gap)


def varies(contrast: Contrast) -> bool:
    """Tell whether there is any variation behind a contrast, so that its interval and its gap mean something."""
    return contrast.high - contrast.low > _SAME or abs(contrast.difference) > _SAME


def _too_even(contrast: Contrast, margin: float) -> Verdict:
    """Answer for an attribute whose patients all score the same, on both sides of every comparison."""
    where = "" if contrast.within is None else f" of one {_quoted(contrast.within)}"
    sentence = (
        f"{ANSWERS['cannot_say']}: every patient{where} has the same score, so how much patients vary, and with it how "
        f"small a gap could have been seen, cannot be estimated. No difference was observed. To see a gap of "
        f"{2 * margin:g}, cases on which the model does not always score the same are needed."
    )
    return Verdict(
        contrast.attribute, "cannot_say", sentence, None, contrast.difference, None, None, contrast.p_adjusted
    )


def _difference(
    attribute: str,
    found: Sequence[Contrast],
    small: Mapping[str, int],
    untested: Sequence[Untested],
    confidence: float,
    minimum: int,
) -> Verdict:
    lowest = min(found, key=lambda contrast: contrast.difference)
    chosen = lowest if lowest.difference < 0 else max(found, key=lambda contrast: contrast.difference)
    sentence = (
        f"{ANSWERS['difference']}: {_quoted(chosen.group)} scores {_amount(chosen)} in mean Dice than {_rest(chosen)} "
        f"({_level(confidence)} {_interval(chosen)}, {_p(chosen.p_adjusted)}).{_raw(chosen)}"
    )
    others = [
        f"{_quoted(contrast.group)} {_amount(contrast)}"
        for contrast in found
        if contrast is not chosen and contrast.rest_patients != chosen.patients
    ]
    if others:
        sentence += f" Also: {', '.join(others)}."
    if small:
        sentence += f" Not judged, with fewer than {minimum} patients: {_counted(small)}."
    if untested:
        sentence += f" Not judged: {_alone(untested)}."
    return _answer("difference", sentence, chosen, attribute=attribute)


def _too_small(
    attribute: str,
    small: Mapping[str, int],
    contrasts: Sequence[Contrast],
    untested: Sequence[Untested],
    needed: Callable[[str], int | None],
    margin: float,
    minimum: int,
) -> Verdict:
    smallest = min(small, key=lambda group: (small[group], group))
    enough = needed(smallest)
    if small[smallest] >= minimum:
        sentence = f"{ANSWERS['cannot_say']}: no group has {minimum} patients on both sides of the comparison."
    else:
        sentence = f"{ANSWERS['cannot_say']}: fewer than {minimum} patients in {_counted(small)}. "
        sentence += _needed(smallest, enough, margin, minimum)
    if untested:
        sentence += f" Not compared either: {_alone(untested)}."
    sentence += _others(contrasts, "large enough")
    return Verdict(attribute, "cannot_say", sentence, smallest, patients_needed=enough)


def _too_alone(attribute: str, untested: Sequence[Untested], contrasts: Sequence[Contrast], minimum: int) -> Verdict:
    """Answer for an attribute whose groups are large enough, but hardly meet in any block."""
    sentence = (
        f"{ANSWERS['cannot_say']}: {_alone(untested)}; at least {minimum} on each side are needed."
        f"{_others(contrasts, 'mixed enough')}"
    )
    first = min(untested, key=lambda group: (group.compared, group.group))
    return Verdict(attribute, "cannot_say", sentence, first.group)


def _alone(untested: Sequence[Untested]) -> str:
    within = _quoted(untested[0].within)
    named = [
        f"{group.compared} of the {group.patients} of {_quoted(group.group)} with {group.rest_compared} of other groups"
        for group in untested[:_MOST_NAMED]
    ]
    more = f", and {len(untested) - len(named)} more groups" if len(untested) > len(named) else ""
    return f"patients are compared within one {within}, and that joins {', '.join(named)}{more}"


def _others(contrasts: Sequence[Contrast], why: str) -> str:
    if not any(map(varies, contrasts)):
        return ""
    largest = max(contrasts, key=lambda contrast: contrast.detectable_gap)
    return (
        f" Among the groups that are {why} there is no evidence of a difference; the smallest gap we could have seen "
        f"is {_gap(largest)}."
    )


def _needed(group: str, enough: int | None, margin: float, minimum: int) -> str:
    if enough is None:
        return (
            f"At least {minimum} patients of each group are needed; so few patients do not tell how many it takes to "
            f"see a gap of {2 * margin:g}."
        )
    return (
        f"To see a gap of {2 * margin:g}, about {enough:,} patients of {_quoted(group)} would be needed, the rest "
        "growing alike."
    )


def _too_coarse(coarsest: Contrast, enough: int | None, margin: float, minimum: int) -> Verdict:
    sentence = (
        f"{ANSWERS['cannot_say']}: the smallest gap we could have seen is {_gap(coarsest)} "
        f"({_quoted(coarsest.group)}, {coarsest.patients:,} patients), more than {2 * margin:g}. "
    ) + _needed(coarsest.group, enough, margin, minimum)
    return _answer("cannot_say", sentence, coarsest, patients_needed=enough)


def _answer(
    answer: Answer,
    sentence: str,
    contrast: Contrast,
    *,
    attribute: str | None = None,
    detectable_gap: float | None = None,
    patients_needed: int | None = None,
) -> Verdict:
    return Verdict(
        attribute or contrast.attribute,
        answer,
        sentence,
        contrast.group,
        contrast.difference,
        contrast.low,
        contrast.high,
        contrast.p_adjusted,
        contrast.detectable_gap if detectable_gap is None else detectable_gap,
        patients_needed,
    )


def _quoted(group: str) -> str:
    return f"'{group}'"


def _counted(sizes: Mapping[str, int]) -> str:
    named = [f"{_quoted(group)} ({n})" for group, n in list(sizes.items())[:_MOST_NAMED]]
    more = f" and {len(sizes) - len(named)} more groups" if len(sizes) > len(named) else ""
    return ", ".join(named) + more


def _rest(contrast: Contrast) -> str:
    return "the rest" if contrast.within is None else f"the rest of the same {_quoted(contrast.within)}"


def _raw(contrast: Contrast) -> str:
    """Say what the difference is without blocks, which stands beside the one within them."""
    if contrast.within is None or contrast.raw_difference is None:
        return ""
    amount = _signed(contrast.raw_difference, _digits(contrast))
    return f" Over all patients, whatever their {_quoted(contrast.within)}, the difference is {amount}."


def _gap(contrast: Contrast) -> str:
    return f"{contrast.detectable_gap:.{_digits(contrast)}f}"


def _amount(contrast: Contrast) -> str:
    digits = _digits(contrast)
    direction = "lower" if contrast.difference < 0 else "higher"
    return f"{abs(contrast.difference):.{digits}f} {direction}"


def _interval(contrast: Contrast) -> str:
    digits = _digits(contrast)
    return f"{_signed(contrast.low, digits)} to {_signed(contrast.high, digits)}"


def _digits(contrast: Contrast) -> int:
    """Return the decimals that the interval supports."""
    return 3 if contrast.high - contrast.low < 0.02 else 2


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if not text.strip("+-0.") else text.replace("-", "−")


def _level(confidence: float) -> str:
    return f"simultaneous {100 * confidence:g} % interval"


def _p(p: float) -> str:
    return "adjusted p < .001" if p < 0.001 else f"adjusted p = {p:.3f}".replace("= 0.", "= .")
