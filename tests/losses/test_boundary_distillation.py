"""Distillation on edges and within bodies."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from equivox.errors import InputError
from equivox.losses.agreement import divergence
from equivox.losses.boundary_distillation import (
    BoundaryDistillationLoss,
    BoundaryDistillationOptions,
    body_divergence,
    edge_divergence,
    edges_of,
    within,
)
from equivox.losses.context import CaseContext
from equivox.options import parse_options


def loss_of(logits, teacher, label, spacing=None, **options: object) -> torch.Tensor:
    loss = BoundaryDistillationLoss(BoundaryDistillationOptions(**options))
    return loss.per_sample(logits, label, CaseContext(spacing_mm=spacing, teacher=teacher))


def batch(*sides: int, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits, teacher = (torch.randn(2, classes, *sides, generator=generator) for _ in range(2))
    label = torch.zeros(2, *sides, dtype=torch.int64)
    label[0, 1 : sides[0] - 1, 2 : sides[1] - 1] = 1
    label[1, : sides[0] // 2] = classes - 1
    return logits, teacher, label


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 1.9), (3.0, 0.4)])
@pytest.mark.parametrize("reach", [0.3, 1.0, 2.5])
def test_what_is_within_a_distance_is_that_of_the_distance_transform(spacing, reach) -> None:
    mask = torch.rand(2, 1, 13, 11, generator=torch.Generator().manual_seed(1)) > 0.93
    found = within(mask, spacing, reach).numpy()
    for sample in range(2):
        wanted = distance_transform_edt(~mask[sample, 0].numpy(), sampling=spacing) <= reach * (1 + 1e-9)
        assert np.array_equal(found[sample, 0], wanted)


def test_nothing_is_near_an_empty_mask() -> None:
    assert not within(torch.zeros(1, 1, 4, 3, 5, dtype=torch.bool), (1.0, 2.0, 3.0), 100.0).any()


def test_an_edge_is_as_wide_in_millimetres_along_every_axis() -> None:
    square = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    square[..., 2:7, 2:7] = True
    edges = edges_of(square, (1.0, 2.0), 2.0)[0, 0]
    # Two voxels to either side of a surface along the first axis, one along the second.
    assert edges[:, 4].int().tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1]
    assert edges[4].int().tolist() == [0, 1, 1, 0, 0, 0, 1, 1, 0]


def test_the_side_of_a_patch_is_no_edge() -> None:
    whole = torch.ones(1, 1, 4, 3, dtype=torch.bool)
    assert not edges_of(whole, (1.0, 1.0), 1.0).any()
    # As a public port counts it: the two voxels in the middle have neighbours on all sides.
    assert edges_of(whole, (1.0, 1.0), 1.0, sides_count=True).sum() == 10


def test_a_narrow_edge_has_at_least_the_smallest_side() -> None:
    logits, teacher, label = batch(6, 5)
    narrow = loss_of(logits, teacher, label, (2.0, 3.0), edge_mm=0.1)
    torch.testing.assert_close(narrow, loss_of(logits, teacher, label, (2.0, 3.0), edge_mm=2.0))
    assert not torch.allclose(narrow, loss_of(logits, teacher, label, (2.0, 3.0), edge_mm=3.0))


def test_the_parts_by_hand() -> None:
    # One row, the class in voxels 1 to 3: the body is voxel 2 alone with an edge of one voxel, so nothing to compare.
    label = torch.tensor([[0, 1, 1, 1, 0]])
    logits = torch.zeros(1, 2, 5)
    teacher = torch.zeros(1, 2, 5)
    teacher[0, 1, 0] = math.log(3.0)
    # Edge voxels 0, 1, 3, 4; in voxel 0 the teacher has (1/4, 3/4): log 2 - H(1/4) = .1308; the mean is a quarter
    inside = math.log(2) + 0.25 * math.log(0.25) + 0.75 * math.log(0.75)
    assert float(loss_of(logits, teacher, label)) == pytest.approx(inside / 4, rel=1e-5)
    bodies = (label == 1)[:, None]
    teacher[0, 1, 1] = math.log(2.0)
    # Over positions 1, 2, 3: (1/2, 1/4, 1/4) against thirds
    wanted = 0.5 * math.log(1.5) + 0.5 * math.log(0.75)
    assert float(body_divergence(logits, teacher, bodies, 1.0)) == pytest.approx(wanted, rel=1e-5)


def test_a_sample_without_foreground_or_without_a_body_costs_nothing_and_stays_finite() -> None:
    logits = torch.randn(2, 2, 3, 4, requires_grad=True)
    label = torch.zeros(2, 3, 4, dtype=torch.int64)
    label[1, 1, 1] = 1
    loss = loss_of(logits, torch.randn(2, 2, 3, 4), label, edge_weight=0.0)
    assert loss.tolist() == [0.0, 0.0]
    both = loss_of(logits, torch.randn(2, 2, 3, 4), label)
    assert both[0] == 0
    assert both[1] > 0
    (loss + both).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("form", ["masked", "port"])
def test_the_teachers_own_logits_cost_nothing(form) -> None:
    _, teacher, label = batch(7, 6, 5)
    loss = loss_of(teacher, teacher, label, (1.0, 0.5, 2.0), form=form, temperature=2.0)
    torch.testing.assert_close(loss, torch.zeros(2), atol=1e-6, rtol=0)
    other = loss_of(-teacher, teacher, label, (1.0, 0.5, 2.0), form=form, temperature=2.0)
    assert (other > 0.01).all()


def test_logits_outside_of_a_body_do_not_change_its_part() -> None:
    logits, teacher, label = batch(8, 7)
    bodies = label[:, None] == torch.tensor([1, 2]).reshape(-1, 1, 1)
    before = body_divergence(logits, teacher, bodies, 1.0)
    outside = torch.cat([torch.zeros_like(bodies[:, :1]), ~bodies], 1)
    after = body_divergence(logits + 5 * outside, teacher - 3 * outside, bodies, 1.0)
    torch.testing.assert_close(after, before)


def test_a_class_without_a_body_does_not_dilute_the_others() -> None:
    logits, teacher, label = batch(8, 7)
    bodies = label[:, None] == torch.tensor([1, 2]).reshape(-1, 1, 1)
    # Each sample has one of the two classes.
    both = body_divergence(logits, teacher, bodies, 1.0)
    first = body_divergence(logits[:1, :2], teacher[:1, :2], bodies[:1, :1], 1.0)
    torch.testing.assert_close(both[:1], first)
    assert first > 0


def test_gradients_are_those_of_differences() -> None:
    logits, teacher, label = batch(5, 4)
    precise = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda values: loss_of(values, teacher.double(), label, (1.0, 2.0), temperature=3.0), (precise,)
    )


def test_the_edge_part_is_the_mean_over_the_union_of_edges() -> None:
    logits, teacher, label = batch(6, 6)
    edges = edges_of(label[:, None] == torch.tensor([1, 2]).reshape(-1, 1, 1), (1.0, 1.0), 1.0)
    voxels = divergence(teacher, logits, 1.0)
    for sample, value in enumerate(edge_divergence(logits, teacher, edges, 1.0)):
        torch.testing.assert_close(value, voxels[sample][edges[sample].any(0)].mean())


def test_bfloat16_logits_are_compared_in_float32() -> None:
    logits, teacher, label = batch(6, 5)
    loss = loss_of(logits.bfloat16(), teacher.bfloat16(), label)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_of(logits, teacher, label), rtol=0.05, atol=0.01)


@pytest.mark.parametrize("shape", [None, (2, 2, 6, 5)])
def test_a_missing_or_other_teacher_is_told(shape) -> None:
    logits, _, label = batch(6, 5)
    teacher = None if shape is None else torch.zeros(shape)
    with pytest.raises(ValueError, match=r"expected a teacher's logits of shape \(2, 3, 6, 5\), got"):
        loss_of(logits, teacher, label)


def test_a_term_without_any_weight_is_refused() -> None:
    with pytest.raises(InputError, match="expected an edge_weight or a body_weight above 0"):
        parse_options(BoundaryDistillationOptions, {"edge_weight": 0, "body_weight": 0}, "loss bpkd")
