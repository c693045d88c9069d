"""The table of losses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from equivox.errors import InputError
from equivox.losses.any_loss import AnyLoss, AnyLossOptions
from equivox.losses.betti_matching import BettiMatchingLoss, BettiMatchingOptions
from equivox.losses.boundary_distillation import BoundaryDistillationLoss, BoundaryDistillationOptions
from equivox.losses.centreline_boundary_dice import CentrelineBoundaryDiceLoss, CentrelineBoundaryDiceOptions
from equivox.losses.cldice import ClDiceLoss, ClDiceOptions
from equivox.losses.combined import Term
from equivox.losses.comp_sum import CompSumLoss, CompSumOptions
from equivox.losses.deep_supervision import DeepSupervisionLoss, SampleLoss
from equivox.losses.dice_ce import DiceCELoss, DiceCEOptions
from equivox.losses.febs_published import FebsPublishedLoss, FebsPublishedOptions
from equivox.losses.focal_tversky import FocalTverskyLoss, FocalTverskyOptions
from equivox.losses.label_distribution import AldrLoss, AldrOptions, LdrLoss, LdrOptions
from equivox.losses.mip import MipLoss, MipOptions
from equivox.losses.perceptual import PerceptualLoss, PerceptualOptions
from equivox.losses.skeleton_recall import SkeletonRecallLoss, SkeletonRecallOptions
from equivox.losses.uu_mamba_published import UUMambaPublishedLoss, UUMambaPublishedOptions
from equivox.options import Options, parse_options


@dataclass(frozen=True)
class LossEntry:
    """One line of the table.

    Attributes:
        options: Class of the loss's options, all with defaults.
        build: Called with the options; the result gives one value a sample.
        summary: What it is, in a few words, for the model card.
        reference: The paper or the code that it comes from; what of it is ours is said in the class's docstring.
        needs: What the loss asks of `CaseContext` besides the step, by the names of its attributes.
        needs_where: What it asks besides where an option has a value: ``(option, value, attribute)``.
        first_head: Compare the first head alone; see `DeepSupervisionLoss`.
        can_be_negative: So that its weight cannot be learned.
    """

    options: type[Options]
    build: Callable[..., SampleLoss]
    summary: str
    reference: str = ""
    needs: tuple[str, ...] = ()
    needs_where: tuple[tuple[str, Any, str], ...] = ()
    first_head: bool = False
    can_be_negative: bool = False

    def needs_with(self, options: Mapping[str, Any]) -> frozenset[str]:
        """Return what the loss asks of `CaseContext` where it has some options.

        Example:
            >>> [sorted(LOSSES["mip"].needs_with({"target": target})) for target in ("patch", "full")]
            [[], ['projections']]
        """
        return frozenset(
            (*self.needs, *(need for option, value, need in self.needs_where if options.get(option) == value))
        )


LOSSES: dict[str, LossEntry] = {
    "dice_ce": LossEntry(
        DiceCEOptions,
        DiceCELoss,
        "soft Dice plus cross-entropy",
        "Isensee et al., nnU-Net, Nature Methods 2021",
    ),
    "focal_tversky": LossEntry(
        FocalTverskyOptions,
        FocalTverskyLoss,
        "focal Tversky, which can ask more of missed voxels than of false ones",
        "Abraham and Khan, ISBI 2019",
    ),
    "mip": LossEntry(
        MipOptions,
        MipLoss,
        "focal Tversky of maximum intensity projections, for the continuity of vessels",
        "Radhakrishna et al., SPOCKMIP, 2024",
        needs_where=(("target", "full", "projections"),),
    ),
    "cldice": LossEntry(
        ClDiceOptions,
        ClDiceLoss,
        "how far soft centrelines of prediction and label lie inside each other, for vessels without breaks",
        "Shit et al., clDice, CVPR 2021",
        first_head=True,
    ),
    "centreline_boundary_dice": LossEntry(
        CentrelineBoundaryDiceOptions,
        CentrelineBoundaryDiceLoss,
        "centrelines inside each other, weighed by radius, so that thin branches count as the trunk does",
        "Shi et al., cbDice, MICCAI 2024",
        first_head=True,
    ),
    "skeleton_recall": LossEntry(
        SkeletonRecallOptions,
        SkeletonRecallLoss,
        "recall of a tube round the label's centreline, the cheapest way to unbroken vessels",
        "Kirchhoff et al., Skeleton Recall, ECCV 2024",
        needs=("skeleton",),
        first_head=True,
    ),
    "betti_matching": LossEntry(
        BettiMatchingOptions,
        BettiMatchingLoss,
        "pieces, tunnels and cavities that prediction and label do not have in common, in a region, every few steps",
        "Stucki et al., Betti matching, ICML 2023",
        first_head=True,
    ),
    "comp_sum": LossEntry(
        CompSumOptions,
        CompSumLoss,
        "generalised cross-entropy, between cross-entropy and mean absolute error, for labels with errors",
        "Mao, Mohri and Zhong, ICML 2023",
    ),
    "ldr": LossEntry(
        LdrOptions,
        LdrLoss,
        "label distributionally robust loss",
        "Zhu, Ying and Yang, ICML 2023",
        can_be_negative=True,
    ),
    "aldr": LossEntry(
        AldrOptions,
        AldrLoss,
        "label distributionally robust loss with a temperature of each voxel's own",
        "Zhu, Ying and Yang, ICML 2023",
        can_be_negative=True,
    ),
    "any_loss": LossEntry(
        AnyLossOptions,
        AnyLoss,
        "a smooth F-beta, balanced accuracy or geometric mean of sensitivity and specificity",
        "Han, Moniz and Chawla, AnyLoss, KDD 2024",
    ),
    "febs_published": LossEntry(
        FebsPublishedOptions,
        FebsPublishedLoss,
        "fair error-bound scaling as released, which lowers the gradient of the group that fares worst",
        "Tian et al., FairSeg, ICLR 2024",
        needs=("group",),
    ),
    "bpkd": LossEntry(
        BoundaryDistillationOptions,
        BoundaryDistillationLoss,
        "distance to a teacher's logits, on the edges and within the bodies of structures",
        "Liu et al., BPKD, WACV 2024",
        needs=("teacher",),
        first_head=True,
    ),
    "perceptual": LossEntry(
        PerceptualOptions,
        PerceptualLoss,
        "distance of what another network sees in the prediction and in the label",
        "Johnson, Alahi and Fei-Fei, ECCV 2016",
        needs=("features",),
        first_head=True,
    ),
    "uu_mamba_published": LossEntry(
        UUMambaPublishedOptions,
        UUMambaPublishedLoss,
        "Dice, cross-entropy and focal loss with learned sigmas as released, unbounded below",
        "Tsai et al., UU-Mamba, 2024",
        can_be_negative=True,
    ),
}


def loss_entry(name: str) -> LossEntry:
    """Return the line of the table for `name`.

    Raises:
        InputError: If there is no such loss.
    """
    if name not in LOSSES:
        msg = f"loss: expected one of {', '.join(LOSSES)}, got '{name}'; choose one of them"
        raise InputError(msg)
    return LOSSES[name]


def build_term(
    name: str,
    options: Mapping[str, Any],
    *,
    label: str | None = None,
    weight: float = 1.0,
    start_after: float = 0.0,
    ramp: float = 0.0,
) -> Term:
    """Build a loss of the table as a term of a sum; one with an option ``every`` counts at every so many steps.

    Args:
        name: A key of `LOSSES`.
        options: The loss's options; what is left out has its default.
        label: What the log calls it, where a sum has two of one name.
        weight: See `Term`; likewise the others.
        start_after: Share of the training.
        ramp: Share of the training.

    Raises:
        InputError: If there is no such loss or option.
    """
    entry = loss_entry(name)
    parsed = parse_options(entry.options, dict(options), f"loss {name}")
    heads = DeepSupervisionLoss(entry.build(parsed), first_alone=entry.first_head)
    return Term(label or name, heads, weight, start_after, ramp, getattr(parsed, "every", 1))
