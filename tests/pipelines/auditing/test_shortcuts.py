"""Flags that go with the volume alone, and flags that cost Dice at any volume."""

from collections.abc import Callable

import numpy as np
import pytest

from equivox.pipelines.auditing.options import AuditOptions
from equivox.pipelines.auditing.outcomes import Outcome
from equivox.pipelines.auditing.shortcuts import shortcut_records, volume_strata
from equivox.pipelines.auditing.sources import AuditSource

MakeSource = Callable[..., AuditSource]
N = 60
NAMES = [f"p{number:03d}" for number in range(N)]
FAST = AuditOptions(permutations=19, draws=199, shortcuts=("clip",))
VOLUME = np.exp(np.linspace(0, 4, N))


def flagged(odds: Callable[[int], bool]) -> dict[str, str]:
    return {name: "yes" if odds(place) else "no" for place, name in enumerate(NAMES)}


def outcomes(dice: np.ndarray, recall: np.ndarray) -> dict[tuple[str, int], Outcome]:
    return {
        (name, 0): Outcome(float(dice[place]), float(VOLUME[place]), float(recall[place]), 0)
        for place, name in enumerate(NAMES)
    }


def test_a_flag_of_small_lesions_costs_nothing_at_equal_volume(make_source: MakeSource) -> None:
    # Three of four small lesions have a clip, one of four large ones; the Dice is that of the fifth of the volumes.
    clip = flagged(lambda place: (place % 4 > 0) if place < N // 2 else (place % 4 == 0))
    fifth = np.arange(N) // 12
    recall = 0.5 + 0.01 * np.random.default_rng(0).normal(size=N)
    source = make_source(N, {"clip": clip}, shortcuts=("clip",))
    (found,) = shortcut_records(source, outcomes(0.5 + 0.1 * fifth, recall), FAST)["flags"]
    assert (found["with"], found["without"], found["reason"]) == ("yes", "no", "")
    dice = found["scores"][0]
    assert dice["raw"] < -0.1
    assert dice["difference"] == pytest.approx(0, abs=1e-9)
    assert dice["low"] <= 0 <= dice["high"]
    assert [row["patients_with"] + row["patients_without"] for row in found["strata"]] == [12] * 5
    assert found["strata"][1]["Dice with"] == pytest.approx(0.6)
    assert found["strata"][0]["low"] == pytest.approx(1.0)
    # Within a fifth the volumes span a factor of exp(4 / 5), and the clip hardly goes with them.
    assert 0.8 < found["volume_ratio"] < 1.25


def test_a_flag_that_costs_dice_and_lesions_at_any_volume_is_found(make_source: MakeSource) -> None:
    clip = flagged(lambda place: place % 3 == 0)
    having = np.array([clip[name] == "yes" for name in NAMES])
    rng = np.random.default_rng(1)
    dice = 0.5 + 0.08 * np.log(VOLUME) - 0.1 * having + 0.005 * rng.normal(size=N)
    recall = 0.9 - 0.3 * having + 0.02 * rng.normal(size=N)
    source = make_source(N, {"clip": clip}, shortcuts=("clip",))
    scores = shortcut_records(source, outcomes(dice, recall), FAST)["flags"][0]["scores"]
    assert [one["score"] for one in scores] == ["Dice", "lesion recall"]
    assert scores[0]["high"] < -0.05
    assert scores[0]["difference"] == pytest.approx(-0.1, abs=0.02)
    assert scores[1]["difference"] == pytest.approx(-0.3, abs=0.02)
    assert [(one["compared_with"], one["compared_without"]) for one in scores] == [(20, 40)] * 2
    assert [one["p"] for one in scores] == [pytest.approx(1 / 200)] * 2


def test_patients_without_a_lesion_are_negatives_of_both_sides(make_source: MakeSource) -> None:
    clip = flagged(lambda place: place % 2 == 0)
    found = outcomes(np.full(N, 0.8), np.ones(N))
    for place, false in ((0, 0), (1, 3), (2, 1)):
        found[NAMES[place], 0] = Outcome(0.0 if false else None, 0.0, None, false)
    told = shortcut_records(make_source(N, {"clip": clip}, shortcuts=("clip",)), found, FAST)
    assert told["negatives"] == {
        "patients": 3,
        "with_false_detections": 2,
        "false_detections": pytest.approx(4 / 3),
    }
    assert (told["flags"][0]["patients_with"], told["flags"][0]["patients_without"]) == (28, 29)


def test_a_flag_of_few_patients_or_one_that_the_volume_tells_is_not_compared(make_source: MakeSource) -> None:
    source = make_source(N, {"clip": flagged(lambda place: place < 9)}, shortcuts=("clip",))
    (few,) = shortcut_records(source, outcomes(np.full(N, 0.8), np.ones(N)), FAST)["flags"]
    assert few["reason"] == "fewer than 10 patients with a lesion on a side"
    assert few["scores"] == []
    # All small lesions have it: no stratum has both.
    source = make_source(N, {"clip": flagged(lambda place: place < 24)}, shortcuts=("clip",))
    (apart,) = shortcut_records(source, outcomes(VOLUME / 100, np.ones(N)), FAST)["flags"]
    assert apart["volume_ratio"] is None
    assert [one["difference"] for one in apart["scores"]] == [None, None]
    assert apart["scores"][0]["raw"] < 0


def test_equal_volumes_are_in_one_stratum() -> None:
    np.testing.assert_array_equal(volume_strata(np.full(12, 3.0)), np.zeros(12))
    assert np.bincount(volume_strata(np.arange(50.0))).tolist() == [10] * 5
    assert np.bincount(volume_strata(np.arange(49.0))).tolist() == [17, 16, 16]
    np.testing.assert_array_equal(volume_strata(np.array([1.0, 1, 1, 1, 5, 9])), [0, 0, 0, 0, 1, 1])
