"""Probes of every attribute with their controls, as plain records."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from equivox.metrics.fairness.probe import (
    PatientVectors,
    Probe,
    ProbeSettings,
    compare,
    principal_axes,
    probe,
    probe_other_sites,
    who_is_probed,
)
from equivox.metrics.statistics.association import false_discovery
from equivox.metrics.statistics.bootstrap import Interval
from equivox.models.catalog import Layer
from equivox.pipelines.auditing.controls import Acquisition
from equivox.pipelines.auditing.features import POOLINGS, CaseFeatures
from equivox.pipelines.auditing.options import AuditOptions
from equivox.pipelines.auditing.sources import AuditSource
from equivox.progress import progress_bar

FIRST_LAYER: Final[Layer] = "bottleneck"
FIRST_POOLING: Final = POOLINGS[0]
COMPONENTS: Final = (2, 5, 10, 50)
"""Principal components of the contrast with a probe of all."""

CONTROLS: Final = ("untrained network", "acquisition", "body size")
_SCORES: Final = {"groups": ("AUROC", "balanced accuracy"), "number": ("R2", "mean absolute error")}


@dataclass(frozen=True, eq=False)
class AuditSpaces:
    """One vector a patient, in the space of each network.

    Attributes:
        trained: Layer -> pooling -> fold -> vectors of the patients whom the fold's network was not trained on.
        untrained: The same of the untrained network.
        acquisition: Of every held-out patient.
        body: Likewise.
    """

    trained: Mapping[Layer, Mapping[str, Mapping[int, PatientVectors]]]
    untrained: Mapping[Layer, Mapping[str, Mapping[int, PatientVectors]]]
    acquisition: PatientVectors
    body: PatientVectors

    @property
    def first(self) -> Mapping[int, PatientVectors]:
        """Fold -> the features that the page speaks of first, and that are erased."""
        return self.trained[FIRST_LAYER][FIRST_POOLING]


@dataclass(frozen=True, eq=False)
class FirstProbe:
    """A probe of the first pooling.

    Attributes:
        probe: With its held-out scores.
        folds: Of the networks, in the order of the probe's parts.
    """

    probe: Probe
    folds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Probes:
    """What was probed.

    Attributes:
        records: One an attribute, layer and pooling.
        first: Attribute and layer -> the probe of the first pooling, where there is one.
    """

    records: list[dict[str, Any]]
    first: Mapping[tuple[str, str], FirstProbe]


def audit_spaces(
    source: AuditSource,
    features: Mapping[tuple[str, int], CaseFeatures],
    acquisitions: Mapping[str, Acquisition],
) -> AuditSpaces:
    """Average the vectors of a patient's scans.

    Args:
        source: Who is held out from which network.
        features: Case and fold -> what the network makes of the scan.
        acquisitions: Case -> what the scan's file tells.
    """
    owner = {one.case.case_id: one.case.patient_id for one in source.cases}

    def vectors(kind: str, layer: Layer, pooling: str, fold: int) -> PatientVectors:
        own = {case: getattr(one, kind)[layer][pooling] for (case, other), one in features.items() if other == fold}
        return _by_patient({case: vector for case, vector in own.items() if vector is not None}, owner)

    layers = next(iter(features.values())).trained
    trained, untrained = (
        {
            layer: {
                pooling: {fold: vectors(kind, layer, pooling, fold) for fold in source.folds} for pooling in POOLINGS
            }
            for layer in layers
        }
        for kind in ("trained", "untrained")
    )
    acquisition, body = (
        _by_patient({case: getattr(one, name) for case, one in acquisitions.items()}, owner)
        for name in ("acquisition", "body")
    )
    return AuditSpaces(trained, untrained, acquisition, body)


def _by_patient(vectors: Mapping[str, np.ndarray], owner: Mapping[str, str]) -> PatientVectors:
    scans: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    for case, vector in vectors.items():
        scans[owner[case]].append(vector)
    rows = [np.mean(found, axis=0) for found in scans.values()]
    return PatientVectors(tuple(scans), np.stack(rows).astype(np.float64) if rows else np.zeros((0, 1)))


def settings_of(options: AuditOptions) -> ProbeSettings:
    """Return the settings of the probes."""
    return ProbeSettings(permutations=options.permutations, draws=options.draws, seed=options.seed)


def probe_records(source: AuditSource, spaces: AuditSpaces, options: AuditOptions) -> Probes:
    """Probe each attribute in the features of each layer and pooling and in the controls; q is over all of them."""
    jobs = [(name, layer, pooling) for name in source.attributes for layer in options.features for pooling in POOLINGS]
    records = []
    first: dict[tuple[str, str], FirstProbe] = {}
    with progress_bar() as progress:
        task = progress.add_task("Probing", total=len(jobs))
        for attribute, layer, pooling in jobs:
            progress.update(task, description=f"Probing {attribute}")
            record, found = _record(attribute, layer, pooling, source, spaces, options)
            records.append(record)
            if found is not None and pooling == FIRST_POOLING:
                first[attribute, layer] = FirstProbe(found, tuple(record["networks"]))
            progress.advance(task)
    for record, q in zip(records, false_discovery([one["p"] for one in records]), strict=True):
        record["q"] = q
    return Probes(records, first)


def component_records(source: AuditSource, spaces: AuditSpaces, options: AuditOptions) -> list[dict[str, Any]]:
    """Probe the first principal components alone: what a plot of two of them can show is not all that there is."""
    records = []
    settings = settings_of(options)
    for attribute, target in source.targets.items():
        own = list(spaces.first.values())
        if who_is_probed(own, target).reason:
            continue
        for count in COMPONENTS:
            found = probe(own, target, settings=settings, components=count, shuffle=False)
            dims = min(count, own[0].vectors.shape[1])
            records.append(
                {"attribute": attribute, "components": dims, "score": found.score, **_ends("", found.interval)}
            )
            if dims < count:
                break
    return records


def scatter_record(source: AuditSource, spaces: AuditSpaces) -> dict[str, Any]:
    """Return the first two principal components of the network with most held-out patients, and each one's groups."""
    vectors = spaces.first
    fold = max(vectors, key=lambda one: len(vectors[one].patients))
    space = vectors[fold]
    values = space.vectors - space.vectors.mean(axis=0)
    scale = values.std(axis=0)
    values = values / np.where(scale > 1e-9, scale, np.inf)
    axes = principal_axes(values, min(2, values.shape[1]))
    places = values @ axes.T
    groups = {name: [known.get(patient) for patient in space.patients] for name, known in source.groups.items()}
    total = float((values**2).sum())
    return {
        "fold": fold,
        "patients": list(space.patients),
        "x": places[:, 0].tolist(),
        "y": places[:, -1].tolist(),
        "explained": [float((column**2).sum() / total) if total else None for column in places.T],
        "groups": groups,
        "order": {
            name: source.attributes[name].sort_groups(group for group in found if group is not None)
            for name, found in groups.items()
        },
        "silhouette": {name: _silhouette(places, found) for name, found in groups.items()},
    }


def _silhouette(places: np.ndarray, groups: Sequence[str | None]) -> float | None:
    from sklearn.metrics import silhouette_score

    known = [place for place, group in enumerate(groups) if group is not None]
    names = [str(groups[place]) for place in known]
    if not 1 < len(set(names)) < len(names):
        return None
    return float(silhouette_score(places[known], names))


def _record(
    attribute: str, layer: Layer, pooling: str, source: AuditSource, spaces: AuditSpaces, options: AuditOptions
) -> tuple[dict[str, Any], Probe | None]:
    target = source.targets[attribute]
    own = list(spaces.trained[layer][pooling].values())
    folds = list(spaces.trained[layer][pooling])
    probed = who_is_probed(own, target)
    score_name, second_name = _SCORES[probed.kind]
    record: dict[str, Any] = {
        "attribute": attribute,
        "layer": layer,
        "pooling": pooling,
        "kind": probed.kind,
        "done": not probed.reason,
        "reason": probed.reason,
        "patients": probed.patients,
        "groups": dict(probed.groups),
        "small_groups": dict(probed.small),
        "networks": [folds[place] for place in probed.spaces],
        "score_name": score_name,
        "second_name": second_name,
    }
    if probed.reason:
        nothing: dict[str, Any] = {
            "unstable": False,
            "score": None,
            "p": None,
            "q": None,
            "controls": [],
            "other_sites": None,
        }
        return record | nothing, None
    settings = settings_of(options)
    is_site = attribute == options.site
    found = probe(own, target, blocks={} if is_site else source.sites, settings=settings)
    record |= {
        "unstable": found.unstable,
        "chance": found.chance,
        "score": found.score,
        **_ends("", found.interval),
        "second": found.second,
        **_ends("second_", found.second_interval),
        "p": found.p,
        "by_network": [_alone(part_fold, found, place) for place, part_fold in enumerate(record["networks"])],
    }
    if found.shuffled is not None:
        record["shuffled"] = {name: getattr(found.shuffled, name) for name in ("mean", "low", "high")}
    controls = {
        CONTROLS[0]: list(spaces.untrained[layer][pooling].values()),
        CONTROLS[1]: [spaces.acquisition.of(space.patients) for space in own],
        CONTROLS[2]: [spaces.body.of(space.patients) for space in own],
    }
    record["controls"] = [_control(name, found, space, target, settings) for name, space in controls.items()]
    elsewhere = (
        probe_other_sites(own, target, source.sites, settings=settings) if source.sites and not is_site else None
    )
    record["other_sites"] = elsewhere and {
        "score": elsewhere.score,
        **_ends("", elsewhere.interval),
        "patients": elsewhere.patients,
    }
    return record, found


def _alone(fold: int, found: Probe, place: int) -> dict[str, Any]:
    part = found.parts[place]
    return {"fold": fold, "patients": len(part.patients), "strengths": list(part.strengths)}


def _control(
    name: str,
    found: Probe,
    spaces: Sequence[PatientVectors],
    target: Mapping[str, str] | Mapping[str, float],
    settings: ProbeSettings,
) -> dict[str, Any]:
    control = probe(spaces, target, settings=settings, shuffle=False)
    apart = compare(found, control, settings)
    return {
        "name": name,
        "score": control.score,
        **_ends("", control.interval),
        "difference": apart.value,
        **_ends("difference_", apart.interval),
    }


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {f"{name}low": low, f"{name}high": high}
