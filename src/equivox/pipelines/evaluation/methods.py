"""What the report says about how its numbers were made."""

from collections.abc import Mapping, Sequence
from typing import Any

from equivox.definitions import METRICS
from equivox.metrics.fairness.verdict import RULE
from equivox.metrics.masks.empty import EMPTY_POLICIES
from equivox.metrics.masks.surface import HD95_CONVENTIONS
from equivox.pipelines.evaluation.options import EvaluateOptions

_REFERENCES = (
    "Efron B, Tibshirani R. An Introduction to the Bootstrap. 1993. (bootstrap-t and percentile intervals)",
    "Wilson EB. Probable inference, the law of succession, and statistical inference. J Am Stat Assoc 1927.",
    "Westfall PH, Young SS. Resampling-Based Multiple Testing. 1993. (adjustment by the maximum statistic)",
    "Janssen A. Studentized permutation tests for non-i.i.d. hypotheses. Stat Probab Lett 1997.",
    "Tian Y et al. FairSeg. ICLR 2024, arXiv:2311.02189. (equity-scaled scores)",
    "Nikolov S et al. Clinically applicable segmentation of head and neck anatomy. J Med Internet Res 2021. (NSD)",
)


def describe_methods(
    options: EvaluateOptions, units: Mapping[str, str], tables: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> dict[str, Any]:
    """Return the methods in words, with the settings filled in.

    Args:
        options: The settings.
        units: Score -> unit.
        tables: The tables, for their roles.
        notes: What else the reader should know of this evaluation.
    """
    level = f"{100 * options.confidence:g} %"
    rule = RULE.format(
        level=f"{1 - options.confidence:.2g}",
        minimum=options.minimum_group,
        margin=f"{options.margin:g}",
        twice=f"{2 * options.margin:g}",
    )
    return {
        "unit": (
            "The patient is the unit of every statistic. A patient's value is the mean over the patient's cases of the "
            "mean over each case's classes, where defined; this nesting was fixed before anything was scored."
        ),
        "rule": rule,
        "empty_masks": EMPTY_POLICIES[options.empty],
        "missing_predictions": (
            "A case without a prediction that should have one is a failure: 0 in Dice, IoU, NSD and every other "
            "fraction, and the diagonal of the image in each distance (unless distances of empty masks are left out)."
        ),
        "tolerance": f"NSD: share of both surfaces within {options.tolerance:g} {units['hd95']} of one another.",
        "hd95": (
            f"Distances, convention '{options.hd95}': {HD95_CONVENTIONS[options.hd95]} Source of HD95: "
            f"{METRICS['hd95'].reference}. Distances are led by their median, as penalties dominate a mean."
        ),
        "intervals": (
            f"Means: {level} bootstrap-t interval, patients resampled {options.bootstrap_draws} times. Medians and "
            f"worst deciles: percentile bootstrap. Shares: Wilson. None with fewer than {options.minimum_group} "
            "patients. The overall mean is resampled without strata: its interval is about a new sample of such "
            "patients, whose groups are as random as the patients themselves."
        ),
        "contrasts": (
            "Each group against the rest, all declared attributes as one family: patients are permuted "
            f"{options.permutation_draws} times, and each Welch statistic is compared with the largest of the family, "
            f"p = (1 + b) / (1 + B). The simultaneous {level} intervals are the difference ± q standard errors, with q "
            "from the same distribution."
        ),
        "detectable_gap": (
            "The smallest gap we could have seen: the shift that the same test finds with 80 % power at these group "
            "sizes, in samples drawn from each group's own centred residuals. The observed difference plays no part."
        ),
        "simulated": _simulated(tables, level),
        "spread": (
            "Gap, ratio and equity-scaled scores (ES = mean / (1 + sum or standard deviation of the group means' "
            "distances)) stand beside their mean under permutation and the excess over it. They have no interval: one "
            "read against 0 never covers 0. Equity-scaled scores fall as groups are added, so attributes cannot be "
            "ranked by them."
        ),
        "scope": (
            "Intervals hold for these trained models and for patients like these; training again, or another hospital, "
            "adds variation that is not in them. A failure that no patient here shows cannot be in an interval of a "
            "mean: see the upper end of the failure rate."
        ),
        "exploratory": "Everything but the verdicts of the first table is exploratory.",
        "chosen": "Nothing was chosen on the scored cases by this evaluation: no threshold, no checkpoint.",
        "roles": {str(table["role"]): _ROLE_WORDS[str(table["role"])] for table in tables},
        "notes": list(notes),
        "references": list(_REFERENCES),
    }


def _simulated(tables: Sequence[Mapping[str, Any]], level: str) -> str:
    found = tables[0]["simulated"]
    sentences = []
    if found["coverage"] is not None:
        sentences.append(
            f"The {level} interval of the overall mean covered it in {found['coverage']:.1%} of {found['repeats']} "
            "samples of as many patients, drawn from these."
        )
    if found["size"] is not None:
        sentences.append(
            f"The test of all contrasts found a difference in {found['size']:.1%} of {found['repeats']} simulated "
            "tables with these groups and none to find."
        )
    return " ".join(sentences) or "Not simulated: too few patients for an interval, or so many that theory holds."


_ROLE_WORDS = {
    "test": "Held-out test cases, on which no network was trained.",
    "out_of_fold": "Each case as predicted by the one network that was not trained on it.",
    "all": (
        "All cases with a reference. Whether the model was trained on any of them is not known to this evaluation; the "
        "numbers flatter it if so."
    ),
}
