"""What a comparison says about how its numbers were made."""

from collections.abc import Mapping
from typing import Any, Final

from equivox.definitions import METRICS
from equivox.metrics.statistics.paired import ENUMERATED_PATIENTS
from equivox.pipelines.comparison.match import MatchedEvaluations
from equivox.pipelines.comparison.options import CompareOptions
from equivox.pipelines.comparison.verdict import RULE

_REFERENCES: Final = (
    "Fisher RA. The Design of Experiments. 1935. (sign flips of paired differences)",
    "Holm S. A simple sequentially rejective multiple test procedure. Scand J Statist 1979.",
    "Efron B, Tibshirani R. An Introduction to the Bootstrap. 1993. (bootstrap-t)",
    "Wiesenfarth M et al. Methods and open-source toolkit for analyzing and visualizing challenge results. Sci Rep "
    "2021. (stability of rankings)",
    "Kendall MG. The treatment of ties in ranking problems. Biometrika 1945. (tau-b)",
)


def describe_methods(
    matched: MatchedEvaluations, families: Mapping[str, Mapping[str, Any]], options: CompareOptions
) -> dict[str, Any]:
    """Return the methods in words, with the settings filled in.

    Args:
        matched: What is compared.
        families: The families of tests, as `families` gives them.
        options: The settings.
    """
    models = len(matched.names)
    pairs = models * (models - 1) // 2
    level = f"{100 * options.confidence:g} %"
    label = METRICS[matched.primary].label
    contrasts = "the contrast" if models == 2 else f"the {models - 1} contrasts"
    classes = len(matched.classes)
    over = "one class" if classes == 1 else f"all classes together and each of the {classes} classes"
    return {
        "unit": (
            "The patient is the unit of every statistic. A patient's value is the mean over the patient's cases of the "
            "mean over each case's classes, where defined. A patient counts in a comparison when both models have a "
            "value; the others are counted as left out."
        ),
        "rule": RULE.format(
            minimum=options.minimum_patients,
            level=f"{options.level:.2g}",
            margin=f"{options.margin:g}",
            twice=f"{2 * options.margin:g}",
        ),
        "test": (
            "Signs of the patients' differences are flipped: had the two models been alike, each difference could as "
            f"well have come with the other sign. With up to {ENUMERATED_PATIENTS} patients all 2ⁿ patterns are gone "
            f"through, with more {options.permutation_draws:,} are drawn and p = (1 + b) / (1 + B); two-sided. The "
            "statistic is the studentised mean, which orders the flips as the mean itself does."
        ),
        "primary_family": (
            f"Mean {label} over all classes, {contrasts} of the first model, '{matched.names[0]}', with each other "
            f"one: {families['primary']['tests']} tests, adjusted by Holm. The verdicts rest on these alone."
        ),
        "other_tests": (
            f"Every other test of {len(matched.units)} metrics, {over}, and {pairs} pair{'s' if pairs > 1 else ''} of "
            f"models: {families['rest']['tests']} tests, adjusted by Holm as one family of their own. "
            + _reach(families["rest"], options)
        ).strip(),
        "intervals": (
            f"Of the mean paired difference: bootstrap-t, patients resampled {options.bootstrap_draws:,} times, {level}"
            + (f" (for the verdicts {level} for all of them together, by Bonferroni)" if models > 2 else "")
            + f"; none with fewer than {options.minimum_patients} patients. An interval and a test are two "
            "computations: near the level one may leave 0 out and the other not."
        ),
        "detectable_difference": (
            "The smallest difference that could have been seen: the shift that the same test finds with 80 % power, in "
            "samples of as many patients drawn from the centred differences"
            + (f", at the level {options.level:.2g} / {models - 1}" if models > 2 else "")
            + ". The observed difference plays no part."
        ),
        "signed_errors": (
            "Metrics whose best value is 0 with errors in both directions are compared without their sign, taken "
            "structure by structure; their differences are those of absolute errors."
        ),
        "ranking": (
            f"Patients are resampled {options.bootstrap_draws:,} times, the same ones for all models, and the models "
            "are ranked in each resample: by their mean, and by the mean of their ranks within each patient. Tied "
            "models share their places. Kendall's tau (tau-b) compares each resample's ranking with that observed. A "
            "share of resamples says how firmly these patients carry a rank; it is not the probability that a model is "
            "the best one."
        ),
        "groups": (
            f"Exploratory. The paired difference within each group, with an interval from {options.minimum_patients} "
            "patients on, not adjusted and not tested; and the largest gap between the means of groups of that size, "
            "under either model. Chance alone makes such gaps, and changes of them, differ from 0."
        ),
        "scope": (
            "Tests and intervals hold for these trained models and for patients like these. Training either model "
            "again adds variation that is not in them: a better model is not thereby a better method."
        ),
        "exploratory": "Everything but the verdicts is exploratory.",
        "notes": list(matched.notes),
        "references": list(_REFERENCES),
    }


def _reach(family: Mapping[str, Any], options: CompareOptions) -> str:
    """Warn where a family is so large that none of its tests can fall below the level."""
    least = family["smallest_adjusted_p"]
    if least is None or least < options.level:
        return ""
    return (
        f"The smallest adjusted p-value that so many tests of so few patients or draws can give is {least:.2g}: none "
        f"of them can fall below {options.level:.2g}, whatever the models do. Compare fewer metrics or models, or draw "
        "more patterns with --permutation-draws."
    )
