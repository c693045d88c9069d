"""What a linear model can tell of the patients from vectors of theirs, such as the features of a network."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from equivox.errors import InputError
from equivox.metrics.fairness.erasure import erase, inlp_directions
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, Interval
from equivox.metrics.statistics.logistic import balanced_logistic

STRENGTHS: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
"""Inverse strengths of the L2 penalty that are chosen among, the strongest penalty first."""

TESTED_STRENGTHS: Final = (1e-2, 1.0, 1e2)
"""Of the probes whose largest score is compared with the largest on shuffled labels: fixed beforehand, so that choosing
among them cannot favour the true labels, and for speed."""

MINIMUM_PROBED: Final = 20
"""Fewer patients are not probed."""

UNSTABLE: Final = 50
"""Fewer patients are probed, and the result is marked."""

_FOLDS: Final = 5
_CHUNK: Final = 200
"""Resamples in memory at a time."""

_REMEMBERED: Final = 1024
"""Splits in memory: of 1,000 patients, 40 MB."""

_SITE_GROUP: Final = 5
"""Patients of a group that a left-out site must have for it to be scored."""

Kind = Literal["groups", "number"]


@dataclass(frozen=True, eq=False)
class PatientVectors:
    """Vectors in one space: those of one network, or the same measurements of each patient.

    Attributes:
        patients: Each once.
        vectors: One row a patient.

    Raises:
        InputError: If a patient comes twice (the probe would be trained and tested on the same patient), lengths
            differ, or a number is not finite.
    """

    patients: tuple[str, ...]
    vectors: Float[np.ndarray, "patients dims"]

    def __post_init__(self) -> None:
        """Refuse what would let a patient be on both sides of a split."""
        twice = [patient for patient, count in Counter(self.patients).items() if count > 1]
        if twice:
            msg = f"probe: expected each patient once, got '{twice[0]}' twice; average the patient's scans first"
            raise InputError(msg)
        if len(self.patients) != len(self.vectors) or not np.isfinite(self.vectors).all():
            got = f"{len(self.vectors)} rows for {len(self.patients)} patients, or missing numbers"
            msg = f"probe: expected a row of finite numbers for each patient, got {got}; leave such patients out"
            raise InputError(msg)

    def of(self, patients: Sequence[str]) -> "PatientVectors":
        """Return the vectors of these patients, in their order."""
        rows = {patient: row for row, patient in enumerate(self.patients)}
        return PatientVectors(tuple(patients), self.vectors[[rows[patient] for patient in patients]])


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is tested.

    Attributes:
        permutations: Shuffles of the labels behind `p`.
        draws: Resamples of patients behind the intervals.
        seed: Of everything random.
        confidence: Of the percentile intervals.
        minimum_group: A group of fewer patients is left out.
    """

    permutations: int = 200
    draws: int = 1999
    seed: int = 0
    confidence: float = 0.95
    minimum_group: int = MINIMUM_PATIENTS


@dataclass(frozen=True)
class Probed:
    """Who can be probed.

    Attributes:
        kind: Whether the target names groups or gives numbers.
        spaces: Which of the spaces have enough patients, by their place.
        groups: Group -> patients over all those spaces; empty for numbers.
        small: Groups left out as too small -> patients.
        patients: Distinct patients.
        reason: Why nothing is probed; empty where something is.
    """

    kind: Kind
    spaces: tuple[int, ...]
    groups: Mapping[str, int]
    small: Mapping[str, int]
    patients: int
    reason: str = ""


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """What models said of patients that they were not fitted to.

    Attributes:
        patients: In one space (and, with sites left out, of one site).
        truth: Index of the patient's group, or the patient's number.
        scores: One a group, or the predicted number in one column.
        weight: Of this part in the mean over parts.
        strengths: Inverse strength of the penalty that the inner folds chose, one an outer fold.
    """

    patients: tuple[str, ...]
    truth: Float[np.ndarray, " patients"]
    scores: Float[np.ndarray, "patients columns"]
    weight: float
    strengths: tuple[float, ...]


@dataclass(frozen=True)
class ShuffledLabels:
    """What a probe reaches when nothing can be told: over the shuffles, mean and the central 95 %.

    The penalty is the middle one of the three that are tested.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Probe:
    """The result of a probe.

    Attributes:
        kind: ``groups`` is scored by the area under the ROC curve, each group against the rest, mean over groups;
            ``number`` by R2.
        groups: Group -> patients.
        patients: Distinct patients.
        score: Mean over the spaces of the score of the pooled held-out scores; chance is 0.5, or 0 for a number.
        interval: By resampling patients; None where too few resamples have every group.
        second: Balanced accuracy, or for a number the mean absolute error in its unit.
        second_interval: Likewise.
        p: Of nothing to be told; None where the labels were not shuffled.
        shuffled: The same for the shuffled labels.
        unstable: Fewer than 50 patients.
        parts: One a space.
    """

    kind: Kind
    groups: Mapping[str, int]
    patients: int
    score: float
    interval: Interval | None
    second: float
    second_interval: Interval | None
    p: float | None
    shuffled: ShuffledLabels | None
    unstable: bool
    parts: tuple[HeldOutScores, ...]

    @property
    def chance(self) -> float:
        """The score of a probe that knows nothing."""
        return 0.5 if self.kind == "groups" else 0.0


@dataclass(frozen=True)
class ScoreDifference:
    """Score of one probe minus that of another on the same patients.

    Attributes:
        value: The difference.
        interval: By resampling patients, both probes with the same ones.
    """

    value: float
    interval: Interval | None


def who_is_probed(
    spaces: Sequence[PatientVectors],
    target: Mapping[str, str] | Mapping[str, float],
    minimum_group: int = MINIMUM_PATIENTS,
) -> Probed:
    """Say which patients, groups and spaces can be probed, and if none, why.

    A space with fewer than 20 patients whose target is known is left out. A group must have `minimum_group` patients in
    every space that is left, as scores over other groups could not be averaged.

    Args:
        spaces: One a network.
        target: Patient -> group or number; patients of whom it is not known are missing.
        minimum_group: See `ProbeSettings`.
    """
    kind: Kind = "number" if any(not isinstance(value, str) for value in target.values()) else "groups"
    known = [[patient for patient in space.patients if patient in target] for space in spaces]
    kept = tuple(place for place, patients in enumerate(known) if len(patients) >= MINIMUM_PROBED)
    if not kept:
        most = max(map(len, known), default=0)
        reason = f"{most} held-out patients of whom it is known, and a probe needs {MINIMUM_PROBED}"
        return Probed(kind, (), {}, {}, most, reason)
    everyone = {patient for place in kept for patient in known[place]}
    if kind == "number":
        constant = len({target[patient] for patient in everyone}) < 2
        return Probed(kind, kept, {}, {}, len(everyone), "all patients have the same value" if constant else "")
    totals = Counter(str(target[patient]) for patient in everyone)
    counts = [Counter(str(target[patient]) for patient in known[place]) for place in kept]
    large = {name: total for name, total in totals.items() if min(one[name] for one in counts) >= minimum_group}
    small = {name: total for name, total in totals.items() if name not in large}
    patients = {patient for patient in everyone if target[patient] in large}
    reason = ""
    if len(large) < 2:
        told = ", ".join(f"{name} {count}" for name, count in sorted(totals.items()))
        reason = f"fewer than two groups have {minimum_group} held-out patients for each network (patients: {told})"
    elif min(sum(one[name] for name in large) for one in counts) < MINIMUM_PROBED:
        reason = f"fewer than {MINIMUM_PROBED} held-out patients in groups that are large enough"
    return Probed(kind, kept, dict(sorted(large.items())), dict(sorted(small.items())), len(patients), reason)


def probe(
    spaces: Sequence[PatientVectors],
    target: Mapping[str, str] | Mapping[str, float],
    *,
    blocks: Mapping[str, str | None] | None = None,
    settings: ProbeSettings | None = None,
    components: int | None = None,
    erased: int = 0,
    shuffle: bool = True,
) -> Probe:
    r"""Fit a linear probe in nested cross-validation over patients and score it on the patients left out.

    Standardise, reduce to principal components where there are more than ``n / 5`` dimensions for ``n`` patients, then
    logistic regression with an L2 penalty and balanced classes (ridge regression for numbers). Five outer folds,
    stratified by group, give each patient a score of a model that did not see the patient; five inner folds of the
    other patients choose the penalty. Means, variances, components and erased directions are the fold's own.

    Several spaces (the networks of a cross-validated run) are never mixed: their axes mean different things. Each is
    probed alone, on the patients that its network did not see, and the scores are averaged.

    `p` compares the largest score over three penalties that were fixed beforehand with the largest on labels that are
    shuffled among patients of the same block whom the same spaces hold, folds and all: ``p = (1 + b) / (1 + P)``, where
    ``b`` of ``P`` shuffles reach as much. The inner folds are not run again for each shuffle.

    Args:
        spaces: One or more.
        target: Patient -> group or number; others are left out.
        blocks: Patient -> site, say: labels are shuffled within it.
        settings: Draws and seed.
        components: Probe the first so many principal components, or as many as there are.
        erased: Directions to project out first (`inlp_directions`, of the fitted patients alone).
        shuffle: Whether to find `p`.

    Raises:
        InputError: If there are too few patients; `who_is_probed` says so beforehand.

    References:
        Alain and Bengio, "Understanding intermediate layers using linear classifier probes", ICLR workshop 2017.
        Ojala and Garriga, "Permutation tests for studying classifier performance", JMLR 2010.
    """
    settings = settings or ProbeSettings()
    probed = who_is_probed(spaces, target, settings.minimum_group)
    if probed.reason:
        msg = f"probe: expected enough patients, got {probed.reason}; leave the attribute out"
        raise InputError(msg)
    chosen = [spaces[place] for place in probed.spaces]
    space_patients = [_known(space, target, probed) for space in chosen]
    vectors = [space.of(patients).vectors for space, patients in zip(chosen, space_patients, strict=True)]
    how = _How(probed.kind, components, erased, settings.seed)
    names = list(probed.groups)

    def parts(labels: Mapping[str, float]) -> Iterator[HeldOutScores]:
        for patients, rows in zip(space_patients, vectors, strict=True):
            truth = np.array([labels[patient] for patient in patients])
            yield _held_out(tuple(patients), rows, truth, how, weight=1 / len(chosen))

    def fixed(labels: Mapping[str, float]) -> Float[np.ndarray, " strengths"]:
        found = []
        for patients, rows in zip(space_patients, vectors, strict=True):
            truth = np.array([labels[patient] for patient in patients])
            found.append([_whole_score(truth, one, how) for one in _at_each(rows, truth, TESTED_STRENGTHS, how)])
        mean: np.ndarray = np.mean(found, axis=0)
        return mean

    numbers = {
        patient: float(names.index(str(target[patient]))) if names else float(target[patient])
        for patients in space_patients
        for patient in patients
    }
    found = tuple(parts(numbers))
    p, shuffled = None, None
    if shuffle:
        observed = fixed(numbers).max()
        scores = np.stack([fixed(one) for one in _shuffles(numbers, space_patients, blocks or {}, settings)])
        p = (1 + int((scores.max(axis=1) >= observed - 1e-12).sum())) / (1 + len(scores))
        middle = scores[:, len(TESTED_STRENGTHS) // 2]
        low, high = np.quantile(middle, [0.025, 0.975])
        shuffled = ShuffledLabels(float(middle.mean()), float(low), float(high))
    everyone = sorted(numbers)
    first, second = (_resampled(found, everyone, probed.kind, which, settings) for which in (0, 1))
    return Probe(
        kind=probed.kind,
        groups=probed.groups,
        patients=len(everyone),
        score=_score(found, probed.kind),
        interval=_percentiles(first, settings.confidence),
        second=_score(found, probed.kind, which=1),
        second_interval=_percentiles(second, settings.confidence),
        p=p,
        shuffled=shuffled,
        unstable=len(everyone) < UNSTABLE,
        parts=found,
    )


def compare(first: Probe, second: Probe, settings: ProbeSettings | None = None) -> ScoreDifference:
    """Return how much more one probe tells than another, on the same patients and the same resamples of them.

    Raises:
        InputError: If the patients differ.
    """
    settings = settings or ProbeSettings()
    everyone = [sorted({patient for part in one.parts for patient in part.patients}) for one in (first, second)]
    if everyone[0] != everyone[1] or first.kind != second.kind:
        msg = f"probe: expected the same patients, got {len(everyone[0])} and {len(everyone[1])}; probe the same ones"
        raise InputError(msg)
    one, other = (_resampled(each.parts, everyone[0], each.kind, 0, settings) for each in (first, second))
    return ScoreDifference(first.score - second.score, _percentiles(one - other, settings.confidence))


def probe_other_sites(
    spaces: Sequence[PatientVectors],
    target: Mapping[str, str] | Mapping[str, float],
    sites: Mapping[str, str | None],
    *,
    settings: ProbeSettings | None = None,
) -> Probe | None:
    """Fit the probe to all sites but one and score it within the one left out, so that it cannot live on site alone.

    A site is scored with those of the groups of which it has five patients, if these are two or more. The score is the
    mean over sites, weighted by their patients, and over spaces.

    Args:
        spaces: As for `probe`.
        target: Likewise.
        sites: Patient -> site; patients without one are left out.
        settings: Draws and seed.

    Returns:
        The probe, without `p`; None where no site can be scored.
    """
    settings = settings or ProbeSettings()
    probed = who_is_probed(spaces, target, settings.minimum_group)
    if probed.reason:
        return None
    names = list(probed.groups)
    how = _How(probed.kind, None, 0, settings.seed)
    parts: list[HeldOutScores] = []
    for place in probed.spaces:
        patients = [patient for patient in _known(spaces[place], target, probed) if sites.get(patient) is not None]
        rows = spaces[place].of(patients).vectors
        numbers = [float(names.index(str(target[p]))) if names else float(target[p]) for p in patients]
        truth, where = np.array(numbers), np.array([str(sites[patient]) for patient in patients])
        for site in sorted(set(where.tolist())):
            here, scored = where == site, _scored_in(truth, where == site, probed.kind)
            kinds = set(truth[scored].tolist())
            if not scored.any() or not _can_be_fitted(truth[~here], probed.kind, kinds):
                continue
            strength, scores = _choose_and_predict(rows[~here], truth[~here], rows[scored], how)
            if names and scores.shape[1] < len(names):
                scores = _with_all_columns(scores, sorted(set(truth[~here].tolist())), len(names))
            own = tuple(patient for patient, kept in zip(patients, scored.tolist(), strict=True) if kept)
            parts.append(HeldOutScores(own, truth[scored], scores, float(scored.sum()), (strength,)))
    if not parts:
        return None
    total = sum(part.weight for part in parts)
    found = tuple(
        HeldOutScores(part.patients, part.truth, part.scores, part.weight / total, part.strengths) for part in parts
    )
    everyone = sorted({patient for part in found for patient in part.patients})
    first, second = (_resampled(found, everyone, probed.kind, which, settings) for which in (0, 1))
    return Probe(
        kind=probed.kind,
        groups=probed.groups,
        patients=len(everyone),
        score=_score(found, probed.kind),
        interval=_percentiles(first, settings.confidence),
        second=_score(found, probed.kind, which=1),
        second_interval=_percentiles(second, settings.confidence),
        p=None,
        shuffled=None,
        unstable=len(everyone) < UNSTABLE,
        parts=found,
    )


@dataclass(frozen=True)
class _How:
    """What stays the same over all fits of a probe."""

    kind: Kind
    components: int | None
    erased: int
    seed: int


def _known(space: PatientVectors, target: Mapping[str, str] | Mapping[str, float], probed: Probed) -> list[str]:
    """Return the patients of a space that are probed, in a fixed order that the file order does not change."""
    held = (patient for patient in space.patients if patient in target)
    return sorted(patient for patient in held if probed.kind == "number" or target[patient] in probed.groups)


def _shuffles(
    numbers: Mapping[str, float],
    space_patients: Sequence[Sequence[str]],
    blocks: Mapping[str, str | None],
    settings: ProbeSettings,
) -> Iterator[dict[str, float]]:
    """Yield labels shuffled within blocks and among patients whom the same spaces hold, so groups keep their sizes."""
    held = [set(patients) for patients in space_patients]
    together: dict[tuple[Any, ...], list[str]] = {}
    for patient in sorted(numbers):
        mark = (blocks.get(patient) or "", *(patient in patients for patients in held))
        together.setdefault(mark, []).append(patient)
    rng = np.random.default_rng([settings.seed, 1])
    for _ in range(settings.permutations):
        labels: dict[str, float] = {}
        for patients in together.values():
            order = rng.permutation(len(patients)).tolist()
            labels |= {patient: numbers[patients[other]] for patient, other in zip(patients, order, strict=True)}
        yield labels


def _held_out(
    patients: tuple[str, ...],
    vectors: Float[np.ndarray, "patients dims"],
    truth: Float[np.ndarray, " patients"],
    how: _How,
    weight: float,
) -> HeldOutScores:
    scores, chosen = np.zeros((len(truth), _columns(truth, how))), []
    for train, test in _splits(truth, how):
        strength, scores[test] = _choose_and_predict(vectors[train], truth[train], vectors[test], how)
        chosen.append(strength)
    return HeldOutScores(patients, truth, scores, weight, tuple(chosen))


def _choose_and_predict(
    train: Float[np.ndarray, "patients dims"],
    truth: Float[np.ndarray, " patients"],
    test: Float[np.ndarray, "others dims"],
    how: _How,
) -> tuple[float, Float[np.ndarray, "others columns"]]:
    """Return the penalty that inner folds choose, and what the model with it says of the others."""
    order = np.unique(truth, return_inverse=True)[1].astype(np.float64) if how.kind == "groups" else truth
    reached = [_whole_score(order, one, how) for one in _at_each(train, truth, STRENGTHS, how)]
    best = STRENGTHS[int(np.argmax(reached))]
    return best, _predict(train, truth, test, (best,), how)[0]


def _at_each(
    vectors: Float[np.ndarray, "patients dims"],
    truth: Float[np.ndarray, " patients"],
    strengths: Sequence[float],
    how: _How,
) -> Float[np.ndarray, "strengths patients columns"]:
    """Return the held-out scores of five folds at each penalty."""
    scores = np.zeros((len(strengths), len(truth), _columns(truth, how)))
    for train, test in _splits(truth, how):
        scores[:, test] = _predict(vectors[train], truth[train], vectors[test], strengths, how)
    return scores


def _predict(
    train: Float[np.ndarray, "patients dims"],
    truth: Float[np.ndarray, " patients"],
    test: Float[np.ndarray, "others dims"],
    strengths: Sequence[float],
    how: _How,
) -> Float[np.ndarray, "strengths others columns"]:
    if how.erased:
        labels = [str(value) for value in truth] if how.kind == "groups" else truth.tolist()
        centre, directions = train.mean(axis=0), inlp_directions(train, labels, how.erased)
        train, test = erase(train, directions, centre), erase(test, directions, centre)
    train, test = _standardised(train, test)
    most = min(how.components or max(1, len(train) // 5), len(train) - 1)
    if train.shape[1] > most:
        axes = principal_axes(train, most)
        train, test = train @ axes.T, test @ axes.T
    if how.kind == "groups":
        return _one_against_rest(train, truth, test, strengths)
    return np.stack([_ridge(train, truth, test, strength) for strength in strengths])


def principal_axes(vectors: Float[np.ndarray, "patients dims"], count: int) -> Float[np.ndarray, "count dims"]:
    """Return the directions of largest spread of centred vectors, orthonormal, the largest first."""
    if len(vectors) >= vectors.shape[1]:
        _, directions = np.linalg.eigh(vectors.T @ vectors)
        return np.ascontiguousarray(directions[:, ::-1][:, :count].T)
    # Of fewer patients than dimensions the smaller matrix has the same spreads.
    spreads, weights = np.linalg.eigh(vectors @ vectors.T)
    axes = weights[:, ::-1][:, :count].T @ vectors
    unit: np.ndarray = axes / np.sqrt(np.maximum(spreads[::-1][:count, None], 1e-12 * max(1.0, float(spreads[-1]))))
    return unit


def _standardised(
    train: Float[np.ndarray, "patients dims"], test: Float[np.ndarray, "others dims"]
) -> tuple[Float[np.ndarray, "patients dims"], Float[np.ndarray, "others dims"]]:
    centre, scale = train.mean(axis=0), train.std(axis=0)
    # What rounding leaves of a dimension that is the same for all.
    scale[scale <= 1e-9 * np.maximum(1e-30, np.abs(train).max(axis=0))] = np.inf
    return (train - centre) / scale, (test - centre) / scale


def _one_against_rest(
    train: Float[np.ndarray, "patients dims"],
    truth: Float[np.ndarray, " patients"],
    test: Float[np.ndarray, "others dims"],
    strengths: Sequence[float],
) -> Float[np.ndarray, "strengths others groups"]:
    groups = np.unique(truth)
    found = []
    for group in groups[1:] if len(groups) == 2 else groups:
        weights = balanced_logistic(train, truth == group, strengths)
        found.append(0.5 + 0.5 * np.tanh(0.5 * (test @ weights[:, :-1].T + weights[:, -1]).T))
    scores = np.stack(found, axis=2)
    return np.concatenate([1 - scores, scores], axis=2) if len(groups) == 2 else scores


def _ridge(
    train: Float[np.ndarray, "patients dims"],
    truth: Float[np.ndarray, " patients"],
    test: Float[np.ndarray, "others dims"],
    strength: float,
) -> Float[np.ndarray, "others 1"]:
    mean = truth.mean()
    weights = np.linalg.solve(train.T @ train + np.eye(train.shape[1]) / strength, train.T @ (truth - mean))
    predicted: np.ndarray = (mean + test @ weights)[:, None]
    return predicted


def _columns(truth: Float[np.ndarray, " patients"], how: _How) -> int:
    return len(np.unique(truth)) if how.kind == "groups" else 1


def _splits(
    truth: Float[np.ndarray, " patients"], how: _How
) -> tuple[tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]], ...]:
    """Return folds of patients; as each has one row, they are grouped by patient."""
    return _splits_of(truth.astype(np.float64).tobytes(), how.kind, how.seed)


@lru_cache(maxsize=_REMEMBERED)
def _splits_of(truth: bytes, kind: Kind, seed: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return the folds of labels, shuffled ones too: they are the same in each kind of features and in the controls."""
    from sklearn.model_selection import KFold, StratifiedKFold

    labels = np.frombuffer(truth, dtype=np.float64)
    splitter = (StratifiedKFold if kind == "groups" else KFold)(_FOLDS, shuffle=True, random_state=seed)
    return tuple(splitter.split(labels[:, None], labels))


def _scored_in(
    truth: Float[np.ndarray, " patients"], here: Bool[np.ndarray, " patients"], kind: Kind
) -> Bool[np.ndarray, " patients"]:
    """Return which patients of a site can be scored."""
    if kind == "number":
        return here if here.sum() >= 2 * _SITE_GROUP and np.ptp(truth[here]) > 0 else np.zeros_like(here)
    groups = [group for group in np.unique(truth[here]) if (truth[here] == group).sum() >= _SITE_GROUP]
    return here & np.isin(truth, groups) if len(groups) > 1 else np.zeros_like(here)


def _can_be_fitted(truth: Float[np.ndarray, " patients"], kind: Kind, kinds: set[float]) -> bool:
    if len(truth) < MINIMUM_PROBED:
        return False
    if kind == "number":
        return bool(np.ptp(truth) > 0)
    counts = Counter(truth.tolist())
    return kinds <= set(counts) and min(counts.values()) >= _FOLDS


def _with_all_columns(
    scores: Float[np.ndarray, "patients columns"], groups: Sequence[float], count: int
) -> Float[np.ndarray, "patients groups"]:
    whole = np.zeros((len(scores), count))
    whole[:, [int(group) for group in groups]] = scores
    return whole


def _score(parts: Sequence[HeldOutScores], kind: Kind, which: int = 0) -> float:
    ones = [np.ones((1, len(part.truth))) for part in parts]
    scores = [_part_score(part.truth, part.scores, one, kind, which)[0] for part, one in zip(parts, ones, strict=True)]
    return float(sum(part.weight * score for part, score in zip(parts, scores, strict=True)))


def _whole_score(
    truth: Float[np.ndarray, " patients"], scores: Float[np.ndarray, "patients columns"], how: _How
) -> float:
    return float(_part_score(truth, scores, np.ones((1, len(truth))), how.kind, 0)[0])


def _resampled(
    parts: Sequence[HeldOutScores], everyone: Sequence[str], kind: Kind, which: int, settings: ProbeSettings
) -> Float[np.ndarray, " draws"]:
    """Return the score of each resample of the patients; NaN where a group is missing from it."""
    place = {patient: row for row, patient in enumerate(everyone)}
    rows = [np.array([place[patient] for patient in part.patients]) for part in parts]
    rng = np.random.default_rng([settings.seed, 2])
    found = []
    for start in range(0, settings.draws, _CHUNK):
        drawn = rng.integers(0, len(everyone), (min(_CHUNK, settings.draws - start), len(everyone)))
        counts = np.stack([np.bincount(row, minlength=len(everyone)) for row in drawn]).astype(np.float64)
        scores = [
            part.weight * _part_score(part.truth, part.scores, counts[:, own], kind, which)
            for part, own in zip(parts, rows, strict=True)
        ]
        found.append(np.sum(scores, axis=0))
    return np.concatenate(found)


def _percentiles(values: Float[np.ndarray, " draws"], confidence: float) -> Interval | None:
    held = values[np.isfinite(values)]
    if len(held) < len(values) / 2:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(held, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


def _part_score(
    truth: Float[np.ndarray, " patients"],
    scores: Float[np.ndarray, "patients columns"],
    counts: Float[np.ndarray, "draws patients"],
    kind: Kind,
    which: int,
) -> Float[np.ndarray, " draws"]:
    """Return the score (0) or the second score (1), every patient counted as often as a draw has the patient."""
    if kind == "number":
        error = truth - scores[:, 0]
        total = counts.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            if which == 1:
                mean_error: np.ndarray = counts @ np.abs(error) / total
                return mean_error
            mean = counts @ truth / total
            spread = counts @ truth**2 - total * mean**2
            share: np.ndarray = 1 - (counts @ error**2) / np.where(spread > 1e-12, spread, math.nan)
            return share
    groups = [int(group) for group in np.unique(truth)]
    if which == 1:
        said = np.array(groups)[scores[:, groups].argmax(axis=1)]
        right = [_share(counts[:, truth == group], said[truth == group] == group) for group in groups]
        balanced: np.ndarray = np.mean(right, axis=0)
        return balanced
    # Of two groups that are all there are, the second one's curve is the first one's.
    shown = groups[1:] if len(groups) == 2 and scores.shape[1] == 2 else groups
    areas = [_area(scores[:, group], truth == group, counts) for group in shown]
    macro: np.ndarray = np.mean(areas, axis=0)
    return macro


def _share(counts: Float[np.ndarray, "draws some"], right: Bool[np.ndarray, " some"]) -> Float[np.ndarray, " draws"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        share: np.ndarray = counts @ right / counts.sum(axis=1)
    return share


def _area(
    scores: Float[np.ndarray, " patients"],
    inside: Bool[np.ndarray, " patients"],
    counts: Float[np.ndarray, "draws patients"],
) -> Float[np.ndarray, " draws"]:
    """Return the area under the ROC curve: how often a patient of the group scores above one of the rest, ties half."""
    own, rest = scores[inside], scores[~inside]
    above: Shaped[np.ndarray, "own rest"] = (own[:, None] > rest) + 0.5 * (own[:, None] == rest)
    own_counts, rest_counts = counts[:, inside], counts[:, ~inside]
    with np.errstate(invalid="ignore", divide="ignore"):
        area: np.ndarray = ((own_counts @ above) * rest_counts).sum(axis=1) / (
            own_counts.sum(axis=1) * rest_counts.sum(axis=1)
        )
    return area
