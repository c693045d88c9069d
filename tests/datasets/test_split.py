"""Splits: by patient, balanced, repeatable, and free of leakage."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from equivox.datasets.cohort import load_cohort
from equivox.datasets.split import VOLUME, SplitResult, load_split, split_cohort
from equivox.errors import InputError

CONFIG = """
name: small
channels: {ct: {modality: MR}}
classes: {tumour: 1}
label_values: {1: tumour}
attributes: {sex: {}, site: {}}
"""

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, write_case: Callable[..., None]) -> Make:
    """Write a cohort: ``make([(case, patient, sex, site), ...], unlabelled=(...))``; labels grow from case to case."""

    def write(rows: list[tuple[str, str, str, str]], unlabelled: tuple[str, ...] = ()) -> Path:
        lines = ["case_id,patient_id,image:ct,label,sex,site"]
        for seed, (case, patient, sex, site) in enumerate(rows):
            label = None if case in unlabelled else tmp_path / f"{case}_l.nii"
            write_case(seed, images=[tmp_path / f"{case}.nii"], label=label, voxels=seed + 1)
            lines.append(f"{case},{patient},{case}.nii,{label.name if label else ''},{sex},{site}")
        (tmp_path / "cohort.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / "cohort.yaml").write_text(CONFIG)
        return tmp_path

    return write


def people(count: int) -> list[tuple[str, str, str, str]]:
    return [(f"c{i}", f"p{i}", "FM"[i % 2], ["x", "x", "y", "z"][i % 4]) for i in range(count)]


def split(folder: Path, **options: object) -> SplitResult:
    return split_cohort(load_cohort(folder), **options)  # type: ignore[arg-type]


def test_a_split_is_saved_and_loads_back(make: Make) -> None:
    folder = make(people(20))
    result = split(folder, folds=4, test=0.2)
    assert load_split(folder) == result.folds
    assert (folder / "split.csv").read_text().startswith("case_id,patient_id,fold\nc0,p0,")
    # 20 % of 20 patients for testing, the other 16 in four folds of 4.
    assert Counter(result.patients.values()) == {"test": 4, 0: 4, 1: 4, 2: 4, 3: 4}
    assert result.names == (0, 1, 2, 3, "test")


def test_every_group_and_volume_is_spread_over_folds_and_test(make: Make) -> None:
    result = split(make(people(20)), folds=4, test=0.2)
    # 10 women: 2 of 4 in each; 10 of site x: 2 of 4 in each; 5 each of y and z: 1 in each.
    assert set(result.counts("sex")["F"].values()) == {2}
    assert set(result.counts("site")["x"].values()) == {2}
    assert set(result.counts("site")["y"].values()) == {1}
    # 7, 7 and 6 patients in the terciles of volume: 1 or 2 in each.
    for counts in result.counts(VOLUME).values():
        assert set(counts.values()) <= {1, 2}


def test_all_cases_of_a_patient_stay_together(make: Make) -> None:
    rows = [(f"c{i}", f"p{i // 3}", "F", "x") for i in range(24)]
    result = split(make(rows), folds=3, test=0.25)
    for patient, fold in result.patients.items():
        cases = [case for case, owner, _, _ in rows if owner == patient]
        assert {result.folds[case] for case in cases} == {fold}
    assert Counter(result.folds.values()) == {"test": 6, 0: 6, 1: 6, 2: 6}


def test_the_same_seed_repeats_and_another_differs(make: Make) -> None:
    folder = make(people(20))
    first = split(folder, seed=1)
    assert split(folder, seed=1, overwrite=True).folds == first.folds
    assert split(folder, seed=2, overwrite=True).folds != first.folds


def test_folds_differ_by_one_patient_at_most(make: Make) -> None:
    result = split(make(people(18)), folds=5, test=0.2)
    # round(3.6) = 4 for testing, 14 in five folds: 3, 3, 3, 3, 2.
    assert [Counter(result.patients.values())[fold] for fold in result.names] == [3, 3, 3, 3, 2, 4]


def test_no_test_set_when_none_is_asked(make: Make) -> None:
    result = split(make(people(6)), folds=3, test=0.0)
    assert set(load_split(make(people(6))).values()) == {0, 1, 2}
    assert result.names == (0, 1, 2)


def test_unlabelled_cases_are_in_no_fold(make: Make) -> None:
    result = split(make(people(8), unlabelled=("c3", "c5")), folds=2, test=0.25)
    assert result.unlabelled == ("c3", "c5")
    assert set(result.folds) == {"c0", "c1", "c2", "c4", "c6", "c7"}


def test_unknown_groups_are_balanced_as_a_group_of_their_own(make: Make) -> None:
    rows = [(f"c{i}", f"p{i}", "" if i % 2 else "F", "x") for i in range(12)]
    result = split(make(rows), folds=3, test=0.0)
    assert result.counts("sex") == {"F": {0: 2, 1: 2, 2: 2}, "unknown": {0: 2, 1: 2, 2: 2}}


def test_only_the_attributes_asked_for_are_balanced(make: Make) -> None:
    folder = make(people(8))
    assert list(split(folder, folds=2, stratify=["site"]).strata) == ["site", VOLUME]
    assert list(split(folder, folds=2, stratify=[], overwrite=True).strata) == [VOLUME]
    with pytest.raises(InputError, match=r"--stratify race: expected an attribute of cohort.yaml, .*sex, site"):
        split(folder, stratify=["race"], overwrite=True)


def test_too_few_patients_are_counted(make: Make) -> None:
    message = r"--folds 5: expected at least 5 patients with labels besides 1 for testing, got 4"
    with pytest.raises(InputError, match=message):
        split(make(people(5)), folds=5)
    assert not (make(people(5)) / "split.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, r"--folds 1: expected 2 or more"),
        ({"test": 1.0}, r"--test 1: expected a part from 0"),
        ({"test": -0.1}, r"--test -0\.1"),
    ],
)
def test_impossible_options_are_refused(make: Make, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(make(people(8)), **options)


def test_an_existing_split_is_kept_unless_asked(make: Make) -> None:
    folder = make(people(8))
    split(folder, folds=2)
    before = (folder / "split.csv").read_text()
    with pytest.raises(InputError, match=r"expected no split yet, got one, which trained models may rely on"):
        split(folder, folds=3)
    assert (folder / "split.csv").read_text() == before


def test_the_same_scan_under_two_patients_is_refused(make: Make) -> None:
    folder = make(people(8))
    (folder / "c5.nii").write_bytes((folder / "c1.nii").read_bytes())
    with pytest.raises(
        InputError, match=r"c5\.nii: expected scans of its own for patient 'p5', got the voxels of .*c1\.nii"
    ):
        split(folder, folds=2)
    assert not (folder / "split.csv").exists()
    # Under one patient the copy may stay.
    table = (folder / "cohort.csv").read_text()
    (folder / "cohort.csv").write_text(table.replace("c5,p5", "c5,p1"))
    assert split(folder, folds=2).folds["c1"] == load_split(folder)["c5"]


def test_an_unreadable_scan_stops_the_split(make: Make) -> None:
    folder = make(people(8))
    (folder / "c2.nii").write_bytes(b"")
    with pytest.raises(InputError, match=r"c2\.nii: .*'equivox cohort check' lists all problems"):
        split(folder, folds=2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c0,p0,", "c9,p0,", r"got 'c9' which cohort\.csv does not have"),
        ("c0,p0,", "c1,p1,", r"got 'c1' twice"),
        ("c0,p0,", "c0,p7,", r"expected patient 'p0' for case 'c0', got 'p7'"),
        ("c0,p0,0", "c0,p0,first", r"got 'first'"),
        ("c0,p0,0", "c0,p0,-1", r"got '-1'"),
        ("c0,p0,0", "c0,p0,1", r"expected patient 'p0' on one side, got 1 and 0, which is leakage"),
        ("fold\n", "part\n", r"expected the columns case_id, patient_id, fold"),
    ],
)
def test_a_split_that_leaks_or_does_not_fit_is_refused(make: Make, old: str, new: str, message: str) -> None:
    folder = make([*people(4), ("d0", "p0", "F", "x")])
    lines = [f"c{i},p{i},{i % 2}" for i in range(4)]
    text = "\n".join(["case_id,patient_id,fold", *lines, "d0,p0,0"]) + "\n"
    (folder / "split.csv").write_text(text)
    assert load_split(folder)["c3"] == 1
    assert old in text
    (folder / "split.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load_split(folder)


def test_folds_without_gaps_are_wanted(make: Make) -> None:
    folder = make(people(2))
    (folder / "split.csv").write_text("case_id,patient_id,fold\nc0,p0,0\nc1,p1,2\n")
    with pytest.raises(InputError, match=r"without gaps, got \[0, 2\]"):
        load_split(folder)
    (folder / "split.csv").unlink()
    with pytest.raises(InputError, match=r"expected a split, got none; make one with 'equivox cohort split"):
        load_split(folder)


def test_balance_is_better_than_chance(make: Make) -> None:
    """Against 200 random splits of the same sizes, the sum of squared deviations of groups is below all of them."""
    rng = np.random.default_rng(0)
    rows = [(f"c{i}", f"p{i}", rng.choice(["F", "M"], p=[0.3, 0.7]), rng.choice(list("wxyz"))) for i in range(30)]
    result = split(make(rows), folds=5, test=0.2)

    def deviation(places: list[object]) -> float:
        total = 0.0
        for name in ("sex", "site"):
            for group, counts in result.counts(name).items():
                members = [place for place, row in zip(places, rows, strict=True) if group in row]
                size = sum(counts.values())
                for fold in result.names:
                    share = places.count(fold) / len(places)
                    total += (members.count(fold) - share * size) ** 2 / (share * size)
        return total

    ours = [result.folds[case] for case, *_ in rows]
    random = [deviation([ours[index] for index in rng.permutation(30)]) for _ in range(200)]
    assert deviation(list(ours)) < min(random)


def test_a_raised_digit_is_no_fold(make) -> None:
    folder = make(people(6))
    path = folder / "split.csv"
    split_cohort(load_cohort(folder), folds=2)
    path.write_text(path.read_text().replace(",1\n", ",²\n"), encoding="utf-8")
    with pytest.raises(InputError, match="expected a fold such as 0, 1 or 'test', got '²'"):
        load_split(folder)
