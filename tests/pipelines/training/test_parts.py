"""The parts of training, one by one."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._utils import ExceptionWrapper

from equivox.datasets.plan import NetworkPlan
from equivox.datasets.transforms import AugmentationOptions
from equivox.errors import InputError
from equivox.pipelines.preprocess import preprocess
from equivox.pipelines.training.batches import Batch, PatchRecipe, batches
from equivox.pipelines.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from equivox.pipelines.training.derived_labels import prepare_projections, prepare_tubes
from equivox.pipelines.training.ema import Ema
from equivox.pipelines.training.learner import Learner, build_optimizer
from equivox.pipelines.training.logs import RunLog, read_log
from equivox.pipelines.training.objective import CaseFacts
from equivox.pipelines.training.resolve import ask, drifted_keys, resolve_steps, updated
from equivox.pipelines.training.schedule import learning_rate
from equivox.pipelines.training.timing import Timings, fit_into, probe_precision, typical_step
from equivox.pipelines.training.validation import ValidationCase, mean_dice, prepared_dice
from equivox.pipelines.training.world import World, join_world
from equivox.pipelines.training_config import LossTerm, TrainingConfig

FLAT = NetworkPlan(
    dimensions=2, patch_size=(16, 16), batch_size=4, features=(4, 6), strides=((1, 1), (2, 2)), memory_mib=10
)


class _TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, 2, 3, padding=1)
        self.coarse = nn.Conv2d(1, 2, 1)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, image):
        return self.fine(image), self.coarse(image)


def config(**values: object) -> TrainingConfig:
    optimizer = {"lr": 1e-2, "weight_decay": 1e-2}
    base = updated(TrainingConfig(batch_size=4, precision="float32", steps=10), {"optimizer": optimizer})
    return updated(base, values)


def batch(samples: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(samples)
    image = torch.randn(samples, 1, 8, 6, generator=generator)
    return Batch(image, (image[:, 0] > 0.5).long(), torch.arange(samples))


def learner(**values: object) -> Learner:
    torch.manual_seed(5)
    return Learner(_TwoHeads(), config(**values), World())


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_the_learning_rate_rises_then_falls_to_almost_nothing(schedule) -> None:
    rates = [learning_rate(s, steps=100, peak=1.0, warmup_steps=10, schedule=schedule) for s in range(100)]
    assert max(rates) == rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.03


def test_poly_by_hand() -> None:
    # Half way: 0.5 ** 0.9
    assert learning_rate(5, steps=10, peak=2.0, warmup_steps=0, schedule="poly") == pytest.approx(2 * 0.5**0.9)


def test_the_running_mean_by_hand() -> None:
    network = _TwoHeads()
    with torch.no_grad():
        network.fine.bias.fill_(0.0)
    ema = Ema(network, decay=0.5)
    with torch.no_grad():
        network.fine.bias.fill_(1.0)
        network.count.fill_(7)
    # Step 0: decay 1/10, so 0.9 of the new; step 17: 18/27 would be more than 0.5, so 0.95.
    ema.update(network, 0)
    torch.testing.assert_close(ema.network.fine.bias, torch.full((2,), 0.9))
    ema.update(network, 17)
    torch.testing.assert_close(ema.network.fine.bias, torch.full((2,), 0.95))
    assert ema.network.count == 7
    assert not ema.network.training


def test_decay_zero_keeps_the_last_weights() -> None:
    network = _TwoHeads()
    ema = Ema(network, decay=0.0)
    with torch.no_grad():
        network.fine.weight.normal_()
    ema.update(network, 0)
    assert torch.equal(ema.network.fine.weight, network.fine.weight)


def test_weight_decay_spares_biases() -> None:
    optimizer = build_optimizer(_TwoHeads(), config().optimizer)
    decays = {
        parameter.ndim > 1: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]
    }
    assert decays == {True: 1e-2, False: 0.0}


def test_shares_of_a_batch_add_up_to_the_whole_gradient() -> None:
    class Half(World):
        """Two processes, as one sees itself; the other's part is not added."""

        def wrap(self, network):
            return network

        def sum(self, value):
            return value

    whole, part = batch(3), batch(3)
    parts = [Batch(part.image[rows], part.label[rows], part.case_index[rows]) for rows in (slice(0, 3, 2), slice(1, 2))]
    gradients, losses = [], []
    for rank, share in enumerate([whole, *parts]):
        torch.manual_seed(5)
        world = Half(rank=0, size=1 if rank == 0 else 2)
        each = (LossTerm.model_validate({"dice_over": "sample"}),)  # one of all would add up sums of both processes
        one = Learner(_TwoHeads(), config(batch_size=3, gradient_clip=None, loss=each), world)
        losses.append(one.step(0, share).loss)
        gradients.append(one.network.fine.weight.grad)
    # DDP averages the gradients of the two processes.
    torch.testing.assert_close((gradients[1] + gradients[2]) / 2, gradients[0])
    assert losses[1] + losses[2] == pytest.approx(losses[0])


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    bad = batch()
    bad.image[0, 0, 0, 0] = float("nan")
    with pytest.raises(
        FloatingPointError, match=r"step 3: the loss or its gradient is not finite .*; lower optimizer.lr"
    ):
        learner().step(3, bad)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_checkpoint_brings_everything_back(tmp_path, name) -> None:
    first = learner(optimizer={"name": name})
    for step in range(3):
        first.step(step, batch(step + 1))
    save_checkpoint(tmp_path, first, Progress(3, [0.1, 1 / 3], 12.5))
    second = learner(optimizer={"name": name})
    assert load_checkpoint(tmp_path, second) == Progress(3, [0.1, 1 / 3], 12.5)
    for one in (first, second):
        one.step(3, batch(4))
    for mine, theirs in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(first.ema.network.parameters(), second.ema.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_only_the_newest_checkpoint_is_kept_and_a_half_written_one_is_passed_over(tmp_path) -> None:
    one = learner()
    save_checkpoint(tmp_path, one, Progress(2))
    (tmp_path / ".partial-step_000000009-x").mkdir()
    assert load_checkpoint(tmp_path, learner()) == Progress(2)
    save_checkpoint(tmp_path, one, Progress(4))
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000004"]


def test_a_failed_save_leaves_the_older_checkpoint(tmp_path, monkeypatch) -> None:
    from equivox.pipelines.training import checkpoint

    one = learner()
    save_checkpoint(tmp_path, one, Progress(2))

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "_optimizer_state", full)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, one, Progress(4))
    assert load_checkpoint(tmp_path, learner()) == Progress(2)


@pytest.mark.parametrize("name", ["ema.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b""), Path.unlink])
def test_a_damaged_checkpoint_is_named_with_one_remedy(tmp_path, name, damage) -> None:
    save_checkpoint(tmp_path, learner(), Progress(2))
    damage(tmp_path / "step_000000002" / name)
    with pytest.raises(InputError, match=r"step_000000002: expected a whole checkpoint of this run, [^;]*; remove it"):
        load_checkpoint(tmp_path, learner())


def test_no_checkpoint_is_no_progress(tmp_path) -> None:
    assert load_checkpoint(tmp_path, learner()) is None


def test_the_log_drops_what_will_be_done_again(tmp_path) -> None:
    log = RunLog(tmp_path, steps_done=0, writes=True)
    for step in (1, 2, 3):
        log.write(step, {"loss": step / 3, "by_class": {"a": None}})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    RunLog(tmp_path, steps_done=2, writes=True).close()
    assert [record["step"] for record in read_log(tmp_path / "metrics.jsonl")] == [1, 2]
    assert read_log(tmp_path / "metrics.jsonl")[0] == {"step": 1, "loss": 1 / 3, "by_class": {"a": None}}


def test_a_process_that_does_not_lead_writes_nothing(tmp_path) -> None:
    log = RunLog(tmp_path / "fold_0", steps_done=0, writes=False)
    log.write(1, {"loss": 1.0})
    log.close()
    assert not (tmp_path / "fold_0").exists()


def test_dice_of_classes_that_neither_mask_has_is_left_out() -> None:
    reference = np.zeros((2, 3, 1), dtype=np.uint8)
    assert prepared_dice(reference, reference.astype(np.int64), 3) == {}
    reference[0, 0, 0] = 2
    assert prepared_dice(reference, np.zeros((2, 3, 1), dtype=np.int64), 3) == {2: 0.0}


def test_mean_dice_is_the_mean_of_the_cases_means() -> None:
    cases = [ValidationCase("a", {1: 1.0, 2: 0.5}), ValidationCase("b", {1: 0.25}), ValidationCase("c", {})]
    assert mean_dice(cases) == 0.5
    assert mean_dice(cases[2:]) is None


def recipe_of(cohort) -> PatchRecipe:
    keys = preprocess(cohort, workers=1)
    return PatchRecipe(
        store=cohort / "store",
        keys=(keys["c0"], keys["c1"]),
        network=FLAT,
        seed=3,
        foreground_share=0.5,
        augmentation=AugmentationOptions(),
        mirror_axes=(0, 1),
        indices=(0, 1, 2),
    )


def test_batches_do_not_depend_on_workers_or_on_where_one_starts(training_cohort) -> None:
    recipe = recipe_of(training_cohort)
    here = list(batches(recipe, range(5), workers=0))
    there = list(batches(recipe, range(2, 5), workers=2))
    for mine, theirs in zip(here[2:], there, strict=True):
        assert torch.equal(mine.image, theirs.image)
        assert torch.equal(mine.label, theirs.label)
        assert torch.equal(mine.case_index, theirs.case_index)
    assert not torch.equal(here[0].image, here[1].image)


def test_batches_have_tubes_where_a_loss_needs_them(training_cohort) -> None:
    recipe = replace(recipe_of(training_cohort), skeletons=True)
    prepare_tubes(recipe.store, recipe.keys, recipe.slice_axis, workers=1)
    found = next(batches(recipe, range(1), workers=0))
    plain = next(batches(replace(recipe, skeletons=False), range(1), workers=0))
    assert plain.skeleton is None
    assert torch.equal(found.label, plain.label)
    assert found.skeleton is not None
    assert 0 < int(found.skeleton.count_nonzero()) < int(found.label.count_nonzero())
    few = found.first(2).to(torch.device("cpu"))
    assert torch.equal(few.skeleton, found.skeleton[:2])
    assert plain.first(1).skeleton is None


def test_batches_have_projections_where_a_loss_needs_them(training_cohort) -> None:
    recipe = replace(recipe_of(training_cohort), augmentation=AugmentationOptions(affine_probability=0.0))
    wanted = replace(recipe, projections=True, classes=2)
    prepare_projections(recipe.store, recipe.keys, workers=1)
    found, plain = (next(batches(each, range(1), workers=0)) for each in (wanted, recipe))
    assert plain.projections == plain.first(1).projections == ()
    # Handing projections over changes nothing else.
    assert torch.equal(found.image, plain.image)
    assert [tuple(one.shape) for one in found.projections] == [(3, 2, 16), (3, 2, 16)]
    for axis, one in enumerate(found.projections):
        ball = (found.label == 1).any(1 + axis)
        # The slice is larger than the patch: what the patch shows is in it, and there is more.
        assert bool(one[:, 1][ball].all())
    few = found.first(2).to(torch.device("cpu"))
    assert all(torch.equal(one, other[:2]) for one, other in zip(few.projections, found.projections, strict=True))


def test_the_loss_is_given_the_projections_at_every_head() -> None:
    term = LossTerm.model_validate({"name": "mip", "target": "full"})
    whole = batch()
    seen = [torch.stack([(whole.label == index).any(1 + axis) for index in range(2)], dim=1) for axis in range(2)]
    right = learner(loss=(term,), augment=False).step(0, replace(whole, projections=tuple(seen)))
    other = learner(loss=(term,), augment=False).step(0, replace(whole, projections=tuple(~one for one in seen)))
    assert abs(right.loss - other.loss) > 0.01
    assert config(loss=(term, LossTerm(name="mip")), augment=False).needs == {"projections"}
    assert config(loss=(LossTerm(name="mip"),)).needs == set()


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ((), "'affine_probability' of the augmentation moves structures; give augmentation.affine_probability=0, or"),
        (
            (
                "augmentation.affine_probability=0",
                "augmentation.extra_transforms=[{name: RandZoomd, arguments: {keys: [image, label]}}]",
            ),
            "'RandZoomd' of the augmentation moves structures; leave it out of augmentation.extra_transforms, or "
            "'target: patch' to the loss",
        ),
    ],
)
def test_what_a_projection_of_the_whole_cannot_follow_is_refused_by_name(assignments, message) -> None:
    asked = ("loss=[dice_ce, {name: mip, target: full}]", *assignments)
    with pytest.raises(InputError, match=re.escape(message)):
        ask(TrainingConfig(), model=None, dims=None, max_minutes=None, overrides=asked)
    # Without augmentation nothing moves.
    ask(TrainingConfig(), model=None, dims=None, max_minutes=None, overrides=(*asked, "augment=false"))


def test_the_loss_is_given_the_tubes() -> None:
    whole = batch()
    one = learner(loss=(LossTerm(name="skeleton_recall"),)).step(0, replace(whole, skeleton=whole.label))
    none = learner(loss=(LossTerm(name="skeleton_recall"),)).step(0, replace(whole, skeleton=0 * whole.label))
    assert one.loss > 0.1
    assert none.loss == 0
    assert config(loss=(LossTerm(), LossTerm(name="skeleton_recall"))).needs == {"skeleton"}


def test_the_fault_of_a_worker_comes_with_its_own_traceback(training_cohort) -> None:
    # Patches of the wrong number of sides are our fault: the traceback must show where it happened.
    recipe = recipe_of(training_cohort)
    broken = replace(recipe, network=recipe.network.model_copy(update={"dimensions": 3}))
    with pytest.raises(Exception, match=r"worker process 0(.|\n)*in __getitem__(.|\n)*patches.py"):
        list(batches(broken, range(2), workers=1))


def test_a_case_that_a_worker_cannot_read_is_told_in_one_line(training_cohort, monkeypatch) -> None:
    from equivox.pipelines.training import batches as module

    class Loader(module.DataLoader):
        """Raises what torch makes of a worker's exception, without the time of starting one."""

        def __iter__(self):
            try:
                self.dataset[0]
            except InputError:
                ExceptionWrapper(where="in DataLoader worker process 0").reraise()

    monkeypatch.setattr(module, "DataLoader", Loader)
    recipe = replace(recipe_of(training_cohort), keys=("0" * 32,))
    with pytest.raises(InputError, match=r"^[^\n]*no such prepared case; run 'equivox preprocess' first$"):
        list(batches(recipe, range(2), workers=1))


def timings(**values: float) -> Timings:
    return replace(Timings(step=1.0, start=0.0, window=0.1, save=0.0), **values)


def test_steps_fill_the_time() -> None:
    # 576 s of 600 s are used; five cases of one window each take 0.5 s a validation, ten validations 5 s.
    fitted = fit_into(config(steps=None, max_minutes=10.0), timings(), 600.0, FLAT, [(16, 16, 1)] * 5)
    assert fitted.steps == 571
    assert fitted.validation.cases == 5
    assert fitted.validation.every_steps == 58


def test_validation_shrinks_until_it_is_a_tenth_of_the_time() -> None:
    # 57.6 s for validation, and a case takes 10 s: three passes fit with one case.
    fitted = fit_into(config(steps=None), timings(window=10.0), 600.0, FLAT, [(16, 16, 1)] * 5)
    assert fitted.validation.cases == 1
    assert fitted.steps == 576 - 50
    none = fit_into(config(steps=None), timings(window=100.0), 600.0, FLAT, [(16, 16, 1)] * 5)
    assert none.validation.every_steps == 0


def test_a_time_that_cannot_be_held_is_said(caplog) -> None:
    fitted = fit_into(config(steps=None), timings(step=100.0), 60.0, FLAT, [(16, 16, 1)])
    assert fitted.steps == 10
    assert "--max-minutes cannot be held: a step takes 100.0 s" in caplog.text


def test_the_probe_changes_nothing_and_times_both() -> None:
    network = _TwoHeads()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    seconds = probe_precision(network, config(precision="auto"), batch(), CaseFacts())
    assert seconds.keys() == {"float32", "bfloat16"}
    assert all(value > 0 for value in seconds.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_what_is_counted_in_steps_follows_from_them() -> None:
    resolved = resolve_steps(TrainingConfig(steps=100), validation_cases=3)
    assert resolved.schedule.warmup_steps == 5
    assert resolved.validation.every_steps == 10
    assert resolved.validation.cases == 3
    assert resolve_steps(TrainingConfig(), 20).steps == 1000


def test_another_network_starts_from_its_own_options() -> None:
    empty: dict[str, None] = {"model": None, "dims": None, "max_minutes": None}
    asked = ask(
        TrainingConfig(), **empty, overrides=("model.name=plain_unet", "model.options.convolutions_per_stage=1")
    )
    assert asked.model.options == {"convolutions_per_stage": 1, "kernel_sizes": None, "deep_supervision": True}
    with pytest.raises(InputError, match=r"unknown option; did you mean 'upsample'"):
        ask(TrainingConfig(), **empty, overrides=("model.options.upsampel=deconv",))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("loss.dice_ce.smooth=-1", r"'smooth': expected a number greater than 0, got -1; change it"),
        ("augmentation.gamma_probability=2", r"expected a number less than or equal to 1, got 2; change it"),
        (
            "augmentation.scale=[1.4, 0.7]",
            r"scale: expected a smallest value above 0 and a largest one, got \[1.4, 0.7\]",
        ),
        ("augmentation.gamma=[0, 1]", r"gamma: expected a smallest value above 0 .*, got \[0, 1\]; change it"),
        ("optimizer.lr=.inf", r"expected a finite number, got inf; change it"),
    ],
)
def test_options_that_no_training_can_use_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^--set {re.escape(assignment)}: .*{message}"):
        ask(TrainingConfig(), model=None, dims=None, max_minutes=None, overrides=("seed=3", assignment))


def test_drift_is_what_is_neither_as_asked_nor_as_decided() -> None:
    first, decided = TrainingConfig(steps=None, seed=1), TrainingConfig(steps=500, seed=1)
    assert drifted_keys(TrainingConfig(steps=None, seed=1), first, decided) == []
    assert drifted_keys(TrainingConfig(steps=500, seed=1), first, decided) == []
    assert drifted_keys(TrainingConfig(steps=400, seed=2), first, decided) == ["seed", "steps"]


def test_processes_share_by_index() -> None:
    assert [list(World(rank, 3).share(5)) for rank in range(3)] == [[0, 3], [1, 4], [2]]


def test_a_half_set_up_torchrun_is_told(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="start several processes with torchrun"):
        join_world("cpu")


def test_the_config_is_plain_data() -> None:
    values = json.loads(TrainingConfig().model_dump_json())
    assert TrainingConfig.model_validate(values) == TrainingConfig()
    assert values["loss"][0]["smooth"] == 1e-5


@pytest.mark.parametrize(
    "written",
    ["dice_ce", {"name": "dice_ce"}, {"name": "dice_ce", "options": {"smooth": 1e-5}}, [{"smooth": 1e-5}], ["dice_ce"]],
)
def test_one_loss_may_be_written_shortly(written) -> None:
    assert TrainingConfig.model_validate({"loss": written}) == TrainingConfig()


def test_terms_of_a_loss_are_written_out_and_read_back() -> None:
    two = [{"name": "dice_ce", "weight": 0.5}, {"name": "dice_ce", "dice_over": "sample", "start_after": 0.2}]
    config = TrainingConfig.model_validate({"loss": two})
    values = json.loads(config.model_dump_json())
    assert values["loss"][1]["dice_over"] == "sample"
    assert values["loss"][0]["weight"] == 0.5
    assert TrainingConfig.model_validate(values) == config
    assert config.loss_labels == ("dice_ce_1", "dice_ce_2")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("loss=[]", "at least 1 item"),
        ("loss=[{name: dice}]", "loss: expected one of dice_ce"),
        ("loss=[{name: dice_ce, wieght: 2}]", "loss dice_ce: unknown key 'wieght'; did you mean 'weight'?"),
        ("loss.mip.weight=2", "expected one of dice_ce, or a place from 0, got 'mip' (none); name one"),
        ("loss.dice_ce.weight=0", "expected a number greater than 0, got 0"),
        ("loss.dice_ce.start_after=1", "expected a number less than 1, got 1"),
    ],
)
def test_losses_that_there_are_not_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        ask(TrainingConfig(), model=None, dims=None, max_minutes=None, overrides=(assignment,))


def test_a_term_is_changed_by_name_and_by_place() -> None:
    def asked(*overrides: str) -> TrainingConfig:
        return ask(TrainingConfig(), model=None, dims=None, max_minutes=None, overrides=overrides)

    assert asked("loss.dice_ce.weight=0.25").loss[0].weight == 0.25
    assert asked("loss.0.ce_weight=0.5").loss[0].options["ce_weight"] == 0.5
    both = asked("loss=[{name: dice_ce}, {name: dice_ce, ramp: 0.1}]", "loss.1.ramp=0.4")
    assert [term.ramp for term in both.loss] == [0.0, 0.4]
    with pytest.raises(InputError, match="2 of that name"):
        asked("loss=[{name: dice_ce}, {name: dice_ce}]", "loss.dice_ce.ramp=0.4")


def test_a_killed_worker_is_told_with_what_to_do(training_cohort, monkeypatch) -> None:
    from equivox.pipelines.training import batches as module

    class Loader(module.DataLoader):
        def __iter__(self):
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr(module, "DataLoader", Loader)
    with pytest.raises(
        RuntimeError, match=r"worker \(pid 7\) is killed .* memory ran out; try again with fewer workers"
    ):
        list(batches(recipe_of(training_cohort), range(2), workers=1))


def test_a_term_that_counts_at_few_steps_is_in_the_time_of_a_step() -> None:
    # One of 4 steps takes 5 s in the middle (a hiccup of 90 s aside), the others 1 s: (5 + 3 * 1) / 4.
    seconds = [5.0, 1.0, 1.0, 1.1, 90.0, 1.0, 1.0, 1.0, 5.0]
    assert typical_step(seconds, every=4) == 2.0
    assert typical_step(seconds[:1], every=4) == 5.0
    assert typical_step([1.0, 90.0, 2.0], every=1) == 2.0


def test_a_file_of_options_is_the_start_and_the_command_line_changes_it(training_cohort, tmp_path) -> None:
    from equivox.pipelines.train import dry_run

    path = tmp_path / "mine.yaml"
    path.write_text("dims: 2d\nsteps: 7\nloss: [{name: dice_ce}, {name: mip, weight: 0.3}]\n")
    found = dry_run(training_cohort, config=path, overrides=["loss.mip.weight=0.5", "seed=3"])["config"]
    assert (found["steps"], found["seed"], [term["weight"] for term in found["loss"]]) == (7, 3, [1.0, 0.5])
    path.write_text("lossss: dice_ce\n")
    with pytest.raises(InputError, match=r"mine.yaml: unknown key 'lossss'; did you mean 'loss'"):
        dry_run(training_cohort, config=path)
