"""Slopes that are planted, so that they come out exactly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from equivox.metrics.fairness.probe import HeldOutScores, Probe
from equivox.pipelines.auditing.behaviour import behaviour_records, gap_records
from equivox.pipelines.auditing.options import AuditOptions
from equivox.pipelines.auditing.outcomes import Outcome
from equivox.pipelines.auditing.probing import FirstProbe
from equivox.pipelines.auditing.sources import AuditSource

MakeSource = Callable[..., AuditSource]
N = 40
NAMES = tuple(f"p{number:03d}" for number in range(N))
SEX = {name: "FM"[place % 2] for place, name in enumerate(NAMES)}
FAST = AuditOptions(permutations=19, draws=199)


def told_by(*logits: np.ndarray, groups: tuple[str, ...] = ("F", "M"), kind: Any = "groups") -> FirstProbe:
    """A probe of two groups whose held-out logits in each network are these; of more, the last column has them."""
    parts = []
    for one in logits:
        last = one if kind == "number" else 1 / (1 + np.exp(-one))
        rest = [] if kind == "number" else [(1 - last) / (len(groups) - 1)] * (len(groups) - 1)
        parts.append(HeldOutScores(NAMES, np.zeros(N), np.stack([*rest, last], axis=1), 1 / len(logits), (1.0,)))
    sizes = {} if kind == "number" else dict.fromkeys(groups, 20)
    probe = Probe(kind, sizes, N, 0.8, None, 0.7, None, None, None, True, tuple(parts))
    return FirstProbe(probe, tuple(range(len(logits))))


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def outcomes(dice: np.ndarray, volume: np.ndarray | float = 100.0, folds: int = 1) -> dict[tuple[str, int], Outcome]:
    volumes = np.broadcast_to(volume, N)
    return {
        (name, fold): Outcome(float(dice[place]), float(volumes[place]), 1.0, 0)
        for place, name in enumerate(NAMES)
        for fold in range(folds)
    }


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=N)


def test_the_slope_is_that_at_equal_volume(make_source: MakeSource) -> None:
    volume = np.exp(noise(1) + 5)
    z = standardised(noise(2) + 2 * np.log(volume))
    # The larger lesion is segmented better and placed more clearly; at equal volume clear ones are segmented worse.
    dice = 0.2 + 0.1 * np.log(volume) - 0.02 * z
    probes = {("sex", "bottleneck"): told_by(3 * z + 1)}
    (found,) = behaviour_records(make_source(N, {"sex": SEX}), probes, outcomes(dice, volume), FAST)
    assert (found["toward"], found["patients"], found["given"]) == ("M", N, ["lesion volume"])
    assert found["slope"] == pytest.approx(-0.02)
    assert found["slope_low"] <= -0.02 <= found["slope_high"]
    assert found["spearman"] > 0.5
    assert found["partial_spearman"] < found["spearman"] - 0.3


def test_a_group_that_is_served_worse_gives_a_slope_that_is_gone_within_the_groups(make_source: MakeSource) -> None:
    male = np.array([SEX[name] == "M" for name in NAMES])
    logits = 4.0 * male + noise(3)
    dice = 0.8 - 0.1 * male + 0.001 * noise(4)
    found = behaviour_records(
        make_source(N, {"sex": SEX}), {("sex", "bottleneck"): told_by(logits)}, outcomes(dice), FAST
    )[0]
    assert found["slope_high"] < 0
    assert abs(found["within"]) < 0.002
    assert found["within_low"] < 0 < found["within_high"]


def test_logits_of_networks_have_no_common_scale_and_are_averaged_in_standard_deviations(
    make_source: MakeSource,
) -> None:
    first, second = noise(5), noise(6)
    z = (standardised(first) + standardised(second)) / 2
    probes = {("sex", "bottleneck"): told_by(5 * first - 2, 0.01 * second)}
    found = behaviour_records(
        make_source(N, {"sex": SEX}, folds=(0, 1)), probes, outcomes(0.5 + 0.03 * z, folds=2), FAST
    )[0]
    assert found["slope"] == pytest.approx(0.03)
    assert found["spearman"] == pytest.approx(1.0)


def test_each_of_three_groups_has_a_slope_and_a_number_one(make_source: MakeSource) -> None:
    z = standardised(noise(7))
    site = {name: "abc"[place % 3] for place, name in enumerate(NAMES)}
    age = {name: 40.0 + place for place, name in enumerate(NAMES)}
    source = make_source(N, {"site": site}, targets={"age": age})
    probes = {
        ("site", "bottleneck"): told_by(z, groups=("a", "b", "c")),
        ("age", "last_decoder"): told_by(50 + 9 * z, kind="number"),
    }
    found = behaviour_records(source, probes, outcomes(0.5 + 0.01 * z), FAST)
    assert [(one["attribute"], one["layer"], one["toward"]) for one in found] == [
        ("site", "bottleneck", "a"),
        ("site", "bottleneck", "b"),
        ("site", "bottleneck", "c"),
        ("age", "last_decoder", None),
    ]
    assert [round(one["spearman"]) for one in found] == [-1, -1, 1, 1]
    assert found[3]["slope"] == pytest.approx(0.01)


def test_the_site_is_given_but_not_to_itself(make_source: MakeSource) -> None:
    site = {name: "ab"[place < 20] for place, name in enumerate(NAMES)}
    at_a = np.array([site[name] == "a" for name in NAMES])
    z = standardised(noise(8) + 3 * at_a)
    source = make_source(N, {"sex": SEX, "site": site}, site="site")
    probes = {("sex", "bottleneck"): told_by(z), ("site", "bottleneck"): told_by(z, groups=("a", "b"))}
    options = FAST.model_copy(update={"site": "site"})
    sex, own = behaviour_records(source, probes, outcomes(0.7 - 0.2 * at_a + 0.01 * z), options)
    assert (sex["given"], own["given"]) == (["lesion volume", "site"], ["lesion volume"])
    assert sex["slope"] == pytest.approx(0.01)
    assert own["slope"] < -0.02


def test_scans_without_a_lesion_and_too_few_patients_give_no_slope(make_source: MakeSource) -> None:
    z = standardised(noise(9))
    few = {key: one for key, one in outcomes(0.5 + 0.1 * z).items() if key[0] < "p019"}
    few |= {(name, 0): Outcome(0.0, 0.0, None, 1) for name in NAMES[19:]}
    (found,) = behaviour_records(make_source(N, {"sex": SEX}), {("sex", "bottleneck"): told_by(z)}, few, FAST)
    assert found["patients"] == 19
    assert (found["spearman_low"], found["slope"], found["within"]) == (None, None, None)


def test_features_that_tell_nothing_apart_go_along_with_nothing(make_source: MakeSource) -> None:
    probes = {("sex", "bottleneck"): told_by(np.zeros(N))}
    (found,) = behaviour_records(make_source(N, {"sex": SEX}), probes, outcomes(0.5 + 0.1 * noise(1)), FAST)
    assert (found["spearman"], found["slope"]) == (None, None)


def test_dice_by_group_is_beside_the_difference_to_the_rest(make_source: MakeSource) -> None:
    male = np.array([SEX[name] == "M" for name in NAMES])
    rows = gap_records(make_source(N, {"sex": SEX}), outcomes(0.8 - 0.1 * male + 0.01 * noise(2), folds=2), FAST)
    assert [(row["group"], row["patients"]) for row in rows] == [("F", 20), ("M", 20)]
    assert rows[1]["difference"] == pytest.approx(rows[1]["dice"] - rows[0]["dice"])
    assert rows[1]["difference_high"] < 0
    assert rows[1]["p"] == pytest.approx(1 / 200)
