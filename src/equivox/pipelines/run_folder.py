"""A run folder: everything that is needed to use a trained model, and to repeat its training."""

import json
import logging
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from equivox.atomic import atomic_path
from equivox.datasets.cohort import CohortConfig
from equivox.datasets.plan import NetworkPlan, Plan
from equivox.datasets.text_table import read_text_table
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.models.catalog import build_network
from equivox.models.weights import load_network_tensors, network_tensors
from equivox.options import load_options
from equivox.pipelines.training_config import TrainingConfig

CONFIG, PLAN, COHORT, SPLIT = "config.yaml", "plan.yaml", "cohort.yaml", "split.csv"
MANIFEST, CARD, WEIGHTS, METRICS = "manifest.json", "MODEL_CARD.md", "model.safetensors", "metrics.jsonl"
HASHED = (CONFIG, PLAN, COHORT, SPLIT)
"""Files of the run whose hashes are in the manifest, as ``run/config.yaml`` and so on."""
_OF_A_MANIFEST = ("asked", "hashes", "cases", "folds")

_SYSTEM_CODE = re.compile(r"os error (\d+)")

logger = logging.getLogger(__name__)


class RunFolder:
    """A run folder on disk.

    ``RUN/{config.yaml, plan.yaml, cohort.yaml, split.csv, manifest.json, MODEL_CARD.md}`` and for each fold
    ``RUN/fold_K/{model.safetensors, metrics.jsonl, checkpoint/, tensorboard/}``. Nothing in it is a pickle.

    Args:
        path: The folder.

    Raises:
        InputError: If it is not a run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / CONFIG).is_file():
            msg = f"{path}: expected a run folder with {CONFIG}, got none; give the --out of 'equivox train'"
            raise InputError(msg)

    @cached_property
    def config(self) -> TrainingConfig:
        """The resolved `config.yaml`."""
        config = load_options(TrainingConfig, self.path / CONFIG)
        if config.dims is None:
            msg = f"{self.path / CONFIG}: expected the config of a run, got one without 'dims'; copy the run again"
            raise InputError(msg)
        return config

    @cached_property
    def plan(self) -> Plan:
        """The plan that the networks were trained with."""
        plan = load_options(Plan, self.path / PLAN)
        plan.require_cohort(self.cohort_config, self.path / PLAN)
        return plan

    @cached_property
    def network_plan(self) -> NetworkPlan:
        """The section of the plan for the dimensions that were trained."""
        return network_plan(self.plan, self.config.dims)

    @cached_property
    def cohort_config(self) -> CohortConfig:
        """The `cohort.yaml` of the cohort that it was trained on."""
        return load_options(CohortConfig, self.path / COHORT)

    @cached_property
    def split(self) -> dict[str, int | Literal["test"]]:
        """Case -> fold or ``test``, as it was at training."""
        path = self.path / SPLIT
        table = read_text_table(path)
        try:
            pairs = list(zip(table["case_id"], table["fold"], strict=True))
            return {str(case): "test" if fold == "test" else int(fold) for case, fold in pairs}
        except (KeyError, ValueError) as error:
            msg = f"{path}: expected a fold or 'test' for each case_id, got {error}; copy the run again"
            raise InputError(msg) from None

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was trained on what, with which versions; see `pipelines.training.manifest`."""
        path = self.path / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            msg = f"{path}: expected JSON, got {error}; copy the run again"
            raise InputError(msg) from None
        whole = isinstance(manifest, dict) and all(isinstance(manifest.get(name), dict) for name in _OF_A_MANIFEST)
        inner = [entry for name in ("cases", "folds") for entry in manifest[name].values()] if whole else []
        if not whole or not all(isinstance(entry, dict) for entry in inner):
            msg = f"{path}: expected the manifest of a run, got other JSON; copy the run again"
            raise InputError(msg)
        return dict(manifest)

    def require_unchanged(self) -> None:
        """Refuse a run whose files are not as the training wrote them: a file cut short can still be read.

        Raises:
            InputError: If a file differs from its hash in the manifest, or the manifest is damaged.
        """
        if not (self.path / MANIFEST).exists():
            logger.warning("%s: there is no %s, so nobody can tell whether the run is whole", self.path, MANIFEST)
            return
        for name in HASHED:
            path, recorded = self.path / name, self.manifest["hashes"].get(f"run/{name}")
            if recorded and not (path.is_file() and file_sha256(path) == recorded):
                msg = f"{path}: expected the file as the training wrote it, got another or none; copy the run again"
                raise InputError(msg)

    def _require_weights_unchanged(self, fold: int) -> None:
        if (self.path / MANIFEST).exists():
            path = self.fold_folder(fold) / WEIGHTS
            recorded = self.manifest["folds"].get(str(fold), {}).get("weights_sha256")
            if recorded and file_sha256(path) != recorded:
                msg = f"{path}: expected the weights as the training wrote them, got others; copy the run again"
                raise InputError(msg)

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds whose training is complete, in order."""
        found = [
            path.parent.name.removeprefix("fold_") for path in self.path.glob(f"fold_*/{WEIGHTS}") if path.is_file()
        ]
        return tuple(sorted(int(name) for name in found if name.isdecimal()))

    def fold_folder(self, fold: int) -> Path:
        """Return the folder of one fold; it need not exist yet."""
        return self.path / f"fold_{fold}"

    def network(self, fold: int) -> nn.Module:
        """Return one fold's trained network, in eval mode, on the processor.

        Its weights are the last EMA weights of the training. Its forward takes ``(batch, channels, *spatial)`` and
        returns a tuple of one tensor of logits, ``(batch, classes, *spatial)``.

        Raises:
            InputError: If that fold is not trained, or its weights are not those that the training wrote, or do not fit
                the config.
        """
        path = self.fold_folder(fold) / WEIGHTS
        if not path.is_file():
            msg = f"{path}: expected the weights of fold {fold}, got no file; trained here: {list(self.folds)}"
            raise InputError(msg)
        self._require_weights_unchanged(fold)
        network, tensors = self.build_network(), read_tensors(path)
        try:
            load_network_tensors(network, tensors, str(path))
        except ValueError as error:
            msg = f"{error}; is {CONFIG} or {PLAN} from another run?"
            raise InputError(msg) from None
        return network.eval()

    def build_network(self) -> nn.Module:
        """Build the run's network, untrained, with weights from torch's generator."""
        channels, classes = self.plan.preprocessing.image_channels, len(self.plan.classes) + 1
        model = self.config.model
        return build_network(model.name, model.options, self.network_plan, channels, classes)


def network_plan(plan: Plan, dims: Literal["2d", "3d"] | None) -> NetworkPlan:
    """Return a section of the plan.

    Raises:
        InputError: If the plan has none of these dimensions.
    """
    if dims is None or dims not in plan.networks:
        msg = f"dims: expected one of {', '.join(plan.networks)} of the plan, got {dims}; choose one with --dims"
        raise InputError(msg)
    return plan.networks[dims]


def write_weights(network: nn.Module, path: Path, facts: dict[str, str]) -> None:
    """Write a network's tensors as safetensors, whole or not at all, with facts as its metadata."""
    write_tensors(network_tensors(network), path, facts)


def write_tensors(tensors: dict[str, Tensor], path: Path, facts: dict[str, str] | None = None) -> None:
    """Write named tensors as safetensors, whole or not at all.

    Raises:
        OSError: If the system refuses, a full disk for example; safetensors has an error of its own for that.
    """
    with atomic_path(path) as temporary:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=facts)
        except SafetensorError as error:
            code = _SYSTEM_CODE.search(str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors, on the processor.

    Raises:
        InputError: If the file is damaged or missing.
    """
    if not path.is_file():
        msg = f"{path}: expected safetensors, got no file; copy it again"
        raise InputError(msg)
    try:
        with safe_open(path, framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        msg = f"{path}: expected safetensors, got a damaged file ({error}); copy it again"
        raise InputError(msg) from None
