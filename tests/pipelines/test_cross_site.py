import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from equivox.cli.app import app
from equivox.datasets.cohort import AttributeConfig, ChannelConfig, CohortConfig
from equivox.errors import InputError
from equivox.options import load_options, parse_options, save_options
from equivox.pipelines.cross_site import cross_site, dry_run
from equivox.pipelines.cross_site_config import CrossSiteConfig

SETTINGS = "cohort: cohort\nminimum_patients: 5\nfolds: 2\nmetrics: [dice]\nrows: [own, pool]\n"
LITE = SETTINGS.replace("[own, pool]", "[own]") + "budget: lite\n"


@pytest.fixture
def two_sites(make_sites, tmp_path: Path) -> Path:
    """The configuration of a comparison of two sites of six patients."""
    make_sites(tmp_path / "cohort", {"A": (6, 0.0), "B": (6, 30.0)})
    (tmp_path / "sites.yaml").write_text(SETTINGS)
    return tmp_path / "sites.yaml"


@pytest.fixture
def finished(made_once, make_sites, thresholds, tmp_path: Path) -> Path:
    """The same, compared already: a copy of the folder with the configuration, the cohort and `out`."""

    def make(folder: Path) -> Path:
        make_sites(folder / "cohort", {"A": (6, 0.0), "B": (6, 30.0)})
        (folder / "sites.yaml").write_text(SETTINGS)
        run(folder / "sites.yaml", folder / "out", thresholds)
        return folder

    shutil.copytree(made_once("two-sites", make), tmp_path, dirs_exist_ok=True)
    thresholds.trained.clear()
    thresholds.segmented.clear()
    return tmp_path / "sites.yaml"


def run(config: Path, out: Path, learner, **more):
    return cross_site(config, out, learn=learner.learn, segment=learner.segment, **more)


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.csv")}


def change_table(config: Path, change) -> None:
    path = config.parent / "cohort" / "cohort.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(table)
    table.to_csv(path, index=False)


def test_matrix_holds_the_means_of_the_patients(crossed) -> None:
    matrix = pd.read_csv(crossed.folder / "matrix_dice.csv").set_index("row")
    assert list(matrix.columns) == ["Bern", "Cork", "Graz", "Lund", "macro", "micro"]
    assert list(matrix.index) == [
        *("own: Bern", "own: Cork", "own: Graz", "pool", "pool matched"),
        *("leave out: Bern", "leave out: Cork", "leave out: Graz"),
    ]
    patients = crossed.patients[crossed.patients["metric"] == "dice"]
    for row in matrix.index:
        for site in ("Bern", "Graz", "Lund"):
            own = patients[(patients["row"] == row) & (patients["site"] == site)]
            assert matrix.loc[row, site] == pytest.approx(own.groupby("patient_id")["value"].mean().mean())
    assert matrix.loc["pool", "macro"] == pytest.approx(matrix.loc["pool", ["Bern", "Cork", "Graz", "Lund"]].mean())


def test_a_patient_is_tested_once_at_home_and_by_every_model_away(crossed) -> None:
    patients = crossed.patients[crossed.patients["metric"] == "dice"]
    counts = patients.groupby(["row", "site", "patient_id"]).size().groupby(["row", "site"]).agg(["min", "max"])
    assert counts.loc[("own: Bern", "Bern")].tolist() == [1, 1]
    assert counts.loc[("own: Bern", "Cork")].tolist() == [2, 2]
    assert counts.loc[("pool", "Graz")].tolist() == [1, 1]
    assert counts.loc[("pool matched", "Graz")].tolist() == [2, 2]  # draws
    assert counts.loc[("leave out: Graz", "Graz")].tolist() == [2, 2]
    assert counts.loc[("leave out: Graz", "Bern")].tolist() == [1, 1]
    assert counts.loc[("pool", "Lund")].tolist() == [2, 2]


def test_the_site_that_is_off_loses_most_and_errors_count_by_their_size(crossed) -> None:
    dice, volume = crossed.summary["metrics"]
    gaps = {one["site"]: one["difference"] for one in dice["contrasts"] if one["kind"] == "gap"}
    assert set(gaps) == {"Bern", "Cork", "Graz"}
    assert gaps["Graz"] > gaps["Cork"]
    graz = next(one for one in dice["contrasts"] if (one["kind"], one["site"]) == ("gap", "Graz"))
    assert graz["p_adjusted"] < 0.05
    assert graz["low"] > 0
    assert (volume["metric"], volume["unit"], volume["better"]) == ("absolute_volume_error", "ml", "low")
    assert (crossed.folder / "matrix_absolute_volume_error.csv").is_file()
    values = crossed.patients[crossed.patients["metric"] == "absolute_volume_error"]["value"]
    assert (values >= 0).all()
    # Turned: a larger error away from home is a gap above 0.
    graz = next(one for one in volume["sites"] if one["site"] == "Graz")
    assert graz["gap"] == pytest.approx(graz["external"] - graz["in_domain"])
    assert graz["gap"] > 0


def test_nothing_is_said_of_sites_that_were_not_seen(crossed) -> None:
    assert crossed.summary["population_claim"] is False
    assert crossed.summary["metrics"][0]["over_sites"]["low"] is None


def test_the_protocol_says_what_was_trained_on_whom(crossed) -> None:
    protocol = json.loads((crossed.folder / "protocol.json").read_text())
    assert len(protocol["models"]) == 2 * (3 + 1 + 2 + 3)
    assert protocol["training_seed"] == 7
    assert len(protocol["splits_sha256"]) == 64
    matched = [one for one in protocol["models"] if one["row"] == "pool matched"]
    assert {len(one["training_patients"]) for one in matched} == {5}
    assert all(one["curve_patient"] in one["training_patients"] for one in protocol["models"])
    assert "the mean over those models" in protocol["averaging"]


def test_case_mix_and_groups_stand_beside(crossed) -> None:
    mix = crossed.summary["metrics"][0]["case_mix"]["gap"]
    assert list(mix["used"]) == ["lesion_volume"]
    assert "cannot be told from the site" in mix["dropped"]["slice_thickness"]
    groups = crossed.summary["groups"]
    assert {one["attribute"] for one in groups} == {"sex"}
    assert {one["site"] for one in groups} == {None, "Bern", "Cork", "Graz", "Lund"}
    assert sum(one["patients"] for one in groups if one["scope"] == "all") == 32
    assert sum(one["difference"] is not None for one in groups if one["scope"] == "within") == 2


def test_own_beats_cross_by_more_the_farther_the_scanners_lie_apart(make_sites, thresholds, tmp_path) -> None:
    (tmp_path / "sites.yaml").write_text(LITE)
    gaps = []
    for place, offset in enumerate((0.0, 20.0, 45.0)):
        make_sites(tmp_path / f"cohort{place}", {"A": (6, 0.0), "B": (6, offset)})
        overrides = [f"cohort=cohort{place}"]
        found = run(tmp_path / "sites.yaml", tmp_path / f"out{place}", thresholds, overrides=overrides)
        gaps.append(np.mean([one["gap"] for one in found.summary["metrics"][0]["sites"]]))
    assert abs(gaps[0]) < 0.02 < gaps[1] < gaps[2]


def test_permuting_the_names_of_sites_permutes_the_matrix(finished, thresholds, tmp_path) -> None:
    before = pd.read_csv(tmp_path / "out" / "matrix_dice.csv")
    contrasts = pd.read_csv(tmp_path / "out" / "contrasts.csv")
    names = {"A": "B", "B": "A"}
    change_table(finished, lambda table: table.update({"site": table["site"].map(names)}))
    found = run(finished, tmp_path / "permuted", thresholds)
    after = pd.read_csv(found.folder / "matrix_dice.csv").rename(columns=names)
    after["row"] = after["row"].replace({"own: A": "own: B", "own: B": "own: A"})
    pd.testing.assert_frame_equal(before, after.set_index("row").loc[before["row"]].reset_index()[before.columns])
    again = pd.read_csv(found.folder / "contrasts.csv").assign(site=lambda table: table["site"].map(names))
    order = ["kind", "site"]
    pd.testing.assert_frame_equal(
        contrasts.sort_values(order, ignore_index=True), again.sort_values(order, ignore_index=True)
    )


def test_five_sites_have_a_mixed_model_and_other_protocols_of_labels_are_said(make_sites, thresholds, tmp_path) -> None:
    offsets = dict(zip("ABCDE", (0.0, 10.0, 20.0, 30.0, 45.0), strict=True))
    make_sites(tmp_path / "cohort", {site: (5, offset) for site, offset in offsets.items()})
    (tmp_path / "sites.yaml").write_text(SETTINGS + "budget: lite\nlabel_protocol: sex\n")

    def draw(table: pd.DataFrame) -> None:
        table["sex"] = ["F" if site == "A" else "" if site == "B" else "M" for site in table["site"]]

    change_table(tmp_path / "sites.yaml", draw)
    found = run(tmp_path / "sites.yaml", tmp_path / "out", thresholds)
    model = found.summary["metrics"][0]["mixed_model"]
    assert (model["sites"], model["patients"]) == (5, 15)
    assert [one["name"] for one in model["effects"]] == ["away", "pool", "lesion_volume"]
    away = model["effects"][0]
    gaps = [one["gap"] for one in found.summary["metrics"][0]["sites"]]
    assert away["estimate"] == pytest.approx(-np.mean(gaps), rel=1e-4)
    assert away["degrees"] == 4
    assert [one["label_protocols"] for one in found.summary["sites"]] == [["F"], ["not known"], ["M"], ["M"], ["M"]]
    assert any(
        "drawn by other protocols, and a gap may be one of these: A: F; B" in one for one in found.summary["notes"]
    )
    # Whoever drew a mask is no group of patients.
    assert found.summary["groups"] == []
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for text in (page, (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")):
        assert "Models of other sites against the own ones" in text
        assert "15 patients of 5 sites in one mixed model, the site being the unit" in text


def test_a_model_s_folder_shows_its_training_patients_and_nobody_else(two_sites, thresholds, tmp_path) -> None:
    out = tmp_path / "out"
    run(two_sites, out, thresholds)
    splits = pd.read_csv(out / "splits.csv", dtype=str).set_index("case_id")
    assert len(thresholds.trained) == 6
    for name, trained in thresholds.trained.items():
        assert not set(trained) & set(thresholds.segmented[name])
        fold = name[-1]
        if name.startswith("own-a"):
            wanted = splits[(splits["site"] == "A") & (splits["fold"] != fold)]
            assert set(trained) == set(wanted.index)
            tested = splits[(splits["site"] == "B") | (splits["fold"] == fold)]
            assert set(thresholds.segmented[name]) == set(tested.index)
        listed = pd.read_csv(out / "cells" / name / "cohort" / "split.csv", dtype=str)
        assert set(listed["case_id"]) == set(trained)
        assert sorted(listed["fold"]) == ["0", *["1"] * (len(trained) - 1)]
        # Scans are pointed to, not copied.
        assert {path.name for path in (out / "cells" / name / "cohort").iterdir()} == {
            *("cohort.csv", "cohort.yaml", "split.csv")
        }


@pytest.mark.parametrize("part", ["learn", "segment"])
def test_a_comparison_that_was_killed_goes_on_and_ends_with_the_same_tables(
    finished, thresholds, tmp_path, monkeypatch, part
) -> None:
    original, calls = getattr(thresholds, part), []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(thresholds, part, killed)
        with pytest.raises(KeyboardInterrupt):
            run(finished, tmp_path / "killed", thresholds)
    assert not (tmp_path / "killed" / "contrasts.csv").exists()
    done = [one["done"] for one in dry_run(finished, tmp_path / "killed")["models"]]
    assert done == [True] * 3 + [False] * 3
    thresholds.trained.clear()
    run(finished, tmp_path / "killed", thresholds)
    assert len(thresholds.trained) == (3 if part == "learn" else 2)
    assert tables(tmp_path / "killed") == tables(tmp_path / "out")
    thresholds.trained.clear()
    run(finished, tmp_path / "killed", thresholds)
    assert thresholds.trained == {}
    assert tables(tmp_path / "killed") == tables(tmp_path / "out")


def test_scores_that_are_not_whole_are_made_anew(finished, thresholds, tmp_path) -> None:
    before = tables(tmp_path / "out")
    scores = tmp_path / "out" / "cells" / "own-a-fold0" / "scores.csv"
    scores.write_bytes(scores.read_bytes()[:-40])
    run(finished, tmp_path / "out", thresholds)
    assert list(thresholds.segmented) == ["own-a-fold0"]
    assert tables(tmp_path / "out") == before


def test_damaged_files_of_an_earlier_call_are_named_with_what_to_do(finished, thresholds, tmp_path) -> None:
    out = tmp_path / "out"
    cell = out / "cells" / "own-a-fold0"
    (cell / "scored.json").unlink()
    segment = thresholds.segment

    def cut(run_folder: Path, targets: Path, predictions: Path, config: CrossSiteConfig) -> None:
        segment(run_folder, targets, predictions, config)
        next(predictions.glob("*.nii.gz")).write_bytes(b"cut")

    with pytest.raises(InputError, match=f"; or remove {cell / 'predictions'} and run again"):
        cross_site(finished, out, learn=thresholds.learn, segment=cut)
    (out / "splits.csv").write_text("case,fold\n1,2\n")
    with pytest.raises(
        InputError, match=r"splits.csv: expected the columns case_id, .* got case, fold; choose another"
    ):
        run(finished, out, thresholds)


def test_other_settings_or_cases_are_not_mixed(finished, thresholds, tmp_path) -> None:
    out = tmp_path / "out"
    before = tables(out)
    with pytest.raises(InputError, match=r"another training.steps \(there None, now 5\); choose another -o"):
        run(finished, out, thresholds, overrides=["training.steps=5"])
    image = nib.load(tmp_path / "cohort" / "image004.nii.gz")
    changed = image.get_fdata().astype(np.float32)
    changed[0, 0, 0] += 1
    nib.Nifti1Image(changed, image.affine).to_filename(tmp_path / "cohort" / "image004.nii.gz")
    with pytest.raises(InputError, match="case 'c004' has changed"):
        run(finished, out, thresholds)
    assert tables(out) == before


def test_models_of_other_classes_are_not_mixed_though_the_files_are_the_same(make_sites, thresholds, tmp_path) -> None:
    cohort = make_sites(tmp_path / "cohort", {"A": (6, 0.0), "B": (6, 30.0)}, classes=("ball", "cyst"))
    (tmp_path / "sites.yaml").write_text(LITE)
    out = tmp_path / "out"
    run(tmp_path / "sites.yaml", out, thresholds)
    before = tables(out)
    begun = load_options(CohortConfig, cohort / "cohort.yaml")
    changes = [
        (
            {"label_values": {0: "background", 1: "cyst", 2: "ball"}},
            r"got another label_values.1 \(there ball, now cyst\)",
        ),
        ({"channels": {"mr": ChannelConfig(modality="CT")}}, r"got another channels.mr.modality \(there MR, now CT\)"),
    ]
    for change, words in changes:
        save_options(begun.model_copy(update=change), cohort / "cohort.yaml")
        with pytest.raises(InputError, match=f"expected the cohort.yaml that it was begun with, {words}"):
            run(tmp_path / "sites.yaml", out, thresholds)
        assert tables(out) == before
    # What the patients are reported by may change: no model depends on it.
    save_options(begun.model_copy(update={"attributes": {"site": AttributeConfig()}}), cohort / "cohort.yaml")
    assert run(tmp_path / "sites.yaml", out, thresholds).summary["groups"] == []


def test_a_dry_run_says_no_model_done_that_would_be_refused(finished, thresholds, tmp_path) -> None:
    with pytest.raises(InputError, match=r"another training.steps \(there None, now 5\); choose another -o"):
        dry_run(finished, tmp_path / "out", overrides=["training.steps=5"])
    with pytest.raises(InputError, match="or one that this command began, got cohort"):
        dry_run(finished, tmp_path)
    with pytest.raises(InputError, match="expected a folder to write to, got the file"):
        dry_run(finished, finished)


def test_a_folder_of_something_else_is_left_alone(two_sites, thresholds, tmp_path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").touch()
    with pytest.raises(InputError, match="or one that this command began, got chapter"):
        run(two_sites, tmp_path / "thesis", thresholds)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "splits.csv").touch()
    with pytest.raises(InputError, match="began, got splits"):
        run(two_sites, tmp_path / "run", thresholds)


def test_a_patient_at_two_sites_is_named(two_sites, thresholds, tmp_path) -> None:
    def merge(table: pd.DataFrame) -> None:
        table.loc[table["case_id"] == "c007", "patient_id"] = "p001"

    change_table(two_sites, merge)
    with pytest.raises(InputError, match=r"expected each patient at one site, got 'p001' \(A and B\)"):
        run(two_sites, tmp_path / "out", thresholds)
    assert not (tmp_path / "out").exists()


def test_one_scan_of_two_patients_stops_or_is_said(two_sites, thresholds, tmp_path) -> None:
    shutil.copy(tmp_path / "cohort" / "image001.nii.gz", tmp_path / "cohort" / "image009.nii.gz")
    with pytest.raises(InputError, match="got the same voxels in c001 = c009, which leaks"):
        run(two_sites, tmp_path / "out", thresholds)
    found = dry_run(two_sites, tmp_path / "out", overrides=["duplicates=warn"])
    assert any("c001 = c009" in note for note in found["notes"])


def test_one_site_is_refused(two_sites, thresholds, tmp_path) -> None:
    with pytest.raises(InputError, match=r"expected two sites with 7 patients or more, got A \(6\), B \(6\)"):
        run(two_sites, tmp_path / "out", thresholds, overrides=["minimum_patients=7"])
    with pytest.raises(InputError, match=r"folds: expected so few .* got 7"):
        run(two_sites, tmp_path / "out", thresholds, overrides=["folds=7"])


def test_an_attribute_that_is_not_declared_is_named(two_sites, thresholds, tmp_path) -> None:
    with pytest.raises(InputError, match="which declares site, sex, got 'hospital'"):
        run(two_sites, tmp_path / "out", thresholds, overrides=["site=hospital"])
    with pytest.raises(InputError, match=r"label_protocol: expected an attribute of .* which declares .* got 'rater'"):
        run(two_sites, tmp_path / "out", thresholds, overrides=["label_protocol=rater"])
    with pytest.raises(InputError, match=r"lesion_class: expected one of \['ball'\], got 'tumour'"):
        run(two_sites, tmp_path / "out", thresholds, overrides=["lesion_class=tumour"])


def test_a_site_of_empty_masks_is_left_out_and_named(make_sites, tmp_path) -> None:
    make_sites(tmp_path / "cohort", {"A": (6, 0.0), "B": (6, 0.0), "healthy": (6, 0.0)})
    (tmp_path / "sites.yaml").write_text(SETTINGS)
    for number in range(12, 18):
        label = nib.load(tmp_path / "cohort" / f"label{number:03d}.nii.gz")
        empty = np.zeros(label.shape, np.uint8)
        nib.Nifti1Image(empty, label.affine).to_filename(tmp_path / "cohort" / f"label{number:03d}.nii.gz")
    found = dry_run(tmp_path / "sites.yaml", tmp_path / "out")
    assert [one["site"] for one in found["sites"]] == ["A", "B"]
    assert any(note.startswith("Site healthy: no reference mask has a structure") for note in found["notes"])


def test_a_class_that_a_site_lacks_is_not_scored_and_cases_without_a_site_are_left_out(
    make_sites, thresholds, tmp_path
) -> None:
    make_sites(tmp_path / "cohort", {"A": (6, 0.0), "B": (7, 0.0)}, classes=("ball", "cyst"))
    (tmp_path / "sites.yaml").write_text(LITE)
    label = nib.load(tmp_path / "cohort" / "label000.nii.gz")
    array = np.asarray(label.dataobj).copy()
    array[0, 0, 0] = 2
    nib.Nifti1Image(array, label.affine).to_filename(tmp_path / "cohort" / "label000.nii.gz")

    def forget(table: pd.DataFrame) -> None:
        table.loc[table["case_id"] == "c012", "site"] = ""

    change_table(tmp_path / "sites.yaml", forget)
    found = run(tmp_path / "sites.yaml", tmp_path / "out", thresholds)
    assert found.summary["classes"] == ["ball"]
    assert found.summary["missing_classes"] == {"cyst": ["B"]}
    assert found.summary["excluded_cases"] == [{"case_id": "c012", "reason": "the site is not known"}]
    assert "Class cyst is not scored, as it is in no reference mask of B." in found.summary["notes"]


def test_patients_without_a_value_in_every_row_are_left_out_of_all(two_sites, thresholds, tmp_path) -> None:
    label = nib.load(tmp_path / "cohort" / "label000.nii.gz")
    empty = np.zeros(label.shape, np.uint8)
    nib.Nifti1Image(empty, label.affine).to_filename(tmp_path / "cohort" / "label000.nii.gz")
    found = run(two_sites, tmp_path / "out", thresholds, overrides=["metrics=[dice, sensitivity]", "rows=[own]"])
    dice, sensitivity = found.summary["metrics"]
    # No reference: sensitivity is not defined, Dice counts the false voxels as 0.
    assert dice["left_out"] == {}
    assert sensitivity["left_out"] == {"A": ["p000"]}
    assert sensitivity["rows"][0]["cells"]["A"]["patients"] == 5


def test_a_site_that_one_row_has_no_value_for_is_missing_from_all_rows(make_sites, thresholds, tmp_path) -> None:
    # Models of B segment nothing at A, so that precision is not defined there; A's segment everything at B.
    make_sites(tmp_path / "cohort", {"A": (6, 0.0), "B": (6, 900.0)})
    (tmp_path / "sites.yaml").write_text(SETTINGS.replace("[own, pool]", "[own]"))
    found = run(tmp_path / "sites.yaml", tmp_path / "out", thresholds, overrides=["metrics=[precision, dice]"])
    precision, dice = found.summary["metrics"]
    assert precision["left_out"] == {"A": [f"p{number:03d}" for number in range(6)]}
    assert [set(row["cells"]) for row in precision["rows"]] == [{"B"}, {"B"}]
    # There Dice is 0: a missed ball is a failure, and nobody is left out.
    assert dice["left_out"] == {}
    assert dice["rows"][1]["cells"]["A"]["mean"] == 0
    assert pd.read_csv(tmp_path / "out" / "matrix_precision.csv")["A"].isna().all()


def test_unknown_options_are_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(InputError, match="unknown key 'fold'; did you mean 'folds'"):
        parse_options(CrossSiteConfig, {"cohort": "c", "fold": 3}, "sites.yaml")
    with pytest.raises(InputError, match="max_minutes: expected none"):
        parse_options(CrossSiteConfig, {"cohort": "c", "training": {"max_minutes": 3}}, "sites.yaml")
    with pytest.raises(InputError, match="expected 'own' among them"):
        parse_options(CrossSiteConfig, {"cohort": "c", "rows": ["pool"]}, "sites.yaml")
    with pytest.raises(InputError, match="wide_tolerance: expected more than the tolerance, 4, got 3; widen it"):
        parse_options(CrossSiteConfig, {"cohort": "c", "tolerance": 4}, "sites.yaml")
    suv = {"cohort": "c", "metrics": ["dice", "lesion_recall"], "lesions": {"match": "suvmax"}}
    with pytest.raises(InputError, match="expected a rule that asks for no image, got 'suvmax'"):
        parse_options(CrossSiteConfig, suv, "sites.yaml")
    assert parse_options(CrossSiteConfig, suv | {"metrics": ["dice"]}, "sites.yaml").lesions.match == "suvmax"
    with pytest.raises(InputError, match="got 'dise'; choose among them"):
        parse_options(CrossSiteConfig, {"cohort": "c", "metrics": ["dise"]}, "sites.yaml")


def test_the_example_is_a_configuration_and_a_dry_run_prints_the_models(two_sites, tmp_path) -> None:
    import yaml

    shown = CliRunner().invoke(app, ["cross-site", "--example"])
    assert shown.exit_code == 0
    config = parse_options(CrossSiteConfig, yaml.safe_load(shown.stdout), "example")
    assert config == CrossSiteConfig(cohort="cohort", training={"steps": 1000, "dims": "2d"})
    done = CliRunner().invoke(app, ["cross-site", str(two_sites), "-o", str(tmp_path / "out"), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "6 trainings, 0 of them done" in done.stdout
    assert "own-a-fold0" in done.stdout
    assert not (tmp_path / "out").exists()
    nowhere = CliRunner().invoke(app, ["cross-site", str(two_sites)])
    assert nowhere.exit_code == 2
    assert "--out: expected a folder" in nowhere.stderr


def test_networks_are_planned_trained_and_scored_site_by_site(two_sites, tmp_path) -> None:
    out = tmp_path / "out"
    command = ["cross-site", str(two_sites), "-o", str(out), "--set", "budget=lite", "--set", "rows=[own]"]
    command += ["--set", "metrics=[dice, lesion_recall, lesion_false_positives, ece]"]
    command += ["--set", "training={model: {name: plain_unet}, dims: 2d, steps: 2, validation: {every_steps: 0}}"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "A alone" in done.stdout
    assert "no claim about other sites" in done.stdout
    matrix = pd.read_csv(out / "matrix_dice.csv").set_index("row")
    assert matrix.loc[:, ["A", "B"]].notna().all(axis=None)
    cell = out / "cells" / "own-a-fold0"
    # Offsets of the other site are in nobody's plan.
    plan = (cell / "cohort" / "plan.yaml").read_text()
    assert "cases: 3" in plan
    manifest = json.loads((cell / "run" / "manifest.json").read_text())
    assert manifest["asked"]["precision"] == "float32"
    assert len(manifest["folds"]["0"]["training_cases"]) == 2
    assert not (cell / "cohort" / "store").exists()
    errors = pd.read_csv(out / "patients.csv").query("metric == 'ece'")["value"]
    assert len(errors) == 2 * 6
    assert errors.between(0, 1).all()
    assert not (cell / "predictions" / "probabilities").exists()
    before = tables(out)
    # The maps that the scores need are made anew.
    (cell / "scored.json").unlink()
    again = CliRunner().invoke(app, [*command, "--json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["site_attribute"] == "site"
    assert tables(out) == before
    (cell / "scored.json").unlink()
    (cell / "run" / "fold_0" / "model.safetensors").write_bytes(b"cut")
    damaged = CliRunner().invoke(app, command)
    assert damaged.exit_code == 2, damaged.output
    assert f"{cell}: expected the model as it was trained, got a damaged one" in damaged.stderr
    assert damaged.stderr.endswith("remove this folder and run again\n")
