import torch

from equivox.losses.context import CaseContext
from equivox.losses.deep_supervision import DeepSupervisionLoss


class _Mean:
    """The label's mean, which shows the label that each head was given."""

    def per_sample(self, logits, label, context):
        return label.float().flatten(1).mean(1) + 0 * logits.flatten(1).sum(1)


def test_heads_weigh_half_of_the_one_before() -> None:
    class First:
        def per_sample(self, logits, label, context):
            return logits.flatten(1).mean(1)

    outputs = [torch.full((2, 2, 4, 4), value) for value in (7.0, 14.0, 28.0)]
    # (4 * 7 + 2 * 14 + 1 * 28) / 7 = 12
    loss = DeepSupervisionLoss(First()).per_sample(outputs, torch.zeros(2, 4, 4, dtype=torch.int64), CaseContext())
    torch.testing.assert_close(loss, torch.tensor([12.0, 12.0]))


def test_a_coarser_head_gets_the_label_by_nearest_neighbour() -> None:
    label = torch.zeros(1, 2, 4, dtype=torch.int64)
    label[0, 1, 3] = 5
    # nearest-exact takes the voxels 1 and 3 of four, and 1 of two: the coarse label is [[0, 5]], its mean 2.5;
    # the full one has mean 5/8. Weights 2/3 and 1/3.
    outputs = [torch.zeros(1, 2, 2, 4), torch.zeros(1, 2, 1, 2)]
    loss = DeepSupervisionLoss(_Mean()).per_sample(outputs, label, CaseContext())
    torch.testing.assert_close(loss, torch.tensor([2 / 3 * 5 / 8 + 1 / 3 * 2.5]))
