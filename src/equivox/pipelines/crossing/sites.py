"""The sites of a cohort: who was scanned where, which sites are large enough to train at, and what would leak."""

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from equivox.datasets.check import examine_cohort, find_shared_contents
from equivox.datasets.check_case import CaseFindings
from equivox.datasets.cohort import TABLE_NAME, Cohort
from equivox.datasets.describe import spacing_is_real
from equivox.errors import InputError
from equivox.metrics.fairness.groups import one_group_per_patient
from equivox.pipelines.cross_site_config import CrossSiteConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SiteCase:
    """One case that takes part.

    Attributes:
        case_id: Unique in the cohort.
        patient_id: The unit of folds and statistics.
        site: Where it was scanned.
        volume: Of the lesion class, or of all classes: in ml, in voxels where sizes are not real.
        thickness_mm: The largest voxel side; None where sizes are not real.
        content: Hash of the voxels and the grids of its files.
    """

    case_id: str
    patient_id: str
    site: str
    volume: float
    thickness_mm: float | None
    content: str


@dataclass(frozen=True, eq=False)
class Sites:
    """Everything about the sites before a model is trained.

    Attributes:
        cohort: The cohort.
        cases: The cases that take part, in the order of the table.
        trained: Sites that are large enough to train at, by name.
        tested: Further sites, for testing only.
        classes: Classes that every site has: those that are scored.
        missing_classes: Classes that are not scored -> the sites that lack them.
        attributes: Attribute -> patient -> group, None where unknown; without the sites and the label protocol.
        orders: Attribute -> its groups in the order to show them.
        in_voxels: Nothing in mm or ml may be claimed.
        protocols: Site -> the label protocols in use there; empty where none is declared.
        excluded: Case -> why it takes no part.
        notes: What a reader should know.
    """

    cohort: Cohort
    cases: tuple[SiteCase, ...]
    trained: tuple[str, ...]
    tested: tuple[str, ...]
    classes: dict[str, int]
    missing_classes: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, Mapping[str, str | None]]
    orders: Mapping[str, tuple[str, ...]]
    in_voxels: bool
    protocols: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All sites, those with models of their own first."""
        return (*self.trained, *self.tested)

    def patients(self, site: str) -> tuple[str, ...]:
        """Return the patients of a site, sorted."""
        return tuple(sorted({case.patient_id for case in self.cases if case.site == site}))

    def patient_volume(self, patient: str) -> float:
        """Return the mean volume of a patient's cases."""
        return _mean([case.volume for case in self.cases if case.patient_id == patient])

    def patient_thickness(self, patient: str) -> float:
        """Return the mean slice thickness of a patient's cases; NaN where it is not known."""
        known = [case.thickness_mm for case in self.cases if case.patient_id == patient]
        return _mean([math.nan if one is None else one for one in known])


def find_sites(cohort: Cohort, config: CrossSiteConfig, workers: int) -> Sites:
    """Read every case once and sort the patients by site.

    Raises:
        InputError: If the site is no attribute of the cohort, a patient was scanned at two sites, a scan belongs to two
            patients, a file cannot be read, or fewer than two sites are large enough.
    """
    table = cohort.folder / TABLE_NAME
    for option, name in (("site", config.site), ("label_protocol", config.label_protocol)):
        if name is not None and name not in cohort.config.attributes:
            declared = ", ".join(cohort.config.attributes) or "none"
            msg = f"{option}: expected an attribute of {cohort.folder / 'cohort.yaml'}, which declares {declared}, got "
            raise InputError(f"{msg}'{name}'; declare it there, or name another")
    if config.lesion_class is not None and config.lesion_class not in cohort.config.classes:
        msg = f"lesion_class: expected one of {list(cohort.config.classes)}, got '{config.lesion_class}'; choose one"
        raise InputError(msg)
    attribute = cohort.config.attributes[config.site]
    site_of = {case.case_id: attribute.group_of(case.attributes[config.site]) for case in cohort.cases}
    excluded = {case: f"the {config.site} is not known" for case, site in site_of.items() if site is None}
    excluded |= {case.case_id: "no reference mask" for case in cohort.cases if case.label is None}
    kept = [case for case in cohort.cases if case.case_id not in excluded]
    _refuse_patients_of_two_sites([(case.patient_id, str(site_of[case.case_id])) for case in kept], str(table))
    rows = cohort.table[cohort.table["case_id"].isin([case.case_id for case in kept])]
    part = Cohort(cohort.folder, cohort.config, rows)
    findings = _examined(part, workers)
    notes = _duplicates(findings, config)
    in_voxels = not spacing_is_real(cohort, findings)
    cases = [_site_case(found, str(site_of[found.case.case_id]), part, config, in_voxels) for found in findings]
    cases, empty = _without_empty_sites(cases, findings)
    excluded |= {case: f"no reference mask of site '{site}' has a structure" for case, site in empty.items()}
    notes += [
        f"Site {site}: no reference mask has a structure, so that overlap says nothing there; it is left out."
        for site in sorted(set(empty.values()))
    ]
    trained, tested = _large_enough(cases, config)
    if tested:
        small = ", ".join(f"{name} ({count})" for name, count in tested.items())
        notes.append(f"For testing only, as there are fewer than {config.minimum_patients} patients: {small}.")
    if len(trained) == 2 and {"leave_out", "leave_out_matched"} & set(config.kinds):
        notes.append("With two sites, leaving one out is training on the other: there are no rows of their own for it.")
    classes, missing = _shared_classes(cases, findings, part)
    notes += [
        f"Class {name} is not scored, as it is in no reference mask of {', '.join(lacking)}."
        for name, lacking in missing.items()
    ]
    protocols = {} if config.label_protocol is None else _protocols(part, cases, config.label_protocol)
    if len(set(protocols.values())) > 1:
        named = "; ".join(f"{site}: {', '.join(names)}" for site, names in protocols.items())
        notes.append(f"References of the sites were drawn by other protocols, and a gap may be one of these: {named}.")
    for note in notes:
        logger.warning("%s", note)
    groups, orders = _groups(part, cases, {config.site, config.label_protocol})
    return Sites(
        cohort=part,
        cases=tuple(cases),
        trained=tuple(trained),
        tested=tuple(tested),
        classes=classes,
        missing_classes=missing,
        attributes=groups,
        orders=orders,
        in_voxels=in_voxels,
        protocols=protocols,
        excluded=excluded,
        notes=tuple(notes),
    )


def _refuse_patients_of_two_sites(pairs: Sequence[tuple[str, str]], where: str) -> None:
    sites: dict[str, set[str]] = defaultdict(set)
    for patient, site in pairs:
        sites[patient].add(site)
    both = {patient: sorted(names) for patient, names in sites.items() if len(names) > 1}
    if both:
        named = ", ".join(f"'{patient}' ({' and '.join(names)})" for patient, names in list(both.items())[:5])
        more = f" and {len(both) - 5} more" if len(both) > 5 else ""
        msg = (
            f"{where}: expected each patient at one site, got {named}{more}, who would be trained and tested on; give "
            "different people different ids, or one site"
        )
        raise InputError(msg)


def _examined(cohort: Cohort, workers: int) -> list[CaseFindings]:
    findings, problems = examine_cohort(cohort, workers)
    errors = [problem for problem in problems if problem.tier == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        msg = f"{errors[0].line}{more}: 'equivox cohort check' lists all problems"
        raise InputError(msg)
    return findings


def _duplicates(findings: Sequence[CaseFindings], config: CrossSiteConfig) -> list[str]:
    shared = find_shared_contents(findings)
    if not shared:
        return []
    groups = [sorted({case.case_id for case, _ in group}) for group in shared]
    named = "; ".join(" = ".join(group) for group in sorted(groups)[:5])
    if config.duplicates == "refuse":
        msg = (
            f"cohort: expected scans of its own for each patient, got the same voxels in {named}, which leaks; remove "
            "the copies, or write duplicates: warn to keep them"
        )
        raise InputError(msg)
    return [f"The same voxels belong to several patients, who may be trained and tested on: {named}."]


def _site_case(found: CaseFindings, site: str, cohort: Cohort, config: CrossSiteConfig, in_voxels: bool) -> SiteCase:
    voxels = found.class_voxels(cohort.config) or {}
    label = next(iter(found.labels.values()))
    count = sum(voxels.values()) if config.lesion_class is None else voxels[config.lesion_class]
    sides = label.grid.spacing_mm
    if label.grid.shape[2] == 1:
        sides = (sides[0], sides[1], 0.0)
    content = hashlib.sha256()
    for image in found.images.values():
        content.update(f"{image.content} {image.grid.affine.tolist()}\n".encode())
    for mask in found.labels.values():
        content.update(f"{mask.content} {mask.grid.affine.tolist()}\n".encode())
    return SiteCase(
        case_id=found.case.case_id,
        patient_id=found.case.patient_id,
        site=site,
        volume=float(count) if in_voxels else count * label.grid.voxel_volume_mm3 / 1000,
        thickness_mm=None if in_voxels else max(sides),
        content=content.hexdigest(),
    )


def _without_empty_sites(
    cases: Sequence[SiteCase], findings: Sequence[CaseFindings]
) -> tuple[list[SiteCase], dict[str, str]]:
    filled = {found.case.case_id for found in findings if not next(iter(found.labels.values())).empty}
    sites = {case.site for case in cases if case.case_id in filled}
    return (
        [case for case in cases if case.site in sites],
        {case.case_id: case.site for case in cases if case.site not in sites},
    )


def _large_enough(cases: Sequence[SiteCase], config: CrossSiteConfig) -> tuple[dict[str, int], dict[str, int]]:
    patients: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        patients[case.site].add(case.patient_id)
    counts = {name: len(patients[name]) for name in sorted(patients)}
    trained = {name: count for name, count in counts.items() if count >= config.minimum_patients}
    if len(trained) < 2:
        got = ", ".join(f"{name} ({count})" for name, count in counts.items()) or "none"
        msg = (
            f"{config.site}: expected two sites with {config.minimum_patients} patients or more, got {got}; "
            "with one site nothing can be said across sites; lower minimum_patients if smaller ones will do"
        )
        raise InputError(msg)
    smallest = min(trained.values())
    # A model needs a patient to train on and one for its curve beside the fold that it is tested on.
    if smallest < config.folds or smallest - math.ceil(smallest / config.folds) < 2:
        msg = f"folds: expected so few that each of {smallest} patients' folds leaves two to train on, got "
        raise InputError(f"{msg}{config.folds}; take fewer, or raise minimum_patients")
    return trained, {name: count for name, count in counts.items() if name not in trained}


def _shared_classes(
    cases: Sequence[SiteCase], findings: Sequence[CaseFindings], cohort: Cohort
) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    site_of = {case.case_id: case.site for case in cases}
    there: dict[str, set[str]] = {site: set() for site in site_of.values()}
    for found in findings:
        site = site_of.get(found.case.case_id)
        if site is not None:
            there[site] |= {name for name, count in (found.class_voxels(cohort.config) or {}).items() if count}
    missing = {
        name: tuple(sorted(site for site, names in there.items() if name not in names))
        for name in cohort.config.classes
    }
    missing = {name: lacking for name, lacking in missing.items() if lacking}
    classes = {name: index for name, index in cohort.config.classes.items() if name not in missing}
    if not classes:
        first, without = next(iter(missing.items()))
        msg = (
            f"{cohort.folder}: expected a class that every site has, got none ('{first}' is not at {without[0]}); "
            "leave such a site out by emptying its cells"
        )
        raise InputError(msg)
    return classes, missing


def _protocols(cohort: Cohort, cases: Sequence[SiteCase], attribute: str) -> dict[str, tuple[str, ...]]:
    site_of = {case.case_id: case.site for case in cases}
    found: dict[str, set[str]] = {site: set() for site in sorted(set(site_of.values()))}
    for case in cohort.cases:
        if case.case_id in site_of:
            protocol = cohort.config.attributes[attribute].group_of(case.attributes[attribute])
            found[site_of[case.case_id]].add("not known" if protocol is None else protocol)
    return {site: tuple(sorted(names)) for site, names in found.items()}


def _groups(
    cohort: Cohort, cases: Sequence[SiteCase], without: Collection[str | None]
) -> tuple[dict[str, dict[str, str | None]], dict[str, tuple[str, ...]]]:
    kept = {case.case_id for case in cases}
    own = [case for case in cohort.cases if case.case_id in kept]
    groups, orders = {}, {}
    for name, attribute in cohort.config.attributes.items():
        if name in without:
            continue
        values = [attribute.group_of(case.attributes[name]) for case in own]
        by_patient, _ = one_group_per_patient([case.patient_id for case in own], values)
        groups[name] = by_patient
        orders[name] = tuple(attribute.sort_groups(group for group in by_patient.values() if group is not None))
    return groups, orders


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
