"""Everything that a user can choose of a training run: the `config.yaml` of a run folder."""

from typing import Any, Literal

from pydantic import Field, model_validator

from equivox.datasets.transforms import AugmentationOptions
from equivox.losses.catalog import loss_entry
from equivox.models.catalog import model_entry
from equivox.options import Options, parse_options


class ModelConfig(Options):
    """Which network.

    Attributes:
        name: A key of `equivox.models.catalog.MODELS`.
        options: The network's own options, written out in full.
    """

    name: str = "unetpp"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _with_all_options(cls, values: Any) -> Any:
        return _filled(values, "unetpp", lambda name: model_entry(name).options, "model.options")


class LossConfig(Options):
    """Which loss.

    Attributes:
        name: A key of `equivox.losses.catalog.LOSSES`.
        options: The loss's own options, written out in full.
    """

    name: str = "dice_ce"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _with_all_options(cls, values: Any) -> Any:
        return _filled(values, "dice_ce", lambda name: loss_entry(name).options, "loss.options")


class OptimizerConfig(Options):
    """How the weights move.

    Attributes:
        name: ``adamw``, or ``sgd`` with Nesterov momentum.
        lr: The highest learning rate; None takes 1e-3 for adamw and 1e-2 for sgd.
        weight_decay: None takes 1e-2 for adamw (decoupled) and 3e-5 for sgd.
        momentum: Of sgd.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    weight_decay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    momentum: float = Field(default=0.99, ge=0, lt=1)


class ScheduleConfig(Options):
    """How the learning rate falls.

    Attributes:
        name: ``poly`` falls as (1 - progress)^0.9, ``cosine`` as half a cosine; both end at 0.
        warmup_steps: Steps over which it rises linearly first; None takes 5 % of the steps, 250 at most.
    """

    name: Literal["poly", "cosine"] = "poly"
    warmup_steps: int | None = Field(default=None, ge=0)


class EmaConfig(Options):
    """The running mean of the weights, which is what is saved and scored.

    Attributes:
        decay: Weight of the past at each step; it warms up as (1 + step) / (10 + step), so a short run forgets its
            start too. 0 keeps the last weights themselves.
    """

    decay: float = Field(default=0.999, ge=0, lt=1)


class ValidationConfig(Options):
    """Whole cases that are segmented now and then, for the curve only: nothing is chosen by them.

    Attributes:
        every_steps: None takes a tenth of the steps; 0 validates never.
        cases: How many of the fold's cases, the first by id; None takes 8 at most, fewer when time is short.
        overlap: Overlap of the sliding window, as in prediction.
    """

    every_steps: int | None = Field(default=None, ge=0)
    cases: int | None = Field(default=None, ge=1)
    overlap: float = Field(default=0.5, ge=0, lt=1)


class CheckpointConfig(Options):
    """How often the state is saved, to resume from.

    Attributes:
        every_steps: None takes a tenth of the steps.
    """

    every_steps: int | None = Field(default=None, ge=1)


class TrainingConfig(Options):
    """The `config.yaml` of a run folder; what is None is decided before training and written back.

    Attributes:
        model: Which network.
        loss: Which loss.
        dims: ``2d`` or ``3d``, a section of the plan; None takes 3d where the plan has it and there is a graphics
            card.
        seed: Every random number derives from it, the step and the index in the batch.
        steps: Updates of the weights; None takes 1000, or what fits into `max_minutes`.
        max_minutes: Time that the run was given; the number of steps was fixed by it.
        batch_size: Patches a step, over all processes; None takes the plan's.
        optimizer: How the weights move.
        schedule: How the learning rate falls.
        gradient_clip: Largest norm of the gradient; None never clips.
        ema: The running mean of the weights.
        precision: ``auto`` times both on this machine and takes bfloat16 where it is faster.
        augment: Change the patches at random.
        augmentation: How, where `augment` is true.
        foreground_share: Share of patches centred on foreground.
        validation: Whole cases segmented now and then.
        checkpoint: How often the state is saved.
        device: ``auto`` takes the graphics card where there is one.
    """

    model: ModelConfig = Field(default_factory=ModelConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    dims: Literal["2d", "3d"] | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    steps: int | None = Field(default=None, ge=1)
    max_minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    batch_size: int | None = Field(default=None, ge=1)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    gradient_clip: float | None = Field(default=12.0, gt=0)
    ema: EmaConfig = Field(default_factory=EmaConfig)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    augment: bool = True
    augmentation: AugmentationOptions = Field(default_factory=AugmentationOptions)
    foreground_share: float = Field(default=1 / 3, ge=0, le=1)
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    device: Literal["auto", "cpu", "cuda"] = "auto"


def _filled(values: Any, default: str, options_of: Any, where: str) -> Any:
    """Write out the named thing's options in full, so that the saved config says them all."""
    if not isinstance(values, dict):
        return values
    name = values.get("name", default)
    options = parse_options(options_of(name), values.get("options") or {}, where)
    return {**values, "name": name, "options": options.model_dump(mode="json")}
