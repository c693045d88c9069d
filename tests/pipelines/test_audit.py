"""The whole audit on tiny networks of random weights, with attributes planted in the scans."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from equivox.cli.app import app
from equivox.datasets.cohort import AttributeConfig, ChannelConfig, CohortConfig
from equivox.errors import InputError
from equivox.metrics.energy import CaseEnergy
from equivox.metrics.fairness.probe import PatientVectors, probe
from equivox.options import load_options, save_options
from equivox.pipelines.audit import Audit, audit
from equivox.pipelines.auditing.controls import Acquisition
from equivox.pipelines.auditing.erasing import removals_of
from equivox.pipelines.auditing.features import CaseFeatures
from equivox.pipelines.auditing.options import AuditOptions
from equivox.pipelines.auditing.probing import AuditSpaces, audit_spaces, probe_records
from equivox.pipelines.auditing.sources import AuditSource, held_out_source
from equivox.pipelines.run_folder import RunFolder

MakeRun = Callable[..., Path]

PATIENTS = 44
FAST: dict[str, Any] = {"permutations": 19, "draws": 199}


def place_of(number: int) -> str:
    """The first 24 are test patients, then 10 of fold 0, then 10 of fold 1."""
    return "test" if number < 24 else "0" if number < 34 else "1"


def write_cohort(folder: Path, *, patients: int = PATIENTS, second_scan: bool = False) -> Path:
    """Sex is a pattern of the image, the scanner its spacing alone; a bright block is the tumour."""
    folder.mkdir()
    rows = ["case_id,patient_id,image:mr,label,sex,scanner,age"]
    for number in range(patients):
        for scan in range(2 if second_scan and number == 0 else 1):
            rng = np.random.default_rng([number, scan])
            sex, scanner = "FM"[number % 2], "old" if number % 3 == 0 else "new"
            label = np.zeros((8, 8, 8), dtype=np.uint8)
            label[2:5, 2:6, 3:6] = 1
            image = rng.normal(0, 0.3, label.shape) + 2.0 * label
            image[:, :, ::2] += 2.5 * (sex == "M")
            affine = np.diag([-0.7, 1.1, (2.5 if scanner == "new" else 3.0) + 0.05 * rng.normal(), 1])
            name = f"c{number:02d}" + "b" * scan
            nib.save(nib.Nifti1Image(image.astype(np.float32), affine), folder / f"{name}.nii.gz")
            nib.save(nib.Nifti1Image(label, affine), folder / f"{name}_label.nii.gz")
            age = 30 + 10 * scan + int(rng.integers(0, 50))
            rows.append(f"{name},p{number:02d},{name}.nii.gz,{name}_label.nii.gz,{sex},{scanner},{age}")
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    config = CohortConfig(
        name="toy",
        channels={"mr": ChannelConfig()},
        classes={"tumour": 1},
        label_values={0: "background", 1: "tumour"},
        attributes={
            "sex": AttributeConfig(),
            "scanner": AttributeConfig(),
            "age": AttributeConfig(kind="continuous", bins=(50.0,)),
        },
    )
    save_options(config, folder / "cohort.yaml")
    return folder


def write_split(run: Path, patients: int = PATIENTS) -> None:
    rows = [f"c{number:02d},p{number:02d},{place_of(number)}" for number in range(patients)]
    (run / "split.csv").write_text("\n".join(["case_id,patient_id,fold", *rows]) + "\n")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory, make_run_at: MakeRun) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("audit")
    run = make_run_at(folder / "run", folds=(0, 1))
    write_split(run)
    return run, write_cohort(folder / "cohort", second_scan=True)


@pytest.fixture(scope="module")
def audited(toy: tuple[Path, Path]) -> tuple[Path, Path, Audit]:
    run, cohort = toy
    # With fewer shuffles no q could be below .05.
    options = AuditOptions(
        permutations=29, draws=199, attributes=("sex",), erasure=(1,), random_sets=1, site="scanner", overlap=0
    )
    return run, cohort, audit(run, run.parent / "out", cohort=cohort, options=options)


def record(found: Audit, attribute: str, pooling: str = "mean") -> dict:
    return next(r for r in found.summary["probes"] if (r["attribute"], r["pooling"]) == (attribute, pooling))


def test_each_network_is_probed_on_the_patients_that_it_was_not_trained_on(audited: tuple[Path, Path, Audit]) -> None:
    run, _, found = audited
    arrays = np.load(found.folder / "embeddings.npz", allow_pickle=False)
    for fold in (0, 1):
        expected = {f"p{n:02d}" for n in range(PATIENTS) if place_of(n) in ("test", str(fold))}
        patients = arrays[f"trained/bottleneck/fold_{fold}/mean/patients"]
        assert sorted(patients.tolist()) == sorted(expected)
        # Four features of the plain U-Net's last stage, and as many deviations.
        assert arrays[f"trained/bottleneck/fold_{fold}/mean/vectors"].shape == (34, 4)
        assert arrays[f"trained/bottleneck/fold_{fold}/mean_sd/vectors"].shape == (34, 8)
    networks = found.summary["run"]["networks"]
    assert [one["held_out_patients"] for one in networks] == [34, 34]
    assert arrays["weights_sha256"].tolist() == [one["weights_sha256"] for one in networks]
    assert arrays["layers"].tolist() == ["network.encoder.stages.1"]
    assert found.summary["cohort"]["roles"] == {"test": 25, "out_of_fold": 20, "new": 0}
    assert RunFolder(run).folds == (0, 1)


def test_a_planted_pattern_is_available_and_spacing_is_explained_by_the_acquisition(
    audited: tuple[Path, Path, Audit],
) -> None:
    found = audited[2]
    sex = record(found, "sex")
    assert sex["done"]
    assert sex["score"] > 0.8
    assert sex["p"] == pytest.approx(1 / 30)
    assert sex["patients"] == PATIENTS
    assert sex["unstable"]
    assert sex["networks"] == [0, 1]
    assert [one["name"] for one in sex["controls"]] == ["untrained network", "acquisition", "body size"]
    assert sex["other_sites"]["score"] > 0.8
    arrays = np.load(found.folder / "embeddings.npz", allow_pickle=False)
    patients = arrays["trained/bottleneck/fold_0/mean/patients"].tolist()
    scanners = {patient: "old" if int(patient[1:]) % 3 == 0 else "new" for patient in patients}
    features = PatientVectors(tuple(patients), arrays["trained/bottleneck/fold_0/mean/vectors"].astype(np.float64))
    acquired = PatientVectors(tuple(arrays["acquisition_patients"].tolist()), arrays["acquisition"]).of(patients)
    told, control = (probe([one], scanners, shuffle=False).score for one in (features, acquired))
    assert control > 0.95
    assert told < 0.75


def test_the_mean_over_the_scans_of_a_patient_is_what_is_probed(audited: tuple[Path, Path, Audit]) -> None:
    source = held_out_source(RunFolder(audited[0]), audited[1], AuditOptions(attributes=("sex",)))

    def features(value: float, inside: float | None) -> CaseFeatures:
        vector = np.array([value, 1.0])
        pooled = {"mean": vector, "mean_sd": vector, "foreground": None if inside is None else np.array([inside, 2.0])}
        return CaseFeatures(
            {"bottleneck": pooled}, {"bottleneck": pooled}, CaseEnergy(0.0, None), np.zeros((1, 1, 1), dtype=np.int16)
        )

    # Two scans of p00, one of them without foreground, and one of p01 without any.
    found = {("c00", 0): features(1.0, 7.0), ("c00b", 0): features(4.0, None), ("c01", 0): features(3.0, None)}
    told = {
        case: Acquisition(np.array([place]), np.array([0.0]))
        for (case, _), place in zip(found, (1.0, 2.0, 9.0), strict=True)
    }
    spaces = audit_spaces(source, found, told)
    assert spaces.trained["bottleneck"]["mean"][0].patients == ("p00", "p01")
    np.testing.assert_array_equal(spaces.trained["bottleneck"]["mean"][0].vectors, [[2.5, 1.0], [3.0, 1.0]])
    assert spaces.trained["bottleneck"]["foreground"][0].patients == ("p00",)
    np.testing.assert_array_equal(spaces.trained["bottleneck"]["foreground"][0].vectors, [[7.0, 2.0]])
    assert spaces.trained["bottleneck"]["mean"][1].patients == ()
    np.testing.assert_array_equal(spaces.acquisition.vectors, [[1.5], [9.0]])
    table = pd.read_csv(audited[2].folder / "energy.csv")
    assert table[table["patient_id"] == "p00"]["case_id"].tolist() == ["c00", "c00", "c00b", "c00b"]
    assert record(audited[2], "sex")["patients"] == PATIENTS


def test_energy_is_ranked_among_the_other_patients_of_the_same_network(audited: tuple[Path, Path, Audit]) -> None:
    table = pd.read_csv(audited[2].folder / "energy.csv")
    for fold, own in table.groupby("fold"):
        reference = own[own["role"] == "out_of_fold"]
        one = own[own["role"] == "test"].iloc[0]
        # All energies differ, so the rank is the share below.
        assert one["percentile"] == pytest.approx(100 * (reference["energy"] < one["energy"]).mean()), fold
        assert one["reference"] == "cases of the fold"
        # The other 9 of the fold are too few, so a case of the fold is compared with the 25 + 9 others.
        inside = reference.iloc[0]
        assert (inside["reference"], inside["reference_cases"]) == ("all held-out cases", 34)


def test_erasure_gives_each_group_its_change_beside_random_directions(audited: tuple[Path, Path, Audit]) -> None:
    erasure = audited[2].summary["erasure"]
    assert (erasure["directions"], erasure["without_reference"]) == ([1], 0)
    sex = next(one for one in erasure["results"] if one["attribute"] == "sex")
    assert [row["group"] for row in sex["groups"]] == ["F", "M"]
    assert [row["patients"] for row in sex["groups"]] == [22, 22]
    for row in sex["groups"]:
        assert row["extra"] == pytest.approx(row["change"] - row["random_change"])
        assert row["extra_low"] <= row["extra"] <= row["extra_high"]
        assert 0 <= row["p"] <= 1
    assert sex["left"] < record(audited[2], "sex")["score"]


def name_classes(cohort: Path, classes: dict[str, int], first: str) -> None:
    """Let the references' value 1 stand for another class than the tumour, or the tumour have another number."""
    config = load_options(CohortConfig, cohort / "cohort.yaml")
    changed = {"classes": classes, "label_values": {0: "background", 1: first}}
    save_options(config.model_copy(update=changed), cohort / "cohort.yaml")


def test_references_are_read_by_the_names_of_the_classes(audited: tuple[Path, Path, Audit], tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "cohort", second_scan=True)
    name_classes(cohort, {"oedema": 1, "tumour": 2}, "tumour")
    options = AuditOptions(**FAST, attributes=("age",), overlap=0, shortcuts=("sex",))
    found = audit(audited[0], tmp_path / "out", cohort=cohort, options=options)
    means = found.summary["shortcuts"]["flags"][0]["scores"][0]
    expected = audited[2].summary["behaviour"]["groups"]
    dices = [means["mean_without"], means["mean_with"]]
    assert dices == [row["dice"] for row in expected]
    assert min(dices) > 0
    name_classes(cohort, {"oedema": 1}, "oedema")
    match = "expected the class 'tumour' that the run segments, got oedema; name it so in cohort.yaml, or leave "
    for option, asked in (("--erasure", {"erasure": (1,)}), ("--shortcut", {"shortcuts": ("sex",)})):
        with pytest.raises(InputError, match=f"{match}{option} out"):
            audit(audited[0], tmp_path / "none", cohort=cohort, options=options.model_copy(update=asked))


def test_what_goes_along_with_the_probes_is_told_of_every_attribute(audited: tuple[Path, Path, Audit]) -> None:
    behaviour = audited[2].summary["behaviour"]
    links = {one["attribute"]: one for one in behaviour["links"]}
    assert list(links) == ["sex"]
    assert links["sex"]["given"] == ["lesion volume", "scanner"]
    assert links["sex"]["patients"] == PATIENTS
    assert links["sex"]["slope_low"] < links["sex"]["slope"] < links["sex"]["slope_high"]
    rows = [(row["attribute"], row["group"], row["patients"]) for row in behaviour["groups"]]
    assert rows == [("sex", "F", 22), ("sex", "M", 22)]
    # The erasure starts from the same Dice.
    (erased,) = audited[2].summary["erasure"]["results"]
    assert [row["before"] for row in erased["groups"]] == pytest.approx(
        [row["dice"] for row in behaviour["groups"]], abs=0.002
    )


def test_files_say_the_same_and_claim_no_more_than_was_shown(audited: tuple[Path, Path, Audit]) -> None:
    found = audited[2]
    names = {path.name for path in found.folder.iterdir()}
    assert names == {"embedding_audit.json", "embeddings.npz", "probes.csv", "probes.md", "energy.csv", "report.html"}
    summary = json.loads((found.folder / "embedding_audit.json").read_text())
    assert summary == found.summary
    assert summary["schema_version"] == 1
    table = pd.read_csv(found.folder / "probes.csv")
    own = table[(table["attribute"] == "sex") & (table["pooling"] == "mean")]
    assert own[own["probe_of"] == "trained network"]["score"].item() == pytest.approx(record(found, "sex")["score"])
    assert {"acquisition", "shuffled labels", "first 2 principal components"} <= set(own["probe_of"])
    page = (found.folder / "report.html").read_text()
    assert "sex information is linearly available in the features" in page
    assert "no visible separation is not evidence of absence" in page
    for word in ("biased", "unfair", "discriminat"):
        assert word not in page
    lines = (found.folder / "probes.md").read_text().splitlines()
    assert lines[0].startswith("| Attribute | Features | Patients | Score | q |")
    assert len(lines) == 2 + 3
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_the_same_command_gives_the_same_numbers(toy: tuple[Path, Path], tmp_path: Path) -> None:
    run, cohort = toy
    options = AuditOptions(permutations=19, draws=199, attributes=("age",), folds=(1,), overlap=0)
    first, second = (audit(run, tmp_path / name, cohort=cohort, options=options) for name in ("a", "b"))
    assert first.summary["probes"] == second.summary["probes"]
    age = record(first, "age")
    assert (age["kind"], age["score_name"], age["second_name"]) == ("number", "R2", "mean absolute error")
    assert first.summary["scatter"]["order"] == {"age": ["<50", ">=50"]}
    assert first.summary["erasure"] is None
    assert "Not done: whether the networks use" in (first.folder / "report.html").read_text()
    assert [one["fold"] for one in first.summary["run"]["networks"]] == [1]
    assert first.summary["left_out"]["trained_on"] == 10


def planted(source: AuditSource, attribute: str) -> AuditSpaces:
    """Vectors that tell one attribute along their first axis, another sign in each network."""
    rng = np.random.default_rng(0)
    spaces = {}
    for fold in source.folds:
        patients = source.patients(fold)
        vectors = 5 + rng.normal(size=(len(patients), 6))
        told = [source.groups[attribute][patient] == "old" for patient in patients]
        vectors[:, 0] += (4.0 if fold else -4.0) * np.array(told)
        spaces[fold] = PatientVectors(patients, vectors)
    everyone = tuple(dict.fromkeys(one.case.patient_id for one in source.cases))
    other = PatientVectors(everyone, rng.normal(size=(len(everyone), 2)))
    by_pooling = {"bottleneck": dict.fromkeys(("mean", "foreground", "mean_sd"), spaces)}
    return AuditSpaces(by_pooling, by_pooling, other, other)


def test_the_site_itself_is_not_shuffled_within_itself(toy: tuple[Path, Path]) -> None:
    options = AuditOptions(permutations=19, draws=199, attributes=("scanner",), site="scanner")
    source = held_out_source(RunFolder(toy[0]), toy[1], options)
    first = probe_records(source, planted(source, "scanner"), options).records[0]
    assert first["score"] > 0.95
    assert first["p"] == pytest.approx(1 / 20)
    assert first["other_sites"] is None
    # The untrained network has the very same vectors here.
    assert first["controls"][0]["difference"] == 0


def test_directions_are_taken_out_of_each_network_about_its_own_mean(toy: tuple[Path, Path]) -> None:
    options = AuditOptions(attributes=("scanner",), erasure=(1, 3), random_sets=2)
    source = held_out_source(RunFolder(toy[0]), toy[1], options)
    spaces = planted(source, "scanner")
    for fold, removals in removals_of(source, spaces, options).items():
        told = [(one.attribute, one.count, one.number) for one in removals]
        assert told == [("scanner", 1, 0), ("scanner", 3, 0), ("", 1, 0), ("", 3, 0), ("", 1, 1), ("", 3, 1)]
        assert abs(removals[0].directions[0, 0]) > 0.75
        np.testing.assert_array_equal(removals[1].directions[:1], removals[0].directions)
        assert not np.allclose(removals[2].directions, removals[4].directions)
        for one in removals:
            np.testing.assert_allclose(one.centre, spaces.trained["bottleneck"]["mean"][fold].vectors.mean(axis=0))


def test_what_cannot_be_audited_is_refused_in_one_line(audited: tuple[Path, Path, Audit], tmp_path: Path) -> None:
    run, cohort, found = audited
    out = tmp_path / "out"

    def refused(match: str, *, run: Path = run, cohort: Path | None = cohort, out: Path = out, **options) -> None:
        with pytest.raises(InputError, match=match):
            audit(run, out, cohort=cohort, options=AuditOptions(**FAST, **options))
        assert not (tmp_path / "out").exists()

    refused(
        r"--attribute race: expected an attribute of .*; choose among \['sex', 'scanner', 'age'\]", attributes=("race",)
    )
    refused(r"--site city: expected an attribute", site="city")
    refused(r"--shortcut clip: expected an attribute", shortcuts=("clip",))
    refused(r"--site age: expected a categorical attribute, got a continuous one", site="age")
    refused(r"--erase: expected numbers of directions from 1 to 3 for this network, got 4", erasure=(1, 4))
    refused(r"--folds: expected some of \[0, 1\], got \[2\]", folds=(2,))
    refused(r"expected a manifest that names the cohort, got none; name it with --cohort", cohort=None)
    few = write_cohort(tmp_path / "few", patients=19)
    refused(r"few: expected 20 held-out patients or more, got 19 for the network of fold 0, 19 for .*", cohort=few)
    same = write_cohort(tmp_path / "same", patients=24)
    table = pd.read_csv(same / "cohort.csv", dtype=str).assign(sex="F")
    table.to_csv(same / "cohort.csv", index=False)
    refused(
        "--shortcut sex: expected an attribute of two groups among the held-out patients, got F; give a flag",
        cohort=same,
        shortcuts=("sex",),
    )
    refused(
        r"expected an attribute that can be probed, got none \(sex: fewer than two", cohort=same, attributes=("sex",)
    )
    with pytest.raises(InputError, match="got an earlier audit; add --overwrite"):
        audit(run, found.folder, cohort=cohort)


def test_a_cohort_that_every_network_was_trained_on_and_a_run_without_weights_are_refused(
    make_run_at: MakeRun, tmp_path: Path
) -> None:
    cohort = write_cohort(tmp_path / "cohort", patients=24)
    run = make_run_at(tmp_path / "run", split={f"c{number:02d}": "1" for number in range(24)})
    with pytest.raises(InputError, match=r"expected patients whom a network of .* was not trained on, got none"):
        audit(run, tmp_path / "out", cohort=cohort)
    bare = make_run_at(tmp_path / "bare", folds=())
    with pytest.raises(InputError, match="expected a trained fold, got none"):
        audit(bare, tmp_path / "out", cohort=cohort)
    # Another scan of a patient who was trained on is no held-out scan.
    (run / "split.csv").write_text("case_id,patient_id,fold\nother,p00,1\n")
    (cohort / "cohort.csv").write_text("".join((cohort / "cohort.csv").read_text().splitlines(keepends=True)[:21]))
    with pytest.raises(InputError, match="expected 20 held-out patients or more, got 19"):
        audit(run, tmp_path / "out", cohort=cohort)


def test_a_scan_that_cannot_be_read_is_named_or_left_out_on_request(toy: tuple[Path, Path], tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "cohort")
    (cohort / "c03.nii.gz").write_bytes(b"no scan")
    name_classes(cohort, {"oedema": 1}, "oedema")
    options = AuditOptions(permutations=19, draws=199, attributes=("sex",), folds=(0,), overlap=0)
    with pytest.raises(InputError, match=r"case c03: .*; or add --allow-partial"):
        audit(toy[0], tmp_path / "out", cohort=cohort, options=options)
    assert not (tmp_path / "out").exists()
    found = audit(toy[0], tmp_path / "out", cohort=cohort, options=options, allow_partial=True)
    assert [one["case_id"] for one in found.summary["left_out"]["unreadable"]] == ["c03"]
    assert record(found, "sex")["patients"] == 33
    assert found.summary["behaviour"] is None
    assert "no scan has a reference for the classes that the run segments" in (tmp_path / "out/report.html").read_text()


def test_the_command_prints_what_is_available(toy: tuple[Path, Path], tmp_path: Path) -> None:
    run, cohort = toy
    words = ["audit", str(run), "--cohort", str(cohort), "-o", str(tmp_path / "out"), "--attribute", "sex"]
    words += ["--folds", "0", "--permutations", "19", "--draws", "199", "--overlap", "0"]
    more = ["--features", "bottleneck,last_decoder", "--shortcut", "sex", "--figures"]
    result = CliRunner().invoke(app, [*words, *more])
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "out/embedding_audit.json").read_text())
    layers = {"bottleneck": "network.encoder.stages.1", "last_decoder": "network.decoder.stages.0"}
    assert summary["run"]["layers"] == layers
    assert [(one["layer"], one["pooling"]) for one in summary["probes"]] == [
        (layer, pooling) for layer in layers for pooling in ("mean", "foreground", "mean_sd")
    ]
    assert [one["layer"] for one in summary["behaviour"]["links"]] == list(layers)
    assert [one["flag"] for one in summary["shortcuts"]["flags"]] == ["sex"]
    arrays = np.load(tmp_path / "out/embeddings.npz", allow_pickle=False)
    assert arrays["trained/last_decoder/fold_0/mean/vectors"].shape == (34, 4)
    figures = {path.name for path in (tmp_path / "out/figures").iterdir()}
    assert {"probe-sex-1.svg", "probe-sex-1.png", "components-sex-1.svg"} <= figures
    page = (tmp_path / "out/report.html").read_text()
    assert "its last decoder stage" in page
    assert "could not be checked" in page
    assert "35 scans" in result.output
    assert "Available does not mean used" in result.output
    assert CliRunner().invoke(app, [*words, "--overwrite", "--erasure", "--erase", "many"]).exit_code == 2
    unknown = CliRunner().invoke(app, [*words, "--overwrite", "--features", "last_decoder"])
    assert unknown.exit_code == 2
    assert "--features: expected 'bottleneck' first and each layer once" in unknown.stderr
    few = write_cohort(tmp_path / "few", patients=14)
    refused = CliRunner().invoke(app, ["audit", str(run), "--cohort", str(few), "-o", str(tmp_path / "none")])
    assert refused.exit_code == 2
    (line,) = (one for one in refused.stderr.splitlines() if one.startswith("equivox:"))
    assert "expected 20 held-out patients or more, got 14 for the network of fold 0, 14 for" in line
    assert not (tmp_path / "none").exists()
    alone = CliRunner().invoke(app, [*words, "--overwrite", "--erase", "2"])
    assert alone.exit_code == 2
    assert "--erase 2: expected --erasure beside it" in alone.stderr
    large = CliRunner().invoke(app, [*words, "--overwrite", "--seed", str(2**32)])
    assert large.exit_code == 2, large.output
    assert "--seed: expected a number less than 4294967296" in large.stderr
    assert CliRunner().invoke(app, words).exit_code == 2
