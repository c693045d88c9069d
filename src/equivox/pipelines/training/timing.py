"""What a step takes on this machine, and what follows: the precision, and the number of steps that fit."""

import copy
import itertools
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import torch
from torch import nn

from equivox.datasets.plan import NetworkPlan
from equivox.pipelines.prediction.sliding_window import window_count
from equivox.pipelines.training.batches import Batch, PatchRecipe, batches
from equivox.pipelines.training.checkpoint import Progress, save_checkpoint
from equivox.pipelines.training.learner import Learner
from equivox.pipelines.training.objective import CaseFacts
from equivox.pipelines.training.validation import windows_at_once
from equivox.pipelines.training.world import World
from equivox.pipelines.training_config import TrainingConfig

logger = logging.getLogger(__name__)

WORTH = 0.9
"""bfloat16 is taken where its step takes less than this part of float32's: else it is not worth the rounding."""
SLOW_STEP_SECONDS = 5.0
"""A first step slower than this is taken as it is: a second one would only cost time."""
FEWEST_STEPS = 10
_SHARE_OF_VALIDATION = 0.1
_SHARE_OF_CHECKPOINTS = 0.03
_SHARE_OF_WARM_UP = 0.03
_MOST_WARM_UP_STEPS = 12
_RESERVE = 0.04
"""Part of the time kept back, as steps are not all alike."""


@dataclass(frozen=True)
class Timings:
    """What was measured, in seconds.

    Attributes:
        step: One step, data included.
        start: Until the first batch is there.
        window: The network over one group of sliding windows.
        save: Writing one checkpoint.
    """

    step: float
    start: float
    window: float
    save: float


def probe_precision(network: nn.Module, config: TrainingConfig, batch: Batch, facts: CaseFacts) -> dict[str, float]:
    """Time one training step of two patches in float32 and under bfloat16 autocast, on a copy of the network.

    Args:
        network: Not changed.
        config: With a batch size.
        batch: This process's share of a step; two of its patches are enough to compare.
        facts: What is known of the training cases.

    Returns:
        Seconds a step for ``float32`` and ``bfloat16``; infinite where bfloat16 does not work.
    """
    few = batch.first(2)
    seconds = {}
    for precision in ("float32", "bfloat16"):
        learner = _throwaway(network, config.model_copy(update={"precision": precision}), facts)
        try:
            seconds[precision] = _time_step(learner, few)
        except (FloatingPointError, RuntimeError) as error:
            if precision == "float32":
                raise
            logger.info("bfloat16 does not work here: %s", str(error).splitlines()[0])
            seconds[precision] = float("inf")
    return seconds


def faster_precision(seconds: dict[str, float]) -> str:
    """Return which precision to train in, by what `probe_precision` measured.

    Example:
        >>> faster_precision({"float32": 1.0, "bfloat16": 0.6}), faster_precision({"float32": 1.0, "bfloat16": 0.95})
        ('bfloat16', 'float32')
    """
    return "bfloat16" if seconds["bfloat16"] < WORTH * seconds["float32"] else "float32"


def measure(
    network: nn.Module, config: TrainingConfig, recipe: PatchRecipe, facts: CaseFacts, *, workers: int, budget: float
) -> Timings:
    """Time some steps with their data, a group of windows and a checkpoint, on a copy of the network.

    Args:
        network: Not changed.
        config: With precision and batch size.
        recipe: Where the patches come from.
        facts: What is known of the training cases.
        workers: Processes that make them.
        budget: Seconds of the whole run; a small part of it is used.
    """
    learner = _throwaway(network, config, facts)
    begun = time.perf_counter()
    stream = batches(recipe, range(_MOST_WARM_UP_STEPS), workers=workers)
    every = max(term.every for term in learner.objective.loss.terms)
    marks = []
    start = 0.0
    for step, batch in enumerate(stream):
        if step == 0:
            start = time.perf_counter() - begun
        # The first one that is timed is one at which all terms of the loss count.
        learner.step(step + every - 1, batch)
        _synchronise(learner.device)
        marks.append(time.perf_counter())
        if step >= 1 and marks[-1] - begun - start > _SHARE_OF_WARM_UP * budget:
            break
    stream.close()
    # The first step is slower than the rest.
    gaps = [after - before for before, after in itertools.pairwise(marks)]
    step_seconds = typical_step(gaps, every) if gaps else marks[0] - begun - start
    return Timings(step_seconds, start, _time_window(learner, recipe), _time_save(learner))


def typical_step(seconds: Sequence[float], every: int) -> float:
    """Return the mean of the median of every so many steps, from the first on, and that of the others, by their number.

    A median does not mind one hiccup; the median of all would not mind a term of the loss that counts at few steps.

    Example:
        >>> typical_step([9.0, 1.0, 1.0, 5.0, 9.0, 1.0], every=4)
        3.0
    """
    full, rest = seconds[::every], [value for place, value in enumerate(seconds) if place % every]
    medians = [sorted(values)[len(values) // 2] for values in (full, rest or full)]
    return (medians[0] + (every - 1) * medians[1]) / every


def fit_into(
    config: TrainingConfig, timings: Timings, seconds: float, plan: NetworkPlan, shapes: Sequence[tuple[int, ...]]
) -> TrainingConfig:
    """Return the config with the number of steps, validations and checkpoints that fit into a time.

    Args:
        config: What the user fixed stays.
        timings: Of this machine.
        seconds: For all of one fold, from now on.
        plan: The network's section.
        shapes: Prepared shapes of the fold's validation cases, in the order in which they are taken.
    """
    left = max(0.0, seconds * (1 - _RESERVE) - timings.start - 2 * timings.save)
    costs = [timings.window * window_count(s, plan, overlap=config.validation.overlap, batch_size=windows_at_once(plan))
             for s in shapes]  # fmt: skip
    passes, cases = _affordable(config, costs, left)
    saves = max(1, min(10, int(_SHARE_OF_CHECKPOINTS * left / max(timings.save, 1e-3))))
    for_steps = left - passes * sum(costs[:cases]) - saves * timings.save
    steps = int(for_steps / timings.step)
    if steps < FEWEST_STEPS:
        steps = FEWEST_STEPS
        needed = timings.start + passes * sum(costs[:cases]) + (saves + 2) * timings.save + steps * timings.step
        logger.warning(
            "--max-minutes cannot be held: a step takes %.1f s, and the fewest sensible %d steps need %.1f minutes "
            "from now on, of which %.1f are left; a smaller network (model.options.features) or 2d would fit more",
            timings.step, steps, needed / 60, max(0.0, seconds) / 60,
        )  # fmt: skip
    validation = config.validation.model_copy(
        update={"every_steps": ceil(steps / passes) if passes else 0, "cases": max(1, cases)}
    )
    checkpoint = config.checkpoint.model_copy(
        update={"every_steps": config.checkpoint.every_steps or ceil(steps / saves)}
    )
    return config.model_copy(update={"steps": steps, "validation": validation, "checkpoint": checkpoint})


def _affordable(config: TrainingConfig, costs: Sequence[float], left: float) -> tuple[int, int]:
    """Return how many validations of how many cases to do: within a tenth of the time, of more cases if thrice."""
    wanted = min(config.validation.cases or 8, len(costs))
    if wanted == 0 or config.validation.every_steps == 0:
        return 0, wanted
    passes = 0
    for cases in range(wanted, 0, -1):
        passes = min(10, int(_SHARE_OF_VALIDATION * left / max(sum(costs[:cases]), 1e-3)))
        if passes >= 3 or (passes and config.validation.cases):
            return passes, cases
    if passes == 0:
        logger.info("no validation in this run: one case takes %.0f s, too much of the time", costs[0])
    return passes, 1


def _time_step(learner: Learner, batch: Batch) -> float:
    first = _seconds_of(lambda: learner.step(0, batch), learner.device)
    if first > SLOW_STEP_SECONDS:
        return first
    return min(_seconds_of(lambda step=step: learner.step(step, batch), learner.device) for step in (1, 2))  # type: ignore[misc]


def _time_window(learner: Learner, recipe: PatchRecipe) -> float:
    network = learner.ema.network
    sample = next(batches(recipe, range(1), workers=0)).image
    count = windows_at_once(recipe.network)
    windows = sample[:1].expand(count, *sample.shape[1:]).to(learner.device)
    bfloat16 = learner.config.precision == "bfloat16"

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(learner.device.type, torch.bfloat16, enabled=bfloat16):
            network(windows)

    first = _seconds_of(forward, learner.device)
    return first if first > SLOW_STEP_SECONDS else _seconds_of(forward, learner.device)


def _time_save(learner: Learner) -> float:
    folder = Path(tempfile.mkdtemp(prefix="equivox-"))
    try:
        return _seconds_of(lambda: save_checkpoint(folder, learner, Progress()), learner.device)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _seconds_of(work: Callable[[], object], device: torch.device) -> float:
    _synchronise(device)
    begun = time.perf_counter()
    work()
    _synchronise(device)
    return time.perf_counter() - begun


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _throwaway(network: nn.Module, config: TrainingConfig, facts: CaseFacts) -> Learner:
    """A learner of a copy, alone in its process: what it does leaves no trace in the run.

    All that counts from some share of the training on counts from its first step on, so that the time that is measured
    holds to the end.
    """
    at_once = {"start_after": 0.0}
    alone = config.model_copy(
        update={
            "steps": config.steps or 1000,
            "loss": tuple(term.model_copy(update={**at_once, "ramp": 0.0}) for term in config.loss),
            "sharpness": config.sharpness.model_copy(update=at_once),
            "robustness": config.robustness.model_copy(update=at_once),
        }
    )
    return Learner(copy.deepcopy(network), alone, World(), facts)
