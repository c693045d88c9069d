"""A run folder: everything that is needed to use a trained model, and to repeat its training."""

import json
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
from equivox.models.catalog import build_network
from equivox.models.weights import load_network_tensors, network_tensors
from equivox.options import load_options
from equivox.pipelines.training.config import TrainingConfig

CONFIG, PLAN, COHORT, SPLIT = "config.yaml", "plan.yaml", "cohort.yaml", "split.csv"
MANIFEST, CARD, WEIGHTS, METRICS = "manifest.json", "MODEL_CARD.md", "model.safetensors", "metrics.jsonl"


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
        return load_options(Plan, self.path / PLAN)

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
        table = read_text_table(self.path / SPLIT)
        pairs = zip(table["case_id"], table["fold"], strict=True)
        return {str(case): "test" if fold == "test" else int(fold) for case, fold in pairs}

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was trained on what, with which versions; see `pipelines.training.manifest`."""
        manifest: dict[str, Any] = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        return manifest

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds whose training is complete, in order."""
        found = [int(path.parent.name.removeprefix("fold_")) for path in self.path.glob(f"fold_*/{WEIGHTS}")]
        return tuple(sorted(found))

    def fold_folder(self, fold: int) -> Path:
        """Return the folder of one fold; it need not exist yet."""
        return self.path / f"fold_{fold}"

    def network(self, fold: int) -> nn.Module:
        """Return one fold's trained network, in eval mode, on the processor.

        Its weights are the last EMA weights of the training. Its forward takes ``(batch, channels, *spatial)`` and
        returns a tuple of one tensor of logits, ``(batch, classes, *spatial)``.

        Raises:
            InputError: If that fold is not trained, or its weights do not fit the config.
        """
        path = self.fold_folder(fold) / WEIGHTS
        if not path.is_file():
            msg = f"{path}: expected the weights of fold {fold}, got no file; trained here: {list(self.folds)}"
            raise InputError(msg)
        network = self.build_network()
        try:
            load_network_tensors(network, read_tensors(path), str(path))
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
    """Write named tensors as safetensors, whole or not at all."""
    with atomic_path(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=facts)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors, on the processor.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        msg = f"{path}: expected safetensors, got a damaged file ({error}); copy it again"
        raise InputError(msg) from None
