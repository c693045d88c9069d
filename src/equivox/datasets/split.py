"""Split a cohort by patient into a test set and folds with like groups and like label volumes."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from equivox.atomic import atomic_path
from equivox.datasets.check import examine_cohort, find_shared_contents
from equivox.datasets.check_case import CaseFindings
from equivox.datasets.cohort import Cohort, load_cohort
from equivox.datasets.describe import UNKNOWN, spacing_is_real
from equivox.datasets.text_table import read_text_table
from equivox.errors import InputError

SPLIT_NAME = "split.csv"
TEST: Final = "test"
VOLUME: Final = "label volume"

Fold = int | Literal["test"]

# Patients of a fold are exchanged at random this many times each; an exchange that does not help is not made.
_EXCHANGES_PER_PATIENT = 200
_MOST_EXCHANGES = 40_000
_TERCILES = ("small", "medium", "large")


@dataclass(frozen=True)
class SplitResult:
    """A split, as saved in `split.csv`.

    Attributes:
        folds: Case id -> fold; cases without a label are not in it.
        patients: Patient id -> fold.
        strata: Attribute (and ``label volume``) -> patient id -> group.
        orders: Attribute (and ``label volume``) -> its groups in the order to show them.
        seed: What it was drawn with.
        unlabelled: Cases that are in no fold, as they have no label.
    """

    folds: Mapping[str, Fold]
    patients: Mapping[str, Fold]
    strata: Mapping[str, Mapping[str, str]]
    orders: Mapping[str, tuple[str, ...]]
    seed: int
    unlabelled: tuple[str, ...]

    @property
    def names(self) -> tuple[Fold, ...]:
        """The folds in order, the test set last."""
        present = set(self.patients.values())
        numbers: list[Fold] = sorted(fold for fold in present if isinstance(fold, int))
        return (*numbers, TEST) if TEST in present else tuple(numbers)

    def counts(self, stratum: str) -> dict[str, dict[Fold, int]]:
        """Return group -> fold -> patients for one attribute."""
        groups: dict[str, Counter[Fold]] = defaultdict(Counter)
        for patient, fold in self.patients.items():
            groups[self.strata[stratum][patient]][fold] += 1
        return {group: {fold: groups[group][fold] for fold in self.names} for group in self.orders[stratum]}

    def to_json(self) -> dict[str, Any]:
        """Return the split as plain values."""
        cases = Counter(self.folds.values())
        patients = Counter(self.patients.values())
        return {
            "seed": self.seed,
            "folds": {str(fold): {"patients": patients[fold], "cases": cases[fold]} for fold in self.names},
            "strata": {
                name: {group: {str(fold): n for fold, n in row.items()} for group, row in self.counts(name).items()}
                for name in self.strata
            },
            "unlabelled": list(self.unlabelled),
        }


def split_cohort(
    cohort: Cohort,
    *,
    folds: int = 5,
    test: float = 0.2,
    stratify: Sequence[str] | None = None,
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
) -> SplitResult:
    """Split the labelled cases by patient and save `split.csv` in the cohort's folder.

    All cases of a patient fall on one side. The test set and the folds get, as nearly as the numbers allow, the same
    share of each group of each attribute and of patients with small, medium and large labels. The same cohort, options
    and seed always give the same split.

    Args:
        cohort: The cohort.
        folds: How many folds for cross-validation, 2 or more.
        test: Part of the patients that is set aside for testing, 0 (none) up to, but not including, 1.
        stratify: Attributes to balance; None takes all that `cohort.yaml` declares. Label volume is always balanced.
        seed: Chooses another split of the same quality.
        workers: Processes that read the scans (to find copies of one scan under two patients) and the labels.
        overwrite: Replace a split that is there already.

    Raises:
        InputError: If there is a split already, a file is unreadable, two patients share a scan, an attribute is
            unknown, or there are too few patients.
    """
    _check_options(cohort, folds, test, overwrite=overwrite)
    attributes = tuple(cohort.config.attributes) if stratify is None else tuple(stratify)
    unknown = [name for name in attributes if name not in cohort.config.attributes]
    if unknown:
        declared = ", ".join(cohort.config.attributes) or "none"
        msg = (
            f"--stratify {unknown[0]}: expected an attribute of cohort.yaml, which declares {declared}; check the name"
        )
        raise InputError(msg)
    findings = _examine(cohort, workers)
    labelled = {found.case.case_id for found in findings if found.labels}
    patients = list(dict.fromkeys(case.patient_id for case in cohort.cases if case.case_id in labelled))
    sizes = _fold_sizes(len(patients), folds, test)
    strata = {name: _attribute_groups(cohort, name, patients) for name in attributes}
    strata[VOLUME] = _volume_groups(cohort, findings, patients)
    cases_of = Counter(case.patient_id for case in cohort.cases if case.case_id in labelled)
    features = _features(patients, strata, [cases_of[patient] for patient in patients])
    places = _balance(features, sizes, np.random.default_rng(seed))
    names: list[Fold] = [*range(folds), TEST]
    by_patient = {patient: names[int(place)] for patient, place in zip(patients, places, strict=True)}
    result = SplitResult(
        folds={case.case_id: by_patient[case.patient_id] for case in cohort.cases if case.case_id in labelled},
        patients=by_patient,
        strata=strata,
        orders={name: _order(cohort, name, groups) for name, groups in strata.items()},
        seed=seed,
        unlabelled=tuple(case.case_id for case in cohort.cases if case.case_id not in labelled),
    )
    _save(cohort, result)
    return result


def load_split(folder: Path) -> dict[str, Fold]:
    """Read `split.csv` of a cohort folder: case id -> fold (0 and up) or ``"test"``.

    Raises:
        InputError: If it is missing or malformed, names a case that the cohort has not, or has cases of one patient on
            two sides.
    """
    path = folder / SPLIT_NAME
    if not path.is_file():
        msg = f"{path}: expected a split, got none; make one with 'equivox cohort split {folder}'"
        raise InputError(msg)
    table = read_text_table(path)
    if list(table.columns) != ["case_id", "patient_id", "fold"]:
        msg = f"{path}: expected the columns case_id, patient_id, fold, got {list(table.columns)}; make the split again"
        raise InputError(msg)
    owners = {case.case_id: case.patient_id for case in load_cohort(folder).cases}
    split: dict[str, Fold] = {}
    places: dict[str, Fold] = {}
    for row in table.itertuples(index=False):
        case_id, patient, fold = str(row.case_id), str(row.patient_id), _parse_fold(str(row.fold), path)
        if owners.get(case_id) is None or case_id in split:
            what = "twice" if case_id in split else "which cohort.csv does not have"
            msg = f"{path}: expected each case of the cohort once, got '{case_id}' {what}; make the split again"
            raise InputError(msg)
        if owners[case_id] != patient:
            wanted = f"patient '{owners[case_id]}' for case '{case_id}'"
            msg = f"{path}: expected {wanted}, got '{patient}'; make the split again"
            raise InputError(msg)
        if places.setdefault(patient, fold) != fold:
            sides = f"{places[patient]} and {fold}, which is leakage"
            msg = f"{path}: expected patient '{patient}' on one side, got {sides}; make the split again"
            raise InputError(msg)
        split[case_id] = fold
    numbers = sorted({fold for fold in split.values() if isinstance(fold, int)})
    if numbers != list(range(len(numbers))) or not numbers:
        msg = f"{path}: expected the folds 0, 1, 2, ... without gaps, got {numbers}; make the split again"
        raise InputError(msg)
    return split


def _parse_fold(text: str, path: Path) -> Fold:
    if text == TEST:
        return TEST
    if not (text.isascii() and text.isdecimal()):
        msg = f"{path}: expected a fold such as 0, 1 or 'test', got '{text}'; make the split again"
        raise InputError(msg)
    return int(text)


def _check_options(cohort: Cohort, folds: int, test: float, *, overwrite: bool) -> None:
    path = cohort.folder / SPLIT_NAME
    if path.exists() and not overwrite:
        msg = f"{path}: expected no split yet, got one, which trained models may rely on; keep it, or add --overwrite"
        raise InputError(msg)
    if folds < 2:
        msg = f"--folds {folds}: expected 2 or more, as one fold would have nothing to train on; write --folds 5"
        raise InputError(msg)
    if not 0 <= test < 1:
        msg = f"--test {test:g}: expected a part from 0 up to, but not including, 1; write for example --test 0.2"
        raise InputError(msg)


def _examine(cohort: Cohort, workers: int) -> list[CaseFindings]:
    findings, problems = examine_cohort(cohort, workers)
    readable = {str(image.path) for found in findings for image in found.images.values()}
    readable |= {str(label.path) for found in findings for label in found.labels.values()}
    unreadable = [problem for problem in problems if problem.tier == "error" and problem.file not in readable]
    if unreadable:
        more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        msg = f"{unreadable[0].line}{more}: 'equivox cohort check' lists all problems"
        raise InputError(msg)
    shared = find_shared_contents(findings)
    if shared:
        first = shared[0][0]
        second = next(entry for entry in shared[0] if entry[0].patient_id != first[0].patient_id)
        msg = (
            f"{second[1]}: expected scans of its own for patient '{second[0].patient_id}', got the voxels of "
            f"{first[1]} of patient '{first[0].patient_id}', which leaks; remove the copy, or give both one patient_id"
        )
        raise InputError(msg)
    return findings


def _fold_sizes(patients: int, folds: int, test: float) -> list[int]:
    """Return the number of patients of each fold, then of the test set; folds differ by one at most."""
    testing = min(max(1, round(test * patients)), patients) if test > 0 else 0
    training = patients - testing
    if training < folds:
        set_aside = f" besides {testing} for testing" if testing else ""
        msg = (
            f"--folds {folds}: expected at least {folds} patients with labels{set_aside}, got {training}; "
            "take fewer folds or a smaller --test"
        )
        raise InputError(msg)
    return [training // folds + (fold < training % folds) for fold in range(folds)] + [testing]


def _attribute_groups(cohort: Cohort, name: str, patients: Sequence[str]) -> dict[str, str]:
    """Return patient -> group; where the cases of a patient differ, the first known value counts."""
    attribute = cohort.config.attributes[name]
    groups = dict.fromkeys(patients, UNKNOWN)
    for case in cohort.cases:
        group = attribute.group_of(case.attributes[name])
        if group is not None and groups.get(case.patient_id) == UNKNOWN:
            groups[case.patient_id] = group
    return groups


def _volume_groups(cohort: Cohort, findings: Sequence[CaseFindings], patients: Sequence[str]) -> dict[str, str]:
    """Return patient -> tercile of the mean labelled volume of the patient's cases, in voxels if sizes are nominal."""
    real = spacing_is_real(cohort, findings)
    volumes: dict[str, list[float]] = defaultdict(list)
    for found in findings:
        voxels = found.class_voxels(cohort.config)
        if voxels is not None:
            size = next(iter(found.labels.values())).grid.voxel_volume_mm3 if real else 1.0
            volumes[found.case.patient_id].append(sum(voxels.values()) * size)
    means = np.array([float(np.mean(volumes[patient])) for patient in patients])
    ranks = np.argsort(np.argsort(means, kind="stable"), kind="stable")
    return {patient: _TERCILES[int(rank) * 3 // len(patients)] for patient, rank in zip(patients, ranks, strict=True)}


def _order(cohort: Cohort, name: str, groups: Mapping[str, str]) -> tuple[str, ...]:
    present = set(groups.values())
    if name == VOLUME:
        return tuple(group for group in _TERCILES if group in present)
    known = cohort.config.attributes[name].sort_groups(present - {UNKNOWN})
    return (*known, UNKNOWN) if UNKNOWN in present else tuple(known)


def _features(
    patients: Sequence[str], strata: Mapping[str, Mapping[str, str]], cases: Sequence[int]
) -> Float[np.ndarray, "patients features"]:
    """Return what is to be spread evenly: membership in each group, and the number of cases.

    Each column is divided by the root of its sum, so that squared deviations add up like those of a chi-square test.
    """
    columns = [np.array(cases, dtype=np.float64)]
    for groups in strata.values():
        members = [[groups[patient] == group for patient in patients] for group in sorted(set(groups.values()))]
        columns += [np.array(member, dtype=np.float64) for member in members]
    matrix = np.stack(columns, axis=1)
    return np.asarray(matrix / np.sqrt(matrix.sum(axis=0)))


def _balance(
    features: Float[np.ndarray, "patients features"], sizes: Sequence[int], random: np.random.Generator
) -> Int[np.ndarray, " patients"]:
    """Put each patient into a fold of fixed size, so that each fold's sum of features is near its share.

    Rare patients are placed first, each where it helps most; then pairs are exchanged while that helps.
    """
    count = len(features)
    shares = np.array(sizes) / count
    missing = shares[:, None] * features.sum(axis=0)  # what each fold still lacks
    # Large folds may be off by more: measure each fold's lack by its size.
    scale = 1 / np.maximum(shares, 1 / count)
    room = np.array(sizes)
    places = np.full(count, -1)
    rarity = features.max(axis=1)
    order = np.lexsort((random.permutation(count), -rarity))
    for patient in order:
        gain = scale * ((missing**2).sum(axis=1) - ((missing - features[patient]) ** 2).sum(axis=1))
        fold = int(np.argmax(np.where(room > 0, gain, -np.inf)))
        places[patient] = fold
        missing[fold] -= features[patient]
        room[fold] -= 1
    for _ in range(min(_EXCHANGES_PER_PATIENT * count, _MOST_EXCHANGES)):
        one, other = random.integers(count, size=2)
        here, there = places[one], places[other]
        if here == there:
            continue
        moved = features[one] - features[other]
        before = scale[here] * (missing[here] ** 2).sum() + scale[there] * (missing[there] ** 2).sum()
        after = (
            scale[here] * ((missing[here] + moved) ** 2).sum() + scale[there] * ((missing[there] - moved) ** 2).sum()
        )
        if after < before - 1e-12:
            missing[here] += moved
            missing[there] -= moved
            places[one], places[other] = there, here
    return places


def _save(cohort: Cohort, result: SplitResult) -> None:
    owners = {case.case_id: case.patient_id for case in cohort.cases}
    rows = [(case_id, owners[case_id], str(fold)) for case_id, fold in result.folds.items()]
    with atomic_path(cohort.folder / SPLIT_NAME) as temporary:
        pd.DataFrame(rows, columns=["case_id", "patient_id", "fold"]).to_csv(
            temporary, index=False, lineterminator="\n"
        )
    split = load_split(cohort.folder)
    if split != dict(result.folds):
        msg = f"{cohort.folder / SPLIT_NAME} reads back differently from what was written"
        raise RuntimeError(msg)
