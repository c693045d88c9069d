"""From what the user asked for to a config without gaps."""

from math import ceil, inf
from typing import Any

import torch

from equivox.datasets.plan import Plan
from equivox.errors import InputError
from equivox.models.catalog import model_entry
from equivox.options import override_options
from equivox.pipelines.run_folder import network_plan
from equivox.pipelines.training_config import ModelConfig, TrainingConfig

DEFAULT_STEPS = 1000
_LR = {"adamw": 1e-3, "sgd": 1e-2}
_WEIGHT_DECAY = {"adamw": 1e-2, "sgd": 3e-5}


def ask(
    base: TrainingConfig,
    *,
    model: str | None,
    dims: str | None,
    max_minutes: float | None,
    overrides: tuple[str, ...],
) -> TrainingConfig:
    """Return the config with what the user gave on the command line.

    Raises:
        InputError: If a value does not fit, or the time and the number of steps are both given.
    """
    if max_minutes is not None and not 0 < max_minutes < inf:
        msg = f"--max-minutes: expected a number of minutes above 0, got {max_minutes:g}; write for example 60"
        raise InputError(msg)
    asked = base
    for name in [model, *(text for key, _, text in (each.partition("=") for each in overrides) if key == "model.name")]:
        if name is not None and name != asked.model.name:
            # Another network has other options, so all of them start from its defaults.
            model_entry(name)
            asked = asked.model_copy(update={"model": ModelConfig.model_validate({"name": name})})
    assignments = [f"dims={dims}"] * (dims is not None) + [f"max_minutes={max_minutes}"] * (max_minutes is not None)
    asked = override_options(asked, [*assignments, *overrides])
    if max_minutes is not None and asked.steps is not None and base.steps is None:
        msg = "--max-minutes fixes the number of steps, but --set steps is given too; leave one of them out"
        raise InputError(msg)
    return asked


def resolve_device(config: TrainingConfig) -> TrainingConfig:
    """Return the config with the device decided.

    Raises:
        InputError: If a graphics card is asked for where there is none.
    """
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        msg = "device: expected a graphics card, got a machine without one; use --set device=cpu"
        raise InputError(msg)
    device = config.device if config.device != "auto" else "cuda" if available else "cpu"
    return config.model_copy(update={"device": device})


def resolve_sizes(config: TrainingConfig, plan: Plan) -> TrainingConfig:
    """Return the config with dimensions, batch size and optimizer decided.

    Raises:
        InputError: If the plan has no network of these dimensions.
    """
    deep = "3d" in plan.networks and (config.device == "cuda" or "2d" not in plan.networks)
    dims = config.dims or ("3d" if deep else "2d")
    optimizer = config.optimizer
    decided = {
        "lr": optimizer.lr if optimizer.lr is not None else _LR[optimizer.name],
        "weight_decay": optimizer.weight_decay if optimizer.weight_decay is not None else _WEIGHT_DECAY[optimizer.name],
    }
    return config.model_copy(
        update={
            "dims": dims,
            "batch_size": config.batch_size or network_plan(plan, dims).batch_size,
            "optimizer": optimizer.model_copy(update=decided),
        }
    )


def resolve_steps(config: TrainingConfig, validation_cases: int) -> TrainingConfig:
    """Return the config with everything that is counted in steps decided."""
    steps = config.steps or DEFAULT_STEPS
    warmup = config.schedule.warmup_steps
    every = config.validation.every_steps
    updates = {
        "steps": steps,
        "schedule": {"warmup_steps": min(steps - 1, warmup if warmup is not None else min(250, ceil(steps / 20)))},
        "validation": {
            "every_steps": every if every is not None else ceil(steps / 10),
            "cases": config.validation.cases or max(1, min(8, validation_cases)),
        },
        "checkpoint": {"every_steps": config.checkpoint.every_steps or ceil(steps / 10)},
    }
    return updated(config, updates)


def updated(config: TrainingConfig, updates: dict[str, Any]) -> TrainingConfig:
    """Return the config with some values changed, sections by sections."""
    changed = {
        name: getattr(config, name).model_copy(update=value) if isinstance(value, dict) else value
        for name, value in updates.items()
    }
    return config.model_copy(update=changed)


def drifted_keys(asked: TrainingConfig, first_asked: TrainingConfig, resolved: TrainingConfig) -> list[str]:
    """Return the options that a resuming user asks for otherwise than the run has them.

    Args:
        asked: Now.
        first_asked: When the run began.
        resolved: What was decided then: repeating the decided value is no drift either.
    """
    now, first, decided = (flat(config.model_dump(mode="json")) for config in (asked, first_asked, resolved))
    return [key for key in now if now[key] != first.get(key, _MISSING) and now[key] != decided.get(key, _MISSING)]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots.

    Example:
        >>> flat({"a": {"b": 1}, "c": 2})
        {'a.b': 1, 'c': 2}
        >>> flat({"a": [{"b": 1}, {"b": 2}]})
        {'a.0.b': 1, 'a.1.b': 2}
    """
    joined: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list | tuple) and value and all(isinstance(entry, dict) for entry in value):
            joined.update(flat({str(place): entry for place, entry in enumerate(value)}, f"{prefix}{key}."))
        elif isinstance(value, dict) and value:
            joined.update(flat(value, f"{prefix}{key}."))
        else:
            joined[f"{prefix}{key}"] = value
    return joined


_MISSING = object()
