"""The erasure test: segment again without the directions that tell an attribute, and see what changes for whom."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from equivox.datasets.plan import NetworkPlan
from equivox.datasets.prepare import PreparedCase
from equivox.metrics.fairness.erasure import inlp_directions, random_directions
from equivox.metrics.fairness.probe import probe, who_is_probed
from equivox.metrics.statistics.bootstrap import mean_interval
from equivox.metrics.statistics.permutation import contrast_family
from equivox.pipelines.auditing.features import segment, without_directions
from equivox.pipelines.auditing.options import AuditOptions
from equivox.pipelines.auditing.outcomes import mean_dice
from equivox.pipelines.auditing.probing import AuditSpaces, settings_of
from equivox.pipelines.auditing.sources import AuditSource


@dataclass(frozen=True, eq=False)
class Removal:
    """One way to segment a scan again.

    Attributes:
        attribute: Whose directions are removed; empty for random ones.
        count: How many.
        number: Of the random set; 0 for an attribute's.
        directions: Orthonormal rows.
        centre: Mean over the network's held-out patients.
    """

    attribute: str
    count: int
    number: int
    directions: np.ndarray
    centre: np.ndarray


def removals_of(source: AuditSource, spaces: AuditSpaces, options: AuditOptions) -> dict[int, list[Removal]]:
    """Return for each fold's network what is removed in turn: of each attribute that can be probed, and at random."""
    vectors = spaces.first
    counts = options.erasure
    removals: dict[int, list[Removal]] = {fold: [] for fold in vectors}
    told = []
    for attribute, target in source.targets.items():
        probed = who_is_probed(list(vectors.values()), target)
        if probed.reason:
            continue
        told.append(attribute)
        for place in probed.spaces:
            fold = list(vectors)[place]
            space = vectors[fold]
            patients = [p for p in space.patients if p in target and (not probed.groups or target[p] in probed.groups)]
            labels: Any = [target[patient] for patient in patients]
            rows = inlp_directions(space.of(patients).vectors, labels, max(counts))
            centre = space.vectors.mean(axis=0)
            # Each direction was found after the ones before it, so the first k are what k steps find.
            removals[fold] += [Removal(attribute, count, 0, rows[:count], centre) for count in counts]
    for fold, space in vectors.items():
        if removals[fold]:
            for number in range(options.random_sets):
                rows = random_directions(max(counts), space.vectors.shape[1], options.seed + 1000 * fold + number)
                centre = space.vectors.mean(axis=0)
                removals[fold] += [Removal("", count, number, rows[:count], centre) for count in counts]
    return removals


def case_changes(
    network: nn.Module,
    prepared: PreparedCase,
    before: np.ndarray,
    removals: Sequence[Removal],
    plan: NetworkPlan,
    classes: int,
    options: AuditOptions,
) -> dict[tuple[str, int, int], tuple[float, float]]:
    """Return what each removal makes of a scan's Dice: attribute, count and number -> Dice before, Dice after.

    The Dice is the mean over the classes that reference or segmentation hold, on the prepared grid. A scan without any
    is left out.
    """
    if prepared.label is None:
        return {}
    first = mean_dice(prepared.label, before, classes)
    if first is None:
        return {}
    changes = {}
    for one in removals:
        with without_directions(network, one.directions, one.centre):
            logits = segment(network, prepared.image, plan, classes, options)
        after = mean_dice(prepared.label, logits.argmax(0).cpu().numpy(), classes)
        # A class that only the segmentation before held is scored no more: then nothing is left to be wrong.
        changes[one.attribute, one.count, one.number] = (first, 1.0 if after is None else after)
    return changes


def erasure_records(
    source: AuditSource,
    spaces: AuditSpaces,
    changes: Mapping[tuple[str, int], Mapping[tuple[str, int, int], tuple[float, float]]],
    options: AuditOptions,
) -> list[dict[str, Any]]:
    """Return for each attribute and number of directions the change in Dice of each group, beside random directions.

    Args:
        source: Whose scans they are.
        spaces: For what a probe still tells after the erasure.
        changes: Case and fold -> what `case_changes` returned.
        options: Seed and draws.
    """
    owner = {one.case.case_id: one.case.patient_id for one in source.cases}
    own: defaultdict[tuple[str, int], defaultdict[str, list[tuple[float, float, float]]]]
    own = defaultdict(lambda: defaultdict(list))
    for (case, _fold), found in changes.items():
        for (attribute, count, _), (before, after) in found.items():
            if attribute:
                drawn = [found["", count, number][1] for number in range(options.random_sets)]
                own[attribute, count][owner[case]].append((before, after - before, sum(drawn) / len(drawn) - before))
    records = []
    for (attribute, count), scans in sorted(own.items()):
        vectors = list(spaces.first.values())
        settings = settings_of(options)
        left = probe(vectors, source.targets[attribute], settings=settings, erased=count, shuffle=False)
        records.append(
            {
                "attribute": attribute,
                "directions": count,
                "score_name": "AUROC" if left.kind == "groups" else "R2",
                "left": left.score,
                "left_low": left.interval and left.interval.low,
                "left_high": left.interval and left.interval.high,
                "groups": _group_rows(scans, source, attribute, options),
            }
        )
    return records


def _group_rows(
    scans: Mapping[str, Sequence[tuple[float, float, float]]],
    source: AuditSource,
    attribute: str,
    options: AuditOptions,
) -> list[dict[str, Any]]:
    groups = source.groups[attribute]
    patients = sorted(patient for patient in scans if patient in groups)
    table = np.array([np.mean(scans[patient], axis=0) for patient in patients]).reshape(-1, 3)
    named = [groups[patient] for patient in patients]
    extra = table[:, 1] - table[:, 2]
    family = contrast_family(extra, {attribute: named}, seed=options.seed) if len(patients) else None
    contrasts = {one.group: one for one in (family.of(attribute) if family else ())}
    rows = []
    for group in source.attributes[attribute].sort_groups(named):
        inside = np.array([name == group for name in named])
        interval = mean_interval(extra[inside], seed=options.seed, draws=options.draws, bounds=(-1.0, 1.0))
        contrast = contrasts.get(group)
        rows.append(
            {
                "group": group,
                "patients": int(inside.sum()),
                "before": float(table[inside, 0].mean()),
                "change": float(table[inside, 1].mean()),
                "random_change": float(table[inside, 2].mean()),
                "extra": float(extra[inside].mean()),
                "extra_low": interval and interval.low,
                "extra_high": interval and interval.high,
                "difference": contrast and contrast.difference,
                "difference_low": contrast and contrast.low,
                "difference_high": contrast and contrast.high,
                "p": contrast and contrast.p_adjusted,
            }
        )
    return rows
