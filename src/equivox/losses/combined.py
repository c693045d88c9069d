"""Several losses as one: a weighted sum with schedules, each term told apart."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor, nn

from equivox.losses.context import CaseContext
from equivox.losses.deep_supervision import DeepSupervisionLoss
from equivox.losses.term_weights import LossWeighting, TermWeights


@dataclass(frozen=True, eq=False)
class Term:
    """One loss of the sum.

    Attributes:
        name: What the log calls it.
        loss: Over all heads of the network, or over the first.
        weight: Its factor once it is fully on.
        start_after: Share of the training before which it counts nothing and costs nothing.
        ramp: Share of the training over which its factor rises from 0 to `weight`, linearly, from there on.
        every: It counts at every so many steps alone, from step 0. Its factor is no larger there: averaged over the
            steps, it counts ``weight / every``.
    """

    name: str
    loss: DeepSupervisionLoss
    weight: float = 1.0
    start_after: float = 0.0
    ramp: float = 0.0
    every: int = 1

    def factor(self, progress: float) -> float:
        """Return the weight at some share of the training in [0, 1].

        Example:
            >>> from equivox.losses.catalog import build_term
            >>> term = build_term("dice_ce", {}, weight=0.3, start_after=0.2, ramp=0.4)
            >>> [round(term.factor(progress), 2) for progress in (0.1, 0.2, 0.4, 0.6, 0.9)]
            [0.0, 0.0, 0.15, 0.3, 0.3]
        """
        return self.weight * self.share(progress)

    def share(self, progress: float) -> float:
        """Return which part of its weight it has at some share of the training."""
        past = progress - self.start_after
        if past < 0:
            return 0.0
        return min(1.0, past / self.ramp) if self.ramp > 0 else 1.0


@dataclass(frozen=True, eq=False)
class LossValues:
    """What a combined loss gives.

    Attributes:
        total: One weighted sum a sample, ``(batch,)``.
        terms: Name -> the term itself, one value a sample, without its weight and without a gradient; a term that does
            not count yet, or not at this step, is left out.
        penalty: To be added once to the mean over the batch: what keeps learned weights from vanishing.
        learned: Name -> the learned factor of a term, where there is one.
    """

    total: Float[Tensor, " batch"]
    terms: dict[str, Float[Tensor, " batch"]]
    penalty: Float[Tensor, ""]
    learned: dict[str, Tensor] = field(default_factory=dict)


class CombinedLoss(nn.Module):
    """A weighted sum of losses. What the terms have of parameters and buffers is the module's.

    Args:
        terms: At least one; names differ.
        weighting: ``fixed``, or ``uncertainty`` where the weights are learned on top of the terms' own.
    """

    def __init__(self, terms: Sequence[Term], weighting: LossWeighting = "fixed") -> None:
        super().__init__()
        self.terms = tuple(terms)
        self.weights = TermWeights(len(self.terms)) if weighting == "uncertainty" else None
        # A name may hold what the name of a module may not.
        own = {term.name.replace(".", "_"): term.loss.loss for term in terms}
        self.losses = nn.ModuleDict({name: loss for name, loss in own.items() if isinstance(loss, nn.Module)})

    def per_sample(
        self, outputs: Sequence[Tensor], label: Int[Tensor, " batch *spatial"], context: CaseContext
    ) -> LossValues:
        """Return the sum and the terms, one value a sample each.

        Args:
            outputs: Logits of each head ``(batch, classes, *spatial)``, the one that counts first.
            label: Class of each voxel, at full resolution.
            context: What the terms may know; its `progress` and `step` drive the schedules.
        """
        total = outputs[0].new_zeros(len(label)).float()
        penalty, found, learned = total.new_zeros(()), {}, {}
        if self.weights is not None:
            self.weights.hold()
        for place, term in enumerate(self.terms):
            factor = term.factor(context.progress)
            if factor > 0 and context.step % term.every == 0:
                values = term.loss.per_sample(outputs, label, context)
                found[term.name] = values.detach()
                if self.weights is None:
                    total = total + factor * values
                    continue
                own = self.weights.factors()[place]
                total = total + own * (factor * values)
                # With the term's schedule, so that a term that only begins does not have its weight raised at once.
                penalty = penalty + term.share(context.progress) * self.weights.penalties()[place]
                learned[term.name] = own.detach()
        if not found:
            # No term counts here: a step without a gradient, but a step.
            total = total + 0.0 * sum(output.float().flatten(1).sum(1) for output in outputs)
        return LossValues(total, found, penalty, learned)
