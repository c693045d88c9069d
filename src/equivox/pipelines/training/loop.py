"""The loop over the steps of one fold: train, validate, save, stop."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from equivox.pipelines.run_folder import WEIGHTS, write_weights
from equivox.pipelines.training.batches import Batch, PatchRecipe, batches
from equivox.pipelines.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from equivox.pipelines.training.learner import Learner, StepResult
from equivox.pipelines.training.logs import RunLog
from equivox.pipelines.training.stop import StopSignals, TrainingStopped
from equivox.pipelines.training.validation import ValidationCase, mean_dice
from equivox.pipelines.training.world import World
from equivox.pipelines.training_config import TrainingConfig
from equivox.progress import progress_bar

logger = logging.getLogger(__name__)

_LINES = 200
"""About how many lines of the log a run gets."""
_LATE = 1.1
"""A run that will take this much longer than it was given says so, once."""


@dataclass(frozen=True)
class FoldTask:
    """What is to be trained.

    Attributes:
        fold: Its number.
        folder: ``RUN/fold_K``.
        config: Resolved.
        recipe: Where the patches come from.
        workers: Processes that make them.
        class_names: Class index -> name, for the log.
        validate: Segments the n-th validation case with a network, and calls back between windows; called by each
            process for its share.
        validation_cases: How many there are.
        minutes: This fold's share of the time that the run was given, None where it was given none.
    """

    fold: int
    folder: Path
    config: TrainingConfig
    recipe: PatchRecipe
    workers: int
    class_names: dict[int, str]
    validate: Callable[[torch.nn.Module, int, Callable[[float], None]], ValidationCase]
    validation_cases: int
    minutes: float | None


@dataclass(frozen=True)
class FoldResult:
    """What came of a fold.

    Attributes:
        fold: Its number.
        steps: Updates of the weights.
        seconds: Time in training, over all sittings.
        validation_dice: The curve's last value, in [0, 1]; None where nothing was validated.
        loss: The last line's.
    """

    fold: int
    steps: int
    seconds: float
    validation_dice: float | None
    loss: float | None


class _GiveWay(Exception):  # noqa: N818 - it is no error
    """A validation stops for a signal."""


class FoldLoop:
    """Trains one fold from its last checkpoint, or from the start.

    Args:
        learner: With its first weights.
        task: What to train.
        world: The processes of the run.
        stop: Notes signals.
    """

    def __init__(self, learner: Learner, task: FoldTask, world: World, stop: StopSignals) -> None:
        self.learner, self.task, self.world, self.stop = learner, task, world, stop
        self.steps = task.config.steps or 1
        self.progress = load_checkpoint(task.folder / "checkpoint", learner) or Progress()
        self.log = RunLog(task.folder, steps_done=self.progress.steps_done, writes=world.leads)
        self.dice: float | None = None
        self.last_loss: float | None = None
        self._waited = 0.0
        self._since = time.perf_counter()
        self._warned = False

    def run(self) -> FoldResult:
        """Train to the last step and write the weights.

        Raises:
            TrainingStopped: If a signal came; the state is saved.
        """
        first = self.progress.steps_done
        if first:
            logger.info("fold %d: going on after step %d of %d", self.task.fold, first, self.steps)
        pin = self.learner.device.type == "cuda"
        stream = batches(self.task.recipe, range(first, self.steps), workers=self.task.workers, pin_memory=pin)
        columns = ("loss {task.fields[loss]}", "Dice {task.fields[dice]}", "data wait {task.fields[wait]}")
        sitting, before = time.perf_counter(), self.progress.seconds
        with progress_bar(*columns) as bar:
            line = bar.add_task(
                f"Fold {self.task.fold}", total=self.steps, completed=first, loss="-", dice="-", wait="-"
            )
            try:
                # A signal may have come before the validation of the last step was done.
                self._validate_if_due(lambda **fields: bar.update(line, **fields))
                for step in range(first, self.steps):
                    result = self._step_or_stop(step, stream)
                    self.progress.seconds = before + time.perf_counter() - sitting
                    self._after_step(step, result, lambda **fields: bar.update(line, **fields))
                    bar.advance(line)
            finally:
                stream.close()
                self.log.close()
        return self._finish()

    def _step_or_stop(self, step: int, stream: Any) -> StepResult:
        try:
            return self._step(step, stream)
        except RuntimeError as error:
            if self.stop.received is None or "worker" not in str(error):
                raise
            # The signal ended the data workers too, perhaps amid the update: what is in memory cannot be trusted.
            saved = "go on from the last checkpoint with --resume"
            msg = f"stopped in step {step + 1} of {self.steps} together with its data workers; {saved}"
            raise TrainingStopped(self.stop.received, msg) from error

    def _step(self, step: int, stream: Any) -> StepResult:
        asked = time.perf_counter()
        batch: Batch = next(stream)
        self._waited += time.perf_counter() - asked
        return self.learner.step(step, batch)

    def _after_step(self, step: int, result: StepResult, show: Callable[..., None]) -> None:
        done = step + 1
        config = self.task.config
        self.progress.steps_done = done
        self.progress.losses.append(result.loss)
        for name, value in result.terms.items():
            total, count = self.progress.terms.get(name, (0.0, 0))
            self.progress.terms[name] = [total + value, count + 1]
        if done % max(1, self.steps // _LINES) == 0 or done == self.steps:
            self._write_line(done, result, show)
        self._validate_if_due(show)
        asked = self._stop_asked()
        if done % (config.checkpoint.every_steps or self.steps) == 0 or done == self.steps or asked is not None:
            self._save()
        if asked is not None:
            msg = f"stopped after step {done} of {self.steps}; the state is saved, go on with --resume"
            raise TrainingStopped(asked, msg)

    def _write_line(self, done: int, result: StepResult, show: Callable[..., None]) -> None:
        now = time.perf_counter()
        elapsed, count = max(now - self._since, 1e-9), len(self.progress.losses)
        self.last_loss = sum(self.progress.losses) / count
        wait = min(1.0, self._waited / elapsed)
        values = {
            "loss": self.last_loss,
            "loss_terms": {name: total / steps for name, (total, steps) in self.progress.terms.items()},
            "loss_weights": result.weights,
            "group_loss": result.groups,
            "lr": result.lr,
            "gradient_norm": result.gradient_norm,
            "seconds_per_step": elapsed / count,
            "data_wait": wait,
            "seconds": self.progress.seconds,
        }
        self.log.write(done, values)
        show(loss=f"{self.last_loss:.3f}", wait=f"{wait:.0%}")
        self.progress.losses, self.progress.terms, self._waited, self._since = [], {}, 0.0, now
        self._warn_if_late(done)

    def _warn_if_late(self, done: int) -> None:
        given = self.task.minutes
        if given is None or self._warned or done < self.steps // 10:
            return
        minutes = self.progress.seconds / done * self.steps / 60
        if minutes > _LATE * given:
            self._warned = True
            logger.warning(
                "steps take longer than they did when they were timed: this fold will take %.1f minutes, %.1f were "
                "given; the number of steps stays as it is",
                minutes,
                given,
            )

    def _validate_if_due(self, show: Callable[..., None]) -> None:
        done, every = self.progress.steps_done, self.task.config.validation.every_steps
        due = every and done and (done % every == 0 or done == self.steps) and self.progress.validated != done
        if not due or self._stop_asked() is not None:
            return
        begun = time.perf_counter()
        cases = self._validated_cases()
        if cases is not None:
            self.progress.validated = done
            self._write_validation(done, cases, time.perf_counter() - begun, show)

    def _validated_cases(self) -> list[ValidationCase] | None:
        """Validate; None where a signal came in between, in any process."""

        def give_way(_: float) -> None:
            if self.stop.received is not None:
                raise _GiveWay

        count = min(self.task.config.validation.cases or 1, self.task.validation_cases)
        own = []
        try:
            for index in self.world.share(count):
                case = self.task.validate(self.learner.ema.network, index, give_way)
                own.append((case.case_id, case.dice))
        except _GiveWay:
            logger.debug("the validation gives way to a signal")
        shares = self.world.gather(own)
        cases = [ValidationCase(case_id, dice) for share in shares for case_id, dice in share]
        return sorted(cases, key=lambda case: case.case_id) if len(cases) == count else None

    def _write_validation(
        self, done: int, cases: list[ValidationCase], seconds: float, show: Callable[..., None]
    ) -> None:
        self.dice = mean_dice(cases)
        by_class = {
            name: sum(found) / len(found)
            for index, name in self.task.class_names.items()
            if (found := [case.dice[index] for case in cases if index in case.dice])
        }
        self.log.write(
            done,
            {
                "validation_dice": self.dice,
                "validation_dice_by_class": by_class,
                "validation_cases": len(cases),
                "validation_seconds": seconds,
            },
        )
        text = "-" if self.dice is None else f"{self.dice:.3f}"
        show(dice=text)
        loss = "-" if self.last_loss is None else f"{self.last_loss:.3f}"
        logger.info("fold %d, step %d of %d: loss %s, Dice %s", self.task.fold, done, self.steps, loss, text)
        # A validation is no part of the pace of the steps.
        self._since += seconds

    def _stop_asked(self) -> int | None:
        """The signal that any process was given, agreed upon by all."""
        number = torch.tensor([float(self.stop.received or 0)])
        return int(self.world.largest(number)) or None

    def _save(self) -> None:
        if self.world.leads:
            save_checkpoint(self.task.folder / "checkpoint", self.learner, self.progress)
        self.world.wait()

    def _finish(self) -> FoldResult:
        done = self.progress.steps_done
        if self.world.leads:
            facts = {"fold": str(self.task.fold), "steps": str(done), "weights": "ema of the last step"}
            write_weights(self.learner.ema.network, self.task.folder / WEIGHTS, facts)
        self.world.wait()
        return FoldResult(self.task.fold, done, self.progress.seconds, self.dice, self.last_loss)
