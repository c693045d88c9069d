"""Panoptic quality of the lesions of one class."""

from dataclasses import dataclass

from equivox.metrics.lesions.components import Components
from equivox.metrics.lesions.matching import match_components


@dataclass(frozen=True)
class PanopticQuality:
    """Counts of matched instances; those of several cases add up.

    Attributes:
        tp: Pairs of a lesion and a detection.
        fp: Detections without a lesion.
        fn: Lesions without a detection.
        iou_sum: Sum of the pairs' IoU.

    Example:
        >>> quality = PanopticQuality(tp=1, fp=1, fn=1, iou_sum=0.8) + PanopticQuality(tp=1, fp=0, fn=0, iou_sum=0.6)
        >>> quality.rq, round(quality.sq, 3), round(quality.pq, 3)
        (0.6666666666666666, 0.7, 0.467)
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    iou_sum: float = 0.0

    def __add__(self, other: "PanopticQuality") -> "PanopticQuality":
        return PanopticQuality(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.iou_sum + other.iou_sum)

    @property
    def instances(self) -> float:
        """TP + FP / 2 + FN / 2: what the sum of IoU is divided by."""
        return self.tp + (self.fp + self.fn) / 2

    @property
    def sq(self) -> float | None:
        """Segmentation quality: the mean IoU of the pairs; None without a pair."""
        return self.iou_sum / self.tp if self.tp else None

    @property
    def rq(self) -> float | None:
        """Recognition quality: the F1 of the instances; None where both masks are empty."""
        return self.tp / self.instances if self.instances else None

    @property
    def pq(self) -> float | None:
        """Panoptic quality, SQ times RQ: 0 without a pair, None where both masks are empty."""
        return self.iou_sum / self.instances if self.instances else None


def panoptic_quality(reference: Components, prediction: Components, *, threshold: float = 0.5) -> PanopticQuality:
    """Match the instances of one class by IoU and count them.

    With a threshold of at least 0.5 no instance has two partners to choose from, as masks of one image do not overlap.
    Below it pairs are chosen so that the sum of IoU is the largest; each instance has one partner at most. Components
    that are set apart as too small take no part, nor does a detection of one of them.

    Args:
        reference: The lesions.
        prediction: The detections, on the same grid.
        threshold: The IoU to be exceeded.

    Raises:
        InputError: If the grids differ.

    References:
        Kirillov et al., "Panoptic segmentation", CVPR 2019.
    """
    matching = match_components(reference, prediction, rule="iou", threshold=threshold, policy="one_to_one")
    pairs = [iou for iou in matching.iou if iou is not None]
    missed = int(reference.kept.sum()) - len(pairs)
    return PanopticQuality(len(pairs), matching.outcomes.count("false_positive"), missed, float(sum(pairs)))
