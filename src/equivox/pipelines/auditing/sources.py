"""Who may be audited: the patients whom a network was not trained on, and what is known of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from equivox.datasets.cohort import AttributeConfig, Case, Cohort, load_cohort
from equivox.datasets.text_table import read_text_table
from equivox.errors import InputError
from equivox.metrics.fairness.probe import MINIMUM_PROBED
from equivox.pipelines.auditing.options import AuditOptions
from equivox.pipelines.auditing.recognised import Evidence, Recognised, recognise
from equivox.pipelines.predict import chosen_folds
from equivox.pipelines.prediction.folder import Role
from equivox.pipelines.run_folder import SPLIT, RunFolder


@dataclass(frozen=True)
class HeldOutCase:
    """A scan that some network may be audited on.

    Attributes:
        case: Of the cohort.
        role: As for a prediction.
        folds: Folds whose networks were trained on no scan of the patient.
    """

    case: Case
    role: Role
    folds: tuple[int, ...]


@dataclass(frozen=True)
class AuditSource:
    """Everything that is known before a scan is opened.

    Attributes:
        cohort: The cohort.
        cases: Held-out scans, in the order of the table.
        folds: Networks that are audited.
        attributes: What is probed.
        targets: Attribute -> patient -> group, or number of a continuous one; where unknown there is no entry.
        groups: Attribute -> patient -> group, that of a number being its bin.
        sites: Patient -> site; None where unknown. Empty without a site.
        differing: Attribute -> patients left out as their scans have different values.
        trained_on: Patients whom every audited network was trained on.
        shortcuts: Flag -> patient -> group, of attributes of two groups.
        renamed: Patients who have scans of the training under another name: they count as what they are there.
        evidence: What the run leaves to tell its scans by under another name.
    """

    cohort: Cohort
    cases: tuple[HeldOutCase, ...]
    folds: tuple[int, ...]
    attributes: Mapping[str, AttributeConfig]
    targets: Mapping[str, Mapping[str, str] | Mapping[str, float]]
    groups: Mapping[str, Mapping[str, str]]
    sites: Mapping[str, str | None]
    differing: Mapping[str, int]
    trained_on: int
    shortcuts: Mapping[str, Mapping[str, str]]
    renamed: tuple[str, ...]
    evidence: Evidence

    def patients(self, fold: int) -> tuple[str, ...]:
        """Return the patients whom the fold's network was not trained on, each once."""
        return tuple(dict.fromkeys(one.case.patient_id for one in self.cases if fold in one.folds))


def held_out_source(run: RunFolder, cohort_folder: Path | None, options: AuditOptions) -> AuditSource:
    """Find the held-out scans of a cohort.

    A patient is held out from a network if none of the patient's scans is of a fold that it was trained on: test
    patients and patients whom the run does not know from every network, a patient of fold K from network K alone. A
    scan of the training is known by the contents of its files too, whatever it is called (`recognise`).

    Args:
        run: The run.
        cohort_folder: The cohort; None takes the one that the run's manifest names.
        options: Folds, attributes, site and shortcuts.

    Raises:
        InputError: If no fold is trained, the cohort or an attribute is not there, or too few patients are held out.
    """
    folds = chosen_folds(run, options.folds)
    cohort = load_cohort(cohort_folder or _own_cohort(run))
    lacking = [name for name in run.plan.preprocessing.channels if name not in cohort.config.channels]
    if lacking:
        got = ", ".join(cohort.config.channels)
        msg = (
            f"{cohort.folder}: expected the channel '{lacking[0]}' that the run was trained with, got {got}; name it so"
        )
        raise InputError(msg)
    attributes = _attributes(cohort, options)
    recognised = recognise(run, cohort)
    places, renamed = _places(run, cohort, recognised)
    cases = []
    for case in cohort.cases:
        own = places[case.patient_id]
        held = tuple(fold for fold in folds if not any(place not in ("test", str(fold)) for place in own))
        if held:
            role: Role = "new" if not own else "test" if own == {"test"} else "out_of_fold"
            cases.append(HeldOutCase(case, role, held))
    known = {one.case.patient_id for one in cases}
    _require_enough(cohort, run, cases, folds, renamed)
    everyone = set(cohort.patients)
    targets, groups, differing = {}, {}, {}
    for name, config in attributes.items():
        targets[name], groups[name], differing[name] = _values(name, config, cases)
    sites: dict[str, str | None] = {}
    if options.site is not None:
        named = _values(options.site, cohort.config.attributes[options.site], cases)[1]
        sites = {patient: named.get(patient) for patient in sorted(known)}
    return AuditSource(
        cohort,
        tuple(cases),
        folds,
        attributes,
        targets,
        groups,
        sites,
        differing,
        len(everyone - known),
        {name: _flag(name, cohort, cases) for name in dict.fromkeys(options.shortcuts)},
        renamed,
        recognised.evidence,
    )


def _own_cohort(run: RunFolder) -> Path:
    folder = (
        Path(str(run.manifest.get("cohort", {}).get("folder", ""))) if (run.path / "manifest.json").is_file() else None
    )
    if folder is None or not (folder / "cohort.csv").is_file():
        got = "none" if folder is None else f"'{folder}', which is not there"
        msg = f"{run.path}: expected a manifest that names the cohort, got {got}; name it with --cohort"
        raise InputError(msg)
    return folder


def _attributes(cohort: Cohort, options: AuditOptions) -> dict[str, AttributeConfig]:
    there = cohort.config.attributes
    site = (options.site,) if options.site else ()
    asked = (("--attribute", options.attributes), ("--site", site), ("--shortcut", options.shortcuts))
    for option, names in asked:
        for name in names:
            if name not in there:
                msg = f"{option} {name}: expected an attribute of {cohort.folder}, got none of that name"
                raise InputError(f"{msg}; choose among {list(there)}" if there else f"{msg}; declare it in cohort.yaml")
    if not there:
        msg = f"{cohort.folder}: expected attributes of the patients, got none; declare them in cohort.yaml"
        raise InputError(msg)
    if options.site is not None and there[options.site].kind != "categorical":
        msg = f"--site {options.site}: expected a categorical attribute, got a continuous one; choose another"
        raise InputError(msg)
    return {name: there[name] for name in dict.fromkeys(options.attributes or there)}


def _places(
    run: RunFolder, cohort: Cohort, recognised: Recognised
) -> tuple[defaultdict[str, set[str]], tuple[str, ...]]:
    """Return where the patients' scans are in the run, and which patients are known by the contents of files alone.

    The first is patient -> folds of the run (and ``test``), by case, by patient and by content.
    """
    places: defaultdict[str, set[str]] = defaultdict(set)
    table = read_text_table(run.path / SPLIT)
    if "patient_id" in table:
        for patient, place in zip(table["patient_id"], table["fold"], strict=True):
            places[str(patient)].add(str(place))
    for case in cohort.cases:
        if case.case_id in run.split:
            places[case.patient_id].add(str(run.split[case.case_id]))
    renamed: dict[str, None] = {}
    for case in cohort.cases:
        there = {str(run.split[one]) for one in recognised.cases.get(case.case_id, ()) if one in run.split}
        if there - places[case.patient_id]:
            renamed[case.patient_id] = None
            places[case.patient_id] |= there
    return places, tuple(renamed)


def _require_enough(
    cohort: Cohort, run: RunFolder, cases: Sequence[HeldOutCase], folds: Sequence[int], renamed: Sequence[str]
) -> None:
    told = f" ({len(renamed)} under other names, by the contents of their scans)" if renamed else ""
    if not cases:
        msg = (
            f"{cohort.folder}: expected patients whom a network of {run.path} was not trained on, got none{told}; "
            "give another cohort, or train more folds"
        )
        raise InputError(msg)
    counts = {fold: len({one.case.patient_id for one in cases if fold in one.folds}) for fold in folds}
    if max(counts.values()) < MINIMUM_PROBED:
        got = ", ".join(f"{count} for the network of fold {fold}" for fold, count in counts.items())
        msg = f"{cohort.folder}: expected {MINIMUM_PROBED} held-out patients or more, got {got}; a probe needs more"
        raise InputError(msg)


def _flag(name: str, cohort: Cohort, cases: Sequence[HeldOutCase]) -> dict[str, str]:
    """Return patient -> one of the two groups of a flag."""
    config = cohort.config.attributes[name]
    groups = _values(name, config, cases)[1]
    there = config.sort_groups(groups.values())
    if len(there) != 2:
        got = ", ".join(there[:5]) or "none"
        msg = f"--shortcut {name}: expected an attribute of two groups among the held-out patients, got {got}"
        raise InputError(f"{msg}; give a flag such as yes and no")
    return groups


def _values(
    name: str, config: AttributeConfig, cases: Sequence[HeldOutCase]
) -> tuple[dict[str, str] | dict[str, float], dict[str, str], int]:
    """Return patient -> target, patient -> group, and how many are left out as their scans differ."""
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for one in cases:
        text = one.case.attributes.get(name)
        if text is not None:
            texts[one.case.patient_id].append(text)
    if config.kind == "continuous":
        numbers = {patient: sum(map(float, found)) / len(found) for patient, found in texts.items()}
        return numbers, {patient: config.group_of(str(number)) or "" for patient, number in numbers.items()}, 0
    named = {patient: {config.group_of(text) or "" for text in found} for patient, found in texts.items()}
    groups = {patient: next(iter(found)) for patient, found in named.items() if len(found) == 1}
    return groups, groups, len(named) - len(groups)
