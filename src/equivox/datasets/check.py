"""Check a whole cohort and list all that is wrong at once."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from equivox.datasets.check_case import CaseFindings, Problem, Tier, examine_case, problem_of_error
from equivox.datasets.cohort import TABLE_NAME, Case, Cohort, row_faults
from equivox.datasets.wording import some
from equivox.parallel import map_cases

Key = TypeVar("Key", bound=Hashable)

_TIERS: tuple[Tier, ...] = ("error", "repairable", "note")


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        cohort: Name of the cohort.
        cases: How many were looked at.
        problems: Errors first, then what can be repaired, then notes; each by case.
        findings: What the files of each case hold.
    """

    cohort: str
    cases: int
    problems: tuple[Problem, ...]
    findings: tuple[CaseFindings, ...]

    def of_tier(self, tier: Tier) -> tuple[Problem, ...]:
        """Return the problems of one tier."""
        return tuple(problem for problem in self.problems if problem.tier == tier)

    @property
    def usable(self) -> bool:
        """Whether there is nothing left that must be mended or repaired."""
        return not self.of_tier("error") and not self.of_tier("repairable")

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        counts = {tier: len(self.of_tier(tier)) for tier in _TIERS}
        problems = [problem.to_json() for problem in self.problems]
        return {
            "cohort": self.cohort,
            "cases": self.cases,
            "usable": self.usable,
            "counts": counts,
            "problems": problems,
        }


def check_cohort(cohort: Cohort, workers: int = 1) -> CheckResult:
    """Look at every file of every case and list all problems.

    Args:
        cohort: From ``load_cohort(folder, sound=False)``, so that faulty rows are listed and not refused.
        workers: Processes to use.
    """
    findings, problems = examine_cohort(cohort, workers)
    table = str(cohort.folder / TABLE_NAME)
    problems += [Problem("error", table, fault.what, fault.todo, fault.case_id) for fault in row_faults(cohort)]
    problems += _duplicates(findings)
    problems += _components(findings)
    problems += _attribute_notes(cohort)
    problems += _class_notes(cohort, findings)
    problems += _unlabelled_note(cohort)
    problems += _spacing_note(cohort, findings)
    order = {case.case_id: index for index, case in enumerate(cohort.cases)}
    problems.sort(key=lambda problem: (_TIERS.index(problem.tier), order.get(problem.case_id or "", -1)))
    return CheckResult(cohort.config.name, len(cohort.cases), tuple(problems), tuple(findings))


def examine_cohort(cohort: Cohort, workers: int) -> tuple[list[CaseFindings], list[Problem]]:
    """Look at the files of every case.

    Returns:
        The findings of the cases that could be looked at, and the problems of each case by itself.
    """
    jobs = [(case, cohort.config) for case in cohort.cases]
    findings, problems = [], []
    for outcome in map_cases(examine_case, jobs, workers=workers, description="Checking"):
        if outcome.result is None:
            case = outcome.item[0]
            path = next(iter(case.images.values()), cohort.folder / TABLE_NAME)
            problems.append(problem_of_error(path, str(outcome.error), case.case_id))
        else:
            findings.append(outcome.result)
            problems += outcome.result.problems
    return findings, problems


def find_shared_contents(findings: Sequence[CaseFindings]) -> list[tuple[tuple[Case, str], ...]]:
    """Find images and labels with the same voxels in cases of different patients.

    Constant images and empty labels are alike without being copies, and are not counted.

    Returns:
        Groups of (case, path) of which at least two belong to different patients.
    """
    owners: dict[tuple[str, str], list[tuple[Case, str]]] = defaultdict(list)
    for found in findings:
        for image in found.images.values():
            if not image.constant:
                owners["image", image.content].append((found.case, str(image.path)))
        for label in found.labels.values():
            if not label.empty:
                owners["label", label.content].append((found.case, str(label.path)))
    return [tuple(group) for group in owners.values() if len({case.patient_id for case, _ in group}) > 1]


def _duplicates(findings: Sequence[CaseFindings]) -> list[Problem]:
    problems = []
    for group in find_shared_contents(findings):
        (first, first_path), *others = group
        for case, path in others:
            if case.patient_id != first.patient_id:
                what = f"the same voxels as {first_path}, of patient '{first.patient_id}', not '{case.patient_id}'"
                todo = "give both cases one patient_id if they are one patient, else remove the copy"
                problems.append(Problem("error", path, what, todo, case.case_id))
    return problems


def _components(findings: Sequence[CaseFindings]) -> list[Problem]:
    """Find channels that are colour pictures in some cases and grey in others."""
    problems = []
    by_channel: dict[str, list[tuple[Case, int, str]]] = defaultdict(list)
    for found in findings:
        for channel, image in found.images.items():
            by_channel[channel].append((found.case, image.components, str(image.path)))
    for channel, entries in by_channel.items():
        counts = [count for _, count, _ in entries]
        usual = max(sorted(set(counts)), key=counts.count)
        for case, count, path in entries:
            if count != usual:
                what = f"{count} values a voxel, but most images of channel '{channel}' have {usual}"
                todo = "convert it (grey pictures have 1, colour ones 3)"
                problems.append(Problem("error", path, what, todo, case.case_id, f"image:{channel}"))
    return problems


def _attribute_notes(cohort: Cohort) -> list[Problem]:
    table, problems = str(cohort.folder / TABLE_NAME), []
    for name in cohort.config.attributes:
        values: dict[str, set[str]] = defaultdict(set)
        for case in cohort.cases:
            value = case.attributes[name]
            values[case.patient_id] |= {value} if value is not None else set()
        unknown = [patient for patient, known in values.items() if not known]
        if unknown:
            what = f"{name} is unknown for {len(unknown)} of {len(values)} patients: {some(unknown)}"
            problems.append(Problem("note", table, what, "fill it in if you can: they count in no group"))
        torn = [patient for patient, known in values.items() if len(known) > 1]
        if torn:
            what = f"{name} differs between the cases of {len(torn)} patients: {some(torn)}"
            problems.append(Problem("note", table, what, "mend it, unless it is an attribute of the scan"))
    return problems


def _class_notes(cohort: Cohort, findings: Sequence[CaseFindings]) -> list[Problem]:
    voxels = [found.class_voxels(cohort.config) for found in findings]
    labelled = [counts for counts in voxels if counts is not None]
    absent = [name for name in cohort.config.classes if labelled and not any(counts[name] for counts in labelled)]
    file = str(cohort.folder / "cohort.yaml")
    todo = "remove it from classes, or check label_values"
    return [Problem("note", file, f"class '{name}' is in no label", todo) for name in absent]


def _unlabelled_note(cohort: Cohort) -> list[Problem]:
    bare = [case.case_id for case in cohort.cases if not case.labels]
    if not bare:
        return []
    what = f"{len(bare)} of {len(cohort.cases)} cases have no label: {some(bare)}"
    todo = "nothing, if they are only to be segmented: they are in no fold of a split"
    return [Problem("note", str(cohort.folder / TABLE_NAME), what, todo)]


def _spacing_note(cohort: Cohort, findings: Sequence[CaseFindings]) -> list[Problem]:
    """Sides of exactly 1 mm in every image are most often what a converter wrote that knew no voxel size."""
    images = [image for found in findings for image in found.images.values()]
    known = [image for image in images if image.spacing_known and image.dimensions == 3]
    if cohort.config.nominal_spacing or len(known) < 2 or any(image.grid.spacing_mm != (1, 1, 1) for image in known):
        return []
    what = "every image has voxels of exactly 1 x 1 x 1 mm"
    todo = "if these are not the real sizes, set nominal_spacing: true, so that nothing is claimed in mm or ml"
    return [Problem("note", str(cohort.folder / "cohort.yaml"), what, todo)]
