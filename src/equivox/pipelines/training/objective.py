"""What a step makes smaller: the terms of the loss, weighed by group, and the adversary's part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equivox.losses.agreement import divergence
from equivox.losses.catalog import build_term, loss_entry
from equivox.losses.combined import CombinedLoss
from equivox.losses.context import CaseContext
from equivox.losses.group_adversary import GroupAdversary
from equivox.losses.group_weights import GroupErrors, GroupWeights, group_shares
from equivox.losses.margins import margin_change
from equivox.models.catalog import layer_name
from equivox.pipelines.training.batches import Batch
from equivox.pipelines.training.groups import TrainingGroups
from equivox.pipelines.training_config import FairnessConfig, TrainingConfig

_RAMP = 0.5
"""Share of the training over which the adversary gains its strength: at first there is nothing to hide."""


@dataclass(frozen=True)
class CaseFacts:
    """What a run knows besides the images and labels of its training cases.

    Attributes:
        groups: The groups of patients that it looks after, if any.
        spacing_mm: Voxel sides of the patches along the network's axes; None where they are not real.
        bottleneck_channels: Of the network's deepest features.
        teacher: Gives another network's logits of patches, without a gradient.
        features: Gives what another network sees in images, one tensor a layer; gradients reach the images.
        case_weights: Weight of each training case's loss, averaging 1; None where all count alike.
    """

    groups: TrainingGroups | None = None
    spacing_mm: tuple[float, ...] | None = None
    bottleneck_channels: int = 0
    teacher: Callable[[Tensor], Tensor] | None = None
    features: Callable[[Tensor], Sequence[Tensor]] | None = None
    case_weights: Float[Tensor, " cases"] | None = None


@dataclass(frozen=True, eq=False)
class ObjectiveValues:
    """What a batch's share gave.

    Attributes:
        total: One value a sample, which is to become smaller.
        terms: Term -> one value a sample, without weights and without a gradient.
        groups: Group -> running mean of its loss, for the groups seen so far.
        weights: Term -> its learned factor, where there is one.
    """

    total: Float[Tensor, " batch"]
    terms: dict[str, Float[Tensor, " batch"]]
    groups: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module):
    """The loss of a run, and what looks after groups. Its parameters are trained, its state is saved.

    Args:
        config: Of the run.
        facts: Of the training cases.
        network: Its deepest features are watched where an adversary needs them.
    """

    def __init__(self, config: TrainingConfig, facts: CaseFacts, network: nn.Module) -> None:
        super().__init__()
        self.facts = facts
        self.loss = CombinedLoss(
            [
                build_term(
                    term.name,
                    term.options,
                    label=label,
                    weight=term.weight,
                    start_after=term.start_after,
                    ramp=term.ramp,
                )
                for term, label in zip(config.loss, config.loss_labels, strict=True)
            ],
            config.loss_weighting,
        )
        self.for_teacher = tuple("teacher" in loss_entry(term.name).needs for term in config.loss)
        self.sharpness, self.robustness = config.sharpness, config.robustness
        groups = facts.groups
        self.weights = None if groups is None else _weights(config.fairness, groups)
        self.adversary: GroupAdversary | None = None
        self.strength = config.fairness.strength
        self._features: Tensor | None = None
        if groups is not None and config.fairness.method == "adversarial":
            self.adversary = GroupAdversary(facts.bottleneck_channels, len(groups.names))
            network.get_submodule(layer_name(network, "bottleneck")).register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del module, inputs
        if torch.is_grad_enabled():
            self._features = output

    def context(
        self, batch: Batch, step: int, progress: float, sum_over_processes: Callable[[Tensor], Tensor]
    ) -> CaseContext:
        """Return what the loss may know of a batch; the teacher is asked about its images where a term needs it."""
        groups, case_index = self.facts.groups, batch.case_index
        asked = any(
            needed and term.factor(progress) > 0 for needed, term in zip(self.for_teacher, self.loss.terms, strict=True)
        )
        teacher = self.facts.teacher if asked else None
        return CaseContext(
            case_index,
            step,
            progress,
            sum_over_processes,
            group=None if groups is None else groups.of_case.to(case_index.device)[case_index],
            groups=0 if groups is None else len(groups.names),
            spacing_mm=self.facts.spacing_mm,
            projections=dict(enumerate(batch.projections)),
            skeleton=batch.skeleton,
            teacher=None if teacher is None else teacher(batch.image),
            features=self.facts.features,
        )

    def wants_reference(self, progress: float) -> bool:
        """Tell whether the logits of the running mean of the weights count at some share of the training."""
        return self.sharpness.method == "mesa" and progress >= self.sharpness.start_after

    def wants_disturbance(self, progress: float) -> bool:
        """Tell whether the margins of disturbed patches count at some share of the training."""
        return self.robustness.weight > 0 and progress >= self.robustness.start_after

    def per_sample(
        self,
        outputs: Sequence[Tensor],
        label: Tensor,
        context: CaseContext,
        *,
        reference: Tensor | None = None,
        disturbed: Tensor | None = None,
    ) -> ObjectiveValues:
        """Return what each sample adds to the objective.

        Args:
            outputs: Logits of each head, of the forward pass just done.
            label: Class of each voxel.
            context: As `context` makes it.
            reference: What the running mean of the weights says of the patches, where it counts.
            disturbed: What the network says of disturbed patches, where that counts.
        """
        values = self.loss.per_sample(outputs, label, context)
        total, terms = values.total, dict(values.terms)
        if self.weights is not None and self.facts.groups is not None:
            total = total * self.weights(values.total, context)
        if self.facts.case_weights is not None and context.case_index is not None:
            total = total * self.facts.case_weights.to(total.device)[context.case_index]
        if self.adversary is not None and self._features is not None and context.group is not None:
            strength = self.strength * min(1.0, context.progress / _RAMP)
            found = self.adversary(self._features, context.group, strength)
            total, self._features = total + found, None
            terms["adversary"] = found.detach()
        if reference is not None:
            sharpness = self.sharpness
            found = divergence(reference.float(), outputs[0].float(), sharpness.temperature).flatten(1).mean(1)
            total = total + sharpness.weight * found
            terms["mesa"] = found.detach()
        if disturbed is not None:
            found = margin_change(outputs[0], disturbed, label)
            total = total + self.robustness.weight * found
            terms["robustness"] = found.detach()
        # Once in the mean over the batch, whatever the samples weigh.
        return ObjectiveValues(total + values.penalty, terms, self.group_errors(), values.learned)

    def group_errors(self) -> dict[str, float]:
        """Return the running mean of each group's loss, of the groups seen so far."""
        if self.weights is None or self.facts.groups is None:
            return {}
        errors: GroupErrors = self.weights.errors
        found = zip(self.facts.groups.names, errors.mean.tolist(), errors.seen.tolist(), strict=True)
        return {name: mean for name, mean, seen in found if seen}


def _weights(fairness: FairnessConfig, groups: TrainingGroups) -> GroupWeights:
    weighing = fairness.method in ("inverse_frequency", "group_dro", "febs_corrected")
    return GroupWeights(
        fairness.method if weighing else "none",  # type: ignore[arg-type]
        group_shares(groups.of_case, len(groups.names)),
        gamma=fairness.gamma,
        clip=fairness.clip,
        step_size=fairness.step_size,
        momentum=fairness.momentum,
    )
