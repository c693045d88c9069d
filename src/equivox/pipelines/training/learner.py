"""What is trained and how one step of it goes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equivox.losses.catalog import build_loss
from equivox.losses.context import CaseContext
from equivox.pipelines.training.batches import Batch
from equivox.pipelines.training.ema import Ema
from equivox.pipelines.training.schedule import learning_rate
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
    """

    loss: float
    gradient_norm: float
    lr: float


class Learner:
    """A network with its optimizer, loss and running mean, and the step that moves them.

    Args:
        network: On its device, with its first weights; every process must give the same ones.
        config: Resolved: nothing that a step needs is None.
        world: The processes of the run.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig, world: World) -> None:
        self.network = network
        self.config = config
        self.world = world
        self.loss = build_loss(config.loss.name, config.loss.options)
        self.optimizer = build_optimizer(network, config.optimizer)
        self.ema = Ema(network, config.ema.decay)
        self.device = next(network.parameters()).device
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
        # Dropout and the like draw numbers of the step, so resuming needs no saved generator.
        torch.manual_seed((self.config.seed * 1_000_003 + step * self.world.size + self.world.rank) % _SEEDS)
        batch = batch.to(self.device)
        total = self.config.batch_size or len(batch.image)
        self._wrapped.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            outputs: tuple[Tensor, ...] = self._wrapped(batch.image)
        context = CaseContext(batch.case_index, step, self.world.sum)
        losses = self.loss.per_sample(outputs, batch.label, context)
        share = losses.sum() / total
        self.optimizer.zero_grad(set_to_none=True)
        (share * self.world.size).backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip or float("inf"))
        loss = float(self.world.sum(share.detach().clone()))
        if not torch.isfinite(norm) or loss != loss:
            msg = (
                f"step {step}: the loss or its gradient is not finite (loss {loss}); "
                "lower optimizer.lr, or set precision=float32"
            )
            raise FloatingPointError(msg)
        self.optimizer.step()
        self.ema.update(self.network, step)
        return StepResult(loss, float(norm), lr)

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


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer; the learning rate is set at each step.

    Weight decay spares vectors: biases and the scales of norms, which have nothing to shrink for.
    """
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
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
