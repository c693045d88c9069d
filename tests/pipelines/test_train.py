"""Training as a whole, on six small cases."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from equivox import compiled_matching
from equivox.datasets.cohort import load_cohort
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.pipelines.run_folder import RunFolder, read_tensors
from equivox.pipelines.train import dry_run
from equivox.pipelines.train import train as train_with_workers
from equivox.pipelines.training import derived_labels
from equivox.pipelines.training.learner import Learner
from equivox.pipelines.training.lock import locked
from equivox.pipelines.training.logs import read_log
from equivox.pipelines.training.stop import TrainingStopped

train = partial(train_with_workers, workers=0)
QUICK = ("steps=6", "precision=float32", "validation.every_steps=3", "checkpoint.every_steps=2", "ema.decay=0.9")


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def weights(run: Path, fold: int = 0) -> dict[str, torch.Tensor]:
    return read_tensors(run / f"fold_{fold}" / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


def curve(run: Path) -> list[tuple[int, float | None, float | None]]:
    """The numbers of the log that do not depend on the clock."""
    return [
        (record["step"], record.get("loss"), record.get("validation_dice"))
        for record in read_log(run / "fold_0" / "metrics.jsonl")
    ]


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, what) -> None:
    original = Learner.step

    def stopping(self, number, batch):
        if number == step:
            what()
        return original(self, number, batch)

    monkeypatch.setattr(Learner, "step", stopping)


def test_a_run_folder_holds_all_that_is_needed_to_use_and_repeat_the_model(training_cohort, tmp_path) -> None:
    run = train(training_cohort, tmp_path / "run", overrides=QUICK)
    assert run.folds == (0,)
    assert run.config.steps == 6
    assert run.config.dims == "2d"
    assert run.config.optimizer.lr == 1e-3
    assert run.config.schedule.warmup_steps == 1
    network = run.network(0)
    assert len(network(torch.zeros(1, 1, 16, 16))) == 1
    averaged = read_tensors(run.path / "fold_0/checkpoint/step_000000006/ema.safetensors")
    assert all(torch.equal(averaged[name], tensor) for name, tensor in weights(run.path).items())
    last = read_tensors(run.path / "fold_0/checkpoint/step_000000006/network.safetensors")
    assert any(not torch.equal(last[name], tensor) for name, tensor in weights(run.path).items())
    fold = run.manifest["folds"]["0"]
    assert fold["training_cases"] == ["c1", "c3"]
    assert fold["validation_cases"] == ["c0", "c2", "c4"]
    assert fold["status"] == "complete"
    assert run.manifest["selection"] == "none"
    assert "c5" not in run.manifest["cases"]
    cohort = load_cohort(training_cohort)
    for case_id, entry in run.manifest["cases"].items():
        assert entry["images"] == {name: file_sha256(path) for name, path in cohort.case(case_id).images.items()}
    assert len(run.manifest["hashes"]["cohort.csv"]) == 64
    card = (run.path / "MODEL_CARD.md").read_text()
    assert "2 patients, 2 cases" in card
    assert "| sex | male | 2 |" in card
    assert "not for clinical use" in card
    assert [step for step, _, dice in curve(run.path) if dice is not None] == [3, 6]
    assert list((run.path / "fold_0" / "tensorboard").iterdir())
    assert not [path for path in run.path.rglob("*") if path.suffix in {".pt", ".pth", ".pkl"}]


# A checkpoint at step 3 comes right after a validation, one at step 4 does not.
@pytest.mark.parametrize(("every", "last"), [(2, 4), (3, 3)])
def test_a_run_killed_in_the_middle_and_resumed_equals_one_that_was_not(
    training_cohort, tmp_path, monkeypatch, every, last
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = (*QUICK, f"checkpoint.every_steps={every}", "model.options.dropout=0.3")
    train(training_cohort, whole, overrides=settings)

    def kill():
        raise Killed

    with monkeypatch.context() as patch:
        stop_at(patch, 5, kill)
        with pytest.raises(Killed):
            train(training_cohort, killed, overrides=settings)
    assert RunFolder(killed).folds == ()
    assert [path.name for path in (killed / "fold_0" / "checkpoint").iterdir()] == [f"step_00000000{last}"]
    train(training_cohort, killed, resume=True)
    assert_same_weights(whole, killed)
    assert curve(whole) == curve(killed)


def test_a_fold_that_takes_longer_than_its_share_of_the_time_says_so(
    training_cohort, tmp_path, monkeypatch, caplog
) -> None:
    # 2.4 s for two folds: 1.2 s each. Ten steps of 0.2 s take 2 s.
    monkeypatch.setattr("equivox.pipelines.train.fit_into", lambda config, *_: config.model_copy(update={"steps": 10}))
    original = Learner.step

    def slow(self, number, batch):
        time.sleep(0.2)
        return original(self, number, batch)

    monkeypatch.setattr(Learner, "step", slow)
    settings = ("precision=float32", "validation.every_steps=0", "augment=false")
    train(training_cohort, tmp_path / "run", max_minutes=0.04, fold="all", overrides=settings)
    warned = [line for line in caplog.messages if "this fold will take" in line]
    assert len(warned) == 2
    assert "0.0 were given" in warned[0]


def test_two_trainings_of_one_run_exclude_each_other(training_cohort, tmp_path) -> None:
    run = tmp_path / "run"
    train(training_cohort, run, overrides=QUICK)
    (run / "fold_0" / "model.safetensors").unlink()
    with locked(run), pytest.raises(InputError, match=r"run: expected a run that nobody works on, .* let it end"):
        train(training_cohort, run, resume=True)
    train(training_cohort, run, resume=True)
    assert RunFolder(run).folds == (0,)


def test_a_loss_that_is_not_finite_is_told_with_what_to_do(training_cohort, tmp_path) -> None:
    with pytest.raises(InputError, match=r"the loss or its gradient is not finite .*; lower optimizer\.lr"):
        train(training_cohort, tmp_path / "run", overrides=("steps=6", "precision=float32", "optimizer.lr=1e30"))


@pytest.mark.parametrize(
    "change",
    [
        {"progress": {"steps_done": "abc"}},
        {"progress": {"losses": None}},
        {"progress": {"steps_done": 50_000}},
        {"optimizer": []},
    ],
)
def test_a_checkpoint_whose_numbers_cannot_be_is_refused(training_cohort, tmp_path, change) -> None:
    run = tmp_path / "run"
    train(training_cohort, run, overrides=QUICK)
    (run / "fold_0" / "model.safetensors").unlink()
    (path,) = (run / "fold_0" / "checkpoint").glob("*/state.json")
    state = json.loads(path.read_text())
    for key, value in change.items():
        state[key] = {**state[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(state))
    (run / "fold_0" / "metrics.jsonl").write_text("5\n")
    with pytest.raises(InputError, match=r"step_000000006: expected a whole checkpoint of this run, got "):
        train(training_cohort, run, resume=True)


def test_a_process_that_is_killed_leaves_a_state_to_resume_from(training_cohort, tmp_path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps = ("steps=40", "precision=float32", "validation.every_steps=0", "checkpoint.every_steps=1", "augment=false")
    train(training_cohort, whole, overrides=steps)
    script = (
        "from pathlib import Path\nfrom equivox.pipelines.train import train\n"
        f"train(Path({str(training_cohort)!r}), Path({str(killed)!r}), overrides={steps!r}, workers=0)"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    checkpoints = killed / "fold_0" / "checkpoint"
    while process.poll() is None and not list(checkpoints.glob("step_*")):
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "fold_0" / "model.safetensors").exists()
    train(training_cohort, killed, resume=True)
    assert_same_weights(whole, killed)
    assert [line[:2] for line in curve(whole)] == [line[:2] for line in curve(killed)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_state_and_says_how_to_go_on(training_cohort, tmp_path, monkeypatch, number) -> None:
    before = signal.getsignal(number)
    stop_at(monkeypatch, 2, lambda: os.kill(os.getpid(), number))
    with pytest.raises(
        TrainingStopped, match=r"stopped after step 3 of 6; the state is saved, go on with --resume"
    ) as e:
        train(training_cohort, tmp_path / "run", overrides=QUICK)
    assert e.value.signal_number == number
    assert signal.getsignal(number) == before
    assert [path.name for path in (tmp_path / "run/fold_0/checkpoint").iterdir()] == ["step_000000003"]


def test_a_folder_with_files_is_not_written_into_without_resume(training_cohort, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(
        InputError, match=r"run: expected a new or empty folder, got one with files; go on with --resume"
    ):
        train(training_cohort, tmp_path / "run", overrides=QUICK)
    with pytest.raises(InputError, match=r"run: expected a run to resume, got a folder without manifest.json"):
        train(training_cohort, tmp_path / "run", resume=True)


def test_a_run_that_was_killed_before_it_began_is_begun_anew(training_cohort, tmp_path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "plan.yaml").write_text("cohort: cut sh")
    run = train(training_cohort, out, resume=True, overrides=("steps=1", "precision=float32"))
    assert run.folds == (0,)
    run.require_unchanged()


def test_resuming_with_other_settings_names_the_key(training_cohort, tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level("INFO")
    out = tmp_path / "run"
    train(training_cohort, out, overrides=QUICK)
    with pytest.raises(InputError, match=r"cannot resume with another optimizer.lr \(the run has optimizer.lr=0.001\)"):
        train(training_cohort, out, resume=True, overrides=("optimizer.lr=1e-2",))
    with pytest.raises(InputError, match=r"cannot resume with another .*model.name"):
        train(training_cohort, out, resume=True, model="plain_unet")
    with pytest.raises(InputError, match=r"cannot resume with another dims"):
        train(training_cohort, out, resume=True, dims="3d")
    # The same command again is no drift, and a complete run says so, even if it was killed before it could note that.
    manifest = json.loads((out / "manifest.json").read_text())
    whole = dict(manifest["folds"]["0"])
    for noted_last in ("finished", "steps", "seconds", "validation_dice", "weights_sha256"):
        del manifest["folds"]["0"][noted_last]
    manifest["folds"]["0"]["status"] = "running"
    (out / "manifest.json").write_text(json.dumps(manifest))
    train(training_cohort, out, resume=True, model="unetpp", overrides=QUICK)
    assert "Fold 0 is complete already (6 steps); nothing to do." in caplog.text
    noted = json.loads((out / "manifest.json").read_text())["folds"]["0"]
    assert (noted["status"], noted["steps"]) == ("complete", 6)
    assert noted["weights_sha256"] == whole["weights_sha256"]
    plan = training_cohort / "plan.yaml"
    text = plan.read_text()
    plan.write_text(text.replace("batch_size: 4", "batch_size: 3"))
    with pytest.raises(InputError, match=r"plan.yaml: cannot resume, as networks.2d.batch_size changed"):
        train(training_cohort, out, resume=True)
    plan.write_text(text)
    split = training_cohort / "split.csv"
    split.write_text(split.read_text().replace("c4,p4,0", "c4,p4,1"))
    with pytest.raises(InputError, match=r"split.csv: cannot resume, as the fold of 'c4' changed"):
        train(training_cohort, out, resume=True)


def test_resuming_on_changed_data_names_the_case(training_cohort, tmp_path) -> None:
    out = tmp_path / "run"
    train(training_cohort, out, overrides=QUICK)
    (training_cohort / "image1.nii.gz").write_bytes((training_cohort / "image5.nii.gz").read_bytes())
    with pytest.raises(InputError, match=r"cannot resume, as the data of case 'c1' changed"):
        train(training_cohort, out, resume=True)


def test_resuming_a_damaged_run_names_the_file(training_cohort, tmp_path) -> None:
    out = tmp_path / "run"
    train(training_cohort, out, overrides=QUICK)
    config = out / "config.yaml"
    whole = config.read_text()
    config.write_text(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"config.yaml: expected the file as the training wrote it"):
        train(training_cohort, out, resume=True)


def test_an_output_below_a_file_is_refused_before_any_work(training_cohort) -> None:
    out = training_cohort / "cohort.csv" / "run"
    with pytest.raises(InputError, match=r"run: expected a folder to write to, got the file .*cohort.csv on the way"):
        train(training_cohort, out, overrides=QUICK)
    assert not (training_cohort / "store").exists()


def test_every_fold_is_trained_on_the_others(training_cohort, tmp_path) -> None:
    run = train(training_cohort, tmp_path / "run", fold="all", overrides=("steps=1", "precision=float32"))
    assert run.folds == (0, 1)
    manifest = RunFolder(run.path).manifest["folds"]
    assert manifest["1"]["training_cases"] == ["c0", "c2", "c4"]
    assert manifest["1"]["validation_cases"] == ["c1", "c3"]
    assert any(not torch.equal(weights(run.path, 0)[key], weights(run.path, 1)[key]) for key in weights(run.path))


def test_another_fold_can_be_added_to_a_run(training_cohort, tmp_path) -> None:
    out = tmp_path / "run"
    train(training_cohort, out, overrides=("steps=1", "precision=float32"))
    assert train(training_cohort, out, resume=True, fold="1").folds == (0, 1)


def test_a_3d_network_of_another_kind_trains_too(training_cohort, tmp_path) -> None:
    run = train(
        training_cohort,
        tmp_path / "run",
        model="plain_unet",
        dims="3d",
        overrides=(*QUICK, "optimizer.name=sgd", "schedule.name=cosine", "gradient_clip=null", "ema.decay=0"),
    )
    assert run.config.optimizer.lr == 1e-2
    assert run.network(0)(torch.zeros(1, 1, 16, 16, 4))[0].shape == (1, 2, 16, 16, 4)


def test_tubes_round_centrelines_are_made_once_and_reach_the_loss(training_cohort, tmp_path, monkeypatch) -> None:
    overrides = (*QUICK, "steps=2", "loss=[dice_ce, {name: skeleton_recall, weight: 0.5}]")
    run = train(training_cohort, tmp_path / "run", dims="3d", overrides=overrides)
    lines = [line["loss_terms"] for line in read_log(run.path / "fold_0" / "metrics.jsonl") if "loss_terms" in line]
    assert lines
    assert all(0 < line["skeleton_recall"] < 1 for line in lines)
    # Two training and three validation cases, each with an entry of its own for its tubes.
    entries = [path for path in (training_cohort / "store").iterdir() if (path / "tubes.b2nd").is_file()]
    assert len(entries) == 5
    monkeypatch.setattr(derived_labels, "map_cases", lambda *_, **__: pytest.fail("made again"))
    train(training_cohort, tmp_path / "again", dims="3d", overrides=(*overrides, "steps=1"))


def test_projections_are_made_once_and_reach_the_loss(training_cohort, tmp_path, monkeypatch) -> None:
    term = "loss=[dice_ce, {name: mip, weight: 0.5, target: full}]"
    overrides = (*QUICK, term, "augmentation.affine_probability=0")
    run = train(training_cohort, tmp_path / "run", dims="3d", overrides=overrides)
    lines = [line["loss_terms"] for line in read_log(run.path / "fold_0" / "metrics.jsonl") if "loss_terms" in line]
    assert lines
    assert all(0 < line["mip"] < 1 for line in lines)
    assert len([path for path in (training_cohort / "store").iterdir() if (path / "projection_2.b2nd").is_file()]) == 5
    monkeypatch.setattr(derived_labels, "map_cases", lambda *_, **__: pytest.fail("made again"))
    train(training_cohort, tmp_path / "again", dims="3d", overrides=(*overrides, "steps=1"))


def test_a_loss_whose_extra_is_missing_is_told_before_anything_is_made(training_cohort, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(compiled_matching.importlib.util, "find_spec", lambda _: None)
    compiled_matching.compiled_matching.cache_clear()
    with pytest.raises(InputError, match=r"^Betti matching: .*; pip install 'equivox\[topology\]'$"):
        train(training_cohort, tmp_path / "run", overrides=(*QUICK, "loss=[dice_ce, betti_matching]"))
    assert not (tmp_path / "run").exists()
    assert not (training_cohort / "store").exists()
    monkeypatch.undo()
    compiled_matching.compiled_matching.cache_clear()


def test_without_a_split_the_command_that_makes_one_is_named(training_cohort, tmp_path) -> None:
    (training_cohort / "split.csv").unlink()
    with pytest.raises(InputError, match=r"split.csv: .* 'equivox cohort split"):
        train(training_cohort, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fold": "7"}, r"--fold: expected one of 0, 1 or all, got '7'; choose one of them"),
        ({"max_minutes": float("inf")}, r"--max-minutes: expected a number of minutes above 0, got inf; write"),
        ({"max_minutes": float("nan")}, r"--max-minutes: expected a number of minutes above 0, got nan; write"),
        ({"model": "vnet"}, r"expected one of unetpp, plain_unet, got 'vnet'"),
        ({"overrides": ("optimiser.lr=1",)}, r"unknown section 'optimiser'; did you mean 'optimizer'"),
        ({"overrides": ("steps=5",), "max_minutes": 1.0}, r"--max-minutes fixes the number of steps"),
        ({"overrides": ("device=cuda",)}, r"expected a graphics card, got a machine without one"),
    ],
)
def test_mistakes_are_told_in_one_line_and_nothing_is_written(training_cohort, tmp_path, arguments, message) -> None:
    if torch.cuda.is_available() and "device=cuda" in arguments.get("overrides", ()):
        pytest.skip("this machine has a graphics card")
    with pytest.raises(InputError, match=message):
        train(training_cohort, tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_minutes_fix_the_number_of_steps_in_the_config(training_cohort, tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    run = train(training_cohort, tmp_path / "run", max_minutes=0.05, overrides=("precision=float32",))
    assert run.config.steps >= 10
    assert len({record["step"] for record in read_log(run.path / "fold_0/metrics.jsonl")}) >= 10
    assert f"{run.config.steps} steps a fold in 0.05 minutes" in caplog.text
    # With that number it can be repeated anywhere.
    again = train(training_cohort, tmp_path / "again", overrides=(f"steps={run.config.steps}", "precision=float32"))
    assert_same_weights(run.path, again.path)


def test_precision_is_decided_by_timing_both(training_cohort, tmp_path, monkeypatch, caplog) -> None:
    from equivox.pipelines import train as module

    monkeypatch.setattr(module, "probe_precision", lambda *_: {"float32": 2.0, "bfloat16": 1.0})
    caplog.set_level("INFO")
    run = train(training_cohort, tmp_path / "run", overrides=("steps=2", "validation.every_steps=0"))
    assert run.config.precision == "bfloat16"
    assert run.manifest["precision_probe_seconds"] == {"float32": 2.0, "bfloat16": 1.0}
    assert "2.00 s in float32 and 1.00 s with bfloat16" in caplog.text


def test_two_processes_give_the_result_of_one(training_cohort, tmp_path) -> None:
    settings = ("steps=3", "precision=float32", "optimizer.name=sgd", "ema.decay=0", "batch_size=3")
    one = train(training_cohort, tmp_path / "one", overrides=settings).path
    script = tmp_path / "both.py"
    script.write_text(
        "from pathlib import Path\nfrom equivox.pipelines.train import train\n"
        f"train(Path({str(training_cohort)!r}), Path({str(tmp_path / 'two')!r}), overrides={settings!r}, workers=0)\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(torchrun, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = weights(one), weights(tmp_path / "two")
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-4, atol=1e-6)
    assert RunFolder(tmp_path / "two").manifest["machine"]["processes"] == 2
    for alone, together in zip(curve(one), curve(tmp_path / "two"), strict=True):
        assert together == pytest.approx(alone, abs=1e-4)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(training_cohort) -> None:
    before = sorted(path.name for path in training_cohort.iterdir())
    found = dry_run(training_cohort, overrides=("steps=8",))
    assert found["folds"] == {"0": {"training": 2, "validation": 3, "test": 1}}
    assert found["config"]["dims"] == "2d"
    assert found["config"]["validation"]["every_steps"] == 1
    assert sorted(path.name for path in training_cohort.iterdir()) == before
    json.dumps(found)


def test_a_signal_within_a_validation_is_heeded_and_the_validation_made_up_for(
    training_cohort, tmp_path, monkeypatch
) -> None:
    from equivox.pipelines.training import validation

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(training_cohort, whole, overrides=QUICK)
    original = validation.sliding_window_logits

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "sliding_window_logits", interrupted)
        with pytest.raises(TrainingStopped, match="stopped after step 3 of 6"):
            train(training_cohort, stopped, overrides=QUICK)
    assert not any(dice is not None for _, _, dice in curve(stopped))
    train(training_cohort, stopped, resume=True)
    assert curve(stopped) == curve(whole)
    assert_same_weights(whole, stopped)


def test_two_runs_into_one_folder_do_not_mix(training_cohort, tmp_path, monkeypatch) -> None:
    from equivox.pipelines import train as module

    out, original = tmp_path / "run", module.resolve_steps

    def slowly(*arguments):
        out.mkdir(exist_ok=True)
        (out / "manifest.json").write_text("{}")
        return original(*arguments)

    monkeypatch.setattr(module, "resolve_steps", slowly)
    with pytest.raises(InputError, match="another process wrote to meanwhile"):
        train(training_cohort, out, overrides=QUICK)


def test_a_signal_that_ends_the_data_workers_too_stops_without_saving(training_cohort, tmp_path, monkeypatch) -> None:
    def ended():
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

    stop_at(monkeypatch, 3, ended)
    with pytest.raises(TrainingStopped, match=r"stopped in step 4 of 6 together with its data workers; go on from the"):
        train(training_cohort, tmp_path / "run", overrides=QUICK)
    assert [path.name for path in (tmp_path / "run/fold_0/checkpoint").iterdir()] == ["step_000000002"]
