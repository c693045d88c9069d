"""The state of a run on disk: tensors as safetensors, numbers as JSON, whole or not at all."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equivox.atomic import atomic_folder
from equivox.errors import InputError, one_line
from equivox.models.weights import load_network_tensors, network_tensors
from equivox.pipelines.run_folder import read_tensors, write_tensors
from equivox.pipelines.training.learner import Learner

_STATE, _NETWORK, _EMA, _OPTIMIZER = "state.json", "network.safetensors", "ema.safetensors", "optimizer.safetensors"
_OBJECTIVE = "objective.safetensors"


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        steps_done: Updates so far; the next step has this number.
        losses: Of the steps since the last line of the log, so that a resumed run logs the same means.
        seconds: Time spent in training so far, over all sittings.
        validated: The step after which cases were last validated: a signal may come before or within a validation.
        terms: Term of the loss -> its sum and the number of steps since the last line of the log.
    """

    steps_done: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    validated: int = 0
    terms: dict[str, list[float]] = field(default_factory=dict)


def save_checkpoint(folder: Path, learner: Learner, progress: Progress) -> None:
    """Write the state as ``folder/step_<n>``, then remove the older ones.

    The new folder takes its name only when it is whole, so at every moment there is a whole checkpoint.
    """
    target = folder / f"step_{progress.steps_done:09d}"
    with atomic_folder(target) as temporary:
        write_tensors(network_tensors(learner.network), temporary / _NETWORK)
        write_tensors(network_tensors(learner.ema.network), temporary / _EMA)
        # Learned weights of terms, running errors of groups: resuming without them would be another run.
        if of_the_objective := learner.objective.state_dict():
            write_tensors(of_the_objective, temporary / _OBJECTIVE)
        tensors, scalars = _optimizer_state(learner)
        write_tensors(tensors, temporary / _OPTIMIZER)
        state = {"progress": progress.__dict__, "optimizer": scalars}
        (temporary / _STATE).write_text(json.dumps(state), encoding="utf-8")
    for other in folder.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def load_checkpoint(folder: Path, learner: Learner) -> Progress | None:
    """Put the newest state into the learner and return how far it is; None where there is no state.

    Raises:
        InputError: If the state is damaged or of another network.
    """
    found = sorted(folder.glob("step_*"))
    if not found:
        return None
    newest = found[-1]
    try:
        state = json.loads((newest / _STATE).read_text(encoding="utf-8"))
        _fill(learner.network, newest / _NETWORK)
        _fill(learner.ema.network, newest / _EMA)
        if learner.objective.state_dict():
            learner.objective.load_state_dict(read_tensors(newest / _OBJECTIVE))
        _set_optimizer_state(learner, read_tensors(newest / _OPTIMIZER), state["optimizer"])
        return _checked(Progress(**state["progress"]), learner.config.steps)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        came, _, _ = one_line(error).partition("; ")  # a checkpoint has a remedy of its own
        if isinstance(error, LookupError | TypeError | AttributeError):
            came = "other entries"
        msg = f"{newest}: expected a whole checkpoint of this run, got {came}; remove it and run again with --resume"
        raise InputError(msg) from None


def _checked(progress: Progress, steps: int | None) -> Progress:
    """Return the progress of a file if its numbers can be."""
    counts = (progress.steps_done, progress.validated)
    most = steps or max(counts)
    sound = all(isinstance(count, int) and 0 <= count <= most for count in counts)
    if not sound or not all(isinstance(number, int | float) for number in (progress.seconds, *progress.losses)):
        msg = f"step {progress.steps_done} of {steps}, or numbers that are none"
        raise ValueError(msg)
    return progress


def _fill(network: nn.Module, path: Path) -> None:
    load_network_tensors(network, read_tensors(path), str(path))


def _names(learner: Learner) -> dict[Tensor, str]:
    own: dict[Tensor, str] = {parameter: name for name, parameter in learner.network.named_parameters()}
    return own | {parameter: f"objective:{name}" for name, parameter in learner.objective.named_parameters()}


def _optimizer_state(learner: Learner) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Return the optimizer's tensors as ``parameter/entry``, and its numbers likewise."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    names = _names(learner)
    for parameter, entries in learner.optimizer.state.items():
        for entry, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{names[parameter]}/{entry}"] = value.detach()
            elif value is not None:
                scalars.setdefault(names[parameter], {})[entry] = value
    return tensors, scalars


def _set_optimizer_state(learner: Learner, tensors: dict[str, Tensor], scalars: dict[str, dict[str, Any]]) -> None:
    parameters = {name: parameter for parameter, name in _names(learner).items()}
    learner.optimizer.state.clear()
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition("/")
        parameter = parameters[name]
        if tensor.shape == parameter.shape:
            # In a file the channels are first; the optimizer wants each tensor laid out as its parameter.
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        learner.optimizer.state[parameter][entry] = tensor.to(parameter.device)
    for name, entries in scalars.items():
        learner.optimizer.state[parameters[name]].update(entries)
