"""The answer for one pair of models, by a rule that is fixed before anything is compared."""

import math
from collections.abc import Mapping
from typing import Any, Final

from equivox.definitions import METRICS
from equivox.metrics.fairness.verdict import ANSWERS
from equivox.metrics.statistics.paired import PairedPower
from equivox.pipelines.comparison.options import CompareOptions
from equivox.reports.numbers import decimals, interval, number, p_value, signed

RULE: Final = (
    "1. Cannot say: fewer than {minimum} patients have a score from both models, or each patient has the same score "
    "from both. "
    "2. Evidence that one model is better: the adjusted p-value of the pair is below {level}. "
    "3. A difference larger than {margin} is ruled out: the interval of the mean paired difference lies inside "
    "±{margin}. "
    "4. Cannot say: the smallest difference that the test could have seen is above {twice}. "
    "5. Otherwise: no evidence of a difference, given with that smallest difference. "
    "The first that holds is the answer."
)
"""The rule in words, in its order."""


def pair_verdict(test: Mapping[str, Any], power: PairedPower | None, options: CompareOptions) -> dict[str, Any]:
    """Answer whether the second model of a pair differs from the first in the primary endpoint, see `RULE`.

    Args:
        test: The row of the pair's primary endpoint, as `pair_tests` gives it.
        power: What the test could have seen; None with too few patients.
        options: Margin, level, smallest number of patients.

    Returns:
        `answer` (one of four), `words`, `sentence`, `better` (the model of which there is evidence, else None),
        `detectable_difference` and `patients_needed` (None unless the answer turns on it).
    """
    first, second = f"'{test['first']}'", f"'{test['second']}'"
    detectable = None if power is None else power.detectable
    if power is None or test["p_adjusted"] is None:
        n = test["patients"]
        have = f"only {n:,} patient{'' if n == 1 else 's'} {'has' if n == 1 else 'have'}" if n else "no patient has"
        sentence = (
            f"{have[:1].upper()}{have[1:]} a score from both models; an interval and a test take at least "
            f"{options.minimum_patients}."
        )
        return _answer("cannot_say", ANSWERS["cannot_say"], sentence, detectable, options.minimum_patients)
    if test["low"] is not None and test["low"] == test["high"] == 0:
        sentence = (
            f"{first} and {second} have the same score in every patient, so how much their difference varies cannot be "
            "estimated; check that they are not the predictions of one model twice."
        )
        return _answer("cannot_say", ANSWERS["cannot_say"], sentence, None, None)
    better = is_better(test)
    observed = _observed(test)
    margin = f"{options.margin:g}"
    if test["p_adjusted"] < options.level - 1e-12 and better is not None:
        words = f"Evidence that {second} is {'better' if better else 'worse'} than {first}"
        ahead = f"It is the better one in {test['second_better']:,} of {test['patients']:,} patients."
        answer = _answer("difference", words, f"{observed} {ahead}", detectable, None)
        return answer | {"better": test["second"] if better else test["first"]}
    if test["low"] is not None and max(-test["low"], test["high"]) < options.margin:
        # With two digits the end of such an interval may read like the margin itself.
        sentence = f"{_observed(test, 3)} The whole interval lies inside ±{margin}; a smaller difference may be there."
        return _answer("ruled_out", ANSWERS["ruled_out"].format(margin=margin), sentence, detectable, None)
    seen = "no difference, however large, could" if math.isinf(power.detectable) else None
    if power.detectable > 2 * options.margin:
        least = seen or f"only differences of {_amount(power.detectable)} or more could"
        sentence = (
            f"{observed} With {test['patients']:,} patients {least} have been seen; to see one of "
            f"{2 * options.margin:g} takes about {power.patients_needed:,}."
        )
        return _answer("cannot_say", ANSWERS["cannot_say"], sentence, detectable, power.patients_needed)
    sentence = f"{observed} The smallest difference that could have been seen is {_amount(power.detectable)}."
    return _answer("no_evidence", ANSWERS["no_evidence"], sentence, detectable, None)


def is_better(test: Mapping[str, Any]) -> bool | None:
    """Tell whether the second model is the better one by the mean difference; None where neither is."""
    difference = test["difference"]
    if not difference:
        return None
    return bool(difference > 0) == (METRICS[test["metric"]].better == "high")


def _answer(answer: str, words: str, sentence: str, detectable: float | None, needed: int | None) -> dict[str, Any]:
    return {
        "answer": answer,
        "words": words,
        "sentence": sentence,
        "better": None,
        "detectable_difference": detectable,
        "patients_needed": needed,
    }


def _amount(value: float) -> str:
    return number(value, 3 if value < 0.0995 else 2)


def _observed(test: Mapping[str, Any], least_places: int = 0) -> str:
    """Say what was found, with its interval and p-value."""
    metric = METRICS[test["metric"]]
    ends = test["low"], test["high"]
    places = max(decimals(metric.kind, test["difference"], *ends), least_places)
    size = number(abs(test["difference"]), places)
    way = "higher" if test["difference"] >= 0 else "lower"
    amount = f"{size} {way}" if any(digit in size for digit in "123456789") else signed(0.0, places) + " apart"
    link = "than" if way in amount else "from"
    told = (
        f"{interval(*ends, places, sign=True)}, {100 * test['confidence']:.3g} % interval; "
        if ends[0] is not None
        else ""
    )
    adjusted = "adjusted p" if test["family_size"] > 1 else "p"
    p = p_value(test["p_adjusted"])
    p_text = f"{adjusted} {p}" if p.startswith("<") else f"{adjusted} = {p}"
    return f"'{test['second']}' scores {amount} in mean {metric.label} {link} '{test['first']}' ({told}{p_text})."
