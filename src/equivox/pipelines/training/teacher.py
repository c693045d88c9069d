"""A trained network that another one learns from."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from equivox.datasets.plan import NetworkPlan, Plan
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.models.layout import with_channels_last
from equivox.models.sides import side_divisors
from equivox.pipelines.run_folder import MANIFEST, WEIGHTS, RunFolder
from equivox.pipelines.training_config import TeacherConfig

logger = logging.getLogger(__name__)


def open_teacher(config: TeacherConfig, plan: Plan, network: NetworkPlan) -> RunFolder:
    """Return the teacher's run folder, if its networks can be asked about the patches of a plan.

    Args:
        config: Which run.
        plan: Of what is trained.
        network: The plan's section that is trained.

    Raises:
        InputError: If there is no such run, or its classes, channels, dimensions or strides do not fit.
    """
    run = RunFolder(Path(config.run or ""))
    run.require_unchanged()
    theirs = run.plan
    for what, wanted, came in (
        ("the classes", plan.classes, theirs.classes),
        ("the channels", plan.preprocessing.channels, theirs.preprocessing.channels),
        ("the dimensions", network.dimensions, run.network_plan.dimensions),
    ):
        if wanted != came:
            msg = f"teacher.run {run.path}: expected {what} that are trained ({_text(wanted)}), got {_text(came)}; "
            msg += "choose another run"
            raise InputError(msg)
    divisors = side_divisors(run.network_plan.strides)
    if any(side % divisor for side, divisor in zip(network.patch_size, divisors, strict=True)):
        msg = f"teacher.run {run.path}: expected a network for patches of {_text(network.patch_size)}, got one whose "
        msg += f"sides must be divisible by {_text(divisors)}; choose another run, or other patches in the plan"
        raise InputError(msg)
    ours, other = (each.preprocessing.model_dump(mode="json") for each in (plan, theirs))
    differing = sorted(key for key in ours if ours[key] != other.get(key))
    if differing:
        logger.warning(
            "teacher.run %s was trained on scans that were prepared otherwise (%s): what it says of these patches may "
            "be worth less",
            run.path,
            ", ".join(differing),
        )
    return run


def teacher_fold(config: TeacherConfig, fold: int) -> int:
    """Return which of the teacher's folds teaches a fold."""
    return fold if config.fold is None else config.fold


def require_teacher_fold(config: TeacherConfig, run: RunFolder, fold: int, validated: Sequence[str]) -> None:
    """Refuse a fold that the teacher does not have, and warn of one that was trained on what is validated here.

    Raises:
        InputError: If the teacher has no such fold.
    """
    number = teacher_fold(config, fold)
    if number not in run.folds:
        known = ", ".join(map(str, run.folds)) or "none"
        msg = f"teacher.fold: expected one of the trained folds of {run.path} ({known}), got {number}; choose another"
        raise InputError(msg)
    facts = run.manifest["folds"].get(str(number), {}) if (run.path / MANIFEST).is_file() else {}
    seen = {*facts.get("training_cases", ())} & {*validated}
    if seen:
        logger.warning(
            "teacher.run %s, fold %d, was trained on %d of the cases that fold %d validates, first %s: what the "
            "teacher knows of them reaches the network",
            run.path,
            number,
            len(seen),
            fold,
            min(seen),
        )


def load_teacher(config: TeacherConfig, run: RunFolder, fold: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function from patches to the teacher's logits, without a gradient."""
    network = run.network(teacher_fold(config, fold)).requires_grad_(requires_grad=False).to(device)
    network = with_channels_last(network, run.network_plan.dimensions) if device.type == "cpu" else network
    return _Logits(network)


def teacher_hashes(config: TeacherConfig) -> dict[str, str]:
    """Return the hash of the weights of each of the teacher's folds; empty where there is no teacher."""
    if config.run is None:
        return {}
    run = RunFolder(Path(config.run))
    return {str(fold): file_sha256(run.fold_folder(fold) / WEIGHTS) for fold in run.folds}


class _Logits:
    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            outputs: tuple[Tensor, ...] = self.network(image)
        return outputs[0]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {index}" for name, index in value.items())
    return " x ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
