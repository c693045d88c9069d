"""How rare each training case is, and the weight that it has for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from equivox.atomic import atomic_path
from equivox.datasets.cohort import Cohort
from equivox.datasets.plan import Plan
from equivox.datasets.store import Store
from equivox.datasets.text_table import read_text_table
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.losses.rarity import cell_likelihood, density_ranks, mean_one, rarity_weights
from equivox.models.catalog import layer_name
from equivox.parallel import map_cases
from equivox.pipelines.prediction.sliding_window import ready_network, sliding_window_logits
from equivox.pipelines.run_folder import WEIGHTS, RunFolder
from equivox.pipelines.training.groups import training_groups
from equivox.pipelines.training_config import RarityConfig
from equivox.progress import progress_bar

RARITY = "rarity.csv"
"""In the folder of a fold: the likelihood and the weight of each training case."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Embeddings = Mapping[str, Float[np.ndarray, " features"]]
"""case_id -> vector."""


@dataclass(frozen=True, eq=False)
class CaseRarity:
    """The training cases of a fold.

    Attributes:
        case_ids: In the order of their indices.
        likelihood: 1 for the most common, 0 for the rarest that can be; NaN where it is unknown.
        weights: They average 1.
    """

    case_ids: tuple[str, ...]
    likelihood: Float[np.ndarray, " cases"]
    weights: Float[np.ndarray, " cases"]

    def write(self, folder: Path) -> None:
        """Write the table into the folder of a fold, every digit included."""
        import pandas as pd

        folder.mkdir(parents=True, exist_ok=True)
        columns = {"case_id": self.case_ids, "likelihood": self.likelihood, "weight": self.weights}
        with atomic_path(folder / RARITY) as temporary:
            pd.DataFrame(columns).to_csv(temporary, index=False, lineterminator="\n")


def read_rarity(folder: Path) -> CaseRarity:
    """Read the table of a fold.

    Raises:
        InputError: If it is not as it was written.
    """
    path = folder / RARITY
    table = read_text_table(path)
    try:
        likelihood, weights = (
            np.array([float(text or "nan") for text in table[name]]) for name in ("likelihood", "weight")
        )
        case_ids = tuple(table["case_id"])
    except (KeyError, ValueError) as error:
        msg = f"{path}: expected case_id, likelihood and weight of each case, got {error}; copy the run again"
        raise InputError(msg) from None
    if not (np.isfinite(weights) & (weights > 0)).all():
        msg = f"{path}: expected weights above 0, got others; copy the run again"
        raise InputError(msg)
    return CaseRarity(case_ids, likelihood, weights)


def case_rarity(
    config: RarityConfig, cohort: Cohort, case_ids: Sequence[str], embeddings: Embeddings | None = None
) -> CaseRarity:
    """Return the weights of a fold's training cases, computed on these cases alone.

    Args:
        config: By what, and how strongly; not ``none``.
        cohort: With the cases' attributes.
        case_ids: The training cases in the order of their indices.
        embeddings: Where the config goes by them.

    Raises:
        InputError: If the cohort has no such attribute, or fewer than two cells are known.
    """
    if embeddings is None:
        groups = training_groups(cohort, config.attributes, case_ids, where="rarity.attributes")
        likelihood = cell_likelihood([None if cell < 0 else cell for cell in groups.of_case.tolist()])
    else:
        likelihood = density_ranks(np.stack([embeddings[case] for case in case_ids]), neighbours=config.neighbours)
    weights = mean_one(rarity_weights(likelihood, gamma=config.gamma, eta=config.eta))
    return CaseRarity(tuple(case_ids), likelihood, weights)


def case_embeddings(
    config: RarityConfig, plan: Plan, store: Path, keys: Mapping[str, str], device: torch.device, *, workers: int
) -> Embeddings:
    """Return a vector of each prepared case: of the frozen encoder of a run, or simple statistics of the image.

    Args:
        config: Its `run` and `fold`.
        plan: Of the prepared cases.
        store: Folder of the store.
        keys: case_id -> key.
        device: Where the encoder works.
        workers: Processes for the statistics.

    Raises:
        InputError: If the run does not fit, or a case cannot be read.
    """
    if config.run is not None:
        encoder = open_encoder(config, plan)
        return _encoded(encoder, config.fold, Store(store), keys, device)
    tasks = [(store, key) for key in keys.values()]
    found = {}
    outcomes = map_cases(_statistics_of, tasks, workers=workers, description="Rarity")
    for case, outcome in zip(keys, outcomes, strict=True):
        if outcome.result is None:
            msg = f"the rarity of case {case}: {outcome.error}"
            raise InputError(msg)
        found[case] = outcome.result
    return found


def open_encoder(config: RarityConfig, plan: Plan) -> RunFolder:
    """Return the run whose encoder looks at the cases.

    Raises:
        InputError: If there is no such run or fold, or it takes other channels.
    """
    run = RunFolder(Path(config.run or ""))
    run.require_unchanged()
    wanted, came = plan.preprocessing.channels, run.plan.preprocessing.channels
    if wanted != came:
        msg = f"rarity.run {run.path}: expected the channels {', '.join(wanted)}, got {', '.join(came)}; choose another"
        raise InputError(msg)
    if config.fold not in run.folds:
        known = ", ".join(map(str, run.folds)) or "none"
        msg = f"rarity.fold: expected a trained fold of {run.path} ({known}), got {config.fold}; choose another"
        raise InputError(msg)
    return run


def encoder_hash(config: RarityConfig) -> str | None:
    """Return the hash of the encoder's weights; None where there is none."""
    return None if config.run is None else file_sha256(RunFolder(Path(config.run)).fold_folder(config.fold) / WEIGHTS)


def image_statistics(image: Float[np.ndarray, "channels i j k"]) -> Float[np.ndarray, " features"]:
    """Return how large a prepared scan is, and for each channel its values' spread, quantiles and roughness.

    Roughness is the mean absolute difference of neighbours along each axis; 0 along an axis of one voxel. Sizes are
    logarithms of voxels.
    """
    found: list[float] = [*np.log(image.shape[1:])]
    for channel in image:
        values = channel.astype(np.float64)
        steps = [np.abs(np.diff(values, axis=axis)) for axis in range(3)]
        found += [values.mean(), values.std(), *np.quantile(values, _QUANTILES)]
        found += [float(step.mean()) if step.size else 0.0 for step in steps]
    return np.array(found, dtype=np.float64)


def _statistics_of(task: tuple[Path, str]) -> Float[np.ndarray, " features"]:
    store, key = task
    return image_statistics(np.asarray(Store(store).read(key).image))


def _encoded(
    run: RunFolder, fold: int, store: Store, keys: Mapping[str, str], device: torch.device
) -> dict[str, Float[np.ndarray, " features"]]:
    """Average the deepest features over patches that cover each case."""
    pooled = _Pooled(ready_network(run.network(fold), run.network_plan, str(device)))
    found = {}
    with progress_bar() as progress:
        for case in progress.track([*keys], description="Rarity"):
            sliding_window_logits(
                pooled.network,
                np.asarray(store.read(keys[case]).image),
                run.network_plan,
                num_classes=len(run.plan.classes) + 1,
                overlap=0.0,
            )
            found[case] = pooled.take()
    return found


class _Pooled:
    """The mean of a network's deepest features over all that it has seen since it was last taken."""

    def __init__(self, network: nn.Module) -> None:
        self._sum: Tensor | float = 0.0
        self._count = 0
        self.network = network
        network.get_submodule(layer_name(network, "bottleneck")).register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del module, inputs
        self._sum = self._sum + output.double().flatten(2).mean(2).sum(0)
        self._count += len(output)

    def take(self) -> Float[np.ndarray, " features"]:
        mean: Tensor = torch.as_tensor(self._sum) / self._count
        self._sum, self._count = 0.0, 0
        return mean.cpu().numpy()
