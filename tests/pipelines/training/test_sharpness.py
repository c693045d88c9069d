"""Steps that look for flat weights."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from equivox.errors import InputError
from equivox.losses.agreement import divergence
from equivox.options import parse_options
from equivox.pipelines.training.batches import Batch
from equivox.pipelines.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from equivox.pipelines.training.groups import TrainingGroups
from equivox.pipelines.training.learner import Learner, StepResult
from equivox.pipelines.training.objective import CaseFacts
from equivox.pipelines.training.sharpness import at_the_worst_nearby, buffers_kept
from equivox.pipelines.training.timing import probe_precision
from equivox.pipelines.training.world import World
from equivox.pipelines.training_config import TrainingConfig


class Normed(nn.Module):
    """A convolution, a batch norm and dropout; two heads while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Conv2d(4, 2, 1)
        self.seen: list[bool] = []

    def forward(self, image):
        self.seen.append(torch.is_grad_enabled())
        logits = self.head(self.drop(self.norm(self.first(image)).relu()))
        return (logits, logits[:, :, ::2]) if self.training else (logits,)


def config(**values: object) -> TrainingConfig:
    base = {
        "batch_size": 4,
        "precision": "float32",
        "steps": 10,
        "optimizer": {"lr": 1e-2, "weight_decay": 1e-2},
        "schedule": {"warmup_steps": 0},
    }
    return parse_options(TrainingConfig, base | values, "config.yaml")


def batch(samples: int = 4, seed: int = 0) -> Batch:
    image = torch.randn(samples, 1, 8, 6, generator=torch.Generator().manual_seed(seed))
    return Batch(image, (image[:, 0] > 0.5).long(), torch.arange(samples))


def learner(facts: CaseFacts | None = None, **values: object) -> Learner:
    torch.manual_seed(5)
    return Learner(Normed(), config(**values), World(), facts)


def weights(of: Learner) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in of.network.state_dict().values()]


def test_weights_climb_along_their_gradient_and_come_back_to_the_bit() -> None:
    one, other = nn.Parameter(torch.tensor([0.1, -0.7])), nn.Parameter(torch.tensor([[0.3]]))
    unused = nn.Parameter(torch.tensor([2.0]))
    one.grad, other.grad = torch.tensor([2.0, 1.0]), torch.tensor([[2.0]])
    before = [parameter.detach().clone() for parameter in (one, other, unused)]
    with at_the_worst_nearby([one, other, unused], 0.3, adaptive=False):
        # The norm of (2, 1, 2) is 3.
        torch.testing.assert_close(one.detach(), torch.tensor([0.3, -0.6]))
        torch.testing.assert_close(other.detach(), torch.tensor([[0.5]]))
    with at_the_worst_nearby([one, other, unused], 1.0, adaptive=True):
        # |w| g = (.2, .7, .6), norm sqrt(.89); w^2 g = (.02, .49, .18)
        torch.testing.assert_close(one.detach(), torch.tensor([0.1 + 0.02 / 0.89**0.5, -0.7 + 0.49 / 0.89**0.5]))
        torch.testing.assert_close(other.detach(), torch.tensor([[0.3 + 0.18 / 0.89**0.5]]))
    assert all(torch.equal(now, was) for now, was in zip((one, other, unused), before, strict=True))


def test_weights_come_back_after_a_fault_too() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    weight.grad = torch.tensor([1.0])
    with pytest.raises(KeyError), at_the_worst_nearby([weight], 0.5, adaptive=False):
        raise KeyError
    assert weight.item() == 1.0


def test_a_gradient_of_zero_moves_nothing() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    weight.grad = torch.zeros(1)
    with at_the_worst_nearby([weight], 0.5, adaptive=False):
        assert weight.item() == 1.0


def test_running_statistics_are_kept() -> None:
    norm = nn.BatchNorm1d(2)
    with buffers_kept(norm):
        norm(torch.randn(5, 2) + 3)
        assert norm.num_batches_tracked == 1
    assert norm.num_batches_tracked == 0
    assert norm.running_mean.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("method", "adaptive"), [("sam", False), ("asam", True)])
def test_a_step_is_that_of_the_gradient_at_the_worst_nearby(method, adaptive) -> None:
    plain = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}, "gradient_clip": None}
    sharp = learner(sharpness={"method": method, "rho": 0.2}, **plain)
    result = sharp.step(0, batch())
    # The same by hand: a plain learner's gradient, climbed along, and a second plain gradient there.
    first, second = learner(**plain), learner(**plain)
    logged = first.step(0, batch())
    with torch.no_grad():
        for parameter, other in zip(second.network.parameters(), first.network.parameters(), strict=True):
            parameter.grad = other.grad
    start = weights(second)
    with at_the_worst_nearby(second.network.parameters(), 0.2, adaptive=adaptive):
        moved = [parameter.detach().clone() for parameter in second.network.parameters()]
        second.step(0, batch())
        gradients = [parameter.grad for parameter in second.network.parameters()]
    assert result.loss == logged.loss
    begun = dict(zip(sharp.network.state_dict(), start, strict=True))
    for (name, parameter), gradient, there in zip(sharp.network.named_parameters(), gradients, moved, strict=True):
        torch.testing.assert_close(parameter.detach(), begun[name] - 0.1 * gradient)
        assert name != "first.weight" or not torch.equal(there, begun[name])


def test_a_sharp_step_counts_a_batch_once_in_running_statistics_and_groups() -> None:
    facts = CaseFacts(TrainingGroups(("a", "b"), torch.tensor([0, 1, 0, 1])))
    fairness = {"attribute": "sex", "method": "febs_corrected"}
    plain = learner(facts, fairness=fairness)
    sharp = learner(facts, fairness=fairness, sharpness={"method": "sam"})
    groups = [one.step(0, batch()).groups for one in (plain, sharp)]
    assert groups[0] == groups[1]
    for name, buffer in plain.network.named_buffers():
        assert torch.equal(buffer, sharp.network.get_buffer(name)), name
    assert plain.objective.state_dict().keys() == sharp.objective.state_dict().keys()
    for name, value in plain.objective.state_dict().items():
        assert torch.equal(value, sharp.objective.state_dict()[name]), name


def test_both_passes_of_a_step_drop_the_same_features() -> None:
    sharp = learner(sharpness={"method": "sam", "rho": 1e-9})
    dropped: list[torch.Tensor] = []
    sharp.network.drop.register_forward_hook(lambda module, inputs, output: dropped.append(output.detach() == 0))
    sharp.step(0, batch())
    assert len(dropped) == 2
    assert torch.equal(*dropped)


def test_the_running_mean_is_asked_from_its_start_on_only() -> None:
    mesa = learner(sharpness={"method": "mesa", "start_after": 0.5, "weight": 2.0, "temperature": 3.0})
    teacher = mesa.ema.network
    early = mesa.step(4, batch())
    assert teacher.seen == []
    assert "mesa" not in early.terms
    expected = teacher(batch().image)[0].detach()
    network_before = [value.clone() for value in weights(mesa)]
    late = mesa.step(5, batch())
    assert teacher.seen == [True, False]  # ours, then the step's, which keeps no graph
    # The same again by hand, with the dropout of that step.
    copy = learner(sharpness={"method": "mesa"})
    copy.network.load_state_dict(dict(zip(copy.network.state_dict(), network_before, strict=True)))
    torch.manual_seed(5)
    logits = copy.network.train()(batch().image)[0]
    wanted = divergence(expected, logits.detach(), 3.0).mean()
    assert late.terms["mesa"] == pytest.approx(wanted.item(), rel=1e-5)
    assert late.loss == pytest.approx(late.terms["dice_ce"] + 2 * late.terms["mesa"], rel=1e-5)


def test_what_counts_later_is_timed_too() -> None:
    network, facts = Normed(), CaseFacts()
    late = [{"name": "dice_ce"}, {"name": "focal_tversky", "start_after": 0.9, "ramp": 0.1}]
    timed: list[StepResult] = []
    original = Learner.step

    def noted(self: Learner, step: int, batch: Batch) -> StepResult:
        timed.append(original(self, step, batch))
        return timed[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", noted)
        values = {"sharpness": {"method": "mesa", "start_after": 0.5}, "robustness": {"weight": 1.0}}
        probe_precision(network, config(loss=late, **values), batch(), facts)
    assert all(result.terms.keys() == {"dice_ce", "focal_tversky", "mesa", "robustness"} for result in timed)


def test_the_running_mean_gets_no_gradient() -> None:
    mesa = learner(sharpness={"method": "mesa", "start_after": 0.0})
    mesa.step(0, batch())
    assert all(parameter.grad is None for parameter in mesa.ema.network.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"sharpness": {"method": "sam"}},
        {"sharpness": {"method": "asam"}},
        {"sharpness": {"method": "mesa", "start_after": 0.0}},
        {"loss_weighting": "uncertainty", "loss": ["dice_ce", "focal_tversky"], "sharpness": {"method": "sam"}},
        {"loss": [{"name": "uu_mamba_published"}]},
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_checkpoint_brings_everything_back_to_the_bit(tmp_path, options, precision) -> None:
    first = learner(precision=precision, **options)
    for step in range(3):
        first.step(step, batch(seed=step))
    save_checkpoint(tmp_path, first, Progress(3))
    second = learner(precision=precision, **options)
    load_checkpoint(tmp_path, second)
    for step in (3, 4):
        results = [one.step(step, batch(seed=step)) for one in (first, second)]
        assert results[0] == results[1]
    assert all(torch.equal(*pair) for pair in zip(weights(first), weights(second), strict=True))
    for name, value in first.objective.state_dict().items():
        assert torch.equal(value, second.objective.state_dict()[name])


def test_learned_factors_are_trained_and_logged() -> None:
    one = learner(loss=["dice_ce", {"name": "focal_tversky", "weight": 0.1}], loss_weighting="uncertainty")
    first = one.step(0, batch())
    assert first.weights == {"dice_ce": 0.5, "focal_tversky": 0.5}
    # Half of each term, and log 2 for each
    wanted = first.terms["dice_ce"] / 2 + 0.1 * first.terms["focal_tversky"] / 2 + 2 * 0.6931472
    assert first.loss == pytest.approx(wanted, rel=1e-5)
    second = one.step(1, batch())
    # The small term's factor rises: nothing is gained by holding it down.
    assert second.weights["focal_tversky"] > 0.5


def test_mesa_without_a_running_mean_is_refused() -> None:
    with pytest.raises(InputError, match=r"give 'ema\.decay' above 0"):
        config(sharpness={"method": "mesa"}, ema={"decay": 0.0})


@pytest.mark.parametrize(("method", "rho", "wanted"), [("sam", None, 0.05), ("asam", None, 2.0), ("asam", 0.5, 0.5)])
def test_the_radius_follows_the_method(method, rho, wanted) -> None:
    assert config(sharpness={"method": method, "rho": rho}).sharpness.radius == wanted


PLAIN = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}, "gradient_clip": None}
SHARED = {
    "sam": {"sharpness": {"method": "sam"}, "loss_weighting": "uncertainty"},
    "mesa": {"sharpness": {"method": "mesa", "start_after": 0.0}},
}


def two_steps(method: str, world: World, share: slice) -> tuple[dict[str, torch.Tensor], float]:
    """Return the state after two steps of a network without batch statistics and dropout, and the last loss."""
    torch.manual_seed(5)
    network = Normed()
    network.drop.p = 0.0
    network.norm = nn.Identity()
    chosen = config(loss=[{"name": "dice_ce", "dice_over": "sample"}], **SHARED[method], **PLAIN)
    one, whole = Learner(network, chosen, world), batch()
    loss = 0.0
    for step in range(2):
        loss = one.step(step, Batch(whole.image[share], whole.label[share], whole.case_index[share])).loss
    return {**network.state_dict(), **one.objective.state_dict()}, loss


_BOTH = """
import sys
sys.path.insert(0, {tests!r})
import torch
from test_sharpness import SHARED, two_steps
from equivox.pipelines.training.world import join_world, leave_world

world = join_world("cpu")
found = {{method: two_steps(method, world, slice(world.rank, None, 2)) for method in SHARED}}
torch.save(found, {out!r} + f"/{{world.rank}}.pt")
leave_world()
"""


def test_processes_stay_alike_and_each_climbs_by_its_own_gradient(tmp_path) -> None:
    script = tmp_path / "both.py"
    script.write_text(_BOTH.format(tests=str(Path(__file__).parent), out=str(tmp_path)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(torchrun, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    # A climb by the gradient of all patches goes elsewhere than two climbs by halves, though not far.
    for method, tolerance in (("mesa", 1e-5), ("sam", 1e-2)):
        state, loss = first[method]
        assert all(torch.equal(value, second[method][0][name]) for name, value in state.items())
        alone, loss_alone = two_steps(method, World(), slice(None))
        same = all(torch.allclose(value, state[name], atol=1e-6) for name, value in alone.items())
        assert same == (method == "mesa")
        assert loss == pytest.approx(loss_alone, rel=tolerance)
