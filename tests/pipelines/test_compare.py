"""Evaluations of small masks against one another: what is refused, what is left out, and what comes of it."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from equivox.errors import InputError
from equivox.metrics.statistics.paired import sign_flip_p
from equivox.pipelines.compare import CompareOptions, Comparison, compare
from equivox.pipelines.comparison.verdict import is_better
from equivox.pipelines.evaluate import EvaluateOptions, evaluate
from equivox.volume import Volume, write_label_map

SPACING = np.diag([0.5, 1.0, 3.0, 1.0])
QUICK = CompareOptions(bootstrap_draws=499, permutation_draws=499)
PATIENTS = 24

Edit = Callable[[dict[str, Any], pd.DataFrame], pd.DataFrame | None]


def bars(organ: int, lesion: int) -> np.ndarray:
    """Two bars, of 4 x 5 and 2 x 2 voxels, in a field of 8 x 9 x 25."""
    labels = np.zeros((8, 9, 25), dtype=np.uint8)
    labels[1:5, 1:6, :organ] = 1
    labels[5:7, 6:8, :lesion] = 2
    return labels


def write(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label_map(labels, Volume(np.zeros((1, *labels.shape), dtype=np.float32), SPACING), path)


# Slices of the organ (of 20) and of the lesion (of 10) that each model outlines.
MODELS: dict[str, Callable[[int], tuple[int, int]]] = {
    "short": lambda index: (10 + index % 3, 5),
    "long": lambda index: (20 - index % 2, 10 if index % 4 else 9),
    "same": lambda index: (10 + (index + 1) % 3, 5),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluations of three models on 24 patients, one of them without a lesion."""
    folder = tmp_path_factory.mktemp("made")
    rows = []
    for index in range(PATIENTS):
        case = f"c{index:02d}"
        write(folder / "refs" / f"{case}.nii.gz", bars(20, 10))
        for name, sizes in MODELS.items():
            write(folder / name / f"{case}.nii.gz", bars(*sizes(index)))
        rows.append({"case": case, "who": f"p{index:02d}", "sex": "FM"[index % 2], "site": "AB"[index < 5]})
    pd.DataFrame(rows).to_csv(folder / "people.csv", index=False)
    for name in MODELS:
        (folder / name / "manifest.json").write_text(json.dumps({"model": name, "run": None}))
        evaluate(
            folder / f"eval-{name}",
            references=folder / "refs",
            predictions=folder / name,
            groups=folder / "people.csv",
            key="case",
            patient="who",
            attributes=["sex", "site"],
            classes={1: "organ", 2: "lesion"},
            options=EvaluateOptions(bootstrap_draws=199, permutation_draws=199, simulation_repeats=100),
        )
    return folder


@pytest.fixture(scope="module")
def found(made: Path) -> Comparison:
    folders = [made / f"eval-{name}" for name in MODELS]
    return compare(made / "compared", evaluations=folders, options=QUICK)


@pytest.fixture
def variant(made: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of an evaluation, with its summary and its case table changed."""

    def make(edit: Edit, source: str = "long") -> Path:
        folder = tmp_path / f"eval-{source}"
        shutil.copytree(made / f"eval-{source}", folder)
        summary = json.loads((folder / "summary.json").read_text())
        cases = pd.read_csv(folder / "cases.csv")
        edited = edit(summary, cases)
        (folder / "summary.json").write_text(json.dumps(summary))
        (cases if edited is None else edited).to_csv(folder / "cases.csv", index=False)
        return folder

    return make


def contrast_of(found: Comparison, **wanted: Any) -> dict[str, Any]:
    return next(one for one in found.summary["tests"] if all(one[key] == value for key, value in wanted.items()))


def dice(size: int, of: int) -> float:
    return 2 * min(size, of) / (size + of)


def test_the_folder_holds_what_the_schema_says(found: Comparison) -> None:
    files = {"comparison.json", "comparison.csv", "ranking.csv", "patients.csv", "report.html"}
    assert {path.name for path in found.folder.iterdir()} == files
    assert json.loads((found.folder / "comparison.json").read_text()) == found.summary
    assert found.summary["schema_version"] == 1
    tests = pd.read_csv(found.folder / "comparison.csv")
    # 3 pairs, 11 metrics, all classes and 2 classes.
    assert len(tests) == 3 * 11 * 3
    ranking = pd.read_csv(found.folder / "ranking.csv")
    assert len(ranking) == 11 * 2 * 3
    assert [column for column in ranking if column.startswith("share")] == [
        "share_rank_1",
        "share_rank_2",
        "share_rank_3",
    ]
    patients = pd.read_csv(found.folder / "patients.csv")
    assert list(patients.columns) == [
        *("patient_id", "model:short", "model:long", "model:same", "attribute:sex", "attribute:site")
    ]


def test_difference_by_hand(found: Comparison) -> None:
    # A patient's value is the mean of the Dice of two bars.
    values = {
        name: np.array([(dice(sizes(i)[0], 20) + dice(sizes(i)[1], 10)) / 2 for i in range(PATIENTS)])
        for name, sizes in MODELS.items()
    }
    np.testing.assert_allclose(found.patients["model:long"], values["long"])
    change = values["long"] - values["short"]
    test = contrast_of(found, first="short", second="long", metric="dice", **{"class": "all classes"})
    assert test["difference"] == pytest.approx(change.mean())
    assert test["median_difference"] == pytest.approx(np.median(change))
    assert (test["second_better"], test["first_better"], test["equal"]) == (24, 0, 0)
    assert test["p_value"] == sign_flip_p(change, flips=499)
    assert test["low"] < change.mean() < test["high"]
    # Two contrasts with the first model: their intervals hold together.
    assert test["confidence"] == pytest.approx(0.975)
    assert (test["family"], test["family_size"]) == ("primary", 2)
    organ = contrast_of(found, first="short", second="long", metric="dice", **{"class": "organ"})
    assert organ["difference"] == pytest.approx(
        np.mean([dice(MODELS["long"](i)[0], 20) - dice(MODELS["short"](i)[0], 20) for i in range(PATIENTS)])
    )
    assert organ["confidence"] == 0.95


def test_signed_errors_are_compared_without_their_sign(found: Comparison) -> None:
    # An organ slice is 20 voxels of 1.5 mm^3 = 0.03 ml: 'short' lacks 10, 9 or 8 slices, 'long' none or one.
    test = contrast_of(found, first="short", second="long", metric="volume_error", **{"class": "organ"})
    assert test["first_mean"] == pytest.approx(9 * 0.03)
    assert test["second_mean"] == pytest.approx(0.5 * 0.03)
    assert test["difference"] == pytest.approx(-8.5 * 0.03)
    assert (test["unit"], test["better"], test["second_better"]) == ("ml", "zero", 24)
    hd95 = contrast_of(found, first="short", second="long", metric="hd95", **{"class": "organ"})
    assert hd95["difference"] < 0
    assert hd95["second_better"] == 24


def test_each_test_is_adjusted_within_its_family(found: Comparison) -> None:
    primary = [one for one in found.summary["tests"] if one["family"] == "primary"]
    assert [(one["second"], one["metric"], one["class"]) for one in primary] == [
        ("long", "dice", "all classes"),
        ("same", "dice", "all classes"),
    ]
    # Holm over two: the smaller one twice, the greater one as it is.
    assert primary[0]["p_adjusted"] == pytest.approx(2 * primary[0]["p_value"])
    assert primary[1]["p_adjusted"] == primary[1]["p_value"]
    rest = [one for one in found.summary["tests"] if one["family"] == "rest"]
    assert len(rest) == 3 * 11 * 3 - 2 == found.summary["families"]["rest"]["tests"]
    assert min(one["p_adjusted"] for one in rest) == pytest.approx(97 / 500)
    # 97 tests of 499 draws: no test can fall below the level, and the methods say so.
    assert "none of them can fall below 0.05" in found.summary["methods"]["other_tests"]


def test_verdicts_in_words(found: Comparison) -> None:
    better, same = found.summary["verdicts"]
    assert (better["answer"], better["better"]) == ("difference", "long")
    assert better["words"] == "Evidence that 'long' is better than 'short'"
    assert re.fullmatch(
        r"'long' scores 0\.29\d higher in mean Dice than 'short' \(\+0\.2\d+ to \+0\.3\d+, 97\.5 % interval; "
        r"adjusted p = \.004\)\. It is the better one in 24 of 24 patients\.",
        better["sentence"],
    )
    # The same sizes in another order: a mean difference of 0.
    assert same["answer"] == "ruled_out"
    assert same["better"] is None
    assert same["words"] == "A difference larger than 0.05 is ruled out"
    assert "0.000 apart" in same["sentence"]


def test_the_other_way_round_says_worse(made: Path, tmp_path: Path) -> None:
    result = compare(tmp_path / "out", evaluations=[made / "eval-long", made / "eval-short"], options=QUICK)
    (verdict,) = result.summary["verdicts"]
    assert verdict["words"] == "Evidence that 'short' is worse than 'long'"
    assert verdict["better"] == "long"
    assert verdict["sentence"].startswith("'short' scores 0.29")
    assert " lower in mean Dice than 'long' (" in verdict["sentence"]


def test_nothing_found_comes_with_what_could_have_been_seen(made: Path, tmp_path: Path) -> None:
    folders = [made / "eval-short", made / "eval-same"]
    wide = CompareOptions(bootstrap_draws=499, permutation_draws=499, margin=0.011)
    (verdict,) = compare(tmp_path / "none", evaluations=folders, options=wide).summary["verdicts"]
    assert verdict["answer"] == "no_evidence"
    assert f"could have been seen is {verdict['detectable_difference']:.3f}." in verdict["sentence"]
    # The difference is one of the three steps of the organ's Dice: sd s, n = 24, (2.07 + 0.86) s / sqrt(24).
    change = [(dice(10 + (i + 1) % 3, 20) - dice(10 + i % 3, 20)) / 2 for i in range(PATIENTS)]
    assert verdict["detectable_difference"] == pytest.approx(2.93 * np.std(change, ddof=1) / math.sqrt(24), rel=0.1)
    narrow = CompareOptions(bootstrap_draws=499, permutation_draws=499, margin=0.004)
    (verdict,) = compare(tmp_path / "few", evaluations=folders, options=narrow).summary["verdicts"]
    assert verdict["answer"] == "cannot_say"
    assert verdict["patients_needed"] > 24
    assert f"to see one of 0.008 takes about {verdict['patients_needed']}." in verdict["sentence"]


def test_ranking_and_groups(found: Comparison) -> None:
    by_mean = next(one for one in found.summary["ranking"] if (one["metric"], one["view"]) == ("dice", "mean"))
    assert by_mean["ranks"] == [2.5, 1.0, 2.5]
    assert by_mean["probabilities"][1] == [1.0, 0.0, 0.0]
    lower = next(one for one in found.summary["ranking"] if (one["metric"], one["view"]) == ("hd95", "mean"))
    assert lower["ranks"][1] == 1.0
    assert lower["scores"][0] > lower["scores"][1] > 0
    sex, site = found.summary["groups"][0]["attributes"]
    assert [(group["name"], group["patients"], group["small"]) for group in sex["groups"]] == [
        ("F", 12, False),
        ("M", 12, False),
    ]
    means = [[group[f"{side}_mean"] for group in sex["groups"]] for side in ("first", "second")]
    assert sex["gap"]["first"] == pytest.approx(abs(means[0][0] - means[0][1]))
    assert sex["gap"]["change"] == pytest.approx(abs(means[1][0] - means[1][1]) - sex["gap"]["first"])
    small = next(group for group in site["groups"] if group["name"] == "B")
    assert (small["patients"], small["low"], small["small"]) == (5, None, True)
    assert site["gap"]["change"] is None


def test_patients_of_unknown_group_are_counted_and_are_no_group(variant: Callable[..., Path], tmp_path: Path) -> None:
    def forget(summary: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(**{"attribute:sex": table["attribute:sex"].mask(table["case_id"].isin(["c00", "c01"]))})

    folders = [variant(forget, source="short"), variant(forget, source="long")]
    summary = compare(tmp_path / "out", evaluations=folders, options=QUICK).summary
    sex = summary["groups"][0]["attributes"][0]
    assert sex["unknown_patients"] == 2
    assert [(group["name"], group["patients"]) for group in sex["groups"]] == [("F", 11), ("M", 11)]
    # Both evaluations lack the same groups.
    assert not any("other groups" in note for note in summary["methods"]["notes"])


def test_the_same_evaluations_give_the_same_files(made: Path, found: Comparison, tmp_path: Path) -> None:
    again = compare(tmp_path / "again", evaluations=[made / f"eval-{name}" for name in MODELS], options=QUICK)
    for name in ("comparison.csv", "ranking.csv", "patients.csv"):
        assert (again.folder / name).read_bytes() == (found.folder / name).read_bytes()


def drop(*cases: str) -> Edit:
    def edit(summary: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
        kept = table[~table["case_id"].isin(cases)]
        summary["cohort"]["cases"] = int(kept["case_id"].nunique())
        summary["inputs"]["references"] = "another set of files"
        return kept

    return edit


def test_other_cases_are_named_on_both_sides_and_partial_compares_what_all_have(
    made: Path, variant: Callable[..., Path], tmp_path: Path
) -> None:
    fewer = variant(drop("c00", "c07"))
    with pytest.raises(InputError, match=r"got 2 cases only in the first \(c00, c07\); .* or add --allow-partial"):
        compare(tmp_path / "out", evaluations=[made / "eval-short", fewer], options=QUICK)
    assert not (tmp_path / "out").exists()
    result = compare(tmp_path / "out", evaluations=[made / "eval-short", fewer], options=QUICK, allow_partial=True)
    assert result.summary["cohort"]["patients"] == 22
    assert result.summary["left_out"]["patients"] == [
        {"patient_id": "p00", "models": ["short"]},
        {"patient_id": "p07", "models": ["short"]},
    ]
    assert "could not be compared by their hash" in result.summary["methods"]["notes"][0]
    assert len(result.patients) == 22


def test_only_the_headline_table_is_compared(variant: Callable[..., Path], tmp_path: Path) -> None:
    def four_others(summary: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(role=table["role"].where(table["case_id"] > "c03", "out_of_fold"))

    folders = [variant(four_others, source="short"), variant(four_others, source="long")]
    result = compare(tmp_path / "out", evaluations=folders, options=QUICK)
    assert list(result.patients["patient_id"]) == [f"p{index:02d}" for index in range(4, PATIENTS)]
    assert result.summary["cohort"]["cases"] == 20


@pytest.mark.parametrize(
    ("metric", "difference", "better"),
    [
        ("dice", 0.1, True),
        ("dice", -0.1, False),
        ("hd95", -1.0, True),
        ("volume_error", 1.0, False),
        ("dice", 0.0, None),
    ],
)
def test_which_model_is_better_follows_the_metric(metric: str, difference: float, better: bool | None) -> None:
    assert is_better({"metric": metric, "difference": difference}) is better


def test_few_patients_get_no_interval_no_test_and_no_answer(
    made: Path, variant: Callable[..., Path], tmp_path: Path
) -> None:
    nine = variant(drop(*(f"c{index:02d}" for index in range(9, PATIENTS))))
    result = compare(tmp_path / "out", evaluations=[made / "eval-short", nine], options=QUICK, allow_partial=True)
    (verdict,) = result.summary["verdicts"]
    assert verdict["answer"] == "cannot_say"
    assert verdict["sentence"] == (
        "Only 9 patients have a score from both models; an interval and a test take at least 10."
    )
    test = result.summary["tests"][0]
    assert (test["low"], test["p_value"], test["p_adjusted"], test["family"]) == (None, None, None, "")
    assert result.summary["ranking"][0]["probabilities"] is None
    assert result.summary["families"]["primary"] == {"tests": 0, "smallest_adjusted_p": None}


def set_in(*path: str, value: Any) -> Edit:
    def edit(summary: dict[str, Any], table: pd.DataFrame) -> None:
        section = summary
        for name in path[:-1]:
            section = section[name]
        section[path[-1]] = value

    return edit


def headline_role(summary: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    summary["tables"][0]["role"] = "test"
    return table.assign(role="test")


def larger_reference(summary: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(reference_voxels=table["reference_voxels"].where(table["case_id"] != "c03", 7))


def other_patient(summary: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(patient_id=table["patient_id"].replace("p05", "q05"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_in("settings", "tolerance", value=1.0), "the same settings, got tolerance 2.0 and 1.0; evaluate one of"),
        (set_in("settings", "hd95", value="pooled"), "got hd95 directed_max and pooled;"),
        (set_in("settings", "empty_policy", value="exclude"), "got empty_policy penalise and exclude;"),
        (set_in("settings", "grid", value="fine"), "got grid none and fine;"),
        (set_in("cohort", "nominal_spacing", value=True), "got nominal_spacing false and true;"),
        (set_in("metrics", "dice", "version", value=2), "got definition dice/1 and dice/2;"),
        (set_in("cohort", "classes", value=["organ", "cyst"]), r"1 classes only in the first \(lesion\) and 1 classes"),
        (
            set_in("inputs", "references", value="0" * 64),
            "the same reference files, got the hashes .* and 000000000000;",
        ),
        (headline_role, "headline tables of the same cases, got 'all' and 'test';"),
        (larger_reference, "the same reference masks, got 'organ' of case 'c03' with 400 and 7 voxels;"),
        (other_patient, "got 'c05' of 'p05' and of 'q05'; evaluate both with the same table of patients"),
    ],
)
def test_evaluations_that_cannot_be_compared_are_refused_in_one_line(
    made: Path, variant: Callable[..., Path], tmp_path: Path, edit: Edit, message: str
) -> None:
    other = variant(edit)
    with pytest.raises(InputError, match=message) as caught:
        compare(tmp_path / "out", evaluations=[made / "eval-short", other], options=QUICK, allow_partial=True)
    assert str(caught.value).startswith(f"{made / 'eval-short'} and {other}: expected ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_settings_that_change_no_compared_score_may_differ(
    made: Path, variant: Callable[..., Path], tmp_path: Path
) -> None:
    scoring = {"primary_endpoint", "tolerance", "empty", "hd95"}

    def others(summary: dict[str, Any], table: pd.DataFrame) -> None:
        summary["settings"] |= dict.fromkeys(set(EvaluateOptions.model_fields) - scoring, "another")

    compare(tmp_path / "out", evaluations=[made / "eval-short", variant(others)], options=QUICK)
    assert (tmp_path / "out" / "comparison.json").is_file()


def damage(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def rewrite(pattern: str, text: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "cases.csv"
        path.write_text(re.sub(pattern, text, path.read_text(), count=1))

    return edit


def summary_with(section: str, name: str, value: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        summary = json.loads((folder / "summary.json").read_text())
        summary[section][name] = value
        (folder / "summary.json").write_text(json.dumps(summary))

    return edit


def infinite_distance(folder: Path) -> None:
    table = pd.read_csv(folder / "cases.csv")
    table.loc[0, next(name for name in table if name.startswith("hd95"))] = np.inf
    table.to_csv(folder / "cases.csv", index=False)


def first_row_twice(folder: Path) -> None:
    table = pd.read_csv(folder / "cases.csv")
    pd.concat([table, table[:1]]).to_csv(folder / "cases.csv", index=False)


def half(folder: Path) -> None:
    path = folder / "cases.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:20]) + "\n")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda folder: (folder / "cases.csv").unlink(), "'equivox evaluate' wrote, got no cases.csv in it; check"),
        (lambda folder: (folder / "summary.json").unlink(), "got no summary.json in it; check the path"),
        (damage("summary.json", "{"), "summary.json: expected JSON, got .*; evaluate again"),
        (damage("summary.json", "[" * 100_000), "summary.json: expected JSON, got .*; evaluate again"),
        (summary_with("settings", "primary_endpoint", ["dice"]), "a summary with 'settings: primary_endpoint' as"),
        (summary_with("metrics", "dice", None), "expected a summary with 'metrics' as"),
        (summary_with("left_out", "excluded_cases", ["c00"]), "a summary with 'left_out: excluded_cases' as"),
        (
            summary_with("model", "name", float("nan")),
            "expected JSON, got NaN, which JSON does not know; evaluate again",
        ),
        (damage("summary.json", "[]"), "with schema_version 1, got none; evaluate again"),
        (damage("summary.json", '{"schema_version": 9}'), "with schema_version 1, got 9; evaluate again"),
        (damage("summary.json", '{"schema_version": 1}'), "expected a summary with 'settings' as"),
        (damage("cases.csv", ""), "cases.csv: expected a CSV file, got an empty one"),
        (rewrite("patient_id", "subject"), "expected a column 'patient_id', got none; evaluate again"),
        (rewrite(",dice,", ",dise,"), "expected a column 'dice', got none; evaluate again"),
        (rewrite(r"(c00,p00,all,organ,[a-z]+,[A-Za-z]+),[^,]+", r"\1,good"), "numbers in column 'dice', got 'good'"),
        (
            rewrite(r"(c00,p00,all,organ,[a-z]+,[A-Za-z]+),[^,]+", r"\1,-1"),
            "fractions from 0 to 1 in column 'dice', got",
        ),
        (infinite_distance, "finite numbers in column 'hd95_.*', got 'inf'; evaluate again"),
        (first_row_twice, "one row a case and class, got two of 'c00', 'organ'; evaluate again"),
        (half, "expected 24 cases as summary.json beside it says, got 10; evaluate again"),
    ],
)
def test_damaged_evaluations_are_named(
    made: Path, variant: Callable[..., Path], tmp_path: Path, edit: Callable[[Path], None], message: str
) -> None:
    other = variant(lambda summary, table: None)
    edit(other)
    with pytest.raises(InputError, match=message) as caught:
        compare(tmp_path / "out", evaluations=[made / "eval-short", other], options=QUICK)
    assert str(other) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_folders_that_are_none_or_twice_the_same_are_refused(made: Path, tmp_path: Path) -> None:
    first = made / "eval-short"
    with pytest.raises(InputError, match="wrote, got nothing there; check the path"):
        compare(tmp_path / "out", evaluations=[first, made / "nowhere"])
    with pytest.raises(InputError, match=r"wrote, got a file; check the path"):
        compare(tmp_path / "out", evaluations=[first, made / "people.csv"])
    with pytest.raises(InputError, match="got the same folder twice; leave one out"):
        compare(tmp_path / "out", evaluations=[first, made / "refs" / ".." / "eval-short"])
    with pytest.raises(InputError, match="expected two folders or more, got 1"):
        compare(tmp_path / "out", evaluations=[first])


def test_models_of_one_name_are_named_by_their_folders(
    made: Path, variant: Callable[..., Path], tmp_path: Path
) -> None:
    twin = variant(lambda summary, table: None, source="short")
    folders = [made / "eval-short", twin]
    result = compare(tmp_path / "out", evaluations=folders, options=QUICK)
    names = [model["name"] for model in result.summary["models"]]
    assert names == [f"{made.name}/eval-short", f"{tmp_path.name}/eval-short"]
    assert any("the same predicted files" in note for note in result.summary["methods"]["notes"])
    # Not a single patient differs: nothing to find, and how much patients vary is not known.
    assert result.summary["verdicts"][0]["answer"] == "cannot_say"
    assert "have the same score in every patient" in result.summary["verdicts"][0]["sentence"]
    assert result.summary["ranking"][0]["ranks"] == [1.5, 1.5]
    named = compare(tmp_path / "named", evaluations=folders, names=["one", "two"], options=QUICK)
    assert [model["name"] for model in named.summary["models"]] == ["one", "two"]
    with pytest.raises(InputError, match="--name: expected one for each, 2 in all, got 1; give it once for each"):
        compare(tmp_path / "no", evaluations=folders, names=["one"])
    with pytest.raises(InputError, match=r"--name: .* got 'one' twice; change one"):
        compare(tmp_path / "no", evaluations=folders, names=["one", "one"])


def test_metrics_that_one_lacks_are_listed(made: Path, variant: Callable[..., Path], tmp_path: Path) -> None:
    def without_distances(summary: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
        for key in ("hd95", "hd"):
            del summary["tables"][0]["overall"][key]
        summary["tables"][0]["overall"]["novelty"] = summary["tables"][0]["overall"]["dice"]
        return table.drop(columns=["hd95_mm", "hd_mm"]).assign(novelty=1.0)

    result = compare(tmp_path / "out", evaluations=[made / "eval-short", variant(without_distances)], options=QUICK)
    assert "hd95" not in result.summary["metrics"]
    assert result.summary["left_out"]["metrics"] == [
        {"metric": "hd95", "models": ["short"]},
        {"metric": "hd", "models": ["short"]},
        {"metric": "novelty", "models": ["long"]},
    ]


def test_patients_without_a_score_are_left_out_and_counted(
    made: Path, variant: Callable[..., Path], tmp_path: Path
) -> None:
    def without_scores(summary: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(dice=table["dice"].where(table["case_id"] != "c04"))

    result = compare(tmp_path / "out", evaluations=[made / "eval-short", variant(without_scores)], options=QUICK)
    test = result.summary["tests"][0]
    assert (test["patients"], test["patients_left_out"]) == (23, 1)
    assert result.summary["ranking"][0]["left_out"] == 1
    assert pd.isna(result.patients.set_index("patient_id").loc["p04", "model:long"])


def test_only_an_earlier_comparison_is_replaced(made: Path, found: Comparison, tmp_path: Path) -> None:
    folders = [made / "eval-short", made / "eval-long"]
    out = tmp_path / "out"
    compare(out, evaluations=folders, options=QUICK)
    with pytest.raises(InputError, match="got an earlier comparison; add --overwrite"):
        compare(out, evaluations=folders, options=QUICK)
    compare(out, evaluations=folders, options=QUICK, overwrite=True)
    with pytest.raises(InputError, match="in use by something else"):
        compare(made / "eval-same", evaluations=folders, options=QUICK, overwrite=True)


def test_intervals_that_were_stratified_elsewhere_are_said_to_differ(
    made: Path, variant: Callable[..., Path], tmp_path: Path
) -> None:
    stratified = variant(lambda summary, table: summary["settings"].update(strata="sex"), source="short")
    result = compare(tmp_path / "out", evaluations=[made / "eval-long", stratified], options=QUICK)
    told = [note for note in result.summary["methods"]["notes"] if "stratified" in note]
    assert told == [
        "Intervals of single models are not stratified here, so they differ from those of the evaluations, which were "
        "stratified by 'sex'."
    ]
