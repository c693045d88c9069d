"""Whether what a probe finds goes along with how well patients are segmented: associations, which show no use."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from equivox.metrics.fairness.probe import MINIMUM_PROBED, HeldOutScores, Probe
from equivox.metrics.statistics.association import associate
from equivox.metrics.statistics.bootstrap import Interval
from equivox.metrics.statistics.contrast_design import Blocks
from equivox.metrics.statistics.permutation import contrast_family
from equivox.pipelines.auditing.options import AuditOptions
from equivox.pipelines.auditing.outcomes import Outcome, by_patient, over_networks
from equivox.pipelines.auditing.probing import FirstProbe
from equivox.pipelines.auditing.sources import AuditSource

VOLUME: Final = "lesion volume"
_NEAREST: Final = 1e-6
"""Of a probability to 0 or 1, so that its logit stays finite."""


def behaviour_records(
    source: AuditSource,
    probes: Mapping[tuple[str, str], FirstProbe],
    outcomes: Mapping[tuple[str, int], Outcome],
    options: AuditOptions,
) -> list[dict[str, Any]]:
    """Hold each patient's Dice beside how strongly the probe takes the patient for one of a group.

    The probe's held-out logit (for a number, its held-out prediction) is standardised within each network, as the
    networks' logits have no common scale, and averaged over the networks that a patient is held out from, as is the
    Dice. Of two groups only the second is told: the first is its mirror image.

    The slope is that of the patient's Dice on this logit, given the logarithm of the lesion volume and the site, where
    one is declared; `within` is the slope given the patient's own group (or number) as well: without it, a group that
    is served worse gives a slope by itself.

    Args:
        source: Who is held out.
        probes: Attribute and layer -> the probe and its networks.
        outcomes: Case and fold -> how the network segments the scan.
        options: Draws, seed and site.
    """
    own = by_patient(source, outcomes)
    records = []
    for (attribute, layer), first in probes.items():
        names = list(first.probe.groups)
        toward = list(enumerate(names))[1 if len(names) == 2 else 0 :] or [(0, "")]
        for column, name in toward:
            logits, dices = _patient_logits(first, column, own)
            told = _associated(logits, dices, attribute, source, own, options)
            records.append({"attribute": attribute, "layer": layer, "toward": name or None, **told})
    return records


def gap_records(
    source: AuditSource, outcomes: Mapping[tuple[str, int], Outcome], options: AuditOptions
) -> list[dict[str, Any]]:
    """Return the mean Dice of each group and its difference to the rest, over all attributes as one family.

    Args:
        source: Who is held out.
        outcomes: Case and fold -> how the network segments the scan.
        options: Draws, seed and site, within which patients are permuted.
    """
    means = over_networks(by_patient(source, outcomes))
    patients = [patient for patient, one in means.items() if one.dice is not None]
    values = np.array([means[patient].dice for patient in patients], dtype=np.float64)
    named = {name: [known.get(patient) for patient in patients] for name, known in source.groups.items()}
    blocks = Blocks(options.site, tuple(source.sites.get(one) for one in patients)) if options.site else None
    family = contrast_family(values, named, blocks=blocks, draws=options.draws, seed=options.seed) if patients else None
    contrasts = {(one.attribute, one.group): one for one in (family.contrasts if family else ())}
    rows = []
    for attribute, groups in named.items():
        for group in source.attributes[attribute].sort_groups(one for one in groups if one is not None):
            inside = np.array([one == group for one in groups], dtype=bool)
            contrast = contrasts.get((attribute, group))
            rows.append(
                {
                    "attribute": attribute,
                    "group": group,
                    "patients": int(inside.sum()),
                    "dice": float(values[inside].mean()),
                    "difference": contrast and contrast.difference,
                    "difference_low": contrast and contrast.low,
                    "difference_high": contrast and contrast.high,
                    "p": contrast and contrast.p_adjusted,
                }
            )
    return rows


def _patient_logits(
    first: FirstProbe, column: int, outcomes: Mapping[tuple[str, int], Outcome]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return patient -> standardised logit, and patient -> Dice, both the mean over the same networks."""
    pairs: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for fold, part in zip(first.folds, first.probe.parts, strict=True):
        for patient, logit in zip(part.patients, _logits(part, column, first.probe).tolist(), strict=True):
            outcome = outcomes.get((patient, fold))
            if outcome is not None and outcome.dice is not None:
                pairs[patient].append((logit, outcome.dice))
    means = {patient: np.mean(found, axis=0).tolist() for patient, found in pairs.items()}
    return {patient: one[0] for patient, one in means.items()}, {patient: one[1] for patient, one in means.items()}


def _logits(part: HeldOutScores, column: int, probe: Probe) -> Float[np.ndarray, " patients"]:
    told = part.scores[:, column].astype(np.float64)
    if probe.kind == "groups":
        told = np.clip(told, _NEAREST, 1 - _NEAREST)
        told = np.log(told) - np.log1p(-told)
    spread = float(told.std())
    standardised: np.ndarray = (told - told.mean()) / (spread if spread > 0 else math.inf)
    return standardised


def _associated(
    logits: Mapping[str, float],
    dices: Mapping[str, float],
    attribute: str,
    source: AuditSource,
    outcomes: Mapping[tuple[str, int], Outcome],
    options: AuditOptions,
) -> dict[str, Any]:
    patients = sorted(logits)
    volumes = {patient: one.volume for patient, one in over_networks(outcomes).items()}
    given: dict[str, list[str | float | None]] = {VOLUME: [math.log(volumes[patient]) for patient in patients]}
    if options.site is not None and attribute != options.site:
        given[options.site] = [source.sites.get(patient) for patient in patients]
    own: list[str | float | None] = [source.targets[attribute][patient] for patient in patients]
    x, y = (np.array([one[patient] for patient in patients], dtype=np.float64) for one in (logits, dices))
    settings: dict[str, Any] = {"draws": options.draws, "permutations": 1, "seed": options.seed}
    settings["minimum"] = MINIMUM_PROBED
    found = associate(x, y, list(given.values()), **settings)
    within = associate(x, y, [*given.values(), own], **settings)
    return {
        "patients": found.patients,
        "given": list(given),
        "spearman": found.spearman,
        **_ends("spearman", found.spearman_interval),
        "partial_spearman": found.adjusted,
        "slope": found.slope,
        **_ends("slope", found.slope_interval),
        "within": within.slope,
        **_ends("within", within.slope_interval),
    }


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
