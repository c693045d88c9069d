"""What is trained and how one step of it goes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from equivox.losses.context import CaseContext
from equivox.pipelines.training.batches import Batch
from equivox.pipelines.training.disturbance import worst_nearby
from equivox.pipelines.training.ema import Ema
from equivox.pipelines.training.objective import CaseFacts, Objective, ObjectiveValues
from equivox.pipelines.training.schedule import learning_rate
from equivox.pipelines.training.sharpness import at_the_worst_nearby, buffers_kept
from equivox.pipelines.training.world import World
from equivox.pipelines.training_config import OptimizerConfig, TrainingConfig

_SEEDS = 2**63


@dataclass(frozen=True)
class StepResult:
    """What one step gave.

    Attributes:
        loss: Mean over the samples of all processes.
        gradient_norm: Before clipping.
        lr: Learning rate of the step.
        terms: Term of the loss -> its mean likewise, without its weight; those that do not count yet are left out.
        groups: Group -> running mean of its loss.
        weights: Term -> its learned factor at the beginning of the step, where there is one.
    """

    loss: float
    gradient_norm: float
    lr: float
    terms: dict[str, float] = field(default_factory=dict)
    groups: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)


class Learner:
    """A network with its optimizer, loss and running mean, and the step that moves them.

    Args:
        network: On its device, with its first weights; every process must give the same ones.
        config: Resolved: nothing that a step needs is None.
        world: The processes of the run.
        facts: What is known of the training cases.
    """

    def __init__(
        self, network: nn.Module, config: TrainingConfig, world: World, facts: CaseFacts | None = None
    ) -> None:
        facts = facts or CaseFacts()
        self.network = network
        self.config = config
        self.world = world
        self.device = next(network.parameters()).device
        # First, as it copies the network with all that is hung on it.
        self.ema = Ema(network, config.ema.decay)
        self.objective = Objective(config, facts, network).to(self.device)
        self.optimizer = build_optimizer(network, config.optimizer, [*self.objective.parameters()])
        self._wrapped = world.wrap(network)

    def step(self, step: int, batch: Batch) -> StepResult:
        """Update the weights once.

        The loss is the mean over the whole batch, however it is shared among processes: each sums its samples' losses
        and divides by the whole batch's size, and gradients, which DDP averages, are multiplied by their number.

        Args:
            step: From 0; the learning rate and the random numbers of the network depend on it.
            batch: This process's share.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        lr = self._set_learning_rate(step)
        batch = batch.to(self.device)
        total = self.config.batch_size or len(batch.image)
        self._wrapped.train()
        progress = step / (self.config.steps or 1)
        with self._autocast():
            context = self.objective.context(batch, step, progress, self.world.sum)
            reference = self._reference(batch.image) if self.objective.wants_reference(progress) else None
            disturbed = self._disturbed(batch, step) if self.objective.wants_disturbance(progress) else None
        gradients = partial(self._gradients, batch, context, total, reference, disturbed)
        sharpness = self.config.sharpness
        if sharpness.method in ("sam", "asam"):
            # Each process looks for the worst of its own patches: one exchange of gradients a step, and a stronger
            # effect than with that of all patches (m-sharpness in the paper).
            with self.world.unaveraged(self._wrapped):
                losses = gradients()
            adaptive = sharpness.method == "asam"
            # What is logged and what groups are weighed by is the loss where the weights are.
            with (
                at_the_worst_nearby(self.network.parameters(), sharpness.radius, adaptive=adaptive),
                buffers_kept(self.network, self.objective),
            ):
                gradients()
        else:
            losses = gradients()
        share = losses.total.detach().sum() / total
        self._average_gradients_of_the_objective()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip or float("inf"))
        means = torch.stack([share, *(values.sum() / total for values in losses.terms.values())])
        loss, *terms = self.world.sum(means).tolist()
        if not torch.isfinite(norm) or loss != loss:
            msg = (
                f"step {step}: the loss or its gradient is not finite (loss {loss}); "
                "lower optimizer.lr, or set precision=float32"
            )
            raise FloatingPointError(msg)
        weights = {name: float(weight) for name, weight in losses.weights.items()}
        self.optimizer.step()
        self.ema.update(self.network, step)
        named = dict(zip(losses.terms, terms, strict=True))
        return StepResult(loss, float(norm), lr, named, losses.groups, weights)

    def _gradients(
        self, batch: Batch, context: CaseContext, total: int, reference: Tensor | None, disturbed: Tensor | None
    ) -> ObjectiveValues:
        """Put the gradient of the loss of this process's share into the parameters."""
        self._seed(context.step)
        with self._autocast():
            image = batch.image if disturbed is None else torch.cat([batch.image, disturbed])
            outputs: tuple[Tensor, ...] = self._wrapped(image)
        count = len(batch.image)
        losses = self.objective.per_sample(
            [output[:count] for output in outputs],
            batch.label,
            context,
            reference=reference,
            disturbed=None if disturbed is None else outputs[0][count:],
        )
        self.optimizer.zero_grad(set_to_none=True)
        (losses.total.sum() / total * self.world.size).backward()  # type: ignore[no-untyped-call]
        return losses

    def _reference(self, image: Tensor) -> Tensor:
        """Return what the running mean of the weights says of patches."""
        with torch.no_grad():
            outputs: tuple[Tensor, ...] = self.ema.network(image)
        return outputs[0]

    def _disturbed(self, batch: Batch, step: int) -> Tensor:
        """Return patches near those of the batch of which the network says the most other things."""
        self._seed(step)
        robustness = self.config.robustness
        return worst_nearby(self.network, batch.image, batch.label, radius=robustness.radius, steps=robustness.steps)

    def _seed(self, step: int) -> None:
        """Let dropout and the like draw numbers of the step, so that resuming needs no saved generator."""
        torch.manual_seed((self.config.seed * 1_000_003 + step * self.world.size + self.world.rank) % _SEEDS)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _average_gradients_of_the_objective(self) -> None:
        """Do for the objective's own parameters what DDP does for the network's."""
        if self.world.size > 1:
            for parameter in self.objective.parameters():
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.world.sum(gradient) / self.world.size

    def _set_learning_rate(self, step: int) -> float:
        config = self.config
        lr = learning_rate(
            step,
            steps=config.steps or 1,
            peak=config.optimizer.lr or 0.0,
            warmup_steps=config.schedule.warmup_steps or 0,
            schedule=config.schedule.name,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr


def build_optimizer(
    network: nn.Module, config: OptimizerConfig, of_the_objective: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return the optimizer; the learning rate is set at each step.

    Weight decay spares vectors (biases and the scales of norms, which have nothing to shrink for) and what the
    objective has of parameters.
    """
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1] + [*of_the_objective]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay or 0.0},
        {"params": vectors, "weight_decay": 0.0},
    ]
    lr = config.lr or 0.0
    # fused: one pass over the weights, on a processor four times as fast as one pass for each operation.
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True)


def first_network(build: Callable[[], nn.Module], seed: int, fold: int, device: torch.device) -> nn.Module:
    """Build a network whose first weights depend on seed and fold alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1_000_003 + fold)
        return build().to(device)
