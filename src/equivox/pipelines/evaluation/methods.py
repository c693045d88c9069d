"""What the report says about how its numbers were made."""

from collections.abc import Mapping, Sequence
from typing import Any

from equivox.definitions import METRICS
from equivox.metrics.fairness.verdict import RULE, RULE_SHARED
from equivox.metrics.masks.empty import EMPTY_POLICIES
from equivox.metrics.masks.surface import HD95_CONVENTIONS
from equivox.metrics.statistics.simulated import ESTIMATES, SITUATIONS, SMALLEST, Estimate, neighbours, simulated_table
from equivox.pipelines.evaluation.discovery import DISCOVERY_REFERENCES, discovery_methods
from equivox.pipelines.evaluation.fairness_tables import FAIRNESS_REFERENCES, fairness_methods
from equivox.pipelines.evaluation.options import EvaluateOptions

_REFERENCES = (
    "Efron B, Tibshirani R. An Introduction to the Bootstrap. 1993. (bootstrap-t and percentile intervals)",
    "Efron B. Better bootstrap confidence intervals. J Am Stat Assoc 1987. (BCa)",
    "Wilson EB. Probable inference, the law of succession, and statistical inference. J Am Stat Assoc 1927.",
    "Westfall PH, Young SS. Resampling-Based Multiple Testing. 1993. (adjustment by the maximum statistic)",
    "Janssen A. Studentized permutation tests for non-i.i.d. hypotheses. Stat Probab Lett 1997.",
    "MacKinnon JG, White H. Some heteroskedasticity-consistent covariance matrix estimators with improved finite "
    "sample properties. J Econom 1985. (HC2, for differences within sites)",
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
        shared=""
        if options.permute_within is None
        else RULE_SHARED.format(within=options.permute_within, minimum=options.minimum_group),
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
            f"Means: {level} {_INTERVALS[options.interval]} interval, patients resampled {options.bootstrap_draws} "
            f"times. Medians and worst deciles: percentile bootstrap. Shares: Wilson. None with fewer than "
            f"{options.minimum_group} patients. {_strata(options)}"
        ),
        "contrasts": _contrasts(options, level),
        "detectable_gap": (
            "The smallest gap we could have seen: the shift that the same test finds with 80 % power at these group "
            "sizes, in samples drawn from each group's own centred residuals. The observed difference plays no part."
        ),
        "simulated": _simulated(tables, level),
        "simulated_table": _simulated_table(tables[0], options),
        "spread": (
            "Gap, ratio and equity-scaled scores (ES = mean / (1 + sum or standard deviation of the group means' "
            "distances)) stand beside their mean under free permutation and the excess over it. They have no interval: "
            "one read against 0 never covers 0. Equity-scaled scores fall as groups are added, so attributes cannot be "
            "ranked by them."
        ),
        **fairness_methods(options, units),
        **discovery_methods(options),
        "scope": (
            "Intervals hold for these trained models and for patients like these; training again, or another hospital, "
            "adds variation that is not in them. A failure that no patient here shows cannot be in an interval of a "
            "mean: see the upper end of the failure rate."
        ),
        "exploratory": "Everything but the verdicts of the first table is exploratory.",
        "chosen": "Nothing was chosen on the scored cases by this evaluation: no threshold, no checkpoint.",
        "roles": {str(table["role"]): _ROLE_WORDS[str(table["role"])] for table in tables},
        "notes": list(notes),
        "references": [*_REFERENCES, *FAIRNESS_REFERENCES, *DISCOVERY_REFERENCES],
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


def _strata(options: EvaluateOptions) -> str:
    if options.strata is None:
        return (
            "The overall mean is resampled without strata: its interval is about a new sample of such patients, whose "
            "groups are as random as the patients themselves."
        )
    return (
        f"The overall mean is resampled within the groups of '{options.strata}' (patients of unknown group are one): "
        "its interval is about a new sample with as many patients of each group, and is too narrow where their numbers "
        "are chance."
    )


def _contrasts(options: EvaluateOptions, level: str) -> str:
    within = options.permute_within
    draws = f"patients are permuted {options.permutation_draws} times"
    family = "Each group against the rest, all declared attributes as one family: "
    compared = "compared with the largest of the family, p = (1 + b) / (1 + B). "
    ends = f"The simultaneous {level} intervals are the difference ± q standard errors, q from the same distribution."
    if within is None:
        return f"{family}{draws}, and each Welch statistic is {compared}{ends}"
    return (
        f"{family}{draws} within the groups of '{within}' alone (those of unknown '{within}' among themselves). The "
        f"difference of a contrast is the mean of the differences within each '{within}', weighted by n_group × n_rest "
        f"/ n; a '{within}' without patients on both sides adds nothing. Its standard error is that of the regression "
        f"on group and '{within}' for unequal variances (HC2); with a single '{within}' it is Welch's. Each statistic "
        f"is {compared}{ends} They are about the difference within a '{within}'; the difference over all patients "
        f"stands beside it. The groups of '{within}' cannot be compared within themselves: they are tested in the same "
        "family with Welch's statistic and free permutations, drawn independently of the others."
    )


def _simulated_table(table: Mapping[str, Any], options: EvaluateOptions) -> dict[str, Any]:
    """Return the rows of the shipped simulations that lie next to these numbers of patients."""
    shipped = simulated_table()
    sizes = {int(table["patients"])}
    tested: set[int] = set()
    for attribute in table["attributes"]:
        sizes |= {int(group["patients"]) for group in attribute["groups"]}
        tested |= {min(int(one["patients"]), int(one["rest_patients"])) for one in attribute["contrasts"]}
    near, smallest = neighbours(sizes), neighbours(tested, SMALLEST)
    chosen: tuple[Estimate, ...] = (options.interval, "percentile", "median", "worst_decile")
    made = shipped.made
    return {
        "about": (
            "A patient's Dice is Beta(9, 1.5), or 0 for the share that is missed; 95 % intervals and tests at the 5 % "
            f"level, simulated once for this software with {made['coverage_repeats']:,} samples a row (intervals) or "
            f"{made['repeats']:,} (tests). Shown are the rows next to the numbers of patients here. Below 10 patients "
            "no interval is given; the row says what it would be."
        ),
        "coverage": [
            {"patients": row["patients"], "scores": row["scores"], "wanted": 0.95}
            | {ESTIMATES[estimate]: row[estimate] for estimate in chosen}
            for row in sorted(shipped.coverage, key=lambda row: row["patients"])
            if row["patients"] in near
        ],
        "tests": [
            {"situation": SITUATIONS[row["situation"]], "scores": row["scores"], "groups": row["groups"]}
            | {"wanted": 0.05, "found": row["found"]}
            for row in shipped.tests
            if row["smallest"] in smallest and (options.permute_within or row["situation"] not in _WITHIN)
        ],
        "detectable_gaps": [
            {"scores": row["scores"], "groups": row["groups"], "gap": row["gap"], "wanted": 0.8, "found": row["found"]}
            for row in shipped.power
            if row["smallest"] in smallest
        ],
        "answers": [
            {
                "scores": row["scores"],
                "groups": row["groups"],
                "true_gap": row["true_gap"],
                "margin": row["margin"],
                "evidence_of_a_difference": row["difference"],
                "ruled_out": row["ruled_out"],
            }
            for row in shipped.verdicts
            if row["smallest"] in smallest
        ],
    }


_WITHIN = ("sites_differ", "sites_tested")

_INTERVALS = {"bootstrap_t": "bootstrap-t", "bca": "BCa (acceleration from leaving out one patient at a time)"}

_ROLE_WORDS = {
    "test": "Held-out test cases, on which no network was trained.",
    "out_of_fold": "Each case as predicted by the one network that was not trained on it.",
    "all": (
        "All cases with a reference. Whether the model was trained on any of them is not known to this evaluation; the "
        "numbers flatter it if so."
    ),
}
