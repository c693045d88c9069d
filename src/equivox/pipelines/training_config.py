"""Everything that a user can choose of a training run: the `config.yaml` of a run folder."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_serializer, model_validator

from equivox.datasets.transforms import AugmentationOptions, moving_changes
from equivox.errors import InputError
from equivox.losses.catalog import loss_entry
from equivox.losses.term_weights import LossWeighting
from equivox.models.catalog import model_entry
from equivox.options import Options, parse_options, suggestion


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


class LossTerm(Options):
    """One term of the loss. In a file, the loss's own options stand beside these, on the same level.

    Attributes:
        name: A key of `equivox.losses.catalog.LOSSES`.
        weight: Its factor in the sum.
        start_after: Share of the training before which it does not count.
        ramp: Share of the training over which its factor then rises to `weight`.
        options: The loss's own options, written out in full.
    """

    name: str = "dice_ce"
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    start_after: float = Field(default=0.0, ge=0, lt=1)
    ramp: float = Field(default=0.0, ge=0, le=1)
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _with_all_options(cls, values: Any) -> Any:
        if isinstance(values, str):
            values = {"name": values}
        if not isinstance(values, dict):
            return values
        own = {key: value for key, value in values.items() if key not in cls.model_fields}
        rest = {key: value for key, value in values.items() if key in cls.model_fields}
        name = rest.get("name", "dice_ce")
        given = {**(rest.get("options") or {}), **own}
        entry = loss_entry(name)
        known = [*entry.options.model_fields, *(key for key in cls.model_fields if key != "options")]
        for key in given:
            if key not in known:
                msg = f"loss {name}: unknown key '{key}'{suggestion(key, known)}"
                raise InputError(msg)
        options = parse_options(entry.options, given, f"loss {name}")
        return {**rest, "name": name, "options": options.model_dump(mode="json")}

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        shared = {"name": self.name, "weight": self.weight, "start_after": self.start_after, "ramp": self.ramp}
        return shared | self.options


class FairnessConfig(Options):
    """How training looks after groups of patients.

    Attributes:
        attribute: The attribute of the cohort, or several whose intersections are the groups; empty: no groups.
        method: ``none`` only logs each group's loss; ``inverse_frequency``, ``group_dro`` and ``febs_corrected`` weigh
            samples (see `equivox.losses.group_weights.GroupWeights`); ``balanced_sampling`` draws as many patches from
            each group; ``adversarial`` keeps the network's deepest features from telling the group;
            ``febs_published`` trains with the loss `febs_published` alone, for comparison.
        gamma: Exponent of febs_corrected and febs_published.
        clip: Smallest and largest weight of febs_corrected.
        step_size: How fast group_dro moves.
        momentum: Of the running means of the groups' losses.
        strength: How strongly the adversary is reversed; it rises from 0 over the first half of the training.
    """

    attribute: tuple[str, ...] = ()
    method: Literal[
        "none",
        "inverse_frequency",
        "balanced_sampling",
        "group_dro",
        "febs_corrected",
        "febs_published",
        "adversarial",
    ] = "none"
    gamma: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    clip: tuple[float, float] = (0.5, 2.0)
    step_size: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    strength: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    @field_validator("attribute", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("clip")
    @classmethod
    def _clip_rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= 1 <= value[1] < float("inf"):
            msg = "expected two numbers around 1, such as [0.5, 2]"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _method_has_groups(self) -> "FairnessConfig":
        if self.method != "none" and not self.attribute:
            msg = f"method '{self.method}' needs groups; name an attribute of the cohort under 'attribute'"
            raise ValueError(msg)
        return self


class RarityConfig(Options):
    """Whether rare cases count more; see `equivox.losses.rarity`.

    Attributes:
        by: ``embedding``: a case is rare where few others look like it; ``attributes``: where few others share its
            values; ``none``: all count alike. Among the training cases of the fold alone.
        attributes: Attributes of the cohort; cases are counted by the combination of their values. A case of which one
            is unknown has the mean weight.
        run: Run folder whose frozen encoder gives the embeddings; None takes simple statistics of the prepared image
            (size, values, roughness).
        fold: Which of that run's networks.
        neighbours: Nearest cases over which the distance is averaged.
        gamma: The larger, the fewer of the rarest cases gain weight.
        eta: The smaller, the more the weights differ: the rarest has at most ``(eta + 1) / eta`` times the weight of
            the most common.
        use: ``loss`` multiplies the loss of a case's patches by its weight; ``sampling`` draws its patches as much
            more often, which is the same on average and steadier.
    """

    by: Literal["none", "embedding", "attributes"] = "none"
    attributes: tuple[str, ...] = ()
    run: str | None = None
    fold: int = Field(default=0, ge=0)
    neighbours: int = Field(default=5, ge=1)
    gamma: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    eta: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    use: Literal["loss", "sampling"] = "loss"

    @field_validator("attributes", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _by_what_is_given(self) -> "RarityConfig":
        if (self.by == "attributes") != bool(self.attributes):
            msg = f"by '{self.by}' with attributes {list(self.attributes)}: name attributes of the cohort under "
            msg += "'attributes' and give by 'attributes', or leave both out"
            raise ValueError(msg)
        if self.run is not None and self.by != "embedding":
            msg = f"'run' gives embeddings, and rarity goes by '{self.by}'; give by 'embedding', or leave it out"
            raise ValueError(msg)
        return self


class SharpnessConfig(Options):
    """Whether training looks for weights around which the loss is flat.

    Attributes:
        method: ``sam`` and ``asam`` take each step's gradient where the loss is highest nearby, for twice the time; see
            `equivox.pipelines.training.sharpness`. Of several processes each climbs by its own patches. ``mesa`` adds
            the divergence from what the running mean of the weights says of the same patches, for one more forward
            pass.
        rho: Of sam and asam: how far the weights are moved; None takes 0.05 for sam, 2 for asam.
        weight: Of mesa.
        temperature: Of mesa.
        start_after: Of mesa: share of the training before which it does not count and costs nothing; the running mean
            knows little at first.
    """

    method: Literal["none", "sam", "asam", "mesa"] = "none"
    rho: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    weight: float = Field(default=0.3, gt=0, allow_inf_nan=False)
    temperature: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    start_after: float = Field(default=0.2, ge=0, lt=1)

    @property
    def radius(self) -> float:
        """How far sam or asam moves the weights."""
        return self.rho if self.rho is not None else {"asam": 2.0}.get(self.method, 0.05)


class RobustnessConfig(Options):
    """Whether training keeps the margins of the classes where the image is disturbed.

    Each step looks for images nearby whose margins differ the most, and adds how far they differ: about
    2 + `steps` times the work of a step. Processes look from different places, so that their number changes the result.

    Attributes:
        weight: Of the change of margins; 0 does not look.
        radius: Largest root mean squared change of a patch, in the unit of the prepared image.
        steps: Of the search.
        start_after: Share of the training before which it does not count and costs nothing.
    """

    weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    radius: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    steps: int = Field(default=2, ge=1)
    start_after: float = Field(default=0.2, ge=0, lt=1)


class TeacherConfig(Options):
    """A trained network whose logits some losses compare with.

    Attributes:
        run: Its run folder; None where no loss needs one. It must have the classes, the channels and the dimensions of
            what is trained.
        fold: Which of its networks; None takes that of the fold that is trained, which saw none of the fold's cases
            where both runs have the same split.
    """

    run: str | None = None
    fold: int | None = Field(default=None, ge=0)


class FeaturesConfig(Options):
    """A trained network whose features some losses compare; give a run or a TorchScript file.

    Attributes:
        run: Its run folder.
        fold: Which of the run's networks.
        layers: Names of modules of the run's network; empty takes its deepest features.
        torchscript: A file whose network takes an image, and may take a number of layers, statistics and a direction.
        trust: That the TorchScript file comes from somebody who may run any code here.
        channels: Of the images that the TorchScript network takes.
        outputs: How many of the TorchScript network's outputs are compared, from the first on.
    """

    run: str | None = None
    fold: int = Field(default=0, ge=0)
    layers: tuple[str, ...] = ()
    torchscript: str | None = None
    trust: bool = False
    channels: int = Field(default=1, ge=1)
    outputs: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_network(self) -> "FeaturesConfig":
        if self.run is not None and self.torchscript is not None:
            msg = "expected a run or a torchscript, got both; leave one of them out"
            raise ValueError(msg)
        return self

    @property
    def given(self) -> bool:
        """Whether there is a network."""
        return self.run is not None or self.torchscript is not None


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
        loss: The terms of the loss, which are added up.
        loss_weighting: ``uncertainty`` learns a factor of each term; see `equivox.losses.term_weights.TermWeights`.
        teacher: A trained network whose logits some losses compare with.
        features: A trained network whose features some losses compare.
        fairness: How training looks after groups of patients.
        rarity: Whether rare cases count more.
        sharpness: Whether training looks for weights around which the loss is flat.
        robustness: Whether training keeps the margins of the classes where the image is disturbed.
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
    loss: tuple[LossTerm, ...] = Field(default=(LossTerm(),), min_length=1)
    loss_weighting: LossWeighting = "fixed"
    teacher: TeacherConfig = Field(default_factory=TeacherConfig)
    features: FeaturesConfig = Field(default_factory=FeaturesConfig)
    fairness: FairnessConfig = Field(default_factory=FairnessConfig)
    rarity: RarityConfig = Field(default_factory=RarityConfig)
    sharpness: SharpnessConfig = Field(default_factory=SharpnessConfig)
    robustness: RobustnessConfig = Field(default_factory=RobustnessConfig)
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

    @field_validator("loss", mode="before")
    @classmethod
    def _terms(cls, value: Any) -> Any:
        """Take a single loss for a list of one."""
        return [value] if isinstance(value, str | dict) else value

    @model_validator(mode="after")
    def _published_alone(self) -> "TrainingConfig":
        """Give the published method its loss, where the user named no other."""
        if self.fairness.method == "febs_published":
            default = self.loss == (LossTerm(),)
            if not default and any(term.name != "febs_published" for term in self.loss):
                msg = "fairness.method febs_published trains with its own loss alone; leave out 'loss', or the method"
                raise ValueError(msg)
            if default:
                term = LossTerm.model_validate({"name": "febs_published", "gamma": self.fairness.gamma})
                object.__setattr__(self, "loss", (term,))
        elif "group" in self.needs and not self.fairness.attribute:
            msg = "a term of the loss needs groups; name an attribute of the cohort under 'fairness.attribute'"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _terms_have_what_they_need(self) -> "TrainingConfig":
        negative = [term.name for term in self.loss if loss_entry(term.name).can_be_negative]
        if self.loss_weighting == "uncertainty" and negative:
            msg = (
                f"loss_weighting 'uncertainty' needs terms that are never negative, and {negative[0]} can be; use fixed"
            )
            raise ValueError(msg)
        for need, given, what in (
            ("teacher", self.teacher.run is not None, "a run folder as 'teacher.run'"),
            ("features", self.features.given, "'features.run' or 'features.torchscript'"),
        ):
            names = [term.name for term in self.loss if need in loss_entry(term.name).needs]
            if names and not given:
                msg = f"the loss {names[0]} needs another network; give {what}"
                raise ValueError(msg)
            if given and not names:
                msg = f"'{need}' names a network, but no term of the loss needs it; add such a term, or leave it out"
                raise ValueError(msg)
        moved = moving_changes(self.augmentation) if self.augment and "projections" in self.needs else ()
        if moved:
            remedy = "give augmentation.affine_probability=0"
            if moved[0] != "affine_probability":
                remedy = "leave it out of augmentation.extra_transforms"
            msg = "a loss of the projection of the whole volume can be mirrored and not turned, scaled or bent, and "
            msg += f"'{moved[0]}' of the augmentation moves structures; {remedy}, or 'target: patch' to the loss"
            raise ValueError(msg)
        sampled = self.rarity.by != "none" and self.rarity.use == "sampling"
        if sampled and self.fairness.method == "balanced_sampling":
            msg = "rarity.use 'sampling' and fairness.method 'balanced_sampling' both say how often a case is drawn; "
            msg += "give rarity.use=loss, or another method"
            raise ValueError(msg)
        if self.robustness.weight and self.fairness.method == "adversarial":
            msg = "'robustness' shows the network twice as many patches, and the adversary of 'fairness' knows the "
            msg += "groups of half of them; leave one of them out"
            raise ValueError(msg)
        if self.sharpness.method == "mesa" and self.ema.decay == 0:
            msg = "sharpness.method 'mesa' compares with the running mean of the weights; give 'ema.decay' above 0"
            raise ValueError(msg)
        return self

    @property
    def needs(self) -> frozenset[str]:
        """What the terms of the loss ask of a batch, by the names of `equivox.losses.context.CaseContext`."""
        return frozenset(need for term in self.loss for need in loss_entry(term.name).needs_with(term.options))

    @property
    def loss_labels(self) -> tuple[str, ...]:
        """What the log calls each term: its name, with a number where several have the same."""
        names = [term.name for term in self.loss]
        return tuple(
            name if names.count(name) == 1 else f"{name}_{1 + names[:place].count(name)}"
            for place, name in enumerate(names)
        )


def _filled(values: Any, default: str, options_of: Any, where: str) -> Any:
    """Write out the named thing's options in full, so that the saved config says them all."""
    if not isinstance(values, dict):
        return values
    name = values.get("name", default)
    options = parse_options(options_of(name), values.get("options") or {}, where)
    return {**values, "name": name, "options": options.model_dump(mode="json")}
