import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from equivox.cli.app import app
from equivox.errors import InputError
from equivox.pipelines.evaluate_landmarks import LandmarkEvaluation, evaluate_landmarks
from equivox.pipelines.landmark_evaluation.options import LandmarkOptions
from equivox.reports.landmark_words import attribute_sentence

FEW = {"bootstrap_draws": 199, "permutation_draws": 199}

# Voxels of 0.5 x 1 x 3 mm: one voxel off is 0.5, 1 or 3 mm off.
TRUTH = """case_id,landmark,x,y,z
a,apex,0,0,0
a,base,1.5,2,9
b,apex,10,0,0
b,base,1,1,3
c,apex,5,5,6
c,base,,,
d,apex,1,2,3
d,base,4,5,6
"""
# Errors: a 5 and 3, b 2 and missed, c 0 (and one that the reference lacks), d nothing; e is not asked for.
GUESS = """case_id,landmark,x,y,z
a,base,1.5,2,12
a,apex,3,4,0
b,apex,10,0,2
b,base,,,
c,apex,5,5,6
c,base,1,1,1
e,apex,1,1,1
"""
PEOPLE = """case_id,who,sex
a,p,F
b,p,M
c,q,M
d,r,F
"""


def save(folder: Path, **texts: str) -> dict[str, Path]:
    paths = {}
    for name, text in texts.items():
        paths[name] = folder / f"{name}.csv"
        paths[name].write_text(text, encoding="utf-8")
    return paths


@pytest.fixture
def small(tmp_path: Path) -> LandmarkEvaluation:
    """Three patients: p with cases a and b, q, and r without a prediction."""
    paths = save(tmp_path, truth=TRUTH, guess=GUESS, people=PEOPLE)
    return evaluate_landmarks(
        *(paths["truth"], paths["guess"], tmp_path / "out"),
        groups=paths["people"],
        patient="who",
        attributes=["sex"],
        options=LandmarkOptions(radii=(2.0, 4.0), **FEW),
    )


def ring(folder: Path, *, patients: int = 24, far: float = 2.0, lost: tuple[int, ...] = ()) -> dict[str, Path]:
    """Save patients in pixels, women's landmarks 1 pixel off and men's `far`, give or take 0.1."""
    truth, guess = ["case_id,landmark,x,y"], ["case_id,landmark,x,y"]
    people = ["case_id,sex,age"]
    for number in range(patients):
        error = (1.0, far)[number % 2] + (-0.1, 0.1)[number // 2 % 2]
        people.append(f"c{number},{'FM'[number % 2]},{20 + number}")
        for place, name in enumerate(("left", "right")):
            truth.append(f"c{number},{name},{10 * place},5")
            guess.append(
                f"c{number},{name},{10 * place},{5 + error:.1f}" if number not in lost else f"c{number},{name},,"
            )
    return save(folder, truth="\n".join(truth), guess="\n".join(guess), people="\n".join(people))


def evaluate_ring(folder: Path, paths: dict[str, Path], *, figures: bool = False, **options) -> LandmarkEvaluation:
    return evaluate_landmarks(
        *(paths["truth"], paths["guess"], folder / "out"),
        groups=paths["people"],
        attributes=["sex"],
        continuous={"age": (30.0,)},
        options=LandmarkOptions(**({"unit": "pixels", "radii": (1.5, 3.0)} | FEW | options)),
        figures=figures,
    )


def test_the_patient_is_the_unit_of_every_mean(small: LandmarkEvaluation) -> None:
    overall = small.summary["overall"]
    # Case a (5 + 3) / 2 = 4, case b 2, so p (4 + 2) / 2 = 3; q 0; r has no error.
    assert (overall["mean"], overall["median"]) == (1.5, 1.5)
    assert overall["worst_decile"] == pytest.approx(2.7)
    assert (overall["patients"], overall["patients_measured"], overall["cases"]) == (3, 2, 4)
    # Fewer than 10 patients have no interval.
    assert (overall["low"], overall["median_low"], overall["failure_rate"]["low"]) == (None, None, None)


def test_missed_landmarks_are_counted_and_fail_at_every_radius(small: LandmarkEvaluation) -> None:
    overall = small.summary["overall"]
    # Of 7 landmarks of the reference b has missed one, and d both for want of a prediction.
    assert (overall["landmarks"], overall["matched"], overall["missed"]) == (7, 4, 3)
    assert overall["cases_without_prediction"] == 1
    near, far = overall["success"]
    # Within 2 mm: p 1 of 4, q 1 of 1, r 0 of 2. Within 4 mm: 2 of 4, 1 of 1, 0 of 2.
    assert near["value"] == pytest.approx((1 / 4 + 1 + 0) / 3)
    assert far["value"] == pytest.approx((2 / 4 + 1 + 0) / 3)
    assert (near["pooled"], far["pooled"]) == (pytest.approx(2 / 7), pytest.approx(3 / 7))
    # p has no more than half of the landmarks within 4 mm, r none.
    assert (overall["failure_rate"]["failed"], overall["failure_rate"]["value"]) == (2, pytest.approx(2 / 3))


def test_each_landmark_has_its_own_record(small: LandmarkEvaluation) -> None:
    apex, base = small.summary["landmarks"]
    # apex: p (5 + 2) / 2, q 0, r missed. base: p 3 in case a and missed in b, r missed; q's reference lacks it.
    assert (apex["name"], apex["mean"], apex["landmarks"], apex["missed"], apex["extra"]) == ("apex", 1.75, 4, 1, 0)
    assert (base["name"], base["mean"], base["landmarks"], base["missed"], base["extra"]) == ("base", 3.0, 3, 2, 1)
    assert apex["success"][0]["value"] == pytest.approx((1 / 2 + 1 + 0) / 3)


def test_the_curve_goes_through_the_success_rates_and_ends_below_one(small: LandmarkEvaluation) -> None:
    curve = dict(small.summary["curve"])
    assert (min(curve), max(curve)) == (0.0, 8.0)
    assert curve[0.0] == pytest.approx((0 + 1 + 0) / 3)
    assert curve[2.0] == pytest.approx((1 / 4 + 1 + 0) / 3)
    assert curve[8.0] == pytest.approx((3 / 4 + 1 + 0) / 3)


def test_what_is_left_out_is_listed(small: LandmarkEvaluation) -> None:
    left = small.summary["left_out"]
    assert left["missing_predictions"] == ["d"]
    assert left["extra_predictions"] == ["e"]
    assert left["extra_landmarks"] == [{"case_id": "c", "landmark": "base"}]
    assert (left["absent"], left["excluded_cases"], left["without_landmark"]) == (0, [], [])


def test_a_patient_whose_cases_contradict_one_another_has_no_group(small: LandmarkEvaluation) -> None:
    (sex,) = small.summary["attributes"]
    assert {group["name"]: group["patients"] for group in sex["groups"]} == {"F": 1, "M": 1}
    assert sex["unknown_patients"] == 1
    assert small.summary["left_out"]["conflicting_groups"] == {"sex": ["p"]}
    assert attribute_sentence(sex, small.summary) == (
        "Mean errors are not compared: fewer than 10 patients with a landmark found in 'F' (0), 'M' (1)."
    )


def test_ids_that_do_not_match_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = save(tmp_path, truth=TRUTH, guess=GUESS, people=PEOPLE.replace("a,p,F", "x,p,F").replace("M", "unknown"))
    found = evaluate_landmarks(
        *(paths["truth"], paths["guess"], tmp_path / "out"), groups=paths["people"], attributes=["sex"]
    )
    notes = [
        "2 cells of 'sex' in people.csv are read as unknown: 'unknown' (2); write another word where one of them is a "
        "group.",
        "1 of 4 cases has no row in people.csv and is of unknown group: a.",
        "1 of 4 rows of people.csv has no case: x.",
        "'sex' is 'F' wherever it is known: there are no groups of it to compare.",
    ]
    assert found.summary["notes"][:4] == notes
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == notes


def test_the_tables_have_a_row_a_landmark_and_a_row_a_case(small: LandmarkEvaluation) -> None:
    landmarks = pd.read_csv(small.folder / "landmarks.csv").set_index(["case_id", "landmark"])
    assert landmarks["state"].tolist() == [
        *("matched", "matched", "matched", "missed", "matched", "extra", "no_prediction", "no_prediction")
    ]
    assert landmarks.loc[("a", "apex"), "error_mm"] == 5.0
    assert np.isnan(landmarks.loc[("b", "base"), "error_mm"])
    cases = pd.read_csv(small.folder / "cases.csv").set_index("case_id")
    assert cases["state"].tolist() == ["measured", "measured", "measured", "no_prediction"]
    assert cases["missed"].tolist() == [0, 1, 0, 2]
    assert cases.loc["a", ["mean_error_mm", "median_error_mm", "within_2_mm", "within_4_mm"]].tolist() == [4, 4, 0, 0.5]
    assert json.loads((small.folder / "summary.json").read_text()) == json.loads(json.dumps(small.summary))


def test_groups_are_compared_in_errors_and_in_success(tmp_path: Path) -> None:
    found = evaluate_ring(tmp_path, ring(tmp_path), margin=1.2)
    sex = found.summary["attributes"][0]
    women, men = sex["groups"]
    # Half of either group lies 0.1 nearer, half 0.1 farther.
    assert (women["mean"], men["mean"]) == (pytest.approx(1.0), pytest.approx(2.0))
    assert men["difference"]["difference"] == pytest.approx(1.0)
    assert men["difference"]["p_adjusted"] == 1 / 200
    assert men["difference"]["inside_margin"]
    assert men["low"] < 2.0 < men["high"]
    # All women and no man within 1.5 pixels.
    assert men["success_difference"]["difference"] == -1.0
    assert women["success"][0]["value"] == 1.0
    sentence = attribute_sentence(sex, found.summary)
    assert sentence.startswith("Exploratory: the mean error of 'M' is 1.0 pixels larger than that of the rest")
    assert "inside ±1.2 pixels" in sentence
    table = pd.read_csv(tmp_path / "out" / "groups.csv")
    assert table["unit"].unique().tolist() == ["pixels"]
    assert table["difference"].tolist()[:2] == [pytest.approx(-1.0), pytest.approx(1.0)]
    assert table["group"].tolist() == ["F", "M", "<30", ">=30"]


def test_a_group_whose_landmarks_are_lost_does_not_look_better(tmp_path: Path) -> None:
    # Twelve of 26 men have no landmark: the others' mean error does not show it, the success and failures do.
    lost = tuple(range(1, 24, 2))
    found = evaluate_ring(tmp_path, ring(tmp_path, patients=52, far=1.0, lost=lost))
    women, men = found.summary["attributes"][0]["groups"]
    assert men["difference"]["difference"] == pytest.approx(0.0, abs=0.03)
    assert (men["patients"], men["patients_measured"], men["missed"]) == (26, 14, 24)
    assert men["success"][0]["value"] == pytest.approx(14 / 26)
    assert men["success_difference"]["difference"] == pytest.approx(-12 / 26)
    assert men["success_difference"]["p_adjusted"] < 0.05
    assert (women["failure_rate"]["failed"], men["failure_rate"]["failed"]) == (0, 12)
    sentence = attribute_sentence(found.summary["attributes"][0], found.summary)
    assert "between 'M' and the rest: by −0.46" in sentence


def test_without_a_margin_nothing_is_said_of_one(tmp_path: Path) -> None:
    found = evaluate_ring(tmp_path, ring(tmp_path, far=1.0))
    sex = found.summary["attributes"][0]
    assert sex["groups"][0]["difference"]["inside_margin"] is None
    sentence = attribute_sentence(sex, found.summary)
    assert sentence.startswith("No evidence of a difference (exploratory)")
    assert "smallest gap we could have seen" in sentence
    assert "inside ±" not in sentence
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "ruled out" not in page
    assert "Inside ±" not in page


def test_one_case_with_one_landmark_is_an_evaluation(tmp_path: Path) -> None:
    paths = save(tmp_path, truth="case_id,landmark,x,y\na,tip,0,0\n", guess="case_id,landmark,x,y\na,tip,3,4\n")
    found = evaluate_landmarks(paths["truth"], paths["guess"], tmp_path / "out")
    overall = found.summary["overall"]
    assert (overall["mean"], overall["worst_decile"], overall["missed"]) == (5.0, 5.0, 0)
    assert [one["value"] for one in overall["success"]] == [0.0] * 4
    assert found.summary["settings"]["radii"] == [2.0, 2.5, 3.0, 4.0]
    assert (tmp_path / "out" / "report.html").is_file()
    assert "each case counts as a patient of its own" in found.summary["notes"][0]


def test_where_nothing_is_found_there_is_no_error_and_no_success(tmp_path: Path) -> None:
    paths = ring(tmp_path, lost=tuple(range(24)))
    overall = evaluate_ring(tmp_path, paths).summary["overall"]
    assert (overall["mean"], overall["missed"], overall["patients_measured"]) == (None, 48, 0)
    assert (overall["success"][1]["value"], overall["failure_rate"]["value"]) == (0.0, 1.0)


def test_a_case_whose_patient_is_unknown_is_left_out(tmp_path: Path) -> None:
    paths = save(tmp_path, truth=TRUTH, guess=GUESS, people="\n".join(PEOPLE.splitlines()[:-1]))
    arguments = (paths["truth"], paths["guess"])
    found = evaluate_landmarks(*arguments, tmp_path / "out", groups=paths["people"], patient="who")
    assert [one["case_id"] for one in found.summary["left_out"]["excluded_cases"]] == ["d"]
    assert found.summary["cohort"]["cases"] == 3
    alone = evaluate_landmarks(*arguments, tmp_path / "two", groups=paths["people"], attributes=["sex"])
    assert alone.summary["cohort"]["cases"] == 4
    assert "of unknown group: d." in alone.summary["notes"][0]


@pytest.mark.parametrize(
    ("truth", "guess", "message"),
    [
        (
            TRUTH,
            "case_id,landmark,x,y,z\nz,apex,1,2,3\n",
            "expected a case of .*truth.csv, such as 'a', got none, such as 'z'",
        ),
        (
            TRUTH,
            "case_id,landmark,x,y,z\na,1,1,2,3\n",
            "expected a landmark of .*, such as 'apex', got none, such as '1'",
        ),
        (TRUTH, "case_id,landmark,x,y\na,apex,1,2\n", "guess.csv: expected points of 3 coordinates, .* got 2"),
        ("case_id,landmark,x,y\n007,tip,1,2\n", "case_id,landmark,x,y\n7,tip,1,2\n", "got '7' without its zeros"),
        ("case_id,landmark,x,y\na,tip,,\n", "case_id,landmark,x,y\na,tip,1,2\n", "truth.csv: expected a landmark with"),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path: Path, truth: str, guess: str, message: str) -> None:
    paths = save(tmp_path, truth=truth, guess=guess)
    with pytest.raises(InputError, match=message):
        evaluate_landmarks(paths["truth"], paths["guess"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_an_earlier_landmark_evaluation_is_replaced(tmp_path: Path) -> None:
    paths = save(tmp_path, truth=TRUTH, guess=GUESS)
    arguments = (paths["truth"], paths["guess"], tmp_path / "out")
    evaluate_landmarks(*arguments)
    with pytest.raises(InputError, match="got an earlier landmark evaluation; add --overwrite"):
        evaluate_landmarks(*arguments)
    evaluate_landmarks(*arguments, overwrite=True)
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"nothing beside the earlier landmark evaluation, got thesis\.txt"):
        evaluate_landmarks(*arguments, overwrite=True)


def test_the_folder_holds_tables_page_and_figures(tmp_path: Path) -> None:
    evaluate_ring(tmp_path, ring(tmp_path), figures=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"landmarks.csv", "cases.csv", "groups.csv", "summary.json", "report.html", "figures"}
    figures = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert figures == {
        f"{stem}.{suffix}" for stem in ("error-curve", "landmarks", "groups") for suffix in ("svg", "png")
    }


def test_the_command_prints_the_numbers_and_ends_well(tmp_path: Path) -> None:
    paths = save(tmp_path, truth=TRUTH, guess=GUESS, people=PEOPLE)
    command = ["evaluate-landmarks", "--references", str(paths["truth"]), "--predictions", str(paths["guess"])]
    command += ["--groups", str(paths["people"]), "--patient", "who", "--attribute", "sex"]
    command += ["--radius", "4", "--radius", "2", "--bootstrap-draws", "199", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "3 patients, 4 cases" in done.stdout
    assert re.search(r"Missed landmarks +0\.43 +– +3 of 7 landmarks", done.stdout)
    assert "all landmarks missed: 1" in done.stdout
    assert "sex: Mean errors are not compared" in done.stdout
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in done.stdout
    again = CliRunner().invoke(app, [*command, "--overwrite", "--json"])
    assert json.loads(again.stdout)["overall"]["mean"] == 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unit", "px"], "--unit: expected 'mm' or 'pixels', got 'px'; choose one of them"),
        (["--unit", "pixels"], "--radius: expected the distances in pixels at which success is counted"),
        (["--radius", "0"], "--radius: expected a number greater than 0, got 0.0"),
        (["--margin", "-1"], "--margin: expected a number greater than 0, got -1.0"),
        (["--bootstrap-draws", "5"], "--bootstrap-draws: expected a number greater than or equal to 199"),
        (["--attribute", "sex"], "--groups: expected a table"),
        (["--continuous", "age"], "--continuous age: expected a column and the edges"),
    ],
)
def test_a_wrong_option_ends_with_2_and_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    paths = save(tmp_path, truth=TRUTH, guess=GUESS)
    command = ["evaluate-landmarks", "--references", str(paths["truth"]), "--predictions", str(paths["guess"])]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out"), *options])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_same_table_twice_is_refused(tmp_path: Path) -> None:
    paths = save(tmp_path, truth=TRUTH)
    with pytest.raises(InputError, match="another table than --references, got the same"):
        evaluate_landmarks(paths["truth"], paths["truth"], tmp_path / "out")
