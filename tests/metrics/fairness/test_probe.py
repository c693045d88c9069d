import numpy as np
import pytest
from sklearn import metrics

from equivox.errors import InputError
from equivox.metrics.fairness import probe as module
from equivox.metrics.fairness.probe import (
    PatientVectors,
    ProbeSettings,
    compare,
    principal_axes,
    probe,
    probe_other_sites,
    who_is_probed,
)

FEW = ProbeSettings(permutations=19, draws=199)


def ids(count: int, first: str = "p") -> tuple[str, ...]:
    return tuple(f"{first}{number:03d}" for number in range(count))


def sexes(count: int, seed: int = 0) -> list[str]:
    return np.random.default_rng(seed).permutation(["F", "M"] * (count // 2)).tolist()


def hidden(count: int = 200, dims: int = 20, size: float = 0.4) -> tuple[PatientVectors, dict[str, str]]:
    """Six broad factors, and sex along an axis of little spread that none of them has."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    sex = sexes(count)
    males = np.array([[float(one == "M")] for one in sex])
    vectors = 3 * rng.normal(size=(count, 6)) @ axes[:6] + 0.1 * rng.normal(size=(count, dims)) + size * males * axes[9]
    return PatientVectors(ids(count), vectors), dict(zip(ids(count), sex, strict=True))


def noise(count: int, dims: int, seed: int, first: str = "p") -> PatientVectors:
    return PatientVectors(ids(count, first), np.random.default_rng(seed).normal(size=(count, dims)))


def test_an_attribute_on_an_axis_of_little_spread_is_found_by_the_probe_and_not_in_two_components() -> None:
    space, sex = hidden()
    found = probe([space], sex, settings=FEW)
    assert found.score > 0.95
    assert found.p == pytest.approx(1 / 20)
    assert found.interval is not None
    assert 0.9 < found.interval.low < found.score < found.interval.high
    two = probe([space], sex, settings=FEW, components=2, shuffle=False)
    assert 0.38 < two.score < 0.62
    assert two.p is None


def test_erasing_the_planted_direction_leaves_chance() -> None:
    space, sex = hidden()
    # The planted axis has the least spread of all, so its weights are nearly its own direction.
    left = probe([space], sex, settings=FEW, erased=2, shuffle=False)
    assert left.interval is not None
    assert left.interval.low < 0.5 < left.interval.high


def test_nothing_to_tell_is_covered_by_the_interval_and_p_is_even() -> None:
    probes = []
    for seed in range(8):
        space, sex = noise(40, 12, seed), dict(zip(ids(40), sexes(40, seed + 100), strict=True))
        probes.append(probe([space], sex, settings=FEW))
    covered = [one.interval is not None and one.interval.low <= 0.5 <= one.interval.high for one in probes]
    assert sum(covered) >= 6
    assert 0.4 < np.mean([one.score for one in probes]) < 0.56
    p_values = [one.p for one in probes if one.p is not None]
    assert 0.3 < np.mean(p_values) < 0.7
    assert sum(p <= 0.25 for p in p_values) <= 4
    assert all(one.unstable for one in probes)


def test_a_patient_who_comes_twice_is_refused() -> None:
    with pytest.raises(InputError, match="expected each patient once, got 'a' twice; average the patient's scans"):
        PatientVectors(("a", "b", "a"), np.zeros((3, 2)))
    with pytest.raises(InputError, match="a row of finite numbers for each patient"):
        PatientVectors(("a", "b"), np.array([[0.0], [np.nan]]))


def test_no_fit_sees_the_patients_that_it_is_checked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    space, sex = hidden(60)
    predict, tested = module._predict, []

    def watched(train: np.ndarray, truth: np.ndarray, test: np.ndarray, *arguments: object) -> np.ndarray:
        fitted, checked = ({row.tobytes() for row in rows} for rows in (train, test))
        assert not fitted & checked
        tested.append((len(train), checked))
        return predict(train, truth, test, *arguments)

    monkeypatch.setattr(module, "_predict", watched)
    probe([space], sex, settings=FEW, erased=1, shuffle=False)
    outer = [checked for count, checked in tested if count == 48]
    # Five inner folds for each of the five outer ones, which hold each patient once; inner fits have 38 or 39 patients.
    assert len(tested) == 30
    assert len(outer) == 5
    assert len(set.union(*outer)) == sum(map(len, outer)) == 60


def test_what_only_the_spacing_tells_is_explained_by_the_acquisition() -> None:
    rng = np.random.default_rng(3)
    sex = sexes(120)
    spacing = np.array([[0.5 if one == "M" else 1.0] for one in sex]) + 0.15 * rng.normal(size=(120, 1))
    features = PatientVectors(ids(120), spacing @ rng.normal(size=(1, 12)) + 0.02 * rng.normal(size=(120, 12)))
    target = dict(zip(ids(120), sex, strict=True))
    found = probe([features], target, settings=FEW)
    control = probe([PatientVectors(ids(120), spacing)], target, settings=FEW, shuffle=False)
    difference = compare(found, control, FEW)
    assert found.score > 0.9
    assert abs(difference.value) < 0.03
    assert difference.interval is not None
    assert difference.interval.low < 0 < difference.interval.high + 0.01
    # Against noise it is a difference indeed.
    more = compare(found, probe([noise(120, 12, 9)], target, settings=FEW, shuffle=False), FEW)
    assert more.interval is not None
    assert more.interval.low > 0.2


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    groups = ["abc"[number % 3] for number in range(75)]
    vectors = rng.normal(size=(75, 4))
    vectors[:, 0] += np.array([{"a": 0.0, "b": 1.0, "c": 2.0}[one] for one in groups])
    found = probe(
        [PatientVectors(ids(75), vectors)], dict(zip(ids(75), groups, strict=True)), settings=FEW, shuffle=False
    )
    (part,) = found.parts
    each = [metrics.roc_auc_score(part.truth == group, part.scores[:, group]) for group in range(3)]
    assert found.score == pytest.approx(np.mean(each))
    said = part.scores.argmax(axis=1)
    assert found.second == pytest.approx(metrics.balanced_accuracy_score(part.truth, said))
    assert len(part.strengths) == 5


def test_splits_that_are_remembered_are_those_of_the_labels_the_seed_and_the_kind() -> None:
    space, sex = noise(40, 3, seed=8), dict(zip(ids(40), sexes(40), strict=True))
    first, again = (probe([space], sex, settings=FEW, shuffle=False).parts[0].scores for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other_seed = probe([space], sex, settings=ProbeSettings(draws=199, seed=1), shuffle=False)
    assert not np.array_equal(other_seed.parts[0].scores, first)
    numbers = {patient: float(one == "M") for patient, one in sex.items()}
    kinds = [
        module._splits(np.array(list(numbers.values())), module._How(kind, None, 0, 0)) for kind in ("groups", "number")
    ]
    assert not all(np.array_equal(one[1], other[1]) for one, other in zip(*kinds, strict=True))
    # Each fold has as many of either sex, which chance does not give.
    assert [int(np.array(list(numbers.values()))[test].sum()) for _, test in kinds[0]] == [4] * 5


def test_a_number_is_scored_by_r2_and_mean_absolute_error() -> None:
    rng = np.random.default_rng(5)
    age = rng.uniform(20, 90, 100)
    vectors = rng.normal(size=(100, 6))
    vectors[:, 2] += age / 15
    found = probe([PatientVectors(ids(100), vectors)], dict(zip(ids(100), age.tolist(), strict=True)), settings=FEW)
    (part,) = found.parts
    assert found.kind == "number"
    assert found.chance == 0
    assert found.score == pytest.approx(metrics.r2_score(part.truth, part.scores[:, 0]))
    assert found.second == pytest.approx(metrics.mean_absolute_error(part.truth, part.scores[:, 0]))
    assert found.score > 0.5
    assert found.p == pytest.approx(1 / 20)
    np.testing.assert_array_equal(part.truth, age)


def test_spaces_of_several_networks_are_averaged_and_never_mixed() -> None:
    # The same information lies along other axes in the second network, with the other sign.
    first, second = noise(60, 5, 6), noise(60, 5, 7, "q")
    target = dict(zip([*first.patients, *second.patients], sexes(120), strict=True))
    spaces = []
    for space, axis, sign in ((first, 0, 3.0), (second, 0, -3.0)):
        vectors = space.vectors.copy()
        vectors[:, axis] += [sign * (target[patient] == "M") for patient in space.patients]
        spaces.append(PatientVectors(space.patients, vectors))
    both = probe(spaces, target, settings=FEW, shuffle=False)
    alone = [probe([space], target, settings=FEW, shuffle=False).score for space in spaces]
    assert both.score == pytest.approx(np.mean(alone))
    assert both.score > 0.9
    assert both.patients == 120
    assert [part.weight for part in both.parts] == [0.5, 0.5]


def test_who_can_be_probed() -> None:
    space = noise(30, 2, 0)
    target = dict(zip(ids(30), ["F"] * 12 + ["M"] * 14 + ["X"] * 4, strict=True))
    found = who_is_probed([space], target)
    assert (found.reason, found.groups, found.small, found.patients) == ("", {"F": 12, "M": 14}, {"X": 4}, 26)
    few = who_is_probed([noise(19, 2, 0)], dict(zip(ids(19), ["F", "M"] * 10, strict=False)))
    assert few.reason == "19 held-out patients of whom it is known, and a probe needs 20"
    one = who_is_probed([space], dict(zip(ids(30), ["F"] * 21 + ["M"] * 9, strict=True)))
    assert one.reason.startswith(
        "fewer than two groups have 10 held-out patients for each network (patients: F 21, M 9)"
    )
    # A group must be large enough in every network's patients; a network with too few patients is left out.
    other = PatientVectors(ids(30)[:22], np.zeros((22, 2)))
    assert who_is_probed([space, other], target | {"p021": "X"}).small == {"M": 13, "X": 5}
    small = PatientVectors(ids(30)[:15], np.zeros((15, 2)))
    assert who_is_probed([space, small], target).spaces == (0,)
    assert who_is_probed([space], dict.fromkeys(ids(30), 4.0)).reason == "all patients have the same value"
    with pytest.raises(InputError, match="expected enough patients, got fewer than two groups"):
        probe([space], dict.fromkeys(ids(30), "F"))


def test_labels_shuffled_within_sites_cannot_tell_what_the_site_tells() -> None:
    # Each site has one sex alone: every shuffle within sites gives the same labels, so nothing can be shown.
    site = {patient: "AB"[number % 2] for number, patient in enumerate(ids(60))}
    sex = {patient: {"A": "F", "B": "M"}[name] for patient, name in site.items()}
    vectors = noise(60, 3, 1).vectors + 3.0 * np.array([[site[patient] == "B"] for patient in ids(60)])
    space = PatientVectors(ids(60), vectors)
    assert probe([space], sex, settings=FEW, blocks=site).p == 1
    assert probe([space], sex, settings=FEW).p == pytest.approx(1 / 20)


def test_an_attribute_told_by_the_site_alone_is_not_told_on_other_sites() -> None:
    rng = np.random.default_rng(8)
    site = {patient: "ABC"[number % 3] for number, patient in enumerate(ids(180))}
    share = {"A": 0.8, "B": 0.5, "C": 0.2}
    sex = {patient: "F" if rng.random() < share[name] else "M" for patient, name in site.items()}
    offset = {"A": -3.0, "B": 0.0, "C": 3.0}
    by_site = noise(180, 4, 2).vectors
    by_site[:, 0] += [offset[site[patient]] for patient in ids(180)]
    space = PatientVectors(ids(180), by_site)
    assert probe([space], sex, settings=FEW, shuffle=False).score > 0.7
    found = probe_other_sites([space], sex, site, settings=FEW)
    assert found is not None
    assert found.interval is not None
    assert found.interval.low < 0.5 < found.interval.high
    assert len(found.parts) == 3
    by_sex = by_site.copy()
    by_sex[:, 1] += [3.0 * (sex[patient] == "M") for patient in ids(180)]
    told = probe_other_sites([PatientVectors(ids(180), by_sex)], sex, site, settings=FEW)
    assert told is not None
    assert told.score > 0.9
    assert probe_other_sites([space], sex, dict.fromkeys(ids(180), "A"), settings=FEW) is None


def test_a_site_that_is_scored_is_fitted_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    space, sex = hidden(60)
    rows = {vector.tobytes(): "AB"[number % 2] for number, vector in enumerate(space.vectors)}
    predict, scored = module._predict, []

    def watched(train: np.ndarray, truth: np.ndarray, test: np.ndarray, *arguments: object) -> np.ndarray:
        fitted, checked = ({rows[row.tobytes()] for row in part} for part in (train, test))
        if len(test) == 30:
            scored.append((fitted, checked))
        assert len(fitted) == 1
        return predict(train, truth, test, *arguments)

    monkeypatch.setattr(module, "_predict", watched)
    site = {patient: "AB"[number % 2] for number, patient in enumerate(space.patients)}
    assert probe_other_sites([space], sex, site, settings=FEW) is not None
    assert scored == [({"B"}, {"A"}), ({"A"}, {"B"})]


def test_features_that_are_the_same_for_all_score_exactly_chance() -> None:
    same = PatientVectors(ids(40), np.full((40, 3), 0.1))
    found = probe([same], dict(zip(ids(40), sexes(40), strict=True)), settings=FEW)
    assert (found.score, found.second, found.p) == (0.5, 0.5, 1.0)


def test_other_patients_cannot_be_compared() -> None:
    first = probe([noise(40, 2, 0)], dict(zip(ids(40), sexes(40), strict=True)), settings=FEW, shuffle=False)
    second = probe([noise(40, 2, 0, "q")], dict(zip(ids(40, "q"), sexes(40), strict=True)), settings=FEW, shuffle=False)
    with pytest.raises(InputError, match="expected the same patients"):
        compare(first, second, FEW)


def test_the_order_of_the_patients_and_dimensions_that_are_the_same_for_all_change_nothing() -> None:
    space, sex = hidden(60)
    found = probe([space], sex, settings=FEW, shuffle=False)
    order = np.random.default_rng(0).permutation(60)
    turned = PatientVectors(tuple(np.array(space.patients)[order].tolist()), space.vectors[order])
    wide = PatientVectors(space.patients, np.hstack([space.vectors, np.full((60, 2), 7.3)]))
    assert probe([turned], sex, settings=FEW, shuffle=False).score == found.score
    assert probe([wide], sex, settings=FEW, shuffle=False).score == pytest.approx(found.score, abs=0.02)


@pytest.mark.parametrize("shape", [(30, 6), (6, 30)])
def test_principal_axes_are_those_of_the_decomposition(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(1).normal(size=shape)
    values -= values.mean(axis=0)
    expected = np.linalg.svd(values, full_matrices=False)[2][:3]
    np.testing.assert_allclose(np.abs(np.sum(principal_axes(values, 3) * expected, axis=1)), 1, atol=1e-9)
