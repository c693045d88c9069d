"""Audit: what the deepest features of a run's networks tell of patients that they were not trained on."""

import datetime
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from equivox import __version__
from equivox.atomic import atomic_folder, atomic_path, write_text
from equivox.datasets.prepare import PreparedCase, prepare_case
from equivox.errors import InputError, is_out_of_memory, one_line
from equivox.hashing import file_sha256
from equivox.metrics.energy import percentile_rank
from equivox.metrics.fairness.probe import PatientVectors, who_is_probed
from equivox.models.catalog import layer_name
from equivox.pipelines.auditing.behaviour import behaviour_records, gap_records
from equivox.pipelines.auditing.controls import Acquisition, acquisition_of
from equivox.pipelines.auditing.erasing import case_changes, erasure_records, removals_of
from equivox.pipelines.auditing.features import POOLINGS, CaseFeatures, case_features, module_of
from equivox.pipelines.auditing.options import LARGEST_ERASURE, AuditOptions
from equivox.pipelines.auditing.outcomes import Outcome, outcome_of
from equivox.pipelines.auditing.probing import (
    FIRST_LAYER,
    AuditSpaces,
    Probes,
    audit_spaces,
    component_records,
    probe_records,
    scatter_record,
)
from equivox.pipelines.auditing.shortcuts import shortcut_records
from equivox.pipelines.auditing.sources import AuditSource, HeldOutCase, held_out_source
from equivox.pipelines.output_folder import prepare_output_folder
from equivox.pipelines.prediction.sliding_window import ready_network, working_device
from equivox.pipelines.run_folder import WEIGHTS, RunFolder
from equivox.progress import progress_bar
from equivox.reports.audit_figures import write_audit_figures
from equivox.reports.audit_page import probes_markdown, write_audit
from equivox.reports.embedding import finite

logger = logging.getLogger(__name__)

AUDIT, EMBEDDINGS, PROBES, ENERGY = "embedding_audit.json", "embeddings.npz", "probes.csv", "energy.csv"
REPORT, MARKDOWN, FIGURES = "report.html", "probes.md", "figures"

_MINIMUM_REFERENCE = 10
"""Fewer cases say too little of where another one stands."""


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found.

    Attributes:
        folder: Holds `embedding_audit.json`, `embeddings.npz`, `probes.csv` and `probes.md`, `energy.csv` and
            `report.html`.
        summary: What `embedding_audit.json` holds.
        energy: One row a case and network.
    """

    folder: Path
    summary: dict[str, Any]
    energy: pd.DataFrame


def audit(
    run: Path,
    out: Path,
    *,
    cohort: Path | None = None,
    options: AuditOptions | None = None,
    overwrite: bool = False,
    allow_partial: bool = False,
    figures: bool = False,
) -> Audit:
    """Probe what the networks of a run carry of the patients' attributes, on patients they were not trained on.

    Each network is probed in its own space, on its own held-out patients: test patients and patients whom the run does
    not know are held out from every network, those of fold K from network K alone. Vectors of different networks are
    never put together, since their axes mean different things; the scores of the networks are averaged, and patients
    are resampled for all networks at once.

    What a probe finds is that information is linearly available, not that it is used. Only the erasure test
    (`AuditOptions.erasure`) removes it and looks at what happens to the segmentation.

    Args:
        run: The run folder.
        out: The folder to make; it appears whole or not at all.
        cohort: A cohort folder; None takes the one that the run was trained on.
        options: What is audited, and how.
        overwrite: Replace an earlier audit at `out`.
        allow_partial: Leave out scans that cannot be read, and list them.
        figures: Also write the plots as SVG and PNG.

    Raises:
        InputError: If the run, the cohort or an option cannot be used, too few patients are held out, or a scan cannot
            be read.
    """
    options = options or AuditOptions()
    files = (AUDIT, EMBEDDINGS, PROBES, ENERGY, REPORT, MARKDOWN, FIGURES)
    prepare_output_folder(out, what="an audit", marks=(AUDIT, PROBES), files=files, overwrite=overwrite)
    folder = RunFolder(run)
    folder.require_unchanged()
    source = held_out_source(folder, cohort, options)
    _require_probed(source)
    networks = _Networks.load(folder, source, options)
    _check_references(options, networks, source)
    read = _extract(networks, source, options, allow_partial=allow_partial)
    features, acquisitions, left_out = read.features, read.acquisitions, read.left_out
    source = replace(source, cases=tuple(one for one in source.cases if one.case.case_id in acquisitions))
    spaces = audit_spaces(source, features, acquisitions)
    probed = probe_records(source, spaces, options)
    probes = probed.records
    energy = _energy_table(source, features)
    summary = {
        **_head(folder, networks, source, options),
        "probes": probes,
        "components": component_records(source, spaces, options),
        "scatter": scatter_record(source, spaces),
        "behaviour": _behaviour(source, probed, read, options),
        "shortcuts": shortcut_records(source, read.outcomes, options) if options.shortcuts else None,
        "erasure": _erasure(networks, source, spaces, features, options) if options.erasure else None,
        "energy": _energy_summary(energy),
        "left_out": {
            "trained_on": source.trained_on,
            "renamed": len(source.renamed),
            "renamed_told_by": source.evidence,
            "unreadable": [{"case_id": case_id, "reason": reason} for case_id, reason in left_out.items()],
            "differing": {name: count for name, count in source.differing.items() if count},
            "without_foreground": sum(one.trained[FIRST_LAYER]["foreground"] is None for one in features.values()),
        },
    }
    found = Audit(out, finite(summary), energy)
    _write(found, spaces, figures=figures, overwrite=overwrite)
    return found


@dataclass(frozen=True, eq=False)
class _Networks:
    """The networks that are audited, and the untrained one."""

    run: RunFolder
    trained: Mapping[int, nn.Module]
    untrained: nn.Module

    @staticmethod
    def load(run: RunFolder, source: AuditSource, options: AuditOptions) -> "_Networks":
        device = working_device(options.device)
        plan = run.network_plan
        trained = {fold: ready_network(run.network(fold), plan, device) for fold in source.folds}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            untrained = ready_network(run.build_network(), plan, device)
        return _Networks(run, trained, untrained)

    @property
    def classes(self) -> int:
        return len(self.run.plan.classes) + 1

    def feature_count(self) -> int:
        """Return how many features the bottleneck has, from one empty patch."""
        parameter = next(self.untrained.parameters())
        channels = self.run.plan.preprocessing.image_channels
        patch = torch.zeros((1, channels, *self.run.network_plan.patch_size), device=parameter.device)
        counts: list[int] = []
        hook = module_of(self.untrained, "bottleneck").register_forward_hook(
            lambda _m, _i, output: counts.append(output.shape[1])
        )
        try:
            with torch.inference_mode():
                self.untrained(patch)
        finally:
            hook.remove()
        return counts[0]

    def weights_sha256(self) -> dict[int, str]:
        return {fold: file_sha256(self.run.fold_folder(fold) / WEIGHTS) for fold in self.trained}


def _lacking_class(networks: _Networks, source: AuditSource) -> str | None:
    """Return a class of the run that the cohort's references do not name."""
    return next((name for name in networks.run.plan.classes if name not in source.cohort.config.classes), None)


def _is_nominal(run: RunFolder, source: AuditSource) -> bool:
    """Tell whether nothing in mm may be claimed."""
    return run.plan.nominal_spacing or source.cohort.config.nominal_spacing


def _check_references(options: AuditOptions, networks: _Networks, source: AuditSource) -> None:
    lacking = _lacking_class(networks, source)
    for option, wanted in (("--erasure", options.erasure), ("--shortcut", options.shortcuts)):
        if wanted and lacking is not None:
            got = ", ".join(source.cohort.config.classes)
            msg = (
                f"{source.cohort.folder}: expected the class '{lacking}' that the run segments, got {got}; "
                f"name it so in cohort.yaml, or leave {option} out"
            )
            raise InputError(msg)
    if options.shortcuts and all(one.case.label is None for one in source.cases):
        msg = f"{source.cohort.folder}: expected references beside --shortcut, got none; leave --shortcut out"
        raise InputError(msg)
    if not options.erasure:
        return
    most = min(LARGEST_ERASURE, networks.feature_count() - 1)
    wrong = [count for count in options.erasure if not 1 <= count <= most]
    if wrong:
        msg = (
            f"--erase: expected numbers of directions from 1 to {most} for this network, got {wrong[0]}; choose others"
        )
        raise InputError(msg)


def _require_probed(source: AuditSource) -> None:
    """Refuse a cohort of which no attribute can be probed, before any work."""
    held = [source.patients(fold) for fold in source.folds]
    spaces = [PatientVectors(patients, np.zeros((len(patients), 1))) for patients in held]
    reasons = {name: who_is_probed(spaces, target).reason for name, target in source.targets.items()}
    if all(reasons.values()):
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        msg = f"{source.cohort.folder}: expected an attribute that can be probed, got none ({told}); give more patients"
        raise InputError(msg)


def _prepared(one: HeldOutCase, networks: _Networks, source: AuditSource, *, with_label: bool) -> PreparedCase:
    plan = networks.run.plan.preprocessing
    images = {name: one.case.images[name] for name in plan.channels}
    label = one.case.label if with_label else None
    # Cohorts may number the same classes otherwise; what the run does not segment is background to it.
    indices = {0: 0} | {
        value: networks.run.plan.classes.get(name, 0) for value, name in source.cohort.config.label_values.items()
    }
    prepared = prepare_case(images, label, indices, plan)
    if len(prepared.image) != plan.image_channels:
        wanted, got = plan.image_channels, len(prepared.image)
        first = next(iter(images.values()))
        msg = f"{first}: expected {wanted} channels as in training, got {got}; give the run's channels"
        raise InputError(msg)
    return prepared


@dataclass(frozen=True, eq=False)
class _Read:
    """What the scans gave.

    Attributes:
        features: Case and fold -> what the network makes of the scan.
        outcomes: The same of the scans that have a reference -> how well it is segmented.
        acquisitions: Case -> what the scan's file tells.
        left_out: Case -> why it could not be read.
    """

    features: dict[tuple[str, int], CaseFeatures]
    outcomes: dict[tuple[str, int], Outcome]
    acquisitions: dict[str, Acquisition]
    left_out: dict[str, str]


def _extract(networks: _Networks, source: AuditSource, options: AuditOptions, *, allow_partial: bool) -> _Read:
    """Run every scan through the networks that it is held out from."""
    features: dict[tuple[str, int], CaseFeatures] = {}
    outcomes: dict[tuple[str, int], Outcome] = {}
    acquisitions: dict[str, Acquisition] = {}
    left_out: dict[str, str] = {}
    scored = _lacking_class(networks, source) is None
    nominal = _is_nominal(networks.run, source)
    channels = source.cohort.config.channels
    modality = channels[networks.run.plan.preprocessing.channels[0]].modality
    with progress_bar() as progress:
        task = progress.add_task("Reading features", total=sum(len(one.folds) for one in source.cases))
        for one in source.cases:
            case_id = one.case.case_id
            progress.update(task, description=f"Reading features of {case_id}")
            try:
                prepared = _prepared(one, networks, source, with_label=scored)
                told = acquisition_of(one.case.images, networks.run.plan, modality)
                for fold in one.folds:
                    features[case_id, fold] = case_features(
                        networks.trained[fold],
                        networks.untrained,
                        prepared.image,
                        networks.run.network_plan,
                        networks.classes,
                        options,
                    )
                    if prepared.label is not None:
                        labels = features[case_id, fold].labels
                        spacing = (1.0, 1.0, 1.0) if nominal else prepared.geometry.prepared_spacing_mm
                        outcomes[case_id, fold] = outcome_of(prepared.label, labels, networks.classes, spacing)
                    progress.advance(task)
                acquisitions[case_id] = told
            except Exception as error:
                if not (isinstance(error, (InputError, OSError)) or is_out_of_memory(error)):
                    raise
                reason = one_line(error)
                logger.error("case %s: %s", case_id, reason)
                if not allow_partial:
                    msg = f"case {case_id}: {reason}; or add --allow-partial to leave such cases out and list them"
                    raise InputError(msg) from error
                left_out[case_id] = reason
    whole = {key: found for key, found in features.items() if key[0] in acquisitions}
    outcomes = {key: found for key, found in outcomes.items() if key[0] in acquisitions}
    if not whole:
        msg = f"{source.cohort.folder}: expected a scan that can be read, got none; mend the cases listed above"
        raise InputError(msg)
    return _Read(whole, outcomes, acquisitions, left_out)


def _behaviour(source: AuditSource, probed: Probes, read: _Read, options: AuditOptions) -> dict[str, Any] | None:
    """Return what goes along with what; None where no scan has a reference for the run's classes."""
    if not read.outcomes:
        return None
    return {
        "links": behaviour_records(source, probed.first, read.outcomes, options),
        "groups": gap_records(source, read.outcomes, options),
    }


def _erasure(
    networks: _Networks,
    source: AuditSource,
    spaces: AuditSpaces,
    features: Mapping[tuple[str, int], CaseFeatures],
    options: AuditOptions,
) -> dict[str, Any]:
    """Segment every scan that has a reference again, once for each removal."""
    removals = removals_of(source, spaces, options)
    cases = [one for one in source.cases if one.case.label is not None]
    changes: dict[tuple[str, int], dict[tuple[str, int, int], tuple[float, float]]] = {}
    without = [one.case.case_id for one in source.cases if one.case.label is None]
    with progress_bar() as progress:
        task = progress.add_task("Erasing", total=sum(len(one.folds) for one in cases))
        for one in cases:
            case_id = one.case.case_id
            progress.update(task, description=f"Erasing in {case_id}")
            prepared = _prepared(one, networks, source, with_label=True)
            for fold in one.folds:
                changes[case_id, fold] = case_changes(
                    networks.trained[fold],
                    prepared,
                    features[case_id, fold].labels,
                    removals[fold],
                    networks.run.network_plan,
                    networks.classes,
                    options,
                )
                progress.advance(task)
    return {
        "directions": list(options.erasure),
        "random_sets": options.random_sets,
        "without_reference": len(without),
        "results": erasure_records(source, spaces, changes, options),
    }


def _energy_table(source: AuditSource, features: Mapping[tuple[str, int], CaseFeatures]) -> pd.DataFrame:
    """Return the energy of each case and network, and where it stands among the cases that it is compared with.

    These are the other cases of the network's own fold: like those that it was trained on, but not seen. Where they are
    fewer than ten, all other held-out cases of the network take their place.
    """
    roles = {one.case.case_id: one for one in source.cases}
    rows = []
    for (case_id, fold), found in features.items():
        one = roles[case_id]
        others = [key for key in features if key[1] == fold and roles[key[0]].case.patient_id != one.case.patient_id]
        own_fold = [key for key in others if roles[key[0]].role == "out_of_fold"]
        chosen = own_fold if len(own_fold) >= _MINIMUM_REFERENCE else others
        compared = [features[key].energy.everywhere for key in chosen]
        enough = len(compared) >= _MINIMUM_REFERENCE
        rows.append(
            {
                "case_id": case_id,
                "patient_id": one.case.patient_id,
                "fold": fold,
                "role": one.role,
                "energy": found.energy.everywhere,
                "energy_foreground": found.energy.foreground,
                "reference": "cases of the fold" if chosen is own_fold else "all held-out cases",
                "reference_cases": len(compared),
                "percentile": percentile_rank(found.energy.everywhere, compared) if enough else None,
            }
        )
    table = pd.DataFrame(rows)
    return table.astype({"energy": float, "energy_foreground": float, "percentile": float})


def _energy_summary(table: pd.DataFrame) -> dict[str, Any]:
    """Return the mean percentile of each case over its networks, the highest first."""
    ranks = table.groupby("case_id", sort=True).agg({"percentile": "mean", "role": "first", "patient_id": "first"})
    ordered = ranks.dropna(subset="percentile").sort_values("percentile", ascending=False, kind="stable")
    return {
        "cases": [
            {
                "case_id": str(case_id),
                "patient_id": row["patient_id"],
                "role": row["role"],
                "percentile": row["percentile"],
            }
            for case_id, row in ordered.iterrows()
        ],
        "reference": sorted(table["reference"].unique().tolist()),
        "without_rank": int(ranks["percentile"].isna().sum()),
    }


def _head(run: RunFolder, networks: _Networks, source: AuditSource, options: AuditOptions) -> dict[str, Any]:
    hashes = networks.weights_sha256()
    return {
        "schema_version": 1,
        "equivox_version": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": {
            "name": run.path.resolve().name,
            "model": run.config.model.name,
            "dims": run.config.dims,
            "layers": {layer: layer_name(networks.untrained, layer) for layer in options.features},
            "networks": [
                {"fold": fold, "weights_sha256": hashes[fold], "held_out_patients": len(source.patients(fold))}
                for fold in source.folds
            ],
        },
        "cohort": {
            "name": source.cohort.config.name,
            "nominal_spacing": _is_nominal(run, source),
            "patients": len({one.case.patient_id for one in source.cases}),
            "cases": len(source.cases),
            "roles": {role: sum(one.role == role for one in source.cases) for role in ("test", "out_of_fold", "new")},
        },
        "settings": options.model_dump(mode="json"),
        "poolings": list(POOLINGS),
        "attributes": {name: config.kind for name, config in source.attributes.items()},
        "inputs": {name: file_sha256(source.cohort.folder / name) for name in ("cohort.csv", "cohort.yaml")},
    }


def probe_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return every probe, control and contrast as one row."""
    rows: list[dict[str, Any]] = []
    for record in summary["probes"]:
        head = {
            name: record[name] for name in ("attribute", "layer", "pooling", "kind", "patients", "score_name", "reason")
        }
        ends = {name: record.get(name) for name in ("score", "low", "high", "p", "q")}
        second = {f"second_{name or 'name'}": record.get(f"second_{name or 'name'}") for name in ("", "low", "high")}
        rows.append({**head, "probe_of": "trained network", **ends, "second": record.get("second"), **second})
        rows += [{**head, "probe_of": one["name"], **_without(one, "name")} for one in record["controls"]]
        if record.get("shuffled"):
            told = record["shuffled"]
            shown = {"score": told["mean"], "low": told["low"], "high": told["high"]}
            rows.append({**head, "probe_of": "shuffled labels", **shown})
        if record["other_sites"]:
            elsewhere = record["other_sites"]
            rows.append({**head, "probe_of": "trained network, on other sites", **elsewhere})
    for one in summary["components"]:
        same = next(r for r in summary["probes"] if r["attribute"] == one["attribute"])
        head = {name: same[name] for name in ("attribute", "layer", "pooling", "kind", "patients", "score_name")}
        shown = {name: one[name] for name in ("score", "low", "high")}
        rows.append({**head, "probe_of": f"first {one['components']} principal components", **shown})
    return pd.DataFrame(rows)


def _without(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


def _arrays(summary: Mapping[str, Any], spaces: AuditSpaces) -> dict[str, Any]:
    """Return what `embeddings.npz` holds: numbers and plain text, no objects."""
    networks = summary["run"]["networks"]
    arrays: dict[str, Any] = {
        "layers": np.array(list(summary["run"]["layers"].values())),
        "folds": np.array([one["fold"] for one in networks]),
        "weights_sha256": np.array([one["weights_sha256"] for one in networks]),
        "acquisition_patients": np.array(spaces.acquisition.patients),
        "acquisition": spaces.acquisition.vectors,
    }
    for kind, by_layer in (("trained", spaces.trained), ("untrained", spaces.untrained)):
        for layer, by_pooling in by_layer.items():
            for pooling, by_fold in by_pooling.items():
                for fold, space in by_fold.items():
                    name = f"{kind}/{layer}/fold_{fold}/{pooling}"
                    arrays[f"{name}/patients"] = np.array(space.patients, dtype=np.str_)
                    arrays[f"{name}/vectors"] = space.vectors.astype(np.float32)
    return arrays


def _write(found: Audit, spaces: AuditSpaces, *, figures: bool, overwrite: bool) -> None:
    summary = found.summary
    with atomic_folder(found.folder, replace=overwrite) as folder:
        table = probe_table(summary)
        table.to_csv(folder / PROBES, index=False, lineterminator="\n")
        found.energy.to_csv(folder / ENERGY, index=False, lineterminator="\n")
        with atomic_path(folder / EMBEDDINGS) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **_arrays(summary, spaces))
        write_text(folder / AUDIT, json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        write_audit(folder / REPORT, summary=summary, table=table)
        write_text(folder / MARKDOWN, probes_markdown(summary))
        if figures:
            write_audit_figures(folder / FIGURES, summary)
